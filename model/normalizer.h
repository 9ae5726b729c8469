/* The "normalizer" of tokenizer.json: text to text, in steps. */
#ifndef SEM_MODEL_NORMALIZER_H
#define SEM_MODEL_NORMALIZER_H

#include "base/buffer.h"
#include "base/status.h"
#include "model/text_scratch.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>

typedef struct normalizer_step normalizer_step;

/* Immutable after creation; zeroed leaves text as it is. */
typedef struct normalizer {
    normalizer_step *steps; /* [count], owned */
    size_t count;
    bool hides_first; /* a step may remove what an earlier one has put at the beginning */
} normalizer;

/* object is the "normalizer" (NULL or null: nothing is changed); where names the
 * file. A kind that is not understood is refused by name. */
sem_status normalizer_create(normalizer *out, const json_t *object, const char *where, sem_error *err);
void normalizer_free(normalizer *n);

/* Appends the normalized text; linear in length. *first (may be NULL) becomes
 * false where characters at the text's beginning are removed. */
sem_status normalizer_apply(const normalizer *n, const char *text, size_t length, text_scratch *scratch, buffer *out,
                            bool *first, sem_error *err);

/* Each step leaves letters of ASCII letters and a space between them a space, and looks
 * no further there than one letter: a text may be normalized in pieces, cut before a
 * space that stands between NORMALIZER_CONTEXT such letters. */
enum { NORMALIZER_CONTEXT = 4 };
bool normalizer_is_local(const normalizer *n);

#endif
