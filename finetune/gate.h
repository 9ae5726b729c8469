/* The gate: whether a candidate finds more than what serves now, beyond chance, and harms nothing.
 *
 * The gain is tested on held-out queries by a one-sided paired randomisation test. Against
 * forgetting stand probe queries, made from the text of every collection: in each of them the
 * lower end of the 95% interval of the change must be above a bound, so that a gain in one
 * collection never pays for harm in another. */
#ifndef SEM_FINETUNE_GATE_H
#define SEM_FINETUNE_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GATE_ROUNDS = 10000 /* of the test and of each bound: p-values down to 0.0001 */ };

/* Queries that are independent of each other: one entry a query, not one a relevant document. */
typedef struct gate_side {
    const double *before; /* [queries] reciprocal rank under the current models */
    const double *after;  /* [queries] under the candidate */
    size_t queries;
} gate_side;

/* The probe queries of a collection. */
typedef struct gate_probe {
    const char *collection; /* its name, borrowed */
    gate_side side;
    double change; /* a result: mean of after - before; 0 without queries */
    double lower;  /* a result: lower end of its one-sided 95% interval; 0 without queries */
} gate_probe;

typedef struct gate_evidence {
    gate_side heldout;
    gate_probe *probes; /* [probe_count] */
    size_t probe_count;
    double drift; /* 1 - the mean cosine of old and new vectors; NAN where it says nothing */
} gate_evidence;

typedef struct gate_rules {
    double max_p;          /* chance that the gain is luck must be below it */
    double max_probe_loss; /* every collection's lower bound must be above its negative */
    double max_drift;      /* above it nothing is promoted; 2 is more than there can be */
    uint64_t seed;         /* of the draws: the same evidence and seed decide the same */
} gate_rules;

typedef struct gate_decision {
    bool promote;
    double p_value;      /* of the gain on the held-out queries; NAN where they were not asked */
    double gain;         /* mean of after - before there */
    double probe_change; /* mean of after - before over all probe queries */
    double probe_lower;  /* the lowest of the collections' bounds; 0 without probe queries */
    char reason[384];    /* for people */
} gate_decision;

/* Fills the probes' results too. */
void gate_decide(gate_evidence *evidence, const gate_rules *rules, gate_decision *out);

/* The same by the probe queries alone, for a model that an operator chose where there are
 * fewer held-out queries than `needed`: it is promoted unless it harms a collection. */
void gate_decide_on_probes(gate_evidence *evidence, size_t needed, const gate_rules *rules, gate_decision *out);

#endif
