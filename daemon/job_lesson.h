/* What a job trains on: pairs that people judged, new ones and those of earlier jobs, and pairs made
 * from the collections' own text. */
#ifndef SEM_DAEMON_JOB_LESSON_H
#define SEM_DAEMON_JOB_LESSON_H

#include "finetune/pair_vectors.h"
#include "daemon/job.h"

typedef struct job_lesson {
    train_pair *pairs; /* [count] copies; what they point to is the judged ones' and the lesson's */
    size_t count;
    pair_set own;
    pair_vectors judged_vectors, own_vectors; /* where documents are, if the settings ask for it */
} job_lesson;

/* By the job's settings, and `how` a run will train: with fixed_documents or an anchor_weight every
 * pair gets the vector that its document has in the space of `base`, the judged ones in place. judged
 * stays as long as the lesson. */
sem_status job_lesson_make(job_lesson *out, job *j, const serving *base, const train_config *how, pair_set *judged,
                           sem_error *err);
void job_lesson_free(job_lesson *l);

#endif
