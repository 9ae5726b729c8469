#include "index/candidates.h"

#include <math.h>

static void swap(code_candidate *a, code_candidate *b)
{
    code_candidate t = *a;
    *a = *b;
    *b = t;
}

static float median_score(float a, float b, float c)
{
    if (a < b)
        return b < c ? b : a < c ? c : a;
    return a < c ? a : b < c ? c : b;
}

/* Quickselect (Hoare 1961, algorithm 65) among candidates of equal score. */
static void cut_equal(code_candidate *c, size_t count, size_t keep, candidate_before *before, const void *context)
{
    while (keep > 0 && keep < count) {
        swap(&c[count / 2], &c[count - 1]);
        uint32_t pivot = c[count - 1].place;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++)
            if (before(context, c[i].place, pivot))
                swap(&c[i], &c[at++]);
        swap(&c[at], &c[count - 1]);
        if (keep == at || keep == at + 1)
            return;
        if (keep < at) {
            count = at;
        } else {
            c += at + 1;
            count -= at + 1;
            keep -= at + 1;
        }
    }
}

/* Quickselect with three parts, since equal vectors have equal scores. */
float candidates_cut(code_candidate *c, size_t count, size_t keep, candidate_before *before, const void *context)
{
    size_t from = 0, to = count;
    for (;;) {
        float pivot = median_score(c[from].score, c[from + (to - from) / 2].score, c[to - 1].score);
        size_t above = from, below = to;
        for (size_t i = from; i < below;) {
            if (c[i].score > pivot)
                swap(&c[i++], &c[above++]);
            else if (c[i].score < pivot)
                swap(&c[i], &c[--below]);
            else
                i++;
        }
        if (keep <= above) {
            to = above;
        } else if (keep > below) {
            from = below;
        } else {
            cut_equal(c + above, below - above, keep - above, before, context);
            return pivot;
        }
    }
}

static bool nearer(const float *scores, uint32_t a, uint32_t b)
{
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
}

/* Shellsort (Ciura 2001): short, in place, and quick for some hundreds. */
static void sort_cells(uint32_t *order, size_t count, const float *scores)
{
    static const size_t gaps[] = {3501, 1750, 701, 301, 132, 57, 23, 10, 4, 1};
    for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++)
        for (size_t i = gaps[g]; i < count; i++) {
            uint32_t moved = order[i];
            size_t j = i;
            for (; j >= gaps[g] && nearer(scores, moved, order[j - gaps[g]]); j -= gaps[g])
                order[j] = order[j - gaps[g]];
            order[j] = moved;
        }
}

enum { BINS = 512 };

static size_t bin_of(float score, float highest, float scale)
{
    float bin = (highest - score) * scale;
    return bin < (float)(BINS - 1) ? (size_t)bin : BINS - 1;
}

/* Counts the scores by bins to know from which on they are wanted, then sorts those
 * alone: most cells are looked at three times and never compared with another. */
void candidates_order(uint32_t *order, size_t from, size_t count, size_t want, const float *scores)
{
    uint32_t *rest = order + from;
    size_t left = count - from, ends[BINS] = {0};
    if (want > left)
        want = left;
    if (want == 0)
        return;
    float highest = -INFINITY, lowest = INFINITY;
    for (size_t i = 0; i < left; i++) {
        float score = scores[rest[i]];
        highest = score > highest ? score : highest;
        lowest = score < lowest && score > -INFINITY ? score : lowest;
    }
    float scale = highest > lowest ? (float)BINS / (highest - lowest) : 0.0f;
    if (!isfinite(scale))
        scale = 0.0f;
    for (size_t i = 0; i < left; i++)
        ends[bin_of(scores[rest[i]], highest, scale)]++;
    size_t last = 0, taken = ends[0];
    while (taken < want)
        taken += ends[++last];
    /* Those of the wanted bins change places with what is in front. */
    size_t front = 0;
    for (size_t i = 0; i < left; i++)
        if (bin_of(scores[rest[i]], highest, scale) <= last) {
            uint32_t chosen = rest[i];
            rest[i] = rest[front];
            rest[front++] = chosen;
        }
    sort_cells(rest, front, scores);
}
