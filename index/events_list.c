/* The log as it is, for export: every event with the fields of its request. */
#include "index/event_record.h"

static size_t count_hits(event_hits h)
{
    event_hit hit;
    size_t count = 0;
    while (event_hit_next(&h, &hit))
        count++;
    return count;
}

static sem_status read_search(store_read *r, const MDB_val *value, event_listed *e, sem_error *err)
{
    event_search_view v;
    if (!event_record_search(value, &v))
        return environment_damaged(&r->s->events, "the record of a search", err);
    e->time_ms = v.time_ms;
    e->collection = v.collection;
    e->generation = v.generation;
    e->rival = v.rival;
    e->query_kind = v.kind;
    e->ranking = v.ranking;
    e->user_hash = v.user_hash;
    e->asked = v.asked;
    e->query_id = v.query_id;
    e->query_id_length = v.query_id_length;
    if (v.kind == QUERY_TEXT) {
        e->query = v.query;
        e->query_length = v.query_length;
    }
    e->by_id = v.kind == QUERY_LIKE && v.query_length > 0;
    if (e->by_id && !docid_from_key(v.query, v.query_length, &e->id))
        return environment_damaged(&r->s->events, "the id of a search by like", err);
    e->hits = (event_hits){v.shown, v.end};
    e->hit_count = count_hits(e->hits);
    return SEM_OK;
}

static sem_status read_click(store_read *r, MDB_txn *txn, const MDB_val *value, event_listed *e, sem_error *err)
{
    event_click_view v;
    event_search_view search;
    MDB_val record;
    bool found;
    if (!event_record_click(value, &v) || !docid_from_key(v.key, v.key_length, &e->id))
        return environment_damaged(&r->s->events, "the record of a click", err);
    sem_status status = event_record_at(r, txn, v.search, &record, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found || !event_record_search(&record, &search))
        return environment_damaged(&r->s->events, "the search of a click", err);
    e->time_ms = v.time_ms;
    e->by_id = true;
    e->rank = v.rank;
    e->weight = v.weight;
    e->query_id = search.query_id;
    e->query_id_length = search.query_id_length;
    return SEM_OK;
}

static sem_status read_feedback(store_read *r, const MDB_val *value, event_listed *e, sem_error *err)
{
    event_feedback_view v;
    if (!event_record_feedback(value, &v) || (v.by_id && !docid_from_key(v.rest, v.rest_length, &e->id)))
        return environment_damaged(&r->s->events, "the record of feedback", err);
    e->time_ms = v.time_ms;
    e->collection = v.collection;
    e->query = v.query;
    e->query_length = v.query_length;
    e->by_id = v.by_id;
    if (!v.by_id) {
        e->text = (const char *)v.rest;
        e->text_length = v.rest_length;
    }
    e->label = v.label;
    return SEM_OK;
}

static sem_status read_event(store_read *r, MDB_txn *txn, const MDB_val *value, event_listed *e, sem_error *err)
{
    switch (e->kind) {
    case EVENT_SEARCH: return read_search(r, value, e, err);
    case EVENT_CLICK: return read_click(r, txn, value, e, err);
    case EVENT_FEEDBACK: return read_feedback(r, value, e, err);
    }
    return environment_damaged(&r->s->events, "the kind of an event", err);
}

sem_status events_list(store_read *r, uint64_t after, unsigned kinds, size_t most, event_each *each, void *context,
                       uint64_t *last, bool *more, sem_error *err)
{
    static const char WHAT[] = "list events";
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = 0;
    *last = after;
    *more = false;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status == SEM_OK)
        status = table_after(&r->s->events, txn, r->s->event_log, after, WHAT, &cursor, &key, &value, err);
    if (status != SEM_OK || cursor == NULL)
        return status;
    for (; rc == 0 && status == SEM_OK && !*more; most--) {
        const unsigned char *record = value.mv_data;
        event_listed e = {0};
        if (key.mv_size != EVENT_SEQ || value.mv_size < EVENT_HEAD) {
            status = environment_damaged(&r->s->events, "the record of an event", err);
            break;
        }
        e.seq = get_u64(key.mv_data);
        e.kind = (event_kind)record[0];
        const bool wanted = most > 0 && (kinds & e.kind) != 0;
        if (wanted)
            status = read_event(r, txn, &value, &e, err);
        if (status != SEM_OK)
            break;
        *more = most == 0 || (wanted && !each(context, &e));
        if (!*more) {
            *last = e.seq;
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->events, WHAT, rc, err);
    return status;
}
