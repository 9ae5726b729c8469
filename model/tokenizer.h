/* Text to token ids, equal to what Hugging Face's tokenizers give for the same
 * tokenizer.json. Immutable after opening: any thread may encode. */
#ifndef SEM_MODEL_TOKENIZER_H
#define SEM_MODEL_TOKENIZER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tokenizer tokenizer;

/* Token sequences laid end to end: no padding anywhere. Zeroed is empty. */
typedef struct token_batch {
    int32_t *ids;  /* [T], owned */
    size_t tokens; /* T */
    size_t ids_capacity;
    uint32_t *lengths; /* [B] tokens of each text, owned; they add up to T */
    size_t texts;      /* B */
    size_t lengths_capacity;
    struct text_scratch *scratch; /* working memory of tokenizer_encode, owned; NULL before the first text */
} token_batch;

void token_batch_clear(token_batch *batch); /* keeps the memory */
void token_batch_free(token_batch *batch);
/* Appends a copy of one text's ids. False when memory is out. */
bool token_batch_append(token_batch *batch, const int32_t *ids, size_t count);
/* Room of so many bytes to put a text together that is then given to tokenizer_encode;
 * it lasts until that returns. NULL when memory is out. */
char *token_batch_room(token_batch *batch, size_t bytes);

/* Reads dir/tokenizer.json. vocab is the number of rows of the model's token
 * table: an id that is not below it is refused. */
sem_status tokenizer_open(tokenizer **out, const char *dir, size_t vocab, sem_error *err);
void tokenizer_close(tokenizer *t); /* accepts NULL */

/* Appends one text (length bytes of valid UTF-8) to batch, special tokens
 * included, at most max_tokens of them (>= the special tokens' number).
 * *truncated (may be NULL) says whether tokens were cut. Linear in length: at most
 * 40 bytes of memory a byte of text, 128 where the normalizer makes it 11 times as
 * long, as NFKC can. BERT's single pass stops where a token too many is certain.
 * Other tokenizers take a long text in pieces and stop behind one, if each of their
 * steps is known to look no further than a word; else they normalize the whole text.
 * The memory stays with the batch, but for what only very long texts need. */
sem_status tokenizer_encode(const tokenizer *t, const char *text, size_t length, size_t max_tokens, token_batch *batch,
                            bool *truncated, sem_error *err);

struct buffer; /* base/buffer.h */

/* Appends the text (valid UTF-8) as the normalizer leaves it, before it is cut into words. Linear in length. */
sem_status tokenizer_normalize(const tokenizer *t, const char *text, size_t length, struct buffer *out, sem_error *err);

/* The token's text in the vocabulary, or NULL; borrowed. */
const char *tokenizer_token(const tokenizer *t, int32_t id);

#endif
