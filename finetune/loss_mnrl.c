#include "finetune/loss_mnrl.h"

#include "base/checked.h"
#include "base/names.h"
#include "finetune/loss_mask.h"
#include "finetune/loss_sum.h"

#include <math.h>

typedef struct mnrl {
    loss head;
    mnrl_options options;
    const gemm *g;
    loss_learned log_scale;
    double scale;       /* of the step begun, unless it is learned */
    float *scores;      /* [B, C] */
    uint8_t *masks;     /* [B, C] */
    double *row_sum;    /* [B] log of each row's sum of exponentials */
    double *column_sum; /* [B] the same of the first B columns */
} mnrl;

/* What the passes over the scores share. */
typedef struct mnrl_pass {
    const mnrl *l;
    const loss_batch *batch;
    size_t candidates; /* C */
    double scale;
    double total_weight;
} mnrl_pass;

bool mnrl_scale_of(const char *name, mnrl_scale *out)
{
    static const char *const names[] = {"fixed", "scheduled", "learned"};
    size_t place;
    if (!names_find(names, sizeof names / sizeof *names, name, &place))
        return false;
    *out = (mnrl_scale)place;
    return true;
}

double mnrl_scheduled_scale(size_t step, size_t steps)
{
    size_t rising = steps < MNRL_SCALE_STEPS ? steps : MNRL_SCALE_STEPS;
    double share = step + 1 < rising ? (double)step / (double)(rising - 1) : 1;
    return MNRL_SCALE_FIRST + (MNRL_SCALE_LAST - MNRL_SCALE_FIRST) * share;
}

double loss_mnrl_scale(const loss *l)
{
    const mnrl *m = (const mnrl *)l;
    return m->options.scale_kind == MNRL_SCALE_LEARNED ? exp((double)m->log_scale.value) : m->scale;
}

static double cosine(const mnrl_pass *p, size_t i, size_t j)
{
    double found = p->l->scores[i * p->candidates + j];
    return i == j ? found - p->l->options.margin : found;
}

/* Candidate j as anchor i sees it, and anchor i as candidate j does. */
static double row_logit(const mnrl_pass *p, size_t i, size_t j)
{
    const float *frequency = p->batch->frequency;
    return p->scale * cosine(p, i, j) - (i != j && frequency != NULL ? frequency[p->batch->pairs + j] : 0);
}

static double column_logit(const mnrl_pass *p, size_t i, size_t j)
{
    const float *frequency = p->batch->frequency;
    return p->scale * cosine(p, i, j) - (i != j && frequency != NULL ? frequency[i] : 0);
}

static bool counts(const mnrl_pass *p, size_t i, size_t j, unsigned way)
{
    return (p->l->masks[i * p->candidates + j] & way) == 0;
}

/* Anchor i against all candidates. */
static double row_log_sum(const mnrl_pass *p, size_t i)
{
    log_sum s = log_sum_begin(row_logit(p, i, i));
    for (size_t j = 0; j < p->candidates; j++) {
        if (j != i && counts(p, i, j, LOSS_MASK_ROW))
            log_sum_add(&s, row_logit(p, i, j));
    }
    return log_sum_end(&s);
}

/* Candidate j against all anchors. */
static double column_log_sum(const mnrl_pass *p, size_t j)
{
    log_sum s = log_sum_begin(column_logit(p, j, j));
    for (size_t i = 0; i < p->batch->pairs; i++) {
        if (i != j && counts(p, i, j, LOSS_MASK_COLUMN))
            log_sum_add(&s, column_logit(p, i, j));
    }
    return log_sum_end(&s);
}

/* The part of pair i in the batch's loss, for each direction. */
static double share_of(const mnrl_pass *p, size_t i)
{
    return loss_pair_weight(p->batch, i) / p->total_weight * (p->l->options.symmetric ? 0.5 : 1);
}

/* The gradient with respect to the scaled cosine of anchor i and candidate j. */
static double logit_gradient(const mnrl_pass *p, size_t i, size_t j)
{
    double target = i == j ? 1 : 0, sum = 0;
    if (counts(p, i, j, LOSS_MASK_ROW))
        sum += share_of(p, i) * (exp(row_logit(p, i, j) - p->l->row_sum[i]) - target);
    if (p->l->options.symmetric && j < p->batch->pairs && counts(p, i, j, LOSS_MASK_COLUMN))
        sum += share_of(p, j) * (exp(column_logit(p, i, j) - p->l->column_sum[j]) - target);
    return sum;
}

/* Fills the log sums and returns the loss; scores stay as they are. */
static double loss_of_scores(const mnrl_pass *p)
{
    double sum = 0;
    for (size_t i = 0; i < p->batch->pairs; i++) {
        double share = share_of(p, i), positive = row_logit(p, i, i);
        p->l->row_sum[i] = row_log_sum(p, i);
        sum += share * (p->l->row_sum[i] - positive);
        if (!p->l->options.symmetric)
            continue;
        p->l->column_sum[i] = column_log_sum(p, i);
        sum += share * (p->l->column_sum[i] - positive);
    }
    return sum;
}

/* Puts gradients in the scores' places; returns that of log(scale). */
static double gradients_of_scores(const mnrl_pass *p)
{
    double d_log_scale = 0;
    for (size_t i = 0; i < p->batch->pairs; i++) {
        for (size_t j = 0; j < p->candidates; j++) {
            double d = p->scale * logit_gradient(p, i, j);
            d_log_scale += d * cosine(p, i, j);
            p->l->scores[i * p->candidates + j] = (float)d;
        }
    }
    return d_log_scale;
}

static double mnrl_run(loss *head, const loss_batch *batch, float *d_embeddings)
{
    mnrl *l = (mnrl *)head;
    const size_t b = batch->pairs, c = batch->texts - b, e = batch->dim;
    const float *anchor = batch->embeddings, *candidate = anchor + b * e;
    const mnrl_pass pass = {l, batch, c, loss_mnrl_scale(head), loss_total_weight(batch)};

    loss_masks(batch, l->options.guide_margin, l->masks);
    l->g->multiply(false, true, b, c, e, 1, anchor, e, candidate, e, 0, l->scores, c);
    double result = loss_of_scores(&pass);
    l->log_scale.gradient = (float)gradients_of_scores(&pass);
    l->g->multiply(false, false, b, e, c, 1, l->scores, c, candidate, e, 0, d_embeddings, e);
    l->g->multiply(true, false, c, e, b, 1, l->scores, c, anchor, e, 0, d_embeddings + b * e, e);
    return result;
}

static void mnrl_begin(loss *head, size_t step, size_t steps)
{
    mnrl *l = (mnrl *)head;
    if (l->options.scale_kind == MNRL_SCALE_SCHEDULED)
        l->scale = mnrl_scheduled_scale(step, steps);
}

static void mnrl_destroy(loss *head)
{
    mnrl *l = (mnrl *)head;
    free(l->scores);
    free(l->masks);
    free(l->row_sum);
    free(l->column_sum);
    free(l);
}

static bool allocate(mnrl *l)
{
    size_t cells = 0;
    if (!checked_mul(l->head.max_pairs, l->head.max_texts - l->head.max_pairs, &cells))
        return false;
    l->scores = checked_alloc_aligned(cells, sizeof *l->scores);
    l->masks = checked_alloc_aligned(cells, sizeof *l->masks);
    l->row_sum = checked_alloc_aligned(l->head.max_pairs, sizeof *l->row_sum);
    l->column_sum = checked_alloc_aligned(l->head.max_pairs, sizeof *l->column_sum);
    return l->scores != NULL && l->masks != NULL && l->row_sum != NULL && l->column_sum != NULL;
}

sem_status loss_mnrl_create(loss **out, const mnrl_options *options, const gemm *g, size_t max_pairs, size_t max_texts,
                            sem_error *err)
{
    static const loss_kind kind = {
        .name = "mnrl", .begin = mnrl_begin, .run = mnrl_run, .scale = loss_mnrl_scale, .destroy = mnrl_destroy};
    *out = NULL;
    if (options->scale_kind != MNRL_SCALE_SCHEDULED && !(options->scale > 0 && options->scale < INFINITY))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the loss's scale is %g; it must be above 0", options->scale);
    if (max_pairs == 0 || max_texts / 2 < max_pairs)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a loss over %zu pairs of %zu texts: each pair has at least two",
                        max_pairs, max_texts);
    mnrl *l = calloc(1, sizeof *l);
    if (l == NULL)
        return sem_fail_memory(err, "the loss");
    l->head = (loss){.kind = &kind, .max_pairs = max_pairs, .max_texts = max_texts};
    l->options = *options;
    l->g = g;
    l->scale = options->scale_kind == MNRL_SCALE_SCHEDULED ? MNRL_SCALE_FIRST : options->scale;
    l->log_scale = (loss_learned){.name = "log_scale",
                                  .value = (float)fmin(log(l->scale), log(MNRL_SCALE_MOST)),
                                  .most = (float)log(MNRL_SCALE_MOST)};
    if (options->scale_kind == MNRL_SCALE_LEARNED)
        l->head.learned = &l->log_scale;
    if (!allocate(l)) {
        mnrl_destroy(&l->head);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the scores of %zu anchors and %zu candidates",
                        max_pairs, max_texts - max_pairs);
    }
    *out = &l->head;
    return SEM_OK;
}
