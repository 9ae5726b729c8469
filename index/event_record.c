#include "index/event_record.h"

static double bits_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

bool event_record_search(const MDB_val *value, event_search_view *out)
{
    const unsigned char *p = value->mv_data, *end = p + value->mv_size;
    if (value->mv_size < EVENT_SEARCH_FIXED || p[0] != EVENT_SEARCH || p[17] > QUERY_LIKE)
        return false;
    *out = (event_search_view){.time_ms = (int64_t)get_u64(p + 1),
                               .collection = get_u32(p + 9),
                               .generation = get_u32(p + 13),
                               .kind = (query_kind)p[17],
                               .user_hash = get_u64(p + 18),
                               .query_id_length = p[26],
                               .query_length = get_u32(p + 27),
                               .end = end};
    p += EVENT_SEARCH_FIXED;
    if ((size_t)(end - p) < out->query_id_length + out->query_length)
        return false;
    out->query_id = (const char *)p;
    out->query = out->query_id + out->query_id_length;
    out->shown = p + out->query_id_length + out->query_length;
    return true;
}

bool event_record_click(const MDB_val *value, event_click_view *out)
{
    const unsigned char *p = value->mv_data;
    if (value->mv_size <= EVENT_CLICK_FIXED || p[0] != EVENT_CLICK)
        return false;
    *out = (event_click_view){.time_ms = (int64_t)get_u64(p + 1),
                              .search = get_u64(p + 9),
                              .rank = get_u32(p + 17),
                              .weight = bits_double(get_u64(p + 21)),
                              .key = p + EVENT_CLICK_FIXED,
                              .key_length = value->mv_size - EVENT_CLICK_FIXED};
    return true;
}

/* The key form of an entry of what was shown; false at the end, or where it is cut. */
static bool entry_next(const unsigned char **at, const unsigned char *end, const unsigned char **key, size_t *length)
{
    if (end - *at < EVENT_SHOWN_FIXED)
        return false;
    *length = (size_t)(*at)[4] << 8 | (*at)[5];
    if ((size_t)(end - *at) < EVENT_SHOWN_FIXED + *length)
        return false;
    *key = *at + EVENT_SHOWN_FIXED;
    *at += EVENT_SHOWN_FIXED + *length;
    return true;
}

bool event_record_shown(event_search_view *v, const unsigned char **key, size_t *length)
{
    return entry_next(&v->shown, v->end, key, length);
}

bool event_above_next(event_above *a, docid *out)
{
    const unsigned char *key;
    size_t length;
    if (a->left == 0 || !entry_next(&a->next, a->end, &key, &length) || !docid_from_key(key, length, out))
        return false;
    a->left--;
    return true;
}

sem_status event_record_at(store_read *r, MDB_txn *txn, uint64_t seq, MDB_val *value, bool *found, sem_error *err)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, seq);
    return table_get(&r->s->events, txn, r->s->event_log, number, sizeof number, value, found, err);
}
