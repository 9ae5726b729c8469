/* Documents cut into passages for one generation: its tokenizer says where. */
#ifndef SEM_DAEMON_DOCUMENT_CUT_H
#define SEM_DAEMON_DOCUMENT_CUT_H

#include "base/status.h"
#include "model/model.h"
#include "index/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The passages of some documents, one document behind the other. Zeroed: no document
 * is cut, and each has one vector. */
typedef struct document_cut {
    size_t *first; /* [documents + 1]: passages first[i] to first[i + 1] - 1 are document i's; NULL: see above */
    size_t documents, capacity;
    store_range *ranges; /* [passages] of the document's text */
    uint32_t *slots;     /* [passages] where the writer puts their vectors */
    size_t passages, passage_capacity;
} document_cut;

void document_cut_free(document_cut *c);
/* Forgets the documents and keeps the memory. */
void document_cut_clear(document_cut *c);
/* How document i is cut, for the store. Borrowed. */
store_cut document_cut_of(const document_cut *c, size_t i);
/* The row of its first vector, where vectors lie as [passages, dim]. */
size_t document_cut_row(const document_cut *c, size_t i);

/* Cuts documents as a collection wants it, with a model. One thread. */
typedef struct document_cutter {
    const model *model; /* borrowed */
    uint32_t tokens, overlap;
    struct passage_cutter *cutter;  /* owned; NULL until a document is cut */
    bool (*between)(void *context); /* NULL, or called now and then; false stops with SEM_CANCELLED */
    void *context;
} document_cutter;

/* by: a collection with passage_tokens. Passages get shorter where the model takes less. */
void document_cutter_begin(document_cutter *c, const model *m, const store_collection *by);
void document_cutter_end(document_cutter *c);
/* Appends a document that has no passages here: it keeps the vectors that it has. */
sem_status document_cut_skip(document_cut *to, sem_error *err);
/* Appends one document. SEM_FAILED_PRECONDITION where the model has no room for a passage. */
sem_status document_cut_add(document_cut *to, document_cutter *c, const char *text, size_t length, sem_error *err);

#endif
