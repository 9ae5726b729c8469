/* Pairs made from collections' own documents: a title or first sentence, and what follows it
 * (an inverse cloze, Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain
 * Question Answering", with the sentence that most resembles a query). Trained on beside clicks
 * they keep a model able to find what nobody clicks. */
#ifndef SEM_FINETUNE_OWN_PAIRS_H
#define SEM_FINETUNE_OWN_PAIRS_H

#include "base/status.h"
#include "index/store.h"
#include "finetune/pairs.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct own_pairs_options {
    uint32_t collection;       /* 0: all whose vectors are the model's */
    size_t most;               /* pairs, over all collections in proportion to their documents */
    bool whole;                /* the document is its whole text, as its vector in the store is; else the rest */
    float weight;              /* of each pair */
    uint64_t seed;             /* of which documents are drawn */
    double heldout_share;      /* as in pair_options, with the key: what would be a held-out query makes no pair */
    const unsigned char *key;  /* 16 bytes */
    const atomic_bool *cancel; /* may be NULL */
} own_pairs_options;

/* One pair at most of a document, none of a document that the gate may probe with, and none where
 * the first sentence is all. Equal texts count once. out holds pairs and their documents; there are
 * no negatives. Reads in short transactions; SEM_CANCELLED when *cancel became true. */
sem_status own_pairs_collect(pair_set *out, store *s, const own_pairs_options *options, sem_error *err);

/* Whether a document of this text is one that the gate may make a probe query of: half of all, by a
 * keyed hash of the text, in every round. No pair is ever made from these. */
bool own_text_is_probe(const unsigned char key[16], const char *text, size_t length);

#endif
