/* Spherical k-means through FAISS: centroids of unit length that maximise the
 * sum of each point's dot product with its nearest one. */
#ifndef SEM_INDEX_KMEANS_H
#define SEM_INDEX_KMEANS_H

#include "base/status.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kmeans_options {
    size_t dim;
    size_t k;           /* centroids wanted */
    unsigned rounds;    /* of assignment and update */
    unsigned threads;   /* OpenMP threads */
    uint64_t seed;      /* draws starting points; the same seed repeats the run */
    const float *start; /* [start_count, dim] centroids to start from, or NULL */
    size_t start_count; /* more than k: some are left out; fewer: sample points join them */
} kmeans_options;

/* sample: [n, dim], n > k, of unit length (or zero). Points of different lengths are
 * refused: by dot product the longest centroid would be nearest to nearly all of them.
 * centroids: [k, dim]. *cancel (may be NULL) is looked at between rounds:
 * SEM_CANCELLED. */
sem_status kmeans_train(const kmeans_options *options, const float *sample, size_t n, float *centroids,
                        const atomic_bool *cancel, sem_error *err);

/* A row as k-means takes it: point gets its dim floats at unit length. longest above 0: for metric
 * dot, one float more, the dimension that makes all rows as long as the longest (Bachrach et al.
 * 2014, section 3). */
void kmeans_point(const float *row, size_t dim, float longest, float *point);

/* n points by cell, of which there are count: cells[n] of the points; starts[count + 1] gets where
 * a cell's points begin in order[n], in which each cell's come in theirs. */
void kmeans_sort(const uint32_t *cells, size_t n, size_t count, size_t *starts, uint32_t *order);

/* The nearest of count centroids of each point, by dot product. */
sem_status kmeans_nearest(const float *centroids, size_t count, size_t dim, unsigned threads, const float *points,
                          size_t n, uint32_t *nearest, sem_error *err);

enum { KMEANS_GROUPED_FROM = 600 /* centroids: fewer are found as quickly in one step */ };

/* The same as kmeans_train in two steps, from KMEANS_GROUPED_FROM centroids on: √k groups, and in
 * each as many centroids as its share of the points asks for. Takes about √k / 2 times less work;
 * the points at the borders of groups are a little farther from their centroid. *made: centroids,
 * about k; there must be room for k + √k. */
sem_status kmeans_train_grouped(const kmeans_options *options, const float *sample, size_t n, float *centroids,
                                size_t *made, const atomic_bool *cancel, sem_error *err);

#endif
