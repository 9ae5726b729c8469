/* Which centroids are near a query, without looking at all of them: they are sorted into
 * groups, and only the centroids of the nearest groups are scored. What that misses is
 * measured with the rest (recall_measure.h). */
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
    size_t groups;            /* 0: all are scored */
    uint8_t *group_bytes;     /* [groups, width] of unit length */
    float *group_scales;      /* [groups] */
    uint32_t *starts;         /* [groups + 1] where a group's members begin */
    uint32_t *members;        /* [count] centroids by group */
    uint32_t *of;             /* [count] the group of each */
} coarse;

/* Makes groups of what c->bytes and c->scales hold, where there are enough. Centroids
 * are of about the same length. */
sem_status coarse_group(coarse *c, sem_error *err);
void coarse_clear(coarse *c);

/* So many centroids are scored at least by who looks for the `want` nearest. */
size_t coarse_least(const coarse *c, size_t want);
/* What is known of the centroids of one query. */
typedef struct coarse_scores {
    size_t room;
    float *of;       /* [room] scores by centroid; -INFINITY where it has none */
    uint32_t *order; /* [room] those that have one, at first in no order that matters */
    float *groups;   /* [room] */
} coarse_scores;

sem_status coarse_scores_reserve(coarse_scores *s, size_t count, sem_error *err); /* what was in it is lost */
void coarse_scores_free(coarse_scores *s);

/* Scores the centroids of the nearest groups and lists them; how many. */
size_t coarse_list(const coarse *c, const code_query *q, size_t want, coarse_scores *s);
/* The rest, after coarse_list had listed so many. */
void coarse_list_rest(const coarse *c, const code_query *q, size_t listed, coarse_scores *s);
/* before[groups]: how many centroids of nearer groups there are. */
void coarse_rank_groups(const coarse *c, const code_query *q, coarse_scores *s, uint32_t *before);

#endif
