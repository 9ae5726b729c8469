/* evaluate: how well a collection's searches rank the documents that they should find. */
#include "base/checked.h"
#include "finetune/evaluate.h"
#include "daemon/ops.h"
#include "daemon/search.h"

#include <stdlib.h>

/* An evaluation under way. */
typedef struct evaluation {
    worker *worker;
    task *task;
    const request *request;
    serving *serving; /* pinned by the caller */
    store_collection collection;
    float *vectors;      /* [queries, dim], owned; NULL in mode lexical */
    docid *ids;          /* [most], owned: what one query should find */
    uint32_t *documents; /* [most], owned: of them, those that exist, in order of number */
    size_t count;        /* of documents */
    bool *marks;         /* [k], owned: hits that are among them */
    rank_metrics sum;
} evaluation;

static void evaluation_free(evaluation *e)
{
    free(e->vectors);
    free(e->ids);
    free(e->documents);
    free(e->marks);
}

/* --- the queries' vectors */

static sem_status check_mode(const evaluation *e, sem_error *err)
{
    search_mode mode = e->request->u.evaluate.mode;
    if (mode != SEARCH_LEXICAL && e->collection.external)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "queries: %s holds external vectors; its texts are searched in mode lexical only",
                        e->collection.name);
    return SEM_OK;
}

static sem_status encode_queries(evaluation *e, sem_error *err)
{
    const request *q = e->request;
    const size_t count = q->u.evaluate.count, dim = space_dim(e->serving->space);
    worker_long l = {e->worker, e->task};
    size_t floats;
    span *texts = checked_realloc(NULL, count + 1, sizeof *texts);
    e->vectors = checked_mul(count + 1, dim, &floats) ? checked_alloc_aligned(floats, sizeof(float)) : NULL;
    if (texts == NULL || e->vectors == NULL) {
        free(texts);
        return sem_fail_memory(err, "queries");
    }
    task_hold(e->task, floats * sizeof(float));
    for (size_t i = 0; i < count; i++)
        texts[i] = q->u.evaluate.queries[i].query;
    encoding_job job = {.serving = e->serving,
                        .tower = TOWER_QUERY,
                        .prompt = model_config_query_prompt(model_get_config(e->serving->query)),
                        .texts = texts,
                        .count = count,
                        .field = "queries",
                        .slice_tokens = e->worker->core->settings.encode.token_budget,
                        .out = e->vectors,
                        .between = worker_between,
                        .context = &l};
    sem_status status = encoding_run(e->worker->encoding, &job, err);
    free(texts);
    return status == SEM_CANCELLED ? task_check_deadline(e->task, err) : status;
}

/* --- what they should find */

static sem_status reserve(evaluation *e, sem_error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < e->request->u.evaluate.count; i++)
        if (e->request->u.evaluate.queries[i].relevant_count > most)
            most = e->request->u.evaluate.queries[i].relevant_count;
    e->ids = checked_realloc(NULL, most + 1, sizeof *e->ids);
    e->documents = checked_realloc(NULL, most + 1, sizeof *e->documents);
    e->marks = checked_realloc(NULL, e->request->u.evaluate.k, sizeof *e->marks);
    if (e->ids == NULL || e->documents == NULL || e->marks == NULL)
        return sem_fail_memory(err, "an evaluation");
    return SEM_OK;
}

static int compare_ids(const void *a, const void *b)
{
    unsigned char a_key[DOCID_KEY_MAX], b_key[DOCID_KEY_MAX];
    size_t a_length = docid_to_key(a, a_key), b_length = docid_to_key(b, b_key);
    return docid_key_compare(a_key, a_length, b_key, b_length);
}

static int compare_numbers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* An id counts once; one that no document has counts too, as one that is never found. */
static sem_status look_up(evaluation *e, const request_judged *j, size_t *total, sem_error *err)
{
    span left = j->relevant;
    size_t given = 0;
    while (given < j->relevant_count && request_next_id(&left, &e->ids[given]))
        given++;
    qsort(e->ids, given, sizeof *e->ids, compare_ids);
    *total = e->count = 0;
    for (size_t i = 0; i < given; i++) {
        store_document doc;
        bool found;
        if (i > 0 && compare_ids(&e->ids[i - 1], &e->ids[i]) == 0)
            continue;
        ++*total;
        sem_status status = store_document_get(e->worker->read, e->collection.number, &e->ids[i], &doc, &found, err);
        if (status != SEM_OK)
            return status;
        if (found)
            e->documents[e->count++] = doc.docno;
    }
    qsort(e->documents, e->count, sizeof *e->documents, compare_numbers);
    return SEM_OK;
}

/* --- one query */

static sem_status rank(evaluation *e, size_t i, sem_error *err)
{
    const request *q = e->request;
    const request_judged *j = &q->u.evaluate.queries[i];
    const size_t dim = space_dim(e->serving->space), k = q->u.evaluate.k;
    size_t total;
    sem_status status = look_up(e, j, &total, err);
    if (status != SEM_OK || total == 0)
        return status;
    const request asked = {.method = METHOD_SEARCH,
                           .collection = q->collection,
                           .u.search = {.query = j->query, .k = k, .mode = q->u.evaluate.mode}};
    search s = {.worker = e->worker,
                .task = e->task,
                .request = &asked,
                .serving = e->serving,
                .collection = e->collection,
                .same_snapshot = true};
    const float *encoded = e->vectors != NULL ? e->vectors + i * dim : NULL;
    status = search_find(&s, encoded, err);
    for (size_t n = 0; n < s.count && status == SEM_OK; n++)
        e->marks[n] = bsearch(&s.hits[n].docno, e->documents, e->count, sizeof *e->documents, compare_numbers) != NULL;
    if (status == SEM_OK)
        rank_metrics_add(&e->sum, e->marks, s.count, total, k);
    search_free(&s);
    return status;
}

/* --- all of it */

/* No snapshot is held while queries are encoded; then one for all of them. */
static sem_status run(evaluation *e, sem_error *err)
{
    worker_long l = {e->worker, e->task};
    sem_status status = worker_collection(e->worker, e->task, &e->collection, err);
    if (status == SEM_OK)
        status = check_mode(e, err);
    if (status == SEM_OK)
        status = reserve(e, err);
    if (status == SEM_OK && e->request->u.evaluate.mode != SEARCH_LEXICAL) {
        store_read_rest(e->worker->read);
        status = encode_queries(e, err);
        if (status == SEM_OK)
            status = worker_collection(e->worker, e->task, &e->collection, err);
    }
    for (size_t i = 0; status == SEM_OK && i < e->request->u.evaluate.count; i++) {
        status = rank(e, i, err);
        if (status == SEM_OK && !worker_between(&l))
            status = task_check_deadline(e->task, err);
    }
    return status;
}

static void answer_metrics(const evaluation *e)
{
    const struct {
        const char *name;
        double value;
    } figures[] = {{"ndcg", e->sum.ndcg}, {"mrr", e->sum.mrr}, {"recall", e->sum.recall}, {"map", e->sum.map}};
    answer a;
    answer_begin(&a, e->task);
    pack_map(&a.pack, 6);
    pack_str(&a.pack, "generation");
    pack_uint(&a.pack, e->serving->generation);
    pack_str(&a.pack, "queries");
    pack_uint(&a.pack, e->sum.queries);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        pack_str(&a.pack, figures[i].name);
        pack_double(&a.pack, figures[i].value);
    }
    answer_send(e->worker->core, e->task, &a);
}

void op_evaluate(worker *w, task *t)
{
    sem_error err;
    serving *s = serving_slot_acquire(&w->core->current);
    evaluation e = {.worker = w, .task = t, .request = t->request, .serving = s};
    if (run(&e, &err) == SEM_OK) {
        rank_metrics_mean(&e.sum);
        answer_metrics(&e);
    } else {
        task_fail(w->core, t, &err);
    }
    evaluation_free(&e);
    serving_release(s);
}
