/* Character classes that several tokenizers share. */
#ifndef SEM_MODEL_CHARACTERS_H
#define SEM_MODEL_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct char_range {
    uint32_t first, last;
} char_range;

/* True if code lies in one of the ranges, which are in order. */
bool char_within(const char_range *ranges, size_t count, uint32_t code);

#define CHAR_WITHIN(table, code) char_within((table), sizeof(table) / sizeof(table)[0], (code))

/* White_Space of Unicode: 25 characters. */
bool char_is_white_space(uint32_t code);

/* \w of Unicode TS 18, annex C: Alphabetic, marks, decimal numbers, connectors, joiners. */
bool char_is_word(uint32_t code);

/* \p{L}, \p{N} and \p{Nd}. */
bool char_is_letter(uint32_t code);
bool char_is_number(uint32_t code);
bool char_is_digit(uint32_t code);

/* \p{M}, as of Unicode 10: what stripping accents removes outside of BERT. */
bool char_is_mark(uint32_t code);

#endif
