/* Which centroids are near a query, without comparing it with all of them by their bytes:
 * bits (codes.h) say which are worth it, as they do for rows. What that misses is measured
 * with the rest (recall_measure.h). */
#ifndef SEM_INDEX_COARSE_H
#define SEM_INDEX_COARSE_H

#include "base/status.h"
#include "index/codes.h"

#include <stddef.h>
#include <stdint.h>

typedef struct coarse {
    const code_kernel *kernel;
    size_t count, dim, width; /* centroids */
    const uint8_t *bytes;     /* [count, width] the caller's */
    const float *scales;      /* [count] the caller's */
    uint8_t *blocks;          /* bits of all, by number, against their mean; NULL: all are scored */
} coarse;

/* Makes the bits of what c->bytes and c->scales hold, where there are enough. Centroids
 * are of about the same length. */
sem_status coarse_prepare(coarse *c, sem_error *err);
void coarse_clear(coarse *c);

/* So many centroids are scored by who looks for the `want` nearest. */
size_t coarse_least(const coarse *c, size_t want);

/* What is known of the centroids of one query. */
typedef struct coarse_scores {
    size_t room;
    float *of;               /* [room] scores by centroid; a NaN where it has none */
    uint32_t *order;         /* [room] those that have one, at first in no order that matters */
    code_candidate *by_bits; /* [room and what a scan adds] then scratch of whoever sorts the order */
} coarse_scores;

sem_status coarse_scores_reserve(coarse_scores *s, size_t count, sem_error *err); /* what was in it is lost */
void coarse_scores_free(coarse_scores *s);

/* Scores those that are nearest by their bits and lists them; how many: coarse_least(want).
 * q: prepared with tables and bytes. */
size_t coarse_list(const coarse *c, const code_query *q, size_t want, coarse_scores *s);
/* The rest, after coarse_list had listed so many. */
void coarse_list_rest(const coarse *c, const code_query *q, size_t listed, coarse_scores *s);
/* ranks[count]: how many centroids are nearer by their bits. */
void coarse_rank(const coarse *c, const code_query *q, coarse_scores *s, uint32_t *ranks);

#endif
