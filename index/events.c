#include "index/events.h"

#include "base/hash.h"
#include "base/random.h"
#include "index/event_record.h"

#include <stdlib.h>

enum { CLICK_KEY_MAX = 8 + DOCID_KEY_MAX, EVENT_OVERHEAD = 256 /* bytes in the tables, a guess for the limits */ };

bool query_id_make(char out[QUERY_ID_LENGTH + 1], int64_t now_ms)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[QUERY_ID_LENGTH / 2];
    /* Six bytes of time keep ids of one time together in the tree; ten cannot be guessed. */
    for (int i = 0; i < 6; i++)
        bytes[i] = (unsigned char)((uint64_t)now_ms >> (40 - 8 * i));
    if (!random_bytes(bytes + 6, sizeof bytes - 6))
        return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[QUERY_ID_LENGTH] = '\0';
    return true;
}

uint64_t event_user_hash(const store *s, const void *user, size_t size)
{
    uint64_t hash = hash_keyed(store_user_key(s), user, size);
    return hash != 0 ? hash : 1; /* 0 means that none was given */
}

static uint32_t float_bits(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static uint64_t double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* --- writing */

/* Appends a record under the next number; *p gets `size` bytes to fill in at once. */
static sem_status append(store_write *w, MDB_txn *txn, size_t size, uint64_t *seq, unsigned char **p, sem_error *err)
{
    store *s = w->s;
    unsigned char number[EVENT_SEQ];
    sem_status status = operation_room(w, &s->events, size + size / 2 + EVENT_OVERHEAD, size, err);
    if (status == SEM_OK)
        status = meta_next(&s->events, txn, "seq", UINT64_MAX, seq, err);
    if (status != SEM_OK)
        return status;
    put_u64(number, *seq);
    MDB_val key = as_value(number, sizeof number), value = {.mv_size = size};
    int rc = mdb_put(txn, s->event_log, &key, &value, MDB_RESERVE | MDB_APPEND);
    if (rc != 0)
        return environment_fail(&s->events, "log an event", rc, err);
    *p = value.mv_data;
    return SEM_OK;
}

static sem_status count_judgements(store_write *w, MDB_txn *txn, int64_t change, sem_error *err)
{
    uint64_t count;
    sem_status status = meta_get(&w->s->events, txn, "judgements", &count, err);
    return status != SEM_OK ? status : meta_put(&w->s->events, txn, "judgements", count + (uint64_t)change, err);
}

static unsigned char *put_head(unsigned char *p, event_kind kind, int64_t time_ms)
{
    p[0] = (unsigned char)kind;
    put_u64(p + 1, (uint64_t)time_ms);
    return p + EVENT_HEAD;
}

static void copy(unsigned char **p, const void *data, size_t size)
{
    if (size > 0)
        memcpy(*p, data, size);
    *p += size;
}

/* What stands in the place of the query: its text, or the id that it is like. */
typedef struct query_bytes {
    const void *data;
    size_t size;
    unsigned char key[DOCID_KEY_MAX];
} query_bytes;

/* Of what event_asked takes, with k 0 (nobody has asked so) nothing. */
static size_t asked_size(const event_asked *a)
{
    return a->k == 0 ? 0 : EVENT_ASKED_FIXED + (a->filter_size <= EVENT_FILTER_MAX ? a->filter_size : 0);
}

static void put_asked(unsigned char **p, const event_asked *a)
{
    const bool left_out = a->filter_size > EVENT_FILTER_MAX;
    if (a->k == 0)
        return;
    put_u32(*p, a->k);
    (*p)[4] = (unsigned char)((unsigned)a->effort | a->with << EVENT_EFFORT_BITS);
    put_u64(*p + 5, double_bits(a->measure));
    put_u32(*p + 13, (uint32_t)a->filter_size | (left_out ? EVENT_FILTER_LEFT_OUT : 0));
    *p += EVENT_ASKED_FIXED;
    copy(p, a->filter, left_out ? 0 : a->filter_size);
}

static void fill_search(unsigned char *p, const event_search *e, const query_bytes *query, size_t id_length)
{
    p = put_head(p, EVENT_SEARCH, e->time_ms);
    put_u32(p, e->collection);
    put_u32(p + 4, e->generation);
    p[8] = (unsigned char)(e->kind | (unsigned)e->ranking << EVENT_QUERY_BITS | (e->rival != 0 ? EVENT_HAS_RIVAL : 0) |
                           (e->asked.k != 0 ? EVENT_HAS_ASKED : 0));
    put_u64(p + 9, e->user_hash);
    p[17] = (unsigned char)id_length;
    put_u32(p + 18, (uint32_t)query->size);
    p += EVENT_SEARCH_FIXED - EVENT_HEAD;
    copy(&p, e->query_id, id_length);
    copy(&p, query->data, query->size);
    if (e->rival != 0) {
        put_u32(p, e->rival);
        p += EVENT_RIVAL;
    }
    put_asked(&p, &e->asked);
    for (size_t i = 0; i < e->shown_count; i++) {
        unsigned char key[DOCID_KEY_MAX];
        size_t length = docid_to_key(&e->shown[i], key);
        put_u32(p, float_bits(e->scores[i]));
        p[4] = (unsigned char)(length >> 8 | (e->rival != 0 && e->rivals[i] ? EVENT_OF_RIVAL : 0));
        p[5] = (unsigned char)length;
        p += EVENT_SHOWN_FIXED;
        copy(&p, key, length);
    }
}

static sem_status put_search(store_write *w, const event_search *e, const query_bytes *query, size_t id_length,
                             size_t size, sem_error *err)
{
    store *s = w->s;
    MDB_txn *txn;
    MDB_val value;
    bool taken;
    uint64_t seq;
    unsigned char *p, number[EVENT_SEQ];
    sem_status status = read_txn(&w->view, &s->events, &txn, err);
    if (status == SEM_OK)
        status = table_get(&s->events, txn, s->queries, e->query_id, id_length, &value, &taken, err);
    if (status == SEM_OK && taken)
        status = sem_fail(err, SEM_ALREADY_EXISTS, "query_id %s is taken", e->query_id);
    if (status == SEM_OK)
        status = append(w, txn, size, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    fill_search(p, e, query, id_length);
    put_u64(number, seq);
    return table_put(&s->events, txn, s->queries, e->query_id, id_length, number, sizeof number, err);
}

static bool id_is_possible(const docid *id)
{
    return id->is_integer || (id->length >= 1 && id->length <= DOCID_STRING_MAX);
}

static sem_status find_query(const event_search *e, query_bytes *out, sem_error *err)
{
    *out = (query_bytes){0};
    if (e->kind == QUERY_TEXT) {
        out->data = e->query;
        out->size = e->query_length;
    } else if (e->kind == QUERY_LIKE && id_is_possible(&e->like)) {
        out->data = out->key;
        out->size = docid_to_key(&e->like, out->key);
    }
    if (out->size > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a query of %zu bytes is too long to log", out->size);
    return SEM_OK;
}

static sem_status check_and_put(store_write *w, const event_search *e, sem_error *err)
{
    query_bytes query;
    size_t id_length = strlen(e->query_id);
    if (id_length == 0 || id_length > QUERY_ID_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query_id has %zu bytes, 1 to %d are possible", id_length,
                        QUERY_ID_MAX);
    sem_status status = find_query(e, &query, err);
    if (status != SEM_OK)
        return status;
    if (e->asked.filter_size >= EVENT_FILTER_LEFT_OUT)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a filter of %zu bytes is too long to log", e->asked.filter_size);
    size_t size = EVENT_SEARCH_FIXED + id_length + query.size + (e->rival != 0 ? EVENT_RIVAL : 0);
    size += asked_size(&e->asked);
    for (size_t i = 0; i < e->shown_count; i++)
        size += EVENT_SHOWN_FIXED + (e->shown[i].is_integer ? 9 : 1 + e->shown[i].length);
    return put_search(w, e, &query, id_length, size, err);
}

sem_status events_put_searches(store_write *w, const event_search *const *searches, size_t count, sem_error *err)
{
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = check_and_put(w, searches[i], err);
    return operation_end(w, status, err);
}

/* --- clicks */

typedef struct click_place {
    uint64_t search; /* its number */
    uint32_t rank;   /* from 1 */
    query_kind kind;
    unsigned char key[CLICK_KEY_MAX]; /* of the table of clicks: number and id */
    size_t key_length;
} click_place;

static sem_status find_search(store_read *r, MDB_txn *txn, const char *query_id, size_t length, uint64_t *seq,
                              event_search_view *out, sem_error *err)
{
    store *s = r->s;
    MDB_val value;
    bool found = false;
    sem_status status = SEM_OK;
    if (length > 0 && length <= QUERY_ID_MAX)
        status = table_get(&s->events, txn, s->queries, query_id, length, &value, &found, err);
    if (status == SEM_OK && found) {
        if (value.mv_size != EVENT_SEQ)
            return environment_damaged(&s->events, "a query's number", err);
        *seq = get_u64(value.mv_data);
        status = event_record_at(r, txn, *seq, &value, &found, err);
    }
    if (status != SEM_OK)
        return status;
    if (!found)
        return sem_fail(err, SEM_NOT_FOUND, "query_id is unknown; it must be one that a search returned");
    return event_record_search(&value, out) ? SEM_OK : environment_damaged(&s->events, "the record of a search", err);
}

static sem_status locate_click(store_read *r, MDB_txn *txn, const char *query_id, size_t length, const docid *id,
                               int64_t oldest_ms, click_place *out, sem_error *err)
{
    event_search_view search;
    sem_status status = find_search(r, txn, query_id, length, &out->search, &search, err);
    if (status != SEM_OK)
        return status;
    if (search.time_ms < oldest_ms)
        return sem_fail(err, SEM_NOT_FOUND, "query_id is older than events.click_window allows");
    put_u64(out->key, out->search);
    size_t id_length = docid_to_key(id, out->key + EVENT_SEQ), key_length;
    out->key_length = EVENT_SEQ + id_length;
    out->kind = search.kind;
    out->rank = 0;
    const unsigned char *key;
    while (event_record_shown(&search, &key, &key_length)) {
        out->rank++;
        if (key_length == id_length && memcmp(key, out->key + EVENT_SEQ, id_length) == 0)
            return SEM_OK;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "id was not among the %u that were shown for this query_id", out->rank);
}

/* Removes the earlier click on the same document of the same search. */
static sem_status remove_click(store_write *w, MDB_txn *txn, const click_place *at, bool *existed, sem_error *err)
{
    store *s = w->s;
    MDB_val value;
    unsigned char number[EVENT_SEQ];
    sem_status status = table_get(&s->events, txn, s->clicks, at->key, at->key_length, &value, existed, err);
    if (status != SEM_OK || !*existed)
        return status;
    if (value.mv_size != EVENT_SEQ)
        return environment_damaged(&s->events, "a click's number", err);
    memcpy(number, value.mv_data, EVENT_SEQ);
    return table_delete(&s->events, txn, s->event_log, number, sizeof number, err);
}

static sem_status put_click(store_write *w, const char *query_id, size_t length, const docid *id, double weight,
                            int64_t now_ms, int64_t window_ms, sem_error *err)
{
    store *s = w->s;
    MDB_txn *txn;
    click_place at;
    bool existed;
    uint64_t seq;
    unsigned char *p, number[EVENT_SEQ];
    sem_status status = read_txn(&w->view, &s->events, &txn, err);
    if (status == SEM_OK)
        status = locate_click(&w->view, txn, query_id, length, id, now_ms - window_ms, &at, err);
    if (status == SEM_OK)
        status = remove_click(w, txn, &at, &existed, err);
    if (status == SEM_OK && !existed && at.kind == QUERY_TEXT)
        status = count_judgements(w, txn, 1, err);
    if (status == SEM_OK)
        status = append(w, txn, EVENT_CLICK_FIXED + at.key_length - EVENT_SEQ, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    p = put_head(p, EVENT_CLICK, now_ms);
    put_u64(p, at.search);
    put_u32(p + 8, at.rank);
    put_u64(p + 12, double_bits(weight));
    memcpy(p + EVENT_CLICK_FIXED - EVENT_HEAD, at.key + EVENT_SEQ, at.key_length - EVENT_SEQ);
    put_u64(number, seq);
    return table_put(&s->events, txn, s->clicks, at.key, at.key_length, number, sizeof number, err);
}

sem_status events_put_click(store_write *w, const char *query_id, size_t query_id_length, const docid *id,
                            double weight, int64_t now_ms, int64_t window_ms, sem_error *err)
{
    if (!(weight >= 0.0 && weight <= 10.0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "weight is %g, 0 to 10 are possible", weight);
    if (!id_is_possible(id))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "id has %zu bytes, a string id has 1 to %d", id->length,
                        DOCID_STRING_MAX);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    return operation_end(w, put_click(w, query_id, query_id_length, id, weight, now_ms, window_ms, err), err);
}

/* --- feedback */

static sem_status check_feedback(const event_feedback *f, sem_error *err)
{
    if (f->label != 1 && f->label != -1)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "label is %d, 1 and -1 are possible", f->label);
    if (f->query_length > UINT32_MAX || (!f->by_id && f->text_length > UINT32_MAX))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a query or text of more than %u bytes cannot be logged",
                        UINT32_MAX);
    if (f->by_id && !id_is_possible(&f->id))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "id has %zu bytes, a string id has 1 to %d", f->id.length,
                        DOCID_STRING_MAX);
    return SEM_OK;
}

static sem_status put_pair(store_write *w, MDB_txn *txn, const event_feedback *f, sem_error *err)
{
    unsigned char *p, key[DOCID_KEY_MAX];
    uint64_t seq;
    sem_status status = check_feedback(f, err);
    if (status != SEM_OK)
        return status;
    size_t rest = f->by_id ? docid_to_key(&f->id, key) : f->text_length;
    status = append(w, txn, EVENT_FEEDBACK_FIXED + f->query_length + rest, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    p = put_head(p, EVENT_FEEDBACK, f->time_ms);
    put_u32(p, f->collection);
    p[4] = f->label > 0;
    p[5] = f->by_id;
    put_u32(p + 6, (uint32_t)f->query_length);
    p += EVENT_FEEDBACK_FIXED - EVENT_HEAD;
    copy(&p, f->query, f->query_length);
    copy(&p, f->by_id ? (const void *)key : f->text, rest);
    return SEM_OK;
}

sem_status events_put_feedback(store_write *w, const event_feedback *pairs, size_t count, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->events, &txn, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = put_pair(w, txn, &pairs[i], err);
    if (status == SEM_OK)
        status = count_judgements(w, txn, (int64_t)count, err);
    return operation_end(w, status, err);
}
