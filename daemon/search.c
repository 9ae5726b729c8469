/* What all modes of a search share. */
#include "daemon/search.h"

#include "index/filter.h"
#include "index/vector_index.h"
#include "daemon/explanation.h"
#include "daemon/filtering.h"
#include "daemon/worker.h"

#include <stdlib.h>

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

/* --- documents in the snapshot */

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

bool search_ran_short(const search *s)
{
    return s->more && s->count < s->request->u.search.k;
}

/* --- the scan */

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
