/* A job's own folder, finetune/job-N below the storage path. What a job has made and no
 * generation's record names yet lies there: checkpoints of training, and a candidate's model.
 * A model gets its name in it when it is whole and on disk, so a job that is begun again
 * goes by what it finds. It is removed when the job is over, however it ended; what a
 * crash has left, at the next start. */
#ifndef SEM_DAEMON_JOB_FOLDER_H
#define SEM_DAEMON_JOB_FOLDER_H

#include "base/files.h"
#include "base/status.h"
#include "index/store.h"

#include <stdbool.h>
#include <stdint.h>

/* The path of something in the folder of job `number`, which is made if it is missing. */
sem_status job_folder_path(const store *s, uint32_t number, const char *name, char path[FILES_PATH_MAX],
                           sem_error *err);

/* Whether it is there. */
bool job_folder_has(const store *s, uint32_t number, const char *name);

/* A path for a model that is about to be made; what was begun there before is removed. */
sem_status job_folder_begin(const store *s, uint32_t number, const char *name, char path[FILES_PATH_MAX],
                            sem_error *err);
/* What was made there, and is on disk, gets its name: from now on job_folder_has() it. */
sem_status job_folder_keep(const store *s, uint32_t number, const char *name, sem_error *err);

/* Moves a model to where generations have theirs, models/NAME. A crash before a record names it
 * loses it. */
sem_status job_folder_promote(const store *s, uint32_t number, const char *name, sem_error *err);

/* Removes it there: no record names it. */
void job_folder_demote(const store *s, const char *name);

/* Removes the folder of a job that is over; no error if there is none. */
sem_status job_folder_remove(const store *s, uint32_t number, sem_error *err);
/* Removes those of all jobs but `number` (0: of all), and whatever else lies in finetune/. */
sem_status job_folders_clean(const store *s, uint32_t number, sem_error *err);

#endif
