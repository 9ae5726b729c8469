#include "daemon/solo.h"

#include <pthread.h>
#include <stdlib.h>

struct solo {
    core *core;
    const char *what;
    solo_work *work;
    pthread_mutex_t lock; /* guards running, started, thread, task; rank 4, a leaf */
    bool running;
    bool started; /* thread is to be joined */
    pthread_t thread;
    task *task; /* of the one that runs */
    atomic_bool stop;
};

sem_status solo_create(solo **out, core *c, const char *what, solo_work *work, sem_error *err)
{
    solo *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "the thread for one request at a time");
    s->core = c;
    s->what = what;
    s->work = work;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return SEM_OK;
}

void solo_drain(solo *s)
{
    if (s != NULL)
        atomic_store(&s->stop, true);
}

void solo_destroy(solo *s)
{
    if (s == NULL)
        return;
    solo_drain(s);
    if (s->started)
        pthread_join(s->thread, NULL);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

sem_status solo_step(const solo_turn *turn, sem_error *err)
{
    if (atomic_load(turn->stop))
        return sem_fail(err, SEM_UNAVAILABLE, "%s was cancelled: the daemon is shutting down", turn->what);
    return task_check_deadline(turn->task, err);
}

static void *solo_main(void *argument)
{
    solo *s = argument;
    task *t = s->task;
    const solo_turn turn = {.core = s->core, .task = t, .what = s->what, .stop = &s->stop};
    answer a;
    sem_error err;
    sem_status status = s->work(&turn, &a, &err);
    /* Before the answer: whoever has it may ask for the next. */
    pthread_mutex_lock(&s->lock);
    s->task = NULL;
    s->running = false;
    pthread_mutex_unlock(&s->lock);
    if (status == SEM_OK)
        answer_send(turn.core, t, &a);
    else
        task_fail(turn.core, t, &err);
    return NULL;
}

/* With the lock held. */
static sem_status start(solo *s, task *t, sem_error *err)
{
    if (atomic_load(&s->stop))
        return sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    if (s->running)
        return sem_fail(err, SEM_ALREADY_EXISTS, "%s is under way already; try again when it has ended", s->what);
    /* The last one's thread has no more to do than to answer. */
    if (s->started)
        pthread_join(s->thread, NULL);
    s->started = false;
    s->task = t;
    if (pthread_create(&s->thread, NULL, solo_main, s) != 0) {
        s->task = NULL;
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread for %s", s->what);
    }
    s->running = s->started = true;
    return SEM_OK;
}

void solo_start(solo *s, task *t)
{
    sem_error err;
    pthread_mutex_lock(&s->lock);
    sem_status status = start(s, t, &err);
    pthread_mutex_unlock(&s->lock);
    if (status != SEM_OK)
        task_fail(s->core, t, &err);
}
