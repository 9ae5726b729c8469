#include "finetune/team.h"

#include "base/niceness.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct team_helper {
    team *team;
    unsigned number;
    pthread_t thread;
    sem_status status; /* of its last part */
    sem_error error;
} team_helper;

struct team {
    /* Guards every field below it; a leaf lock, held only to hand over a job.
     * No thread but the leader and its helpers ever takes it. */
    pthread_mutex_t lock;
    pthread_cond_t begin; /* round or closing changed */
    pthread_cond_t end;   /* busy reached 0 */
    uint64_t round;       /* jobs handed out so far */
    unsigned busy;        /* helpers that have not ended the round's job */
    bool closing;
    team_part *part;
    void *context;

    niceness nice;            /* what was asked for */
    int nice_added;           /* and what the threads have */
    unsigned wanted, helpers; /* threads that were asked for, and those that run */
    team_helper helper[];
};

/* The first round is not a job: it reports whether the priority could be set. */
static void *helper_main(void *argument)
{
    team_helper *me = argument;
    team *t = me->team;
    sem_status status = niceness_add(t->nice_added, &me->error);

    pthread_mutex_lock(&t->lock);
    for (uint64_t done = 0;;) {
        me->status = status;
        if (--t->busy == 0)
            pthread_cond_signal(&t->end);
        while (t->round == done && !t->closing)
            pthread_cond_wait(&t->begin, &t->lock);
        if (t->closing)
            break;
        done = t->round;
        pthread_mutex_unlock(&t->lock);
        const patience_times began = patience_begin(t->nice);
        status = t->part(t->context, me->number, &me->error);
        patience_end(t->nice, began);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Called with the lock held. */
static sem_status wait_for_all(team *t, sem_error *err)
{
    while (t->busy > 0)
        pthread_cond_wait(&t->end, &t->lock);
    for (unsigned i = 0; i < t->helpers; i++) {
        if (t->helper[i].status == SEM_OK)
            continue;
        if (err != NULL)
            *err = t->helper[i].error;
        return t->helper[i].status;
    }
    return SEM_OK;
}

/* Called with the lock held, while none runs. */
static sem_status start_helpers(team *t, sem_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot block signals in training threads");
    int failed = 0;
    t->nice_added = patience_nice(t->nice);
    t->closing = false;
    t->round = 0;
    for (unsigned i = 0; i < t->wanted && failed == 0; i++) {
        t->helper[i] = (team_helper){.team = t, .number = i};
        t->busy++;
        failed = pthread_create(&t->helper[i].thread, NULL, helper_main, &t->helper[i]);
        if (failed == 0)
            t->helpers++;
        else
            t->busy--;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_status status = wait_for_all(t, err);
    if (failed != 0)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start training thread %u of %u: %s", t->helpers + 1,
                        t->wanted, strerror(failed));
    return status;
}

sem_status team_create(team **out, unsigned helpers, niceness nice, sem_error *err)
{
    *out = NULL;
    team *t = calloc(1, sizeof *t + helpers * sizeof t->helper[0]);
    if (t == NULL)
        return sem_fail_memory(err, "the training threads");
    t->nice = nice;
    t->wanted = helpers;
    /* With default attributes these cannot fail on Linux. */
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->begin, NULL);
    pthread_cond_init(&t->end, NULL);

    pthread_mutex_lock(&t->lock);
    sem_status status = start_helpers(t, err);
    pthread_mutex_unlock(&t->lock);
    if (status != SEM_OK) {
        team_destroy(t);
        return status;
    }
    *out = t;
    return SEM_OK;
}

static void end_helpers(team *t)
{
    pthread_mutex_lock(&t->lock);
    t->closing = true;
    pthread_cond_broadcast(&t->begin);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->helpers; i++)
        pthread_join(t->helper[i].thread, NULL);
    t->helpers = 0;
}

void team_destroy(team *t)
{
    if (t == NULL)
        return;
    end_helpers(t);
    pthread_cond_destroy(&t->begin);
    pthread_cond_destroy(&t->end);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Threads can't become less nice than they are, so others take their places. */
static sem_status follow_patience(team *t, sem_error *err)
{
    if (t->helpers == t->wanted && t->nice_added == patience_nice(t->nice))
        return SEM_OK;
    end_helpers(t);
    pthread_mutex_lock(&t->lock);
    sem_status status = start_helpers(t, err);
    pthread_mutex_unlock(&t->lock);
    return status;
}

sem_status team_run(team *t, team_part *part, void *context, sem_error *err)
{
    sem_status status = follow_patience(t, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&t->lock);
    t->part = part;
    t->context = context;
    t->busy = t->helpers;
    t->round++;
    pthread_cond_broadcast(&t->begin);
    status = wait_for_all(t, err);
    pthread_mutex_unlock(&t->lock);
    return status;
}
