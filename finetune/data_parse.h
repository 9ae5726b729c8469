/* A line of a data set to examples. */
#ifndef SEM_FINETUNE_DATA_PARSE_H
#define SEM_FINETUNE_DATA_PARSE_H

#include "base/status.h"
#include "finetune/data_example.h"
#include "finetune/data_set.h"

typedef struct data_source {
    const data_options *options;
    bool json;     /* what the line is; ignored where the form leaves no choice */
    uint32_t file; /* goes into the examples */
    uint64_t line;
    uint64_t draw; /* a random number of this line: the order in which a set's texts are paired */
} data_source;

/* Takes an example whose texts are valid during the call. */
typedef sem_status data_sink(void *context, const example *e, sem_error *err);

/* Calls sink for each of the line's examples, in order; for none of a malformed line,
 * which is SEM_INVALID_ARGUMENT, with a message that says what is wrong with it. other:
 * the line of the second file of a parallel text. */
sem_status data_parse(const data_source *source, data_text line, data_text other, data_sink *sink, void *context,
                      sem_error *err);

#endif
