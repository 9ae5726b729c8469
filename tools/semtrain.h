/* What semtrain's commands share. */
#ifndef SEM_TOOLS_SEMTRAIN_H
#define SEM_TOOLS_SEMTRAIN_H

#include "base/status.h"
#include "finetune/mix_domains.h"
#include "finetune/mix_source.h"
#include "finetune/suite.h"
#include "tools/semctl_text.h"
#include "tools/semtrain_recipe.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct semtrain {
    bool json;
    const char *const *overrides; /* of the recipe */
    size_t override_count;
    const atomic_bool *cancel; /* the user wants it to end */
    const char **texts;        /* extend-vocab: files */
    size_t text_count;
    size_t pieces;                  /* to look for */
    const char *output;             /* directory */
    FILE *out;                      /* results */
    progress bar;                   /* of what is under way */
    const char *label;              /* of the bar */
    uint64_t malformed;             /* lines skipped so far, of which only the first few are told */
    bool measured[RECIPE_SETS_MAX]; /* an [eval] set, by its place in the recipe: its malformed lines were told */
} semtrain;

typedef sem_status semtrain_run(semtrain *t, const char *recipe_path, sem_error *err);

/* datasets takes no recipe; extend-vocab takes the model's directory in its place. */
semtrain_run run_datasets, run_train, run_distill, run_mine, run_eval, run_rank, run_extend_vocab;

/* The recipe, with the reports of malformed lines going to standard error. */
sem_status semtrain_recipe(semtrain *t, const char *path, recipe *out, sem_error *err);
/* Opens the model of [train] in float32. */
sem_status semtrain_model(const recipe *r, model **out, sem_error *err);

/* A model's new directory is written beside its place, in the folder that the first names: whatever
 * happens meanwhile, what lies in its place is whole. The second checks the model that is there
 * and moves it; where that fails, or status says that writing did, it removes the folder. */
sem_status semtrain_output_begin(const char *output, char temporary[FILES_PATH_MAX], sem_error *err);
sem_status semtrain_output_end(const char *output, const char *temporary, sem_status status, sem_error *err);

/* The set as part of a mix; *domains, the caller's, are those found with base where that was asked for. */
sem_status semtrain_mix_set(semtrain *t, const recipe *r, const model *base, const recipe_set *set, mix_set *out,
                            mix_domains **domains, sem_error *err);

/* Vectors of the model in dir, kept in the file path (NULL: in none). */
sem_status semtrain_kept(semtrain *t, const recipe *r, const char *dir, const char *path, kept_vectors **out,
                         sem_error *err);
/* Those of train.teacher; NULL where none is named. */
sem_status semtrain_teacher(semtrain *t, const recipe *r, kept_vectors **out, sem_error *err);
/* Those of train.guide; NULL where none is named. */
sem_status semtrain_guide(semtrain *t, const recipe *r, kept_vectors **out, sem_error *err);
/* m with a projection to width numbers, written to and opened from semtrain_start_path: for
 * the run, which removes it. */
sem_status semtrain_widened(semtrain *t, const recipe *r, const model *m, size_t width, model **out, sem_error *err);
sem_status semtrain_start_path(const recipe *r, char path[FILES_PATH_MAX], sem_error *err);

/* What is learnt from a [data] set, by its loss (usual: where it names none and its form is not
 * sts); refused where its data or keys are of no use for that. */
sem_status semtrain_lesson(const recipe_set *set, loss_name usual, mix_lesson *out, sem_error *err);
/* Whether the lessons [count] of all [data] sets go together, and with [train] and [mix]. */
sem_status semtrain_check_lessons(const recipe *r, const mix_lesson *lessons, size_t count, sem_error *err);

/* What was measured on one set. */
enum { EVAL_FIGURES_MAX = 4 };
typedef struct eval_result {
    const char *set, *kind;
    size_t count; /* queries or pairs */
    size_t figures;
    const char *names[EVAL_FIGURES_MAX];
    double values[EVAL_FIGURES_MAX]; /* the first is the one that counts */
} eval_result;

/* One [eval] set of the recipe. */
sem_status semtrain_evaluate(semtrain *t, const recipe *r, const recipe_set *set, const model *m, eval_result *out,
                             sem_error *err);

/* Name of the first figure that this gives for the set, known before. */
const char *semtrain_first_figure(const recipe_set *set);

/* What was measured on all [eval] sets. */
typedef struct eval_suite {
    eval_result results[RECIPE_SETS_MAX];
    size_t count;
    double mean; /* of the results' first figures; NaN where there is no set */
} eval_suite;

sem_status semtrain_evaluate_all(semtrain *t, recipe *r, const model *m, eval_suite *out, sem_error *err);

#endif
