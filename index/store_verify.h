/* What the parts of the verification share; index/verify.h is what others see. */
#ifndef SEM_INDEX_STORE_VERIFY_H
#define SEM_INDEX_STORE_VERIFY_H

#include "index/store_internal.h"
#include "index/verify.h"

/* The slots of a collection in a space. */
typedef struct slot_set {
    uint32_t space, collection;
    uint64_t counter;     /* the next slot */
    unsigned char *named; /* a bit for each slot below the counter, 2^32 at most: a place names it */
    unsigned char *freed; /* the same: `freed` has it */
    bool all_freed;       /* the collection was dropped */
    uint64_t places;      /* documents that have vectors here */
} slot_set;

typedef struct verify {
    const verify_options *options;
    verify_result result;
    int lock_fd;
    store s;      /* opened for reading only, with no more than reading needs */
    store_read r; /* of all its environments */
    store_collection *collections;
    size_t collection_count;
    store_generation *generations;
    size_t generation_count;
    const store_generation *current; /* NULL: none */
    slot_set *slots;
    size_t slot_count;
    uint64_t seq, last_collection, trimmed, first_log; /* first_log: UINT64_MAX without any */
} verify;

enum { VERIFY_TEXT = 2048 /* bytes of a finding, the final NUL included */ };

/* Runs it in a process of its own and relays what it reports; its death is a violation
 * (store_verify_child.c). No other thread of the caller may hold a lock that run takes. */
typedef sem_status verify_run(const verify_options *options, verify_result *out, sem_error *err);
sem_status verify_in_child(const verify_options *options, verify_run *run, verify_result *out, sem_error *err);

/* Reports a violation. */
void verify_report(verify *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same of what the next start makes anew. */
void verify_report_cache(verify *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The record, as far as it can be told. For one message at a time: static per call site. */
enum { VERIFY_NAME = 640 };
/* `notes/"id"` or `notes/7`. */
const char *verify_document(const verify *v, uint32_t collection, const void *key, size_t length,
                            char out[VERIFY_NAME]);
/* The same of a document's number; "number 7 of notes" where it has no document. */
const char *verify_numbered(verify *v, uint32_t collection, uint32_t docno, char out[VERIFY_NAME]);
const store_collection *verify_collection(const verify *v, uint32_t number);
const char *verify_collection_name(const verify *v, uint32_t number, char out[VERIFY_NAME]);

/* LMDB's results of walking over a table. A damaged page can lead back to one above it,
 * and such a walk would have no end: *left is how many records there can be, and beyond
 * them comes MDB_CORRUPTED. */
int verify_cursor(const environment *e, MDB_txn *txn, MDB_dbi dbi, MDB_cursor **out, size_t *left);
int verify_next(MDB_cursor *cursor, size_t *left, MDB_val *key, MDB_val *value);
/* Every record of a table. */
typedef sem_status verify_record(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err);
sem_status verify_walk(verify *v, environment *e, MDB_txn *txn, MDB_dbi dbi, verify_record *each, sem_error *err);

/* The parts. */
sem_status verify_main(verify *v, sem_error *err);    /* store_verify_main.c */
sem_status verify_vectors(verify *v, sem_error *err); /* store_verify_vectors.c */
sem_status verify_lists(verify *v, sem_error *err);   /* store_verify_lists.c, behind the vectors */
sem_status verify_events(verify *v, sem_error *err);  /* store_verify_events.c */
sem_status verify_models(verify *v, sem_error *err);  /* store_verify_models.c */

#endif
