/* Internal to splitter*.c: a step as it was read. */
#ifndef SEM_MODEL_SPLITTER_STEPS_H
#define SEM_MODEL_SPLITTER_STEPS_H

#include "model/char_pattern.h"
#include "model/splitter.h"
#include "model/word_pattern.h"

/* What becomes of the matches of a pattern. */
typedef enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
} split_behavior;

typedef enum split_kind {
    SPLIT_CHARS,      /* at matches of chars */
    SPLIT_TEXT,       /* at occurrences of text */
    SPLIT_WORDS,      /* at matches of words, which leave nothing between them */
    SPLIT_WHITESPACE, /* runs of word characters, and runs of others that are no white space */
    SPLIT_BYTES,      /* ByteLevel */
    SPLIT_METASPACE   /* white space becomes text, and each text begins a word */
} split_kind;

typedef enum split_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } split_prepend;

struct splitter_step {
    split_kind kind;
    split_behavior behavior;
    bool invert; /* what lies between matches is the match */
    char_pattern chars;
    word_pattern words;
    char *text;            /* owned */
    bool add_prefix_space; /* ByteLevel: before a piece that begins with none */
    bool use_words;        /* ByteLevel: splits, too */
    split_prepend prepend; /* Metaspace: a text goes before what has none */
    bool split;            /* Metaspace: splits, too */
};

enum { SPLITTER_STEPS_MAX = TEXT_SPLIT_STEPS };

#endif
