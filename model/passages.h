/* Cuts a long text at sentence ends into passages that overlap and that fit a model.
 * What is cut depends on nothing but the text, the tokenizer and the limits. */
#ifndef SEM_MODEL_PASSAGES_H
#define SEM_MODEL_PASSAGES_H

#include "base/status.h"
#include "model/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes from <= i < to of a text, without white space at the ends. */
typedef struct passage {
    uint32_t from, to;
} passage;

typedef struct passage_limits {
    size_t tokens;     /* of a passage's text, at most; special tokens and prompt are not counted */
    size_t overlap;    /* tokens of the passage before that are repeated, at most; <= tokens / 2 */
    size_t max_tokens; /* of prompt, text and special tokens together: the model's limit */
    /* Called after about every 16 KiB that were tokenized; false stops with SEM_CANCELLED; or NULL. */
    bool (*between)(void *context);
    void *context;
} passage_limits;

/* Texts in the form that the tokenizer sees; working memory that is used again. Zeroed is empty. */
typedef struct passage_cutter {
    passage *passages; /* [count], of the last text */
    size_t count, capacity;
    struct passage_unit *units; /* sentences of the last text, or parts of long ones */
    size_t unit_count, unit_capacity;
    token_batch counted;
} passage_cutter;

void passage_cutter_free(passage_cutter *c);

/* Cuts a text (valid UTF-8, at most 4 GiB) into c->passages, in order; at least one,
 * and an empty one only where the text is nothing but white space. A sentence that is too
 * long alone is cut between words, or inside one. With `prompt` before it each has at most
 * limits->max_tokens tokens. Linear in length.
 * SEM_FAILED_PRECONDITION where the model's limit leaves no room beside the prompt. */
sem_status passages_cut(passage_cutter *c, const tokenizer *t, const char *prompt, const passage_limits *limits,
                        const char *text, size_t length, sem_error *err);

#endif
