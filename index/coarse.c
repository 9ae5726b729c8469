#include "index/coarse.h"

#include "base/checked.h"
#include "index/candidates.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIM_MIN = 128, /* with fewer dimensions bits tell little, and bytes are few */
    A_WANTED = 2,  /* centroids scored for each that is wanted, */
    SPARE = 64,    /* and so many more */
    PIECE = 16,    /* blocks scanned between two looks at how many there are */
    FULL = 3       /* times what is wanted: then they are cut back */
};

/* By their bytes. */
static void score(const coarse *c, const code_query *q, const uint32_t *members, size_t count, float *scores)
{
    for (size_t at = 0; at < count; at += CODES_BATCH) {
        const uint8_t *batch[CODES_BATCH];
        int32_t sums[CODES_BATCH];
        size_t n = count - at < CODES_BATCH ? count - at : CODES_BATCH;
        for (size_t i = 0; i < n; i++)
            batch[i] = c->bytes + members[at + i] * c->width;
        c->kernel->bytes(q->bytes, batch, n, c->width, sums);
        for (size_t i = 0; i < n; i++) {
            float s = codes_byte_score(q, sums[i], c->scales[members[at + i]]);
            scores[members[at + i]] = candidate_score(s); /* a number */
        }
    }
}

/* --- bits */

static size_t blocks_of(size_t count)
{
    return (count + CODES_LANES - 1) / CODES_LANES;
}

static void find_mean(const coarse *c, float *vector, float *mean)
{
    memset(mean, 0, c->dim * sizeof *mean);
    for (size_t i = 0; i < c->count; i++) {
        codes_from_bytes(c->bytes + i * c->width, c->scales[i], c->dim, vector);
        for (size_t j = 0; j < c->dim; j++)
            mean[j] += vector[j];
    }
    for (size_t j = 0; j < c->dim; j++)
        mean[j] /= (float)c->count;
}

sem_status coarse_prepare(coarse *c, sem_error *err)
{
    coarse_clear(c);
    if (c->count <= 2 * (A_WANTED + SPARE) || c->dim < DIM_MIN)
        return SEM_OK;
    size_t lines = codes_lines(c->dim), size = codes_block_size(lines);
    float *vector = checked_realloc(NULL, c->dim, sizeof *vector), *mean = checked_realloc(NULL, c->dim, sizeof *mean);
    c->blocks = checked_alloc_aligned(blocks_of(c->count), size);
    if (vector != NULL && mean != NULL && c->blocks != NULL) {
        find_mean(c, vector, mean);
        for (size_t b = 0; b < blocks_of(c->count); b++)
            codes_clear_block(c->blocks + b * size, lines);
        for (uint32_t i = 0; i < c->count; i++) {
            codes_from_bytes(c->bytes + i * c->width, c->scales[i], c->dim, vector);
            codes_write_lane(c->kernel, c->blocks + i / CODES_LANES * size, i % CODES_LANES, vector, mean, c->dim, i,
                             0);
        }
    } else {
        coarse_clear(c);
    }
    bool whole = c->blocks != NULL;
    free(vector);
    free(mean);
    return whole ? SEM_OK : sem_fail_memory(err, "bits of centroids");
}

void coarse_clear(coarse *c)
{
    free(c->blocks);
    c->blocks = NULL;
}

/* --- queries */

/* A NaN has all bits set. */
static void forget(float *scores, size_t count)
{
    memset(scores, 0xff, count * sizeof *scores);
}

size_t coarse_least(const coarse *c, size_t want)
{
    if (c->blocks == NULL || want > c->count / A_WANTED)
        return c->count;
    size_t least = A_WANTED * want + SPARE;
    return least < c->count / 2 ? least : c->count;
}

sem_status coarse_scores_reserve(coarse_scores *s, size_t count, sem_error *err)
{
    if (count <= s->room)
        return SEM_OK;
    coarse_scores_free(s);
    s->of = checked_realloc(NULL, count, sizeof *s->of);
    s->order = checked_realloc(NULL, count, sizeof *s->order);
    s->by_bits = checked_realloc(NULL, FULL * count + (PIECE + 1) * (size_t)CODES_LANES, sizeof *s->by_bits);
    if (s->of == NULL || s->order == NULL || s->by_bits == NULL) {
        coarse_scores_free(s);
        return sem_fail_memory(err, "scores of centroids");
    }
    s->room = count;
    return SEM_OK;
}

void coarse_scores_free(coarse_scores *s)
{
    free(s->of);
    free(s->order);
    free(s->by_bits);
    *s = (coarse_scores){0};
}

/* The best `keep` by their bits: s->by_bits. All are compared with the same mean, whose
 * own product changes nothing in their order. */
static size_t choose_by_bits(const coarse *c, const code_query *q, size_t keep, coarse_scores *s)
{
    size_t size = codes_block_size(q->lines), blocks = blocks_of(c->count), count = 0;
    float threshold = -FLT_MAX;
    for (size_t b = 0; b < blocks; b += PIECE) {
        size_t n = blocks - b < PIECE ? blocks - b : PIECE;
        const code_run run = {.blocks = c->blocks + b * size, .count = n, .first_place = (uint32_t)(b * CODES_LANES)};
        count += c->kernel->scan(q, &run, threshold, s->by_bits + count);
        if (count >= FULL * keep)
            count = candidates_keep(c->kernel, s->by_bits, count, keep, &threshold, candidate_smaller_place, NULL);
    }
    if (count > keep) {
        candidates_cut(c->kernel, s->by_bits, count, keep, candidate_smaller_place, NULL);
        count = keep;
    }
    return count;
}

size_t coarse_list(const coarse *c, const code_query *q, size_t want, coarse_scores *s)
{
    size_t listed = 0, least = coarse_least(c, want);
    forget(s->of, c->count);
    if (least < c->count) {
        listed = choose_by_bits(c, q, least, s);
        for (size_t i = 0; i < listed; i++)
            s->order[i] = s->by_bits[i].place;
        score(c, q, s->order, listed, s->of);
    }
    if (listed < least) /* estimates that are no numbers are not found */
        coarse_list_rest(c, q, listed, s);
    return listed < least ? c->count : least;
}

void coarse_list_rest(const coarse *c, const code_query *q, size_t listed, coarse_scores *s)
{
    size_t from = listed;
    for (uint32_t i = 0; i < c->count; i++)
        if (isnan(s->of[i]))
            s->order[listed++] = i;
    score(c, q, s->order + from, listed - from, s->of);
}

void coarse_rank(const coarse *c, const code_query *q, coarse_scores *s, uint32_t *ranks)
{
    memset(ranks, 0, c->count * sizeof *ranks);
    if (c->blocks == NULL)
        return;
    const code_run all = {.blocks = c->blocks, .count = blocks_of(c->count)};
    size_t found = c->kernel->scan(q, &all, -FLT_MAX, s->by_bits);
    for (size_t i = 0; i < c->count; i++)
        s->of[i] = -INFINITY;
    for (size_t i = 0; i < found; i++)
        s->of[s->by_bits[i].place] = s->by_bits[i].score;
    for (uint32_t i = 0; i < c->count; i++)
        s->order[i] = i;
    candidates_order(s->order, c->count, s->of);
    for (uint32_t i = 0; i < c->count; i++)
        ranks[s->order[i]] = i;
}
