/* What a search answers and what of it goes into the event log: hits as search or explain sends
 * them, out of one snapshot, and never one that was deleted before it goes out. */
#include "base/clock.h"
#include "index/events.h"
#include "daemon/document_pack.h"
#include "daemon/explanation.h"
#include "daemon/search.h"
#include "daemon/worker.h"
#include "daemon/writer.h"

#include <string.h>

static void pack_part(packer *p, const char *name, bool has, float score)
{
    if (!has)
        return;
    pack_str(p, name);
    pack_double(p, score);
}

/* passage: NULL where documents are not cut. */
static void pack_hit(search *s, packer *p, size_t at, const store_document *doc, const hit_passage *passage,
                     const float *vector)
{
    const bool drafted = s->drafted != NULL;
    const document_parts of = {.doc = doc, .with = s->request->u.search.with, .vector = vector, .dim = s->dim};
    hit_parts parts = s->parts != NULL ? s->parts[at] : (hit_parts){0};
    pack_map(p, 2 + document_entries(&of) + parts.has_dense + parts.has_lexical + (passage != NULL) + drafted);
    pack_str(p, "id");
    pack_id(p, &doc->id);
    pack_str(p, "score");
    pack_double(p, s->hits[at].score);
    if (drafted) {
        pack_str(p, "generation");
        pack_uint(p, (s->drafted[at] ? s->rival : s)->serving->generation);
    }
    pack_part(p, "dense", parts.has_dense, parts.dense);
    pack_part(p, "lexical", parts.has_lexical, parts.lexical);
    if (passage != NULL)
        document_pack_passage(p, passage->range);
    document_pack(p, &of);
}

static sem_status pack_one(search *s, packer *p, size_t at, const store_document *doc, sem_error *err)
{
    bool cut = s->collection.passage_tokens > 0, has_vector = false;
    hit_passage passage = {0};
    store_passage ignored;
    search *by = s->drafted != NULL && s->drafted[at] ? s->rival : s; /* whose vectors found it */
    sem_status status = cut ? search_hit_passage(by, at, doc, &passage, err) : SEM_OK;
    if (status == SEM_OK && (s->request->u.search.with & WITH_VECTOR))
        status = store_passage_get(s->worker->read, search_space(s), s->collection.number, doc->docno, passage.ordinal,
                                   s->found, s->dim, &ignored, &has_vector, err);
    if (status == SEM_OK)
        pack_hit(s, p, at, doc, cut ? &passage : NULL, has_vector ? s->found : NULL);
    return status;
}

/* For a hit's vector. */
static sem_status make_room(search *s, sem_error *err)
{
    s->dim = s->collection.external ? s->collection.dim : space_dim(s->serving->space);
    if (!(s->request->u.search.with & WITH_VECTOR) && s->collection.passage_tokens == 0)
        return SEM_OK;
    s->found = pool_take_array(s->worker->core->hooks.memory, s->dim, sizeof *s->found);
    return s->found != NULL ? SEM_OK : sem_fail_memory(err, "a vector");
}

static sem_status pack_hits(search *s, packer *p, docid *shown, sem_error *err)
{
    size_t limit = core_limits(s->worker->core).frame_bytes;
    sem_status room = make_room(s, err);
    if (room == SEM_OK && s->rival != NULL)
        room = make_room(s->rival, err);
    if (room != SEM_OK)
        return room;
    for (size_t i = 0; i < s->count; i++) {
        store_document doc;
        bool found;
        sem_status status =
            store_document_by_number(s->worker->read, s->collection.number, s->hits[i].docno, &doc, &found, err);
        if (status == SEM_OK && !found)
            status = sem_fail(err, SEM_INTERNAL, "document %u of %s vanished from a snapshot", s->hits[i].docno,
                              s->collection.name);
        if (status == SEM_OK)
            status = pack_one(s, p, i, &doc, err);
        if (status != SEM_OK)
            return status;
        shown[i] = doc.id;
        if (p->out->size > limit)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "k: the answer exceeds %zu bytes (limits.frame_bytes); ask for fewer hits or for less with "
                            "each",
                            limit);
    }
    return SEM_OK;
}

/* Sends, unless a hit was deleted meanwhile. A search by `like` depends on that document
 * too. record: of the search, or NULL; taken if it was sent. It must be with the writer
 * before the client can click. */
static sem_status send_hits(search *s, answer *a, search_record *record, sem_error *err)
{
    worker *w = s->worker;
    worker_shown shown = {.collection = s->collection.number};
    shown.docnos = pool_take_array(w->core->hooks.memory, s->count + 1, sizeof *shown.docnos);
    if (shown.docnos == NULL)
        return sem_fail_memory(err, "hits");
    for (size_t i = 0; i < s->count; i++)
        shown.docnos[shown.count++] = s->hits[i].docno;
    if (s->has_exclude)
        shown.docnos[shown.count++] = s->exclude;
    sem_status status = worker_sending(w, &shown, err);
    if (status == SEM_OK) {
        if (record != NULL)
            writer_log_search(w->core->writer, record);
        answer_send(w->core, s->task, a);
        worker_sent(w);
    }
    pool_give(shown.docnos);
    return status;
}

static sem_status answer_hits(search *s, sem_error *err)
{
    char query_id[QUERY_ID_LENGTH + 1];
    bool log = s->request->u.search.log;
    if (log && !query_id_make(query_id, clock_wall_ms()))
        return sem_fail(err, SEM_INTERNAL, "no random numbers for a query_id");
    docid *shown = pool_take_array(s->worker->core->hooks.memory, s->count, sizeof *shown);
    if (shown == NULL)
        return sem_fail_memory(err, "hits");
    answer a;
    answer_begin(&a, s->task);
    pack_map(&a.pack, 3);
    pack_str(&a.pack, "query_id");
    if (log)
        pack_str(&a.pack, query_id);
    else
        pack_nil(&a.pack);
    pack_str(&a.pack, "generation");
    pack_uint(&a.pack, s->serving->generation);
    pack_str(&a.pack, "hits");
    pack_array(&a.pack, s->count);
    search_record *record = NULL;
    sem_status status = pack_hits(s, &a.pack, shown, err);
    if (status == SEM_OK && log && (record = search_record_make(s, shown, query_id)) == NULL)
        status = sem_fail_memory(err, "the event log");
    pool_give(shown);
    if (status == SEM_OK)
        status = send_hits(s, &a, record, err);
    if (status != SEM_OK) {
        writer_free_record(record);
        answer_discard(&a);
    }
    return status;
}

static sem_status answer_explain(search *s, sem_error *err)
{
    explanation *x = s->explain;
    uint64_t began = clock_monotonic_ns();
    docid *shown = pool_take_array(s->worker->core->hooks.memory, s->count, sizeof *shown);
    if (shown == NULL)
        return sem_fail_memory(err, "hits");
    buffer hits = {0};
    packer p;
    pack_init(&p, &hits);
    pack_array(&p, s->count);
    sem_status status = pack_hits(s, &p, shown, err);
    if (status == SEM_OK && p.failed)
        status = sem_fail_memory(err, "an answer");
    pool_give(shown);
    if (status == SEM_OK) {
        answer a;
        x->ns[STEP_FETCH] = clock_monotonic_ns() - began;
        x->lexical = s->words;
        answer_begin(&a, s->task);
        explanation_pack(&a.pack, x, s->task, s->serving, &s->collection, &hits);
        status = send_hits(s, &a, NULL, err);
        if (status != SEM_OK)
            answer_discard(&a);
    }
    buffer_free(&hits);
    return status;
}

sem_status search_answer(search *s, sem_error *err)
{
    bool by_words = s->words != NULL && s->collection.passage_tokens > 0;
    sem_status status = by_words ? search_place_words(s, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    return s->explain != NULL ? answer_explain(s, err) : answer_hits(s, err);
}
