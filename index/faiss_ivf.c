#include "index/faiss_ivf.h"

#include "base/checked.h"
#include "index/faiss_call.h"

#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/IndexIVFFlat_c.h>
#include <faiss/c_api/IndexIVF_c.h>
#include <faiss/c_api/IndexScalarQuantizer_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/clone_index_c.h>
#include <faiss/c_api/index_io_c.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* What training made, shared by all that were created like the first. Never changes. */
typedef struct trained {
    atomic_size_t references;
    size_t dim, nlist;
    vector_faiss_type type;
    float longest;
    FaissIndex *empty;     /* without rows; owns the quantizer */
    FaissIndex *quantizer; /* a query's nearest cells */
    FaissIndex *assigner;  /* a row's cell; with `longest` it has one dimension more, else it is the quantizer */
} trained;

struct faiss_ivf {
    trained *trained;
    FaissIndex *index;
    pthread_rwlock_t lock; /* guards what is in the index; rank 3 behind vector_index.writing, a leaf */
};

static void trained_release(trained *t)
{
    if (t == NULL || atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) > 1)
        return;
    if (t->assigner != NULL && t->assigner != t->quantizer)
        faiss_Index_free(t->assigner);
    if (t->empty != NULL)
        faiss_Index_free(t->empty);
    else if (t->quantizer != NULL)
        faiss_Index_free(t->quantizer);
    free(t);
}

/* An index of centroids by inner product. */
static sem_status make_flat(FaissIndex **out, const float *centroids, size_t nlist, size_t dim, sem_error *err)
{
    FaissIndexFlatIP *flat = NULL;
    sem_status s = faiss_check(faiss_IndexFlatIP_new_with(&flat, (faiss_idx_t)dim), "a flat quantizer", err);
    if (s == SEM_OK)
        s = faiss_check(faiss_Index_add(flat, (faiss_idx_t)nlist, centroids), "adding centroids", err);
    if (s == SEM_OK)
        *out = flat;
    else if (flat != NULL)
        faiss_Index_free(flat);
    return s;
}

static sem_status make_quantizer(trained *t, const faiss_ivf_options *o, sem_error *err)
{
    if (o->longest <= 0) {
        sem_status s = make_flat(&t->quantizer, o->centroids, o->nlist, o->dim, err);
        t->assigner = t->quantizer;
        return s;
    }
    float *narrow = checked_realloc(NULL, o->nlist, o->dim * sizeof *narrow);
    if (narrow == NULL)
        return sem_fail_memory(err, "centroids");
    for (size_t c = 0; c < o->nlist; c++)
        memcpy(narrow + c * o->dim, o->centroids + c * (o->dim + 1), o->dim * sizeof *narrow);
    sem_status s = make_flat(&t->quantizer, narrow, o->nlist, o->dim, err);
    free(narrow);
    return s == SEM_OK ? make_flat(&t->assigner, o->centroids, o->nlist, o->dim + 1, err) : s;
}

/* SQ8 codes what a row has beside its centroid, as FAISS's factory makes it. Where rows
 * choose their cell by one dimension more than FAISS knows of it codes rows as they are:
 * the ranges that it learns would be those of other cells. */
static sem_status make_empty(trained *t, const faiss_ivf_options *o, sem_error *err)
{
    if (o->type == VECTOR_FAISS_FLAT) {
        sem_status s = faiss_check(
            faiss_IndexIVFFlat_new_with_metric(&t->empty, t->quantizer, o->dim, o->nlist, METRIC_INNER_PRODUCT),
            "an inverted file", err);
        if (s == SEM_OK)
            faiss_IndexIVFFlat_set_own_fields(t->empty, 1);
        return s;
    }
    sem_status s =
        faiss_check(faiss_IndexIVFScalarQuantizer_new_with_metric(&t->empty, t->quantizer, o->dim, o->nlist, QT_8bit,
                                                                  METRIC_INNER_PRODUCT, o->longest <= 0),
                    "an inverted file", err);
    if (s != SEM_OK)
        return s;
    faiss_IndexIVFScalarQuantizer_set_own_fields(t->empty, 1);
    return faiss_check(faiss_Index_train(t->empty, (faiss_idx_t)o->sample_count, o->sample), "training SQ8", err);
}

/* Without its indices; NULL: memory is out. */
static trained *new_trained(const faiss_ivf_options *o)
{
    trained *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    atomic_init(&t->references, 1);
    t->dim = o->dim;
    t->nlist = o->nlist;
    t->type = o->type;
    t->longest = o->longest;
    return t;
}

static sem_status train(trained **out, const faiss_ivf_options *o, sem_error *err)
{
    if (o->dim == 0 || o->nlist == 0 || (o->type == VECTOR_FAISS_SQ8 && o->sample_count == 0))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "an inverted file needs dim, nlist and a sample above 0, not %zu, %zu and %zu", o->dim,
                        o->nlist, o->sample_count);
    trained *t = new_trained(o);
    if (t == NULL)
        return sem_fail_memory(err, "an inverted file");
    sem_status s = make_quantizer(t, o, err);
    if (s == SEM_OK)
        s = make_empty(t, o, err);
    if (s != SEM_OK) {
        trained_release(t);
        return s;
    }
    /* The cells to probe are handed over, as many as the index would probe: those that
     * are not wanted are left out. */
    faiss_IndexIVF_set_nprobe(t->empty, o->nlist);
    *out = t;
    return SEM_OK;
}

/* Takes t and index. */
static sem_status put_together(faiss_ivf **out, trained *t, FaissIndex *index, sem_error *err)
{
    faiss_ivf *f = calloc(1, sizeof *f);
    if (f == NULL) {
        trained_release(t);
        faiss_Index_free(index);
        return sem_fail_memory(err, "an inverted file");
    }
    f->trained = t;
    f->index = index;
    /* Else searches that never end would keep the writer out. */
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&f->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    *out = f;
    return SEM_OK;
}

/* Takes t. */
static sem_status create_over(faiss_ivf **out, trained *t, sem_error *err)
{
    FaissIndex *index = NULL;
    sem_status s = faiss_check(faiss_clone_index(t->empty, &index), "copying an inverted file", err);
    if (s != SEM_OK) {
        trained_release(t);
        return s;
    }
    return put_together(out, t, index, err);
}

sem_status faiss_ivf_create(faiss_ivf **out, const faiss_ivf_options *options, sem_error *err)
{
    trained *t = NULL;
    sem_status s = train(&t, options, err);
    return s == SEM_OK ? create_over(out, t, err) : s;
}

sem_status faiss_ivf_create_like(faiss_ivf **out, const faiss_ivf *from, sem_error *err)
{
    atomic_fetch_add_explicit(&from->trained->references, 1, memory_order_relaxed);
    return create_over(out, from->trained, err);
}

void faiss_ivf_destroy(faiss_ivf *f)
{
    if (f == NULL)
        return;
    faiss_Index_free(f->index);
    trained_release(f->trained);
    pthread_rwlock_destroy(&f->lock);
    free(f);
}

size_t faiss_ivf_nlist(const faiss_ivf *f)
{
    return f->trained->nlist;
}

vector_faiss_type faiss_ivf_type(const faiss_ivf *f)
{
    return f->trained->type;
}

/* --- adding */

/* Rows as the assigner takes them: [count, dim + 1] of unit length, but for those that
 * are longer than all that it was trained with. */
static void lengthen(const trained *t, const float *vectors, size_t count, float *points)
{
    for (size_t i = 0; i < count; i++) {
        const float *x = vectors + i * t->dim;
        float *point = points + i * (t->dim + 1);
        double squares = 0;
        for (size_t j = 0; j < t->dim; j++) {
            point[j] = x[j] / t->longest;
            squares += (double)point[j] * (double)point[j];
        }
        point[t->dim] = (float)sqrt(fmax(0.0, 1.0 - squares));
    }
}

static sem_status assign(const trained *t, const float *vectors, size_t count, faiss_idx_t *cells, float *nearness,
                         sem_error *err)
{
    float *points = NULL;
    if (t->longest > 0) {
        points = checked_realloc(NULL, count, (t->dim + 1) * sizeof *points);
        if (points == NULL)
            return sem_fail_memory(err, "rows for FAISS");
        lengthen(t, vectors, count, points);
    }
    sem_status s = faiss_check(
        faiss_Index_search(t->assigner, (faiss_idx_t)count, points != NULL ? points : vectors, 1, nearness, cells),
        "choosing cells", err);
    free(points);
    /* Sums of huge numbers compare with nothing: FAISS would leave the row out. */
    for (size_t i = 0; s == SEM_OK && i < count; i++)
        if (cells[i] < 0) {
            cells[i] = 0;
            nearness[i] = 0;
        }
    return s;
}

static sem_status append(faiss_ivf *f, const float *vectors, size_t count, const faiss_idx_t *ids,
                         const faiss_idx_t *cells, sem_error *err)
{
    pthread_rwlock_wrlock(&f->lock);
    int code = f->trained->type == VECTOR_FAISS_FLAT
                   ? faiss_IndexIVFFlat_add_core(f->index, (faiss_idx_t)count, vectors, ids, cells)
                   : faiss_IndexIVFScalarQuantizer_add_core(f->index, (faiss_idx_t)count, vectors, ids, cells);
    pthread_rwlock_unlock(&f->lock);
    return faiss_check(code, "adding vectors", err);
}

sem_status faiss_ivf_add(faiss_ivf *f, const uint32_t *ids, const float *vectors, size_t count, float *nearness,
                         sem_error *err)
{
    if (count == 0)
        return SEM_OK;
    faiss_idx_t *wide = checked_realloc(NULL, count, 2 * sizeof *wide), *cells = wide == NULL ? NULL : wide + count;
    float *near = nearness != NULL ? nearness : checked_realloc(NULL, count, sizeof *near);
    sem_status s = wide == NULL || near == NULL ? sem_fail_memory(err, "rows for FAISS")
                                                : assign(f->trained, vectors, count, cells, near, err);
    for (size_t i = 0; s == SEM_OK && i < count; i++)
        wide[i] = ids[i];
    if (s == SEM_OK)
        s = append(f, vectors, count, wide, cells, err);
    free(wide);
    if (near != nearness)
        free(near);
    return s;
}

sem_status faiss_ivf_write(faiss_ivf *f, size_t nprobe, FILE *to, sem_error *err)
{
    faiss_IndexIVF_set_nprobe(f->index, nprobe);
    sem_status s = faiss_check(faiss_write_index(f->index, to), "writing an inverted file", err);
    faiss_IndexIVF_set_nprobe(f->index, f->trained->nlist);
    return s;
}

static sem_status write_one(const FaissIndex *index, FILE *to, sem_error *err)
{
    return faiss_check(faiss_write_index(index, to), "writing an inverted file", err);
}

static sem_status read_one(FaissIndex **index, FILE *from, sem_error *err)
{
    return faiss_check(faiss_read_index(from, 0, index), "reading an inverted file", err);
}

sem_status faiss_ivf_save(faiss_ivf *f, FILE *to, sem_error *err)
{
    const trained *t = f->trained;
    sem_status s = write_one(t->empty, to, err);
    if (s == SEM_OK && t->assigner != t->quantizer)
        s = write_one(t->assigner, to, err);
    return s == SEM_OK ? write_one(f->index, to, err) : s;
}

static sem_status read_trained(trained **out, const faiss_ivf_options *o, FILE *from, sem_error *err)
{
    trained *t = new_trained(o);
    if (t == NULL)
        return sem_fail_memory(err, "an inverted file");
    sem_status s = read_one(&t->empty, from, err);
    if (s == SEM_OK)
        t->assigner = t->quantizer = faiss_IndexIVF_quantizer(t->empty);
    if (s == SEM_OK && t->longest > 0)
        s = read_one(&t->assigner, from, err);
    if (s == SEM_OK)
        *out = t;
    else
        trained_release(t);
    return s;
}

sem_status faiss_ivf_load(faiss_ivf **out, const faiss_ivf_options *options, FILE *from, sem_error *err)
{
    trained *t = NULL;
    FaissIndex *index = NULL;
    sem_status s = read_trained(&t, options, from, err);
    if (s != SEM_OK)
        return s;
    s = read_one(&index, from, err);
    if (s != SEM_OK) {
        trained_release(t);
        return s;
    }
    return put_together(out, t, index, err);
}

/* --- searching */

void faiss_found_free(faiss_found *found)
{
    free(found->ids);
    free(found->scores);
    free(found->probed);
    free(found->nearness);
    *found = (faiss_found){0};
}

static sem_status reserve(faiss_found *found, size_t k, size_t cells, sem_error *err)
{
    if (found->room >= k && found->cells >= cells)
        return SEM_OK;
    faiss_found_free(found);
    found->ids = checked_realloc(NULL, k, sizeof *found->ids);
    found->scores = checked_realloc(NULL, k, sizeof *found->scores);
    found->probed = checked_realloc(NULL, cells, sizeof *found->probed);
    found->nearness = checked_realloc(NULL, cells, sizeof *found->nearness);
    if (found->ids == NULL || found->scores == NULL || found->probed == NULL || found->nearness == NULL) {
        faiss_found_free(found);
        (void)sem_fail_memory(err, "FAISS hits");
        return SEM_RESOURCE_EXHAUSTED; /* for analysers, which do not see what that returns */
    }
    found->room = k;
    found->cells = cells;
    return SEM_OK;
}

/* The nearest cells; in place of the others none. */
static sem_status choose_cells(const trained *t, const float *vector, size_t nprobe, faiss_found *found, sem_error *err)
{
    if (nprobe > t->nlist)
        nprobe = t->nlist;
    for (size_t i = nprobe; i < t->nlist; i++) {
        found->probed[i] = -1;
        found->nearness[i] = 0;
    }
    return faiss_check(faiss_Index_search(t->quantizer, 1, vector, (faiss_idx_t)nprobe, found->nearness, found->probed),
                       "choosing cells", err);
}

sem_status faiss_ivf_search(faiss_ivf *f, const float *vector, size_t k, size_t nprobe, faiss_found *found,
                            sem_error *err)
{
    const trained *t = f->trained;
    found->count = found->scanned = 0;
    if (k == 0 || nprobe == 0)
        return SEM_OK;
    faiss_use_threads(1); /* searches are many; each keeps to its own thread */
    sem_status s = reserve(found, k, t->nlist, err);
    if (s == SEM_OK)
        s = choose_cells(t, vector, nprobe, found, err);
    if (s != SEM_OK)
        return s;
    pthread_rwlock_rdlock(&f->lock);
    int code = faiss_IndexIVF_search_preassigned(f->index, 1, vector, (faiss_idx_t)k, found->probed, found->nearness,
                                                 found->scores, found->ids, 0);
    for (size_t i = 0; i < t->nlist && found->probed[i] >= 0; i++)
        found->scanned += faiss_IndexIVF_get_list_size(f->index, (size_t)found->probed[i]);
    pthread_rwlock_unlock(&f->lock);
    s = faiss_check(code, "searching", err);
    while (s == SEM_OK && found->count < k && found->ids[found->count] >= 0)
        found->count++;
    return s;
}
