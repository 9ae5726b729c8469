/* From judgements (clicks and feedback) to training pairs and held-out queries. */
#ifndef SEM_FINETUNE_PAIRS_H
#define SEM_FINETUNE_PAIRS_H

#include "base/status.h"
#include "index/events.h"
#include "index/store.h"
#include "finetune/trainer.h"

/* A held-out query with a document that people chose for it: one entry for each
 * such document. */
typedef struct heldout_query {
    const char *query;
    size_t query_length;
    uint32_t collection;
    bool by_id; /* docno names the document; else document_text is it */
    uint32_t docno;
    const char *document;
    size_t document_length;
} heldout_query;

typedef struct pair_set {
    train_pair *pairs;
    size_t count;
    heldout_query *heldout;
    size_t heldout_count;
    size_t skipped; /* judgements whose document or collection is gone or external, and (query, document)s
                     * judged bad or taken back last */
    void *texts;    /* the strings' memory */
} pair_set;

typedef struct pair_options {
    uint32_t collection;      /* 0: all */
    double heldout_share;     /* of the queries, chosen by a hash of the query's text: the same ones in every round */
    const unsigned char *key; /* 16 bytes for that hash */
} pair_options;

/* Reads every judgement, but for those of external collections, whose vectors no model
 * makes: nothing is learnt from them. One vote a (query, document), in order of the first:
 * the latest counts, weights are capped at 1 vote; documents of equal text are
 * one document. Clicked texts are read from the store and copied. */
sem_status pair_set_collect(pair_set *out, store_read *r, const pair_options *options, sem_error *err);
void pair_set_free(pair_set *set);

#endif
