/* Packs the rows of an index into new lists. Index thread, with helpers. */
#ifndef SEM_INDEX_LIST_BUILDER_H
#define SEM_INDEX_LIST_BUILDER_H

#include "base/status.h"
#include "index/lists.h"
#include "index/rows.h"

#include <stdatomic.h>
#include <stdint.h>

typedef struct builder_input {
    rows_view *view;        /* rests afterwards */
    uint32_t seen;          /* rows to pack: the live ones below it */
    const lists *old;       /* with the same centroids: rows that are in them keep their cell; or NULL */
    const uint32_t *origin; /* [seen] the number of each row in the old lists, or NULL: the same */
    unsigned threads;
    const atomic_bool *cancel; /* may be NULL */
} builder_input;

/* l has its centroids and nothing else. Without old lists it learns as well what a
 * stranger is. */
sem_status list_builder_fill(lists *l, const builder_input *in, sem_error *err);

#endif
