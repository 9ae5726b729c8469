/* How events lie in their table, read in place: what the files of index/events*.c share.
 * docs/format.md describes the records. */
#ifndef SEM_INDEX_EVENT_RECORD_H
#define SEM_INDEX_EVENT_RECORD_H

#include "index/events.h"
#include "index/store_internal.h"

enum {
    EVENT_HEAD = 9,                         /* kind u8, time i64 */
    EVENT_SEARCH_FIXED = EVENT_HEAD + 22,   /* collection, generation u32, query kind u8, user u64, id length u8, query
                                           * length u32 */
    EVENT_CLICK_FIXED = EVENT_HEAD + 20,    /* search seq u64, rank u32, weight f64 */
    EVENT_FEEDBACK_FIXED = EVENT_HEAD + 10, /* collection u32, label u8, by id u8, query length u32 */
    EVENT_SHOWN_FIXED = 6,                  /* score f32, key length u16: 0 where the document was erased */
    EVENT_RIVAL = 4,                        /* generation u32, before what was shown, with EVENT_HAS_RIVAL */
    EVENT_ASKED_FIXED = 17,                 /* behind it, with EVENT_HAS_ASKED: k u32, effort and with u8, measure f64,
                                             * filter length u32; the filter follows */
    EVENT_SEQ = 8
};

/* Borrowed from the table, as event_click_view. */
typedef struct event_search_view {
    int64_t time_ms;
    uint32_t collection, generation;
    uint32_t rival; /* 0: none */
    query_kind kind;
    event_ranking ranking;
    event_asked asked;
    uint64_t user_hash;
    const char *query_id;
    size_t query_id_length;
    const char *query; /* the text; with QUERY_LIKE the id's key form, empty where it was not logged */
    size_t query_length;
    const unsigned char *shown; /* entries up to end, walked by event_record_shown */
    const unsigned char *end;
} event_search_view;

typedef struct event_click_view {
    int64_t time_ms;
    uint64_t search;
    uint32_t rank;
    double weight;
    const unsigned char *key;
    size_t key_length;
} event_click_view;

typedef struct event_feedback_view {
    int64_t time_ms;
    uint32_t collection;
    int label;
    const char *query;
    size_t query_length;
    bool by_id;
    const unsigned char *rest; /* the id's key form, or the text */
    size_t rest_length;
} event_feedback_view;

/* The byte that says what a search asked by, and in its upper half what ranked; and the bit of the
 * first byte of a key's length, which has no use for it. */
enum { EVENT_QUERY_BITS = 4, EVENT_HAS_ASKED = 4, EVENT_HAS_RIVAL = 0x80, EVENT_OF_RIVAL = 0x80 };

/* The byte of effort, and in its upper bits `with`; and the bit of a filter's length that says that it was left out. */
enum { EVENT_EFFORT_MASK = 3, EVENT_EFFORT_BITS = 2, EVENT_WITH_MAX = 7 };
#define EVENT_FILTER_LEFT_OUT (UINT32_C(1) << 31)

/* False: the record is damaged, or of another kind. */
bool event_record_search(const MDB_val *value, event_search_view *out);
bool event_record_click(const MDB_val *value, event_click_view *out);
bool event_record_feedback(const MDB_val *value, event_feedback_view *out);

/* The key form of the next document shown, of length 0 where it was erased; false at the end
 * (or where the record is cut). */
bool event_record_shown(event_search_view *v, const unsigned char **key, size_t *length);

/* Whether the document at a rank, from 1, was shown as a hit of the search's rival. */
bool event_record_of_rival(event_search_view v, uint32_t rank);

/* Reads the event with this number; *found false when there is none. */
sem_status event_record_at(store_read *r, MDB_txn *txn, uint64_t seq, MDB_val *value, bool *found, sem_error *err);

#endif
