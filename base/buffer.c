#include "base/buffer.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

enum { FIRST_CAPACITY = 256, PRINT_FIRST = 64 /* bytes that most prints fit in */ };

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

bool buffer_print_list(buffer *b, const char *format, va_list args)
{
    va_list again;
    size_t room = PRINT_FIRST;
    int length = -1;
    va_copy(again, args);
    if (buffer_reserve(b, room))
        length = vsnprintf((char *)b->data + b->size, room, format, args);
    if (length >= (int)room) {
        room = (size_t)length + 1;
        length = buffer_reserve(b, room) ? vsnprintf((char *)b->data + b->size, room, format, again) : -1;
    }
    va_end(again);
    b->size += length > 0 ? (size_t)length : 0;
    return length >= 0;
}

bool buffer_print(buffer *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const bool printed = buffer_print_list(b, format, args);
    va_end(args);
    return printed;
}

void buffer_free(buffer *b)
{
    if (b->memory != NULL)
        pool_give(b->data);
    else
        free(b->data);
    *b = (buffer){.memory = b->memory};
}
