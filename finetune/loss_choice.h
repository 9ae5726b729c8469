/* The losses that a run can have, by name, and a run's choice of several: each batch says
 * which one it is for (loss_batch.which), so that batches of different data alternate. */
#ifndef SEM_FINETUNE_LOSS_CHOICE_H
#define SEM_FINETUNE_LOSS_CHOICE_H

#include "finetune/loss.h"

#include <stdbool.h>

typedef enum loss_name {
    LOSS_MNRL,   /* loss_mnrl.h */
    LOSS_COSENT, /* loss_cosent.h */
    LOSS_MSE,    /* loss_mse.h */
    LOSS_NAMES
} loss_name;

/* "mnrl", "cosent", "mse"; false for any other name. */
bool loss_name_parse(const char *text, loss_name *out);
const char *loss_name_text(loss_name name);

/* members [LOSS_NAMES]: by name; NULL for those that no batch is for; at least one is not.
 * Owns them from now on, on failure too. What the choice learns is what its one learning
 * member does: in batches of others that has no gradient. A step's moment in the run is told
 * to all members. */
sem_status loss_choice_create(loss **out, loss *const *members, sem_error *err);

#endif
