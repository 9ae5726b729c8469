/* Which documents the gate asks about: how many of each collection, and which. */
#ifndef SEM_FINETUNE_GATE_SAMPLE_H
#define SEM_FINETUNE_GATE_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

/* Shares a budget of documents between collections [count] of so many documents each: evenly,
 * what one does not have goes to the others; none gets less than `least`, as far as it has
 * them, even if that is more than the budget. */
void gate_shares(const uint64_t *documents, size_t count, size_t budget, size_t least, size_t *shares);

/* The `most` documents whose draws are lowest, in order of their draw: the same ones as long
 * as they exist, however many come to them. */
typedef struct gate_draw {
    uint64_t draw;
    uint32_t docno;
} gate_draw;

/* A heap in draws [*count, room for most]; the caller's. */
void gate_draw_add(gate_draw *draws, size_t *count, size_t most, gate_draw one);
void gate_draw_sort(gate_draw *draws, size_t count);

#endif
