/* The part of a search that goes by vectors. */
#include "index/vector_index.h"
#include "daemon/explanation.h"
#include "daemon/search.h"
#include "daemon/worker.h"

#include <math.h>
#include <string.h>

enum { COME_MEANWHILE = 64 /* documents; where it were more the search is done again, with more room */ };

/* --- the query's vector */

static sem_status check_generation(const search *s, sem_error *err)
{
    const request *q = s->request;
    if (!q->u.search.has_generation || s->collection.external || q->u.search.generation == s->serving->generation)
        return SEM_OK;
    store_generation g;
    bool found;
    sem_status status = store_generation_get(s->worker->read, q->u.search.generation, &g, &found, err);
    if (status != SEM_OK)
        return status;
    bool same = found && g.space == space_number(s->serving->space);
    if (found)
        store_generation_free(&g);
    if (same)
        return SEM_OK;
    return sem_fail(err, SEM_FAILED_PRECONDITION,
                    "generation: the vector is of generation %u, the current one is %u and has another vector space",
                    q->u.search.generation, s->serving->generation);
}

static sem_status copy_vector(search *s, const span *bytes, sem_error *err)
{
    if (bytes->size != s->dim * sizeof(float))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "vector: %zu bytes, expected %zu (4 * dim, dim = %zu)", bytes->size,
                        s->dim * sizeof(float), s->dim);
    memcpy(s->vector, bytes->data, bytes->size);
    if (s->collection.metric == METRIC_DOT)
        return SEM_OK;
    double norm = 0;
    for (size_t i = 0; i < s->dim; i++)
        norm += (double)s->vector[i] * s->vector[i];
    norm = sqrt(norm);
    for (size_t i = 0; i < s->dim; i++)
        s->vector[i] = (float)(s->vector[i] / norm);
    return SEM_OK;
}

static sem_status vector_like(search *s, sem_error *err)
{
    store_document doc;
    uint64_t version;
    bool found;
    sem_status status =
        store_document_get(s->worker->read, s->collection.number, &s->request->u.search.like, &doc, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found)
        return sem_fail(err, SEM_NOT_FOUND, "like: no such document in %s", s->collection.name);
    s->has_exclude = true;
    s->exclude = doc.docno;
    status = store_vector_get(s->worker->read, search_space(s), s->collection.number, doc.docno, s->vector, s->dim,
                              &version, &found, err);
    if (status == SEM_OK && !found)
        return sem_fail(err, SEM_UNAVAILABLE, "like: the document's vector is just being replaced; try again");
    return status;
}

static sem_status take_vector(search *s, const float *encoded, sem_error *err)
{
    const request *q = s->request;
    s->vector = pool_take_array(s->worker->core->hooks.memory, s->dim, sizeof *s->vector);
    if (s->vector == NULL)
        return sem_fail_memory(err, "a query");
    if (encoded != NULL) {
        if (s->collection.external)
            return sem_fail(
                err, SEM_INVALID_ARGUMENT,
                "query: %s holds external vectors; search it by vector or like, or by query in mode lexical",
                s->collection.name);
        memcpy(s->vector, encoded, s->dim * sizeof(float));
        return SEM_OK;
    }
    sem_status status = check_generation(s, err);
    if (status != SEM_OK)
        return status;
    return q->u.search.has_like ? vector_like(s, err) : copy_vector(s, &q->u.search.vector, err);
}

/* --- what is nearest to it */

static sem_status scan(search *s, sem_error *err)
{
    /* Beside a writer there are soon more than were counted. */
    size_t room = vector_index_count(s->index->index) + COME_MEANWHILE + s->spare;
    size_t wanted = s->request->u.search.k + s->spare, k = wanted < room ? wanted : room;
    s->hits = pool_take_array(s->worker->core->hooks.memory, k, sizeof *s->hits);
    if (s->hits == NULL)
        return sem_fail_memory(err, "hits");
    if (s->explain != NULL)
        s->explain->plan = (vector_plan){0};
    bool like = s->request->u.search.has_like && s->collection.passage_tokens > 0;
    sem_status status = like ? search_like_passages(s, k, err) : search_scan(s, k, s->hits, &s->count, err);
    s->more = status == SEM_OK && s->count == k;
    return status;
}

sem_status search_vectors(search *s, const float *encoded, sem_error *err)
{
    s->index =
        space_acquire(s->collection.external ? s->worker->core->external : s->serving->space, s->collection.number);
    if (s->index == NULL) /* dropped since the snapshot, or its creation is not answered yet */
        return sem_fail(err, SEM_NOT_FOUND, "collection: there is no collection %s", s->collection.name);
    s->dim = s->collection.external ? s->collection.dim : space_dim(s->serving->space);
    sem_status status = take_vector(s, encoded, err);
    return status == SEM_OK ? scan(s, err) : status;
}
