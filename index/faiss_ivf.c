#include "index/faiss_ivf.h"

#include "base/checked.h"
#include "index/faiss_call.h"

#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVFFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/Index_c.h>

#include <stdlib.h>

struct faiss_ivf {
    FaissIndex *index; /* owns its quantizer */
};

static sem_status make_index(faiss_ivf *f, size_t dim, const float *centroids, size_t nlist, sem_error *err)
{
    FaissIndexFlatIP *quantizer = NULL;
    sem_status s = faiss_check(faiss_IndexFlatIP_new_with(&quantizer, (faiss_idx_t)dim), "a flat quantizer", err);
    if (s != SEM_OK)
        return s;
    s = faiss_check(faiss_Index_add(quantizer, (faiss_idx_t)nlist, centroids), "adding centroids", err);
    if (s == SEM_OK)
        s = faiss_check(faiss_IndexIVFFlat_new_with_metric(&f->index, quantizer, dim, nlist, METRIC_INNER_PRODUCT),
                        "an inverted file", err);
    if (s != SEM_OK) {
        faiss_Index_free(quantizer);
        return s;
    }
    faiss_IndexIVFFlat_set_own_fields(f->index, 1);
    return SEM_OK;
}

sem_status faiss_ivf_create(faiss_ivf **out, size_t dim, const float *centroids, size_t nlist, sem_error *err)
{
    if (dim == 0 || nlist == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "an inverted file needs dim and nlist above 0, not %zu and %zu", dim,
                        nlist);
    faiss_ivf *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sem_fail_memory(err, "an inverted file");
    sem_status s = make_index(f, dim, centroids, nlist, err);
    if (s != SEM_OK) {
        free(f);
        return s;
    }
    *out = f;
    return SEM_OK;
}

void faiss_ivf_destroy(faiss_ivf *f)
{
    if (f == NULL)
        return;
    faiss_Index_free(f->index);
    free(f);
}

sem_status faiss_ivf_add(faiss_ivf *f, const uint32_t *docnos, const float *vectors, size_t count, sem_error *err)
{
    if (count == 0)
        return SEM_OK;
    faiss_idx_t *ids = checked_realloc(NULL, count, sizeof *ids);
    if (ids == NULL)
        return sem_fail_memory(err, "FAISS ids");
    for (size_t i = 0; i < count; i++)
        ids[i] = docnos[i];
    sem_status s =
        faiss_check(faiss_Index_add_with_ids(f->index, (faiss_idx_t)count, vectors, ids), "adding vectors", err);
    free(ids);
    return s;
}

sem_status faiss_ivf_search(faiss_ivf *f, const float *vector, size_t k, size_t nprobe, vector_hit *hits, size_t *count,
                            sem_error *err)
{
    *count = 0;
    if (k == 0)
        return SEM_OK;
    float *scores = checked_realloc(NULL, k, sizeof *scores);
    faiss_idx_t *ids = checked_realloc(NULL, k, sizeof *ids);
    sem_status s = SEM_OK;
    if (scores == NULL || ids == NULL) {
        s = sem_fail_memory(err, "FAISS hits");
        goto cleanup;
    }
    faiss_IndexIVF_set_nprobe(f->index, nprobe);
    s = faiss_check(faiss_Index_search(f->index, 1, vector, (faiss_idx_t)k, scores, ids), "searching", err);
    for (size_t i = 0; s == SEM_OK && i < k && ids[i] >= 0; i++)
        hits[(*count)++] = (vector_hit){.docno = (uint32_t)ids[i], .score = scores[i]};
cleanup:
    free(scores);
    free(ids);
    return s;
}
