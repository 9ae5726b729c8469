#include "model/text_scratch.h"

#include "base/checked.h"

/* Bytes of a buffer that stay: a text of 64 KiB in any of the steps. */
enum { KEPT_BYTES = 256 << 10 };

void text_scratch_free(text_scratch *s)
{
    for (size_t i = 0; i < TEXT_USES; i++)
        buffer_free(&s->buffers[i]);
    mark_run_free(&s->marks);
}

void text_scratch_trim(text_scratch *s)
{
    for (size_t i = 0; i < TEXT_USES; i++)
        if (s->buffers[i].capacity > KEPT_BYTES)
            buffer_free(&s->buffers[i]);
    if (s->marks.capacity > KEPT_BYTES / (2 * sizeof(mark)))
        mark_run_free(&s->marks);
}

buffer *text_scratch_empty(text_scratch *s, text_use use)
{
    s->buffers[use].size = 0;
    return &s->buffers[use];
}

/* Nothing is copied from the old block, nor held beside it; and a long word's is no
 * larger than it needs, for it goes back after the text. */
void *text_scratch_room(text_scratch *s, text_use use, size_t bytes)
{
    buffer *b = text_scratch_empty(s, use);
    if (bytes > b->capacity && bytes > KEPT_BYTES) {
        buffer_free(b);
        b->data = checked_realloc(NULL, bytes, 1);
        b->capacity = b->data == NULL ? 0 : bytes;
        return b->data;
    }
    return buffer_reserve(b, bytes > 0 ? bytes : 1) ? b->data : NULL;
}
