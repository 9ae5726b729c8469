/* FAISS's own inverted lists over given centroids, by inner product: what
 * index.engine = faiss searches, what is exported, and the reference that our
 * lists are compared with.
 *
 * FAISS takes the number of cells to probe from the index, for all searches alike.
 * Here each search has its own: it hands over the cells themselves, as many as it
 * likes. One thread at a time adds while any number search; whoever adds keeps the
 * others waiting only while the codes are appended. */
#ifndef SEM_INDEX_FAISS_IVF_H
#define SEM_INDEX_FAISS_IVF_H

#include "base/status.h"
#include "index/vector_index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct faiss_ivf faiss_ivf;

typedef struct faiss_ivf_options {
    size_t dim;
    vector_faiss_type type;
    const float *centroids; /* [nlist, dim], with `longest` [nlist, dim + 1] of unit length */
    size_t nlist;
    /* 0, or the length of the longest row: rows then choose their cell with the dimension
     * that makes all equally long (Bachrach et al. 2014, section 3). */
    float longest;
    const float *sample; /* [sample_count, dim] rows that the quantizer learns its ranges from; for SQ8 */
    size_t sample_count;
} faiss_ivf_options;

/* Everything is copied. Empty, and trained. */
sem_status faiss_ivf_create(faiss_ivf **out, const faiss_ivf_options *options, sem_error *err);
/* Empty, with the same cells and ranges. */
sem_status faiss_ivf_create_like(faiss_ivf **out, const faiss_ivf *from, sem_error *err);
void faiss_ivf_destroy(faiss_ivf *f); /* accepts NULL */

size_t faiss_ivf_nlist(const faiss_ivf *f);
vector_faiss_type faiss_ivf_type(const faiss_ivf *f);

/* vectors: [count, dim], copied. nearness[count], or NULL: ⟨row, centroid⟩ of each row's
 * cell, 1 at most for unit rows and for rows made equally long. One thread at a time. */
sem_status faiss_ivf_add(faiss_ivf *f, const uint32_t *ids, const float *vectors, size_t count, float *nearness,
                         sem_error *err);

/* Writes it as FAISS reads it, with nprobe for whoever does not choose one. Nobody else may use it. */
sem_status faiss_ivf_write(faiss_ivf *f, size_t nprobe, FILE *to, sem_error *err);

/* Writes all that faiss_ivf_load needs, and reads it from where the file stands. Of the
 * options dim, type, nlist and longest are what they were. Nobody else may use it. */
sem_status faiss_ivf_save(faiss_ivf *f, FILE *to, sem_error *err);
sem_status faiss_ivf_load(faiss_ivf **out, const faiss_ivf_options *options, FILE *from, sem_error *err);

/* What a search found, and its memory, to be used again. Begins as {0}. */
typedef struct faiss_found {
    size_t room, count;
    size_t scanned; /* rows compared */
    int64_t *ids;   /* [count] best first */
    float *scores;  /* [count] by their codes */
    size_t cells;
    int64_t *probed; /* [cells] */
    float *nearness; /* [cells] */
} faiss_found;

void faiss_found_free(faiss_found *found);

/* The best k rows of the nprobe nearest cells. Any thread. */
sem_status faiss_ivf_search(faiss_ivf *f, const float *vector, size_t k, size_t nprobe, faiss_found *found,
                            sem_error *err);

#endif
