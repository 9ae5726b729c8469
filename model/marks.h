/* A run of combining marks that waits to be put in canonical order (Unicode 15.0,
 * section 3.11, D108 and D109). */
#ifndef SEM_MODEL_MARKS_H
#define SEM_MODEL_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The combining class above the code point: what is sorted by. */
typedef uint32_t mark;

static inline uint32_t mark_char(mark m)
{
    return m & 0xFFFFFF;
}

static inline uint8_t mark_class(mark m)
{
    return (uint8_t)(m >> 24);
}

/* Zeroed is empty. */
typedef struct mark_run {
    mark *marks; /* owned; as many again behind capacity for sorting */
    size_t count;
    size_t capacity;
} mark_run;

/* False when memory is out. */
bool mark_run_add(mark_run *run, uint32_t code, uint8_t combining);
void mark_run_free(mark_run *run);

/* The marks in canonical order, valid until the next is added; linear in their number. */
mark *mark_run_sort(mark_run *run);

#endif
