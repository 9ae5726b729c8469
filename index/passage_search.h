/* Nearest documents where a document has several vectors, one for each passage: a hit
 * is a document, with the score of its best passage. */
#ifndef SEM_INDEX_PASSAGE_SEARCH_H
#define SEM_INDEX_PASSAGE_SEARCH_H

#include "index/faiss_cells.h"
#include "index/vector_search.h"

/* As vector_search, or faiss_search where f is not NULL, which find rows: k documents
 * wherever so many match. */
sem_status passage_search(const rows_view *view, const lists *l, const faiss_cells *f,
                          const vector_index_options *options, const dot_kernel *kernel, search_scratch *scratch,
                          const vector_query *q, vector_hit *hits, size_t *count, vector_plan *plan, sem_error *err);

#endif
