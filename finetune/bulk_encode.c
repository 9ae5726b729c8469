#include "finetune/bulk_encode.h"

#include "base/checked.h"
#include "base/niceness.h"

#include <pthread.h>
#include <stdlib.h>

/* Tokens of one forward pass: enough for full speed, small enough that a cancel is felt. */
enum { BATCH_TOKENS = 1024, BATCH_TEXTS = 64 };

typedef struct shared {
    const bulk_job *job;
    size_t dim;
    atomic_size_t next; /* first text that nobody has taken */
    atomic_bool stop;   /* one thread failed */
} shared;

typedef struct helper {
    shared *shared;
    pthread_t thread;
    sem_status status;
    sem_error error;
} helper;

/* Takes the next few texts: neighbours, since their lengths do not matter here. */
static size_t take(shared *s, size_t *first)
{
    size_t count = s->job->count, at = atomic_load(&s->next), end;
    do {
        if (at >= count)
            return 0;
        size_t bytes = 0;
        for (end = at; end < count && end - at < BATCH_TEXTS && (end == at || bytes < 4 * BATCH_TOKENS); end++)
            bytes += s->job->texts[end].length; /* about four bytes a token */
    } while (!atomic_compare_exchange_weak(&s->next, &at, end));
    *first = at;
    return end - at;
}

static sem_status encode_some(shared *s, encoder_scratch *scratch, token_batch *batch, size_t first, size_t count,
                              sem_error *err)
{
    const bulk_job *job = s->job;
    token_batch_clear(batch);
    for (size_t i = first; i < first + count; i++) {
        sem_status status = model_tokenize_within(job->model, job->prompt, job->texts[i].text, job->texts[i].length,
                                                  job->max_tokens, batch, NULL, err);
        if (status != SEM_OK)
            return status;
    }
    return encoder_forward(model_get_encoder(job->model), scratch, batch->ids, batch->lengths, batch->texts,
                           job->out + first * s->dim, err);
}

static sem_status encode_share(helper *h)
{
    shared *s = h->shared;
    const bulk_job *job = s->job;
    encoder_scratch *scratch;
    token_batch batch = {0};
    sem_status status = encoder_scratch_create(&scratch, model_get_encoder(job->model), BATCH_TOKENS, &h->error);
    if (status != SEM_OK)
        return status;
    size_t first, count;
    while (status == SEM_OK && !atomic_load(&s->stop) && (count = take(s, &first)) > 0) {
        if (job->cancel != NULL && atomic_load(job->cancel))
            status = sem_fail(&h->error, SEM_CANCELLED, "cancelled");
        else
            status = encode_some(s, scratch, &batch, first, count, &h->error);
    }
    encoder_scratch_destroy(scratch);
    token_batch_free(&batch);
    return status;
}

static void *helper_main(void *argument)
{
    helper *h = argument;
    const niceness nice = h->shared->job->nice;
    (void)niceness_add(patience_nice(nice), NULL); /* without the right to, the work is done all the same */
    h->status = encode_share(h);
    patience_end(nice, (patience_times){0}); /* this thread did nothing else */
    if (h->status != SEM_OK)
        atomic_store(&h->shared->stop, true);
    return NULL;
}

sem_status bulk_encode(const bulk_job *job, sem_error *err)
{
    if (job->count == 0)
        return SEM_OK;
    shared s = {.job = job, .dim = model_get_config(job->model)->dim};
    helper *helpers = calloc(job->threads, sizeof *helpers);
    if (helpers == NULL)
        return sem_fail_memory(err, "helper threads");
    sem_status status = SEM_OK;
    unsigned started = 0;
    for (; started < job->threads && status == SEM_OK; started++) {
        helpers[started].shared = &s;
        if (pthread_create(&helpers[started].thread, NULL, helper_main, &helpers[started]) != 0) {
            status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start helper thread %u", started + 1);
            atomic_store(&s.stop, true);
            break;
        }
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(helpers[i].thread, NULL);
        if (status == SEM_OK && helpers[i].status != SEM_OK) {
            status = helpers[i].status;
            if (err != NULL)
                *err = helpers[i].error;
        }
    }
    free(helpers);
    return status;
}
