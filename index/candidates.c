#include "index/candidates.h"

#include <float.h>
#include <math.h>

static void swap(code_candidate *a, code_candidate *b)
{
    code_candidate t = *a;
    *a = *b;
    *b = t;
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

/* Halves the range of scores until so many reach the lower bound as are wanted, `spare`
 * more or less: counting is quicker than moving them, which quickselect does. False: they
 * cannot be told apart, and more than that have exactly the score *low. What is infinite
 * counts as the largest number, since nothing lies halfway to it. */
static bool find_bound(const code_kernel *kernel, const code_candidate *c, size_t count, size_t keep, size_t spare,
                       float *low)
{
    float high;
    kernel->range(c, count, low, &high);
    *low = *low < FLT_MAX ? *low : FLT_MAX;
    high = high < FLT_MAX ? high : FLT_MAX;
    for (size_t able = count; able > keep + spare;) {
        float middle = *low / 2 + high / 2;
        bool neighbours = !(middle > *low && middle < high);
        if (neighbours)
            middle = high;
        size_t above = kernel->count(c, count, middle);
        if (above >= keep) {
            *low = middle;
            able = above;
        } else {
            high = middle;
        }
        if (neighbours)
            return above >= keep && above <= keep + spare;
    }
    return true;
}

/* Moves those that are above the bound to the front; how many. */
static size_t move_above(code_candidate *c, size_t count, float bound)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        if (c[i].score > bound)
            swap(&c[i], &c[at++]);
    return at;
}

static size_t cut_to(const code_kernel *kernel, code_candidate *c, size_t count, size_t keep, size_t spare,
                     float *threshold, candidate_before *before, const void *context)
{
    bool told_apart = find_bound(kernel, c, count, keep, spare, threshold);
    size_t left = kernel->gather(c, count, *threshold);
    if (told_apart)
        return left;
    size_t above = move_above(c, left, *threshold);
    if (above >= keep) { /* all of these are infinite */
        cut_equal(c, above, keep, before, context);
        return keep;
    }
    cut_equal(c + above, left - above, keep - above, before, context);
    return keep;
}

float candidates_cut(const code_kernel *kernel, code_candidate *c, size_t count, size_t keep, candidate_before *before,
                     const void *context)
{
    float threshold;
    cut_to(kernel, c, count, keep, 0, &threshold, before, context);
    return threshold;
}

size_t candidates_keep(const code_kernel *kernel, code_candidate *c, size_t count, size_t keep, float *threshold,
                       candidate_before *before, const void *context)
{
    return cut_to(kernel, c, count, keep, keep / 4, threshold, before, context);
}

float candidates_bound(const code_kernel *kernel, const code_candidate *c, size_t count, size_t keep)
{
    float bound;
    (void)find_bound(kernel, c, count, keep, 0, &bound); /* those that cannot be told apart all reach it */
    return bound;
}

static bool nearer(const float *scores, uint32_t a, uint32_t b)
{
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
}

/* Shellsort (Ciura 2001): short and in place. */
void candidates_order(uint32_t *order, size_t count, const float *scores)
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

bool candidate_smaller_place(const void *context, uint32_t a, uint32_t b)
{
    (void)context;
    return a < b;
}

void candidates_choose(const code_kernel *kernel, uint32_t *order, size_t count, size_t want, const float *scores,
                       code_candidate *room)
{
    size_t front = 0, back = 0;
    if (want >= count)
        return;
    float bound;
    for (size_t i = 0; i < count; i++)
        room[i] = (code_candidate){.place = order[i], .score = scores[order[i]]};
    if (want == 0 || !find_bound(kernel, room, count, want, 0, &bound)) {
        candidates_order(order, count, scores);
        return;
    }
    /* Those that are not chosen are collected where they have been read already. */
    for (size_t i = 0; i < count; i++) {
        code_candidate x = room[i];
        bool chosen = x.score >= bound;
        order[front] = x.place;
        room[back].place = x.place;
        front += chosen;
        back += !chosen;
    }
    for (size_t i = 0; i < back; i++)
        order[front + i] = room[i].place;
}
