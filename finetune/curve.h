/* The course of a training run as a file of comma-separated values: a line of names,
 * then a line a step. It grows while the run does; a run that goes on from a
 * checkpoint cuts off what the checkpoint does not know and writes on. */
#ifndef SEM_FINETUNE_CURVE_H
#define SEM_FINETUNE_CURVE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CURVE_FIGURES_MAX = 256 };

/* One step's line. Numbers that are not finite, and a scale of 0, are written as nothing. */
typedef struct curve_row {
    uint64_t step;     /* from 1 */
    uint64_t examples; /* of all steps so far */
    double loss, scale, learning_rate, gradient_norm;
    double seconds; /* of training, evaluations left out; curve_add adds those of earlier processes */
    bool evaluated;
    double evaluation;                 /* mean of the figures */
    double figures[CURVE_FIGURES_MAX]; /* [the curve's figure_count] */
} curve_row;

typedef struct curve curve;

/* Opens the file, or begins it where there is none, for rows from first_step on: rows of
 * that step and later ones are cut off, and so is a last line that was not written whole. names
 * [figure_count] are columns of their own for what an evaluation finds.
 * SEM_FAILED_PRECONDITION where rows are to stay and the columns are others. */
sem_status curve_open(curve **out, const char *path, uint64_t first_step, const char *const *names, size_t figure_count,
                      sem_error *err);
/* Appends a row; it has left the process when this returns. */
sem_status curve_add(curve *c, const curve_row *row, sem_error *err);
/* What was added survives a power cut. */
sem_status curve_sync(curve *c, sem_error *err);
void curve_close(curve *c); /* accepts NULL */

/* Calls each with the rows of the file, in order; of a row's figures as many are set as the
 * file has columns for. */
typedef void curve_reader(void *context, const curve_row *row);
sem_status curve_read(const char *path, curve_reader *each, void *context, sem_error *err);

#endif
