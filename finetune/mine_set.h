/* All pairs of a set in memory, as mining and the evaluation of retrieval look at them. */
#ifndef SEM_FINETUNE_MINE_SET_H
#define SEM_FINETUNE_MINE_SET_H

#include "base/status.h"
#include "finetune/data_example.h"
#include "finetune/data_set.h"

#include <stdbool.h>

typedef struct mine_pair {
    const example *example;
    uint32_t query;    /* number of the anchor: equal keys, one query */
    uint32_t document; /* number of the positive: equal texts, one document */
} mine_pair;

/* A fact of two numbers, kept sorted: this anchor, by its key or its text, has this
 * positive; this document has this label. */
typedef struct mine_fact {
    uint64_t of, is;
} mine_fact;

typedef struct mine_set {
    mine_pair *pairs; /* [pair_count] in the order in which they were read */
    size_t pair_count;
    data_text *queries; /* [query_count] */
    size_t query_count;
    data_text *documents; /* [document_count] */
    size_t document_count;
    uint64_t *document_forms; /* [document_count] of their texts without case and white space */
    mine_fact *positives;     /* [2 pair_count] (anchor's key or form, document) */
    mine_fact *labels;        /* [label_count] (document, label's key) */
    size_t label_count;
    example_list owned;
} mine_set;

/* At least one pair; SEM_INVALID_ARGUMENT where the form has none. */
sem_status mine_set_load(mine_set *out, const data_options *data, sem_error *err);
void mine_set_free(mine_set *s);

bool mine_set_is_positive(const mine_set *s, const example *anchor, uint32_t document);
bool mine_set_has_label(const mine_set *s, uint32_t document, uint64_t label);
/* Of a text in lower case (ASCII) without white space: equal for texts that only look different. */
uint64_t mine_form(data_text text);

#endif
