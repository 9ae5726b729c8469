/* Helper threads of a training job. The leader hands one job to all of them
 * and waits until each has done its part; between jobs they sleep. */
#ifndef SEM_FINETUNE_TEAM_H
#define SEM_FINETUNE_TEAM_H

#include "base/patience.h"
#include "base/status.h"

typedef struct team team;

/* A helper's part: helper counts from 0 to helpers - 1. */
typedef sem_status team_part(void *context, unsigned helper, sem_error *err);

/* Starts the helpers, as nice as that: they are replaced where their patience is at an end. Signals are
 * left to other threads. */
sem_status team_create(team **out, unsigned helpers, niceness nice, sem_error *err);

/* Ends the helpers; accepts NULL. */
void team_destroy(team *t);

/* Runs part in every helper and returns when all have ended. On failure *err is
 * that of the first helper that failed, by number. */
sem_status team_run(team *t, team_part *part, void *context, sem_error *err);

#endif
