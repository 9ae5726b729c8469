/* The lines of a data set's files, one pass after the other, as examples. */
#ifndef SEM_FINETUNE_DATA_READER_H
#define SEM_FINETUNE_DATA_READER_H

#include "finetune/data_parse.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct data_reader data_reader;

/* A place between two lines. */
typedef struct data_place {
    uint64_t epoch;
    uint64_t file;      /* in the epoch's order; a parallel text's two files are one */
    uint64_t offset[2]; /* bytes, of each of the two */
    uint64_t line;      /* lines before it in the file */
    uint64_t malformed; /* lines of this pass */
} data_place;

/* options are checked, and borrowed; no file is opened yet. */
sem_status data_reader_open(data_reader **out, const data_options *options, sem_error *err);
void data_reader_close(data_reader *r); /* accepts NULL */

/* Begins a pass: files in an order that seed and epoch decide. */
void data_reader_begin(data_reader *r, uint64_t epoch);

/* Gives the next good line's examples to sink; *more false: the pass has ended.
 * Malformed lines before it are reported, but those of a pass after the first, which
 * have been. SEM_INVALID_ARGUMENT when there were too many, when the files of a
 * parallel text differ in lines, or one cannot be read. */
sem_status data_reader_next(data_reader *r, data_sink *sink, void *context, bool *more, sem_error *err);

/* The whole first pass, appended to out, which is to be freed after a failure as well. */
sem_status data_reader_all(const data_options *options, example_list *out, sem_error *err);

/* Where the next line begins. */
data_place data_reader_tell(const data_reader *r);
/* Goes there: what comes next is what came next there. */
sem_status data_reader_seek(data_reader *r, const data_place *place, sem_error *err);

#endif
