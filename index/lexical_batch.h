/* What one step of the lexical index is about: documents that the write log
 * touched, or that a walk over a collection found. Nothing outside
 * index/lexical_*.c includes it. */
#ifndef SEM_INDEX_LEXICAL_BATCH_H
#define SEM_INDEX_LEXICAL_BATCH_H

#include "index/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lexical_change {
    uint32_t collection, docno;
    uint64_t seq; /* of the last request of the batch that touched it */
    bool removed; /* that request deleted it */
    bool exists;  /* in the snapshot */
    uint64_t version;
    const char *text; /* borrowed until the read ends or is renewed */
    size_t length;
} lexical_change;

typedef struct lexical_batch {
    lexical_change *changes; /* [count], owned; by collection and document, each once */
    size_t count, capacity;
    size_t bytes;        /* of their texts */
    uint64_t upto;       /* a batch of the log: it reaches up to here */
    bool more;           /* there is more behind it */
    bool failed;         /* memory was out */
    store_old_text *old; /* [old_count], owned; by collection, document and request */
    size_t old_count, old_capacity;
    unsigned char last[DOCID_KEY_MAX]; /* a walk: the id where the next one goes on */
    size_t last_length;
    store_read *read;   /* borrowed, while it is being filled */
    uint32_t looked_at; /* collection of the entry before, */
    bool wanted;        /* and whether it has a lexical index */
} lexical_batch;

void lexical_batch_free(lexical_batch *b);
/* Reads the log from `after` on: whole requests. An empty b. */
sem_status lexical_batch_read(lexical_batch *b, store_read *r, uint64_t after, sem_error *err);
/* Adds what the requests from `after` on, which are in b, replaced or deleted. */
sem_status lexical_batch_add_old(lexical_batch *b, store_read *r, uint64_t after, sem_error *err);
/* Reads documents of a collection in order of id, behind the key `after` (length 0: from the start). An empty b. */
sem_status lexical_batch_walk(lexical_batch *b, store_read *r, uint32_t collection, const unsigned char *after,
                              size_t after_length, sem_error *err);

#endif
