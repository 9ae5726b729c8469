/* FAISS's own inverted lists (IndexIVFFlat, inner product) over given
 * centroids: the reference that our lists are compared with. Not thread-safe. */
#ifndef SEM_INDEX_FAISS_IVF_H
#define SEM_INDEX_FAISS_IVF_H

#include "base/status.h"
#include "index/vector_index.h"

#include <stddef.h>
#include <stdint.h>

typedef struct faiss_ivf faiss_ivf;

/* centroids: [nlist, dim], copied. */
sem_status faiss_ivf_create(faiss_ivf **out, size_t dim, const float *centroids, size_t nlist, sem_error *err);
void faiss_ivf_destroy(faiss_ivf *f); /* accepts NULL */

/* vectors: [count, dim], copied. */
sem_status faiss_ivf_add(faiss_ivf *f, const uint32_t *docnos, const float *vectors, size_t count, sem_error *err);

/* hits[k] gets the best documents of the nprobe nearest cells, best first; *count how many. */
sem_status faiss_ivf_search(faiss_ivf *f, const float *vector, size_t k, size_t nprobe, vector_hit *hits, size_t *count,
                            sem_error *err);

#endif
