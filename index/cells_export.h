/* The part of an export that knows rows and cells (index_export.h). */
#ifndef SEM_INDEX_CELLS_EXPORT_H
#define SEM_INDEX_CELLS_EXPORT_H

#include "index/faiss_cells.h"
#include "index/index_export.h"
#include "index/lists.h"
#include "index/rows.h"

/* l and f: at most one; NULL both: without cells. Neither rows nor cells may be freed
 * meanwhile; rows may be added and die. */
sem_status cells_export(const rows *r, const lists *l, const faiss_cells *f, const vector_index_options *options,
                        const index_export *how, index_exported *out, sem_error *err);

#endif
