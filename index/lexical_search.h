/* Searching the lexical index: BM25 (Robertson and Zaragoza 2009, with FTS5's k1,
 * b and inverse document frequency) over whole documents.
 *
 * A search has two parts, so that its hits are those of the store at its end:
 * lexical_gather goes through postings and finds candidates; then the caller takes
 * a newer snapshot of the store, and lexical_rank scores the best candidates from
 * the texts that lie there. A document that is gone or has another text by then is
 * no hit, or one by its new text. docs/lexical.md has the rules. */
#ifndef SEM_INDEX_LEXICAL_SEARCH_H
#define SEM_INDEX_LEXICAL_SEARCH_H

#include "base/status.h"
#include "index/filter.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A connection to the file. One thread at a time. */
typedef struct lexical_reader lexical_reader;

/* SEM_UNAVAILABLE while there is no file. *bad says of a failure that the file is
 * damaged, or is not there. */
sem_status lexical_reader_open(lexical_reader **out, const store *s, bool *bad, sem_error *err);
void lexical_reader_close(lexical_reader *r); /* accepts NULL */
/* Whether an error said that the file is no good. */
bool lexical_reader_damaged(const lexical_reader *r);

typedef struct lexical_query {
    uint32_t collection;
    const char *text;
    size_t length;
    size_t k;
    const uint64_t *allowed; /* bitmap over docnos, or NULL: all */
    size_t allowed_bits;     /* docnos at or above it are not allowed */
    const uint32_t *listed;  /* in place of a bitmap: the docnos that are allowed, ascending; or NULL */
    size_t listed_count;
    bool thorough;                /* frequent terms lead to candidates too, though rarer ones have led to k */
    double text_bytes;            /* of a document of the collection, on average */
    bool (*go_on)(void *context); /* asked now and then; false ends the search with SEM_CANCELLED; NULL: goes on */
    void *context;
} lexical_query;

/* How it was done, for people who wonder at it. */
typedef struct lexical_plan {
    const char *kind;   /* "postings", "scan" or "none"; static */
    const char *reason; /* a few words, static */
    uint64_t seq;       /* of the log: what the index held */
    uint64_t documents; /* of the collection, in the index */
    size_t postings;    /* gone through */
    size_t candidates;  /* documents that they led to */
    size_t scored;      /* of these, scored from their texts */
    uint64_t terms_ns, postings_ns, rank_ns;
} lexical_plan;

/* A term of the query; an example of what a search went by. */
typedef struct lexical_word {
    const char *bytes; /* as long as the candidates live; not NUL-terminated */
    size_t length;
    unsigned times;     /* in the query */
    uint64_t documents; /* that hold it */
    double weight;      /* its inverse document frequency */
    bool drives;        /* its postings were gone through; others only add to scores */
} lexical_word;

typedef struct lexical_candidates lexical_candidates;

/* SEM_UNAVAILABLE, with how far it is, while the collection is being built. The
 * query is borrowed until the candidates are freed. */
sem_status lexical_gather(lexical_reader *r, const lexical_query *query, lexical_candidates **out, sem_error *err);
void lexical_candidates_free(lexical_candidates *c); /* accepts NULL */
const lexical_plan *lexical_candidates_plan(const lexical_candidates *c);
size_t lexical_candidates_words(const lexical_candidates *c);
lexical_word lexical_candidates_word(lexical_candidates *c, size_t i);

/* hits[k] gets the best documents, best first, ties by id; *count how many.
 * passes: NULL, or what a document's meta has to pass in this snapshot as well. */
sem_status lexical_rank(lexical_candidates *c, store_read *r, const filter *passes, vector_hit *hits, size_t *count,
                        sem_error *err);

/* After lexical_rank: whether there may be hits that are missing, because candidates were none by then and
 * frequent terms were not gone through. */
bool lexical_ran_short(const lexical_candidates *c, size_t count);

/* The score that a text, or a part of one, would have; 0 when it holds no term. After
 * lexical_rank. */
sem_status lexical_score(lexical_candidates *c, const char *text, size_t length, double *score, sem_error *err);

#endif
