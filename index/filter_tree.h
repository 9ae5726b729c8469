/* A compiled filter from the inside: for filter.c, which matches one document
 * after the other, and meta_match.c, which asks columns. */
#ifndef SEM_INDEX_FILTER_TREE_H
#define SEM_INDEX_FILTER_TREE_H

#include "index/filter.h"
#include "index/meta_reader.h"

#include <msgpack.h>

#include <stdbool.h>
#include <stddef.h>

typedef enum node_kind { NODE_ALL, NODE_ANY, NODE_NOT, NODE_LEAF } node_kind;

enum { OP_EQ = 1, OP_GTE = 2, OP_GT = 4, OP_LTE = 8, OP_LT = 16, OP_IN = 32, OP_EXISTS = 64 };
enum { LIMITS = 5 /* operators that compare with one value: eq, gte, gt, lte, lt */ };

typedef struct filter_node {
    node_kind kind;
    struct filter_node *children; /* owned; of all, any and not */
    size_t count;
    /* of a leaf: */
    const char *field;
    size_t field_length;
    unsigned ops;
    value operand[LIMITS]; /* in the order of the OP_ bits */
    value *in;             /* owned; sorted, distinct or not */
    size_t in_count;
    bool exists;
} filter_node;

struct filter {
    unsigned char *bytes; /* owned: what strings point into */
    msgpack_unpacked unpacked;
    filter_node root;
};

#endif
