/* Filters over a document's meta. */
#ifndef SEM_INDEX_FILTER_H
#define SEM_INDEX_FILTER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct filter filter; /* immutable: any thread may match */

/* Compiles the MessagePack map of a filter: all, any, not, or a leaf with
 * field and eq, in, gte, gt, lte, lt, exists. Depth at most 12, `in` at most
 * 10,000 values. Errors name the operator and the limit. */
sem_status filter_parse(filter **out, const unsigned char *data, size_t length, sem_error *err);
void filter_free(filter *f); /* accepts NULL */

/* Whether a document with this meta (length 0: none) passes. */
bool filter_match(const filter *f, const unsigned char *meta, size_t length);

#endif
