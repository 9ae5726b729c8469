/* How much of a vote counts: what keeps one person, one question or one document from
 * teaching the model by themselves.
 *
 * A voter is a user; where none is given each search is one of its own. Three things take
 * from a voter's clicks before they are added up: clicking most of what a search shows
 * (that says little of any of it), clicking faster than people read, and having more than
 * a share of all. Then a query is bounded, and a document, whoever clicked: an attacker
 * who comes as many users still has only that document's share.
 *
 * A share that is too small for the number of voters or documents is taken as two even
 * shares: of ten documents none is held below a fifth. */
#ifndef SEM_FINETUNE_TRUST_H
#define SEM_FINETUNE_TRUST_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* One voter's judgement of one document for one query. */
typedef struct ballot {
    uint64_t user;   /* 0: not given */
    uint64_t search; /* 0: feedback, which has none; it counts as it is, but for the shares */
    int64_t time_ms;
    uint32_t shown;  /* documents that the search showed */
    uint32_t pair;   /* what it is for */
    uint32_t serial; /* the later, the higher */
    float weight;    /* 0 or more */
} ballot;

typedef struct trust_options {
    double user_share;   /* of all weight that one voter has at most; 0 or 1: no bound */
    double click_share;  /* of what its searches showed that a voter may click; above it a click counts for the
                            * less, down to nothing for who clicks everything; 0 or 1: no bound */
    size_t burst_clicks; /* of one voter in burst_ms, which count for so many where they are more; 0: no bound */
    uint64_t burst_ms;
    double query_weight;   /* that one query's pairs have in all; 0: no bound */
    double document_share; /* of all weight that the pairs of one document have; 0 or 1: no bound */
} trust_options;

/* Takes from the weights of ballots [count] what their voters do not deserve. They come
 * back in another order. */
sem_status trust_ballots(ballot *ballots, size_t count, const trust_options *options, sem_error *err);

/* What the bounds of queries and documents look at; the numbers are below `texts`. */
typedef struct trust_pair {
    uint32_t query, document;
    float weight;
} trust_pair;

sem_status trust_pairs(trust_pair *pairs, size_t count, size_t texts, const trust_options *options, sem_error *err);

/* The largest C such that no min(sums[i], C) is more than `share` of all those together;
 * share is taken as 2 / count at least. INFINITY where nothing needs to be cut. Sorts sums. */
double trust_cap(double *sums, size_t count, double share);

#endif
