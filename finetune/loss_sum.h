/* Sums that losses share. */
#ifndef SEM_FINETUNE_LOSS_SUM_H
#define SEM_FINETUNE_LOSS_SUM_H

#include "finetune/loss.h"

#include <math.h>

/* A running log(sum(exp)), kept as the largest term and the sum relative to it,
 * so that no scale overflows. It begins with one term. */
typedef struct log_sum {
    double largest;
    double sum;
} log_sum;

static inline log_sum log_sum_begin(double x)
{
    return (log_sum){x, 1};
}

static inline void log_sum_add(log_sum *s, double x)
{
    /* The condition lets a NaN through into the sum instead of hiding it. */
    if (!(x > s->largest)) {
        s->sum += exp(x - s->largest);
        return;
    }
    s->sum = s->sum * exp(s->largest - x) + 1;
    s->largest = x;
}

static inline double log_sum_end(const log_sum *s)
{
    return s->largest + log(s->sum);
}

static inline double loss_pair_weight(const loss_batch *batch, size_t i)
{
    return batch->weight != NULL ? batch->weight[i] : 1;
}

static inline double loss_total_weight(const loss_batch *batch)
{
    double total = 0;
    for (size_t i = 0; i < batch->pairs; i++)
        total += loss_pair_weight(batch, i);
    return total;
}

#endif
