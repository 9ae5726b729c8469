#include "finetune/loss.h"

void loss_destroy(loss *l)
{
    if (l != NULL)
        l->kind->destroy(l);
}

sem_status loss_check(const loss *l, const loss_batch *batch, sem_error *err)
{
    if (batch->pairs == 0 || batch->pairs > l->max_pairs)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu pairs: 1 to %zu are possible", batch->pairs,
                        l->max_pairs);
    if (batch->texts < 2 * batch->pairs || batch->texts > l->max_texts)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu pairs has %zu texts: %zu to %zu are possible",
                        batch->pairs, batch->texts, 2 * batch->pairs, l->max_texts);
    return l->kind->check != NULL ? l->kind->check(l, batch, err) : SEM_OK;
}

void loss_begin(loss *l, size_t step, size_t steps)
{
    if (l->kind->begin != NULL)
        l->kind->begin(l, step, steps);
}

double loss_run(loss *l, const loss_batch *batch, float *d_embeddings)
{
    return l->kind->run(l, batch, d_embeddings);
}

double loss_scale(const loss *l)
{
    return l->kind->scale != NULL ? l->kind->scale(l) : 0;
}
