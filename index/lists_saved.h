/* Lists that are mapped from their file. What lies there is compared with its checksum in
 * sections, each before it is looked at for the first time, so that a start reads what its
 * searches need. A damaged section is emptied, so that nobody follows it anywhere; then the
 * lists are damaged: who used them asks, and does without. */
#ifndef SEM_INDEX_LISTS_SAVED_H
#define SEM_INDEX_LISTS_SAVED_H

#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SAVED_BLOCKS = 128, /* in a section: 120 KiB with 384 dimensions, as quickly summed as a search takes */
    SAVED_ROWS = 512    /* of nibbles in a section */
};

/* Open to the inline functions of lists.h; nobody else looks inside. */
typedef struct lists_saved {
    size_t blocks, rows; /* in the file; what is behind them came later */
    size_t block_size, row_size;
    uint64_t *block_sums, *row_sums;    /* [sections] */
    atomic_bool *blocks_met, *rows_met; /* [sections] compared, and either right or emptied */
    atomic_bool damaged;
    pthread_mutex_t lock; /* guards the comparing of a section */
} lists_saved;

static inline size_t lists_saved_sections(size_t count, size_t in_section)
{
    return (count + in_section - 1) / in_section;
}

/* Sums of all sections, malloc'd: [sections]. NULL: memory is out. */
uint64_t *lists_saved_sums(const uint8_t *data, size_t count, size_t size, size_t in_section);

/* Takes ownership of the sums, also when it fails. */
sem_status lists_saved_create(lists_saved **out, size_t blocks, size_t block_size, uint64_t *block_sums, size_t rows,
                              size_t row_size, uint64_t *row_sums, sem_error *err);
void lists_saved_free(lists_saved *s); /* accepts NULL */

/* Compares the section. blocks, nibbles: all of them. lines: of a block. Any thread. */
void lists_saved_meet_blocks(lists_saved *s, uint8_t *blocks, size_t lines, size_t section);
void lists_saved_meet_rows(lists_saved *s, uint8_t *nibbles, size_t section);

#endif
