/* What a search works in, kept from one search to the next so that none takes memory
 * from the system once there have been a few. */
#ifndef SEM_INDEX_SCRATCH_H
#define SEM_INDEX_SCRATCH_H

#include "base/status.h"
#include "index/codes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct search_scratch {
    struct search_scratch *next; /* in the pool */
    float *vector;               /* [dot_width(dim)] aligned to 64 bytes */
    code_query codes;            /* with memory for dim */
    size_t cells;                /* room of the two that follow */
    float *cell_scores;
    uint32_t *cell_order;
    size_t room; /* of candidates */
    code_candidate *candidates;
} search_scratch;

sem_status scratch_create(search_scratch **out, size_t dim, sem_error *err);
void scratch_free(search_scratch *s); /* accepts NULL */
/* Room for that many cells and candidates at least; what was in it may be lost. */
sem_status scratch_reserve(search_scratch *s, size_t cells, size_t candidates, sem_error *err);

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
