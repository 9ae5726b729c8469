#include "proto/value.h"

#include <string.h>

static uint64_t big_endian(const unsigned char *p, size_t bytes)
{
    uint64_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n = n << 8 | p[i];
    return n;
}

/* An integer of `bytes` bytes behind the type byte. */
static void read_integer(const unsigned char *data, size_t bytes, bool is_signed, value_head *out)
{
    uint64_t n = big_endian(data + 1, bytes);
    bool negative = is_signed && (n >> (8 * bytes - 1) & 1) != 0;
    if (negative && bytes < 8)
        n |= ~UINT64_C(0) << (8 * bytes);
    out->kind = negative ? VALUE_INT : VALUE_UINT;
    out->number = n;
}

static void read_float(const unsigned char *data, size_t bytes, value_head *out)
{
    out->kind = VALUE_FLOAT;
    uint64_t bits = big_endian(data + 1, bytes);
    if (bytes == sizeof(double)) {
        memcpy(&out->real, &bits, sizeof out->real);
        return;
    }
    uint32_t narrow = (uint32_t)bits;
    float real;
    memcpy(&real, &narrow, sizeof real);
    out->real = real;
}

/* Bytes behind the type byte that belong to the head, for 0xc0 to 0xdf. */
static const unsigned char MORE_HEAD_BYTES[32] = {
    0, 0, 0, 0, 1, 2, 4, 2, 3, 5, 4, 8, 1, 2, 4, 8, /* nil -, bools, bin, ext (with its type), floats, uints */
    1, 2, 4, 8, 1, 1, 1, 1, 1, 1, 2, 4, 2, 4, 2, 4, /* ints, fixext (type), str 8 16 32, array, map */
};

/* 0xc0 to 0xdf, the whole head at hand. */
static void read_long_head(const unsigned char *data, value_head *out)
{
    unsigned char byte = data[0];
    size_t more = out->head_size - 1;
    switch (byte) {
    case 0xc0: out->kind = VALUE_NIL; return;
    case 0xc1: out->kind = VALUE_INVALID; return;
    case 0xc2:
    case 0xc3:
        out->kind = VALUE_BOOL;
        out->number = byte & 1;
        return;
    case 0xc7:
    case 0xc8:
    case 0xc9:
        out->kind = VALUE_EXT;
        out->number = big_endian(data + 1, more - 1);
        return;
    case 0xca:
    case 0xcb: read_float(data, more, out); return;
    default: break;
    }
    if (byte >= 0xcc && byte <= 0xd3) {
        read_integer(data, more, byte >= 0xd0, out);
        return;
    }
    if (byte >= 0xd4 && byte <= 0xd8) {
        out->kind = VALUE_EXT;
        out->number = UINT64_C(1) << (byte - 0xd4);
        return;
    }
    out->kind = byte <= 0xc6 ? VALUE_BIN : byte <= 0xdb ? VALUE_STR : byte <= 0xdd ? VALUE_ARRAY : VALUE_MAP;
    out->number = big_endian(data + 1, more);
}

void value_head_read(const unsigned char *data, size_t size, value_head *out)
{
    *out = (value_head){.kind = VALUE_INCOMPLETE, .head_size = 1};
    if (size == 0)
        return;
    unsigned char byte = data[0];
    if (byte <= 0x7f) {
        out->kind = VALUE_UINT;
        out->number = byte;
    } else if (byte >= 0xe0) {
        out->kind = VALUE_INT;
        out->number = ~UINT64_C(0xff) | byte;
    } else if (byte <= 0x8f) {
        out->kind = VALUE_MAP;
        out->number = byte & 0x0f;
    } else if (byte <= 0x9f) {
        out->kind = VALUE_ARRAY;
        out->number = byte & 0x0f;
    } else if (byte <= 0xbf) {
        out->kind = VALUE_STR;
        out->number = byte & 0x1f;
    } else {
        out->head_size = 1 + (size_t)MORE_HEAD_BYTES[byte - 0xc0];
        if (out->head_size <= size)
            read_long_head(data, out);
    }
}

const char *value_kind_name(value_kind kind)
{
    switch (kind) {
    case VALUE_NIL: return "nil";
    case VALUE_BOOL: return "a bool";
    case VALUE_UINT: return "an integer";
    case VALUE_INT: return "a negative integer";
    case VALUE_FLOAT: return "a float";
    case VALUE_STR: return "a str";
    case VALUE_BIN: return "a bin";
    case VALUE_EXT: return "an ext value";
    case VALUE_ARRAY: return "an array";
    case VALUE_MAP: return "a map";
    case VALUE_INCOMPLETE:
    case VALUE_INVALID: break;
    }
    return "no value";
}

bool value_next(value_cursor *cursor, value_head *out)
{
    value_head_read(cursor->at, (size_t)(cursor->end - cursor->at), out);
    if (out->kind == VALUE_INCOMPLETE || out->kind == VALUE_INVALID)
        return false;
    const unsigned char *payload = cursor->at + out->head_size;
    if (out->kind == VALUE_STR || out->kind == VALUE_BIN || out->kind == VALUE_EXT) {
        if (out->number > (uint64_t)(cursor->end - payload))
            return false;
        out->data = payload;
        payload += out->number;
    }
    cursor->at = payload;
    return true;
}

bool value_skip(value_cursor *cursor)
{
    /* Counts are below 2^32 and each one read took bytes, so the sum cannot overflow. */
    uint64_t pending = 1;
    while (pending > 0) {
        value_head head;
        if (!value_next(cursor, &head))
            return false;
        pending--;
        if (head.kind == VALUE_ARRAY)
            pending += head.number;
        else if (head.kind == VALUE_MAP)
            pending += 2 * head.number;
    }
    return true;
}
