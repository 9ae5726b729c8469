#include "finetune/loss_anchor.h"

#include <math.h>
#include <stdlib.h>

typedef struct anchored {
    loss head;
    loss *inner;
    double weight;
} anchored;

static sem_status anchor_check(const loss *head, const loss_batch *batch, sem_error *err)
{
    if (batch->anchor == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "an anchor_weight needs the vectors that documents had, the batch has none");
    return loss_check(((const anchored *)head)->inner, batch, err);
}

static void anchor_begin(loss *head, size_t step, size_t steps)
{
    loss_begin(((anchored *)head)->inner, step, steps);
}

static double anchor_scale(const loss *head)
{
    return loss_scale(((const anchored *)head)->inner);
}

static double anchor_run(loss *head, const loss_batch *batch, float *d_embeddings)
{
    const anchored *l = (const anchored *)head;
    const double sum = loss_run(l->inner, batch, d_embeddings);
    const size_t first = batch->pairs * batch->dim, count = batch->texts * batch->dim - first;
    const double share = l->weight / (double)(batch->texts - batch->pairs);
    double squares = 0;
    for (size_t i = 0; i < count; i++) {
        const double apart = (double)batch->embeddings[first + i] - batch->anchor[i];
        squares += apart * apart;
        d_embeddings[first + i] += (float)(2 * share * apart);
    }
    return sum + share * squares;
}

static void anchor_destroy(loss *head)
{
    loss_destroy(((anchored *)head)->inner);
    free(head);
}

sem_status loss_anchor_create(loss **out, loss *inner, double weight, sem_error *err)
{
    static const loss_kind kind = {.name = "anchor",
                                   .check = anchor_check,
                                   .begin = anchor_begin,
                                   .run = anchor_run,
                                   .scale = anchor_scale,
                                   .destroy = anchor_destroy};
    *out = NULL;
    if (!(weight > 0 && weight < INFINITY)) {
        loss_destroy(inner);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the anchor_weight is %g; it must be above 0", weight);
    }
    anchored *l = calloc(1, sizeof *l);
    if (l == NULL) {
        loss_destroy(inner);
        return sem_fail_memory(err, "the loss");
    }
    l->head =
        (loss){.kind = &kind, .max_pairs = inner->max_pairs, .max_texts = inner->max_texts, .learned = inner->learned};
    l->inner = inner;
    l->weight = weight;
    *out = &l->head;
    return SEM_OK;
}
