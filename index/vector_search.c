#include "index/vector_search.h"

#include "base/checked.h"
#include "index/scan.h"
#include "index/topk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A row that a filter skips costs about this share of a row that is compared. */
static const double SKIP_COST = 1.0 / 8;
/* With this share of the cells to be probed, going through all rows in order
 * is quicker than cell by cell. */
static const double EXACT_SHARE = 0.75;
/* A k of more than this share of all documents reaches into most cells. */
static const double DEEP_SHARE = 0.05;
/* A filter whose documents are met this much more rarely near the query than
 * elsewhere does not go with the curve that was measured without it. */
static const double RARE_NEARBY = 0.5;

/* How to go through cells. */
typedef struct cell_plan {
    bool exact;
    size_t nprobe;   /* cells at least */
    size_t enough;   /* of a filter's rows: having compared as many, nprobe cells are enough */
    size_t expected; /* fewer of them in the first nprobe cells: the filter is rare there */
} cell_plan;

static sem_status check(const vector_query *q, size_t dim, sem_error *err)
{
    for (size_t i = 0; i < dim; i++)
        if (!isfinite(q->vector[i]))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "element %zu of the query vector is not finite", i);
    if (!q->exact && q->nprobe == 0 && !(q->recall > 0.0 && q->recall <= 1.0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "recall must be above 0 and at most 1, not %g", q->recall);
    return SEM_OK;
}

static size_t count_allowed(const vector_query *q)
{
    size_t count = 0, whole = q->allowed_bits / 64;
    for (size_t w = 0; w < whole; w++)
        count += (size_t)__builtin_popcountll(q->allowed[w]);
    if (q->allowed_bits % 64 != 0)
        count += (size_t)__builtin_popcountll(q->allowed[whole] & ((UINT64_C(1) << q->allowed_bits % 64) - 1));
    return count;
}

/* Documents that a filter leaves are found like a random share of all: the k
 * best of them lie about as deep as the k / share best of all. */
static cell_plan plan_filtered(const lists *l, const vector_query *q, size_t live, double tail)
{
    double allowed = (double)count_allowed(q), n = (double)live;
    double share = fmin(1.0, fmax(allowed, 1.0) / n), per_cell = (double)l->starts[l->nlist] / (double)l->nlist;
    double depth = (double)q->k / share;
    size_t alone = q->nprobe != 0 ? q->nprobe : recall_curve_nprobe(&l->curve, q->recall, q->k);
    double unfiltered = (double)alone * per_cell + tail;
    if (allowed <= unfiltered || depth > DEEP_SHARE * n)
        return (cell_plan){.exact = true};
    size_t nprobe = q->nprobe != 0 ? q->nprobe : recall_curve_nprobe(&l->curve, q->recall, (size_t)depth);
    double met = (double)nprobe * per_cell + tail;
    if (allowed <= met * (SKIP_COST + share))
        return (cell_plan){.exact = true};
    return (cell_plan){.nprobe = nprobe,
                       .enough = (size_t)unfiltered,
                       .expected = q->nprobe != 0 ? (size_t)unfiltered : (size_t)(RARE_NEARBY * met * share)};
}

static cell_plan plan_cells(const rows *r, const lists *l, const vector_index_options *options,
                            const vector_query *q)
{
    size_t live = rows_live(r);
    bool by_recall = q->nprobe == 0;
    if (q->exact || l == NULL || options->metric != METRIC_COSINE || live < options->exact_below)
        return (cell_plan){.exact = true};
    if (by_recall && (q->recall >= 1.0 || (double)q->k > DEEP_SHARE * (double)live))
        return (cell_plan){.exact = true};
    double tail = (double)(rows_count(r) - l->covered);
    cell_plan plan = {.nprobe = q->nprobe};
    if (q->allowed != NULL)
        plan = plan_filtered(l, q, live, tail);
    else if (by_recall)
        plan.nprobe = recall_curve_nprobe(&l->curve, q->recall, q->k);
    if (by_recall && (double)plan.nprobe > EXACT_SHARE * (double)l->nlist)
        plan.exact = true;
    return plan;
}

/* Probes until the plan is met and there are k hits, or no cell is left. */
static sem_status search_cells(scan *s, const lists *l, const cell_plan *plan, size_t *probed, sem_error *err)
{
    probe *heap = checked_realloc(NULL, l->nlist, sizeof *heap);
    if (heap == NULL)
        return sem_fail_memory(err, "a search");
    if (l->covered < s->seen)
        scan_range(s, l->covered, s->seen);
    probes order = probes_start(l, s->kernel, s->query, heap);
    size_t enough = 0;
    for (*probed = 0; order.count > 0; ++*probed) {
        if (*probed >= plan->nprobe) {
            scan_flush(s);
            if (*probed == plan->nprobe && s->compared < plan->expected)
                enough = plan->enough;
            if (s->compared >= enough && s->best.count == s->best.k)
                break;
        }
        lists_scan(l, probes_next(&order), s);
    }
    scan_flush(s);
    free(heap);
    return SEM_OK;
}

static void search_exact(scan *s)
{
    if (s->allowed != NULL)
        scan_documents(s);
    else
        scan_range(s, 0, s->seen);
}

sem_status vector_search(const rows *r, const lists *l, const vector_index_options *options, const dot_kernel *kernel,
                         const vector_query *q, vector_hit *hits, size_t *count, vector_plan *plan, sem_error *err)
{
    *count = 0;
    sem_status status = check(q, r->dim, err);
    if (status != SEM_OK)
        return status;
    float *padded = checked_alloc_aligned(r->width, sizeof *padded);
    if (padded == NULL)
        return sem_fail_memory(err, "a search");
    memcpy(padded, q->vector, r->dim * sizeof *padded);
    memset(padded + r->dim, 0, (r->width - r->dim) * sizeof *padded);

    scan s = {.rows = r,
              .seen = rows_count(r),
              .kernel = kernel,
              .query = padded,
              .allowed = q->allowed,
              .allowed_bits = q->allowed_bits,
              .has_exclude = q->has_exclude,
              .exclude = q->exclude,
              .best = topk_start(hits, q->k, q->tie, q->tie_context)};
    cell_plan cells = q->k == 0 ? (cell_plan){.exact = true} : plan_cells(r, l, options, q);
    size_t probed = 0;
    if (!cells.exact)
        status = search_cells(&s, l, &cells, &probed, err);
    else if (q->k > 0)
        search_exact(&s);
    free(padded);
    if (status != SEM_OK)
        return status;
    topk_finish(&s.best);
    *count = s.best.count;
    if (plan != NULL)
        *plan = (vector_plan){.kind = cells.exact ? "exact" : "ivf",
                              .lists = cells.exact ? 0 : l->nlist,
                              .probed = probed,
                              .scanned = s.compared};
    return SEM_OK;
}
