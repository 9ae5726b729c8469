#include "daemon/encoding.h"

#include "base/checked.h"
#include "model/encoder.h"
#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* Texts are tokenised so many slices ahead, or until so many bytes are read, and go
 * into slices by their length: texts of one length share a slice, and what waits for
 * a pause does not wait for a megabyte of text to be tokenised. */
enum { WINDOW_SLICES = 8, WINDOW_BYTES = 256 << 10 };

/* A job may meet another in its pause, which has none itself. */
enum { DEPTH_MAX = 2 };

/* Scratch memory fits one encoder. A worker meets two generations at a time (the
 * current one and a candidate), or an old and a new one around a flip, of two models each. */
enum { SCRATCHES = 4 };

typedef struct scratch {
    uint32_t generation; /* 0: empty */
    bool of_queries;     /* of a generation with two models: whether it is for that of queries */
    encoder_scratch *memory;
    uint64_t used; /* when, in calls */
} scratch;

/* One text of a window. */
typedef struct text_place {
    size_t text;  /* number in the job */
    size_t start; /* of its ids in the window */
    uint32_t length;
} text_place;

/* What is tokenised and not encoded yet. */
typedef struct window {
    token_batch batch;
    text_place *places; /* [capacity] by length once it is full */
    size_t capacity;
} window;

struct encoding {
    core *core;
    scratch scratches[SCRATCHES];
    uint64_t calls;
    window windows[DEPTH_MAX];
    size_t depth;      /* jobs under way */
    token_batch slice; /* what the encoder gets; nothing in it outlives a pause */
    float *vectors;    /* [vector_floats] of a slice; the same */
    size_t vector_floats;
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
    for (int i = 0; i < DEPTH_MAX; i++) {
        token_batch_free(&e->windows[i].batch);
        free(e->windows[i].places);
    }
    token_batch_free(&e->slice);
    free(e->vectors);
    free(e);
}

static sem_status scratch_for(encoding *e, serving *s, const model *with, encoder_scratch **out, sem_error *err)
{
    scratch *oldest = &e->scratches[0];
    const bool of_queries = with != s->document;
    e->calls++;
    for (int i = 0; i < SCRATCHES; i++) {
        scratch *one = &e->scratches[i];
        if (one->generation == s->generation && one->of_queries == of_queries) {
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
    sem_status status = encoder_scratch_create(&oldest->memory, model_get_encoder(with), tokens, err);
    if (status != SEM_OK)
        return status;
    oldest->generation = s->generation;
    oldest->of_queries = of_queries;
    oldest->used = e->calls;
    *out = oldest->memory;
    return SEM_OK;
}

/* Makes *memory hold count elements of size bytes; what was in it may be lost. */
static bool grow(void *memory, size_t *capacity, size_t count, size_t size)
{
    void **place = memory;
    if (count <= *capacity)
        return true;
    size_t wanted = count + count / 2;
    free(*place);
    *capacity = 0;
    *place = checked_alloc_aligned(wanted, size);
    if (*place == NULL)
        return false;
    *capacity = wanted;
    return true;
}

static int by_length(const void *left, const void *right)
{
    const text_place *a = left, *b = right;
    return a->length != b->length ? (a->length > b->length) - (a->length < b->length)
                                  : (a->text > b->text) - (a->text < b->text);
}

sem_status encoding_refuse_cut(const model *m, const char *field, size_t i, sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s[%zu]: longer than the model's %zu tokens, and truncate is false",
                    field, i, model_get_config(m)->max_tokens);
}

sem_status encoding_refuse_empty(sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "no token comes of it: the model's tokenizer puts none around a text");
}

static sem_status name_text(const encoding_job *job, size_t i, sem_error *err)
{
    if (job->alone)
        return sem_error_prefix(err, "%s", job->field);
    return sem_error_prefix(err, "%s[%zu]", job->field, job->places != NULL ? job->places[i] : i);
}

static sem_status tokenize(const encoding_job *job, size_t i, token_batch *to, sem_error *err)
{
    const model *with = serving_tower(job->serving, job->tower);
    bool cut;
    size_t before = to->tokens;
    const char *prompt = job->prompts != NULL ? job->prompts[i] : job->prompt;
    sem_status status = model_tokenize(with, prompt, job->texts[i].data, job->texts[i].size, to, &cut, err);
    if (status != SEM_OK)
        return name_text(job, i, err);
    if (to->tokens == before) {
        encoding_refuse_empty(err);
        return name_text(job, i, err);
    }
    if (cut && job->refuse_long)
        return encoding_refuse_cut(with, job->field, i, err);
    if (job->tokens != NULL)
        job->tokens[i] = (uint32_t)(to->tokens - before);
    if (job->truncated != NULL)
        job->truncated[i] = cut;
    return SEM_OK;
}

/* Tokenises texts from *next on until the window is full; at least one. */
static sem_status fill_window(window *w, const encoding_job *job, size_t *next, sem_error *err)
{
    size_t bytes = 0, first = *next, start = 0;
    token_batch_clear(&w->batch);
    while (*next < job->count && (*next == first || (w->batch.tokens < WINDOW_SLICES * job->slice_tokens &&
                                                     bytes + job->texts[*next].size <= WINDOW_BYTES))) {
        sem_status status = tokenize(job, *next, &w->batch, err);
        if (status != SEM_OK)
            return status;
        bytes += job->texts[(*next)++].size;
    }
    if (!grow(&w->places, &w->capacity, w->batch.texts, sizeof *w->places))
        return sem_fail_memory(err, "a batch of texts");
    for (size_t i = 0; i < w->batch.texts; i++) {
        w->places[i] = (text_place){.text = first + i, .start = start, .length = w->batch.lengths[i]};
        start += w->batch.lengths[i];
    }
    qsort(w->places, w->batch.texts, sizeof *w->places, by_length);
    return SEM_OK;
}

/* A worker that is not alone calls those that are idle to a batch that is short: a
 * lone query, most often. */
static sem_status forward(core *c, const encoder *with, encoder_scratch *memory, const token_batch *batch, float *out,
                          sem_error *err)
{
    bool leads = batch->tokens <= ENCODER_SHARED_TOKENS && c->crew != NULL && crew_lead(c->crew);
    size_t called = 0;
    while (leads && called + 1 < crew_members(c->crew) && queue_call(c->work))
        called++;
    sem_status status = encoder_forward_shared(with, memory, called > 0 ? c->crew : NULL, batch->ids, batch->lengths,
                                               batch->texts, out, err);
    if (leads)
        crew_dismiss(c->crew);
    return status;
}

sem_status encoding_forward(encoding *e, serving *s, model_tower tower, const token_batch *batch, float *out,
                            sem_error *err)
{
    const model *with = serving_tower(s, tower);
    encoder_scratch *memory;
    sem_status status = scratch_for(e, s, with, &memory, err);
    if (status == SEM_OK)
        status = forward(e->core, model_get_encoder(with), memory, batch, out, err);
    if (status != SEM_OK)
        return status;
    atomic_fetch_add(&e->core->stats.texts_encoded, batch->texts);
    atomic_fetch_add(&e->core->stats.tokens_encoded, batch->tokens);
    atomic_fetch_add(&e->core->stats.batches, 1);
    return SEM_OK;
}

/* Encodes the window's texts from *next on that fit into a slice; at least one. */
static sem_status encode_slice(encoding *e, const window *w, const encoding_job *job, size_t *next, sem_error *err)
{
    const size_t dim = space_dim(job->serving->space), first = *next;
    token_batch_clear(&e->slice);
    while (*next < w->batch.texts &&
           (*next == first || e->slice.tokens + w->places[*next].length <= job->slice_tokens)) {
        const text_place *p = &w->places[(*next)++];
        if (!token_batch_append(&e->slice, w->batch.ids + p->start, p->length))
            return sem_fail_memory(err, "a batch of texts");
    }
    size_t texts = *next - first;
    if (!grow(&e->vectors, &e->vector_floats, texts * dim, sizeof *e->vectors))
        return sem_fail_memory(err, "a batch of texts");
    sem_status status = encoding_forward(e, job->serving, job->tower, &e->slice, e->vectors, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < texts; i++)
        memcpy(job->out + w->places[first + i].text * dim, e->vectors + i * dim, dim * sizeof(float));
    return SEM_OK;
}

static sem_status run(encoding *e, window *w, const encoding_job *job, sem_error *err)
{
    for (size_t next = 0; next < job->count;) {
        sem_status status = fill_window(w, job, &next, err);
        for (size_t done = 0; status == SEM_OK && done < w->batch.texts;) {
            status = encode_slice(e, w, job, &done, err);
            bool last = next == job->count && done == w->batch.texts;
            if (status == SEM_OK && !last && job->between != NULL && !job->between(job->context))
                status = sem_fail(err, SEM_CANCELLED, "stopped before all %zu texts were encoded", job->count);
        }
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

sem_status encoding_run(encoding *e, const encoding_job *job, sem_error *err)
{
    if (e->depth == DEPTH_MAX)
        return sem_fail(err, SEM_INTERNAL, "an encode within an encode within another");
    sem_status status = run(e, &e->windows[e->depth++], job, err);
    e->depth--;
    return status;
}
