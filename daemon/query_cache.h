/* Embeddings of queries that came lately, so that a query asked again is not
 * encoded again. The least recently used ones leave when the memory is full, which is one block.
 *
 * Only vectors of one generation are kept: a flip empties the cache, and what a
 * request under an older generation still brings is not taken. The key is the
 * model, the prompt and the whole text, which are compared byte by byte; the hash behind is
 * keyed with a secret, so that nobody can choose texts that meet in one bucket.
 * Any thread. */
#ifndef SEM_DAEMON_QUERY_CACHE_H
#define SEM_DAEMON_QUERY_CACHE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct query_cache query_cache;

/* Holds at most so many bytes, its tables included; 0: it keeps nothing. */
sem_status query_cache_create(query_cache **out, size_t bytes, sem_error *err);
void query_cache_destroy(query_cache *c); /* accepts NULL */

/* From now on it keeps vectors of this generation, and no other's. */
void query_cache_set_generation(query_cache *c, uint32_t generation);

/* A query as the encoder sees it, and what it became. */
typedef struct cached_query {
    uint32_t generation;
    bool as_document;   /* by the generation's model for documents, where that is not the one for queries */
    const char *prompt; /* NUL-terminated */
    const char *text;
    size_t size;   /* of text, bytes */
    float *vector; /* [dim] */
    size_t dim;
    uint32_t tokens; /* prompt and special tokens included */
    bool truncated;
} cached_query;

/* Fills in vector (the caller's memory), tokens and truncated when it knows
 * generation, model, prompt and text. Counts a hit or a miss. */
bool query_cache_get(query_cache *c, cached_query *q);
/* Keeps a copy, in the place of the least recently used one where there is no other.
 * Does nothing where prompt and text have more than 512 bytes together, q is known
 * already, or it is of another generation. Takes no memory. */
void query_cache_put(query_cache *c, const cached_query *q);

typedef struct query_cache_stats {
    uint64_t hits, misses, evictions;
    size_t entries, bytes; /* now; bytes of the tables included */
} query_cache_stats;

void query_cache_get_stats(query_cache *c, query_cache_stats *out);

#endif
