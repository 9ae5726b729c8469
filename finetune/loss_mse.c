#include "finetune/loss_mse.h"

#include "finetune/loss_sum.h"

#include <stdlib.h>
#include <string.h>

static sem_status mse_check(const loss *l, const loss_batch *batch, sem_error *err)
{
    (void)l;
    if (batch->teacher == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the loss \"mse\" needs a teacher's vectors, the batch has none");
    return SEM_OK;
}

static double mse_run(loss *l, const loss_batch *batch, float *d_embeddings)
{
    (void)l;
    const size_t b = batch->pairs, e = batch->dim;
    const double total_weight = loss_total_weight(batch);
    double sum = 0;
    memset(d_embeddings, 0, batch->texts * e * sizeof *d_embeddings);
    for (size_t i = 0; i < 2 * b; i++) {
        double share = loss_pair_weight(batch, i % b) / total_weight / (double)e, squares = 0;
        for (size_t k = i * e; k < (i + 1) * e; k++) {
            double apart = (double)batch->embeddings[k] - batch->teacher[k];
            squares += apart * apart;
            d_embeddings[k] = (float)(2 * share * apart);
        }
        sum += share * squares;
    }
    return sum;
}

static void mse_destroy(loss *l)
{
    free(l);
}

sem_status loss_mse_create(loss **out, size_t max_pairs, sem_error *err)
{
    static const loss_kind kind = {.name = "mse", .check = mse_check, .run = mse_run, .destroy = mse_destroy};
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return sem_fail_memory(err, "the loss");
    **out = (loss){.kind = &kind, .max_pairs = max_pairs, .max_texts = 2 * max_pairs};
    return SEM_OK;
}
