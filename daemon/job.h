/* One job while it runs: shared by the files that make up the job thread. */
#ifndef SEM_DAEMON_JOB_H
#define SEM_DAEMON_JOB_H

#include "base/files.h"
#include "base/status.h"
#include "index/store.h"
#include "finetune/pairs.h"
#include "daemon/core.h"
#include "daemon/job_status.h"
#include "daemon/serving.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A document that the gate has embedded with the candidate already. docno UINT32_MAX: none that has one vector. */
typedef struct job_known {
    uint32_t collection, docno;
    uint64_t version; /* of the text that was embedded */
} job_known;

enum { JOB_WHY_MAX = 256 };

/* Reciprocal ranks of the held-out queries, [count], one entry a query, in an order that is the same for
 * all candidates of a job. */
typedef struct job_ranks {
    double *before, *after; /* owned: under what serves, and under the candidate */
    size_t count;
} job_ranks;

typedef struct job {
    core *core;
    job_status *status;
    atomic_bool *cancel;
    const atomic_bool *cancelled; /* by a client; else it is the daemon that ends, and the job goes on later */
    atomic_int *trial;            /* a trial_state (daemon/trial.h): of its candidate's */
    uint32_t number;
    job_kind kind;
    config settings;           /* [finetune] and [train] as they were when the job began */
    uint32_t collection;       /* finetune: only this one's pairs; 0: all */
    char path[FILES_PATH_MAX]; /* load: where from */
    bool gate;                 /* load: compare before promoting */
    uint32_t target;           /* rollback: which generation */
    char why[JOB_WHY_MAX];     /* rollback: for people, where nobody asked for it; else "" */
    uint32_t candidate;        /* number of the generation's record that was written for it; 0: none yet */
    job_phase saved;           /* the last one that its record tells */
    unsigned crashes;          /* ends of the daemon one after the other, not in order, in: */
    job_phase crashed_in;
    unsigned threads;                /* for training and bulk encoding */
    char model[STORE_MODEL_MAX + 1]; /* folder of the candidate below models/ */
    char mode[8];                    /* finetune: as asked; else of the generation that may come of it */
    job_ranks ranks;                 /* of the candidate that the gate judged last; owned */
    char *metrics;                   /* JSON of the decision for the generation's record; owned */
    size_t pairs;
    uint64_t trained_before; /* judgements up to this one the current model was trained on */
    uint64_t trained_upto;   /* and those that a model of this job will have been */
    job_known *known;        /* [known_count], owned; in order of collection */
    float *known_vectors;    /* [known_count, the candidate's dim], owned */
    size_t known_count;
} job;

void job_free(job *j);             /* accepts NULL */
void job_ranks_free(job_ranks *r); /* leaves it empty */

/* Enters a phase, and has the job's record tell so: should the daemon die in it, the next one knows where. */
void job_enter(job *j, job_phase phase, size_t steps);

/* job_run.c: the whole of a job of any kind, in the job thread. One that an earlier process began
 * goes on with what is there. */
sem_status job_run(job *j, sem_error *err);

/* job_pairs.c: what the log teaches, by the settings; collection 0: of all. out is the caller's. */
sem_status job_pairs(job *j, uint32_t collection, pair_set *out, sem_error *err);

/* job_mine.c: negatives out of the indices of base for pairs that have none (finetune/pair_mine.h). */
sem_status job_mine(job *j, const serving *base, pair_set *pairs, sem_error *err);

/* What a job trains. */
typedef enum job_towers {
    TOWERS_BOTH,   /* one model for queries and documents, held by finetune.anchor_weight */
    TOWERS_QUERIES /* a model for queries, against the vectors that documents have in the current space */
} job_towers;

/* job_train.c: trains a copy of the current model of queries on the pairs and writes it as a
 * model directory of its own to `folder` in the job's folder (job_folder.h), which is made, unless it is
 * there: then an earlier process came so far. The pairs are given
 * their documents' vectors where they are needed, to be read no more afterwards. */
sem_status job_train(job *j, pair_set *pairs, job_towers towers, const char *folder, sem_error *err);

/* What the gate has rank documents for queries: a candidate, or the current generation. All borrowed. */
typedef struct gate_contender {
    const model *queries;   /* makes the vectors of queries */
    const model *documents; /* and of documents, of the same width; often the same one */
    const serving *stored;  /* whose space holds vectors of `documents`, which are then not made again; or NULL */
} gate_contender;

/* job_gate.c: compares the candidate with the current generation; *promote says
 * what came of it. Metrics and reason are in the status. With candidate->stored NULL the
 * vectors that were made here are in j->known afterwards. */
sem_status job_gate(job *j, const pair_set *pairs, const gate_contender *candidate, bool *promote, sem_error *err);

/* job_room.c: vectors of all model collections, passages counted one by one, as the current generation
 * has them; and SEM_RESOURCE_EXHAUSTED with both numbers where the disk, or storage.max_size, has no room
 * for as many of another width beside them. */
sem_status job_room_vectors(core *c, uint64_t *out, sem_error *err);
sem_status job_room_check(const job *j, size_t dim, sem_error *err);

/* job_flip.c, in the writer: makes the generation current and has the job's record say so; and the
 * pointer that follows the commit, which takes a reference of next. began_ns: of the flip, for the log.
 * Returns the old one with its reference. */
sem_status job_flip_record(const job *j, store_write *w, uint32_t generation, sem_error *err);
serving *job_flip_swap(const job *j, serving *next, uint64_t began_ns);
/* Flips to a generation with the space of the current one, in the job's thread, unless it loses a trial
 * (daemon/trial.h) before that. record and is_new as below, but its space is given. */
sem_status job_flip_within_space(job *j, store_generation *record, bool is_new, sem_error *err);

/* job_embed.c: makes the space of `next` whole and flips to it, unless it loses a trial before that. record: the
 * generation that becomes current; is_new: its record is written first (number
 * and space are filled in). */
sem_status job_embed_and_flip(job *j, store_generation *record, bool is_new, sem_error *err);

#endif
