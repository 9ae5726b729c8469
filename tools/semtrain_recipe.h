/* A recipe: what semtrain is to do, as an INI file in the daemon's own form. [train]
 * takes the keys of the daemon's [train] under the same names and with the same
 * defaults. */
#ifndef SEM_TOOLS_SEMTRAIN_RECIPE_H
#define SEM_TOOLS_SEMTRAIN_RECIPE_H

#include "base/buffer.h"
#include "base/files.h"
#include "finetune/mine.h"
#include "finetune/mix.h"
#include "finetune/trainer.h"
#include "daemon/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RECIPE_NAME_MAX = 41,
    RECIPE_FIELD_MAX = 64,
    RECIPE_DESCRIPTION_MAX = 256,
    RECIPE_FILES_MAX = 256,
    RECIPE_SETS_MAX = 256
};

/* [data NAME] and [eval NAME] */
typedef struct recipe_set {
    char name[RECIPE_NAME_MAX];
    bool eval;
    /* as the file has it */
    char form[16];
    char anchor[RECIPE_FIELD_MAX], positive[RECIPE_FIELD_MAX], negative[RECIPE_FIELD_MAX], label[RECIPE_FIELD_MAX],
        domain[RECIPE_FIELD_MAX], id[RECIPE_FIELD_MAX], pair_weight[RECIPE_FIELD_MAX], score[RECIPE_FIELD_MAX];
    char columns[128];
    bool header;
    uint64_t max_line, window_bytes;
    size_t window, max_malformed;
    /* [data] only */
    char description[RECIPE_DESCRIPTION_MAX];
    uint64_t pairs;
    char loss[8], target[8];
    double weight, mixed_share;
    bool by_domain;
    size_t domains;
    /* [eval] only */
    char kind[16];
    char corpus[FILES_PATH_MAX], queries[FILES_PATH_MAX], qrels[FILES_PATH_MAX];
    bool titles;
    size_t k;
    /* made of it */
    char *files[RECIPE_FILES_MAX]; /* owned */
    size_t file_count;
    data_options data;
} recipe_set;

typedef struct recipe {
    config daemon; /* its train part holds [train] */
    struct {
        char model[FILES_PATH_MAX], output[FILES_PATH_MAX];
        unsigned threads;
        unsigned nice;
        size_t negatives;
        char checkpoint[FILES_PATH_MAX];
        size_t checkpoint_every, evaluate_every;
        char teacher[FILES_PATH_MAX], teacher_vectors[FILES_PATH_MAX], guide_vectors[FILES_PATH_MAX];
    } train;
    struct {
        char sampling[16];
        double temperature;
        uint64_t cap;
        bool cross_dataset;
    } mix;
    struct {
        char output[FILES_PATH_MAX], by[8], guide[FILES_PATH_MAX];
        size_t top, negatives;
        uint64_t seed;
        bool keep_same_label, keep_same_text;
        double guide_ratio;
    } mine;
    struct {
        char output[FILES_PATH_MAX];
        size_t steps, batch_size;
    } rank;
    recipe_set *sets; /* owned; of both kinds, in the file's order */
    size_t set_count;
} recipe;

/* Reads the file, then overrides "section.key=value" [count]; "data NAME" and "eval NAME"
 * are sections too. To be freed with recipe_free, after a failure as well. */
sem_status recipe_load(recipe *out, const char *path, const char *const *overrides, size_t count, sem_error *err);
void recipe_free(recipe *r);

/* The k-th set that is or is not of [eval]; NULL: there are no more. */
recipe_set *recipe_set_at(recipe *r, bool eval, size_t k);

/* All keys with defaults and help, as text for people. False when memory is out. */
bool recipe_describe(buffer *out);

#endif
