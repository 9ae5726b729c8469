#include "bench/helpers.h"

#include <stdbool.h>

static bool stay(void *context)
{
    (void)context;
    return false;
}

static void *help(void *argument)
{
    helpers *h = argument;
    while (sem_wait(&h->wanted) != 0 || !atomic_load(&h->over))
        crew_help(h->crew, stay, NULL);
    return NULL;
}

sem_status helpers_start(helpers *h, size_t threads, sem_error *err)
{
    size_t members = threads < CREW_MEMBERS_MAX ? threads : CREW_MEMBERS_MAX;
    if (members < 2)
        return SEM_OK;
    sem_status status = crew_create(&h->crew, members, err);
    if (status != SEM_OK)
        return status;
    if (sem_init(&h->wanted, 0, 0) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot make a semaphore for %zu threads", members);
    while (status == SEM_OK && h->started + 1 < members) {
        if (pthread_create(&h->threads[h->started], NULL, help, h) == 0)
            h->started++;
        else
            status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start thread %zu of %zu", h->started + 2, members);
    }
    if (status != SEM_OK)
        helpers_stop(h);
    return status;
}

void helpers_stop(helpers *h)
{
    atomic_store(&h->over, true);
    for (size_t i = 0; i < h->started; i++)
        sem_post(&h->wanted);
    for (size_t i = 0; i < h->started; i++)
        pthread_join(h->threads[i], NULL);
    crew_destroy(h->crew);
    *h = (helpers){0};
}

sem_status helpers_forward(helpers *h, const encoder *e, encoder_scratch *s, const int32_t *ids,
                           const uint32_t *lengths, size_t count, float *out, sem_error *err)
{
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++)
        tokens += lengths[i];
    bool leads = h->crew != NULL && tokens <= ENCODER_SHARED_TOKENS && crew_lead(h->crew);
    for (size_t i = 0; leads && i < h->started; i++)
        sem_post(&h->wanted);
    sem_status status = encoder_forward_shared(e, s, leads ? h->crew : NULL, ids, lengths, count, out, err);
    if (leads)
        crew_dismiss(h->crew);
    return status;
}
