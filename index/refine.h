/* A round of spherical k-means over all cells, with the bytes of their centroids. */
#ifndef SEM_INDEX_REFINE_H
#define SEM_INDEX_REFINE_H

#include "base/status.h"
#include "index/lists.h"

#include <stdatomic.h>
#include <stddef.h>

/* l: lists with the centroids alone, of points as long as 1. sample: [n, wide] points, wide
 * being dim, for metric dot one more. centroids: [nlist, wide], replaced by the means of
 * their points at unit length; those without points stay. SEM_CANCELLED as usual. */
sem_status refine_cells(const lists *l, const float *sample, size_t n, size_t wide, unsigned threads, float *centroids,
                        const atomic_bool *cancel, sem_error *err);

#endif
