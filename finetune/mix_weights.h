/* How often each of several data sets is drawn from. */
#ifndef SEM_FINETUNE_MIX_WEIGHTS_H
#define SEM_FINETUNE_MIX_WEIGHTS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum mix_method {
    MIX_EQUAL,        /* all alike */
    MIX_PROPORTIONAL, /* by their sizes */
    MIX_TEMPERATURE,  /* by share^(1/T) of their sizes (Arivazhagan et al. 2019, section 3.2) */
    MIX_CAPPED,       /* by their sizes, of which at most `cap` counts (Raffel et al. 2020, section 3.5.2) */
    MIX_EXPLICIT      /* by weights that are given */
} mix_method;

typedef struct mix_weighting {
    mix_method method;
    double temperature; /* T, at least 1 */
    uint64_t cap;       /* examples */
} mix_weighting;

/* Proportional; T 5 and a cap of 1,000,000 where the method is changed. */
mix_weighting mix_weighting_defaults(void);

/* "equal", "proportional", "temperature", "capped", "weights". */
const char *mix_method_name(mix_method method);
bool mix_method_parse(const char *name, mix_method *out);
bool mix_needs_sizes(mix_method method);

/* shares[count] = the probability of each set; they add up to 1. sizes [count] are
 * read where the method needs them, weights [count] where they are explicit. */
sem_status mix_shares_of(const mix_weighting *w, const uint64_t *sizes, const double *weights, size_t count,
                         double *shares, sem_error *err);

/* The set that u, uniform in [0, 1), falls on. */
size_t mix_choose(const double *shares, size_t count, double u);

#endif
