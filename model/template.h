/* What the post-processor of tokenizer.json puts around a text: [CLS] and [SEP]. */
#ifndef SEM_MODEL_TEMPLATE_H
#define SEM_MODEL_TEMPLATE_H

#include "base/status.h"

#include <jansson.h>

#include <stddef.h>
#include <stdint.h>

enum { TEMPLATE_TOKENS_MAX = 32 }; /* on either side */

typedef struct token_template {
    int32_t before[TEMPLATE_TOKENS_MAX];
    int32_t after[TEMPLATE_TOKENS_MAX];
    size_t before_count;
    size_t after_count;
} token_template;

/* processor is "post_processor" (NULL or null: nothing is added); an id that is
 * not below vocab is refused. */
sem_status token_template_read(token_template *out, const json_t *processor, const char *where, size_t vocab,
                               sem_error *err);

#endif
