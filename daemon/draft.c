#include "daemon/draft.h"

#include "base/random.h"

#include <roaring/roaring.h>

/* The list's best that is not taken; false when there is none. */
static bool pick(const draft_list *list, size_t *next, const roaring_bitmap_t *taken, vector_hit *out)
{
    while (*next < list->count && roaring_bitmap_contains(taken, list->hits[*next].docno))
        (*next)++;
    if (*next == list->count)
        return false;
    *out = list->hits[*next];
    return true;
}

bool draft_pick(const draft_list lists[2], size_t k, uint64_t toss, vector_hit *out, bool *of_second, size_t *picked)
{
    size_t next[2] = {0, 0}, picks[2] = {0, 0};
    roaring_bitmap_t *taken = roaring_bitmap_create();
    if (taken == NULL)
        return false;
    size_t n = 0;
    for (; n < k; n++) {
        const bool coin = random_at(toss, n) & 1;
        bool second = picks[1] < picks[0] || (picks[1] == picks[0] && coin);
        if (!pick(&lists[second], &next[second], taken, &out[n])) {
            second = !second;
            if (!pick(&lists[second], &next[second], taken, &out[n]))
                break;
        }
        roaring_bitmap_add(taken, out[n].docno);
        of_second[n] = second;
        picks[second]++;
    }
    roaring_bitmap_free(taken);
    *picked = n;
    return true;
}
