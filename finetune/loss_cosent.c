#include "finetune/loss_cosent.h"

#include "base/checked.h"
#include "finetune/loss_sum.h"

#include <stdlib.h>
#include <string.h>

typedef struct cosent {
    loss head;
    double scale;
    double *cosine; /* [max_pairs] */
    double *d;      /* [max_pairs] gradients of those */
} cosent;

static sem_status cosent_check(const loss *l, const loss_batch *batch, sem_error *err)
{
    (void)l;
    if (batch->score == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the loss \"cosent\" needs scores of the pairs, the batch has none");
    return SEM_OK;
}

static double cosent_scale(const loss *l)
{
    return ((const cosent *)l)->scale;
}

static void fill_cosines(const cosent *l, const loss_batch *batch)
{
    const size_t b = batch->pairs, e = batch->dim;
    for (size_t i = 0; i < b; i++) {
        const float *first = batch->embeddings + i * e, *second = first + b * e;
        l->cosine[i] = 0;
        for (size_t k = 0; k < e; k++)
            l->cosine[i] += (double)first[k] * second[k];
    }
}

/* The exponent of the term of i, which is scored higher, and j. */
static double exponent(const cosent *l, const loss_batch *batch, double mean_weight, size_t i, size_t j)
{
    double weight = loss_pair_weight(batch, i) * loss_pair_weight(batch, j) / (mean_weight * mean_weight);
    return l->scale * (l->cosine[j] - l->cosine[i]) + log(weight);
}

/* Fills l->d and returns the loss. */
static double compare_pairs(const cosent *l, const loss_batch *batch)
{
    const size_t b = batch->pairs;
    const double mean_weight = loss_total_weight(batch) / (double)b;
    log_sum s = log_sum_begin(0);
    for (size_t i = 0; i < b; i++) {
        for (size_t j = 0; j < b; j++) {
            if (batch->score[i] > batch->score[j])
                log_sum_add(&s, exponent(l, batch, mean_weight, i, j));
        }
    }
    double result = log_sum_end(&s);
    memset(l->d, 0, b * sizeof *l->d);
    for (size_t i = 0; i < b; i++) {
        for (size_t j = 0; j < b; j++) {
            if (!(batch->score[i] > batch->score[j]))
                continue;
            double slope = l->scale * exp(exponent(l, batch, mean_weight, i, j) - result);
            l->d[i] -= slope;
            l->d[j] += slope;
        }
    }
    return result;
}

static double cosent_run(loss *head, const loss_batch *batch, float *d_embeddings)
{
    const cosent *l = (const cosent *)head;
    const size_t b = batch->pairs, e = batch->dim;
    fill_cosines(l, batch);
    double result = compare_pairs(l, batch);
    memset(d_embeddings, 0, batch->texts * e * sizeof *d_embeddings);
    for (size_t k = 0; k < b * e; k++) {
        d_embeddings[k] = (float)(l->d[k / e] * batch->embeddings[b * e + k]);
        d_embeddings[b * e + k] = (float)(l->d[k / e] * batch->embeddings[k]);
    }
    return result;
}

static void cosent_destroy(loss *head)
{
    cosent *l = (cosent *)head;
    free(l->cosine);
    free(l->d);
    free(l);
}

sem_status loss_cosent_create(loss **out, double scale, size_t max_pairs, sem_error *err)
{
    static const loss_kind kind = {
        .name = "cosent", .check = cosent_check, .run = cosent_run, .scale = cosent_scale, .destroy = cosent_destroy};
    *out = NULL;
    if (!(scale > 0 && scale < INFINITY))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the loss's scale is %g; it must be above 0", scale);
    cosent *l = calloc(1, sizeof *l);
    if (l == NULL)
        return sem_fail_memory(err, "the loss");
    l->head = (loss){.kind = &kind, .max_pairs = max_pairs, .max_texts = 2 * max_pairs};
    l->scale = scale;
    l->cosine = checked_realloc(NULL, max_pairs, sizeof *l->cosine);
    l->d = checked_realloc(NULL, max_pairs, sizeof *l->d);
    if (l->cosine == NULL || l->d == NULL) {
        cosent_destroy(&l->head);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the cosines of %zu pairs", max_pairs);
    }
    *out = &l->head;
    return SEM_OK;
}
