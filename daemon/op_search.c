/* search: from an encoded query to hits; search_answer.c sends them. */
#include "base/clock.h"
#include "index/filter.h"
#include "index/vector_index.h"
#include "daemon/explanation.h"
#include "daemon/filtering.h"
#include "daemon/ops.h"
#include "daemon/search.h"
#include "daemon/search_trial.h"
#include "daemon/worker.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SNAPSHOT_TRIES = 4, /* documents can come faster than one search takes; then: */
    SPARE_HITS = 256    /* so many more than k are asked for, and those that the snapshot does not know left out */
};
static const double DEFAULT_RECALL = 0.95;

void search_free(search *s)
{
    space_index_release(s->index);
    pool_give(s->vector);
    pool_give(s->found);
    free(s->allowed);
    free(s->listed);
    filter_free(s->filter);
    pool_give(s->hits);
    pool_give(s->drafted);
    free(s->parts);
    lexical_candidates_free(s->words);
}

uint32_t search_space(const search *s)
{
    return s->collection.external ? STORE_SPACE_EXTERNAL : space_number(s->serving->space);
}

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

/* --- which documents may be hits */

sem_status search_apply_filter(search *s, sem_error *err)
{
    const span *f = &s->request->u.search.filter;
    docset *set;
    if (f->data == NULL)
        return SEM_OK;
    sem_status status = filter_parse(&s->filter, (const unsigned char *)f->data, f->size, err);
    if (status == SEM_OK)
        status =
            filtering_documents(s->worker->core, s->worker->read, s->collection.number, s->filter, s->task, &set, err);
    if (status != SEM_OK)
        return status;
    s->allowed_count = roaring_bitmap_get_cardinality(set);
    if (s->allowed_count <= VECTOR_LISTED_MAX)
        status = docset_to_array(set, &s->listed, &s->listed_count, err);
    else
        status = docset_to_bits(set, &s->allowed, &s->allowed_bits, err);
    docset_free(set);
    return status;
}

/* --- the scan */

int search_compare_ids(void *context, uint32_t a, uint32_t b)
{
    search *s = context;
    const unsigned char *a_key, *b_key;
    size_t a_length, b_length;
    bool a_found, b_found;
    if (store_document_key(s->worker->read, s->collection.number, a, &a_key, &a_length, &a_found, NULL) != SEM_OK ||
        store_document_key(s->worker->read, s->collection.number, b, &b_key, &b_length, &b_found, NULL) != SEM_OK ||
        !a_found || !b_found)
        return (a > b) - (a < b);
    return docid_key_compare(a_key, a_length, b_key, b_length);
}

sem_status search_knows(search *s, uint32_t docno, bool *known, sem_error *err)
{
    store_document doc;
    const unsigned char *key;
    size_t length;
    if (s->filter == NULL)
        return store_document_key(s->worker->read, s->collection.number, docno, &key, &length, known, err);
    sem_status status = store_document_by_number(s->worker->read, s->collection.number, docno, &doc, known, err);
    if (status == SEM_OK && *known)
        *known = filter_match(s->filter, doc.meta, doc.meta_length);
    return status;
}

sem_status search_renew(search *s, sem_error *err)
{
    uint32_t number = s->collection.number;
    if (s->same_snapshot)
        return SEM_OK;
    sem_status status = worker_collection(s->worker, s->task, &s->collection, err);
    if (status == SEM_OK && s->collection.number != number)
        return sem_fail(err, SEM_NOT_FOUND, "collection: %s was dropped meanwhile", s->collection.name);
    return status;
}

/* Whether that holds for every hit: a document that was written after the
 * snapshot was taken can already be in the index and in the columns. */
static sem_status all_known(search *s, bool *known, sem_error *err)
{
    sem_status status = SEM_OK;
    *known = true;
    for (size_t i = 0; i < s->count && *known && status == SEM_OK; i++)
        status = search_knows(s, s->hits[i].docno, known, err);
    return status;
}

sem_status search_drop_unknown(search *s, sem_error *err)
{
    size_t kept = 0;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < s->count && status == SEM_OK; i++) {
        bool known;
        status = search_knows(s, s->hits[i].docno, &known, err);
        if (status == SEM_OK && known)
            s->hits[kept++] = s->hits[i];
    }
    s->count = kept;
    return status;
}

/* After the last try: hits that the snapshot does not know are left out, which
 * the spare ones make up for. One that is taken only now makes it most unlikely that
 * a hit is deleted before the answer goes out. */
static sem_status settle(search *s, sem_error *err)
{
    sem_status status = s->again ? search_renew(s, err) : SEM_OK;
    if (status == SEM_OK)
        status = search_drop_unknown(s, err);
    if (s->count > s->request->u.search.k)
        s->count = s->request->u.search.k;
    return status;
}

/* One search may take several scans. */
static void explain_scan(explanation *x, const vector_plan *plan)
{
    vector_plan *all = &x->plan;
    const vector_plan before = *all;
    *all = *plan;
    all->probed += before.probed;
    all->scanned += before.scanned;
    all->candidates += before.candidates;
    all->by_bits += before.by_bits;
    all->by_codes += before.by_codes;
    all->by_floats += before.by_floats;
    x->ns[STEP_COARSE] += plan->coarse_ns;
    x->ns[STEP_SCAN] += plan->scan_ns;
    x->ns[STEP_RANK] += plan->rank_ns;
}

sem_status search_scan(search *s, size_t k, vector_hit *hits, size_t *count, sem_error *err)
{
    explanation *x = s->explain;
    const request *q = s->request;
    vector_plan plan;
    vector_query query = {
        .vector = s->vector,
        .k = k,
        .exact = q->u.search.exact,
        .nprobe = q->u.search.nprobe,
        .recall = q->u.search.has_recall ? q->u.search.recall : DEFAULT_RECALL,
        .has_exclude = s->has_exclude,
        .exclude = s->exclude,
        .allowed = s->allowed,
        .allowed_bits = s->allowed_bits,
        .allowed_count = s->allowed_count,
        .listed = s->listed,
        .listed_count = s->listed_count,
        .read = s->worker->read,
        .tie = search_compare_ids,
        .tie_context = s,
    };
    sem_status status = vector_index_search(s->index->index, &query, hits, count, x != NULL ? &plan : NULL, err);
    if (x != NULL && status == SEM_OK) {
        x->recall = query.recall;
        explain_scan(x, &plan);
    }
    return status;
}

static sem_status scan(search *s, sem_error *err)
{
    size_t live = vector_index_count(s->index->index), wanted = s->request->u.search.k + s->spare;
    size_t k = wanted < live + 64 ? wanted : live + 64;
    s->hits = pool_take_array(s->worker->core->hooks.memory, k, sizeof *s->hits);
    if (s->hits == NULL)
        return sem_fail_memory(err, "hits");
    if (s->explain != NULL)
        s->explain->plan = (vector_plan){0};
    bool like = s->request->u.search.has_like && s->collection.passage_tokens > 0;
    return like ? search_like_passages(s, k, err) : search_scan(s, k, s->hits, &s->count, err);
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

/* One try: the snapshot first, so that a document deleted since is still known. */
static sem_status try_once(search *s, const float *encoded, bool *whole, sem_error *err)
{
    sem_status status = s->same_snapshot ? SEM_OK : worker_collection(s->worker, s->task, &s->collection, err);
    if (status != SEM_OK)
        return status;
    uint64_t began = clock_monotonic_ns();
    status = search_apply_filter(s, err);
    if (s->explain != NULL)
        s->explain->ns[STEP_FILTER] += clock_monotonic_ns() - began;
    if (status != SEM_OK)
        return status;
    status = search_vectors(s, encoded, err);
    *whole = s->index != NULL;
    return status == SEM_OK ? all_known(s, whole, err) : status;
}

/* Newer snapshots are taken until one knows all hits, unless same_snapshot. */
static sem_status find_nearest(search *s, const float *encoded, sem_error *err)
{
    const search asked = *s;
    for (int tries = 1;; tries++) {
        bool whole = true, last = s->again || tries == SNAPSHOT_TRIES || (s->same_snapshot && tries > 1);
        s->spare = last ? SPARE_HITS : 0;
        sem_status status = task_check_deadline(s->task, err);
        if (status == SEM_OK)
            status = try_once(s, encoded, &whole, err);
        if (last)
            return status == SEM_OK ? settle(s, err) : status;
        if ((status != SEM_OK && status != SEM_NOT_FOUND) || whole)
            return status;
        search_free(s);
        *s = asked;
    }
}

sem_status search_find(search *s, const float *encoded, sem_error *err)
{
    bool dense = s->request->u.search.mode == SEARCH_DENSE;
    return dense ? find_nearest(s, encoded, err) : search_find_words(s, encoded, err);
}

void op_search_with(worker *w, task *t, serving *pinned, const float *encoded)
{
    op_search_explained(w, t, pinned, encoded, NULL);
}

void op_search_explained(worker *w, task *t, serving *pinned, const float *encoded, explanation *x)
{
    sem_error err;
    sem_status status = SEM_CANCELLED;
    search_trial trial = {0};
    if (x == NULL && encoded != NULL)
        search_trial_begin(&trial, w, t, pinned);
    for (int tries = 0; status == SEM_CANCELLED && tries < WORKER_TRIES; tries++) {
        search s = {.worker = w, .task = t, .request = t->request, .serving = pinned, .explain = x, .again = tries > 0};
        search rival = {0};
        status = search_find(&s, encoded, &err);
        if (status == SEM_OK)
            search_trial_draft(&trial, &s, &rival);
        if (status == SEM_OK)
            status = search_answer(&s, &err);
        search_free(&rival);
        search_free(&s);
    }
    search_trial_end(&trial, w);
    if (status == SEM_CANCELLED)
        status = worker_fail_deleted(&err);
    if (status != SEM_OK)
        task_fail(w->core, t, &err);
}

void op_search(worker *w, task *t)
{
    serving *s = serving_slot_acquire(&w->core->current);
    op_search_with(w, t, s, NULL);
    serving_release(s);
}
