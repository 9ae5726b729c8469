/* The gate of a job: what its files (job_gate*.c) share. Collections are looked at one after
 * the other, so that no more than one's texts and vectors are in memory. */
#ifndef SEM_DAEMON_JOB_GATE_H
#define SEM_DAEMON_JOB_GATE_H

#include "finetune/evaluate.h"
#include "finetune/gate.h"
#include "finetune/text_pool.h"
#include "daemon/job.h"

enum {
    GATE_RANKS = 10,         /* MRR@10, nDCG@10, recall@10 */
    GATE_QUERIES_MAX = 2000, /* held out, and of the newest: those whose names are lowest, so the same ones again */
    GATE_PROBES_LEAST = 200, /* of a collection, as far as it has documents: those that are never trained on, and where
                              * they are fewer others */
    GATE_SHOWN_MAX = 64      /* collections whose figures are shown: those nearest to harm */
};

typedef enum gate_set { GATE_HELDOUT, GATE_NEWEST, GATE_PROBE, GATE_SETS } gate_set;
typedef enum gate_when { GATE_BEFORE, GATE_AFTER, GATE_TIMES } gate_when;

/* --- which queries are asked (job_gate_pool.c) */

/* Entries of a pair set by query, and within a query by collection. */
typedef struct gate_chosen {
    const heldout_query **entries; /* [count] owned; what they point to is the pair set's */
    size_t count;
} gate_chosen;

/* Chooses at most GATE_QUERIES_MAX queries. */
sem_status gate_choose(const heldout_query *entries, size_t count, gate_chosen *out, sem_error *err);
void gate_chosen_free(gate_chosen *c);

/* --- a collection's documents and queries (job_gate_pool.c) */

typedef struct gate_document {
    uint32_t docno;   /* UINT32_MAX: a text without a document */
    uint64_t version; /* of the document's text */
    bool cut;         /* into passages: no vector in the store is of all that the model takes of it */
} gate_document;

typedef struct gate_query {
    uint64_t key;     /* holdout_key; 0 of a probe */
    const char *text; /* borrowed from the pair set or the pool */
    size_t length;
    size_t first, count;           /* its relevant documents in `relevant` */
    size_t first_vote, vote_count; /* of a held-out one, in `votes` */
} gate_query;

/* A document that people chose for a query, among what they were shown. */
typedef struct gate_vote {
    uint32_t document;   /* its number, as of all these */
    size_t first, count; /* what was shown, in `shown`; none: it is ranked among all */
    double weight;
} gate_vote;

typedef struct gate_pool {
    uint32_t collection;
    text_pool texts;          /* [count] of the documents, each different */
    gate_document *documents; /* [count] */
    size_t count, capacity;
    gate_query *queries; /* [query_count] set by set */
    size_t query_count, in_set[GATE_SETS];
    uint32_t *relevant; /* numbers of documents */
    size_t relevant_count;
    gate_vote *votes; /* [vote_count] of the held-out queries */
    size_t vote_count;
    uint32_t *shown; /* [shown_count] numbers of documents */
    size_t shown_count, shown_capacity;
} gate_pool;

typedef struct gate_pool_options {
    const gate_chosen *chosen; /* [GATE_PROBE] the held-out queries and the newest */
    size_t documents;          /* to sample, at most */
    size_t probes;             /* at most, or GATE_PROBES_LEAST */
    const unsigned char *key;  /* 16 bytes, by which training from own text leaves documents to the gate */
    const atomic_bool *cancel;
} gate_pool_options;

/* The documents of the chosen queries, a sample of the collection that stays the same from job
 * to job, and queries made of that. SEM_NOT_FOUND where the collection is gone. */
sem_status gate_pool_build(gate_pool *out, store_read *r, uint32_t collection, const gate_pool_options *options,
                           sem_error *err);
void gate_pool_free(gate_pool *p);

/* --- vectors (job_gate_vectors.c) */

typedef struct gate_vectors {
    float *documents; /* [pool's count, dim] */
    float *queries;   /* [pool's query_count, dim] */
    size_t dim;
} gate_vectors;

/* other: of a contender with the same model of documents, whose vectors are taken over; or
 * NULL. *done counts the texts encoded. */
sem_status gate_vectors_make(gate_vectors *out, const job *j, const gate_pool *p, const gate_contender *contender,
                             const gate_vectors *other, size_t *done, sem_error *err);
void gate_vectors_free(gate_vectors *v);

/* Appends the documents' vectors to j->known: if the candidate is promoted, they need not be
 * made again. */
sem_status gate_vectors_keep(job *j, const gate_pool *p, const gate_vectors *v, sem_error *err);

/* Adds the cosines of two lists of vectors [count, dim]. */
double gate_vectors_cosines(const float *a, const float *b, size_t count, size_t dim);

/* --- the figures (job_gate_figures.c) */

typedef struct gate_collection {
    char name[STORE_NAME_MAX + 1];
    rank_metrics sums[GATE_TIMES][GATE_SETS]; /* means once all is measured */
    size_t first_probe;                       /* of its probe queries among those of all */
} gate_collection;

typedef struct gate_figures {
    gate_collection *collections; /* [count], owned */
    gate_probe *probes;           /* [count], owned; of the collection with the same number */
    size_t count;
    rank_metrics totals[GATE_TIMES][GATE_SETS];
    double document_cosine, query_cosine; /* means; NAN where the widths differ or nothing was compared */
    gate_decision decision;
} gate_figures;

/* Tells the job's status, its generation-to-be and the log. */
sem_status gate_tell(job *j, gate_figures *f, sem_error *err);

#endif
