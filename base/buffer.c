#include "base/buffer.h"

#include "base/checked.h"

#include <string.h>

enum { FIRST_CAPACITY = 256 };

bool buffer_reserve(buffer *b, size_t more)
{
    size_t need;
    if (!checked_add(b->size, more, &need))
        return false;
    if (need <= b->capacity)
        return true;
    size_t capacity = b->capacity == 0 ? FIRST_CAPACITY : b->capacity;
    while (capacity < need)
        if (!checked_mul(capacity, 2, &capacity))
            return false;
    unsigned char *data = b->memory != NULL ? pool_resize(b->memory, b->data, capacity)
                                            : checked_realloc(b->data, capacity, 1);
    if (data == NULL)
        return false;
    b->data = data;
    b->capacity = capacity;
    return true;
}

bool buffer_append(buffer *b, const void *data, size_t size)
{
    if (!buffer_reserve(b, size))
        return false;
    if (size > 0)
        memcpy(b->data + b->size, data, size);
    b->size += size;
    return true;
}

void buffer_free(buffer *b)
{
    if (b->memory != NULL)
        pool_give(b->data);
    else
        free(b->data);
    *b = (buffer){.memory = b->memory};
}
