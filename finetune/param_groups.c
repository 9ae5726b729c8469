#include "finetune/param_groups.h"

#include <math.h>

static bool of_embeddings(const param *p)
{
    return p->role < PARAM_QKV_WEIGHT;
}

static bool of_layer(const param *p)
{
    return p->role >= PARAM_QKV_WEIGHT && p->role <= PARAM_NORM2_BIAS;
}

static double factor_of(const param_group_options *o, const param *p, size_t layers)
{
    if (of_embeddings(p))
        return o->freeze_embeddings ? 0 : pow(o->layer_decay, (double)layers);
    if (of_layer(p))
        return p->part < o->freeze_layers ? 0 : pow(o->layer_decay, (double)(layers - 1 - p->part));
    return 1;
}

sem_status param_group_factors(const param_group_options *options, const param_layout *layout, size_t layers,
                               double *factors, sem_error *err)
{
    if (!(options->layer_decay > 0 && options->layer_decay <= 1))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: layer_decay is %g; it must be above 0 and at most 1",
                        options->layer_decay);
    if (options->freeze_layers > layers)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %zu layers shall be frozen, the model has %zu",
                        options->freeze_layers, layers);
    bool any = false;
    for (size_t i = 0; i < layout->count; i++) {
        factors[i] = factor_of(options, &layout->items[i], layers);
        any = any || factors[i] > 0;
    }
    if (!any)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training: all %zu layers and the embeddings are frozen, nothing is left to learn", layers);
    return SEM_OK;
}
