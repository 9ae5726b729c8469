/* Rounds of spherical k-means over all cells: rows and centroids in bytes. */
#ifndef SEM_INDEX_REFINE_H
#define SEM_INDEX_REFINE_H

#include "base/status.h"
#include "index/nearest.h"

#include <stdatomic.h>
#include <stddef.h>

typedef struct refine_input {
    const byte_rows *points; /* as long as 1, extras included */
    size_t count;            /* of them */
    size_t nlist, wide;      /* wide: points->dim, for metric dot one more */
    unsigned rounds, threads;
    const atomic_bool *cancel; /* may be NULL */
} refine_input;

/* centroids: [nlist, wide], replaced by the means of their points at unit length; those
 * without points stay. SEM_CANCELLED as usual. */
sem_status refine_cells(const refine_input *in, float *centroids, sem_error *err);

#endif
