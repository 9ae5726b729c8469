#include "index/topk.h"

#include <stdbool.h>

/* Whether a ranks behind b. */
static bool worse(const topk *t, vector_hit a, vector_hit b)
{
    if (a.score != b.score)
        return a.score < b.score;
    if (t->tie == NULL)
        return a.docno > b.docno;
    return t->tie(t->tie_context, a.docno, b.docno) > 0;
}

/* Puts hit where the hole at the top of the first n leaves room for it. */
static void sift_down(topk *t, size_t n, vector_hit hit)
{
    size_t hole = 0;
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= n)
            break;
        if (child + 1 < n && worse(t, t->hits[child + 1], t->hits[child]))
            child++;
        if (!worse(t, t->hits[child], hit))
            break;
        t->hits[hole] = t->hits[child];
        hole = child;
    }
    t->hits[hole] = hit;
}

static void sift_up(topk *t, size_t hole, vector_hit hit)
{
    while (hole > 0) {
        size_t parent = (hole - 1) / 2;
        if (!worse(t, hit, t->hits[parent]))
            break;
        t->hits[hole] = t->hits[parent];
        hole = parent;
    }
    t->hits[hole] = hit;
}

void topk_push(topk *t, uint32_t docno, uint32_t row, float score)
{
    vector_hit hit = {.docno = docno, .row = row, .score = score};
    if (t->count < t->k)
        sift_up(t, t->count++, hit);
    else if (worse(t, t->hits[0], hit))
        sift_down(t, t->count, hit);
}

void topk_finish(topk *t)
{
    for (size_t n = t->count; n > 1; n--) {
        vector_hit last = t->hits[n - 1];
        t->hits[n - 1] = t->hits[0];
        sift_down(t, n - 1, last);
    }
}
