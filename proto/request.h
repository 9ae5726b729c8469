/* RPC frames to request structs. Every rule of the wire contract about a single
 * request is checked here; what depends on the daemon's state (whether a
 * collection exists) is not. */
#ifndef SEM_PROTO_REQUEST_H
#define SEM_PROTO_REQUEST_H

#include "base/buffer.h"
#include "base/docid.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum rpc_method {
    METHOD_PING,
    METHOD_AUTH,
    METHOD_INFO,
    METHOD_ENCODE,
    METHOD_COLLECTION_CREATE,
    METHOD_COLLECTION_DROP,
    METHOD_COLLECTION_LIST,
    METHOD_UPSERT,
    METHOD_DELETE,
    METHOD_GET,
    METHOD_COUNT,
    METHOD_SCROLL,
    METHOD_SEARCH,
    METHOD_EXPLAIN, /* its arguments are search's */
    METHOD_CLICK,
    METHOD_FEEDBACK,
    METHOD_EVENTS,
    METHOD_EVENTS_ERASE,
    METHOD_EVALUATE,
    METHOD_FINETUNE,
    METHOD_JOB,
    METHOD_GENERATIONS,
    METHOD_ROLLBACK,
    METHOD_MODEL_LOAD,
    METHOD_BACKUP,
    METHOD_INDEX_EXPORT,
    METHOD_WATCH,
    METHOD_COUNT_OF /* number of methods */
} rpc_method;

const char *rpc_method_name(rpc_method method);

/* What a client may do: each role may do what those before it may. */
typedef enum rpc_role { ROLE_NONE, ROLE_READ, ROLE_CLICK, ROLE_WRITE, ROLE_ADMIN } rpc_role;

const char *rpc_role_name(rpc_role role); /* "none", "read", ... */
/* The role of a name, which is never ROLE_NONE; false: there is none. */
bool rpc_role_of(const char *name, size_t size, rpc_role *role);
/* The least role that may call the method where tokens are configured. */
rpc_role rpc_method_role(rpc_method method);

/* Limits of one request; all configurable, all shown by info. */
typedef struct request_limits {
    size_t frame_bytes;   /* 64 MiB */
    size_t depth;         /* 32; the outer array counts */
    size_t max_batch;     /* 1,024 texts an encode */
    size_t upsert_docs;   /* 1,000 */
    size_t passages;      /* 65,536 that an upsert's documents are cut into */
    size_t text_bytes;    /* 1 MiB */
    size_t meta_fields;   /* 64 */
    size_t meta_bytes;    /* 16 KiB */
    size_t k;             /* 10,000 */
    size_t ids;           /* 10,000 a get or delete */
    size_t scroll;        /* 1,000 documents of a scroll; events of an events */
    size_t filter_values; /* 10,000 in one `in` */
} request_limits;

void request_limits_defaults(request_limits *limits);

/* A run of bytes inside the frame. Present if data is not NULL. */
typedef struct span {
    const char *data;
    size_t size;
} span;

enum { WITH_TEXT = 1, WITH_META = 2, WITH_VECTOR = 4 };
enum { TOPIC_GENERATION = 1, TOPIC_JOB = 2 };
enum { KIND_SEARCH = 1, KIND_CLICK = 2, KIND_FEEDBACK = 4, KIND_ALL = 7 };
typedef enum encode_precision { PRECISION_FLOAT32, PRECISION_INT8, PRECISION_BINARY } encode_precision;
typedef enum search_mode { SEARCH_DENSE, SEARCH_LEXICAL, SEARCH_HYBRID } search_mode;

typedef struct request_doc {
    docid id;
    span text;    /* may be empty, never absent */
    span meta;    /* MessagePack map; absent: none */
    span vector;  /* bin, a multiple of 4 bytes; absent: none. Finite and not zero is checked */
    size_t place; /* among the docs of the request as it came, for errors */
} request_doc;

typedef struct request_pair {
    span query;
    bool by_id;
    docid id;
    span text;
    int label; /* 1 or -1 */
} request_pair;

/* A query with the documents that it should find. An id given twice counts once; one
 * that no document has counts as one that is not found; without ids the query does not
 * count. */
typedef struct request_judged {
    span query;
    span relevant; /* MessagePack of checked ids one after the other, for request_next_id; may be empty */
    size_t relevant_count;
} request_judged;

typedef struct request {
    rpc_method method;
    bool notification; /* is executed and never answered */
    uint32_t msgid;
    bool has_deadline;
    uint64_t deadline_ms; /* as given: from arrival; below 2^32 */
    span collection;      /* "default" where absent; the form of the name is checked */
    bool has_collection;  /* it was given */
    union {
        struct {
            span token;
        } auth;
        struct {
            span *texts;
            size_t count;
            span prompt;
            bool truncate;
            bool as_array;
            encode_precision precision;
        } encode;
        struct {
            uint32_t passage_tokens, passage_overlap; /* 0: not given */
            bool lexical;
            double weight_dense, weight_lexical; /* 1 where not given */
            bool dot;
            bool external;
            uint32_t dim;
        } create; /* the name is in `collection` */
        struct {
            request_doc *docs;
            size_t count; /* may be 0 */
            bool has_generation;
            uint32_t generation;
        } upsert;
        struct {
            docid *ids;   /* or NULL: */
            size_t count; /* may be 0 */
            span filter;
        } erase;
        struct {
            docid *ids;
            size_t count;
            unsigned with; /* WITH_ bits */
        } get;
        struct {
            span filter;
        } count;
        struct {
            span after; /* opaque */
            size_t limit;
            span filter;
            unsigned with; /* text and meta where it was not given, as in get */
        } scroll;
        struct {
            span query, vector; /* one of the three */
            bool has_like;
            docid like;
            bool has_generation;
            uint32_t generation;
            size_t k;
            span filter;
            search_mode mode;
            bool has_recall;
            double recall;
            size_t nprobe; /* 0: not given */
            bool exact;
            unsigned with;
            bool log;
            span user;
        } search;
        struct {
            span query_id;
            docid id;
            double weight;
        } click;
        struct {
            request_pair *pairs;
            size_t count;
        } feedback;
        struct {
            span after; /* opaque; absent where has_seq, and from the start on */
            bool has_seq;
            uint64_t seq; /* `after` as the seq of an event */
            size_t limit;
            unsigned kinds; /* KIND_ bits */
        } events;
        struct {
            span user; /* one of the three */
            bool has_id;
            docid id;
            bool has_before;
            uint64_t before; /* Unix milliseconds, below 2^63 */
        } events_erase;
        struct {
            request_judged *queries;
            size_t count; /* may be 0 */
            size_t k;
            search_mode mode;
        } evaluate;
        struct {
            span mode; /* "full", "query", "auto" or absent */
            bool wait;
        } finetune;
        struct {
            bool has_job;
            uint32_t job;
            bool cancel;
        } job;
        struct {
            bool has_generation;
            uint32_t generation;
        } rollback;
        struct {
            span path;
            bool gate;
        } model_load;
        struct {
            span name; /* the form of it is checked */
        } backup;
        struct {
            span path;
        } index_export;
        struct {
            unsigned topics; /* TOPIC_ bits; 0: none any more */
        } watch;
    } u;
    buffer frame; /* owned: what the spans point into; its pool is that of all the request's memory */
    void *arena;  /* owned: the arrays */
} request;

/* Parses one whole frame that frame_scan accepted. Takes the bytes out of frame in
 * every case; the request is made of the same pool. On an error that does not cost the connection
 * (SEM_INVALID_ARGUMENT: unknown method or key, bad value, broken limit)
 * *msgid and *notification say whom to answer. */
sem_status request_parse(request **out, buffer *frame, const request_limits *limits, uint32_t *msgid,
                         bool *notification, sem_error *err);
void request_free(request *r); /* accepts NULL */

/* The method of such a frame, before anything else of it is read; false: an unknown one, or a
 * frame that request_parse refuses. *msgid and *notification as there. */
bool request_find_method(const buffer *frame, rpc_method *method, uint32_t *msgid, bool *notification);

/* Takes the first id from ids, as of request_judged.relevant; its string points into
 * the request. False when there is none left. */
bool request_next_id(span *ids, docid *out);

#endif
