#include "index/event_record.h"

static double bits_double(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Takes the fields of the request from *p on, up to end. */
static bool take_asked(const unsigned char **p, const unsigned char *end, event_asked *out)
{
    if (end - *p < EVENT_ASKED_FIXED)
        return false;
    const unsigned effort = (*p)[4] & EVENT_EFFORT_MASK, with = (*p)[4] >> EVENT_EFFORT_BITS;
    const uint32_t length = get_u32(*p + 13);
    *out = (event_asked){.k = get_u32(*p),
                         .effort = (event_effort)effort,
                         .measure = bits_double(get_u64(*p + 5)),
                         .with = with,
                         .filter_size = length & ~EVENT_FILTER_LEFT_OUT};
    *p += EVENT_ASKED_FIXED;
    if (with > EVENT_WITH_MAX || out->k == 0)
        return false;
    if (out->filter_size == 0 || (length & EVENT_FILTER_LEFT_OUT) != 0)
        return true;
    if ((size_t)(end - *p) < out->filter_size)
        return false;
    out->filter = *p;
    *p += out->filter_size;
    return true;
}

bool event_record_search(const MDB_val *value, event_search_view *out)
{
    const unsigned char *p = value->mv_data, *end = p + value->mv_size;
    if (value->mv_size < EVENT_SEARCH_FIXED || p[0] != EVENT_SEARCH)
        return false;
    const bool has_rival = (p[17] & EVENT_HAS_RIVAL) != 0;
    const bool has_asked = (p[17] & EVENT_HAS_ASKED) != 0;
    const unsigned kind = p[17] & ((1u << EVENT_QUERY_BITS) - 1) & ~(unsigned)EVENT_HAS_ASKED;
    const unsigned ranking = (p[17] & ~(unsigned)EVENT_HAS_RIVAL) >> EVENT_QUERY_BITS;
    if (kind > QUERY_LIKE || ranking > RANKING_HYBRID)
        return false;
    *out = (event_search_view){.time_ms = (int64_t)get_u64(p + 1),
                               .collection = get_u32(p + 9),
                               .generation = get_u32(p + 13),
                               .kind = (query_kind)kind,
                               .ranking = (event_ranking)ranking,
                               .user_hash = get_u64(p + 18),
                               .query_id_length = p[26],
                               .query_length = get_u32(p + 27),
                               .end = end};
    p += EVENT_SEARCH_FIXED;
    if ((size_t)(end - p) < out->query_id_length + out->query_length + (has_rival ? EVENT_RIVAL : 0))
        return false;
    out->query_id = (const char *)p;
    out->query = out->query_id + out->query_id_length;
    out->shown = p + out->query_id_length + out->query_length;
    if (has_rival) {
        out->rival = get_u32(out->shown);
        out->shown += EVENT_RIVAL;
    }
    return !has_asked || take_asked(&out->shown, end, &out->asked);
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

bool event_record_feedback(const MDB_val *value, event_feedback_view *out)
{
    const unsigned char *p = value->mv_data;
    if (value->mv_size < EVENT_FEEDBACK_FIXED || p[0] != EVENT_FEEDBACK)
        return false;
    const size_t query = get_u32(p + 15), left = value->mv_size - EVENT_FEEDBACK_FIXED;
    if (left < query)
        return false;
    *out = (event_feedback_view){.time_ms = (int64_t)get_u64(p + 1),
                                 .collection = get_u32(p + 9),
                                 .label = p[13] != 0 ? 1 : -1,
                                 .query = (const char *)p + EVENT_FEEDBACK_FIXED,
                                 .query_length = query,
                                 .by_id = p[14] != 0,
                                 .rest = p + EVENT_FEEDBACK_FIXED + query,
                                 .rest_length = left - query};
    return true;
}

/* The key form of an entry of what was shown, empty where the document was erased; false at the
 * end, or where it is cut. */
static bool entry_next(const unsigned char **at, const unsigned char *end, const unsigned char **key, size_t *length)
{
    if (end - *at < EVENT_SHOWN_FIXED)
        return false;
    *length = (size_t)((*at)[4] & ~EVENT_OF_RIVAL) << 8 | (*at)[5];
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

bool event_record_of_rival(event_search_view v, uint32_t rank)
{
    const unsigned char *key, *at = v.shown;
    size_t length;
    for (uint32_t i = 1; event_record_shown(&v, &key, &length); i++, at = v.shown)
        if (i == rank)
            return (at[4] & EVENT_OF_RIVAL) != 0;
    return false;
}

bool event_above_next(event_above *a, docid *out)
{
    const unsigned char *key;
    size_t length;
    while (a->left > 0 && entry_next(&a->next, a->end, &key, &length)) {
        a->left--;
        if (length > 0)
            return docid_from_key(key, length, out);
    }
    return false;
}

bool event_hit_next(event_hits *h, event_hit *out)
{
    const unsigned char *at = h->next, *key;
    size_t length;
    *out = (event_hit){0};
    if (!entry_next(&h->next, h->end, &key, &length))
        return false;
    const uint32_t bits = get_u32(at);
    out->erased = length == 0;
    if (!out->erased) {
        memcpy(&out->score, &bits, sizeof bits);
        out->of_rival = (at[4] & EVENT_OF_RIVAL) != 0;
    }
    return out->erased || docid_from_key(key, length, &out->id);
}

sem_status event_record_at(store_read *r, MDB_txn *txn, uint64_t seq, MDB_val *value, bool *found, sem_error *err)
{
    unsigned char number[EVENT_SEQ];
    put_u64(number, seq);
    return table_get(&r->s->events, txn, r->s->event_log, number, sizeof number, value, found, err);
}
