/* A loss that keeps documents where they were: to any other it adds the weight times the
 * mean, over the batch's candidates, of the squared distance between a candidate's vector and
 * the one that it had (2 - 2 cos of unit vectors; the distillation term of Li and Hoiem 2016,
 * "Learning without Forgetting", on what is served instead of on probabilities). What clients
 * have kept of documents' vectors, and an index built of them, stays near to right. */
#ifndef SEM_FINETUNE_LOSS_ANCHOR_H
#define SEM_FINETUNE_LOSS_ANCHOR_H

#include "finetune/loss.h"

/* Owns inner from then on, and destroys it on failure too. weight above 0. Batches have
 * `anchor`. Around loss_matryoshka it keeps whole vectors. */
sem_status loss_anchor_create(loss **out, loss *inner, double weight, sem_error *err);

#endif
