/* What the demonstration does with a running daemon before and after it learns. */
#ifndef SEM_TOOLS_DEMO_STEPS_H
#define SEM_TOOLS_DEMO_STEPS_H

#include "proto/client.h"
#include "tools/demo/corpus.h"

#include <stdbool.h>

/* Loads all documents with a progress bar. */
sem_status steps_load(client *c, corpus *texts, sem_error *err);

/* Three searches in English with their first hits. */
sem_status steps_show_searches(client *c, sem_error *err);

typedef struct click_report {
    size_t clicked;  /* the right package was among the hits */
    size_t feedback; /* it was not: the pair was sent as feedback */
} click_report;

/* The Italian speakers: for every clicked package its Italian description is
 * searched, and the package itself clicked. */
sem_status steps_click(client *c, const corpus *texts, click_report *report, sem_error *err);

typedef struct quality {
    double mrr; /* at 10 */
    double top1;
} quality;

/* Exact searches, not logged, with the held-out packages' own queries. */
sem_status steps_measure(client *c, const corpus *texts, bool italian, quality *out, sem_error *err);

#endif
