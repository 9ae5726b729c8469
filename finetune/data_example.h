/* One training example: what a line of a data set becomes. */
#ifndef SEM_FINETUNE_DATA_EXAMPLE_H
#define SEM_FINETUNE_DATA_EXAMPLE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct data_text {
    const char *bytes; /* UTF-8; not NUL-terminated */
    size_t length;
} data_text;

typedef struct example {
    data_text anchor;
    data_text positive;         /* length 0: none, as in labelled text before it is paired */
    const data_text *negatives; /* [negative_count] hard ones */
    size_t negative_count;
    data_text label;       /* examples of one label are no negatives of each other; length 0: none */
    data_text domain;      /* a forum, a section, a source; length 0: none */
    uint64_t anchor_key;   /* of the id where the data has one, else of the text: equal keys, equal texts */
    uint64_t positive_key; /* of the text */
    uint64_t label_key;    /* 0: no label */
    double score;          /* graded similarity, as it stands in the data */
    bool has_score;
    float weight;  /* above 0 */
    uint32_t file; /* number of the file, or pair of files, that it comes from */
    uint64_t line; /* there, from 1 */
    size_t bytes;  /* of memory that it takes */
} example;

/* A copy with all its texts in one block, freed with free(). Fills the text keys (the
 * anchor's only where it is 0) and bytes. NULL when memory is out. */
example *example_copy(const example *from);

/* Copies of examples, in the order in which they were added; {0} is an empty list. */
typedef struct example_list {
    example **items; /* [count] */
    size_t count, capacity;
} example_list;

sem_status example_list_add(example_list *l, const example *e, sem_error *err);
void example_list_clear(example_list *l); /* keeps the room for others */
void example_list_free(example_list *l);

bool data_text_equal(data_text a, data_text b);

#endif
