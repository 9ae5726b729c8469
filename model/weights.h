/* A model's parameters as the serving encoder needs them: an array in the layout's
 * order that has addresses for all but memory only for what is in use. Vectors
 * and small tables stay in it; a layer's matrices come for as long as it takes to
 * pack them; the token table lies in the mapped checkpoint or in the array. */
#ifndef SEM_MODEL_WEIGHTS_H
#define SEM_MODEL_WEIGHTS_H

#include "model/encoder.h"

typedef enum weights_place {
    /* Everything is read into memory: the files may be changed or cut short by
     * others, which can then be an error later, and nothing worse. */
    WEIGHTS_COPIED,
    /* The rows of a float32 token table are used where they lie in the file: pages
     * come when they are touched, are shared with whoever maps the same file, and can
     * be dropped and read again. Only for files that nobody writes to: a row beyond the
     * end of a file that was cut short is a SIGBUS. */
    WEIGHTS_MAPPED
} weights_place;

/* Finds and checks all parameters of dir's checkpoints and reads what stays. The
 * files remain open: a folder may be removed while its weights are in use. config is
 * borrowed during the call only. */
sem_status weights_open(model_weights **out, const model_config *config, const char *dir, weights_place place,
                        sem_error *err);
/* The same over an array (malloc'd, layout of config) that it then owns: all of
 * it stays. */
sem_status weights_wrap(model_weights **out, const model_config *config, float *params, sem_error *err);
void weights_close(model_weights *w); /* accepts NULL */
/* Closes what weights_wrap made and leaves the array to the caller. */
void weights_unwrap(model_weights *w);

/* Reads every value of dir's checkpoints once and keeps none. */
sem_status weights_check(const model_config *config, const char *dir, sem_error *err);

const param_layout *weights_layout(const model_weights *w);
/* [layout->total] of which the packed parameters are there between weights_load and
 * weights_drop, and the token table where weights_words is NULL. */
const float *weights_params(const model_weights *w);
/* [V, H] the token table in the mapped file; NULL where it is in the array. */
const float *weights_words(const model_weights *w);

/* Brings the packed parameters that make up floats [offset, offset + count). */
sem_status weights_load(model_weights *w, size_t offset, size_t count, sem_error *err);
void weights_drop(model_weights *w, size_t offset, size_t count);

/* Brings the token table's rows of these ids into the array, though the table is used
 * in the file; those of all others are zeros. Rounding to pages of 4 KiB takes less
 * than the 64 KiB that the system maps around each touch of a file. */
sem_status weights_load_rows(model_weights *w, const int32_t *ids, size_t count, sem_error *err);
void weights_drop_rows(model_weights *w);

/* Everything, read from the files again: out[layout->total]. Any thread. */
sem_status weights_read(const model_weights *w, float *out, sem_error *err);

#endif
