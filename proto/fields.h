/* Inside proto/: reading a map of a request by a table of its fields. What a
 * method takes is a table; the rules that hold for every map (unknown key, key
 * twice, missing key, wrong type) are written once. */
#ifndef SEM_PROTO_FIELDS_H
#define SEM_PROTO_FIELDS_H

#include "base/status.h"
#include "proto/request.h"
#include "proto/value.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct parser {
    value_cursor at;              /* the next value */
    const request_limits *limits; /* borrowed */
    request *request;             /* borrowed: the arrays of the request are allocated for it */
} parser;

/* Reads the value at p->at into *target. Errors do not name the field: the
 * table's reader puts its name before them. err is never NULL inside the parser. */
typedef sem_status field_read(parser *p, void *target, sem_error *err);

typedef struct field {
    const char *name;
    field_read *read;
    size_t target;  /* offset of what is read, in the struct that the table describes */
    size_t present; /* offset of a bool that becomes true, or 0: none */
    bool required;
} field;

typedef struct field_table {
    const field *fields;
    size_t count;
    const struct field_table *more; /* fields that the map may hold as well, or NULL */
    bool nested;                    /* errors say .name: whoever reads the map puts its own name before the dot */
} field_table;

/* Reads one map into *base. */
sem_status fields_read(parser *p, const field_table *table, void *base, sem_error *err);

/* --- readers, by the type of *target */

field_read read_bool;     /* bool */
field_read read_positive; /* uint32_t, from 1 */
field_read read_text;     /* span: valid UTF-8, no NUL, at most limits->text_bytes */
field_read read_word;     /* span: a str that is not empty, no NUL */
field_read read_name;     /* span: a collection's name */
field_read read_id;       /* docid */
field_read read_vector;   /* span of the payload: a bin of finite float32, not all zero */
field_read read_meta;     /* span of the whole MessagePack value */
field_read read_filter;   /* span of the whole MessagePack value */
field_read read_with;     /* unsigned: WITH_ bits */
field_read read_string;   /* span: any valid UTF-8 */

/* --- for writing readers */

field_read read_k; /* size_t, from 1 to limits->k */
/* A k that was not given: the default, which may be above a limit that was configured. */
void limit_k(const parser *p, size_t *k);
field_read read_mode; /* search_mode */

field_read read_user;  /* span: a str of at most 256 bytes */
field_read read_limit; /* size_t, from 1 to limits->scroll */
/* Opaque to the client: whatever an answer named as `next`, str or bin. */
field_read read_after; /* span */
enum { PAGE_LIMIT_DEFAULT = 100 };
/* A limit that was not given: the default, which may be above one that was configured. */
void limit_page(const parser *p, size_t *limit);
/* A set of words, none twice: bit i for words[i], which ends with NULL. */
sem_status read_words(parser *p, const char *const *words, unsigned *bits, sem_error *err);

/* The head of an array of at most limits->ids ids. */
sem_status expect_ids(parser *p, size_t *count, sem_error *err);
/* Such an array, in the request's arena. */
sem_status read_ids(parser *p, docid **ids, size_t *count, sem_error *err);

/* An array of at most limits->upsert_docs maps, each read by the table into an element of
 * size bytes, in the request's arena. what names them in errors. */
sem_status read_maps(parser *p, const field_table *table, size_t size, const char *what, void **out, size_t *count,
                     sem_error *err);

/* A head of this kind; else "must be WANTED, found ...". */
sem_status expect(parser *p, value_kind kind, const char *wanted, value_head *head, sem_error *err);
/* An integer in [low, high]. */
sem_status read_range(parser *p, uint64_t low, uint64_t high, uint64_t *out, sem_error *err);
/* An integer or a float in [low, high], never NaN. */
sem_status read_number(parser *p, double low, double high, double *out, sem_error *err);
/* One of the words; *choice is its place. words ends with NULL. */
sem_status read_choice(parser *p, const char *const *words, size_t *choice, sem_error *err);
/* "1,001 documents, at most 1,000 (limits.upsert_docs)". */
sem_status fail_limit(sem_error *err, uint64_t found, const char *what, uint64_t limit, const char *key);
/* Zeroed memory for count elements that lives as long as the request; each
 * request has one such array. NULL when memory is out. */
void *arena_array(parser *p, size_t count, size_t size);

/* Writes what is left of a str after cutting it short and replacing what does
 * not belong on one line; for messages. */
enum { QUOTED_MAX = 80 };
const char *quoted(char out[QUOTED_MAX], const void *data, size_t size);

enum { K_DEFAULT = 10 };

bool span_is(const span *s, const char *text);

/* --- what each method takes; request.c has the table of methods */

typedef struct method_form {
    const char *name;
    field_table table;
    void (*defaults)(request *r);                               /* may be NULL */
    sem_status (*check)(parser *p, request *r, sem_error *err); /* rules between fields; may be NULL */
} method_form;

extern const field_table DEADLINE_FIELDS;   /* deadline_ms */
extern const field_table COLLECTION_FIELDS; /* collection and deadline_ms */

extern const method_form FORM_PING, FORM_AUTH, FORM_INFO, FORM_ENCODE;
extern const method_form FORM_COLLECTION_CREATE, FORM_COLLECTION_DROP, FORM_COLLECTION_LIST;
extern const method_form FORM_UPSERT, FORM_DELETE, FORM_GET, FORM_COUNT, FORM_SCROLL;
extern const method_form FORM_SEARCH, FORM_EXPLAIN, FORM_CLICK, FORM_FEEDBACK, FORM_EVALUATE;
extern const method_form FORM_EVENTS, FORM_EVENTS_ERASE;
extern const method_form FORM_FINETUNE, FORM_JOB, FORM_GENERATIONS, FORM_ROLLBACK, FORM_MODEL_LOAD;
extern const method_form FORM_BACKUP, FORM_INDEX_EXPORT, FORM_WATCH;

#endif
