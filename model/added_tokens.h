/* Added tokens: strings such as [MASK] that are found in the text before it is
 * split, either as it came or after normalization. */
#ifndef SEM_MODEL_ADDED_TOKENS_H
#define SEM_MODEL_ADDED_TOKENS_H

#include "base/status.h"
#include "model/token_model.h"
#include "model/trie.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct added_token {
    char *content; /* owned */
    int32_t id;
    bool single_word; /* only where no word character stands next to it */
    bool lstrip;      /* takes the white space before it along */
    bool rstrip;      /* takes the white space after it along */
    bool normalized;  /* is looked for in the normalized text */
} added_token;

typedef struct added_tokens {
    added_token *tokens; /* owned, in the file's order */
    size_t count;
    trie raw;        /* contents of those not normalized; a value is count - 1 - index */
    trie normalized; /* normalized contents of the others */
    bool any_normalized;
    int only_first_byte; /* of those not normalized, -1 where there are several: memchr() skips to it */
} added_tokens;

/* array is "added_tokens" of tokenizer.json (NULL or null: there are none). */
sem_status added_tokens_create(added_tokens *out, const json_t *array, const char *where, const token_model *model,
                               sem_error *err);
void added_tokens_free(added_tokens *a);

/* A text is read as: a piece of plain text (maybe empty), an added token, and so
 * on; the last piece has no token. Zeroed is the start. */
typedef struct added_scan {
    size_t scanned; /* matches end here */
    size_t start;   /* the next plain text starts here */
} added_scan;

typedef struct added_piece {
    size_t from, to; /* bytes of plain text before the token */
    int32_t id;      /* -1: none, the text ends */
} added_piece;

/* False when the text has ended. Leftmost longest matches; linear in length (times
 * the longest added token). */
bool added_tokens_next(const added_tokens *a, bool normalized, const char *text, size_t length, added_scan *scan,
                       added_piece *out);

#endif
