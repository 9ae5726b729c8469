#include "index/candidates.h"

#include <stdlib.h>

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

static void sift(uint32_t *heap, size_t count, size_t hole, uint32_t moved, const float *scores)
{
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= count)
            break;
        if (child + 1 < count && nearer(scores, heap[child], heap[child + 1]))
            child++;
        if (!nearer(scores, moved, heap[child]))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = moved;
}

/* A heap of the best, the worst of them on top, then sorted in place. */
void candidates_order(uint32_t *order, size_t from, size_t count, size_t want, const float *scores)
{
    uint32_t *heap = order + from;
    size_t left = count - from;
    if (want > left)
        want = left;
    for (size_t i = want / 2; i-- > 0;)
        sift(heap, want, i, heap[i], scores);
    for (size_t i = want; i < left; i++)
        if (nearer(scores, heap[i], heap[0])) {
            uint32_t out = heap[0];
            sift(heap, want, 0, heap[i], scores);
            heap[i] = out;
        }
    for (size_t n = want; n > 1; n--) {
        uint32_t last = heap[n - 1];
        heap[n - 1] = heap[0];
        sift(heap, n - 1, 0, last, scores);
    }
}
