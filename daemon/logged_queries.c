#include "daemon/logged_queries.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/hash.h"
#include "index/events.h"

#include <stdlib.h>

enum {
    EVENTS_MAX = 50000,      /* that are looked at, from the last one back: other collections' among them */
    TEXT_BYTES_MAX = 1 << 20 /* of all texts together */
};

typedef struct gathering {
    buffer text;
    size_t at[LOGGED_QUERIES_MAX + 1]; /* where each begins, and the end */
    uint64_t hashes[LOGGED_QUERIES_MAX];
    size_t count;
    bool failed;
} gathering;

static bool add_text(void *context, const char *text, size_t length)
{
    gathering *g = context;
    uint64_t hash = hash_text(text, length);
    for (size_t i = 0; i < g->count; i++)
        if (g->hashes[i] == hash)
            return true;
    if (g->text.size + length > TEXT_BYTES_MAX)
        return false;
    g->failed = !buffer_append(&g->text, text, length);
    if (g->failed)
        return false;
    g->hashes[g->count++] = hash;
    g->at[g->count] = g->text.size;
    return g->count < LOGGED_QUERIES_MAX;
}

static sem_status gather(core *c, uint32_t collection, gathering *g, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(c->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = events_last_queries(r, collection, EVENTS_MAX, add_text, g, err);
    store_read_end(r);
    return status == SEM_OK && g->failed ? sem_fail_memory(err, "logged queries") : status;
}

static bool goes_on(void *context)
{
    const atomic_bool *stop = context;
    return !atomic_load(stop);
}

static sem_status encode(core *c, serving *s, const gathering *g, encoding *with, const atomic_bool *stop, float *out,
                         sem_error *err)
{
    span texts[LOGGED_QUERIES_MAX];
    for (size_t i = 0; i < g->count; i++)
        texts[i] = (span){.data = (const char *)g->text.data + g->at[i], .size = g->at[i + 1] - g->at[i]};
    encoding_job job = {.serving = s,
                        .tower = TOWER_QUERY,
                        .prompt = model_config_query_prompt(model_get_config(s->query)),
                        .texts = texts,
                        .count = g->count,
                        .field = "logged queries",
                        .slice_tokens = c->settings.encode.token_budget,
                        .out = out,
                        .between = goes_on,
                        .context = (void *)(uintptr_t)stop};
    return encoding_run(with, &job, err);
}

static sem_status encode_all(core *c, serving *s, const gathering *g, encoding **with, const atomic_bool *stop,
                             float **out, sem_error *err)
{
    sem_status status = *with != NULL ? SEM_OK : encoding_create(with, c, err);
    if (status != SEM_OK)
        return status;
    float *vectors = checked_alloc_aligned(g->count * space_dim(s->space), sizeof *vectors);
    if (vectors == NULL)
        return sem_fail_memory(err, "logged queries");
    status = encode(c, s, g, *with, stop, vectors, err);
    if (status == SEM_OK)
        *out = vectors;
    else
        free(vectors);
    return status;
}

sem_status logged_queries_encode(core *c, serving *s, uint32_t collection, encoding **with, const atomic_bool *stop,
                                 float **out, size_t *count, sem_error *err)
{
    *out = NULL;
    *count = 0;
    gathering *g = calloc(1, sizeof *g);
    if (g == NULL)
        return sem_fail_memory(err, "logged queries");
    sem_status status = gather(c, collection, g, err);
    if (status == SEM_OK && g->count > 0)
        status = encode_all(c, s, g, with, stop, out, err);
    if (status == SEM_OK)
        *count = g->count;
    buffer_free(&g->text);
    free(g);
    return status;
}
