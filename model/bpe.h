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
    trie words;         /* tokens whose bytes are encoded as just that token */
} bpe;

/* model is the "model" object of tokenizer.json, whose vocab has been checked
 * for integer ids; where names the file. */
sem_status bpe_create(bpe *out, const json_t *model, const char *where, sem_error *err);
void bpe_free(bpe *b);

/* Puts the tokens of one word. Memory is linear in length, time is linear but for
 * the logarithm of a priority queue. False when memory is out. */
bool bpe_word(const bpe *b, const char *word, size_t length, token_sink *sink);

#endif
