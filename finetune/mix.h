/* Which examples come next, of several data sets of any size: a batch comes from one
 * set, drawn anew for each, or its examples come from all of them. A set that ends
 * begins anew, in another order; within a pass each of its examples comes once.
 *
 * What comes follows from the seeds and the files alone: the same again from the
 * start, and from where mix_save was called. */
#ifndef SEM_FINETUNE_MIX_H
#define SEM_FINETUNE_MIX_H

#include "base/buffer.h"
#include "base/status.h"
#include "finetune/data_stream.h"
#include "finetune/mix_weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Puts examples into domains: domains[count] gets equal numbers for those of one. */
typedef sem_status mix_domains_of(void *context, const example *const *items, size_t count, uint64_t *domains,
                                  sem_error *err);

typedef struct mix_set {
    const data_options *data;
    uint64_t size;           /* examples of a pass; 0: not known, and counted where it is needed */
    double weight;           /* for MIX_EXPLICIT */
    bool by_domain;          /* batches are kept inside a domain */
    double mixed_share;      /* then: of the examples, in batches of all domains, 0 to 1 */
    mix_domains_of *domains; /* NULL: the field that the data names */
    void *context;           /* of domains */
} mix_set;

typedef struct mix_options {
    mix_weighting weighting;
    size_t batch_size;  /* at most; batches of a window are of nearly equal size */
    bool cross_dataset; /* each example of a batch is drawn from all sets; domains are then not kept */
    uint64_t seed;      /* of which set comes when */
} mix_options;

enum { MIX_ALL_SETS = -1 };

typedef struct mix_batch {
    const example *const *items; /* [count] valid until the next call */
    size_t count;
    int set;       /* its number, or MIX_ALL_SETS */
    bool mixed;    /* of all domains, where batches are kept inside a domain */
    uint64_t step; /* from 0 */
} mix_batch;

typedef struct mix mix;

/* The sets, and what they point to, are borrowed. Counts sets of unknown size where the
 * weighting needs it, which reads them once. */
sem_status mix_open(mix **out, const mix_options *options, const mix_set *sets, size_t count, sem_error *err);
void mix_close(mix *m); /* accepts NULL */

sem_status mix_next(mix *m, mix_batch *out, sem_error *err);

const double *mix_shares(const mix *m); /* [count] */
const mix_set *mix_sets(const mix *m, size_t *count);
bool mix_is_cross_dataset(const mix *m);

/* `before`, and what decides which examples come: the sets with their files' names,
 * sizes and times, and the options. */
uint64_t mix_fingerprint(const mix *m, uint64_t before);

/* Where the mix is, as JSON, appended to out; and back there: SEM_INVALID_ARGUMENT
 * where it is not of these sets and options. */
sem_status mix_save(const mix *m, buffer *out, sem_error *err);
sem_status mix_restore(mix *m, const char *saved, size_t size, sem_error *err);

#endif
