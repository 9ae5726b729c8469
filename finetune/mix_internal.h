/* What mix.c and mix_saved.c share. */
#ifndef SEM_FINETUNE_MIX_INTERNAL_H
#define SEM_FINETUNE_MIX_INTERNAL_H

#include "finetune/mix.h"
#include "finetune/mix_plan.h"

/* One set as it is read. */
typedef struct mix_flow {
    data_stream *stream;
    const example *const *items; /* [count] the window in hand; none before the first */
    size_t count;
    mix_plan *plan; /* its batches; NULL where batches are of all sets */
    size_t next;    /* the batch, or the example, that comes next */
    uint64_t *domains;
} mix_flow;

struct mix {
    mix_options options;
    const mix_set *sets;
    size_t count;
    mix_flow *flows;       /* [count] */
    double *shares;        /* [count] */
    const example **batch; /* [batch_size] copies of our own where batches are of all sets */
    size_t batch_count;
    uint64_t step;
};

sem_status mix_load_window(const mix *m, size_t set, sem_error *err);
size_t mix_window_parts(const mix *m, const mix_flow *f);

#endif
