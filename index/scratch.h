/* What a search works in, kept from one search to the next so that none takes memory
 * from the system once there have been a few. */
#ifndef SEM_INDEX_SCRATCH_H
#define SEM_INDEX_SCRATCH_H

#include "base/status.h"
#include "index/coarse.h"
#include "index/codes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct search_scratch {
    struct search_scratch *next; /* in the pool */
    float *vector;               /* [dot_width(dim)] aligned to 64 bytes */
    code_query codes;            /* with memory for dim */
    coarse_scores cells;
    size_t room; /* of candidates */
    code_candidate *candidates;
    size_t met_room; /* a power of two */
    uint32_t *met;   /* [met_room] of scratch_meet_none */
} search_scratch;

sem_status scratch_create(search_scratch **out, size_t dim, sem_error *err);
void scratch_free(search_scratch *s); /* accepts NULL */
/* Room for that many cells and candidates at least; what was in it may be lost. */
sem_status scratch_reserve(search_scratch *s, size_t cells, size_t candidates, sem_error *err);

/* Room to tell that many rows or documents apart. */
sem_status scratch_reserve_met(search_scratch *s, size_t count, sem_error *err);

/* Rows or documents that were met: a set by open addressing, in a scratch's memory. */
typedef struct met_set {
    uint32_t *table; /* UINT32_MAX where it is free */
    size_t mask;
} met_set;

/* None yet of at most count, for which there is room. A scratch has one set at a time. */
met_set scratch_meet_none(search_scratch *s, size_t count);

/* False: it was met before. number: not UINT32_MAX, which is no row's and no document's. */
static inline bool met_add(met_set *met, uint32_t number)
{
    size_t at = number * UINT32_C(0x9e3779b1) & met->mask;
    while (met->table[at] != UINT32_MAX) {
        if (met->table[at] == number)
            return false;
        at = (at + 1) & met->mask;
    }
    met->table[at] = number;
    return true;
}

/* As many as searched at one time. Any thread. */
typedef struct scratch_pool {
    size_t dim;
    pthread_mutex_t lock; /* guards free; held for two instructions */
    search_scratch *free;
} scratch_pool;

void scratch_pool_init(scratch_pool *p, size_t dim);
void scratch_pool_clear(scratch_pool *p); /* all must be given back */
sem_status scratch_take(scratch_pool *p, search_scratch **out, sem_error *err);
void scratch_give(scratch_pool *p, search_scratch *s);

#endif
