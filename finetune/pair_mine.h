/* Hard negatives for pairs in memory that have none: documents of the pair's collection that are
 * among the best for its query, by words (BM25) or by the current model, and are most likely wrong.
 * They are looked for in the indices that searches use; no copy of the collection is made. The rules
 * are those of mine.h. */
#ifndef SEM_FINETUNE_PAIR_MINE_H
#define SEM_FINETUNE_PAIR_MINE_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "index/lexical_search.h"
#include "index/vector_index.h"
#include "finetune/pairs.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Gives what a collection is searched by, until it is asked for the next one: each may be NULL, and is
 * then passed over. Called in the thread that searches. */
typedef sem_status pair_mine_open(void *context, uint32_t collection, vector_index **vectors, lexical_reader **words,
                                  sem_error *err);

typedef struct pair_mine_options {
    store *store;
    uint32_t space;       /* of the vectors */
    const model *queries; /* encodes queries for that space; borrowed */
    size_t negatives;     /* of a pair, drawn at random of those that pass; at least 1 */
    size_t top;           /* candidates of each index */
    double ratio;         /* candidates whose cosine with the query is above this times the pair's own document's
                           * are most likely right (mine_guide_limit) */
    uint64_t seed;        /* of the drawing */
    unsigned threads;     /* that encode queries; one searches */
    niceness nice;
    const atomic_bool *cancel; /* may be NULL */
    pair_mine_open *open;
    void (*progress)(void *context, size_t done, size_t all); /* queries; may be NULL */
    void *context;                                            /* of both */
} pair_mine_options;

/* Sums over the pairs looked at. */
typedef struct pair_mine_report {
    size_t pairs;                                  /* that had no negative */
    size_t candidates, known, same_text, by_score; /* left out by each rule, in this order */
    size_t drawn;
    size_t without;       /* pairs with none left */
    size_t unsearched;    /* queries that no index was there for */
    size_t without_words; /* collections whose lexical index could not be asked, or no more */
} pair_mine_report;

/* Every pair has its document's vector in the space (pair_vectors.h). Negatives have none afterwards,
 * nor do the set's documents that were added. Reads in short transactions. */
sem_status pair_mine(pair_set *set, const pair_mine_options *options, pair_mine_report *report, sem_error *err);

#endif
