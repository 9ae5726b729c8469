/* Values of meta and filters, and a reader of MessagePack that takes no memory:
 * documents are matched against a filter where they lie. It trusts no byte. */
#ifndef SEM_INDEX_META_READER_H
#define SEM_INDEX_META_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum value_type { VALUE_NIL, VALUE_BOOL, VALUE_UINT, VALUE_NEGATIVE, VALUE_FLOAT, VALUE_STRING } value_type;

/* A scalar; the bytes of a string are borrowed. */
typedef struct value {
    value_type type;
    bool boolean;
    uint64_t uint;    /* VALUE_UINT */
    int64_t negative; /* VALUE_NEGATIVE: below 0 */
    double real;      /* VALUE_FLOAT */
    const char *string;
    size_t length;
} value;

typedef enum value_class { CLASS_NIL, CLASS_BOOL, CLASS_NUMBER, CLASS_STRING } value_class;

value_class value_class_of(const value *v);
/* A total order where no float is NaN: by class, then by value. Numbers compare
 * exactly whatever their types: 2^53 + 1 and the float 2^53 differ. */
int value_compare(const value *a, const value *b);
void value_set_int(value *v, int64_t number);

typedef struct reader {
    const unsigned char *at, *end;
} reader;

typedef enum item_kind { ITEM_SCALAR, ITEM_ARRAY, ITEM_MAP, ITEM_OTHER } item_kind;

typedef struct item {
    item_kind kind;
    value scalar;
    size_t count; /* entries of an array or map */
} item;

/* Reads one scalar or the head of a container; bin and ext are passed over as
 * ITEM_OTHER. False where the bytes are cut off or no MessagePack. */
bool reader_take(reader *r, item *out);
/* Passes over one whole value with at most `depth` containers inside each other
 * and takes its items off *items; false when there are more. */
bool reader_skip(reader *r, unsigned depth, size_t *items);

#endif
