#include "index/coarse.h"

#include "base/checked.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* Centroids: what fewer cost is less than what more cells would, which stand for
     * those that groups miss. */
    GROUPED_FROM = 6000,
    ROUNDS = 4,
    LEAST_SHARE = 3, /* one in so many is scored at least, */
    A_WANTED = 8     /* and so many more for each that is wanted */
};

static void score(const coarse *c, const uint8_t *bytes, const float *scales, size_t count, const code_query *q,
                  float *scores)
{
    for (size_t at = 0; at < count; at += CODES_BATCH) {
        const uint8_t *batch[CODES_BATCH];
        int32_t sums[CODES_BATCH];
        size_t n = count - at < CODES_BATCH ? count - at : CODES_BATCH;
        for (size_t i = 0; i < n; i++)
            batch[i] = bytes + (at + i) * c->width;
        c->kernel->bytes(q->bytes, batch, n, c->width, sums);
        for (size_t i = 0; i < n; i++) {
            float s = codes_byte_score(q, sums[i], scales[at + i]);
            scores[at + i] = isnan(s) ? -FLT_MAX : s;
        }
    }
}

static void score_members(const coarse *c, const code_query *q, const uint32_t *members, size_t count, float *scores)
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
            scores[members[at + i]] = isnan(s) ? -FLT_MAX : s;
        }
    }
}

/* --- groups: a short spherical k-means over the centroids */

typedef struct grouping {
    coarse *c;
    float *vector, *sums, *scores; /* [dim], [groups, dim], [groups] */
    code_query q;
} grouping;

static void set_group(grouping *g, size_t group, const float *vector)
{
    coarse *c = g->c;
    double squares = 0;
    for (size_t i = 0; i < c->dim; i++)
        squares += (double)vector[i] * (double)vector[i];
    float scale = squares > 0 ? (float)(1.0 / sqrt(squares)) : 0.0f;
    for (size_t i = 0; i < c->dim; i++)
        g->vector[i] = vector[i] * scale;
    c->group_scales[group] = codes_scale(codes_to_bytes(g->vector, c->dim, c->group_bytes + group * c->width));
}

static void find_groups(grouping *g)
{
    coarse *c = g->c;
    memset(g->sums, 0, c->groups * c->dim * sizeof *g->sums);
    for (size_t i = 0; i < c->count; i++) {
        codes_from_bytes(c->bytes + i * c->width, c->scales[i], c->dim, g->vector);
        codes_prepare_bytes(&g->q, g->vector, c->dim);
        score(c, c->group_bytes, c->group_scales, c->groups, &g->q, g->scores);
        uint32_t best = 0;
        for (uint32_t j = 1; j < c->groups; j++)
            best = g->scores[j] > g->scores[best] ? j : best;
        c->of[i] = best;
        for (size_t j = 0; j < c->dim; j++)
            g->sums[best * c->dim + j] += g->vector[j];
    }
}

static void sort_members(coarse *c)
{
    memset(c->starts, 0, (c->groups + 1) * sizeof *c->starts);
    for (size_t i = 0; i < c->count; i++)
        c->starts[c->of[i] + 1]++;
    for (size_t g = 0; g < c->groups; g++)
        c->starts[g + 1] += c->starts[g];
    for (uint32_t i = 0; i < c->count; i++)
        c->members[c->starts[c->of[i]]++] = i;
    memmove(c->starts + 1, c->starts, c->groups * sizeof *c->starts);
    c->starts[0] = 0;
}

static void run_rounds(grouping *g)
{
    coarse *c = g->c;
    for (size_t i = 0; i < c->groups; i++) {
        size_t from = i * c->count / c->groups;
        codes_from_bytes(c->bytes + from * c->width, c->scales[from], c->dim, g->sums);
        set_group(g, i, g->sums);
    }
    for (int round = 0; round < ROUNDS; round++) {
        find_groups(g);
        if (round + 1 < ROUNDS)
            for (size_t i = 0; i < c->groups; i++)
                set_group(g, i, g->sums + i * c->dim);
    }
    sort_members(c);
}

sem_status coarse_group(coarse *c, sem_error *err)
{
    coarse_clear(c);
    if (c->count < GROUPED_FROM)
        return SEM_OK;
    size_t groups = (size_t)sqrt((double)c->count);
    grouping g = {.c = c};
    c->group_bytes = checked_alloc_aligned(groups, c->width);
    c->group_scales = calloc(groups, sizeof *c->group_scales);
    c->starts = calloc(groups + 1, sizeof *c->starts);
    c->members = checked_realloc(NULL, c->count, sizeof *c->members);
    c->of = checked_realloc(NULL, c->count, sizeof *c->of);
    g.vector = checked_realloc(NULL, c->dim, sizeof *g.vector);
    g.sums = checked_realloc(NULL, groups, c->dim * sizeof *g.sums);
    g.scores = checked_realloc(NULL, groups, sizeof *g.scores);
    bool whole = c->group_bytes != NULL && c->group_scales != NULL && c->starts != NULL && c->members != NULL &&
                 c->of != NULL && g.vector != NULL && g.sums != NULL && g.scores != NULL &&
                 codes_query_reserve(&g.q, c->dim);
    if (whole) {
        c->groups = groups;
        run_rounds(&g);
    }
    free(g.vector);
    free(g.sums);
    free(g.scores);
    codes_query_free(&g.q);
    return whole ? SEM_OK : sem_fail_memory(err, "groups of centroids");
}

void coarse_clear(coarse *c)
{
    free(c->group_bytes);
    free(c->group_scales);
    free(c->starts);
    free(c->members);
    free(c->of);
    c->group_bytes = NULL;
    c->group_scales = NULL;
    c->starts = c->members = c->of = NULL;
    c->groups = 0;
}

/* --- queries */

size_t coarse_least(const coarse *c, size_t want)
{
    if (c->groups == 0 || want > c->count / (2 * A_WANTED))
        return c->count;
    return c->count / LEAST_SHARE + A_WANTED * want;
}

sem_status coarse_scores_reserve(coarse_scores *s, size_t count, sem_error *err)
{
    if (count <= s->room)
        return SEM_OK;
    coarse_scores_free(s);
    s->of = checked_realloc(NULL, count, sizeof *s->of);
    s->order = checked_realloc(NULL, count, sizeof *s->order);
    s->groups = checked_realloc(NULL, count, sizeof *s->groups);
    if (s->of == NULL || s->order == NULL || s->groups == NULL) {
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
    free(s->groups);
    *s = (coarse_scores){0};
}

/* The nearest group that was not taken yet; it is marked. */
static size_t take_nearest(const coarse *c, float *group_scores)
{
    size_t best = 0;
    for (size_t g = 1; g < c->groups; g++)
        best = group_scores[g] > group_scores[best] ? g : best;
    group_scores[best] = -INFINITY;
    return best;
}

/* So that taking one more is not mistaken for one that was taken. */
static void score_groups(const coarse *c, const code_query *q, float *group_scores)
{
    score(c, c->group_bytes, c->group_scales, c->groups, q, group_scores);
    for (size_t g = 0; g < c->groups; g++)
        group_scores[g] = fmaxf(group_scores[g], -FLT_MAX);
}

size_t coarse_list(const coarse *c, const code_query *q, size_t want, coarse_scores *s)
{
    size_t least = coarse_least(c, want), listed = 0;
    if (least >= c->count) {
        score(c, c->bytes, c->scales, c->count, q, s->of);
        for (uint32_t i = 0; i < c->count; i++)
            s->order[i] = i;
        return c->count;
    }
    for (size_t i = 0; i < c->count; i++)
        s->of[i] = -INFINITY;
    score_groups(c, q, s->groups);
    while (listed < least) {
        size_t group = take_nearest(c, s->groups), size = c->starts[group + 1] - c->starts[group];
        const uint32_t *members = c->members + c->starts[group];
        score_members(c, q, members, size, s->of);
        memcpy(s->order + listed, members, size * sizeof *members);
        listed += size;
    }
    return listed;
}

void coarse_list_rest(const coarse *c, const code_query *q, size_t listed, coarse_scores *s)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (!(s->of[i] > -INFINITY)) {
            score_members(c, q, &i, 1, s->of);
            s->order[listed++] = i;
        }
}

void coarse_rank_groups(const coarse *c, const code_query *q, coarse_scores *s, uint32_t *before)
{
    uint32_t listed = 0;
    if (c->groups > 0)
        score_groups(c, q, s->groups);
    for (size_t i = 0; i < c->groups; i++) {
        size_t group = take_nearest(c, s->groups);
        before[group] = listed;
        listed += c->starts[group + 1] - c->starts[group];
    }
}
