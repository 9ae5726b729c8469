#include "finetune/loss_mnrl.h"

#include "base/checked.h"

#include <math.h>

sem_status mnrl_scratch_create(mnrl_scratch *out, size_t anchors, size_t candidates, sem_error *err)
{
    size_t cells = 0;
    *out = (mnrl_scratch){0};
    if (checked_mul(anchors, candidates, &cells)) {
        out->scores = checked_alloc_aligned(cells, sizeof *out->scores);
        out->row_sum = checked_alloc_aligned(anchors, sizeof *out->row_sum);
        out->column_sum = checked_alloc_aligned(anchors, sizeof *out->column_sum);
    }
    if (out->scores != NULL && out->row_sum != NULL && out->column_sum != NULL)
        return SEM_OK;
    mnrl_scratch_free(out);
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the scores of %zu anchors and %zu candidates",
                    anchors, candidates);
}

void mnrl_scratch_free(mnrl_scratch *scratch)
{
    free(scratch->scores);
    free(scratch->row_sum);
    free(scratch->column_sum);
    *scratch = (mnrl_scratch){0};
}

bool mnrl_masked(const mnrl_batch *batch, size_t i, size_t j)
{
    if (i == j)
        return false;
    if (batch->candidate_key != NULL && batch->candidate_key[i] == batch->candidate_key[j])
        return true;
    return batch->anchor_key != NULL && j < batch->anchors && batch->anchor_key[i] == batch->anchor_key[j];
}

static double logit(const mnrl_options *options, const mnrl_batch *batch, const float *scores, size_t i, size_t j)
{
    double cosine = scores[i * batch->candidates + j];
    return options->scale * (i == j ? cosine - options->margin : cosine);
}

/* Adds x to a running log(sum(exp)), kept as the largest term and the sum
 * relative to it, so that no scale overflows. */
typedef struct log_sum {
    double largest;
    double sum;
} log_sum;

static void log_sum_add(log_sum *s, double x)
{
    /* The first condition lets a NaN through into the sum instead of hiding it. */
    if (!(x > s->largest)) {
        s->sum += exp(x - s->largest);
        return;
    }
    s->sum = s->sum * exp(s->largest - x) + 1;
    s->largest = x;
}

/* Anchor i against all candidates. */
static double row_log_sum(const mnrl_options *options, const mnrl_batch *batch, const float *scores, size_t i)
{
    log_sum s = {logit(options, batch, scores, i, i), 1};
    for (size_t j = 0; j < batch->candidates; j++) {
        if (j != i && !mnrl_masked(batch, i, j))
            log_sum_add(&s, logit(options, batch, scores, i, j));
    }
    return s.largest + log(s.sum);
}

/* Candidate j against all anchors. */
static double column_log_sum(const mnrl_options *options, const mnrl_batch *batch, const float *scores, size_t j)
{
    log_sum s = {logit(options, batch, scores, j, j), 1};
    for (size_t i = 0; i < batch->anchors; i++) {
        if (i != j && !mnrl_masked(batch, i, j))
            log_sum_add(&s, logit(options, batch, scores, i, j));
    }
    return s.largest + log(s.sum);
}

/* The part of pair i in the batch's loss, for each direction. */
static double share_of(const mnrl_options *options, const mnrl_batch *batch, double total_weight, size_t i)
{
    double weight = batch->weight != NULL ? batch->weight[i] : 1;
    return weight / total_weight * (options->symmetric ? 0.5 : 1);
}

/* The gradient with respect to the cosine of anchor i and candidate j. */
static double score_gradient(const mnrl_options *options, const mnrl_batch *batch, const mnrl_scratch *scratch,
                             double total_weight, size_t i, size_t j)
{
    if (mnrl_masked(batch, i, j))
        return 0;
    double target = i == j ? 1 : 0;
    double x = logit(options, batch, scratch->scores, i, j);
    double sum = share_of(options, batch, total_weight, i) * (exp(x - scratch->row_sum[i]) - target);
    if (options->symmetric && j < batch->anchors)
        sum += share_of(options, batch, total_weight, j) * (exp(x - scratch->column_sum[j]) - target);
    return sum * options->scale;
}

/* Fills the log sums and returns the loss; scores stay as they are. */
static double loss_of_scores(const mnrl_options *options, const mnrl_batch *batch, const mnrl_scratch *scratch,
                             double total_weight)
{
    double loss = 0;
    for (size_t i = 0; i < batch->anchors; i++) {
        double share = share_of(options, batch, total_weight, i);
        double positive = logit(options, batch, scratch->scores, i, i);
        scratch->row_sum[i] = row_log_sum(options, batch, scratch->scores, i);
        loss += share * (scratch->row_sum[i] - positive);
        if (!options->symmetric)
            continue;
        scratch->column_sum[i] = column_log_sum(options, batch, scratch->scores, i);
        loss += share * (scratch->column_sum[i] - positive);
    }
    return loss;
}

double mnrl_loss(const gemm *g, const mnrl_options *options, const mnrl_batch *batch, const mnrl_scratch *scratch,
                 float *d_anchor, float *d_candidate)
{
    size_t b = batch->anchors, c = batch->candidates, e = batch->dim;
    double total_weight = 0;
    for (size_t i = 0; i < b; i++)
        total_weight += batch->weight != NULL ? batch->weight[i] : 1;

    g->multiply(false, true, b, c, e, 1, batch->anchor, e, batch->candidate, e, 0, scratch->scores, c);
    double loss = loss_of_scores(options, batch, scratch, total_weight);

    for (size_t i = 0; i < b; i++) {
        for (size_t j = 0; j < c; j++)
            scratch->scores[i * c + j] = (float)score_gradient(options, batch, scratch, total_weight, i, j);
    }
    g->multiply(false, false, b, e, c, 1, scratch->scores, c, batch->candidate, e, 0, d_anchor, e);
    g->multiply(true, false, c, e, b, 1, scratch->scores, c, batch->anchor, e, 0, d_candidate, e);
    return loss;
}
