/* Rounds of searching, clicking, learning and measuring, for some sets and ways of learning. */
#ifndef SEM_BENCH_CLICKSIM_RUN_H
#define SEM_BENCH_CLICKSIM_RUN_H

#include "base/status.h"
#include "bench/clicksim/results.h"
#include "bench/clicksim/sets.h"

#include <stddef.h>
#include <stdint.h>

enum { RUN_SETS_MAX = 8, RUN_VARIANTS_MAX = 4, RUN_OPTIONS_MAX = 24 };

typedef struct run_options {
    const char *sets[RUN_SETS_MAX + 1];         /* ended by NULL, as are the next two */
    const char *variants[RUN_VARIANTS_MAX + 1]; /* of results_variants */
    const char *options[RUN_OPTIONS_MAX + 1];   /* "section.key=value" for every daemon */
    click_model model;
    unsigned rounds;
    size_t clicks, users; /* clicks: of a round */
    uint64_t seed;
    const char *mode; /* of the jobs: full, query or auto */
    sets_places places;
    const char *out; /* folder: results.jsonl, clicksim.svg, and what the daemons store */
    const char *semd, *model_path;
} run_options;

/* Runs them all and prints what each round comes to. What an earlier run left in the folder is
 * removed. A job that finds too little to learn from is a round without learning; whatever else
 * fails, one search or one click, is an error. */
sem_status run_all(const run_options *o, sem_error *err);

#endif
