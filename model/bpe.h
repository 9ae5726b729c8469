/* Byte-pair encoding (Sennrich et al. 2016, section 3.2) over bytes (Radford et
 * al. 2019): the neighbouring pair that was merged first in training is merged
 * first, the leftmost of equal ones. */
#ifndef SEM_MODEL_BPE_H
#define SEM_MODEL_BPE_H

#include "base/status.h"
#include "model/token_model.h"
#include "model/trie.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bpe_merge {
    int32_t left, right; /* left is -1 where the entry is free */
    int32_t rank;
    int32_t result;
} bpe_merge;

typedef struct bpe {
    int32_t bytes[256]; /* the token of each byte */
    bpe_merge *merges;  /* hash table with open addressing, owned */
    size_t mask;        /* entries - 1, a power of two less one */
    size_t ranks;       /* merges that the file lists: every rank is below */
    bool in_order;      /* the pairs that a merge brings about all have a higher rank than it */
    trie words;         /* tokens whose bytes are encoded as just that token */
} bpe;

/* model is the "model" object of tokenizer.json, whose vocab has been checked
 * for integer ids; where names the file. */
sem_status bpe_create(bpe *out, const json_t *model, const char *where, sem_error *err);
void bpe_free(bpe *b);

static inline size_t bpe_hash_pair(int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    return (size_t)(key * UINT64_C(0x9E3779B97F4A7C15) >> 29);
}

/* The merge of a pair, or NULL. */
static inline const bpe_merge *bpe_find_merge(const bpe *b, int32_t left, int32_t right)
{
    for (size_t i = bpe_hash_pair(left, right) & b->mask;; i = (i + 1) & b->mask) {
        const bpe_merge *m = &b->merges[i];
        if (m->left == left && m->right == right)
            return m;
        if (m->left < 0)
            return NULL;
    }
}

/* Puts the tokens of one word. Time and memory are linear in length (see
 * bpe_long.h). False when memory is out. */
bool bpe_word(const bpe *b, const char *word, size_t length, token_sink *sink);

#endif
