/* Filters over a document's meta, and the rules for meta itself. */
#ifndef SEM_INDEX_FILTER_H
#define SEM_INDEX_FILTER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct meta_limits {
    size_t fields; /* 64 */
    size_t bytes;  /* 16 KiB */
} meta_limits;

/* Checks one MessagePack value (already known to be well-formed MessagePack
 * with valid UTF-8 strings and distinct string keys): a flat map of string to
 * nil, bool, integer, float (not NaN), string or array of strings. */
sem_status meta_check(const unsigned char *meta, size_t length, const meta_limits *limits, sem_error *err);

typedef struct filter filter; /* immutable: any thread may match */

/* Compiles the MessagePack map of a filter: all, any, not, or a leaf with
 * field and eq, in, gte, gt, lte, lt, exists. Depth at most 12, `in` at most
 * 10,000 values. Errors name the operator and the limit. */
sem_status filter_parse(filter **out, const unsigned char *data, size_t length, sem_error *err);
void filter_free(filter *f); /* accepts NULL */

/* Whether a document with this meta (length 0: none) passes. */
bool filter_match(const filter *f, const unsigned char *meta, size_t length);

#endif
