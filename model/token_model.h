/* What every kind of tokenizer gives to tokenizer.c: text between added tokens
 * in, token ids out. */
#ifndef SEM_MODEL_TOKEN_MODEL_H
#define SEM_MODEL_TOKEN_MODEL_H

#include "base/buffer.h"
#include "base/checked.h"
#include "base/status.h"
#include "model/text_scratch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where ids go. What is beyond limit is counted but not kept, so that a word
 * can be finished (it may yet turn out to be unknown) before the text is left. */
typedef struct token_sink {
    int32_t *ids; /* owned by whoever made the sink */
    size_t capacity;
    size_t start;          /* ids before this belong to other texts */
    size_t count;          /* tokens since start, special ones included */
    size_t limit;          /* at most this many are kept */
    text_scratch *scratch; /* borrowed */
} token_sink;

/* Room for `more` further tokens (no more than the limit needs); false when memory is out. */
static inline bool token_sink_reserve(token_sink *s, size_t more)
{
    size_t left = s->count < s->limit ? s->limit - s->count : 0;
    size_t wanted;
    if (!checked_add(s->start + (s->count < s->limit ? s->count : s->limit), more < left ? more : left, &wanted))
        return false;
    if (wanted <= s->capacity)
        return true;
    size_t capacity = wanted + wanted / 2 + 16;
    int32_t *ids = checked_realloc(s->ids, capacity, sizeof *ids);
    if (ids == NULL)
        return false;
    s->ids = ids;
    s->capacity = capacity;
    return true;
}

/* Room must have been reserved. */
static inline void token_sink_put(token_sink *s, int32_t id)
{
    if (s->count < s->limit)
        s->ids[s->start + s->count] = id;
    s->count++;
}

/* True once a further token would be cut: encoding stops. */
static inline bool token_sink_full(const token_sink *s)
{
    return s->count > s->limit;
}

/* One kind of tokenizer. state is immutable: several threads call at once. */
typedef struct token_model {
    void *state;
    /* Normalizes, splits and looks up a piece of raw text. Returns early once
     * the sink is full. first: the piece begins the text. */
    sem_status (*encode)(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                         sem_error *err);
    /* The two halves of encode, for texts in which normalized added tokens are to be
     * found. *first becomes false where the beginning of the text is removed. */
    sem_status (*normalize)(const void *state, const char *text, size_t length, text_scratch *scratch, buffer *out,
                            bool *first, sem_error *err);
    sem_status (*encode_normalized)(const void *state, const char *text, size_t length, bool first, token_sink *sink,
                                    sem_error *err);
    void (*destroy)(void *state); /* accepts NULL */
} token_model;

#endif
