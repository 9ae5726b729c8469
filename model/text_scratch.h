/* Working space of the way from text to tokens. It lives with a token batch and is
 * used for one text after the other, so that texts of the usual lengths take no
 * memory of their own. */
#ifndef SEM_MODEL_TEXT_SCRATCH_H
#define SEM_MODEL_TEXT_SCRATCH_H

#include "base/buffer.h"
#include "model/marks.h"

enum { TEXT_SPLIT_STEPS = 16 };

/* What each buffer is for. */
typedef enum text_use {
    TEXT_JOINED,       /* a prompt and its text */
    TEXT_NORMAL,       /* normalized text */
    TEXT_BETWEEN_EVEN, /* what a normalizer's steps before the last one make, in turn */
    TEXT_BETWEEN_ODD,
    TEXT_LINKS,  /* of the symbols or pieces of one word */
    TEXT_SCORES, /* of the pieces of one word */
    TEXT_SPLIT,  /* and on: of each step of a splitter, a piece that it has changed */
    TEXT_USES = TEXT_SPLIT + TEXT_SPLIT_STEPS
} text_use;

/* Zeroed is empty. One thread at a time. */
typedef struct text_scratch {
    buffer buffers[TEXT_USES];
    mark_run marks; /* taken out while a run is under way */
} text_scratch;

void text_scratch_free(text_scratch *s);
/* Gives back what a very long text has taken, and keeps what most texts need. */
void text_scratch_trim(text_scratch *s);
/* At least so many bytes, aligned as malloc aligns; what was there may be lost. NULL when memory is out. */
void *text_scratch_room(text_scratch *s, text_use use, size_t bytes);
/* The buffer, emptied. */
buffer *text_scratch_empty(text_scratch *s, text_use use);

/* An empty run that uses the memory of the last one; and back. */
static inline mark_run text_scratch_take_marks(text_scratch *s)
{
    mark_run run = s->marks;
    run.count = 0;
    s->marks = (mark_run){.marks = NULL};
    return run;
}

static inline void text_scratch_give_marks(text_scratch *s, mark_run run)
{
    s->marks = run;
}

#endif
