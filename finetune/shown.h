/* What was shown beside a document that was clicked, for held-out queries: a click says that it was
 * better than these, and nothing of documents that nobody saw. */
#ifndef SEM_FINETUNE_SHOWN_H
#define SEM_FINETUNE_SHOWN_H

#include "base/status.h"
#include "index/events.h"
#include "index/store.h"

#include <stddef.h>
#include <stdint.h>

enum { SHOWN_MOST = 50 /* first ranks of a search that count: people see no more */ };

typedef struct shown_document {
    uint32_t pair;  /* the number of the query and clicked document */
    uint32_t docno; /* of a document that was shown for it, its own included */
} shown_document;

/* All zero is an empty one. */
typedef struct shown_list {
    shown_document *items; /* [count] owned */
    size_t count, capacity;
} shown_list;

/* Adds what the search of a click showed, as far as it still exists. */
sem_status shown_note(shown_list *l, store_read *r, const event_judgement *j, uint32_t pair, sem_error *err);

/* Brings it into the order of pairs, each document once for each. */
void shown_sort(shown_list *l);

/* How many items of `pair` there are from *at on, which is moved to the first of them; called with
 * rising pairs, from *at = 0. */
size_t shown_of(const shown_list *l, uint32_t pair, size_t *at);

void shown_free(shown_list *l);

#endif
