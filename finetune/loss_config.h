/* A loss by its settings. */
#ifndef SEM_FINETUNE_LOSS_CONFIG_H
#define SEM_FINETUNE_LOSS_CONFIG_H

#include "finetune/loss_matryoshka.h"
#include "finetune/loss_mnrl.h"

typedef enum loss_choice { LOSS_MNRL, LOSS_MSE, LOSS_COSENT } loss_choice;

typedef struct loss_config {
    loss_choice choice;
    mnrl_options mnrl;                   /* its scale is that of cosent too */
    size_t dim_count;                    /* Matryoshka around it; 0: none */
    size_t dims[MATRYOSHKA_MOST];        /* rising */
    double dim_weights[MATRYOSHKA_MOST]; /* each above 0 */
} loss_config;

/* "mnrl", "mse", "cosent"; false for any other name. */
bool loss_choice_of(const char *name, loss_choice *out);
/* "fixed", "scheduled", "learned"; false for any other name. */
bool mnrl_scale_of(const char *name, mnrl_scale *out);

/* For batches of up to max_pairs pairs with max_texts texts and embeddings of width dim.
 * max_texts counts only for MNRL: the others know no hard negatives. g is borrowed. */
sem_status loss_create(loss **out, const loss_config *config, const gemm *g, size_t max_pairs, size_t max_texts,
                       size_t dim, sem_error *err);

#endif
