/* WordPiece (Schuster and Nakajima 2012; as in Devlin et al. 2019): a word is
 * cut into the longest pieces of the vocabulary from left to right, and is
 * unknown as a whole if that fails. */
#ifndef SEM_MODEL_WORDPIECE_H
#define SEM_MODEL_WORDPIECE_H

#include "base/status.h"
#include "model/token_model.h"
#include "model/trie.h"

#include <jansson.h>

#include <stddef.h>
#include <stdint.h>

enum { WORDPIECE_CHARS_MAX = 1024 }; /* largest max_input_chars_per_word that is taken */

typedef struct wordpiece {
    trie vocabulary;
    uint32_t continuing; /* node of the trie from which pieces inside a word are looked up, or TRIE_NONE */
    int32_t unknown;
    size_t word_chars_max; /* a longer word is unknown */
} wordpiece;

/* model is the "model" object of tokenizer.json; where names the file. */
sem_status wordpiece_create(wordpiece *out, const json_t *model, const char *where, sem_error *err);
void wordpiece_free(wordpiece *w);

/* Puts the pieces of one word of at most word_chars_max characters; the sink has
 * room for length of them. */
void wordpiece_word(const wordpiece *w, const char *word, size_t length, token_sink *sink);

#endif
