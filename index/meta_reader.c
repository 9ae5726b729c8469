#include "index/meta_reader.h"

#include <string.h>

static int compare_uint_double(uint64_t a, double b)
{
    if (b < 0.0)
        return 1;
    if (b >= 18446744073709551616.0)
        return -1;
    /* b fits: its whole part is exact as an integer, so nothing is rounded. */
    uint64_t whole = (uint64_t)b;
    if (a != whole)
        return a < whole ? -1 : 1;
    return b > (double)whole ? -1 : 0;
}

static int compare_negative_double(int64_t a, double b)
{
    if (b >= 0.0)
        return -1;
    if (b < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)b;
    if (a != whole)
        return a < whole ? -1 : 1;
    return b < (double)whole ? 1 : 0;
}

static int compare_double(const value *a, double b)
{
    if (a->type == VALUE_UINT)
        return compare_uint_double(a->uint, b);
    if (a->type == VALUE_NEGATIVE)
        return compare_negative_double(a->negative, b);
    return (a->real > b) - (a->real < b);
}

static int compare_numbers(const value *a, const value *b)
{
    if (b->type == VALUE_FLOAT)
        return compare_double(a, b->real);
    if (a->type == VALUE_FLOAT)
        return -compare_double(b, a->real);
    if (a->type != b->type)
        return a->type == VALUE_NEGATIVE ? -1 : 1;
    if (a->type == VALUE_UINT)
        return (a->uint > b->uint) - (a->uint < b->uint);
    return (a->negative > b->negative) - (a->negative < b->negative);
}

static int compare_strings(const value *a, const value *b)
{
    size_t shared = a->length < b->length ? a->length : b->length;
    int order = shared == 0 ? 0 : memcmp(a->string, b->string, shared);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

value_class value_class_of(const value *v)
{
    switch (v->type) {
    case VALUE_NIL: return CLASS_NIL;
    case VALUE_BOOL: return CLASS_BOOL;
    case VALUE_STRING: return CLASS_STRING;
    default: return CLASS_NUMBER;
    }
}

int value_compare(const value *a, const value *b)
{
    value_class class_a = value_class_of(a), class_b = value_class_of(b);
    if (class_a != class_b)
        return class_a < class_b ? -1 : 1;
    switch (class_a) {
    case CLASS_BOOL: return a->boolean - b->boolean;
    case CLASS_NUMBER: return compare_numbers(a, b);
    case CLASS_STRING: return compare_strings(a, b);
    default: return 0;
    }
}

/* --- reading */

static bool take_number(reader *r, unsigned bytes, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < bytes)
        return false;
    *out = 0;
    for (unsigned i = 0; i < bytes; i++)
        *out = *out << 8 | *r->at++;
    return true;
}

static bool take_bytes(reader *r, uint64_t length, const char **out)
{
    if ((uint64_t)(r->end - r->at) < length)
        return false;
    *out = (const char *)r->at;
    r->at += length;
    return true;
}

void value_set_int(value *v, int64_t number)
{
    v->type = number < 0 ? VALUE_NEGATIVE : VALUE_UINT;
    v->negative = number;
    v->uint = (uint64_t)number;
}

static bool take_float(reader *r, bool wide, value *v)
{
    uint64_t bits;
    v->type = VALUE_FLOAT;
    if (!take_number(r, wide ? 8 : 4, &bits))
        return false;
    if (wide) {
        memcpy(&v->real, &bits, sizeof v->real);
    } else {
        uint32_t narrow = (uint32_t)bits;
        float f;
        memcpy(&f, &narrow, sizeof f);
        v->real = (double)f;
    }
    return true;
}

static bool take_string(reader *r, uint64_t length, item *out)
{
    out->scalar.type = VALUE_STRING;
    out->scalar.length = (size_t)length;
    return take_bytes(r, length, &out->scalar.string);
}

static bool take_container(reader *r, item_kind kind, uint64_t count, item *out)
{
    out->kind = kind;
    out->count = (size_t)count;
    /* Each entry takes at least a byte, or the count is a lie. */
    return count * (kind == ITEM_MAP ? 2 : 1) <= (uint64_t)(r->end - r->at);
}

/* bin and ext: their content is passed over. */
static bool take_other(reader *r, uint64_t length, item *out)
{
    const char *ignored;
    out->kind = ITEM_OTHER;
    return take_bytes(r, length, &ignored);
}

/* The item whose first byte is `head`, from 0xc0 to 0xdf. */
static bool take_headed(reader *r, unsigned head, item *out)
{
    uint64_t n = 0;
    switch (head) {
    case 0xc0: out->scalar.type = VALUE_NIL; return true;
    case 0xc2:
    case 0xc3:
        out->scalar.type = VALUE_BOOL;
        out->scalar.boolean = head == 0xc3;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6: return take_number(r, 1U << (head - 0xc4), &n) && take_other(r, n, out);
    case 0xc7:
    case 0xc8:
    case 0xc9: return take_number(r, 1U << (head - 0xc7), &n) && take_other(r, n + 1, out);
    case 0xca:
    case 0xcb: return take_float(r, head == 0xcb, &out->scalar);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: out->scalar.type = VALUE_UINT; return take_number(r, 1U << (head - 0xcc), &out->scalar.uint);
    case 0xd0: return take_number(r, 1, &n) && (value_set_int(&out->scalar, (int8_t)n), true);
    case 0xd1: return take_number(r, 2, &n) && (value_set_int(&out->scalar, (int16_t)n), true);
    case 0xd2: return take_number(r, 4, &n) && (value_set_int(&out->scalar, (int32_t)n), true);
    case 0xd3: return take_number(r, 8, &n) && (value_set_int(&out->scalar, (int64_t)n), true);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: return take_other(r, 1 + (1U << (head - 0xd4)), out);
    case 0xd9:
    case 0xda:
    case 0xdb: return take_number(r, 1U << (head - 0xd9), &n) && take_string(r, n, out);
    case 0xdc:
    case 0xdd: return take_number(r, 2U << (head - 0xdc), &n) && take_container(r, ITEM_ARRAY, n, out);
    case 0xde:
    case 0xdf: return take_number(r, 2U << (head - 0xde), &n) && take_container(r, ITEM_MAP, n, out);
    default: return false; /* 0xc1 */
    }
}

bool reader_take(reader *r, item *out)
{
    uint64_t head;
    out->kind = ITEM_SCALAR;
    out->count = 0;
    if (!take_number(r, 1, &head))
        return false;
    if (head <= 0x7f || head >= 0xe0) {
        value_set_int(&out->scalar, (int8_t)head);
        return true;
    }
    if (head <= 0x8f)
        return take_container(r, ITEM_MAP, head & 15, out);
    if (head <= 0x9f)
        return take_container(r, ITEM_ARRAY, head & 15, out);
    if (head <= 0xbf)
        return take_string(r, head & 31, out);
    return take_headed(r, (unsigned)head, out);
}

bool reader_skip(reader *r, unsigned depth, size_t *items)
{
    item it;
    if (*items == 0 || !reader_take(r, &it))
        return false;
    --*items;
    if (it.kind != ITEM_ARRAY && it.kind != ITEM_MAP)
        return true;
    if (depth == 0)
        return false;
    size_t parts = it.kind == ITEM_MAP ? 2 * it.count : it.count;
    for (size_t i = 0; i < parts; i++)
        if (!reader_skip(r, depth - 1, items))
            return false;
    return true;
}
