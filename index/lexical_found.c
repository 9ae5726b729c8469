#include "index/lexical_found.h"

#include <stdlib.h>

enum { FIRST_SIZE = 1024 };

void lexical_found_free(lexical_found *f)
{
    free(f->slots);
    *f = (lexical_found){0};
}

/* Document numbers are dense: multiplying spreads them (Knuth 1973, 6.4). */
static size_t start_of(const lexical_found *f, uint32_t docno)
{
    return (size_t)((docno * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & (f->size - 1);
}

static found_document *seek(const lexical_found *f, uint32_t docno)
{
    size_t i = start_of(f, docno);
    while (f->slots[i].score != 0 && f->slots[i].docno != docno)
        i = (i + 1) & (f->size - 1);
    return &f->slots[i];
}

static bool grow(lexical_found *f)
{
    lexical_found bigger = {.size = f->size == 0 ? FIRST_SIZE : f->size * 2, .count = f->count};
    bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return false;
    for (size_t i = 0; i < f->size; i++)
        if (f->slots[i].score != 0)
            *seek(&bigger, f->slots[i].docno) = f->slots[i];
    free(f->slots);
    *f = bigger;
    return true;
}

bool lexical_found_add(lexical_found *f, uint32_t docno, float score)
{
    if (f->count * 2 >= f->size && !grow(f))
        return false;
    found_document *d = seek(f, docno);
    f->count += d->score == 0;
    d->docno = docno;
    d->score += score;
    return true;
}

/* --- the heap: best on top, the smaller number first among equals */

static bool better(found_document a, found_document b)
{
    return a.score != b.score ? a.score > b.score : a.docno < b.docno;
}

static void sift_down(found_document *heap, size_t count, size_t hole)
{
    found_document moved = heap[hole];
    for (size_t child; (child = 2 * hole + 1) < count; hole = child) {
        if (child + 1 < count && better(heap[child + 1], heap[child]))
            child++;
        if (!better(heap[child], moved))
            break;
        heap[hole] = heap[child];
    }
    heap[hole] = moved;
}

void lexical_found_order(lexical_found *f)
{
    size_t count = 0;
    for (size_t i = 0; i < f->size; i++)
        if (f->slots[i].score != 0)
            f->slots[count++] = f->slots[i];
    for (size_t i = count / 2; i-- > 0;)
        sift_down(f->slots, count, i);
}

bool lexical_found_next(lexical_found *f, found_document *out)
{
    if (f->count == 0)
        return false;
    *out = f->slots[0];
    f->slots[0] = f->slots[--f->count];
    if (f->count > 0)
        sift_down(f->slots, f->count, 0);
    return true;
}
