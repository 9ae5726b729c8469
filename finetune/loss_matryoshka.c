#include "finetune/loss_matryoshka.h"

#include "base/checked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct matryoshka {
    loss head;
    loss *inner;
    size_t dims[MATRYOSHKA_MOST];
    double weights[MATRYOSHKA_MOST];
    size_t count;
    float *cut;     /* [max_texts, largest] unit vectors of the first dimensions */
    float *length;  /* [max_texts] those had before */
    float *d_cut;   /* [max_texts, largest] */
    float *teacher; /* [2 max_pairs, largest] */
} matryoshka;

static sem_status matryoshka_check(const loss *head, const loss_batch *batch, sem_error *err)
{
    return loss_check(((const matryoshka *)head)->inner, batch, err);
}

static void matryoshka_begin(loss *head, size_t step, size_t steps)
{
    loss_begin(((matryoshka *)head)->inner, step, steps);
}

static double matryoshka_scale(const loss *head)
{
    return loss_scale(((const matryoshka *)head)->inner);
}

/* to[rows, dim] = the first dim of each of from's width, as unit vectors; length[rows] may be NULL. */
static void cut_rows(const float *from, size_t rows, size_t width, size_t dim, float *to, float *length)
{
    for (size_t i = 0; i < rows; i++) {
        double squares = 0;
        for (size_t k = 0; k < dim; k++)
            squares += (double)from[i * width + k] * from[i * width + k];
        /* A vector of nothing stays one. */
        double norm = fmax(sqrt(squares), 1e-12);
        for (size_t k = 0; k < dim; k++)
            to[i * dim + k] = (float)(from[i * width + k] / norm);
        if (length != NULL)
            length[i] = (float)norm;
    }
}

/* d_embeddings += weight * the gradient with respect to what cut_rows was given. */
static void add_gradient(const matryoshka *l, const loss_batch *batch, size_t dim, double weight, float *d_embeddings)
{
    for (size_t i = 0; i < batch->texts; i++) {
        const float *unit = l->cut + i * dim, *d = l->d_cut + i * dim;
        double along = 0;
        for (size_t k = 0; k < dim; k++)
            along += (double)unit[k] * d[k];
        for (size_t k = 0; k < dim; k++)
            d_embeddings[i * batch->dim + k] += (float)(weight * (d[k] - along * unit[k]) / l->length[i]);
    }
}

static double matryoshka_run(loss *head, const loss_batch *batch, float *d_embeddings)
{
    const matryoshka *l = (const matryoshka *)head;
    double sum = 0, d_learned = 0;
    memset(d_embeddings, 0, batch->texts * batch->dim * sizeof *d_embeddings);
    for (size_t m = 0; m < l->count; m++) {
        const size_t dim = l->dims[m];
        loss_batch part = *batch;
        part.dim = dim;
        part.embeddings = l->cut;
        cut_rows(batch->embeddings, batch->texts, batch->dim, dim, l->cut, l->length);
        if (batch->teacher != NULL && dim < batch->dim) {
            cut_rows(batch->teacher, 2 * batch->pairs, batch->dim, dim, l->teacher, NULL);
            part.teacher = l->teacher;
        }
        sum += l->weights[m] * loss_run(l->inner, &part, l->d_cut);
        d_learned += head->learned != NULL ? l->weights[m] * head->learned->gradient : 0;
        add_gradient(l, batch, dim, l->weights[m], d_embeddings);
    }
    if (head->learned != NULL)
        head->learned->gradient = (float)d_learned;
    return sum;
}

static void matryoshka_destroy(loss *head)
{
    matryoshka *l = (matryoshka *)head;
    loss_destroy(l->inner);
    free(l->cut);
    free(l->length);
    free(l->d_cut);
    free(l->teacher);
    free(l);
}

static sem_status check_dims(const size_t *dims, const double *weights, size_t count, size_t dim, sem_error *err)
{
    if (count == 0 || count > MATRYOSHKA_MOST)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu Matryoshka dimensions; 1 to %d are possible", count,
                        MATRYOSHKA_MOST);
    for (size_t m = 0; m < count; m++) {
        if (dims[m] <= (m > 0 ? dims[m - 1] : 0) || dims[m] > dim)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "Matryoshka dimension %zu: they must rise, from 1 to at most the model's %zu", dims[m],
                            dim);
        if (!(weights[m] > 0 && weights[m] < INFINITY))
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "the Matryoshka weight of dimension %zu is %g; it must be above 0", dims[m], weights[m]);
    }
    return SEM_OK;
}

static bool allocate(matryoshka *l)
{
    size_t largest = l->dims[l->count - 1], cells = 0;
    if (!checked_mul(l->head.max_texts, largest, &cells))
        return false;
    l->cut = checked_alloc_aligned(cells, sizeof *l->cut);
    l->d_cut = checked_alloc_aligned(cells, sizeof *l->d_cut);
    l->teacher = checked_alloc_aligned(cells, sizeof *l->teacher); /* 2 pairs are never more than the texts */
    l->length = checked_alloc_aligned(l->head.max_texts, sizeof *l->length);
    return l->cut != NULL && l->d_cut != NULL && l->teacher != NULL && l->length != NULL;
}

sem_status loss_matryoshka_create(loss **out, loss *inner, const size_t *dims, const double *weights, size_t count,
                                  size_t dim, sem_error *err)
{
    static const loss_kind kind = {.name = "matryoshka",
                                   .check = matryoshka_check,
                                   .begin = matryoshka_begin,
                                   .run = matryoshka_run,
                                   .scale = matryoshka_scale,
                                   .destroy = matryoshka_destroy};
    *out = NULL;
    sem_status status = check_dims(dims, weights, count, dim, err);
    matryoshka *l = status == SEM_OK ? calloc(1, sizeof *l) : NULL;
    if (l == NULL) {
        loss_destroy(inner);
        return status == SEM_OK ? sem_fail_memory(err, "the loss") : status;
    }
    l->head =
        (loss){.kind = &kind, .max_pairs = inner->max_pairs, .max_texts = inner->max_texts, .learned = inner->learned};
    l->inner = inner;
    l->count = count;
    memcpy(l->dims, dims, count * sizeof *dims);
    memcpy(l->weights, weights, count * sizeof *weights);
    if (!allocate(l)) {
        matryoshka_destroy(&l->head);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the first dimensions of %zu texts",
                        inner->max_texts);
    }
    *out = &l->head;
    return SEM_OK;
}
