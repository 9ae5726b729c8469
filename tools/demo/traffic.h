/* A second client that searches at a steady pace, whatever else goes on. */
#ifndef SEM_TOOLS_DEMO_TRAFFIC_H
#define SEM_TOOLS_DEMO_TRAFFIC_H

#include "base/status.h"
#include "tools/demo/corpus.h"

#include <stddef.h>

typedef enum traffic_phase { TRAFFIC_BEFORE, TRAFFIC_DURING, TRAFFIC_AFTER, TRAFFIC_PHASES } traffic_phase;

enum { TRAFFIC_PER_SECOND = 20 };

typedef struct traffic traffic;

typedef struct traffic_report {
    size_t sent[TRAFFIC_PHASES];
    size_t failed[TRAFFIC_PHASES];                         /* an error answer, no answer, or no hits */
    double p50_ms[TRAFFIC_PHASES], p99_ms[TRAFFIC_PHASES]; /* from the moment it was due */
    size_t old_answers, new_answers;           /* by the first generation that answered, and by later ones */
    char first_failure[SEM_ERROR_MESSAGE_MAX]; /* "" if none */
} traffic_report;

/* Starts the thread; the queries are those of packages that nobody clicks and
 * nothing is measured on. c must outlive it. */
sem_status traffic_start(traffic **out, const char *address, const corpus *c, sem_error *err);

/* Searches due from now on count for this phase. */
void traffic_set_phase(traffic *t, traffic_phase phase);

/* Stops sending, waits for the answers under way, and frees. Accepts NULL. */
void traffic_stop(traffic *t, traffic_report *report);

#endif
