#include "finetune/loss_config.h"

#include "finetune/loss_cosent.h"
#include "finetune/loss_mse.h"

#include <string.h>

/* The place of name among names [count], or count. */
static size_t find(const char *const *names, size_t count, const char *name)
{
    size_t i = 0;
    while (i < count && strcmp(names[i], name) != 0)
        i++;
    return i;
}

bool loss_choice_of(const char *name, loss_choice *out)
{
    static const char *const names[] = {"mnrl", "mse", "cosent"};
    size_t found = find(names, 3, name);
    if (found < 3)
        *out = (loss_choice)found;
    return found < 3;
}

bool mnrl_scale_of(const char *name, mnrl_scale *out)
{
    static const char *const names[] = {"fixed", "scheduled", "learned"};
    size_t found = find(names, 3, name);
    if (found < 3)
        *out = (mnrl_scale)found;
    return found < 3;
}

static sem_status create_inner(loss **out, const loss_config *config, const gemm *g, size_t max_pairs, size_t max_texts,
                               sem_error *err)
{
    switch (config->choice) {
    case LOSS_MSE: return loss_mse_create(out, max_pairs, err);
    case LOSS_COSENT: return loss_cosent_create(out, config->mnrl.scale, max_pairs, err);
    case LOSS_MNRL:
    default: return loss_mnrl_create(out, &config->mnrl, g, max_pairs, max_texts, err);
    }
}

sem_status loss_create(loss **out, const loss_config *config, const gemm *g, size_t max_pairs, size_t max_texts,
                       size_t dim, sem_error *err)
{
    loss *inner = NULL;
    *out = NULL;
    sem_status status = create_inner(&inner, config, g, max_pairs, max_texts, err);
    if (status != SEM_OK || config->dim_count == 0) {
        *out = inner;
        return status;
    }
    return loss_matryoshka_create(out, inner, config->dims, config->dim_weights, config->dim_count, dim, err);
}
