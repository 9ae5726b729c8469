/* Which events a rule names, and their removal with all that leads to them. */
#include "index/event_record.h"
#include "index/events_upkeep.h"

#include <stdlib.h>

enum {
    LOOKED_MAX = 20000, /* events of one snapshot, which takes some milliseconds */
    YOUNG_MAX = 1000    /* events in a row that are young enough end the search for old ones: they are in
                         * the order in which they were written, nearly that of their time */
};

static const char GONE[] = "judgements_gone"; /* in meta */

/* --- what a rule names */

typedef struct asking {
    store_read *r;
    MDB_txn *txn;
    const events_rule *rule;
    unsigned char key[DOCID_KEY_MAX]; /* of the rule's id */
    size_t key_length;
} asking;

static sem_status begin_asking(asking *a, store_read *r, const events_rule *rule, sem_error *err)
{
    *a = (asking){.r = r, .rule = rule};
    if (rule->kind == EVENTS_OF_DOCUMENT)
        a->key_length = docid_to_key(&rule->id, a->key);
    return read_txn(r, &r->s->events, &a->txn, err);
}

static bool is_the_id(const asking *a, const void *key, size_t length)
{
    return length == a->key_length && memcmp(key, a->key, length) == 0;
}

static bool shows_the_id(const asking *a, event_search_view search)
{
    const unsigned char *key;
    size_t length;
    while (event_record_shown(&search, &key, &length))
        if (is_the_id(a, key, length))
            return true;
    return false;
}

static bool is_like_the_id(const asking *a, const event_search_view *search)
{
    return search->kind == QUERY_LIKE && is_the_id(a, search->query, search->query_length);
}

/* Whether a click on the search is young enough to stay. */
static sem_status has_young_click(const asking *a, uint64_t search, bool *young, sem_error *err)
{
    const environment *e = &a->r->s->events;
    unsigned char first[EVENT_SEQ];
    MDB_cursor *cursor;
    MDB_val value, record;
    sem_status status = SEM_OK;
    put_u64(first, search);
    MDB_val key = as_value(first, sizeof first);
    *young = false;
    int rc = mdb_cursor_open(a->txn, a->r->s->clicks, &cursor);
    if (rc != 0)
        return environment_fail(e, "look for clicks", rc, err);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && status == SEM_OK && !*young && key.mv_size > EVENT_SEQ &&
           memcmp(key.mv_data, first, EVENT_SEQ) == 0) {
        event_click_view click;
        bool found;
        if (value.mv_size != EVENT_SEQ)
            status = environment_damaged(e, "a click's number", err);
        else
            status = event_record_at(a->r, a->txn, get_u64(value.mv_data), &record, &found, err);
        if (status == SEM_OK && (!found || !event_record_click(&record, &click)))
            status = environment_damaged(e, "the record of a click", err);
        if (status == SEM_OK)
            *young = click.time_ms >= a->rule->before_ms;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(e, "look for clicks", rc, err);
    return status;
}

static sem_status names_search(const asking *a, uint64_t seq, const MDB_val *value, bool *named, sem_error *err)
{
    event_search_view v;
    if (!event_record_search(value, &v))
        return environment_damaged(&a->r->s->events, "the record of a search", err);
    bool old = v.time_ms < a->rule->before_ms, young = false;
    sem_status status = SEM_OK;
    switch (a->rule->kind) {
    case EVENTS_OLDER:
        if (old)
            status = has_young_click(a, seq, &young, err);
        *named = old && !young;
        break;
    case EVENTS_OLDEST: *named = true; break;
    case EVENTS_BEFORE: *named = old; break;
    case EVENTS_OF_USER: *named = v.user_hash == a->rule->user_hash; break;
    case EVENTS_OF_DOCUMENT: *named = is_like_the_id(a, &v) || shows_the_id(a, v); break;
    }
    return status;
}

static sem_status names_feedback(const asking *a, const MDB_val *value, bool *named, sem_error *err)
{
    event_feedback_view v;
    if (!event_record_feedback(value, &v))
        return environment_damaged(&a->r->s->events, "the record of feedback", err);
    switch (a->rule->kind) {
    case EVENTS_OLDER:
    case EVENTS_BEFORE: *named = v.time_ms < a->rule->before_ms; break;
    case EVENTS_OLDEST: *named = true; break;
    case EVENTS_OF_USER: *named = false; break;
    case EVENTS_OF_DOCUMENT: *named = v.by_id && is_the_id(a, v.rest, v.rest_length); break;
    }
    return SEM_OK;
}

/* Clicks go with their search. */
static sem_status names(const asking *a, uint64_t seq, const MDB_val *value, bool *named, sem_error *err)
{
    *named = false;
    switch (*(const unsigned char *)value->mv_data) {
    case EVENT_SEARCH: return names_search(a, seq, value, named, err);
    case EVENT_FEEDBACK: return names_feedback(a, value, named, err);
    case EVENT_CLICK: return SEM_OK;
    default: return environment_damaged(&a->r->s->events, "the kind of an event", err);
    }
}

static sem_status look_at(const asking *a, const MDB_val *key, const MDB_val *value, size_t *young, events_due *out,
                          sem_error *err)
{
    bool named;
    if (key->mv_size != EVENT_SEQ || value->mv_size < EVENT_HEAD)
        return environment_damaged(&a->r->s->events, "the record of an event", err);
    const unsigned char *record = value->mv_data;
    out->last = get_u64(key->mv_data);
    *young = (int64_t)get_u64(record + 1) >= a->rule->before_ms ? *young + 1 : 0;
    if (*young == 0)
        out->old = out->last;
    sem_status status = names(a, out->last, value, &named, err);
    if (status == SEM_OK && named)
        out->seqs[out->count++] = out->last;
    return status;
}

sem_status events_find_due(store_read *r, const events_rule *rule, uint64_t after, events_due *out, sem_error *err)
{
    static const char WHAT[] = "look for events to remove";
    asking a;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    size_t looked = 0, young = 0;
    uint64_t bytes = 0;
    int rc = 0;
    *out = (events_due){.last = after, .old = after};
    sem_status status = begin_asking(&a, r, rule, err);
    if (status == SEM_OK)
        status = table_after(&r->s->events, a.txn, r->s->event_log, after, WHAT, &cursor, &key, &value, err);
    if (status != SEM_OK || cursor == NULL)
        return status;
    while (rc == 0 && status == SEM_OK) {
        out->more = out->count == EVENTS_DUE_MAX || looked++ == LOOKED_MAX ||
                    (rule->kind == EVENTS_OLDEST && bytes >= rule->bytes);
        if (out->more || (rule->kind == EVENTS_OLDER && young > YOUNG_MAX))
            break;
        bytes += key.mv_size + value.mv_size;
        status = look_at(&a, &key, &value, &young, out, err);
        if (status == SEM_OK)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->events, WHAT, rc, err);
    return status;
}

/* --- removal */

typedef struct removal {
    store *s;
    asking asking;
    uint64_t removed;
    uint64_t judgements; /* among them */
} removal;

static sem_status delete_event(removal *v, uint64_t seq, sem_error *err)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, seq);
    v->removed++;
    return table_delete(&v->s->events, v->asking.txn, v->s->event_log, number, sizeof number, err);
}

/* The first click on the search; false in *found when there is none. Its key is copied: what lies in
 * the table moves with the next change. */
static sem_status first_click(removal *v, uint64_t search, unsigned char *key, size_t *size, uint64_t *click,
                              bool *found, sem_error *err)
{
    MDB_cursor *cursor;
    unsigned char first[EVENT_SEQ];
    put_u64(first, search);
    MDB_val k = as_value(first, sizeof first), value;
    int rc = mdb_cursor_open(v->asking.txn, v->s->clicks, &cursor);
    if (rc != 0)
        return environment_fail(&v->s->events, "look for clicks", rc, err);
    rc = mdb_cursor_get(cursor, &k, &value, MDB_SET_RANGE);
    *found = rc == 0 && k.mv_size > EVENT_SEQ && memcmp(k.mv_data, first, EVENT_SEQ) == 0;
    bool damaged = *found && (value.mv_size != EVENT_SEQ || k.mv_size > EVENT_SEQ + DOCID_KEY_MAX);
    if (*found && !damaged) {
        *size = k.mv_size;
        memcpy(key, k.mv_data, k.mv_size);
        *click = get_u64(value.mv_data);
    }
    mdb_cursor_close(cursor);
    if (damaged)
        return environment_damaged(&v->s->events, "a click's number", err);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&v->s->events, "look for clicks", rc, err);
}

/* key: of the table of clicks. */
static sem_status delete_click(removal *v, const unsigned char *key, size_t size, uint64_t click, bool judges,
                               sem_error *err)
{
    v->judgements += judges;
    sem_status status = delete_event(v, click, err);
    return status != SEM_OK ? status : table_delete(&v->s->events, v->asking.txn, v->s->clicks, key, size, err);
}

static sem_status delete_search(removal *v, uint64_t seq, const event_search_view *search, sem_error *err)
{
    unsigned char key[EVENT_SEQ + DOCID_KEY_MAX];
    char query_id[QUERY_ID_MAX];
    const size_t id_length = search->query_id_length;
    const bool judges = search->kind == QUERY_TEXT;
    size_t size = 0;
    uint64_t click = 0;
    bool found = true;
    if (id_length > sizeof query_id)
        return environment_damaged(&v->s->events, "the record of a search", err);
    memcpy(query_id, search->query_id, id_length);
    sem_status status = SEM_OK;
    while (status == SEM_OK && found) {
        status = first_click(v, seq, key, &size, &click, &found, err);
        if (status == SEM_OK && found)
            status = delete_click(v, key, size, click, judges, err);
    }
    if (status == SEM_OK)
        status = table_delete(&v->s->events, v->asking.txn, v->s->queries, query_id, id_length, err);
    return status == SEM_OK ? delete_event(v, seq, err) : status;
}

/* Deletes the click on the rule's document, if there is one. */
static sem_status delete_click_on_id(removal *v, uint64_t search, bool judges, sem_error *err)
{
    unsigned char key[EVENT_SEQ + DOCID_KEY_MAX];
    MDB_val value;
    bool found;
    const size_t size = EVENT_SEQ + v->asking.key_length;
    put_u64(key, search);
    memcpy(key + EVENT_SEQ, v->asking.key, v->asking.key_length);
    sem_status status = table_get(&v->s->events, v->asking.txn, v->s->clicks, key, size, &value, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (value.mv_size != EVENT_SEQ)
        return environment_damaged(&v->s->events, "a click's number", err);
    return delete_click(v, key, size, get_u64(value.mv_data), judges, err);
}

/* The record without the rule's document; *left: documents that it still shows. out has room for the
 * record; *size what it takes. */
static void without_id(const asking *a, const MDB_val *value, event_search_view search, unsigned char *out,
                       size_t *size, size_t *left)
{
    static const unsigned char nothing[EVENT_SHOWN_FIXED] = {0};
    const unsigned char *key, *from = value->mv_data, *entry = search.shown;
    size_t length, used = (size_t)(search.shown - from);
    memcpy(out, from, used);
    *left = 0;
    while (event_record_shown(&search, &key, &length)) {
        bool erased = length == 0 || is_the_id(a, key, length);
        size_t bytes = EVENT_SHOWN_FIXED + (erased ? 0 : length);
        memcpy(out + used, erased ? nothing : entry, bytes);
        used += bytes;
        *left += !erased;
        entry = search.shown;
    }
    *size = used;
}

static sem_status erase_shown(removal *v, uint64_t seq, const MDB_val *value, const event_search_view *search,
                              sem_error *err)
{
    size_t size, left;
    unsigned char number[EVENT_SEQ], *record = malloc(value->mv_size);
    if (record == NULL)
        return sem_fail_memory(err, "a search");
    without_id(&v->asking, value, *search, record, &size, &left);
    sem_status status;
    if (left == 0) {
        status = delete_search(v, seq, search, err);
    } else {
        const bool judges = search->kind == QUERY_TEXT;
        put_u64(number, seq);
        status = table_put(&v->s->events, v->asking.txn, v->s->event_log, number, sizeof number, record, size, err);
        v->removed++;
        if (status == SEM_OK)
            status = delete_click_on_id(v, seq, judges, err);
    }
    free(record);
    return status;
}

static sem_status remove_one(removal *v, uint64_t seq, sem_error *err)
{
    MDB_val value;
    event_search_view search;
    bool found, named;
    sem_status status = event_record_at(v->asking.r, v->asking.txn, seq, &value, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (value.mv_size < EVENT_HEAD)
        return environment_damaged(&v->s->events, "the record of an event", err);
    status = names(&v->asking, seq, &value, &named, err);
    if (status != SEM_OK || !named)
        return status;
    if (!event_record_search(&value, &search)) {
        v->judgements++;
        return delete_event(v, seq, err);
    }
    bool whole = v->asking.rule->kind != EVENTS_OF_DOCUMENT || is_like_the_id(&v->asking, &search);
    return whole ? delete_search(v, seq, &search, err) : erase_shown(v, seq, &value, &search, err);
}

static sem_status count_gone(removal *v, sem_error *err)
{
    const environment *e = &v->s->events;
    uint64_t left, gone;
    if (v->judgements == 0)
        return SEM_OK;
    sem_status status = meta_get(e, v->asking.txn, "judgements", &left, err);
    if (status == SEM_OK)
        status = meta_get(e, v->asking.txn, GONE, &gone, err);
    if (status == SEM_OK && left < v->judgements)
        status = environment_damaged(e, "the count of judgements", err);
    if (status == SEM_OK)
        status = meta_put(e, v->asking.txn, "judgements", left - v->judgements, err);
    return status == SEM_OK ? meta_put(e, v->asking.txn, GONE, gone + v->judgements, err) : status;
}

sem_status events_remove_due(store_write *w, const events_rule *rule, const events_due *due, uint64_t *removed,
                             sem_error *err)
{
    removal v = {.s = w->s};
    *removed = 0;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = begin_asking(&v.asking, &w->view, rule, err);
    for (size_t i = 0; i < due->count && status == SEM_OK; i++)
        status = remove_one(&v, due->seqs[i], err);
    if (status == SEM_OK)
        status = count_gone(&v, err);
    status = operation_end(w, status, err);
    *removed = status == SEM_OK ? v.removed : 0;
    return status;
}

sem_status events_judgements_ever(store_read *r, uint64_t *count, sem_error *err)
{
    MDB_txn *txn;
    uint64_t left, gone;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status == SEM_OK)
        status = meta_get(&r->s->events, txn, "judgements", &left, err);
    if (status == SEM_OK)
        status = meta_get(&r->s->events, txn, GONE, &gone, err);
    if (status == SEM_OK)
        *count = left + gone;
    return status;
}
