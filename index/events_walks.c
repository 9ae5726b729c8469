/* Walks over events: judgements for training, searches with what was shown and clicked. */
#include "base/checked.h"
#include "index/event_record.h"
#include "index/events_scan.h"

static size_t count_shown(event_search_view search)
{
    const unsigned char *key;
    size_t length, count = 0;
    while (event_record_shown(&search, &key, &length))
        count++;
    return count;
}

static sem_status click_judgement(store_read *r, MDB_txn *txn, const MDB_val *value, event_judgement *j, bool *use,
                                  sem_error *err)
{
    event_click_view click;
    event_search_view search;
    MDB_val record;
    bool found;
    *use = false;
    if (!event_record_click(value, &click))
        return environment_damaged(&r->s->events, "the record of a click", err);
    sem_status status = event_record_at(r, txn, click.search, &record, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (!event_record_search(&record, &search) || !docid_from_key(click.key, click.key_length, &j->id))
        return environment_damaged(&r->s->events, "the record of a search", err);
    j->time_ms = click.time_ms;
    j->collection = search.collection;
    j->query = search.query;
    j->query_length = search.query_length;
    j->by_id = true;
    j->weight = click.weight;
    j->rank = click.rank;
    j->generation = search.generation;
    j->user_hash = search.user_hash;
    j->search = click.search;
    j->rival = search.rival;
    j->of_rival = event_record_of_rival(search, click.rank);
    j->above = (event_above){search.shown, search.end, click.rank > 0 ? click.rank - 1 : 0};
    j->shown_count = count_shown(search);
    j->shown = (event_above){search.shown, search.end, (uint32_t)j->shown_count};
    *use = search.kind == QUERY_TEXT;
    return SEM_OK;
}

static sem_status feedback_judgement(store_read *r, const MDB_val *value, event_judgement *j, sem_error *err)
{
    event_feedback_view f;
    if (!event_record_feedback(value, &f))
        return environment_damaged(&r->s->events, "the record of feedback", err);
    j->time_ms = f.time_ms;
    j->collection = f.collection;
    j->weight = f.label;
    j->by_id = f.by_id;
    j->query = f.query;
    j->query_length = f.query_length;
    if (j->by_id && !docid_from_key(f.rest, f.rest_length, &j->id))
        return environment_damaged(&r->s->events, "the id in feedback", err);
    if (!j->by_id) {
        j->text = (const char *)f.rest;
        j->text_length = f.rest_length;
    }
    return SEM_OK;
}

static sem_status one_judgement(store_read *r, MDB_txn *txn, const MDB_val *key, const MDB_val *value,
                                event_each_judgement *each, void *context, bool *more, sem_error *err)
{
    event_judgement j = {0};
    bool use = false;
    sem_status status = SEM_OK;
    if (key->mv_size != EVENT_SEQ || value->mv_size < EVENT_HEAD)
        return environment_damaged(&r->s->events, "the record of an event", err);
    j.seq = get_u64(key->mv_data);
    int kind = *(const unsigned char *)value->mv_data;
    if (kind == EVENT_CLICK) {
        status = click_judgement(r, txn, value, &j, &use, err);
    } else if (kind == EVENT_FEEDBACK) {
        status = feedback_judgement(r, value, &j, err);
        use = true;
    } else if (kind != EVENT_SEARCH) {
        return environment_damaged(&r->s->events, "the kind of an event", err);
    }
    if (status == SEM_OK && use)
        *more = each(context, &j);
    return status;
}

sem_status events_judgements(store_read *r, uint64_t after, event_each_judgement *each, void *context, sem_error *err)
{
    static const char WHAT[] = "walk over events";
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    bool more = true;
    int rc = 0;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status == SEM_OK)
        status = table_after(&r->s->events, txn, r->s->event_log, after, WHAT, &cursor, &key, &value, err);
    if (status != SEM_OK || cursor == NULL)
        return status;
    while (rc == 0 && more) {
        status = one_judgement(r, txn, &key, &value, each, context, &more, err);
        if (status != SEM_OK)
            break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->events, WHAT, rc, err);
    return status;
}

sem_status events_last_queries(store_read *r, uint32_t collection, size_t most, event_each_query *each, void *context,
                               sem_error *err)
{
    static const char WHAT[] = "walk back over events";
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    bool more = true;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->event_log, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->events, WHAT, rc, err);
    while (more && most-- > 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV)) == 0) {
        event_search_view search;
        if (value.mv_size < EVENT_HEAD || *(const unsigned char *)value.mv_data != EVENT_SEARCH)
            continue;
        if (!event_record_search(&value, &search)) {
            status = environment_damaged(&r->s->events, "the record of a search", err);
            break;
        }
        if (search.collection == collection && search.kind == QUERY_TEXT && search.query_length > 0)
            more = each(context, search.query, search.query_length);
    }
    mdb_cursor_close(cursor);
    return status != SEM_OK || rc == 0 || rc == MDB_NOTFOUND ? status : environment_fail(&r->s->events, WHAT, rc, err);
}

sem_status events_last_seq(store_read *r, uint64_t *seq, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    return status != SEM_OK ? status : meta_get(&r->s->events, txn, "seq", seq, err);
}

sem_status events_judgement_count(store_read *r, uint64_t *count, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    return status != SEM_OK ? status : meta_get(&r->s->events, txn, "judgements", count, err);
}

/* --- searches with their clicks */

typedef struct search_walk {
    store_read *r;
    MDB_txn *txn;
    MDB_cursor *clicks;
    event_shown *shown; /* [capacity] of the search at hand */
    size_t capacity;
} search_walk;

static sem_status fill_shown(search_walk *w, event_search_view search, event_logged_search *out, sem_error *err)
{
    const unsigned char *key;
    size_t length, count = count_shown(search);
    if (count > w->capacity) {
        event_shown *grown = checked_realloc(w->shown, count, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "what a search has shown");
        w->shown = grown;
        w->capacity = count;
    }
    for (size_t i = 0; i < count && event_record_shown(&search, &key, &length); i++) {
        w->shown[i] = (event_shown){.erased = length == 0};
        if (length > 0 && !docid_from_key(key, length, &w->shown[i].id))
            return environment_damaged(&w->r->s->events, "the record of a search", err);
    }
    out->shown = w->shown;
    out->shown_count = count;
    return SEM_OK;
}

/* Marks what the click with this number is on, unless it was taken back. */
static sem_status mark_click(search_walk *w, const MDB_val *number, size_t shown_count, sem_error *err)
{
    MDB_val value;
    event_click_view click;
    bool found;
    if (number->mv_size != EVENT_SEQ)
        return environment_damaged(&w->r->s->events, "a click's number", err);
    sem_status status = event_record_at(w->r, w->txn, get_u64(number->mv_data), &value, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (!event_record_click(&value, &click))
        return environment_damaged(&w->r->s->events, "the record of a click", err);
    if (click.weight > 0 && click.rank > 0 && click.rank <= shown_count) {
        w->shown[click.rank - 1].clicked = true;
        w->shown[click.rank - 1].clicked_ms = click.time_ms;
        w->shown[click.rank - 1].click = get_u64(number->mv_data);
    }
    return SEM_OK;
}

static sem_status mark_clicks(search_walk *w, const event_logged_search *s, sem_error *err)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, s->seq);
    MDB_val key = as_value(number, sizeof number), value;
    int rc = mdb_cursor_get(w->clicks, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size > EVENT_SEQ && memcmp(key.mv_data, number, EVENT_SEQ) == 0) {
        sem_status status = mark_click(w, &value, s->shown_count, err);
        if (status != SEM_OK)
            return status;
        rc = mdb_cursor_get(w->clicks, &key, &value, MDB_NEXT);
    }
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&w->r->s->events, "walk over clicks", rc, err);
}

static sem_status one_search(search_walk *w, const MDB_val *key, const MDB_val *value, event_each_search *each,
                             void *context, bool *more, sem_error *err)
{
    event_search_view search;
    if (key->mv_size != EVENT_SEQ || value->mv_size < EVENT_HEAD)
        return environment_damaged(&w->r->s->events, "the record of an event", err);
    if (*(const unsigned char *)value->mv_data != EVENT_SEARCH)
        return SEM_OK;
    if (!event_record_search(value, &search))
        return environment_damaged(&w->r->s->events, "the record of a search", err);
    if (search.kind != QUERY_TEXT)
        return SEM_OK;
    event_logged_search s = {.seq = get_u64(key->mv_data),
                             .time_ms = search.time_ms,
                             .collection = search.collection,
                             .generation = search.generation,
                             .rival = search.rival,
                             .ranking = search.ranking,
                             .user_hash = search.user_hash,
                             .query = search.query,
                             .query_length = search.query_length};
    sem_status status = fill_shown(w, search, &s, err);
    if (status == SEM_OK)
        status = mark_clicks(w, &s, err);
    if (status == SEM_OK)
        *more = each(context, &s);
    return status;
}

static sem_status walk_searches(search_walk *w, MDB_cursor *cursor, event_each_search *each, void *context,
                                sem_error *err)
{
    MDB_val key, value;
    bool more = true;
    int rc = 0;
    while (more && (rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV)) == 0) {
        sem_status status = one_search(w, &key, &value, each, context, &more, err);
        if (status != SEM_OK)
            return status;
    }
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&w->r->s->events, "walk over searches", rc, err);
}

sem_status events_searches(store_read *r, event_each_search *each, void *context, sem_error *err)
{
    search_walk w = {.r = r};
    MDB_cursor *cursor;
    sem_status status = read_txn(r, &r->s->events, &w.txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(w.txn, r->s->event_log, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->events, "walk over searches", rc, err);
    rc = mdb_cursor_open(w.txn, r->s->clicks, &w.clicks);
    status = rc == 0 ? walk_searches(&w, cursor, each, context, err)
                     : environment_fail(&r->s->events, "walk over clicks", rc, err);
    mdb_cursor_close(w.clicks);
    mdb_cursor_close(cursor);
    free(w.shown);
    return status;
}

/* --- searches in pieces */

/* The event that a scan is at; MDB_NOTFOUND where none is left. */
static int scan_begin(MDB_cursor *cursor, const events_scan *scan, MDB_val *key, MDB_val *value)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, scan->at);
    *key = as_value(number, sizeof number);
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (!scan->backward)
        return rc;
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    if (rc == 0 && (key->mv_size != EVENT_SEQ || get_u64(key->mv_data) > scan->at))
        return mdb_cursor_get(cursor, key, value, MDB_PREV);
    return rc;
}

static sem_status scan_events(search_walk *w, MDB_cursor *cursor, events_scan *scan, size_t most,
                              event_each_search *each, void *context, sem_error *err)
{
    MDB_val key, value;
    bool more = true;
    int rc = scan_begin(cursor, scan, &key, &value);
    for (; rc == 0 && most > 0; most--) {
        sem_status status = one_search(w, &key, &value, each, context, &more, err);
        if (status != SEM_OK)
            return status;
        const uint64_t seq = get_u64(key.mv_data);
        scan->at = !more ? seq : scan->backward ? seq - 1 : seq + 1;
        if (!more)
            return SEM_OK;
        rc = mdb_cursor_get(cursor, &key, &value, scan->backward ? MDB_PREV : MDB_NEXT);
    }
    scan->ended = rc == MDB_NOTFOUND;
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&w->r->s->events, "scan of searches", rc, err);
}

sem_status events_scan_some(store_read *r, events_scan *scan, size_t most, event_each_search *each, void *context,
                            sem_error *err)
{
    search_walk w = {.r = r};
    MDB_cursor *cursor;
    sem_status status = read_txn(r, &r->s->events, &w.txn, err);
    if (status != SEM_OK)
        return status;
    scan->ended = false;
    int rc = mdb_cursor_open(w.txn, r->s->event_log, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->events, "scan of searches", rc, err);
    rc = mdb_cursor_open(w.txn, r->s->clicks, &w.clicks);
    status = rc == 0 ? scan_events(&w, cursor, scan, most, each, context, err)
                     : environment_fail(&r->s->events, "scan of clicks", rc, err);
    mdb_cursor_close(w.clicks);
    mdb_cursor_close(cursor);
    free(w.shown);
    return status;
}

/* The first event with a number from `seq` on; its time. */
static int event_from(MDB_cursor *cursor, uint64_t seq, uint64_t *found, int64_t *time_ms)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, seq);
    MDB_val key = as_value(number, sizeof number), value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc != 0)
        return rc;
    if (key.mv_size != EVENT_SEQ || value.mv_size < EVENT_HEAD)
        return MDB_CORRUPTED;
    *found = get_u64(key.mv_data);
    *time_ms = (int64_t)get_u64((const unsigned char *)value.mv_data + 1);
    return 0;
}

sem_status events_since(store_read *r, int64_t time_ms, uint64_t *seq, sem_error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->event_log, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->events, "search of a time", rc, err);
    uint64_t low = 0, high = 0; /* the answer is from low to high */
    rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    if (rc == 0 && key.mv_size == EVENT_SEQ)
        high = get_u64(key.mv_data) + 1;
    while (rc == 0 && low < high) {
        const uint64_t middle = low + (high - low) / 2;
        uint64_t found;
        int64_t time;
        rc = event_from(cursor, middle, &found, &time);
        if (rc == 0 && time < time_ms)
            low = found + 1;
        else if (rc == 0)
            high = middle;
    }
    mdb_cursor_close(cursor);
    *seq = low;
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&r->s->events, "search of a time", rc, err);
}
