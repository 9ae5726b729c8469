#include "finetune/gate_sample.h"

#include <stdbool.h>
#include <stdlib.h>

void gate_shares(const uint64_t *documents, size_t count, size_t budget, size_t least, size_t *shares)
{
    /* Rounds of equal parts: each gives some collection all that it has, or is the last. */
    size_t open = count;
    for (size_t i = 0; i < count; i++)
        shares[i] = 0;
    for (size_t part = open > 0 ? budget / open : 0; open > 0 && part > 0; part = open > 0 ? budget / open : 0) {
        open = 0;
        for (size_t i = 0; i < count; i++) {
            const uint64_t left = documents[i] - shares[i];
            const size_t taken = left < part ? (size_t)left : part;
            shares[i] += taken;
            budget -= taken;
            open += documents[i] > shares[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        const size_t lowest = documents[i] < least ? (size_t)documents[i] : least;
        shares[i] = shares[i] < lowest ? lowest : shares[i];
    }
}

static bool is_before(const gate_draw *a, const gate_draw *b)
{
    return a->draw != b->draw ? a->draw < b->draw : a->docno < b->docno;
}

static int compare_draws(const void *a, const void *b)
{
    return is_before(b, a) - is_before(a, b);
}

static void swap_draws(gate_draw *a, gate_draw *b)
{
    const gate_draw t = *a;
    *a = *b;
    *b = t;
}

static void rise(gate_draw *draws, size_t at)
{
    for (; at > 0 && is_before(&draws[(at - 1) / 2], &draws[at]); at = (at - 1) / 2)
        swap_draws(&draws[(at - 1) / 2], &draws[at]);
}

static void sink(gate_draw *draws, size_t count)
{
    for (size_t at = 0, child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && is_before(&draws[child], &draws[child + 1]);
        if (!is_before(&draws[at], &draws[child]))
            return;
        swap_draws(&draws[at], &draws[child]);
    }
}

void gate_draw_add(gate_draw *draws, size_t *count, size_t most, gate_draw one)
{
    if (*count < most) {
        draws[*count] = one;
        rise(draws, (*count)++);
    } else if (most > 0 && is_before(&one, &draws[0])) {
        draws[0] = one; /* the highest of those kept gives way */
        sink(draws, most);
    }
}

void gate_draw_sort(gate_draw *draws, size_t count)
{
    qsort(draws, count, sizeof *draws, compare_draws);
}
