/* When a job starts by itself: finetune.interval, finetune.new_pairs and finetune.at. All of
 * it goes by what the store has, the last job's start and the event log, so a restart of the
 * daemon changes nothing. */
#ifndef SEM_DAEMON_JOB_TRIGGERS_H
#define SEM_DAEMON_JOB_TRIGGERS_H

#include "base/status.h"
#include "index/store.h"
#include "daemon/config.h"

#include <stddef.h>
#include <stdint.h>

/* The start of the last fine-tune job, however it ended. */
typedef struct job_start {
    uint32_t number;    /* 0: there was none */
    int64_t started_ms; /* Unix time; of none: when the store was made */
    uint64_t events;    /* the log's last event then */
} job_start;

/* Ticker thread only. All zero at first. */
typedef struct job_triggers {
    job_start last;
    uint64_t counted_to;    /* events up to this one are counted */
    uint64_t fresh;         /* judgements since the last job's start */
    uint64_t needed;        /* after a refusal: of how many fresh ones another look is worth it */
    uint64_t look_after_ms; /* monotonic */
    uint64_t pause_ms;      /* after the next refusal */
} job_triggers;

/* The name of the key by which a job is to start now, or NULL. It looks at the log once a second at
 * most. last: as jobs know it. */
const char *job_triggers_due(job_triggers *t, store *s, const config *c, const job_start *last);

/* A job that was due found too few pairs: `missing` judgements more are needed at least. Until so many
 * came nothing is due, nor for a minute, and after each further refusal for twice as long, up to an hour. */
void job_triggers_refused(job_triggers *t, size_t missing);

/* The settings have changed: what was refused by the old ones may be right by them. */
void job_triggers_forget_refusal(job_triggers *t);

/* What the store tells of the last start: for the first `last`. */
sem_status job_start_find(job_start *out, store_read *r, sem_error *err);

#endif
