/* One search with FAISS's cells: choosing between them and exact comparison. */
#ifndef SEM_INDEX_FAISS_SEARCH_H
#define SEM_INDEX_FAISS_SEARCH_H

#include "index/faiss_cells.h"
#include "index/vector_search.h"

/* As vector_search. Filters are answered exactly: FAISS knows none. With a number of cells
 * from the caller the hits are those that FAISS itself gives, less dead rows, in the order
 * of their float32 vectors. */
sem_status faiss_search(const rows_view *view, const faiss_cells *f, const vector_index_options *options,
                        const dot_kernel *kernel, search_scratch *scratch, const vector_query *query, vector_hit *hits,
                        size_t *count, vector_plan *plan, sem_error *err);

#endif
