/* One search: choosing between exact scan, the allowed documents, and cells. */
#ifndef SEM_INDEX_VECTOR_SEARCH_H
#define SEM_INDEX_VECTOR_SEARCH_H

#include "base/status.h"
#include "index/dot.h"
#include "index/lists.h"
#include "index/rows.h"
#include "index/scratch.h"
#include "index/vector_index.h"

/* Finite numbers, and a recall above 0 and at most 1 where it counts. */
sem_status vector_query_check(const vector_query *query, size_t dim, sem_error *err);

/* lists may be NULL. The scratch is this search's alone. What is checked about the query: k, recall, finite numbers. */
sem_status vector_search(const rows_view *view, const lists *l, const vector_index_options *options,
                         const dot_kernel *kernel, search_scratch *scratch, const vector_query *query, vector_hit *hits,
                         size_t *count, vector_plan *plan, sem_error *err);

#endif
