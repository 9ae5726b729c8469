/* Searches while a generation is on trial: the list is drafted from what the current one and that
 * one find (daemon/draft.h). */
#ifndef SEM_DAEMON_SEARCH_TRIAL_H
#define SEM_DAEMON_SEARCH_TRIAL_H

#include "daemon/search.h"
#include "daemon/worker.h"

#include <stdint.h>

typedef struct search_trial {
    serving *serving; /* on trial; a reference. NULL: this search is answered by the current generation alone */
    uint64_t toss;    /* for the coins, however often the search is done anew */
    float *vector;    /* [dim of its space], owned: the query */
} search_trial;

/* x: zeroed. Pins the generation on trial and encodes the query with it, where there is one and t is a
 * search whose clicks can tell: by text, dense, logged, and without vectors in its answer. Whatever fails
 * here leaves the search to the current generation. */
void search_trial_begin(search_trial *x, worker *w, const task *t, const serving *current);

/* Searches by the pinned generation in the snapshot that s was done in, and makes s->hits the draft of
 * both. rival: zeroed; freed by the caller after s was answered. Does nothing without a pinned one; s is as it
 * was where something fails. */
void search_trial_draft(search_trial *x, search *s, search *rival);

/* Unpins. The worker's snapshot rests afterwards, if the generation was used: its space may be removed. */
void search_trial_end(search_trial *x, worker *w);

#endif
