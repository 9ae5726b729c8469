#include "index/recall_lanes.h"

#include <stdatomic.h>
#include <stddef.h>

enum { SCAN_PIECE = 32 }; /* blocks */

void recall_lanes_each(const lists *l, const search_scratch *prepared, uint32_t cell, float least, recall_lane_fn *f,
                       void *context)
{
    code_candidate scanned[(SCAN_PIECE + 1) * CODES_LANES];
    float base = lists_base(l, cell, prepared->cells.of);
    for (const list_extent *e = &l->cells[cell].head; e != NULL;
         e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        uint32_t used = atomic_load_explicit(&e->used, memory_order_acquire);
        for (uint32_t from = 0; from < used; from += SCAN_PIECE) {
            uint32_t n = used - from < SCAN_PIECE ? used - from : SCAN_PIECE, first = e->first + from;
            const code_run run = {.blocks = l->blocks + first * codes_block_size(l->lines),
                                  .count = n,
                                  .first_place = first * CODES_LANES,
                                  .base = base};
            size_t found = l->kernel->scan(&prepared->codes, &run, least, scanned);
            for (size_t i = 0; i < found; i++)
                f(context, lists_row(l, scanned[i].place), cell, scanned[i].score);
        }
    }
}
