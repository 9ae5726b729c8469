#include "daemon/job_waiters.h"

#include "daemon/json_pack.h"

#include <stdlib.h>

void job_waiters_init(job_waiters *w)
{
    pthread_mutex_init(&w->lock, NULL);
    w->first = NULL;
}

void job_waiters_free(job_waiters *w)
{
    pthread_mutex_destroy(&w->lock);
}

void job_waiters_add(job_waiters *w, job_waiter *one)
{
    pthread_mutex_lock(&w->lock);
    one->next = w->first;
    w->first = one;
    pthread_mutex_unlock(&w->lock);
}

void job_answer_json(core *c, task *t, json_t *value)
{
    answer a;
    answer_begin(&a, t);
    if (value != NULL)
        json_pack_value(&a.pack, value);
    else
        a.pack.failed = true;
    answer_send(c, t, &a);
}

void job_answer_number(core *c, task *t, const char *key, uint32_t number)
{
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, key);
    pack_uint(&a.pack, number);
    answer_send(c, t, &a);
}

/* What is said to one that does not get a job: how it ended, or that it did not. */
static void fill_error(job_status *s, sem_error *err)
{
    pthread_mutex_lock(&s->lock);
    if (s->state == JOB_QUEUED)
        sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down; job %u goes on at its next start", s->number);
    else
        sem_fail(err, s->state == JOB_CANCELLED ? SEM_UNAVAILABLE : SEM_INTERNAL, "job %u: %s", s->number, s->reason);
    pthread_mutex_unlock(&s->lock);
}

static void answer_one(core *c, job_waiter *one, job_status *s)
{
    sem_error err;
    pthread_mutex_lock(&s->lock);
    const job_state state = s->state;
    const uint32_t generation = s->generation;
    pthread_mutex_unlock(&s->lock);
    if (state == JOB_DONE && one->wants_generation) {
        job_answer_number(c, one->task, "generation", generation);
    } else if (state == JOB_QUEUED || one->wants_generation) {
        fill_error(s, &err);
        task_fail(c, one->task, &err);
    } else {
        json_t *value = job_status_json(s);
        job_answer_json(c, one->task, value);
        json_decref(value);
    }
    free(one);
}

void job_waiters_answer(job_waiters *w, core *c, job_status *status)
{
    pthread_mutex_lock(&w->lock);
    job_waiter *all = w->first;
    w->first = NULL;
    pthread_mutex_unlock(&w->lock);
    for (job_waiter *one = all, *next; one != NULL; one = next) {
        next = one->next;
        answer_one(c, one, status);
    }
}

void job_waiters_expire(job_waiters *w, core *c)
{
    job_waiter *late = NULL;
    pthread_mutex_lock(&w->lock);
    for (job_waiter **link = &w->first; *link != NULL;) {
        job_waiter *one = *link;
        if (task_check_deadline(one->task, NULL) == SEM_OK) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        one->next = late;
        late = one;
    }
    pthread_mutex_unlock(&w->lock);
    for (job_waiter *next; late != NULL; late = next) {
        sem_error err;
        next = late->next;
        task_check_deadline(late->task, &err);
        task_fail(c, late->task, &err);
        free(late);
    }
}
