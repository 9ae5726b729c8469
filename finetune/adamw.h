/* AdamW (Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization")
 * over a model's parameters.
 *
 * Dense parameters are updated in every step. The rows of token tables that a
 * step did not touch would still move (their moments fade, their weights
 * decay); they are left alone and caught up, step by step with the rates of
 * those steps, when they are needed next. The result has the same bits as an
 * update of every row in every step, for a fraction of the memory traffic. */
#ifndef SEM_FINETUNE_ADAMW_H
#define SEM_FINETUNE_ADAMW_H

#include "base/status.h"
#include "model/encoder.h"
#include "finetune/checkpoint.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct adamw_options {
    double beta1; /* of the mean of gradients */
    double beta2; /* of the mean of their squares */
    double epsilon;
    double weight_decay;   /* on parameters whose layout says decay */
    const double *factors; /* [layout->count] on each parameter's rate; NULL: all 1. Borrowed as the layout is */
    double average;        /* below 1: weights averaged over the steps are kept; 0: none */
} adamw_options;

/* 0.9, 0.999, 1e-8, 0.01, no factors, no average. */
adamw_options adamw_defaults(void);

typedef struct adamw adamw;

/* State for at most max_steps steps. layout is borrowed and must outlive it. params
 * [layout->total] are where the average begins; not read where there is none. */
sem_status adamw_create(adamw **out, const param_layout *layout, const adamw_options *options, const float *params,
                        size_t max_steps, sem_error *err);
void adamw_destroy(adamw *a); /* accepts NULL */

/* Starts the next step, with its learning rate; at most max_steps times. */
void adamw_begin(adamw *a, double learning_rate);

/* Updates count floats from start (inside one dense parameter) by gradient
 * grad_scale * grads. params and grads are the whole arrays. Threads may update
 * disjoint ranges at once; each float once a step. */
void adamw_update(adamw *a, const param *p, size_t start, size_t count, float *params, const float *grads,
                  float grad_scale);

/* A row of a token table (p->rows_sparse) that the step begun touched. The row must
 * have been caught up before the step began. */
void adamw_update_row(adamw *a, const param *p, size_t row, float *params, const float *grads, float grad_scale);

/* Brings a row of a token table to where the steps begun so far put it. Call it
 * for the rows of the next batch before its forward pass, and for all rows at
 * the end. Threads may do different rows at once. */
void adamw_catch_up(adamw *a, const param *p, size_t row, float *params);

/* The exponential moving average of the parameters [layout->total], or NULL where none
 * is kept. After step t it moves by 1 - min(average, t / (9 + t)) of the way to the new
 * values, so that a short run does not end where it began. Like the parameters
 * it is up to date, bit for bit, in rows that are caught up. */
const float *adamw_average(const adamw *a);

/* Writes moments, average and the number of steps in sections that begin with prefix (at
 * most 8 bytes); all rows must be caught up. After adamw_load into a new state of
 * the same layout and options (params as they were then are the caller's) every
 * further step has the bits that it would have had. */
sem_status adamw_save(const adamw *a, const char *prefix, checkpoint_writer *w, sem_error *err);
sem_status adamw_load(adamw *a, const char *prefix, const checkpoint_reader *c, sem_error *err);

#endif
