/* What `train` shows and keeps of a run under way: its progress, its curve, and what
 * the model is worth meanwhile. */
#ifndef SEM_TOOLS_SEMTRAIN_WATCH_H
#define SEM_TOOLS_SEMTRAIN_WATCH_H

#include "base/files.h"
#include "finetune/curve.h"
#include "finetune/train_loop.h"
#include "tools/semtrain.h"

/* Files of the model's directory: the curve as numbers and as a picture. */
#define CURVE_FILE   "semd_curve.csv"
#define PICTURE_FILE "semd_curve.svg"

enum { FIGURE_NAME_MAX = 64 };

typedef struct run_watch {
    semtrain *t;
    recipe *r;
    const model *base;
    const char *loss_label;
    train_control control; /* for the run */
    char path[FILES_PATH_MAX];
    curve *curve; /* NULL before the first step */
    curve_row row;
    char names[RECIPE_SETS_MAX][FIGURE_NAME_MAX]; /* of the curve's figures */
    eval_suite last;                              /* what was measured last */
} run_watch;

/* The curve lies beside the recipe's output while the run goes on. All are borrowed. */
sem_status watch_begin(run_watch *w, semtrain *t, recipe *r, const model *base, const char *loss_label, sem_error *err);
/* Puts the curve and its picture into the folder. */
sem_status watch_save(run_watch *w, const char *folder, sem_error *err);
/* Removes what lay beside the output, when that holds it. */
sem_status watch_forget(run_watch *w, sem_error *err);
void watch_end(run_watch *w);

#endif
