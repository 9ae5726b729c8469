#include "index/kmeans.h"

#include "base/checked.h"
#include "base/random.h"
#include "index/faiss_call.h"

#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>

#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Copies `take` of the `count` vectors at `from`, chosen at random without
 * repetition and in their order (selection sampling, Knuth 1997, 3.4.2 S). */
static void copy_random(float *to, const float *from, size_t count, size_t take, size_t dim, random_state *random)
{
    for (size_t i = 0; i < count && take > 0; i++) {
        if (random_below(random, count - i) >= take)
            continue;
        memcpy(to, from + i * dim, dim * sizeof *to);
        to += dim;
        take--;
    }
}

static void choose_start(const kmeans_options *o, const float *sample, size_t n, float *centroids)
{
    random_state random;
    random_seed(&random, o->seed);
    size_t old = o->start == NULL ? 0 : o->start_count < o->k ? o->start_count : o->k;
    copy_random(centroids, o->start, o->start_count, old, o->dim, &random);
    copy_random(centroids + old * o->dim, sample, n, o->k - old, o->dim, &random);
}

/* FAISS's C interface has no setter for starting centroids. But a call of train
 * with exactly k vectors makes them the centroids, and the next call goes on
 * from there; one round a call lets us stop between rounds. */
static sem_status run(const kmeans_options *o, FaissClustering *clustering, FaissIndex *nearest, const float *sample,
                      size_t n, float *centroids, const atomic_bool *cancel, sem_error *err)
{
    sem_status s =
        faiss_check(faiss_Clustering_train(clustering, (faiss_idx_t)o->k, centroids, nearest), "starting k-means", err);
    for (unsigned round = 0; s == SEM_OK && round < o->rounds; round++) {
        if (cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed))
            return sem_fail(err, SEM_CANCELLED, "k-means was cancelled after %u of %u rounds", round, o->rounds);
        s = faiss_check(faiss_Clustering_train(clustering, (faiss_idx_t)n, sample, nearest), "training k-means", err);
    }
    if (s != SEM_OK)
        return s;
    float *found = NULL;
    size_t size = 0;
    faiss_Clustering_centroids(clustering, &found, &size);
    if (size != o->k * o->dim)
        return sem_fail(err, SEM_INTERNAL, "k-means returned %zu numbers instead of %zu centroids of %zu", size, o->k,
                        o->dim);
    memcpy(centroids, found, size * sizeof *centroids);
    return SEM_OK;
}

static sem_status check_lengths(const kmeans_options *o, const float *sample, size_t n, sem_error *err)
{
    for (size_t i = 0; i < n; i++) {
        double squares = 0;
        for (size_t j = 0; j < o->dim; j++)
            squares += (double)sample[i * o->dim + j] * sample[i * o->dim + j];
        if (squares != 0 && (squares <= 0.98 || squares >= 1.02))
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "k-means by dot product needs points of unit length, and point %zu has %g: the longest "
                            "centroid would be the nearest to all; normalise them or add the dimension that makes them "
                            "equally long",
                            i, sqrt(squares));
    }
    return SEM_OK;
}

sem_status kmeans_train(const kmeans_options *o, const float *sample, size_t n, float *centroids,
                        const atomic_bool *cancel, sem_error *err)
{
    if (o->dim == 0 || o->k == 0 || n <= o->k || o->dim > INT_MAX || o->k > INT_MAX || n > INT_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "k-means needs more points than centroids: %zu centroids of %zu dimensions, %zu points", o->k,
                        o->dim, n);
    sem_status s = check_lengths(o, sample, n, err);
    if (s != SEM_OK)
        return s;
    choose_start(o, sample, n, centroids);
    FaissClusteringParameters p;
    faiss_ClusteringParameters_init(&p);
    p.niter = 1;
    p.spherical = 1;
    p.seed = (int)(o->seed & INT_MAX);
    p.min_points_per_centroid = 1;                   /* else FAISS prints a warning */
    p.max_points_per_centroid = INT_MAX / (int)o->k; /* the sample is the caller's choice */

    faiss_use_threads(o->threads);
    FaissClustering *clustering = NULL;
    FaissIndexFlatIP *nearest = NULL;
    s = faiss_check(faiss_Clustering_new_with_params(&clustering, (int)o->dim, (int)o->k, &p), "preparing k-means",
                    err);
    if (s == SEM_OK)
        s = faiss_check(faiss_IndexFlatIP_new_with(&nearest, (faiss_idx_t)o->dim), "preparing k-means", err);
    if (s == SEM_OK)
        s = run(o, clustering, nearest, sample, n, centroids, cancel, err);
    if (nearest != NULL)
        faiss_Index_free(nearest);
    if (clustering != NULL)
        faiss_Clustering_free(clustering);
    return s;
}

void kmeans_point(const float *row, size_t dim, float longest, float *point)
{
    double squares = 0;
    for (size_t i = 0; i < dim; i++)
        squares += (double)row[i] * row[i];
    double length = longest > 0 ? (double)longest : sqrt(squares);
    float scale = length > 0 ? (float)(1.0 / length) : 0.0f;
    for (size_t i = 0; i < dim; i++)
        point[i] = row[i] * scale;
    if (longest > 0)
        point[dim] = (float)sqrt(fmax(0.0, 1.0 - squares * (double)scale * (double)scale));
}

void kmeans_sort(const uint32_t *cells, size_t n, size_t count, size_t *starts, uint32_t *order)
{
    memset(starts, 0, (count + 1) * sizeof *starts);
    for (size_t i = 0; i < n; i++)
        starts[cells[i] + 1]++;
    for (size_t c = 0; c < count; c++)
        starts[c + 1] += starts[c];
    for (size_t i = 0; i < n; i++)
        order[starts[cells[i]]++] = (uint32_t)i;
    memmove(starts + 1, starts, count * sizeof *starts);
    starts[0] = 0;
}

sem_status kmeans_nearest(const float *centroids, size_t count, size_t dim, unsigned threads, const float *points,
                          size_t n, uint32_t *nearest, sem_error *err)
{
    enum { PIECE = 4096 /* points, so that what FAISS returns stays small */ };
    FaissIndexFlatIP *index = NULL;
    float *scores = checked_realloc(NULL, PIECE, sizeof *scores);
    faiss_idx_t *found = checked_realloc(NULL, PIECE, sizeof *found);
    sem_status s = scores == NULL || found == NULL ? sem_fail_memory(err, "k-means") : SEM_OK;
    faiss_use_threads(threads);
    if (s == SEM_OK)
        s = faiss_check(faiss_IndexFlatIP_new_with(&index, (faiss_idx_t)dim), "preparing k-means", err);
    if (s == SEM_OK)
        s = faiss_check(faiss_Index_add(index, (faiss_idx_t)count, centroids), "adding centroids", err);
    for (size_t from = 0; s == SEM_OK && from < n; from += PIECE) {
        size_t here = n - from < PIECE ? n - from : PIECE;
        s = faiss_check(faiss_Index_search(index, (faiss_idx_t)here, points + from * dim, 1, scores, found),
                        "assigning points", err);
        for (size_t i = 0; s == SEM_OK && i < here; i++)
            nearest[from + i] = found[i] < 0 ? 0 : (uint32_t)found[i];
    }
    if (index != NULL)
        faiss_Index_free(index);
    free(scores);
    free(found);
    return s;
}
