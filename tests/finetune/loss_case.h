/* A batch of random unit vectors with everything that a loss may read, and the check
 * of its gradient by finite differences. */
#ifndef SEM_TESTS_FINETUNE_LOSS_CASE_H
#define SEM_TESTS_FINETUNE_LOSS_CASE_H

#include "tests/common/testing.h"

#include "base/random.h"
#include "model/gemm.h"
#include "finetune/loss.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 5, C = 8, N = B + C, E = 6 };

static sem_error error;

/* The plainest product there is: what the loss computes is checked apart from
 * any kernel. */
static inline void multiply_plainly(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                                    size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)(ta ? a[p * lda + i] : a[i * lda + p]) * (tb ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = (float)(alpha * sum) + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
    }
}

static const gemm plain = {"plain", multiply_plainly};

typedef struct loss_case {
    float rows[N * E], d[N * E], weight[B], guide[B * C], frequency[N], teacher[2 * B * E], anchor[C * E], score[B];
    uint64_t id[N], text[N], label[N];
    loss_batch batch;
} loss_case;

static inline void fill_unit_rows(random_state *r, float *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double norm = 0;
        for (size_t k = 0; k < E; k++) {
            rows[i * E + k] = (float)(random_unit(r) - 0.5);
            norm += (double)rows[i * E + k] * rows[i * E + k];
        }
        for (size_t k = 0; k < E; k++)
            rows[i * E + k] /= (float)sqrt(norm);
    }
}

/* B pairs and then negatives; all ids differ; the other keys, guide and frequencies
 * are filled but left out of the batch. */
static inline void arrange(loss_case *t, size_t texts)
{
    random_state r;
    random_seed(&r, testing_seed());
    memset(t, 0, sizeof *t);
    fill_unit_rows(&r, t->rows, N);
    fill_unit_rows(&r, t->teacher, 2 * B);
    fill_unit_rows(&r, t->anchor, C);
    for (size_t i = 0; i < N; i++) {
        t->id[i] = 100 + i;
        t->text[i] = 200 + i;
        t->label[i] = 300 + i;
        t->frequency[i] = (float)(2 * random_unit(&r));
    }
    for (size_t i = 0; i < B; i++) {
        t->weight[i] = (float)(0.25 + random_unit(&r));
        t->score[i] = (float)(i % 3);
    }
    t->batch = (loss_batch){.pairs = B,
                            .texts = texts,
                            .dim = E,
                            .embeddings = t->rows,
                            .weight = t->weight,
                            .id = t->id,
                            .teacher = t->teacher,
                            .anchor = t->anchor,
                            .score = t->score};
}

static inline double loss_of(loss_case *t, loss *l)
{
    ck_ok(loss_check(l, &t->batch, &error));
    return loss_run(l, &t->batch, t->d);
}

static inline void check_slope(loss_case *t, loss *l, float *x, float gradient)
{
    const float h = 1e-3f, kept = *x;
    *x = kept + h;
    double up = loss_of(t, l);
    *x = kept - h;
    double down = loss_of(t, l);
    *x = kept;
    double slope = (up - down) / (2 * (double)h);
    ck_assert_msg(fabs(slope - gradient) <= 2e-3 * fmax(1, fabs(slope)), "%s: slope %g, gradient %g", l->kind->name,
                  slope, (double)gradient);
}

/* Every element of every text, and what the loss learns. */
static inline void check_gradients(loss_case *t, loss *l)
{
    float d[N * E];
    loss_of(t, l);
    memcpy(d, t->d, sizeof d);
    const float d_learned = l->learned != NULL ? l->learned->gradient : 0;
    for (size_t i = 0; i < t->batch.texts * E; i++)
        check_slope(t, l, &t->rows[i], d[i]);
    if (l->learned != NULL)
        check_slope(t, l, &l->learned->value, d_learned);
}

#endif
