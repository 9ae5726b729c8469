/* The expressions by which GPT-2, GPT-4 and those after them split a text into
 * words, matched by hand in linear time. */
#ifndef SEM_MODEL_WORD_PATTERN_H
#define SEM_MODEL_WORD_PATTERN_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum word_pattern_kind {
    WORDS_GPT2, /* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
    WORDS_GPT4, /* numbers of up to three digits, line ends stay with what they end (Llama 3) */
    WORDS_QWEN  /* the same with numbers of one digit (Qwen 2 and 3) */
} word_pattern_kind;

typedef struct word_pattern {
    word_pattern_kind kind;
    unsigned char *classes; /* [65536] of the Basic Multilingual Plane, owned */
} word_pattern;

/* False if the expression is none of them, letter by letter. */
bool word_pattern_find(const char *expression, word_pattern_kind *out);

sem_status word_pattern_create(word_pattern *out, word_pattern_kind kind, sem_error *err);
void word_pattern_free(word_pattern *p);

/* Where the word that begins at i (below length) ends: each begins where the last one ended. */
size_t word_pattern_end(const word_pattern *p, const char *text, size_t length, size_t i);

#endif
