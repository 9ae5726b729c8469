/* What people search and which documents are right: a collection with known relevance. */
#ifndef SEM_BENCH_CLICKSIM_WORLD_H
#define SEM_BENCH_CLICKSIM_WORLD_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct world_query {
    char *text;         /* owned */
    uint32_t *relevant; /* [count] owned: numbers of documents */
    size_t count;
} world_query;

typedef struct world_queries {
    world_query *items; /* owned */
    size_t count;
} world_queries;

/* All zero is an empty one. A document's id is its number. */
typedef struct world {
    char **documents; /* [document_count] owned */
    size_t document_count;
    world_queries asked;    /* people search these and click */
    world_queries heldout;  /* nobody ever searches these: they measure */
    world_queries kept;     /* what is not to be forgotten, never searched either; may be empty */
    const char *heldout_is; /* for people: "Italian queries" */
    const char *kept_is;    /* "English queries"; NULL without any */
} world;

/* Adds a document; its number is document_count before. The text is copied. */
sem_status world_add_document(world *w, const char *text, sem_error *err);

/* Adds a query with one relevant document, or the document to an equal query that was added last.
 * The text is copied. */
sem_status world_add_query(world_queries *q, const char *text, uint32_t document, sem_error *err);

/* Leaves the first `most`. */
void world_cut_queries(world_queries *q, size_t most);

bool world_is_relevant(const world_query *q, uint64_t document);

void world_free(world *w);

#endif
