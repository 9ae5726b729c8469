/* The "pre_tokenizer" of tokenizer.json: text to words, in steps each of which
 * splits the pieces of the one before. They follow one another for each piece, so
 * that a text takes no list of its words, and stop when enough tokens are there. */
#ifndef SEM_MODEL_SPLITTER_H
#define SEM_MODEL_SPLITTER_H

#include "base/status.h"
#include "model/token_model.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>

typedef struct splitter_step splitter_step;

/* Immutable after creation; zeroed leaves the text in one piece. */
typedef struct splitter {
    splitter_step *steps; /* [count], owned */
    size_t count;
    bool byte_level; /* the last step is ByteLevel: words are bytes, not characters */
    bool uses_first; /* a step asks whether a piece begins the text */
} splitter;

/* object is the "pre_tokenizer" (NULL or null: none); where names the file. A kind
 * that is not understood is refused by name. */
sem_status splitter_create(splitter *out, const json_t *object, const char *where, sem_error *err);
void splitter_free(splitter *s);

/* Takes one word (never empty); false when memory is out. */
typedef bool splitter_put(void *context, const char *word, size_t length);

/* Hands every word of the text to put, in order, until sink is full. first: the
 * text begins what was given to the tokenizer. Linear in length. False when
 * memory is out. */
bool splitter_run(const splitter *s, const char *text, size_t length, bool first, const token_sink *sink,
                  splitter_put *put, void *context);

/* A word ends before every space between two letters of ASCII, and what stands there
 * has no part in how the other side is split. */
bool splitter_is_local(const splitter *s);

#endif
