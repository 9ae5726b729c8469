#include "daemon/encoding.h"

#include "model/encoder.h"
#include "model/tokenizer.h"

#include <stdlib.h>

/* Scratch memory fits one encoder. A worker meets two generations at a time (the
 * current one and a candidate), or an old and a new one around a flip. */
enum { SCRATCHES = 2 };

typedef struct scratch {
    uint32_t generation; /* 0: empty */
    encoder_scratch *memory;
    uint64_t used; /* when, in calls */
} scratch;

struct encoding {
    core *core;
    scratch scratches[SCRATCHES];
    uint64_t calls;
    token_batch batch;
};

sem_status encoding_create(encoding **out, core *c, sem_error *err)
{
    encoding *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "a worker");
    e->core = c;
    *out = e;
    return SEM_OK;
}

void encoding_destroy(encoding *e)
{
    if (e == NULL)
        return;
    for (int i = 0; i < SCRATCHES; i++)
        encoder_scratch_destroy(e->scratches[i].memory);
    token_batch_free(&e->batch);
    free(e);
}

static sem_status scratch_for(encoding *e, serving *s, encoder_scratch **out, sem_error *err)
{
    scratch *oldest = &e->scratches[0];
    e->calls++;
    for (int i = 0; i < SCRATCHES; i++) {
        scratch *one = &e->scratches[i];
        if (one->generation == s->generation) {
            one->used = e->calls;
            *out = one->memory;
            return SEM_OK;
        }
        if (one->used < oldest->used)
            oldest = one;
    }
    encoder_scratch_destroy(oldest->memory);
    *oldest = (scratch){0};
    size_t tokens = e->core->settings.encode.token_budget;
    sem_status status = encoder_scratch_create(&oldest->memory, model_get_encoder(s->model), tokens, err);
    if (status != SEM_OK)
        return status;
    oldest->generation = s->generation;
    oldest->used = e->calls;
    *out = oldest->memory;
    return SEM_OK;
}

/* Tokenises texts from *next on until the slice is full; at least one. */
static sem_status fill_slice(encoding *e, const encoding_job *job, size_t *next, sem_error *err)
{
    token_batch_clear(&e->batch);
    while (*next < job->count && (e->batch.texts == 0 || e->batch.tokens < job->slice_tokens)) {
        size_t i = *next;
        bool cut;
        size_t before = e->batch.tokens;
        sem_status status = model_tokenize(job->serving->model, job->prompt, job->texts[i].data, job->texts[i].size,
                                           &e->batch, &cut, err);
        if (status != SEM_OK)
            return sem_error_prefix(err, "%s[%zu]", job->field, i);
        if (cut && job->refuse_long)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s[%zu]: longer than the model's %zu tokens, and truncate is false", job->field, i,
                            model_get_config(job->serving->model)->max_tokens);
        if (job->tokens != NULL)
            job->tokens[i] = (uint32_t)(e->batch.tokens - before);
        if (job->truncated != NULL)
            job->truncated[i] = cut;
        (*next)++;
    }
    return SEM_OK;
}

sem_status encoding_run(encoding *e, const encoding_job *job, sem_error *err)
{
    size_t dim = model_get_config(job->serving->model)->dim;
    for (size_t next = 0, first = 0; first < job->count; first = next) {
        encoder_scratch *memory;
        sem_status status = fill_slice(e, job, &next, err);
        if (status == SEM_OK)
            status = scratch_for(e, job->serving, &memory, err);
        if (status == SEM_OK)
            status = encoder_forward(model_get_encoder(job->serving->model), memory, e->batch.ids, e->batch.lengths,
                                     e->batch.texts, job->out + first * dim, err);
        if (status != SEM_OK)
            return status;
        atomic_fetch_add(&e->core->stats.texts_encoded, e->batch.texts);
        atomic_fetch_add(&e->core->stats.tokens_encoded, e->batch.tokens);
        if (next < job->count && job->between != NULL && !job->between(job->context))
            return sem_fail(err, SEM_CANCELLED, "stopped after %zu of %zu texts", next, job->count);
    }
    return SEM_OK;
}
