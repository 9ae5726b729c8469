/* The simplest regular expressions: one class of characters, once or in a run, such
 * as \s+, [0-9] or " {2,}". They are what tokenizer.json's patterns are made of,
 * those of GPT aside (word_pattern.h), and match in linear time. */
#ifndef SEM_MODEL_CHAR_PATTERN_H
#define SEM_MODEL_CHAR_PATTERN_H

#include "model/characters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHAR_PATTERN_RANGES = 16 };

typedef enum char_class {
    CHAR_SPACE = 1, /* \s */
    CHAR_DIGIT = 2, /* \d, \p{Nd} */
    CHAR_LETTER = 4,
    CHAR_NUMBER = 8,
    CHAR_PUNCTUATION = 16, /* as BERT counts it; no expression says so */
    CHAR_NUMERIC = 32      /* \p{N} of a later Unicode; likewise */
} char_class;

/* Zeroed matches no character. */
typedef struct char_pattern {
    char_range ranges[CHAR_PATTERN_RANGES];
    size_t range_count;
    unsigned classes; /* char_class bits: any of them */
    unsigned outside; /* char_class bits: not in all of them, such as \S */
    bool negated;     /* all characters but these */
    bool run;         /* as many as there are, not one */
    size_t least;     /* a run of fewer is no match */
    bool ascii[128];  /* what the above says of these */
} char_pattern;

/* Fills ascii; to be called once after the rest has been set by hand. */
void char_pattern_finish(char_pattern *p);

/* False if the expression is not of that kind. */
bool char_pattern_parse(char_pattern *out, const char *expression);

bool char_pattern_has(const char_pattern *p, uint32_t code);

/* The next match at or after i: false if there is none, else [*from, *to). */
bool char_pattern_find(const char_pattern *p, const char *text, size_t length, size_t i, size_t *from, size_t *to);

#endif
