/* A candidate's trial, finetune.rollout = interleave: before the flip it takes part in searches
 * (daemon/search_trial.h) until people's clicks have decided, or its time is over.
 *
 * A click on a document says that the generation whose pick it was has the better list for that query.
 * Clicks of one user on one query are one vote, whatever their number and that of the searches, for whoever
 * has more of them; without a user each search is a voter of its own. The candidate wins with more votes than
 * the current generation has, and a tie is a loss. Beside that the reason tells how likely so many votes are
 * where both are alike (sign test, one-sided).
 *
 * All of it is read from the event log, where the generations of each search stand: a trial that a
 * restart cut short goes on with the clicks that it has.
 *
 * A rollback does not wait for it: it ends the trial, and the candidate is discarded. */
#ifndef SEM_DAEMON_TRIAL_H
#define SEM_DAEMON_TRIAL_H

#include "daemon/job.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- votes */

typedef struct trial_click {
    uint64_t search; /* seq of its search */
    uint64_t seq;    /* of the click; a later one on the same document replaces an earlier */
    uint64_t voter;  /* the same for one user's clicks on one query */
    uint32_t rank;
    bool of_candidate, taken_back;
} trial_click;

typedef struct trial_tally {
    size_t clicks; /* that stand */
    size_t won, lost, even;
    double p_value; /* that the candidate has so many of won + lost, or more, by chance; 1 without votes */
} trial_tally;

/* Counts the votes. clicks are sorted, and of those on one document of a search only the last stays; returns how
 * many are left. */
size_t trial_count(trial_click *clicks, size_t count, trial_tally *out);

/* --- the trial */

/* Whether the job's candidate is tried before it serves: one that a gate has judged, where the settings
 * with which the job began say so. */
bool trial_wanted(const job *j);

/* What the job's thread and whoever ends its trial agree on: an atomic_int of these, TRIAL_NONE at first. */
typedef enum trial_state { TRIAL_NONE, TRIAL_OPEN, TRIAL_LEFT } trial_state;

/* Ends the trial: the candidate will be discarded, whatever its votes. False where none is open, or it is over and
 * decided. Any thread. */
bool trial_leave(atomic_int *state);

/* Now and then during a trial; what a candidate needs that does not serve yet. */
typedef sem_status trial_upkeep(void *context, sem_error *err);

/* Job thread. Tries the candidate, whose record is in the store, and puts what came of it into the job's
 * decision; *won: whether it is to be promoted. No search has the candidate any more afterwards, whatever is
 * returned. since_ms: before its first search. upkeep may be NULL. SEM_CANCELLED when the job is. */
sem_status trial_run(job *j, serving *candidate, int64_t since_ms, trial_upkeep *upkeep, void *context, bool *won,
                     sem_error *err);

#endif
