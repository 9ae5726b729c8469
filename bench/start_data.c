#include "bench/start_data.h"

#include "base/checked.h"
#include "base/random.h"
#include "index/dot.h"
#include "index/topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void unit_length(float *v, size_t dim)
{
    float scale = 1.0f / sqrtf((float)dot_double(v, v, dim));
    for (size_t i = 0; i < dim; i++)
        v[i] *= scale;
}

/* In any direction, from a stream of its own. */
static void random_unit_vector(uint64_t stream, float *out, size_t dim)
{
    random_state random;
    random_seed(&random, stream);
    for (size_t i = 0; i < dim; i += 2) {
        uint64_t bits = random_next(&random);
        out[i] = (float)(uint32_t)bits * 0x1p-32f - 0.5f;
        if (i + 1 < dim)
            out[i + 1] = (float)(uint32_t)(bits >> 32) * 0x1p-32f - 0.5f;
    }
    unit_length(out, dim);
}

void start_data_vector(start_data *d, size_t n, float *out)
{
    const float *centre = d->centres + n % d->clusters * d->dim;
    random_unit_vector(n + 1, d->own, d->dim);
    for (size_t i = 0; i < d->dim; i++)
        out[i] = 0.8f * centre[i] + 0.6f * d->own[i];
    unit_length(out, d->dim);
}

static size_t origin_of(const start_data *d, size_t query)
{
    return query * (d->documents / START_QUERIES);
}

static void make_queries(start_data *d)
{
    for (size_t q = 0; q < START_QUERIES; q++) {
        float *query = d->queries + q * d->dim;
        start_data_vector(d, origin_of(d, q), query);
        random_unit_vector(UINT64_MAX - q, d->own, d->dim);
        for (size_t i = 0; i < d->dim; i++)
            query[i] = 0.9f * query[i] + 0.4f * d->own[i];
        unit_length(query, d->dim);
    }
}

static sem_status find_nearest(start_data *d, sem_error *err)
{
    const dot_kernel *kernel = dot_choose();
    size_t width = dot_width(d->dim);
    float *padded = checked_alloc_aligned((1 + START_QUERIES) * width, sizeof *padded);
    topk best[START_QUERIES];
    vector_hit(*hits)[START_K] = calloc(START_QUERIES, sizeof *hits);
    const float *rows[START_QUERIES];
    float scores[DOT_BATCH];
    if (padded == NULL || hits == NULL) {
        free(padded);
        free(hits);
        return sem_fail_memory(err, "the queries");
    }
    memset(padded, 0, (1 + START_QUERIES) * width * sizeof *padded);
    for (size_t q = 0; q < START_QUERIES; q++) {
        rows[q] = memcpy(padded + (1 + q) * width, d->queries + q * d->dim, d->dim * sizeof *padded);
        best[q] = topk_start(hits[q], START_K, NULL, NULL);
    }
    for (size_t n = 0; n < d->documents; n++) {
        start_data_vector(d, n, padded);
        for (size_t q = 0; q < START_QUERIES; q++) {
            if (q % DOT_BATCH == 0)
                kernel->rows(padded, rows + q, DOT_BATCH, width, scores);
            if (scores[q % DOT_BATCH] > topk_threshold(&best[q]))
                topk_push(&best[q], (uint32_t)n, 0, scores[q % DOT_BATCH]);
        }
    }
    for (size_t q = 0; q < START_QUERIES; q++) {
        topk_finish(&best[q]);
        for (size_t k = 0; k < START_K; k++)
            d->nearest[q * START_K + k] = hits[q][k].docno;
    }
    free(padded);
    free(hits);
    return SEM_OK;
}

sem_status start_data_create(start_data *d, sem_error *err)
{
    d->centres = checked_alloc_aligned(d->clusters * d->dim, sizeof(float));
    d->queries = checked_alloc_aligned(START_QUERIES * d->dim, sizeof(float));
    d->nearest = calloc(START_QUERIES * START_K, sizeof *d->nearest);
    d->vector = checked_alloc_aligned(d->dim, sizeof(float));
    d->own = checked_alloc_aligned(d->dim, sizeof(float));
    if (d->centres == NULL || d->queries == NULL || d->nearest == NULL || d->vector == NULL || d->own == NULL)
        return sem_fail_memory(err, "the documents");
    for (size_t c = 0; c < d->clusters; c++)
        random_unit_vector(UINT64_C(1) << 40 | c, d->centres + c * d->dim, d->dim);
    make_queries(d);
    return find_nearest(d, err);
}

void start_data_free(start_data *d)
{
    free(d->centres);
    free(d->queries);
    free(d->nearest);
    free(d->vector);
    free(d->own);
}

void start_data_text(size_t n, char *text, size_t bytes)
{
    static const char *const syllables[] = {"ba", "re", "mo", "ti", "ka", "su", "le", "no",
                                            "vi", "da", "po", "ge", "ru", "sa", "mi", "to"};
    random_state random;
    random_seed(&random, n);
    for (size_t i = 0; i < bytes; i++) {
        size_t in_word = i % 7;
        if (in_word == 6)
            text[i] = ' ';
        else
            text[i] = syllables[random_below(&random, in_word < 4 ? 16 : 4)][i % 2];
    }
    text[bytes] = '\0';
}

sem_status start_data_check(start_data *d, size_t query, const uint32_t ids[START_K], const float scores[START_K],
                            size_t *right, sem_error *err)
{
    const float *q = d->queries + query * d->dim;
    *right = 0;
    for (size_t i = 0; i < START_K; i++) {
        if (ids[i] >= d->documents)
            return sem_fail(err, SEM_INTERNAL, "query %zu: nobody has made the document %u", query, ids[i]);
        start_data_vector(d, ids[i], d->vector);
        double score = dot_double(q, d->vector, d->dim);
        if (fabs(score - (double)scores[i]) > 1e-5 || (i > 0 && scores[i] > scores[i - 1]))
            return sem_fail(err, SEM_INTERNAL, "query %zu: hit %zu, document %u, has the score %f instead of %f", query,
                            i + 1, ids[i], (double)scores[i], score);
        for (size_t k = 0; k < i; k++)
            if (ids[k] == ids[i])
                return sem_fail(err, SEM_INTERNAL, "query %zu: document %u comes twice", query, ids[i]);
        for (size_t k = 0; k < START_K; k++)
            *right += d->nearest[query * START_K + k] == ids[i];
    }
    return SEM_OK;
}
