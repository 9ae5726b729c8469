/* What is known of a job, shared between the job thread, which writes, and
 * whoever asks. */
#ifndef SEM_DAEMON_JOB_STATUS_H
#define SEM_DAEMON_JOB_STATUS_H

#include <jansson.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum job_kind { JOB_FINETUNE, JOB_LOAD, JOB_ROLLBACK } job_kind;
typedef enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED } job_state;
typedef enum job_phase {
    PHASE_NONE,
    PHASE_LOADING, /* model.load: the model is copied, opened and measured */
    PHASE_PAIRS,
    PHASE_MINING,
    PHASE_TRAINING,
    PHASE_EVALUATING,
    PHASE_EMBEDDING,
    PHASE_CATCHING_UP,
    PHASE_TRIAL, /* in interleaved lists, where finetune.rollout says so */
    PHASE_FLIP,
    PHASE_COUNT
} job_phase;

enum { JOB_REASON_MAX = 512 };

typedef struct job_status {
    pthread_mutex_t lock; /* guards all below; a leaf */
    uint32_t number;      /* 0: no job yet since the start */
    job_kind kind;
    job_state state;
    job_phase phase;
    size_t step, steps;
    double loss;  /* NAN: none yet */
    double eta_s; /* below 0: unknown */
    size_t pairs;
    char decision[12]; /* promoted, discarded, or "" */
    char reason[JOB_REASON_MAX];
    uint32_t generation;    /* that came of it; 0: none */
    int64_t started_ms;     /* Unix time at which it was asked for */
    uint64_t events;        /* its pairs come from the log's events up to this one */
    json_t *before, *after; /* owned: metrics, or NULL */
    double seconds[PHASE_COUNT];
    uint64_t phase_began_ns;
    /* Called without the lock when a job enters a phase or ends; NULL: nobody is told. Set once, before any
     * of that. */
    void (*changed)(void *context, struct job_status *s);
    void *context;
} job_status;

const char *job_kind_name(job_kind kind);
const char *job_state_name(job_state state);
const char *job_phase_name(job_phase phase); /* "" of none */
/* PHASE_NONE where name is of none, or NULL. */
job_phase job_phase_of(const char *name);

void job_status_init(job_status *s);
void job_status_free(job_status *s);

/* Forgets the last job and begins another as queued, now. events: of which its pairs come, up to this one. */
void job_status_begin(job_status *s, uint32_t number, job_kind kind, uint64_t events);
/* The same with a job that an earlier process left unfinished, of which record is what was
 * written with job_status_open_json(). */
void job_status_restore(job_status *s, const json_t *record, job_kind kind);
/* Enters a phase: closes the time of the one before, steps done so far are 0. */
void job_status_phase(job_status *s, job_phase phase, size_t steps);
/* eta_s below 0: what is left of the phase takes as long as what is done took. */
void job_status_step(job_status *s, size_t step, double eta_s);
/* Takes the references. */
void job_status_metrics(job_status *s, json_t *before, json_t *after);
void job_status_decide(job_status *s, bool promoted, const char *reason);
/* Takes the decision back, and the metrics. */
void job_status_undecide(job_status *s);
/* Shows it as queued again: it goes on in the daemon's next process. */
void job_status_suspend(job_status *s);
/* As before the first job. */
void job_status_clear(job_status *s);
/* Ends the job; reason may be NULL (it stays as it is). */
void job_status_end(job_status *s, job_state state, const char *reason);

/* As the wire contract's `job` result; a new reference, NULL when memory is out. */
json_t *job_status_json(job_status *s);
/* The same with the decision, which is not told before the job is done. */
json_t *job_status_open_json(job_status *s);

/* As the text of the record in the store will be once the job has ended so; reason may be NULL (it stays as
 * it is). malloc'd, NULL when memory is out. */
char *job_status_ended_text(job_status *s, job_state state, const char *reason);
/* As the text will be once the job has made `generation` current. */
char *job_status_promoted_text(job_status *s, uint32_t generation);

/* *number: of the job that runs, or of the last one; 0 if there has been none. */
bool job_status_running(job_status *s, uint32_t *number);

#endif
