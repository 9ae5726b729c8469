/* Results of a ranking of data sets, kept in a file of JSON lines so that one that was
 * interrupted goes on. */
#ifndef SEM_TOOLS_SEMTRAIN_RESULTS_H
#define SEM_TOOLS_SEMTRAIN_RESULTS_H

#include "tools/semtrain.h"
#include "tools/semtrain_keys.h"

#include <jansson.h>

typedef struct rank_result {
    char name[RECIPE_NAME_MAX]; /* of the set; empty: the model before training */
    uint64_t run;               /* fingerprint of all that the score depends on */
    uint64_t pairs;
    double score; /* NaN where the evaluation gives none */
} rank_result;

typedef struct rank_results rank_results;

/* Opens or creates the file. A last line that was not written whole is cut off;
 * SEM_FAILED_PRECONDITION for any other that is no result. */
sem_status rank_results_open(rank_results **out, const char *path, sem_error *err);
const char *rank_results_path(const rank_results *s);
/* Fills pairs and score of the result of that name and run; false: there is none. */
bool rank_results_find(const rank_results *s, rank_result *result);
/* Appends it; it is on disk when this returns. */
sem_status rank_results_keep(rank_results *s, const rank_result *result, sem_error *err);
void rank_results_close(rank_results *s); /* accepts NULL */

#endif
