/* A second client that searches at a steady pace, whatever else goes on: a search is sent when it is
 * due, whether those before it are answered or not, and its time counts from then. */
#ifndef SEM_TOOLS_DEMO_TRAFFIC_H
#define SEM_TOOLS_DEMO_TRAFFIC_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { TRAFFIC_PHASES_MAX = 8, TRAFFIC_QUERY_MAX = 512, TRAFFIC_WINDOW = 1000 };

typedef struct traffic traffic;

typedef struct traffic_options {
    const char *address;
    double per_second;
    size_t most; /* searches at most; it ends by itself then */
    size_t phases;
    unsigned resting; /* a bit for each phase that report.resting takes in, 1 << number */
    /* Text of search `number`, in the traffic's own thread. */
    void (*query)(const void *context, size_t number, char out[TRAFFIC_QUERY_MAX]);
    const void *context; /* must outlive the traffic */
} traffic_options;

/* Times are from the moment a search was due. */
typedef struct traffic_figures {
    size_t sent, failed; /* failed: an error answer, no answer, or no hits */
    double p50_ms, p99_ms, most_ms;
    /* The middle one of the p99 of each TRAFFIC_WINDOW answered searches that follow each other: another guest of
     * the machine that takes half a second from this one changes it little. p99_ms where there is no whole window. */
    double typical_p99_ms;
} traffic_figures;

typedef struct traffic_report {
    traffic_figures all, phases[TRAFFIC_PHASES_MAX];
    traffic_figures resting;
    traffic_figures flip;                      /* due within half a second of the first answer of another generation */
    size_t old_answers, new_answers;           /* by the first generation that answered, and by later ones */
    char first_failure[SEM_ERROR_MESSAGE_MAX]; /* "" if none */
} traffic_report;

/* Starts the thread, in phase 0. */
sem_status traffic_start(traffic **out, const traffic_options *options, sem_error *err);

/* Searches due from now on count for this phase. */
void traffic_set_phase(traffic *t, size_t phase);

/* Searches sent so far. */
size_t traffic_sent(traffic *t);

/* Whether no more are sent: all were, or the connection is gone. */
bool traffic_is_over(traffic *t);

/* Stops sending, waits for the answers under way, and frees. Accepts NULL. */
void traffic_stop(traffic *t, traffic_report *report);

#endif
