/* A data set as windows of shuffled examples: as many as fit in a bounded memory are
 * read, shuffled, given out, and forgotten for the next ones, so that a set of any
 * length takes the memory of one window. Within a pass every example comes once.
 *
 * Window and order follow from seed, epoch and place alone: a stream that goes back to
 * a window's place gives the same window. */
#ifndef SEM_FINETUNE_DATA_STREAM_H
#define SEM_FINETUNE_DATA_STREAM_H

#include "finetune/data_reader.h"

typedef struct data_stream data_stream;

/* What was read in the pass begun last, so far. */
typedef struct data_counts {
    uint64_t examples;
    uint64_t malformed; /* lines */
    uint64_t unpaired;  /* labelled texts without another of their label in the window */
} data_counts;

/* options are borrowed. window: at least so many examples are read, while there are
 * more; 0: options->window. */
sem_status data_stream_open(data_stream **out, const data_options *options, size_t window, sem_error *err);
void data_stream_close(data_stream *s); /* accepts NULL */

/* Begins a pass; the first is 0. */
void data_stream_begin(data_stream *s, uint64_t epoch);

/* Reads the next window: *count examples, none at the end of the pass. Valid until the
 * next call. */
sem_status data_stream_window(data_stream *s, const example *const **items, size_t *count, sem_error *err);

/* The place of the window in hand: after data_stream_seek to it data_stream_window
 * gives it again. */
data_place data_stream_tell(const data_stream *s);
sem_status data_stream_seek(data_stream *s, const data_place *place, sem_error *err);

data_counts data_stream_counts(const data_stream *s);

/* Examples of a whole pass, which it reads once; or of its beginning, as soon as there are
 * `most` of them. Reports nothing. */
sem_status data_count(const data_options *options, uint64_t most, data_counts *out, sem_error *err);

#endif
