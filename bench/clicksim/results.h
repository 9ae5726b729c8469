/* What the rounds of a simulation came to: kept as lines of JSON, shown as a picture. */
#ifndef SEM_BENCH_CLICKSIM_RESULTS_H
#define SEM_BENCH_CLICKSIM_RESULTS_H

#include "base/status.h"
#include "bench/clicksim/people.h"

#include <stdbool.h>
#include <stddef.h>

enum { RESULTS_TEXT_MAX = SEM_ERROR_MESSAGE_MAX };

/* The ways of learning that are compared, ended by NULL: "none", "naive", "debiased", "negatives". */
extern const char *const results_variants[];

/* One round of one way of learning. Round 0 is before any. */
typedef struct results_row {
    char world[96]; /* set, click model and mode of the jobs, for people: rows of equal ones are drawn together */
    char variant[16];
    char heldout_is[48], kept_is[48]; /* kept_is: "" where nothing is */
    unsigned round;
    people_round people; /* of this round */
    people_quality heldout, kept;
    char decision[16]; /* promoted, discarded, refused (too little to learn from), or "" */
    char reason[RESULTS_TEXT_MAX];
    size_t pairs; /* trained on */
    double training_s, evaluating_s, embedding_s, flip_s;
} results_row;

/* Appends a row to a file of JSON Lines. */
sem_status results_append(const char *path, const results_row *row, sem_error *err);

/* Rows of the files, in order. Freed with free(). */
sem_status results_read(results_row **out, size_t *count, const char *const *paths, size_t path_count, sem_error *err);

/* Draws MRR@10 against rounds as the SVG file path: for each world a panel of what is held out and
 * one of what is kept, in it a line for each way of learning with a dot for each promotion, within
 * the band of a standard error. SEM_FAILED_PRECONDITION without rows. */
sem_status results_draw(const results_row *rows, size_t count, const char *path, sem_error *err);

#endif
