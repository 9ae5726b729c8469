#include "finetune/pair_guide.h"

#include "base/checked.h"
#include "finetune/bulk_encode.h"
#include "finetune/train_setup.h"

#include <stdlib.h>
#include <string.h>

struct pair_guide {
    const gemm *g;
    size_t count, dim;
    float *vectors; /* [2 count, dim] of all queries, then of all documents */
    float *rows;    /* [2 batch_size, dim] of one batch */
    float *cosines; /* [batch_size, batch_size] */
};

void pair_guide_destroy(pair_guide *g)
{
    if (g == NULL)
        return;
    free(g->vectors);
    free(g->rows);
    free(g->cosines);
    free(g);
}

static bool take_floats(float **out, size_t rows, size_t columns)
{
    size_t floats;
    *out = checked_mul(rows, columns, &floats) ? checked_alloc_aligned(floats, sizeof **out) : NULL;
    return *out != NULL;
}

/* Of all queries, or of all documents. */
static sem_status encode_side(pair_guide *g, const model *guide, const train_pair *pairs, bool queries,
                              const train_config *config, const atomic_bool *cancel, sem_error *err)
{
    const model_config *c = model_get_config(guide);
    bulk_text *texts = checked_realloc(NULL, g->count, sizeof *texts);
    if (texts == NULL)
        return sem_fail_memory(err, "the guide's texts");
    for (size_t i = 0; i < g->count; i++)
        texts[i] = queries ? (bulk_text){pairs[i].query, pairs[i].query_length}
                           : (bulk_text){pairs[i].document, pairs[i].document_length};
    const bulk_job job = {.model = guide,
                          .prompt = queries ? model_config_query_prompt(c) : model_config_document_prompt(c),
                          .texts = texts,
                          .count = g->count,
                          .threads = config->threads,
                          .nice = config->nice,
                          .cancel = cancel,
                          .out = g->vectors + (queries ? 0 : g->count * g->dim)};
    sem_status status = bulk_encode(&job, err);
    free(texts);
    return status;
}

static sem_status fill(pair_guide *g, const model *guide, const train_pair *pairs, const train_config *config,
                       const atomic_bool *cancel, sem_error *err)
{
    size_t texts;
    g->dim = model_get_config(guide)->dim;
    if (!checked_mul(g->count, 2, &texts) || !take_floats(&g->vectors, texts, g->dim) ||
        !take_floats(&g->rows, 2 * config->batch_size, g->dim) ||
        !take_floats(&g->cosines, config->batch_size, config->batch_size))
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the guide's vectors of %zu pairs", g->count);
    sem_status status = encode_side(g, guide, pairs, true, config, cancel, err);
    return status == SEM_OK ? encode_side(g, guide, pairs, false, config, cancel, err) : status;
}

sem_status pair_guide_create(pair_guide **out, const train_pair *pairs, size_t count, const train_config *config,
                             const gemm *g, const atomic_bool *cancel, sem_error *err)
{
    model *guide = NULL;
    *out = NULL;
    pair_guide *made = calloc(1, sizeof *made);
    if (made == NULL)
        return sem_fail_memory(err, "a guide");
    made->g = g;
    made->count = count;
    sem_status status = model_open(&guide, config->guide, NULL, NULL, err);
    if (status == SEM_OK)
        status = fill(made, guide, pairs, config, cancel, err);
    else
        (void)sem_error_prefix(err, "train.guide");
    model_close(guide);
    if (status == SEM_OK)
        *out = made;
    else
        pair_guide_destroy(made);
    return status;
}

const float *pair_guide_cosines(pair_guide *g, const uint32_t *members, size_t n)
{
    const size_t dim = g->dim;
    for (size_t i = 0; i < n; i++) {
        memcpy(g->rows + i * dim, g->vectors + members[i] * dim, dim * sizeof *g->rows);
        memcpy(g->rows + (n + i) * dim, g->vectors + (g->count + members[i]) * dim, dim * sizeof *g->rows);
    }
    g->g->multiply(false, true, n, n, dim, 1, g->rows, dim, g->rows + n * dim, dim, 0, g->cosines, n);
    return g->cosines;
}

uint64_t pair_guide_fingerprint(const pair_guide *g, uint64_t before)
{
    return train_fingerprint_of(before, g->vectors, 2 * g->count * g->dim * sizeof *g->vectors);
}
