/* What BERT's normalizer and pre-tokenizer do to a single character, looked up
 * in a table that is computed once for the Basic Multilingual Plane. */
#ifndef SEM_MODEL_BERT_CHARS_H
#define SEM_MODEL_BERT_CHARS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct bert_rules {
    bool clean_text;           /* remove controls, turn white space into spaces */
    bool handle_chinese_chars; /* put spaces around CJK ideographs */
    bool strip_accents;        /* canonical decomposition, then remove Mn */
    bool lowercase;
} bert_rules;

typedef enum bert_kind {
    BERT_WORD,      /* one character, part of a word */
    BERT_SPACE,     /* one character that separates words */
    BERT_PUNCT,     /* one character that is a word by itself */
    BERT_CJK,       /* one character with a space on either side */
    BERT_DROP,      /* nothing, as if it had not been there */
    BERT_DROP_MARK, /* a removed mark of combining class 0: marks are not reordered across it */
    BERT_SEQUENCE   /* several characters, or a mark that may have to be reordered: bert_expand() */
} bert_kind;

/* An entry is out << 3 | kind; out is the character that results. */
typedef uint32_t bert_entry;

typedef struct bert_chars {
    bert_rules rules;
    bert_entry *bmp; /* [65536], owned */
} bert_chars;

enum { BERT_EXPANSION_MAX = 24 }; /* characters; the longest canonical decomposition has 4, plus two spaces */

/* A removed mark of class 0 inside an expansion: nothing, but it ends a run of marks. */
#define BERT_REMOVED UINT32_MAX

typedef struct bert_expansion {
    uint32_t code[BERT_EXPANSION_MAX];
    uint8_t combining[BERT_EXPANSION_MAX]; /* canonical combining class; 0 ends a run of marks */
    uint32_t count;
} bert_expansion;

sem_status bert_chars_create(bert_chars *out, const bert_rules *rules, sem_error *err);
void bert_chars_free(bert_chars *chars);

/* The entry of any character. */
bert_entry bert_classify(const bert_chars *chars, uint32_t code);

static inline bert_entry bert_lookup(const bert_chars *chars, uint32_t code)
{
    return code < 0x10000 ? chars->bmp[code] : bert_classify(chars, code);
}

static inline bert_kind bert_entry_kind(bert_entry e)
{
    return (bert_kind)(e & 7);
}

static inline uint32_t bert_entry_char(bert_entry e)
{
    return e >> 3;
}

/* The characters that one character becomes. */
void bert_expand(const bert_rules *rules, uint32_t code, bert_expansion *out);

/* The small letter of a capital one (U+0130 aside, which has two characters); others stay. */
uint32_t bert_lower(uint32_t code);

/* WORD, SPACE or PUNCT of a normalized character. */
bert_kind bert_split_kind(uint32_t code);

#endif
