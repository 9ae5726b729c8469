#include "finetune/pair_guide.h"

#include "base/checked.h"
#include "finetune/bulk_encode.h"
#include "finetune/mine.h"
#include "finetune/text_vectors.h"
#include "finetune/train_setup.h"

#include <stdlib.h>
#include <string.h>

struct pair_guide {
    const gemm *g;
    size_t count, dim;
    const pair_negatives *negatives; /* borrowed */
    float *vectors; /* [2 count + negatives, dim] of all queries, then of all documents, then of all negatives */
    float *rows;    /* [2 batch_size + negatives, dim] of one batch */
    float *cosines; /* [batch_size, batch_size + negatives] */
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

typedef enum guide_side { QUERIES, DOCUMENTS, NEGATIVES } guide_side;

static bulk_text text_of(const pair_guide *g, const train_pair *pairs, guide_side side, size_t i)
{
    if (side == NEGATIVES)
        return (bulk_text){g->negatives->items[i]->text, g->negatives->items[i]->length};
    return side == QUERIES ? (bulk_text){pairs[i].query, pairs[i].query_length}
                           : (bulk_text){pairs[i].document, pairs[i].document_length};
}

static sem_status encode_side(pair_guide *g, const model *guide, const train_pair *pairs, guide_side side,
                              const train_config *config, const atomic_bool *cancel, sem_error *err)
{
    const model_config *c = model_get_config(guide);
    const size_t count = side == NEGATIVES ? g->negatives->count : g->count;
    bulk_text *texts = checked_realloc(NULL, count + 1, sizeof *texts);
    if (texts == NULL)
        return sem_fail_memory(err, "the guide's texts");
    for (size_t i = 0; i < count; i++)
        texts[i] = text_of(g, pairs, side, i);
    const bulk_job job = {.model = guide,
                          .prompt = side == QUERIES ? model_config_query_prompt(c) : model_config_document_prompt(c),
                          .texts = texts,
                          .count = count,
                          .threads = config->threads,
                          .nice = config->nice,
                          .cancel = cancel,
                          .out = g->vectors + (size_t)side * g->count * g->dim};
    sem_status status = count > 0 ? bulk_encode(&job, err) : SEM_OK;
    free(texts);
    return status;
}

static sem_status take_memory(pair_guide *g, size_t batch_size, sem_error *err)
{
    size_t texts, extra, candidates;
    if (!checked_mul(g->count, 2, &texts) || !checked_add(texts, g->negatives->count, &texts) ||
        !checked_mul(batch_size, pair_negatives_most(g->negatives), &extra) ||
        !checked_add(batch_size, extra, &candidates))
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "the guide's vectors of %zu pairs are too many", g->count);
    g->vectors = checked_alloc_floats(texts, g->dim);
    g->rows = checked_alloc_floats(batch_size + candidates, g->dim);
    g->cosines = checked_alloc_floats(batch_size, candidates);
    if (g->vectors == NULL || g->rows == NULL || g->cosines == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the guide's vectors of %zu pairs", g->count);
    return SEM_OK;
}

static sem_status fill(pair_guide *g, const model *guide, const train_pair *pairs, const train_config *config,
                       const atomic_bool *cancel, sem_error *err)
{
    g->dim = model_get_config(guide)->dim;
    sem_status status = take_memory(g, config->batch_size, err);
    for (int side = QUERIES; side <= NEGATIVES && status == SEM_OK; side++)
        status = encode_side(g, guide, pairs, (guide_side)side, config, cancel, err);
    return status;
}

static double score(const pair_guide *g, size_t query, size_t text)
{
    return text_vectors_cosine(g->vectors + query * g->dim, g->vectors + text * g->dim, g->dim);
}

static sem_status leave_out(pair_guide *g, pair_negatives *negatives, double ratio, sem_error *err)
{
    const size_t first = 2 * g->count, dim = g->dim;
    size_t kept = first;
    bool *keep = checked_realloc(NULL, negatives->count + 1, sizeof *keep);
    if (keep == NULL)
        return sem_fail_memory(err, "the negatives of training pairs");
    for (size_t i = 0; i < g->count; i++) {
        const double most = mine_guide_limit(score(g, i, g->count + i), ratio);
        for (size_t k = negatives->from[i]; k < negatives->from[i + 1]; k++) {
            keep[k] = score(g, i, first + k) <= most;
            if (keep[k])
                memmove(g->vectors + kept++ * dim, g->vectors + (first + k) * dim, dim * sizeof *g->vectors);
        }
    }
    pair_negatives_keep(negatives, keep);
    free(keep);
    return SEM_OK;
}

sem_status pair_guide_create(pair_guide **out, const train_pair *pairs, size_t count, pair_negatives *negatives,
                             const train_config *config, const gemm *g, const atomic_bool *cancel, sem_error *err)
{
    model *guide = NULL;
    *out = NULL;
    pair_guide *made = calloc(1, sizeof *made);
    if (made == NULL)
        return sem_fail_memory(err, "a guide");
    made->g = g;
    made->count = count;
    made->negatives = negatives;
    sem_status status = model_open(&guide, config->guide, NULL, NULL, err);
    if (status == SEM_OK)
        status = fill(made, guide, pairs, config, cancel, err);
    else
        (void)sem_error_prefix(err, "train.guide");
    model_close(guide);
    if (status == SEM_OK)
        status = leave_out(made, negatives, config->negative_ratio, err);
    if (status == SEM_OK)
        *out = made;
    else
        pair_guide_destroy(made);
    return status;
}

const float *pair_guide_cosines(pair_guide *g, const uint32_t *members, size_t n)
{
    const size_t dim = g->dim, row = dim * sizeof *g->rows;
    size_t candidates = n;
    for (size_t i = 0; i < n; i++) {
        memcpy(g->rows + i * dim, g->vectors + members[i] * dim, row);
        memcpy(g->rows + (n + i) * dim, g->vectors + (g->count + members[i]) * dim, row);
        for (size_t k = g->negatives->from[members[i]]; k < g->negatives->from[members[i] + 1]; k++)
            memcpy(g->rows + (n + candidates++) * dim, g->vectors + (2 * g->count + k) * dim, row);
    }
    g->g->multiply(false, true, n, candidates, dim, 1, g->rows, dim, g->rows + n * dim, dim, 0, g->cosines, candidates);
    return g->cosines;
}

uint64_t pair_guide_fingerprint(const pair_guide *g, uint64_t before)
{
    return train_fingerprint_of(before, g->vectors, (2 * g->count + g->negatives->count) * g->dim * sizeof *g->vectors);
}
