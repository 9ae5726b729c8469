/* What a worker prepares before the writer takes over: upsert, delete, feedback. */
#include "base/checked.h"
#include "daemon/filtered_delete.h"
#include "daemon/ops.h"
#include "daemon/worker.h"
#include "daemon/writer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- upsert */

typedef struct keyed {
    const request_doc *doc;
    size_t position;
} keyed;

static int compare_docs(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    unsigned char x_key[DOCID_KEY_MAX], y_key[DOCID_KEY_MAX];
    size_t x_length = docid_to_key(&x->doc->id, x_key), y_length = docid_to_key(&y->doc->id, y_key);
    int order = docid_key_compare(x_key, x_length, y_key, y_length);
    return order != 0 ? order : (x->position > y->position) - (x->position < y->position);
}

static int compare_positions(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    return (x->position > y->position) - (x->position < y->position);
}

/* An id twice in one request: only the last one is encoded and put. */
static sem_status drop_repeats(request *q, sem_error *err)
{
    size_t count = q->u.upsert.count;
    if (count < 2)
        return SEM_OK;
    request_doc *docs = q->u.upsert.docs;
    keyed *order = checked_realloc(NULL, count, sizeof *order);
    request_doc *last = checked_realloc(NULL, count, sizeof *last);
    if (order == NULL || last == NULL) {
        free(order);
        free(last);
        return sem_fail_memory(err, "an upsert");
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (keyed){&docs[i], i};
    qsort(order, count, sizeof *order, compare_docs);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned char a[DOCID_KEY_MAX], b[DOCID_KEY_MAX];
        size_t a_length = docid_to_key(&order[i].doc->id, a);
        if (i + 1 < count && docid_key_compare(a, a_length, b, docid_to_key(&order[i + 1].doc->id, b)) == 0)
            continue;
        order[kept++] = order[i];
    }
    qsort(order, kept, sizeof *order, compare_positions);
    for (size_t i = 0; i < kept; i++)
        last[i] = *order[i].doc;
    memcpy(docs, last, kept * sizeof *docs);
    q->u.upsert.count = kept;
    free(order);
    free(last);
    return SEM_OK;
}

static bool has_vectors(const request *q)
{
    for (size_t i = 0; i < q->u.upsert.count; i++)
        if (q->u.upsert.docs[i].vector.data != NULL)
            return true;
    return false;
}

static sem_status copy_given(const request_doc *doc, size_t dim, bool normalize, float *out, sem_error *err)
{
    const span *bytes = &doc->vector;
    if (bytes->size != dim * sizeof(float))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "docs[%zu].vector: %zu bytes, expected %zu (4 * dim, dim = %zu)",
                        doc->place, bytes->size, dim * sizeof(float), dim);
    memcpy(out, bytes->data, bytes->size);
    double norm = 0;
    for (size_t k = 0; k < dim; k++)
        norm += (double)out[k] * out[k];
    for (size_t k = 0; k < dim && normalize; k++)
        out[k] = (float)(out[k] / sqrt(norm));
    return SEM_OK;
}

static sem_status prepare_external(task *t, const store_collection *c, sem_error *err)
{
    const request *q = t->request;
    size_t floats;
    if (!checked_mul(q->u.upsert.count, c->dim, &floats) ||
        (t->vectors = checked_alloc_aligned(floats, sizeof(float))) == NULL)
        return sem_fail_memory(err, "vectors");
    task_hold(t, floats * sizeof(float));
    for (size_t i = 0; i < q->u.upsert.count; i++) {
        const request_doc *d = &q->u.upsert.docs[i];
        if (d->vector.data == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "docs[%zu].vector: required in %s, whose vectors are external",
                            d->place, c->name);
        sem_status status = copy_given(d, c->dim, c->metric == METRIC_COSINE, t->vectors + i * c->dim, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* A vector from outside must be of the space that it goes into. */
static sem_status check_space(worker *w, const task *t, sem_error *err)
{
    const request *q = t->request;
    if (!has_vectors(q))
        return SEM_OK;
    if (!q->u.upsert.has_generation)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "generation: required where a vector is given (the one that encode answered with)");
    if (q->u.upsert.generation == t->serving->generation)
        return SEM_OK;
    store_generation g;
    bool found;
    sem_status status = store_generation_get(w->read, q->u.upsert.generation, &g, &found, err);
    if (status != SEM_OK)
        return status;
    bool same = found && g.space == space_number(t->serving->space);
    if (found)
        store_generation_free(&g);
    return same ? SEM_OK
                : sem_fail(err, SEM_FAILED_PRECONDITION,
                           "generation: the vectors are of generation %u, the current one is %u and has another "
                           "vector space; encode again",
                           q->u.upsert.generation, t->serving->generation);
}

/* Encodes texts with one generation; out[count, dim]. places[count]: of which docs they are, for errors. */
static sem_status encode_texts(worker *w, task *t, serving *s, const span *texts, const size_t *places, size_t count,
                               float *out, bool *truncated, sem_error *err)
{
    worker_long l = {w, t};
    encoding_job job = {.serving = s,
                        .tower = TOWER_DOCUMENT,
                        .prompt = model_config_document_prompt(model_get_config(s->document)),
                        .texts = texts,
                        .count = count,
                        .field = "docs",
                        .places = places,
                        .slice_tokens = w->core->settings.encode.token_budget,
                        .out = out,
                        .truncated = truncated,
                        .between = worker_between,
                        .context = &l};
    sem_status status = encoding_run(w->encoding, &job, err);
    return status == SEM_CANCELLED ? task_check_deadline(t, err) : status;
}

/* Whose text is stored already: those keep their vector, so that a change of meta alone
 * encodes nothing. The writer looks again. */
static sem_status find_same(worker *w, task *t, const store_collection *c, sem_error *err)
{
    const request *q = t->request;
    t->same = calloc(q->u.upsert.count + 1, sizeof *t->same);
    if (t->same == NULL)
        return sem_fail_memory(err, "an upsert");
    for (size_t i = 0; i < q->u.upsert.count && !t->whole; i++) {
        const request_doc *d = &q->u.upsert.docs[i];
        store_document old;
        bool found;
        sem_status status = store_document_get(w->read, c->number, &d->id, &old, &found, err);
        if (status != SEM_OK)
            return status;
        t->same[i] = found && d->vector.data == NULL && old.text_length == d->text.size &&
                     (d->text.size == 0 || memcmp(old.text, d->text.data, d->text.size) == 0);
    }
    return SEM_OK;
}

/* How many of those that keep their vector are longer than the model reads. */
static sem_status count_same_cut(worker *w, task *t, serving *s, uint64_t *cut, sem_error *err)
{
    const request *q = t->request;
    const char *prompt = model_config_document_prompt(model_get_config(s->document));
    worker_long l = {w, t};
    token_batch tokens = {0};
    sem_status status = SEM_OK;
    for (size_t i = 0; i < q->u.upsert.count && status == SEM_OK; i++) {
        const span *text = &q->u.upsert.docs[i].text;
        bool truncated = false;
        if (!t->same[i])
            continue;
        token_batch_clear(&tokens);
        status = model_tokenize(s->document, prompt, text->data, text->size, &tokens, &truncated, err);
        *cut += truncated;
        if (status == SEM_OK && !worker_between(&l))
            status = task_check_deadline(t, err);
    }
    token_batch_free(&tokens);
    return status;
}

typedef enum given_vectors { GIVEN_IGNORED, GIVEN_NORMALIZED, GIVEN_AS_THEY_ARE } given_vectors;

/* Encodes every document without a vector of its own, given or kept, and spreads the
 * results: row i of vectors belongs to docs[i]. */
static sem_status encode_all(worker *w, task *t, serving *s, given_vectors given, float **vectors, uint64_t *cut,
                             sem_error *err)
{
    const request *q = t->request;
    size_t count = q->u.upsert.count, dim = space_dim(s->space), wanted = 0, floats;
    span *texts = calloc(count + 1, sizeof *texts);
    size_t *places = calloc(count + 1, sizeof *places);
    bool *truncated = calloc(count + 1, sizeof *truncated);
    *vectors = checked_mul(count, dim, &floats) ? checked_alloc_aligned(floats, sizeof(float)) : NULL;
    sem_status status = SEM_OK;
    if (texts == NULL || places == NULL || truncated == NULL || *vectors == NULL)
        status = sem_fail_memory(err, "an upsert");
    else
        task_hold(t, floats * sizeof(float));
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (!t->same[i] && (given == GIVEN_IGNORED || q->u.upsert.docs[i].vector.data == NULL)) {
            places[wanted] = q->u.upsert.docs[i].place;
            texts[wanted++] = q->u.upsert.docs[i].text;
        }
    if (status == SEM_OK && wanted > 0)
        status = encode_texts(w, t, s, texts, places, wanted, *vectors, truncated, err);
    /* From the back, so that no row is overwritten before it was moved. */
    for (size_t i = count, from = wanted; i-- > 0 && status == SEM_OK;) {
        const request_doc *d = &q->u.upsert.docs[i];
        if (t->same[i])
            continue;
        if (given != GIVEN_IGNORED && d->vector.data != NULL)
            status = copy_given(d, dim, given == GIVEN_NORMALIZED, *vectors + i * dim, err);
        else if (--from != i)
            memcpy(*vectors + i * dim, *vectors + from * dim, dim * sizeof(float));
    }
    for (size_t i = 0; i < wanted && status == SEM_OK; i++)
        *cut += truncated[i];
    if (status == SEM_OK && given != GIVEN_IGNORED)
        status = count_same_cut(w, t, s, cut, err);
    free(texts);
    free(places);
    free(truncated);
    return status;
}

/* --- documents that are cut into passages */

static sem_status refuse_vectors(const request *q, const store_collection *c, sem_error *err)
{
    for (size_t i = 0; i < q->u.upsert.count; i++)
        if (q->u.upsert.docs[i].vector.data != NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "docs[%zu].vector: %s has a vector for each passage of %u tokens, which semd cuts and "
                            "embeds itself; leave the vector out",
                            q->u.upsert.docs[i].place, c->name, c->passage_tokens);
    return SEM_OK;
}

static sem_status cut_documents(worker *w, task *t, serving *s, const store_collection *c, document_cut *cut,
                                sem_error *err)
{
    const request *q = t->request;
    const size_t most = core_limits(w->core).passages;
    worker_long l = {w, t};
    document_cutter cutter;
    sem_status status = SEM_OK;
    document_cutter_begin(&cutter, s->document, c);
    cutter.between = worker_between;
    cutter.context = &l;
    for (size_t i = 0; i < q->u.upsert.count && status == SEM_OK; i++) {
        const span *text = &q->u.upsert.docs[i].text;
        status = t->same[i] ? document_cut_skip(cut, err) : document_cut_add(cut, &cutter, text->data, text->size, err);
        if (status == SEM_OK && cut->passages > most)
            status = sem_fail(err, SEM_INVALID_ARGUMENT,
                              "docs: %zu passages up to docs[%zu], at most %zu (limits.passages); send fewer documents "
                              "at a time",
                              cut->passages, q->u.upsert.docs[i].place, most);
        if (status == SEM_OK && !worker_between(&l))
            status = task_check_deadline(t, err);
    }
    document_cutter_end(&cutter);
    return status == SEM_CANCELLED ? task_check_deadline(t, err) : status;
}

/* Cuts all documents but those that keep their vectors, and encodes their passages: row
 * document_cut_row(cut, i) of vectors is the first of docs[i]. */
static sem_status encode_passages(worker *w, task *t, serving *s, const store_collection *c, float **vectors,
                                  document_cut *cut, sem_error *err)
{
    const request *q = t->request;
    sem_status status = cut_documents(w, t, s, c, cut, err);
    if (status != SEM_OK)
        return status;
    size_t floats;
    span *texts = calloc(cut->passages + 1, sizeof *texts);
    size_t *places = calloc(cut->passages + 1, sizeof *places);
    *vectors = checked_mul(cut->passages + 1, space_dim(s->space), &floats)
                   ? checked_alloc_aligned(floats, sizeof(float))
                   : NULL;
    if (texts == NULL || places == NULL || *vectors == NULL) {
        free(texts);
        free(places);
        return sem_fail_memory(err, "an upsert");
    }
    task_hold(t, floats * sizeof(float) + cut->passages * (sizeof *texts + sizeof(store_range) + sizeof(uint32_t)));
    for (size_t i = 0; i < cut->documents; i++)
        for (size_t k = cut->first[i]; k < cut->first[i + 1]; k++) {
            places[k] = q->u.upsert.docs[i].place;
            texts[k] = (span){.data = q->u.upsert.docs[i].text.data + cut->ranges[k].from,
                              .size = cut->ranges[k].to - cut->ranges[k].from};
        }
    status = encode_texts(w, t, s, texts, places, cut->passages, *vectors, NULL, err);
    free(texts);
    free(places);
    return status;
}

/* Embeds the request's documents with a generation, as the collection wants them. */
static sem_status embed(worker *w, task *t, serving *s, const store_collection *c, bool second, sem_error *err)
{
    uint64_t ignored = 0;
    float **vectors = second ? &t->second : &t->vectors;
    if (c->passage_tokens > 0)
        return encode_passages(w, t, s, c, vectors, second ? &t->second_cut : &t->cut, err);
    given_vectors given = second ? GIVEN_IGNORED : c->metric == METRIC_DOT ? GIVEN_AS_THEY_ARE : GIVEN_NORMALIZED;
    return encode_all(w, t, s, given, vectors, second ? &ignored : &t->truncated, err);
}

static sem_status prepare_upsert(worker *w, task *t, sem_error *err)
{
    store_collection c;
    sem_status status = worker_collection(w, t, &c, err);
    if (status == SEM_OK)
        status = drop_repeats(t->request, err);
    if (status != SEM_OK)
        return status;
    if (c.external)
        return prepare_external(t, &c, err);
    t->serving = serving_slot_acquire(&w->core->current);
    status = c.passage_tokens > 0 ? refuse_vectors(t->request, &c, err) : check_space(w, t, err);
    if (status == SEM_OK)
        status = find_same(w, t, &c, err);
    /* No snapshot is held while texts are encoded. */
    store_read_end(w->read);
    w->read = NULL;
    if (status == SEM_OK)
        status = embed(w, t, t->serving, &c, false, err);
    if (status != SEM_OK || !atomic_load(&w->core->dual))
        return status;
    t->candidate = serving_slot_acquire(&w->core->candidate);
    return t->candidate == NULL ? SEM_OK : embed(w, t, t->candidate, &c, true, err);
}

void op_upsert(worker *w, task *t)
{
    sem_error err;
    if (prepare_upsert(w, t, &err) == SEM_OK)
        writer_submit(w->core->writer, t);
    else
        task_fail(w->core, t, &err);
}

/* --- delete */

static void delete_by_filter(worker *w, task *t)
{
    sem_error err;
    store_collection c;
    uint64_t total = 0, seq = 0;
    const span *text = &t->request->u.erase.filter;
    sem_status status = worker_collection(w, t, &c, &err);
    /* Each step has a snapshot of its own. */
    store_read_end(w->read);
    w->read = NULL;
    if (status == SEM_OK) {
        store_delete what = {
            .collection = c.number, .filter = (const unsigned char *)text->data, .filter_size = text->size};
        status = filtered_delete_run(w->core, &what, t, &total, &seq, &err);
    }
    if (status != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 2);
    pack_str(&a.pack, "deleted");
    pack_uint(&a.pack, total);
    pack_str(&a.pack, "seq");
    pack_uint(&a.pack, seq);
    answer_send(w->core, t, &a);
}

void op_delete(worker *w, task *t)
{
    sem_error err;
    store_collection c;
    if (t->request->u.erase.ids == NULL)
        delete_by_filter(w, t);
    else if (worker_collection(w, t, &c, &err) == SEM_OK)
        writer_submit(w->core->writer, t);
    else
        task_fail(w->core, t, &err);
}

void op_feedback(worker *w, task *t)
{
    sem_error err;
    store_collection c;
    if (worker_collection(w, t, &c, &err) == SEM_OK)
        writer_submit(w->core->writer, t);
    else
        task_fail(w->core, t, &err);
}
