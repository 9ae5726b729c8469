/* An index as a file that FAISS reads: IVF,SQ8 or IVF,Flat around the cells that there
 * are, IDMap,Flat where search is exact. A row's id is the number of its document, so the
 * passages of one document share it. */
#ifndef SEM_INDEX_INDEX_EXPORT_H
#define SEM_INDEX_INDEX_EXPORT_H

#include "base/status.h"
#include "index/vector_index.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct index_export {
    FILE *to;              /* where; what is buffered is flushed */
    const uint64_t *known; /* bitmap over docnos: others are left out */
    size_t known_bits;
    /* Called now and then; an error ends the export. May be NULL. */
    sem_status (*step)(void *context, sem_error *err);
    void *context;
} index_export;

typedef struct index_exported {
    const char *codes; /* "IVF,SQ8", "IVF,Flat" or "IDMap,Flat"; static */
    size_t vectors, nlist;
    size_t nprobe; /* that the file says: what this collection needs for a recall of 0.95 */
} index_exported;

/* Of the rows that there are now. The whole is built in memory first. Any thread, for as
 * long as it takes; nobody waits for it. SEM_RESOURCE_EXHAUSTED: memory or disk is full. */
sem_status vector_index_export(vector_index *v, const index_export *how, index_exported *out, sem_error *err);

#endif
