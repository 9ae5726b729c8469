#include "daemon/write_ops.h"

#include "base/checked.h"
#include "base/clock.h"
#include "index/events.h"
#include "daemon/deletes.h"
#include "daemon/filtering.h"
#include "daemon/lexical_thread.h"
#include "daemon/meta_catalog.h"

#include <stdlib.h>

void write_result_free(write_result *r)
{
    free(r->puts);
    free(r->docnos);
    *r = (write_result){0};
}

/* --- in the group */

/* The name may have been dropped, or dropped and made anew, since a worker looked. */
static sem_status find_again(task *t, store_write *w, store_collection *out, sem_error *err)
{
    const request *q = t->request;
    sem_status status = store_collection_find(store_write_view(w), q->collection.data, q->collection.size, out, err);
    if (status != SEM_OK)
        return status;
    if (out->number != t->collection)
        return sem_fail(err, SEM_NOT_FOUND, "collection: %.*s was dropped meanwhile", (int)q->collection.size,
                        q->collection.data);
    return SEM_OK;
}

static bool is_current_space(core *c, const serving *s)
{
    serving *now = serving_slot_acquire(&c->current);
    bool same = now != NULL && space_number(now->space) == space_number(s->space);
    serving_release(now);
    return same;
}

static store_put *make_puts(const task *t, size_t dim, size_t second_dim, bool with_second)
{
    size_t count = t->request->u.upsert.count;
    store_put *puts = checked_realloc(NULL, count + 1, sizeof *puts);
    if (puts == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        const request_doc *d = &t->request->u.upsert.docs[i];
        bool same = t->same != NULL && t->same[i];
        puts[i] = (store_put){
            .id = d->id,
            .text = d->text.data,
            .text_length = d->text.size,
            .meta = (const unsigned char *)d->meta.data,
            .meta_length = d->meta.size,
            .vector = same ? NULL : t->vectors + document_cut_row(&t->cut, i) * dim,
            .cut = document_cut_of(&t->cut, i),
        };
        if (!with_second || same)
            continue;
        puts[i].second = t->second + document_cut_row(&t->second_cut, i) * second_dim;
        puts[i].second_cut = document_cut_of(&t->second_cut, i);
    }
    return puts;
}

static sem_status apply_upsert(core *c, task *t, store_write *w, write_result *r, sem_error *err)
{
    sem_status status = find_again(t, w, &r->collection, err);
    if (status != SEM_OK)
        return status;
    if (!r->collection.external && !is_current_space(c, t->serving))
        return sem_fail(err, SEM_CANCELLED, "encoded by a model that is no longer current");
    size_t dim = r->collection.external ? r->collection.dim : space_dim(t->serving->space);
    uint32_t space_no = r->collection.external ? STORE_SPACE_EXTERNAL : space_number(t->serving->space);
    /* The candidate may have been dropped since it was pinned: its space is then gone. */
    serving *candidate = serving_slot_acquire(&c->candidate);
    bool second = t->candidate != NULL && t->candidate == candidate && !serving_shares_space(candidate, t->serving);
    serving_release(candidate);
    uint32_t second_space = second ? space_number(t->candidate->space) : 0;
    size_t second_dim = second ? space_dim(t->candidate->space) : 0;
    r->count = t->request->u.upsert.count;
    r->puts = make_puts(t, dim, second_dim, second);
    if (r->puts == NULL)
        return sem_fail_memory(err, "a write");
    return store_documents_put(w, r->collection.number, space_no, dim, second_space, second_dim, r->puts, r->count,
                               &r->seq, err);
}

static sem_status apply_delete(task *t, store_write *w, write_result *r, sem_error *err)
{
    const request *q = t->request;
    sem_status status = find_again(t, w, &r->collection, err);
    if (status != SEM_OK)
        return status;
    r->docnos = checked_realloc(NULL, q->u.erase.count + 1, sizeof *r->docnos);
    if (r->docnos == NULL)
        return sem_fail_memory(err, "a delete");
    return store_documents_delete(w, r->collection.number, q->u.erase.ids, q->u.erase.count, r->docnos, &r->count,
                                  &r->seq, err);
}

static sem_status apply_create(task *t, store_write *w, write_result *r, sem_error *err)
{
    const request *q = t->request;
    store_collection *c = &r->collection;
    *c = (store_collection){
        .passage_tokens = q->u.create.passage_tokens,
        .passage_overlap = q->u.create.passage_overlap,
        .lexical = q->u.create.lexical,
        .weight_dense = q->u.create.weight_dense,
        .weight_lexical = q->u.create.weight_lexical,
        .metric = q->u.create.dot ? METRIC_DOT : METRIC_COSINE,
        .external = q->u.create.external,
        .dim = q->u.create.dim,
    };
    for (size_t i = 0; i < q->collection.size && i < STORE_NAME_MAX; i++)
        c->name[i] = q->collection.data[i];
    return store_collection_create(w, c, &r->flag, err);
}

static sem_status apply_drop(task *t, store_write *w, write_result *r, sem_error *err)
{
    const request *q = t->request;
    sem_status status =
        store_collection_find(store_write_view(w), q->collection.data, q->collection.size, &r->collection, err);
    return status == SEM_OK ? store_collection_drop(w, r->collection.number, err) : status;
}

static sem_status apply_click(core *c, task *t, store_write *w, sem_error *err)
{
    const request *q = t->request;
    return events_put_click(w, q->u.click.query_id.data, q->u.click.query_id.size, &q->u.click.id, q->u.click.weight,
                            clock_wall_ms(), (int64_t)c->settings.events.click_window_ms, err);
}

static sem_status apply_feedback(task *t, store_write *w, write_result *r, sem_error *err)
{
    const request *q = t->request;
    sem_status status = find_again(t, w, &r->collection, err);
    if (status != SEM_OK)
        return status;
    size_t count = q->u.feedback.count;
    event_feedback *pairs = checked_realloc(NULL, count + 1, sizeof *pairs);
    if (pairs == NULL)
        return sem_fail_memory(err, "feedback");
    int64_t now = clock_wall_ms();
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        const request_pair *p = &q->u.feedback.pairs[i];
        pairs[i] = (event_feedback){
            .time_ms = now,
            .collection = r->collection.number,
            .query = p->query.data,
            .query_length = p->query.size,
            .by_id = p->by_id,
            .id = p->id,
            .text = p->text.data,
            .text_length = p->text.size,
            .label = p->label,
        };
        store_document doc;
        bool found = true;
        if (p->by_id)
            status = store_document_get(store_write_view(w), r->collection.number, &p->id, &doc, &found, err);
        if (status == SEM_OK && !found)
            status = sem_fail(err, SEM_NOT_FOUND, "pairs[%zu].id: no such document in %s", i, r->collection.name);
    }
    r->count = count;
    if (status == SEM_OK)
        status = events_put_feedback(w, pairs, count, err);
    free(pairs);
    return status;
}

sem_status write_op_apply(core *c, task *t, store_write *w, write_result *r, sem_error *err)
{
    sem_status status = task_check_deadline(t, err);
    if (status != SEM_OK)
        return status;
    switch (t->request->method) {
    case METHOD_UPSERT: return apply_upsert(c, t, w, r, err);
    case METHOD_DELETE: return apply_delete(t, w, r, err);
    case METHOD_COLLECTION_CREATE: return apply_create(t, w, r, err);
    case METHOD_COLLECTION_DROP: return apply_drop(t, w, r, err);
    case METHOD_CLICK: return apply_click(c, t, w, err);
    case METHOD_FEEDBACK: return apply_feedback(t, w, r, err);
    default: return sem_fail(err, SEM_INTERNAL, "%s is no writing method", rpc_method_name(t->request->method));
    }
}

/* --- after the commit */

/* A committed vector that its index had no memory for is found again after the
 * next start; the log says so, because until then it is not. */
static void index_failed(core *c, const char *what, const sem_error *err)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(c->log, LOG_LEVEL_ERROR, "index_behind", "what=%s message=%s advice=\"restart to rebuild the index\"",
              what, log_value(text, sizeof text, err->message));
}

static void unindex_in(space *s, uint32_t collection, const uint32_t *docnos, size_t count)
{
    space_index *i = space_acquire(s, collection);
    for (size_t k = 0; i != NULL && k < count; k++)
        vector_index_remove(i->index, docnos[k]);
    space_index_release(i);
}

void write_ops_unindex(core *c, uint32_t collection, const uint32_t *docnos, size_t count)
{
    serving *now = serving_slot_acquire(&c->current), *next = serving_slot_acquire(&c->candidate);
    deletes_note(c->deletes, collection, docnos, count);
    filtering_remove(c, collection, docnos, count);
    if (now != NULL)
        unindex_in(now->space, collection, docnos, count);
    if (next != NULL && !serving_shares_space(next, now))
        unindex_in(next->space, collection, docnos, count);
    unindex_in(c->external, collection, docnos, count);
    serving_release(now);
    serving_release(next);
}

static sem_status index_put(vector_index *i, const store_put *put, bool second, sem_error *err)
{
    const store_cut *cut = second ? &put->second_cut : &put->cut;
    const float *vectors = second ? put->second : put->vector;
    if (cut->count > 0)
        return vector_index_put_passages(i, put->docno, cut->slots, vectors, cut->count, err);
    return vector_index_put_slot(i, put->docno, second ? put->second_slot : put->slot, vectors, err);
}

static void index_puts(core *c, space *s, const write_result *r, bool second)
{
    space_index *i = space_acquire(s, r->collection.number);
    if (i == NULL)
        return;
    sem_error err;
    for (size_t k = 0; k < r->count; k++) {
        const store_put *put = &r->puts[k];
        const float *vector = second ? put->second : put->vector;
        if (vector != NULL && index_put(i->index, put, second, &err) != SEM_OK)
            index_failed(c, "document", &err);
        /* The candidate's vector, if any, is of the old text. Of the same text it is the one that
         * its space names: the job would pass the document over and never bring it back. */
        if (vector == NULL && !put->kept)
            vector_index_remove(i->index, put->docno);
    }
    space_index_release(i);
}

static void finish_upsert(core *c, task *t, write_result *r)
{
    filtering_put(c, r->collection.number, r->puts, r->count);
    if (r->collection.external) {
        index_puts(c, c->external, r, false);
    } else {
        serving *now = serving_slot_acquire(&c->current), *next = serving_slot_acquire(&c->candidate);
        index_puts(c, now->space, r, false);
        if (next != NULL && !serving_shares_space(next, now))
            index_puts(c, next->space, r, true);
        serving_release(now);
        serving_release(next);
    }
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 3);
    pack_str(&a.pack, "upserted");
    pack_uint(&a.pack, r->count);
    pack_str(&a.pack, "truncated");
    pack_uint(&a.pack, t->truncated);
    pack_str(&a.pack, "seq");
    pack_uint(&a.pack, r->seq);
    answer_send(c, t, &a);
}

static void finish_delete(core *c, task *t, write_result *r)
{
    write_ops_unindex(c, r->collection.number, r->docnos, r->count);
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 2);
    pack_str(&a.pack, "deleted");
    pack_uint(&a.pack, r->count);
    pack_str(&a.pack, "seq");
    pack_uint(&a.pack, r->seq);
    answer_send(c, t, &a);
}

static void add_index(core *c, space *s, const store_collection *collection)
{
    sem_error err;
    if (space_add(s, collection, &err) != SEM_OK)
        index_failed(c, collection->name, &err);
}

static void finish_collection(core *c, task *t, write_result *r)
{
    bool create = t->request->method == METHOD_COLLECTION_CREATE;
    sem_error err;
    serving *now = serving_slot_acquire(&c->current), *next = serving_slot_acquire(&c->candidate);
    if (!create) {
        deletes_note_drop(c->deletes, r->collection.number);
        meta_catalog_drop(c->columns, r->collection.number);
    } else if (meta_catalog_add(c->columns, r->collection.number, &err) != SEM_OK)
        index_failed(c, r->collection.name, &err);
    space *spaces[3] = {c->external, now != NULL ? now->space : NULL, next != NULL ? next->space : NULL};
    for (int i = 0; i < 3; i++) {
        if (spaces[i] == NULL)
            continue;
        if (!create)
            space_drop(spaces[i], r->collection.number);
        else if (r->collection.external == (i == 0))
            add_index(c, spaces[i], &r->collection);
    }
    serving_release(now);
    serving_release(next);
    if (!create)
        lexical_thread_dropped(c->lexical);
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, create ? "created" : "dropped");
    pack_bool(&a.pack, create ? r->flag : true);
    answer_send(c, t, &a);
}

static void finish_logged(core *c, task *t, const write_result *r)
{
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, "logged");
    if (t->request->method == METHOD_CLICK)
        pack_bool(&a.pack, true);
    else
        pack_uint(&a.pack, r->count);
    answer_send(c, t, &a);
}

void write_op_finish(core *c, task *t, write_result *r)
{
    switch (t->request->method) {
    case METHOD_UPSERT: finish_upsert(c, t, r); break;
    case METHOD_DELETE: finish_delete(c, t, r); break;
    case METHOD_COLLECTION_CREATE:
    case METHOD_COLLECTION_DROP: finish_collection(c, t, r); break;
    default: finish_logged(c, t, r); break;
    }
}

void write_op_again(core *c, task *t)
{
    sem_error err;
    task_reset(t);
    t->whole = true;
    sem_status status = queue_push(c->work, QUEUE_SLOW, t);
    if (status == SEM_OK)
        return;
    sem_fail(&err, status,
             status == SEM_UNAVAILABLE ? "the daemon is shutting down" : "encode.queue: the queue is full");
    task_fail(c, t, &err);
}
