/* The gate's vectors: those that a space holds already, and those that are made here. */
#include "base/checked.h"
#include "finetune/bulk_encode.h"
#include "daemon/job_gate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ENCODE_CHUNK = 256 /* texts between two steps of the progress bar */ };

static sem_status encode_texts(const job *j, const model *m, const char *prompt, const bulk_text *texts, size_t count,
                               float *out, size_t *done, sem_error *err)
{
    const size_t dim = model_get_config(m)->dim;
    for (size_t at = 0; at < count; at += ENCODE_CHUNK) {
        bulk_job work = {.model = m,
                         .prompt = prompt,
                         .texts = texts + at,
                         .count = count - at < ENCODE_CHUNK ? count - at : ENCODE_CHUNK,
                         .threads = j->threads,
                         .nice = j->settings.train.nice,
                         .cancel = j->cancel,
                         .out = out + at * dim};
        sem_status status = bulk_encode(&work, err);
        if (status != SEM_OK)
            return status;
        *done += work.count;
        job_status_step(j->status, *done, -1);
    }
    return SEM_OK;
}

/* Vectors that a space already holds need no encoding. missing gets the numbers of the documents that do. */
static sem_status take_stored(const job *j, const gate_pool *p, const serving *from, const gate_vectors *v,
                              size_t *missing, size_t *missing_count, sem_error *err)
{
    store_read *r = NULL;
    sem_status status = from != NULL ? store_read_begin(j->core->store, &r, err) : SEM_OK;
    *missing_count = 0;
    for (size_t i = 0; i < p->count && status == SEM_OK; i++) {
        const gate_document *d = &p->documents[i];
        bool found = false;
        uint64_t version = 0;
        if (from != NULL && d->docno != UINT32_MAX && !d->cut)
            status = store_vector_get(r, space_number(from->space), p->collection, d->docno, v->documents + i * v->dim,
                                      v->dim, &version, &found, err);
        if (!found || version != d->version)
            missing[(*missing_count)++] = i;
    }
    store_read_end(r);
    return status;
}

static sem_status encode_missing(const job *j, const gate_pool *p, const model *m, const size_t *missing, size_t count,
                                 const gate_vectors *v, size_t *done, sem_error *err)
{
    bulk_text *texts = checked_realloc(NULL, count + 1, sizeof *texts);
    float *encoded = checked_alloc_floats(count + 1, v->dim);
    sem_status status = texts == NULL || encoded == NULL ? sem_fail_memory(err, "the gate's vectors") : SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        const pooled_text *t = &p->texts.texts[missing[i]];
        texts[i] = (bulk_text){(const char *)p->texts.strings.data + t->offset, t->length};
    }
    if (status == SEM_OK)
        status =
            encode_texts(j, m, model_config_document_prompt(model_get_config(m)), texts, count, encoded, done, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        memcpy(v->documents + missing[i] * v->dim, encoded + i * v->dim, v->dim * sizeof(float));
    free(texts);
    free(encoded);
    return status;
}

static sem_status make_documents(const job *j, const gate_pool *p, const gate_contender *c, const gate_vectors *v,
                                 size_t *done, sem_error *err)
{
    size_t missing_count, *missing = checked_realloc(NULL, p->count + 1, sizeof *missing);
    if (missing == NULL)
        return sem_fail_memory(err, "the gate's vectors");
    sem_status status = take_stored(j, p, c->stored, v, missing, &missing_count, err);
    if (status == SEM_OK)
        status = encode_missing(j, p, c->documents, missing, missing_count, v, done, err);
    free(missing);
    return status;
}

static sem_status make_queries(const job *j, const gate_pool *p, const model *m, const gate_vectors *v, size_t *done,
                               sem_error *err)
{
    bulk_text *texts = checked_realloc(NULL, p->query_count + 1, sizeof *texts);
    if (texts == NULL)
        return sem_fail_memory(err, "the gate's queries");
    for (size_t i = 0; i < p->query_count; i++)
        texts[i] = (bulk_text){p->queries[i].text, p->queries[i].length};
    sem_status status = encode_texts(j, m, model_config_query_prompt(model_get_config(m)), texts, p->query_count,
                                     v->queries, done, err);
    free(texts);
    return status;
}

sem_status gate_vectors_make(gate_vectors *out, const job *j, const gate_pool *p, const gate_contender *contender,
                             const gate_vectors *other, size_t *done, sem_error *err)
{
    const size_t dim = model_get_config(contender->queries)->dim;
    *out = (gate_vectors){.documents = checked_alloc_floats(p->count + 1, dim),
                          .queries = checked_alloc_floats(p->query_count + 1, dim),
                          .dim = dim};
    sem_status status = out->documents == NULL || out->queries == NULL ? sem_fail_memory(err, "the gate's vectors")
                                                                       : SEM_OK;
    if (status == SEM_OK && other != NULL)
        memcpy(out->documents, other->documents, p->count * dim * sizeof(float));
    else if (status == SEM_OK)
        status = make_documents(j, p, contender, out, done, err);
    if (status == SEM_OK)
        status = make_queries(j, p, contender->queries, out, done, err);
    if (status != SEM_OK)
        gate_vectors_free(out);
    return status;
}

void gate_vectors_free(gate_vectors *v)
{
    free(v->documents);
    free(v->queries);
    *v = (gate_vectors){0};
}

sem_status gate_vectors_keep(job *j, const gate_pool *p, const gate_vectors *v, sem_error *err)
{
    const size_t count = j->known_count + p->count;
    job_known *known = checked_realloc(j->known, count + 1, sizeof *known);
    if (known != NULL)
        j->known = known;
    float *vectors = checked_realloc(j->known_vectors, count + 1, v->dim * sizeof *vectors);
    if (vectors != NULL)
        j->known_vectors = vectors;
    if (known == NULL || vectors == NULL)
        return sem_fail_memory(err, "the gate's vectors");
    for (size_t i = 0; i < p->count; i++) {
        const gate_document *d = &p->documents[i];
        j->known[j->known_count + i] = (job_known){p->collection, d->cut ? UINT32_MAX : d->docno, d->version};
    }
    memcpy(j->known_vectors + j->known_count * v->dim, v->documents, p->count * v->dim * sizeof(float));
    j->known_count = count;
    return SEM_OK;
}

double gate_vectors_cosines(const float *a, const float *b, size_t count, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++, a += dim, b += dim) {
        double product = 0, of_a = 0, of_b = 0;
        for (size_t k = 0; k < dim; k++) {
            product += (double)a[k] * (double)b[k];
            of_a += (double)a[k] * (double)a[k];
            of_b += (double)b[k] * (double)b[k];
        }
        sum += of_a > 0 && of_b > 0 ? product / sqrt(of_a * of_b) : 0;
    }
    return sum;
}
