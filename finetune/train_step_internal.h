/* What the files of train_step share: train_step.c is the step itself, train_runs.c
 * the passes over texts, train_update.c what happens to gradients and parameters. */
#ifndef SEM_FINETUNE_TRAIN_STEP_INTERNAL_H
#define SEM_FINETUNE_TRAIN_STEP_INTERNAL_H

#include "model/kernels.h"
#include "model/train_weights.h"
#include "finetune/split.h"
#include "finetune/team.h"
#include "finetune/train_step.h"

#include <stdbool.h>

/* A piece of a dense parameter: one unit of work in summing and updating. */
typedef struct param_block {
    const param *param;
    size_t start; /* from the start of the parameters */
    size_t count;
} param_block;

/* What one helper owns. */
typedef struct step_helper {
    encoder_tape *tape;
    float *grads;      /* [total] of pages, all 0 between steps; rows that were not touched lately take no memory */
    uint32_t *touched; /* [vocab] the last step in which this helper touched the row */
    token_batch run;   /* the texts of one run, end to end */
    float *out;        /* [max_texts, E] embeddings of one run, or their gradient */
    uint32_t *run_end; /* [max_texts] ends of the runs in the split's order */
    size_t runs;
    size_t outlined;            /* runs, from the second on, that leave an outline behind */
    encoder_outline **outlines; /* [outlines_made] of the second run and those that follow it */
    size_t outlines_made;
} step_helper;

struct train_step {
    train_step_options options;
    float *params;   /* the caller's */
    double *factors; /* [layout->count] of the learning rate; 0: frozen */
    adamw *optimiser;
    const kernels *kernels;
    team *team;
    split split;
    train_shapes *shapes;   /* NULL: nothing is padded */
    products *products;     /* NULL: products are the options' g's */
    train_weights *weights; /* NULL as well then */
    size_t tape_share;      /* bytes for activations of each helper */
    size_t run_tokens;      /* the most tokens of a run that leave no room for another's outline */
    uint32_t step;          /* begun so far */
    uint32_t batches;       /* added to the step under way */
    double loss_sum;        /* of those */

    step_helper *helpers;
    unsigned helper_count;
    param_block *blocks; /* of dense parameters that learn */
    size_t block_count;
    double *block_norm;   /* [block_count] sums of squares */
    const param **tables; /* the layout's token tables that learn */
    size_t table_count;
    uint32_t *seen; /* [vocab] the last step in which the row was touched */
    uint32_t *rows; /* [row_count] rows that the step has touched */
    size_t row_count;
    size_t first_row;  /* in rows: those of the batch under way begin here */
    size_t rows_held;  /* touched by the steps since gradients of rows gave their memory back, or more */
    double *row_norm;  /* [row_count] */
    uint32_t *lengths; /* [max_texts] */
    float *embeddings; /* [max_texts, E] */
    float *d_embeddings;

    /* What the loss learns: a layout of one parameter. */
    param learned_item;
    param_layout learned_layout;
    adamw *learned_optimiser;
    float learned_gradient; /* sum over the step's batches */

    const train_batch *batch; /* under way */
    float grad_scale;
};

/* Texts of the batch that are computed: the first of all. */
static inline size_t train_batch_computed(const train_batch *batch)
{
    return batch->fixed != NULL ? batch->about.pairs : batch->about.texts;
}

/* --- train_runs.c */

sem_status train_helper_create(const train_step *s, step_helper *h, sem_error *err);
void train_helper_free(const train_step *s, step_helper *h);
/* A tape as all helpers have them. */
sem_status train_tape_create(const train_step *s, encoder_tape **out, sem_error *err);
/* Masks repeat for the same seed, step, batch of the step, helper and run. */
uint64_t train_dropout_seed(const train_step *s, unsigned number, size_t run);
/* Packs the weights for the products of the step that begins; nothing where there are none. */
team_part train_part_pack;
/* Parts that all helpers run: embeddings of the batch's texts; from their gradients
 * to those of the parameters, added to each helper's. */
team_part train_part_forward;
team_part train_part_backward;

/* --- train_update.c */

/* Cuts the dense parameters into blocks and lists the token tables; makes the optimisers. */
sem_status train_update_create(train_step *s, sem_error *err);
void train_update_free(train_step *s);
/* Rows that the batch under way is the first of its step to touch are brought up to date. */
team_part train_part_catch_up;
/* The same for all rows. */
team_part train_part_finish;
/* Adds up the helpers' gradients in the first one's, and sums of squares. */
team_part train_part_sum;
/* Moves the parameters and clears the gradients. */
team_part train_part_update;
/* Has the helper's gradients of rows, which are 0, give their memory back. */
team_part train_part_release;
/* Of the sum of all gradients, what the loss learns included. */
double train_gradient_norm(const train_step *s);
/* Moves what the loss learns. */
void train_update_learned(train_step *s, double learning_rate);

#endif
