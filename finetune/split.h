/* How the texts of a batch are divided over the helpers of a training job: by
 * token count, in the same way every time. */
#ifndef SEM_FINETUNE_SPLIT_H
#define SEM_FINETUNE_SPLIT_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct split {
    unsigned helpers;
    uint32_t *order; /* text numbers: those of helper 0, then those of helper 1, ... */
    size_t *first;   /* [helpers + 1] where each helper's begin in order */
    /* working memory */
    size_t *load;     /* [helpers] tokens */
    uint32_t *owner;  /* [max_texts] */
    uint64_t *sorted; /* [max_texts] */
} split;

sem_status split_create(split *out, size_t max_texts, unsigned helpers, sem_error *err);
void split_free(split *s);

/* Longest text first, each to the helper with the fewest tokens so far (Graham
 * 1969). Within a helper the longest come first, so neighbours are of like length. */
void split_texts(split *s, const uint32_t *lengths, size_t texts);

#endif
