/* Events, and the two tables that lead to them. Records are read here by themselves, not with event_record.c: what
 * that writes and reads back wrongly in the same way would pass else. */
#include "base/docid.h"
#include "index/events.h"
#include "index/store_verify.h"

#include <inttypes.h>

/* The form of records: docs/format.md, "events". */
enum {
    HEAD = 9,
    SEARCH_FIXED = 31,
    CLICK_FIXED = 29,
    FEEDBACK_FIXED = 19,
    SHOWN_FIXED = 6,
    RIVAL = 4,
    RIVAL_BIT = 0x80,
    ASKED = 17,
    ASKED_BIT = 4,
    QUERY_BITS = 3,
    WITH_END = 32 /* of the byte with what was asked for with each hit */
};
#define LEFT_OUT (UINT32_C(1) << 31)

typedef struct event_counts {
    uint64_t searches, clicks, judgements, last;
} event_counts;

typedef struct event_walk {
    verify *v;
    MDB_txn *txn;
    event_counts n;
} event_walk;

static sem_status look_up(event_walk *w, MDB_dbi dbi, const void *key, size_t size, MDB_val *value, bool *found,
                          sem_error *err)
{
    return table_get(&w->v->s.events, w->txn, dbi, key, size, value, found, err);
}

/* A table's entry that leads to event seq. */
static bool leads_to(const MDB_val *value, bool found, uint64_t seq)
{
    return found && value->mv_size == 8 && get_u64(value->mv_data) == seq;
}

/* Where the fields of the request stand, with ASKED_BIT. */
static size_t asked_from(const unsigned char *p)
{
    return (size_t)SEARCH_FIXED + p[26] + get_u32(p + 27) + (p[17] & RIVAL_BIT ? RIVAL : 0);
}

static bool asked_is_whole(const unsigned char *p, size_t size)
{
    const size_t at = asked_from(p);
    if (!(p[17] & ASKED_BIT))
        return true;
    if (at > size || size - at < ASKED || get_u32(p + at) == 0 || p[at + 4] >= WITH_END)
        return false;
    const uint32_t filter = get_u32(p + at + 13);
    return (filter & LEFT_OUT) != 0 || filter <= size - at - ASKED;
}

/* Where what was shown begins, and the length of the key of what is shown at a place. */
static size_t shown_from(const unsigned char *p)
{
    const size_t at = asked_from(p);
    if (!(p[17] & ASKED_BIT))
        return at;
    const uint32_t filter = get_u32(p + at + 13);
    return at + ASKED + ((filter & LEFT_OUT) != 0 ? 0 : filter);
}

static size_t key_length(const unsigned char *p, size_t at)
{
    return (size_t)(p[at + 4] & ~RIVAL_BIT) << 8 | p[at + 5];
}

/* A rival has a number, and hits only where there is one. */
static bool rival_is_possible(const unsigned char *p, size_t size)
{
    const bool has_rival = (p[17] & RIVAL_BIT) != 0;
    if (has_rival)
        return asked_from(p) <= size && get_u32(p + asked_from(p) - RIVAL) != 0;
    for (size_t at = shown_from(p); at < size && size - at >= SHOWN_FIXED; at += SHOWN_FIXED + key_length(p, at))
        if (p[at + 4] & RIVAL_BIT)
            return false;
    return true;
}

static bool search_is_whole(const unsigned char *p, size_t size)
{
    if (size < SEARCH_FIXED || (p[17] & 15 & ~ASKED_BIT) > QUERY_LIKE || (p[17] & ~RIVAL_BIT) >> 4 > RANKING_HYBRID ||
        p[26] == 0 || p[26] > QUERY_ID_MAX)
        return false;
    if (!asked_is_whole(p, size) || !rival_is_possible(p, size))
        return false;
    size_t at = shown_from(p);
    while (at < size && size - at >= SHOWN_FIXED)
        at += SHOWN_FIXED + key_length(p, at);
    return at == size;
}

/* The rank of an id among what a search showed, from 1; 0: it was not shown. */
static uint32_t rank_of(const unsigned char *p, size_t size, const void *id, size_t length)
{
    uint32_t rank = 0;
    for (size_t at = shown_from(p); at + SHOWN_FIXED <= size; rank++) {
        size_t n = key_length(p, at);
        if (n == length && memcmp(p + at + SHOWN_FIXED, id, n) == 0)
            return rank + 1;
        at += SHOWN_FIXED + n;
    }
    return 0;
}

static sem_status check_search(event_walk *w, uint64_t seq, const unsigned char *p, size_t size, sem_error *err)
{
    MDB_val value;
    bool found;
    w->n.searches++;
    if (!search_is_whole(p, size)) {
        verify_report(w->v, "events: search %" PRIu64 " is damaged", seq);
        return SEM_OK;
    }
    sem_status status = look_up(w, w->v->s.queries, p + SEARCH_FIXED, p[26], &value, &found, err);
    if (status == SEM_OK && !leads_to(&value, found, seq))
        verify_report(w->v, "events: the query_id %.*s of search %" PRIu64 " does not lead to it", (int)p[26],
                      (const char *)p + SEARCH_FIXED, seq);
    return status;
}

static sem_status check_click(event_walk *w, uint64_t seq, const unsigned char *p, size_t size, sem_error *err)
{
    unsigned char key[8 + DOCID_KEY_MAX];
    MDB_val value, search;
    bool found, there;
    size_t length = size - CLICK_FIXED;
    w->n.clicks++;
    if (size <= CLICK_FIXED || length > DOCID_KEY_MAX) {
        verify_report(w->v, "events: click %" PRIu64 " is damaged", seq);
        return SEM_OK;
    }
    memcpy(key, p + HEAD, 8);
    memcpy(key + 8, p + CLICK_FIXED, length);
    sem_status status = look_up(w, w->v->s.clicks, key, 8 + length, &value, &found, err);
    if (status == SEM_OK)
        status = look_up(w, w->v->s.event_log, key, 8, &search, &there, err);
    if (status != SEM_OK)
        return status;
    if (!leads_to(&value, found, seq))
        verify_report(w->v, "events: click %" PRIu64 " is not found by its search and document", seq);
    const unsigned char *q = there ? search.mv_data : NULL;
    if (!there || search.mv_size == 0 || q[0] != EVENT_SEARCH || !search_is_whole(q, search.mv_size)) {
        verify_report(w->v, "events: click %" PRIu64 " is of event %" PRIu64 ", which is no search", seq, get_u64(key));
        return SEM_OK;
    }
    uint32_t rank = rank_of(q, search.mv_size, p + CLICK_FIXED, length);
    if (rank == 0 || rank != get_u32(p + 17))
        verify_report(w->v, "events: click %" PRIu64 " has rank %u, search %" PRIu64 " showed its document at %u", seq,
                      get_u32(p + 17), get_u64(key), rank);
    w->n.judgements += (q[17] & QUERY_BITS) == QUERY_TEXT;
    return SEM_OK;
}

static void check_feedback(event_walk *w, uint64_t seq, const unsigned char *p, size_t size)
{
    docid id;
    w->n.judgements++;
    size_t query = size < FEEDBACK_FIXED ? 0 : get_u32(p + 15);
    if (size < FEEDBACK_FIXED + query || p[13] > 1 || p[14] > 1 ||
        (p[14] == 1 && !docid_from_key(p + FEEDBACK_FIXED + query, size - FEEDBACK_FIXED - query, &id)))
        verify_report(w->v, "events: feedback %" PRIu64 " is damaged", seq);
}

static sem_status check_event(event_walk *w, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    w->v->result.events++;
    if (key->mv_size != 8 || value->mv_size < HEAD) {
        verify_report(w->v, "events: an event is damaged");
        return SEM_OK;
    }
    uint64_t seq = get_u64(key->mv_data);
    w->n.last = seq;
    switch (p[0]) {
    case EVENT_SEARCH: return check_search(w, seq, p, value->mv_size, err);
    case EVENT_CLICK: return check_click(w, seq, p, value->mv_size, err);
    case EVENT_FEEDBACK: check_feedback(w, seq, p, value->mv_size); return SEM_OK;
    default: verify_report(w->v, "events: event %" PRIu64 " is of kind %u, which there is not", seq, p[0]);
    }
    return SEM_OK;
}

static sem_status compare(event_walk *w, sem_error *err)
{
    verify *v = w->v;
    MDB_stat queries = {0}, clicks = {0};
    uint64_t seq = 0, judgements = 0;
    int rc = v->s.queries != 0 ? mdb_stat(w->txn, v->s.queries, &queries) : 0;
    if (rc == 0 && v->s.clicks != 0)
        rc = mdb_stat(w->txn, v->s.clicks, &clicks);
    if (rc != 0)
        return environment_fail(&v->s.events, "count its tables", rc, err);
    sem_status status = meta_get(&v->s.events, w->txn, "seq", &seq, err);
    if (status == SEM_OK)
        status = meta_get(&v->s.events, w->txn, "judgements", &judgements, err);
    if (status != SEM_OK)
        return status;
    if (w->n.last > seq)
        verify_report(v, "events: the last has seq %" PRIu64 ", meta says %" PRIu64, w->n.last, seq);
    if (queries.ms_entries != w->n.searches)
        verify_report(v, "events: %zu query_ids lead to %" PRIu64 " searches", queries.ms_entries, w->n.searches);
    if (clicks.ms_entries != w->n.clicks)
        verify_report(v, "events: %zu entries of clicks lead to %" PRIu64 " clicks", clicks.ms_entries, w->n.clicks);
    if (judgements != w->n.judgements)
        verify_report(v, "events: meta counts %" PRIu64 " judgements, there are %" PRIu64, judgements, w->n.judgements);
    return SEM_OK;
}

sem_status verify_events(verify *v, sem_error *err)
{
    event_walk w = {.v = v};
    MDB_cursor *cursor;
    MDB_val key, value;
    if (v->s.event_log == 0) /* lost, or not made yet */
        return SEM_OK;
    sem_status status = read_txn(&v->r, &v->s.events, &w.txn, err);
    if (status != SEM_OK)
        return status;
    size_t left;
    int rc = verify_cursor(&v->s.events, w.txn, v->s.event_log, &cursor, &left);
    if (rc != 0)
        return environment_fail(&v->s.events, "verify events", rc, err);
    while (status == SEM_OK && (rc = verify_next(cursor, &left, &key, &value)) == 0)
        status = check_event(&w, &key, &value, err);
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != MDB_NOTFOUND)
        status = environment_fail(&v->s.events, "verify events", rc, err);
    return status == SEM_OK ? compare(&w, err) : status;
}
