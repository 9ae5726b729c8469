/* Domains where the data names none: spherical k-means over the anchors' embeddings. */
#ifndef SEM_FINETUNE_MIX_DOMAINS_H
#define SEM_FINETUNE_MIX_DOMAINS_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "finetune/mix.h"

typedef struct mix_domains mix_domains;

typedef struct mix_domains_options {
    const model *model; /* borrowed */
    size_t domains;     /* at least 2 */
    unsigned threads;
    niceness nice;
    uint64_t seed;
} mix_domains_options;

/* Finds the centroids from the first window of the set, which must hold more examples
 * than there are domains. */
sem_status mix_domains_train(mix_domains **out, const mix_domains_options *options, const data_options *data,
                             sem_error *err);
void mix_domains_free(mix_domains *d); /* accepts NULL */

/* A mix_domains_of, whose context is a mix_domains: the nearest centroid's number. */
sem_status mix_domains_assign(void *context, const example *const *items, size_t count, uint64_t *domains,
                              sem_error *err);

#endif
