/* Distances from a teacher's vectors (Reimers and Gurevych 2020, "Making
 * Monolingual Sentence Embeddings Multilingual using Knowledge Distillation"):
 * of each pair the mean over the width of (a - t)^2 and that of (p - u)^2 are added,
 * where t and u are the vectors that the teacher wants of the two texts (of a text
 * and its translation often the same one). The batch's loss is sum(weight l) / sum(weight). */
#ifndef SEM_FINETUNE_LOSS_MSE_H
#define SEM_FINETUNE_LOSS_MSE_H

#include "finetune/loss.h"

sem_status loss_mse_create(loss **out, size_t max_pairs, sem_error *err);

#endif
