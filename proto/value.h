/* Heads of MessagePack values, and a cursor over bytes that holds some: the one
 * place that knows how MessagePack is laid out. The frame scanner and the
 * request parser read with it, so a request is parsed without building objects. */
#ifndef SEM_PROTO_VALUE_H
#define SEM_PROTO_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum value_kind {
    VALUE_INCOMPLETE, /* more bytes are needed; head_size says how many the head has */
    VALUE_INVALID,    /* 0xc1, which no value begins with */
    VALUE_NIL,
    VALUE_BOOL,
    VALUE_UINT, /* not negative, in whatever encoding */
    VALUE_INT,  /* negative */
    VALUE_FLOAT,
    VALUE_STR,
    VALUE_BIN,
    VALUE_EXT,
    VALUE_ARRAY,
    VALUE_MAP
} value_kind;

typedef struct value_head {
    value_kind kind;
    size_t head_size;          /* bytes before the payload; of a number all of it */
    uint64_t number;           /* bool, integer (two's complement), payload bytes, elements or entries */
    double real;               /* of a float */
    const unsigned char *data; /* the payload of a str, bin or ext, inside the bytes read; set by value_next */
} value_head;

/* Reads the head at data (size bytes left, may be 0). */
void value_head_read(const unsigned char *data, size_t size, value_head *out);

/* "a str", "an array", ...: for messages. */
const char *value_kind_name(value_kind kind);

typedef struct value_cursor {
    const unsigned char *at, *end;
} value_cursor;

/* Reads the head and passes over the payload of a str, bin or ext; elements of
 * an array or map follow. False when the bytes do not hold it whole. */
bool value_next(value_cursor *cursor, value_head *out);

/* Passes over one whole value, however deep. False when the bytes end before it does. */
bool value_skip(value_cursor *cursor);

#endif
