/* The event log: searches with what was shown, clicks, feedback. It has an LMDB
 * environment of its own. Users appear only as keyed hashes. */
#ifndef SEM_INDEX_EVENTS_H
#define SEM_INDEX_EVENTS_H

#include "base/docid.h"
#include "index/store.h"

enum { QUERY_ID_MAX = 64 /* bytes */, QUERY_ID_LENGTH = 32 /* bytes of those made here */ };

typedef enum event_kind { EVENT_SEARCH = 1, EVENT_CLICK = 2, EVENT_FEEDBACK = 4 } event_kind;

typedef enum query_kind { QUERY_TEXT, QUERY_VECTOR, QUERY_LIKE } query_kind;

/* What ranked what a search showed. Unknown: it was logged before this was kept. */
typedef enum event_ranking { RANKING_UNKNOWN, RANKING_DENSE, RANKING_LEXICAL, RANKING_HYBRID } event_ranking;

/* How well a search was asked to search. */
typedef enum event_effort { EFFORT_USUAL, EFFORT_RECALL, EFFORT_NPROBE, EFFORT_EXACT } event_effort;

/* A longer filter is left out of the log, which says how long it was: filters of many values would fill it, and
 * clicks on their searches tell no less. As much as a document's meta may have. */
enum { EVENT_FILTER_MAX = 16 << 10 /* bytes */ };

/* The fields of a search's request that nothing else in the log tells. */
typedef struct event_asked {
    uint32_t k; /* 0: it was logged before these were kept */
    event_effort effort;
    double measure;     /* the recall, or nprobe */
    unsigned with;      /* bits as in the request: 1 text, 2 meta, 4 vector */
    const void *filter; /* MessagePack as it came; NULL: none, or left out */
    size_t filter_size; /* bytes, of one that is left out as well; 0: none was given */
} event_asked;

/* Makes a new query id: time and random bytes in hexadecimal, NUL-terminated. */
bool query_id_make(char out[QUERY_ID_LENGTH + 1], int64_t now_ms);

/* A user as the log knows them: hashed under the store's own key, never 0. */
uint64_t event_user_hash(const store *s, const void *user, size_t size);

typedef struct event_search {
    const char *query_id;
    int64_t time_ms;
    uint32_t collection;
    uint32_t generation;
    query_kind kind;
    event_ranking ranking;
    const char *query; /* QUERY_TEXT: the text */
    size_t query_length;
    docid like;          /* QUERY_LIKE: the document in question */
    uint64_t user_hash;  /* 0: none given */
    const docid *shown;  /* [shown_count], in order of rank */
    const float *scores; /* [shown_count] */
    size_t shown_count;
    event_asked asked;
    uint32_t rival;     /* a second generation whose hits are among these, by a draft; 0: none, and then: */
    const bool *rivals; /* [shown_count] which of them are the rival's; NULL */
} event_search;

/* All or none: one nested transaction instead of one each. */
sem_status events_put_searches(store_write *w, const event_search *const *searches, size_t count, sem_error *err);

/* SEM_NOT_FOUND: no such query, or older than window_ms. SEM_INVALID_ARGUMENT:
 * the id was not shown. A repeated click replaces the old one. */
sem_status events_put_click(store_write *w, const char *query_id, size_t query_id_length, const docid *id,
                            double weight, int64_t now_ms, int64_t window_ms, sem_error *err);

typedef struct event_feedback {
    int64_t time_ms;
    uint32_t collection;
    const char *query;
    size_t query_length;
    bool by_id; /* id, else text */
    docid id;
    const char *text;
    size_t text_length;
    int label; /* 1 or -1 */
} event_feedback;

/* All or none. */
sem_status events_put_feedback(store_write *w, const event_feedback *pairs, size_t count, sem_error *err);

/* The documents that were shown above a clicked one, the first one first, less those
 * that were erased. */
typedef struct event_above {
    const unsigned char *next, *end;
    uint32_t left;
} event_above;

/* False when there is no further one. The id is borrowed from the log. */
bool event_above_next(event_above *a, docid *out);

/* One judgement of a document for a query, as training sees it. Borrowed. */
typedef struct event_judgement {
    uint64_t seq;
    int64_t time_ms;
    uint32_t collection;
    const char *query;
    size_t query_length;
    bool by_id;
    docid id;
    const char *text;
    size_t text_length;
    double weight;       /* of a click; 1 or -1 for feedback */
    uint32_t rank;       /* of a click: from 1; 0 for feedback */
    uint32_t generation; /* of a click: what ranked it; 0 for feedback */
    uint64_t user_hash;  /* 0: not given */
    uint64_t search;     /* of a click: the seq of its search; 0 for feedback */
    size_t shown_count;  /* of a click: what its search showed in all */
    event_above above;   /* of a click */
    event_above shown;   /* of a click: all that its search showed, in the same way */
    uint32_t rival;      /* of a click: as of its search; 0: none */
    bool of_rival;       /* of a click: the document is a hit of that one */
} event_judgement;

/* Clicks (on text searches only) and feedback with seq above `after`, oldest first. */
typedef bool event_each_judgement(void *context, const event_judgement *j);
sem_status events_judgements(store_read *r, uint64_t after, event_each_judgement *each, void *context, sem_error *err);

typedef struct event_shown {
    docid id;
    bool clicked; /* and the click not taken back */
    int64_t clicked_ms;
    uint64_t click; /* its seq */
    bool erased;    /* which document it was is no longer known; id is empty */
} event_shown;

/* A text search with what it showed. Borrowed. */
typedef struct event_logged_search {
    uint64_t seq;
    int64_t time_ms;
    uint32_t collection, generation;
    uint32_t rival; /* a second generation that made a part of the list; 0: none */
    event_ranking ranking;
    uint64_t user_hash; /* 0: none given */
    const char *query;
    size_t query_length;
    const event_shown *shown; /* [shown_count] in order of rank */
    size_t shown_count;
} event_logged_search;

/* Text searches with their clicks, the last one first; each returns false to end the walk. */
typedef bool event_each_search(void *context, const event_logged_search *s);
sem_status events_searches(store_read *r, event_each_search *each, void *context, sem_error *err);

/* The texts of a collection's searches, the last one first, repeats among them; at most
 * `most` events are looked at, of any collection and kind. Borrowed. */
typedef bool event_each_query(void *context, const char *text, size_t length);
sem_status events_last_queries(store_read *r, uint32_t collection, size_t most, event_each_query *each, void *context,
                               sem_error *err);
/* The number of the last event; 0: none. */
sem_status events_last_seq(store_read *r, uint64_t *seq, sem_error *err);
/* How many judgements there are, for triggers. */
sem_status events_judgement_count(store_read *r, uint64_t *count, sem_error *err);

/* --- the log as it is */

/* What a search showed, the first one first. */
typedef struct event_hits {
    const unsigned char *next, *end;
} event_hits;

typedef struct event_hit {
    docid id;
    float score;
    bool of_rival; /* a hit of the search's rival */
    bool erased;   /* then all others are nothing */
} event_hit;

/* False when there is no further one. The id is borrowed from the log. */
bool event_hit_next(event_hits *h, event_hit *out);

/* An event. Borrowed; what its kind has not is zero. */
typedef struct event_listed {
    uint64_t seq;
    int64_t time_ms;
    event_kind kind;
    uint32_t collection; /* of a search and of feedback */
    const char *query;   /* of a text search and of feedback */
    size_t query_length;
    const char *query_id; /* of a search; of a click: its search's */
    size_t query_id_length;
    bool by_id; /* `id` is given */
    docid id;   /* of a click; of feedback that names one; of a search by `like`, where it was logged */
    /* a search */
    uint32_t generation;
    uint32_t rival; /* 0: none */
    query_kind query_kind;
    event_ranking ranking;
    uint64_t user_hash; /* 0: none given */
    event_asked asked;
    event_hits hits;
    size_t hit_count;
    /* a click */
    uint32_t rank; /* from 1 */
    double weight;
    /* feedback */
    const char *text; /* unless by_id */
    size_t text_length;
    int label;
} event_listed;

/* Events with seq above `after`, oldest first, until there are no more, `most` were looked at or
 * each() returns false, which then has not taken the event. kinds: event_kind bits, others are
 * passed over. *last: seq of the last one that is done with (`after` where there was none);
 * *more: whether others follow. */
typedef bool event_each(void *context, const event_listed *e);
sem_status events_list(store_read *r, uint64_t after, unsigned kinds, size_t most, event_each *each, void *context,
                       uint64_t *last, bool *more, sem_error *err);

#endif
