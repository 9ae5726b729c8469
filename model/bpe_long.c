#include "model/bpe_long.h"

#include "base/checked.h"

#include <string.h>

#define NOWHERE UINT32_MAX

/* --- a binary heap of pairs by rank and place */

/* The symbols of the word are a linked list. */
typedef struct heap_word {
    const bpe *b;
    int32_t *ids; /* -1: merged into the one before */
    uint32_t *next, *previous;
    uint64_t *heap; /* rank << 32 | place */
    size_t count;
    size_t steps;
} heap_word;

static void heap_push(heap_word *w, uint64_t key)
{
    size_t i = w->count++;
    for (; i > 0 && w->heap[(i - 1) / 2] > key; i = (i - 1) / 2) {
        w->heap[i] = w->heap[(i - 1) / 2];
        w->steps++;
    }
    w->heap[i] = key;
}

static uint64_t heap_pop(heap_word *w)
{
    uint64_t top = w->heap[0], last = w->heap[--w->count];
    size_t i = 0, n = w->count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && w->heap[child + 1] < w->heap[child])
            child++;
        w->steps++;
        if (w->heap[child] >= last)
            break;
        w->heap[i] = w->heap[child];
    }
    w->heap[i] = last;
    return top;
}

static void heap_pair(heap_word *w, uint32_t place)
{
    uint32_t right = w->next[place];
    if (right == NOWHERE)
        return;
    const bpe_merge *m = bpe_find_merge(w->b, w->ids[place], w->ids[right]);
    w->steps++;
    if (m != NULL)
        heap_push(w, (uint64_t)(uint32_t)m->rank << 32 | place);
}

static void heap_merge_all(heap_word *w)
{
    while (w->count > 0) {
        uint64_t top = heap_pop(w);
        uint32_t place = (uint32_t)top, right = w->next[place];
        if (w->ids[place] < 0 || right == NOWHERE)
            continue;
        const bpe_merge *m = bpe_find_merge(w->b, w->ids[place], w->ids[right]);
        w->steps++;
        if (m == NULL || (uint32_t)m->rank != top >> 32) /* the pair has changed since */
            continue;
        w->ids[place] = m->result;
        w->ids[right] = -1;
        w->next[place] = w->next[right];
        if (w->next[place] != NOWHERE)
            w->previous[w->next[place]] = place;
        heap_pair(w, place);
        if (w->previous[place] != NOWHERE)
            heap_pair(w, w->previous[place]);
    }
}

static bool put_by_heap(const bpe *b, const char *word, size_t length, token_sink *sink, size_t *steps)
{
    heap_word w = {.b = b};
    size_t bytes;
    const size_t pairs = 2; /* in the heap for each symbol: one at first, and a merge takes one and puts two */
    if (!checked_mul(length, pairs * sizeof *w.heap + sizeof *w.ids + sizeof *w.next + sizeof *w.previous, &bytes) ||
        (w.heap = text_scratch_room(sink->scratch, TEXT_LINKS, bytes)) == NULL)
        return false;
    w.next = (uint32_t *)(w.heap + pairs * length);
    w.previous = w.next + length;
    w.ids = (int32_t *)(w.previous + length);
    for (size_t i = 0; i < length; i++) {
        w.ids[i] = b->bytes[(unsigned char)word[i]];
        w.next[i] = i + 1 < length ? (uint32_t)i + 1 : NOWHERE;
        w.previous[i] = i > 0 ? (uint32_t)i - 1 : NOWHERE;
    }
    for (size_t i = 0; i + 1 < length; i++)
        heap_pair(&w, (uint32_t)i);
    size_t count = 0;
    heap_merge_all(&w);
    for (size_t i = 0; i < length; i++)
        count += w.ids[i] >= 0;
    bool ok = token_sink_reserve(sink, count);
    for (uint32_t i = 0; ok && i != NOWHERE && !token_sink_full(sink); i = w.next[i])
        token_sink_put(sink, w.ids[i]);
    *steps += w.steps;
    return ok;
}

/* --- a list of pairs for each rank */

/* Where merges are in order, the ranks can be taken one after the other: what a
 * merge brings about always lies ahead. Pairs of the same rank are the same pair
 * of symbols, (x, y). Where x and y differ, no two of them overlap, and they may
 * be merged in any order; where they are equal, pairs overlap in runs of x, and a
 * run is merged from its left end as soon as one of its pairs comes up. So every
 * pair is put into a list once and taken out once, in constant time. */
typedef struct list_word {
    const bpe *b;
    int32_t *ids;       /* of the symbol that begins at a byte; -1 inside of symbols */
    uint32_t *lengths;  /* of the symbol, at its first and at its last byte */
    uint32_t *next;     /* the pair after the one that begins here, in its rank's list */
    uint32_t *previous; /* the one before; HEAD | rank at the front; NOWHERE: in no list */
    uint32_t *first;    /* [ranks] */
    uint32_t length;
    size_t steps;
} list_word;

#define HEAD (UINT32_C(1) << 31)

static void unlink_pair(list_word *w, uint32_t place)
{
    uint32_t previous = w->previous[place], next = w->next[place];
    if (previous == NOWHERE)
        return;
    if ((previous & HEAD) != 0)
        w->first[previous & ~HEAD] = next;
    else
        w->next[previous] = next;
    if (next != NOWHERE)
        w->previous[next] = previous;
    w->previous[place] = NOWHERE;
}

static void link_pair(list_word *w, uint32_t place)
{
    w->previous[place] = NOWHERE;
    uint32_t right = place + w->lengths[place];
    if (right >= w->length)
        return;
    const bpe_merge *m = bpe_find_merge(w->b, w->ids[place], w->ids[right]);
    w->steps++;
    if (m == NULL)
        return;
    uint32_t next = w->first[m->rank];
    w->next[place] = next;
    w->previous[place] = HEAD | (uint32_t)m->rank;
    if (next != NOWHERE)
        w->previous[next] = place;
    w->first[m->rank] = place;
}

/* The symbol at place and the one to its right become one. */
static void merge_pair(list_word *w, uint32_t place, int32_t result)
{
    uint32_t right = place + w->lengths[place], joined = w->lengths[place] + w->lengths[right];
    unlink_pair(w, place);
    unlink_pair(w, right);
    w->ids[right] = -1;
    w->ids[place] = result;
    w->lengths[place] = joined;
    w->lengths[place + joined - 1] = joined;
    link_pair(w, place);
    if (place > 0) {
        uint32_t left = place - w->lengths[place - 1];
        unlink_pair(w, left);
        link_pair(w, left);
    }
}

/* Merges the pairs of the run of equal symbols around place from its left end. */
static void merge_run(list_word *w, uint32_t place, int32_t result)
{
    const int32_t symbol = w->ids[place];
    const uint32_t size = w->lengths[place];
    while (place >= size && w->ids[place - w->lengths[place - 1]] == symbol) {
        place -= size;
        w->steps++;
    }
    while (place + size < w->length && w->ids[place] == symbol && w->ids[place + size] == symbol) {
        merge_pair(w, place, result);
        place += 2 * size;
        if (place >= w->length)
            break;
    }
}

static void list_merge_all(list_word *w)
{
    for (size_t rank = 0; rank < w->b->ranks; rank++) {
        w->steps++;
        while (w->first[rank] != NOWHERE) {
            uint32_t place = w->first[rank], right = place + w->lengths[place];
            const bpe_merge *m = bpe_find_merge(w->b, w->ids[place], w->ids[right]);
            if (m->left == m->right)
                merge_run(w, place, m->result);
            else
                merge_pair(w, place, m->result);
        }
    }
}

static void list_put(const list_word *w, token_sink *sink)
{
    for (uint32_t i = 0; i < w->length && !token_sink_full(sink); i += w->lengths[i])
        token_sink_put(sink, w->ids[i]);
}

static bool put_by_lists(const bpe *b, const char *word, size_t length, token_sink *sink, size_t *steps)
{
    list_word w = {.b = b, .length = (uint32_t)length};
    size_t count;
    if (!checked_mul(length, 4, &count) || !checked_add(count, b->ranks, &count) ||
        !checked_mul(count, sizeof *w.next, &count) ||
        (w.next = text_scratch_room(sink->scratch, TEXT_LINKS, count)) == NULL)
        return false;
    w.previous = w.next + length;
    w.lengths = w.previous + length;
    w.ids = (int32_t *)(w.lengths + length);
    w.first = w.lengths + 2 * length;
    for (size_t i = 0; i < b->ranks; i++)
        w.first[i] = NOWHERE;
    for (size_t i = 0; i < length; i++) {
        w.ids[i] = b->bytes[(unsigned char)word[i]];
        w.lengths[i] = 1;
    }
    for (uint32_t i = 0; i < w.length; i++)
        link_pair(&w, i);
    list_merge_all(&w);
    count = 0;
    for (uint32_t i = 0; i < w.length; i += w.lengths[i])
        count++;
    bool ok = token_sink_reserve(sink, count);
    if (ok)
        list_put(&w, sink);
    *steps += w.steps;
    return ok;
}

bool bpe_long_word(const bpe *b, const char *word, size_t length, token_sink *sink, size_t *steps)
{
    size_t ignored = 0;
    if (steps == NULL)
        steps = &ignored;
    if (length >= HEAD)
        return false;
    /* The lists cost a step a rank, so they pay from a word that is not much shorter. */
    if (b->in_order && length >= b->ranks / 4)
        return put_by_lists(b, word, length, sink, steps);
    return put_by_heap(b, word, length, sink, steps);
}
