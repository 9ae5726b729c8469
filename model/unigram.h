/* The unigram language model (Kudo 2018, "Subword Regularization", section 3.2):
 * of all ways to cut a word into pieces, the one whose scores add up highest,
 * found by Viterbi's algorithm. */
#ifndef SEM_MODEL_UNIGRAM_H
#define SEM_MODEL_UNIGRAM_H

#include "base/status.h"
#include "model/token_model.h"
#include "model/trie.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct unigram {
    trie pieces;
    double *scores; /* of each id, owned */
    size_t count;
    int32_t unknown;
    double unknown_score; /* of a character that no piece covers */
    size_t window;        /* a power of two above the bytes of the longest piece */
} unigram;

/* The last piece of the best way to one byte of a word. */
typedef struct unigram_node {
    uint32_t length; /* bytes; 0: nothing leads here */
    int32_t id;
} unigram_node;

/* model is the "model" object of tokenizer.json; where names the file. */
sem_status unigram_create(unigram *out, const json_t *model, const char *where, sem_error *err);
void unigram_free(unigram *u);

/* Puts the pieces of one word; neighbouring unknown ones become one token. False when memory is out. */
bool unigram_word(const unigram *u, const char *word, size_t length, token_sink *sink);

#endif
