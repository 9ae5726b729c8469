/* Simulated people in front of a real daemon: they search, click, and measure what it has learned. */
#ifndef SEM_BENCH_CLICKSIM_PEOPLE_H
#define SEM_BENCH_CLICKSIM_PEOPLE_H

#include "proto/client.h"
#include "bench/clicksim/click_model.h"
#include "bench/clicksim/world.h"

#include <stddef.h>
#include <stdint.h>

enum { PEOPLE_HITS = 10 };

typedef struct people {
    const world *world;
    click_model model;
    size_t users;      /* each with a name of its own */
    uint64_t seed;     /* equal: the same people ask the same, and look and err alike */
    uint64_t searches; /* so far, over all rounds */
} people;

typedef struct people_round {
    size_t searches, clicks;
    size_t right; /* clicks on something relevant */
    size_t found; /* searches with something relevant among the hits */
} people_round;

/* Searches and clicks until there are so many clicks, all logged and answered. An error answer is an
 * error: nothing that people do may fail. */
sem_status people_click(people *p, client *c, size_t clicks, people_round *out, sem_error *err);

typedef struct people_quality {
    double mrr;   /* at 10 */
    double error; /* its standard error over the queries */
} people_quality;

/* Searches that are exact and not logged. */
sem_status people_measure(const world_queries *queries, client *c, people_quality *out, sem_error *err);

/* Loads the world's documents, their numbers being their ids. */
sem_status people_load(world *w, client *c, sem_error *err);

#endif
