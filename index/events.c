#include "index/events.h"

#include "base/random.h"
#include "index/store_internal.h"

#include <stdlib.h>

/* The form of records: docs/format.md, "events". */
enum {
    HEAD = 9,                 /* kind u8, time i64 */
    SEARCH_FIXED = HEAD + 22, /* collection, generation u32, query kind u8, user u64, id length u8, query length u32 */
    CLICK_FIXED = HEAD + 20,  /* search seq u64, rank u32, weight f64 */
    FEEDBACK_FIXED = HEAD + 10, /* collection u32, label u8, by id u8, query length u32 */
    SHOWN_FIXED = 6,            /* score f32, key length u16 */
    SEQ = 8,
    CLICK_KEY_MAX = SEQ + DOCID_KEY_MAX,
    EVENT_OVERHEAD = 256 /* bytes in the tables, a guess for the limits */
};

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

static double bits_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* --- records as they lie in the table, borrowed from it */

typedef struct search_view {
    int64_t time_ms;
    uint32_t collection, generation;
    query_kind kind;
    uint64_t user_hash;
    const char *query_id;
    size_t query_id_length;
    const char *query;
    size_t query_length;
    const unsigned char *shown; /* count entries, walked by shown_next */
    const unsigned char *end;
} search_view;

static bool decode_search(const MDB_val *value, search_view *out)
{
    const unsigned char *p = value->mv_data, *end = p + value->mv_size;
    if (value->mv_size < SEARCH_FIXED || p[0] != EVENT_SEARCH || p[17] > QUERY_LIKE)
        return false;
    *out = (search_view){.time_ms = (int64_t)get_u64(p + 1),
                         .collection = get_u32(p + 9),
                         .generation = get_u32(p + 13),
                         .kind = (query_kind)p[17],
                         .user_hash = get_u64(p + 18),
                         .query_id_length = p[26],
                         .query_length = get_u32(p + 27),
                         .end = end};
    p += SEARCH_FIXED;
    if ((size_t)(end - p) < out->query_id_length + out->query_length)
        return false;
    out->query_id = (const char *)p;
    out->query = out->query_id + out->query_id_length;
    out->shown = p + out->query_id_length + out->query_length;
    return true;
}

/* The key form of the next document shown; false at the end (or where the record is cut). */
static bool shown_next(search_view *v, const unsigned char **key, size_t *length)
{
    if (v->end - v->shown < SHOWN_FIXED)
        return false;
    *length = (size_t)v->shown[4] << 8 | v->shown[5];
    if ((size_t)(v->end - v->shown) < SHOWN_FIXED + *length)
        return false;
    *key = v->shown + SHOWN_FIXED;
    v->shown += SHOWN_FIXED + *length;
    return true;
}

typedef struct click_view {
    int64_t time_ms;
    uint64_t search;
    uint32_t rank;
    double weight;
    const unsigned char *key;
    size_t key_length;
} click_view;

static bool decode_click(const MDB_val *value, click_view *out)
{
    const unsigned char *p = value->mv_data;
    if (value->mv_size <= CLICK_FIXED || p[0] != EVENT_CLICK)
        return false;
    *out = (click_view){.time_ms = (int64_t)get_u64(p + 1),
                        .search = get_u64(p + 9),
                        .rank = get_u32(p + 17),
                        .weight = bits_double(get_u64(p + 21)),
                        .key = p + CLICK_FIXED,
                        .key_length = value->mv_size - CLICK_FIXED};
    return true;
}

/* --- writing */

/* Appends a record under the next number; *p gets `size` bytes to fill in at once. */
static sem_status append(store_write *w, MDB_txn *txn, size_t size, uint64_t *seq, unsigned char **p, sem_error *err)
{
    store *s = w->s;
    unsigned char number[SEQ];
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
    return p + HEAD;
}

static void copy(unsigned char **p, const void *data, size_t size)
{
    if (size > 0)
        memcpy(*p, data, size);
    *p += size;
}

static void fill_search(unsigned char *p, const event_search *e, size_t id_length)
{
    p = put_head(p, EVENT_SEARCH, e->time_ms);
    put_u32(p, e->collection);
    put_u32(p + 4, e->generation);
    p[8] = (unsigned char)e->kind;
    put_u64(p + 9, e->user_hash);
    p[17] = (unsigned char)id_length;
    put_u32(p + 18, (uint32_t)e->query_length);
    p += SEARCH_FIXED - HEAD;
    copy(&p, e->query_id, id_length);
    copy(&p, e->query, e->query_length);
    for (size_t i = 0; i < e->shown_count; i++) {
        unsigned char key[DOCID_KEY_MAX];
        size_t length = docid_to_key(&e->shown[i], key);
        put_u32(p, float_bits(e->scores[i]));
        p[4] = (unsigned char)(length >> 8);
        p[5] = (unsigned char)length;
        p += SHOWN_FIXED;
        copy(&p, key, length);
    }
}

static sem_status put_search(store_write *w, const event_search *e, size_t id_length, size_t size, sem_error *err)
{
    store *s = w->s;
    MDB_txn *txn;
    MDB_val value;
    bool taken;
    uint64_t seq;
    unsigned char *p, number[SEQ];
    sem_status status = read_txn(&w->view, &s->events, &txn, err);
    if (status == SEM_OK)
        status = table_get(&s->events, txn, s->queries, e->query_id, id_length, &value, &taken, err);
    if (status == SEM_OK && taken)
        status = sem_fail(err, SEM_ALREADY_EXISTS, "query_id %s is taken", e->query_id);
    if (status == SEM_OK)
        status = append(w, txn, size, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    fill_search(p, e, id_length);
    put_u64(number, seq);
    return table_put(&s->events, txn, s->queries, e->query_id, id_length, number, sizeof number, err);
}

static sem_status check_and_put(store_write *w, const event_search *e, sem_error *err)
{
    size_t id_length = strlen(e->query_id);
    size_t query_length = e->kind == QUERY_TEXT ? e->query_length : 0;
    size_t size = SEARCH_FIXED + id_length + query_length;
    if (id_length == 0 || id_length > QUERY_ID_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query_id has %zu bytes, 1 to %d are possible", id_length,
                        QUERY_ID_MAX);
    if (query_length > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a query of %zu bytes is too long to log", query_length);
    for (size_t i = 0; i < e->shown_count; i++)
        size += SHOWN_FIXED + (e->shown[i].is_integer ? 9 : 1 + e->shown[i].length);
    event_search search = *e;
    search.query_length = query_length;
    return put_search(w, &search, id_length, size, err);
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

/* Reads the event with this number; *found false when there is none. */
static sem_status event_at(store_read *r, MDB_txn *txn, uint64_t seq, MDB_val *value, bool *found, sem_error *err)
{
    unsigned char number[SEQ];
    put_u64(number, seq);
    return table_get(&r->s->events, txn, r->s->event_log, number, sizeof number, value, found, err);
}

static sem_status find_search(store_read *r, MDB_txn *txn, const char *query_id, size_t length, uint64_t *seq,
                              search_view *out, sem_error *err)
{
    store *s = r->s;
    MDB_val value;
    bool found = false;
    sem_status status = SEM_OK;
    if (length > 0 && length <= QUERY_ID_MAX)
        status = table_get(&s->events, txn, s->queries, query_id, length, &value, &found, err);
    if (status == SEM_OK && found) {
        if (value.mv_size != SEQ)
            return environment_damaged(&s->events, "a query's number", err);
        *seq = get_u64(value.mv_data);
        status = event_at(r, txn, *seq, &value, &found, err);
    }
    if (status != SEM_OK)
        return status;
    if (!found)
        return sem_fail(err, SEM_NOT_FOUND, "query_id is unknown; it must be one that a search returned");
    return decode_search(&value, out) ? SEM_OK : environment_damaged(&s->events, "the record of a search", err);
}

static sem_status locate_click(store_read *r, MDB_txn *txn, const char *query_id, size_t length, const docid *id,
                               int64_t oldest_ms, click_place *out, sem_error *err)
{
    search_view search;
    sem_status status = find_search(r, txn, query_id, length, &out->search, &search, err);
    if (status != SEM_OK)
        return status;
    if (search.time_ms < oldest_ms)
        return sem_fail(err, SEM_NOT_FOUND, "query_id is older than events.click_window allows");
    put_u64(out->key, out->search);
    size_t id_length = docid_to_key(id, out->key + SEQ), key_length;
    out->key_length = SEQ + id_length;
    out->kind = search.kind;
    out->rank = 0;
    const unsigned char *key;
    while (shown_next(&search, &key, &key_length)) {
        out->rank++;
        if (key_length == id_length && memcmp(key, out->key + SEQ, id_length) == 0)
            return SEM_OK;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "id was not among the %u that were shown for this query_id", out->rank);
}

/* Removes the earlier click on the same document of the same search. */
static sem_status remove_click(store_write *w, MDB_txn *txn, const click_place *at, bool *existed, sem_error *err)
{
    store *s = w->s;
    MDB_val value;
    unsigned char number[SEQ];
    sem_status status = table_get(&s->events, txn, s->clicks, at->key, at->key_length, &value, existed, err);
    if (status != SEM_OK || !*existed)
        return status;
    if (value.mv_size != SEQ)
        return environment_damaged(&s->events, "a click's number", err);
    memcpy(number, value.mv_data, SEQ);
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
    unsigned char *p, number[SEQ];
    sem_status status = read_txn(&w->view, &s->events, &txn, err);
    if (status == SEM_OK)
        status = locate_click(&w->view, txn, query_id, length, id, now_ms - window_ms, &at, err);
    if (status == SEM_OK)
        status = remove_click(w, txn, &at, &existed, err);
    if (status == SEM_OK && !existed && at.kind == QUERY_TEXT)
        status = count_judgements(w, txn, 1, err);
    if (status == SEM_OK)
        status = append(w, txn, CLICK_FIXED + at.key_length - SEQ, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    p = put_head(p, EVENT_CLICK, now_ms);
    put_u64(p, at.search);
    put_u32(p + 8, at.rank);
    put_u64(p + 12, double_bits(weight));
    memcpy(p + CLICK_FIXED - HEAD, at.key + SEQ, at.key_length - SEQ);
    put_u64(number, seq);
    return table_put(&s->events, txn, s->clicks, at.key, at.key_length, number, sizeof number, err);
}

sem_status events_put_click(store_write *w, const char *query_id, size_t query_id_length, const docid *id,
                            double weight, int64_t now_ms, int64_t window_ms, sem_error *err)
{
    if (!(weight >= 0.0 && weight <= 10.0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "weight is %g, 0 to 10 are possible", weight);
    if (!id->is_integer && (id->length == 0 || id->length > DOCID_STRING_MAX))
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
    if (f->by_id && !f->id.is_integer && (f->id.length == 0 || f->id.length > DOCID_STRING_MAX))
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
    status = append(w, txn, FEEDBACK_FIXED + f->query_length + rest, &seq, &p, err);
    if (status != SEM_OK)
        return status;
    p = put_head(p, EVENT_FEEDBACK, f->time_ms);
    put_u32(p, f->collection);
    p[4] = f->label > 0;
    p[5] = f->by_id;
    put_u32(p + 6, (uint32_t)f->query_length);
    p += FEEDBACK_FIXED - HEAD;
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

/* --- reading */

static sem_status click_judgement(store_read *r, MDB_txn *txn, const MDB_val *value, event_judgement *j, bool *use,
                                  sem_error *err)
{
    click_view click;
    search_view search;
    MDB_val record;
    bool found;
    *use = false;
    if (!decode_click(value, &click))
        return environment_damaged(&r->s->events, "the record of a click", err);
    sem_status status = event_at(r, txn, click.search, &record, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (!decode_search(&record, &search) || !docid_from_key(click.key, click.key_length, &j->id))
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
    *use = search.kind == QUERY_TEXT;
    return SEM_OK;
}

static sem_status feedback_judgement(store_read *r, const MDB_val *value, event_judgement *j, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    size_t query = value->mv_size < FEEDBACK_FIXED ? 0 : get_u32(p + 15);
    if (value->mv_size < FEEDBACK_FIXED + query)
        return environment_damaged(&r->s->events, "the record of feedback", err);
    size_t rest = value->mv_size - FEEDBACK_FIXED - query;
    j->time_ms = (int64_t)get_u64(p + 1);
    j->collection = get_u32(p + 9);
    j->weight = p[13] != 0 ? 1.0 : -1.0;
    j->by_id = p[14] != 0;
    j->query = (const char *)p + FEEDBACK_FIXED;
    j->query_length = query;
    p += FEEDBACK_FIXED + query;
    if (j->by_id && !docid_from_key(p, rest, &j->id))
        return environment_damaged(&r->s->events, "the id in feedback", err);
    if (!j->by_id) {
        j->text = (const char *)p;
        j->text_length = rest;
    }
    return SEM_OK;
}

static sem_status one_judgement(store_read *r, MDB_txn *txn, const MDB_val *key, const MDB_val *value,
                                event_each_judgement *each, void *context, bool *more, sem_error *err)
{
    event_judgement j = {0};
    bool use = false;
    sem_status status = SEM_OK;
    if (key->mv_size != SEQ || value->mv_size < HEAD)
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
        search_view search;
        if (value.mv_size < HEAD || *(const unsigned char *)value.mv_data != EVENT_SEARCH)
            continue;
        if (!decode_search(&value, &search)) {
            status = environment_damaged(&r->s->events, "the record of a search", err);
            break;
        }
        if (search.collection == collection && search.kind == QUERY_TEXT && search.query_length > 0)
            more = each(context, search.query, search.query_length);
    }
    mdb_cursor_close(cursor);
    return status != SEM_OK || rc == 0 || rc == MDB_NOTFOUND ? status : environment_fail(&r->s->events, WHAT, rc, err);
}

sem_status events_judgement_count(store_read *r, uint64_t *count, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    return status != SEM_OK ? status : meta_get(&r->s->events, txn, "judgements", count, err);
}
