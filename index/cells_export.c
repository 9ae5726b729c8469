#include "index/cells_export.h"

#include "base/checked.h"
#include "index/faiss_call.h"

#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/MetaIndexes_c.h>
#include <faiss/c_api/index_io_c.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 1024,        /* rows handed to FAISS at a time */
    SAMPLE_MAX = 65536,  /* rows that SQ8 learns its ranges from, where they are not known */
    USUAL_RECALL_K = 10, /* hits that the file's nprobe is for */
};

static const double USUAL_RECALL = 0.95;

typedef struct exporting {
    const rows *rows;
    uint32_t seen;
    const vector_index_options *options;
    const index_export *how;
    faiss_ivf *ivf;   /* or: */
    FaissIndex *flat; /* owns what it is over */
    uint32_t *ids;    /* [CHUNK] */
    float *vectors;   /* [CHUNK, dim] */
    faiss_idx_t wide[CHUNK];
    size_t count; /* vectors */
} exporting;

static bool is_wanted(const exporting *e, uint32_t row)
{
    uint32_t docno = rows_docno(e->rows, row);
    return docno < e->how->known_bits && (e->how->known[docno / 64] >> docno % 64 & 1) != 0 &&
           rows_alive(e->rows, row, e->seen);
}

static sem_status step(const exporting *e, sem_error *err)
{
    return e->how->step == NULL ? SEM_OK : e->how->step(e->how->context, err);
}

/* --- what it is written into */

static sem_status make_flat(exporting *e, sem_error *err)
{
    FaissIndexFlatIP *flat = NULL;
    sem_status s =
        faiss_check(faiss_IndexFlatIP_new_with(&flat, (faiss_idx_t)e->rows->dim), "an index for export", err);
    if (s == SEM_OK)
        s = faiss_check(faiss_IndexIDMap_new(&e->flat, flat), "an index for export", err);
    if (s == SEM_OK)
        faiss_IndexIDMap_set_own_fields(e->flat, 1);
    else if (flat != NULL)
        faiss_Index_free(flat);
    return s;
}

/* Every so many-th row, for the ranges of SQ8. */
static sem_status draw_sample(const exporting *e, float **out, size_t *count, sem_error *err)
{
    size_t dim = e->rows->dim, stride = e->seen / SAMPLE_MAX + 1;
    float *sample = checked_realloc(NULL, SAMPLE_MAX, dim * sizeof *sample);
    rows_view view;
    if (sample == NULL)
        return sem_fail_memory(err, "a sample for SQ8");
    *out = sample;
    *count = 0;
    sem_status s = rows_view_open(&view, e->rows, err);
    if (s != SEM_OK)
        return s;
    for (size_t row = 0; row < e->seen && *count < SAMPLE_MAX; row += stride)
        if (is_wanted(e, (uint32_t)row))
            memcpy(sample + (*count)++ * dim, rows_vector(&view, (uint32_t)row), dim * sizeof *sample);
    rows_view_end(&view);
    return SEM_OK;
}

static sem_status make_ivf(exporting *e, const lists *l, sem_error *err)
{
    float *sample = NULL, *centroids = lists_unit_centroids(l);
    size_t count = 0;
    sem_status s = centroids == NULL ? sem_fail_memory(err, "centroids") : SEM_OK;
    if (s == SEM_OK && e->options->faiss_type == VECTOR_FAISS_SQ8)
        s = draw_sample(e, &sample, &count, err);
    faiss_ivf_options options = {.dim = l->dim,
                                 .type = e->options->faiss_type,
                                 .centroids = centroids,
                                 .nlist = l->nlist,
                                 .longest = l->centroid_extras != NULL ? l->longest : 0,
                                 .sample = sample,
                                 .sample_count = count};
    if (s == SEM_OK)
        s = faiss_ivf_create(&e->ivf, &options, err);
    free(sample);
    free(centroids);
    return s;
}

/* --- rows */

static sem_status add_chunk(exporting *e, rows_view *view, uint32_t from, uint32_t to, sem_error *err)
{
    size_t dim = e->rows->dim, count = 0;
    sem_status s = rows_view_renew(view, err);
    if (s != SEM_OK)
        return s;
    for (uint32_t row = from; row < to; row++) {
        if (!is_wanted(e, row))
            continue;
        memcpy(e->vectors + count * dim, rows_vector(view, row), dim * sizeof *e->vectors);
        e->wide[count] = rows_docno(e->rows, row);
        e->ids[count++] = rows_docno(e->rows, row);
    }
    e->count += count;
    if (count == 0)
        return SEM_OK;
    if (e->ivf != NULL)
        return faiss_ivf_add(e->ivf, e->ids, e->vectors, count, NULL, err);
    return faiss_check(faiss_Index_add_with_ids(e->flat, (faiss_idx_t)count, e->vectors, e->wide), "adding vectors",
                       err);
}

static sem_status add_rows(exporting *e, sem_error *err)
{
    rows_view view = {0};
    e->ids = checked_realloc(NULL, CHUNK, sizeof *e->ids);
    e->vectors = checked_realloc(NULL, CHUNK, e->rows->dim * sizeof *e->vectors);
    sem_status s = e->ids == NULL || e->vectors == NULL ? sem_fail_memory(err, "rows for FAISS")
                                                        : rows_view_open(&view, e->rows, err);
    for (uint32_t done = 0; s == SEM_OK && done < e->seen;) {
        uint32_t to = e->seen - done < CHUNK ? e->seen : done + CHUNK;
        s = step(e, err);
        if (s == SEM_OK)
            s = add_chunk(e, &view, done, to, err);
        done = to;
    }
    rows_view_end(&view);
    free(e->ids);
    free(e->vectors);
    return s;
}

/* --- the file */

static sem_status write_file(const exporting *e, size_t nprobe, sem_error *err)
{
    errno = 0;
    sem_status s = e->ivf != NULL ? faiss_ivf_write(e->ivf, nprobe, e->how->to, err)
                                  : faiss_check(faiss_write_index(e->flat, e->how->to), "writing an index", err);
    int cause = errno;
    if (s == SEM_OK && fflush(e->how->to) != 0) {
        cause = errno;
        s = sem_fail(err, SEM_INTERNAL, "writing an index failed");
    }
    if (s == SEM_INTERNAL && (cause == ENOSPC || cause == EDQUOT || cause == EFBIG))
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "path: there is no room for the file: %s", strerror(cause));
    return s;
}

static size_t usual_nprobe(const lists *l, const faiss_cells *f)
{
    return f != NULL ? recall_curve_nprobe(&f->curve, USUAL_RECALL, USUAL_RECALL_K)
                     : recall_curve_nprobe(&l->curve, USUAL_RECALL, USUAL_RECALL_K);
}

sem_status cells_export(const rows *r, const lists *l, const faiss_cells *f, const vector_index_options *options,
                        const index_export *how, index_exported *out, sem_error *err)
{
    exporting *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "an export");
    e->rows = r;
    e->seen = rows_count(r);
    e->options = options;
    e->how = how;
    faiss_use_threads(1);
    bool exact = (l == NULL && f == NULL) || rows_live(r) < options->exact_below;
    *out = (index_exported){.codes = "IDMap,Flat"};
    sem_status s = exact       ? make_flat(e, err)
                   : f != NULL ? faiss_ivf_create_like(&e->ivf, f->ivf, err)
                               : make_ivf(e, l, err);
    if (s == SEM_OK && !exact) {
        out->codes = faiss_ivf_type(e->ivf) == VECTOR_FAISS_FLAT ? "IVF,Flat" : "IVF,SQ8";
        out->nlist = faiss_ivf_nlist(e->ivf);
        out->nprobe = usual_nprobe(l, f);
    }
    if (s == SEM_OK)
        s = add_rows(e, err);
    if (s == SEM_OK)
        s = step(e, err);
    if (s == SEM_OK)
        s = write_file(e, out->nprobe, err);
    out->vectors = e->count;
    faiss_ivf_destroy(e->ivf);
    if (e->flat != NULL)
        faiss_Index_free(e->flat);
    free(e);
    return s;
}
