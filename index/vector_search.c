#include "index/vector_search.h"

#include "base/clock.h"
#include "index/scan.h"
#include "index/topk.h"

#include <math.h>
#include <string.h>

/* A row that a filter skips costs about this share of a row that is compared. */
static const double SKIP_COST = 1.0 / 8;
/* With this share of the cells to be probed, going through all rows in order
 * is quicker than cell by cell. */
static const double EXACT_SHARE = 0.75;
/* A k of more than this share of all documents reaches into most cells. */
static const double DEEP_SHARE = 0.05;
/* Documents that a filter leaves count as deep among all as expected up to this
 * many times the depth. */
static const double DEPTH_SLACK = 1.5;
enum { SAMPLE_MAX = 256 /* rows compared to estimate a depth */ };

/* One search on its way. */
typedef struct search {
    scan scan;
    const lists *lists;
    const vector_query *query;
    double live;        /* documents */
    double per_cell;    /* rows in a cell, on average */
    double allowed;     /* documents that the filter leaves, at most; live without one */
    uint64_t coarse_ns; /* time for the order of the cells */
} search;

/* How to answer it. */
typedef struct plan {
    const char *reason;
    bool exact;
    size_t nprobe; /* cells at least */
    size_t enough; /* rows at least: for a number of cells that the caller chose before a filter */
    double depth;  /* with a filter: how deep among all its k best documents are thought to lie */
} plan;

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

/* The k best documents of which a share passes a filter are about the k / share
 * best of all. How many of these pass varies: two standard deviations more. */
static double depth_behind_filter(double k, double share)
{
    return (k + 2.0 * sqrt(k)) / share;
}

static bool exact_is_cheaper(const search *s, size_t nprobe)
{
    double met = (double)nprobe * s->per_cell, share = fmin(1.0, s->allowed / s->live);
    return s->allowed <= met * (SKIP_COST + share) || (double)nprobe > EXACT_SHARE * (double)s->lists->nlist;
}

static plan exactly(const char *reason)
{
    return (plan){.exact = true, .reason = reason};
}

static plan plan_filtered(const search *s)
{
    double depth = depth_behind_filter((double)s->query->k, fmin(1.0, s->allowed / s->live));
    if (s->allowed <= 0.0 || depth > DEEP_SHARE * s->live)
        return exactly("the filter leaves few documents");
    plan p = {.reason = "lists for the recall asked, behind a filter",
              .nprobe = recall_curve_nprobe(&s->lists->curve, s->query->recall, depth),
              .depth = depth};
    return exact_is_cheaper(s, p.nprobe) ? exactly("going through the filter's documents is cheaper") : p;
}

/* A caller's own nprobe says how many rows are to be compared; behind a filter
 * as many of those that pass. */
static plan plan_given_nprobe(const search *s)
{
    plan p = {.nprobe = s->query->nprobe, .reason = "nprobe was given"};
    if (s->query->allowed == NULL)
        return p;
    double compared = fmin((double)p.nprobe, (double)s->lists->nlist) * s->per_cell;
    p.enough = (size_t)compared;
    return s->allowed <= compared ? exactly("the filter leaves few documents") : p;
}

static plan make_plan(const search *s, const vector_index_options *options)
{
    const vector_query *q = s->query;
    if (q->exact)
        return exactly("exact was asked for");
    if (q->listed != NULL)
        return exactly("the filter leaves few documents");
    if (options->metric != METRIC_COSINE)
        return exactly("the metric is dot");
    if (s->live < (double)options->exact_below)
        return exactly("fewer documents than index.exact_below");
    if (s->lists == NULL)
        return exactly("the lists are not made yet");
    if (q->nprobe != 0)
        return plan_given_nprobe(s);
    if (q->recall >= 1.0)
        return exactly("a recall of 1 was asked for");
    if ((double)q->k > DEEP_SHARE * s->live)
        return exactly("k is a large part of all documents");
    if (q->allowed != NULL)
        return plan_filtered(s);
    plan p = {.nprobe = recall_curve_nprobe(&s->lists->curve, q->recall, (double)q->k),
              .reason = "lists for the recall asked"};
    return (double)p.nprobe > EXACT_SHARE * (double)s->lists->nlist ? exactly("the recall asked needs most lists") : p;
}

static void scan_exactly(search *s)
{
    s->scan.best.count = 0;
    s->scan.waiting = 0;
    if (s->query->listed != NULL)
        scan_listed(&s->scan, s->query->listed, s->query->listed_count);
    else if (s->query->allowed != NULL)
        scan_documents(&s->scan);
    else
        scan_range(&s->scan, 0, s->scan.seen);
}

/* How many of the rows of the first `probed` cells that the filter does not
 * pass are at least as near as the k-th hit; from a sample of them. */
static double count_nearer(const search *s, const probe *heap, size_t probed, size_t met)
{
    const scan *on = &s->scan;
    const lists *l = s->lists;
    size_t step = met / SAMPLE_MAX + 1, at = 0, waiting = 0, nearer = 0;
    const float *vectors[DOT_BATCH];
    float scores[DOT_BATCH];
    for (size_t i = 0; i < probed; i++) {
        uint32_t cell = heap[l->nlist - 1 - i].cell;
        size_t size = l->starts[cell + 1] - l->starts[cell];
        for (; at < size; at += step) {
            const list_entry *e = &l->entries[l->starts[cell] + at];
            if (scan_allows(on, e->docno))
                continue;
            vectors[waiting++] = rows_vector(on->view, e->row);
            if (waiting < DOT_BATCH)
                continue;
            on->kernel->rows(on->query, vectors, waiting, on->rows->width, scores);
            for (size_t j = 0; j < waiting; j++)
                nearer += scores[j] >= topk_threshold(&on->best);
            waiting = 0;
        }
        at -= size;
    }
    on->kernel->rows(on->query, vectors, waiting, on->rows->width, scores);
    for (size_t j = 0; j < waiting; j++)
        nearer += scores[j] >= topk_threshold(&on->best);
    return (double)nearer * (double)step;
}

/* The curve was measured without a filter. Where a filter's documents are
 * about something else than the query, they lie deeper among all than its
 * share tells: then more cells are due, or all of its documents. */
static void adapt_plan(const search *s, plan *p, const probe *heap, size_t probed, size_t met)
{
    if (s->scan.best.count < s->scan.best.k) {
        *p = exactly("the filter's documents lie far from the query");
        return;
    }
    double depth = (double)s->query->k + count_nearer(s, heap, probed, met);
    if (depth <= DEPTH_SLACK * p->depth)
        return;
    p->depth = depth;
    size_t nprobe = recall_curve_nprobe_at_rank(&s->lists->curve, s->query->recall, depth);
    if (nprobe > p->nprobe)
        p->nprobe = nprobe;
    if (exact_is_cheaper(s, p->nprobe))
        *p = exactly("the filter's documents lie far from the query");
}

/* Goes through cells until the plan is met and there are k hits. */
static void scan_cells(search *s, plan *p, probe *heap, size_t *probed)
{
    scan *on = &s->scan;
    const lists *l = s->lists;
    bool adapts = s->query->allowed != NULL && s->query->nprobe == 0;
    uint64_t began = clock_monotonic_ns();
    probes order = probes_start(l, on->kernel, on->query, heap);
    s->coarse_ns = clock_monotonic_ns() - began;
    size_t met = 0;
    for (*probed = 0; order.count > 0; ++*probed) {
        if (*probed >= p->nprobe) {
            scan_flush(on);
            if (adapts)
                adapt_plan(s, p, heap, *probed, met);
            if (p->exact)
                break;
            if (*probed >= p->nprobe && on->compared >= p->enough && on->best.count == on->best.k)
                break;
        }
        uint32_t cell = probes_next(&order);
        lists_scan(l, cell, on);
        met += l->starts[cell + 1] - l->starts[cell];
    }
    scan_flush(on);
    if (p->exact)
        scan_exactly(s);
}

static sem_status search_cells(search *s, plan *p, size_t *probed, sem_error *err)
{
    probe *heap = pool_take_array(s->query->memory, s->lists->nlist, sizeof *heap);
    if (heap == NULL)
        return sem_fail_memory(err, "a search");
    if (s->lists->covered < s->scan.seen)
        scan_range(&s->scan, s->lists->covered, s->scan.seen);
    scan_cells(s, p, heap, probed);
    pool_give(heap);
    return SEM_OK;
}

static search prepare(const rows_view *view, const lists *l, const dot_kernel *kernel, const vector_query *q,
                      const float *padded, vector_hit *hits)
{
    const rows *r = view->rows;
    search s = {.lists = l, .query = q, .live = (double)rows_live(r)};
    s.scan = (scan){.rows = r,
                    .view = view,
                    .seen = rows_count(r),
                    .kernel = kernel,
                    .query = padded,
                    .allowed = q->allowed,
                    .allowed_bits = q->allowed_bits,
                    .has_exclude = q->has_exclude,
                    .exclude = q->exclude,
                    .best = topk_start(hits, q->k, q->tie, q->tie_context)};
    s.allowed = q->listed != NULL ? (double)q->listed_count : q->allowed == NULL ? s.live : (double)count_allowed(q);
    if (l != NULL)
        s.per_cell = (double)l->starts[l->nlist] / (double)l->nlist;
    return s;
}

sem_status vector_search(const rows_view *view, const lists *l, const vector_index_options *options,
                         const dot_kernel *kernel, const vector_query *q, vector_hit *hits, size_t *count,
                         vector_plan *plan_out, sem_error *err)
{
    const rows *r = view->rows;
    *count = 0;
    sem_status status = check(q, r->dim, err);
    if (status != SEM_OK)
        return status;
    float *padded = pool_take_array(q->memory, r->width, sizeof *padded); /* aligned, as the kernels load it */
    if (padded == NULL)
        return sem_fail_memory(err, "a search");
    memcpy(padded, q->vector, r->dim * sizeof *padded);
    memset(padded + r->dim, 0, (r->width - r->dim) * sizeof *padded);

    uint64_t began = clock_monotonic_ns();
    search s = prepare(view, l, kernel, q, padded, hits);
    plan p = q->k == 0 ? exactly("no hits were asked for") : make_plan(&s, options);
    size_t probed = 0;
    if (!p.exact)
        status = search_cells(&s, &p, &probed, err);
    else if (q->k > 0)
        scan_exactly(&s);
    pool_give(padded);
    if (status != SEM_OK)
        return status;
    uint64_t scanned = clock_monotonic_ns();
    topk_finish(&s.scan.best);
    *count = s.scan.best.count;
    if (plan_out != NULL)
        *plan_out = (vector_plan){.kind = p.exact ? "exact" : "ivf",
                                  .reason = p.reason,
                                  .lists = p.exact ? 0 : l->nlist,
                                  .probed = p.exact ? 0 : probed,
                                  .scanned = s.scan.compared,
                                  .candidates = *count,
                                  .documents = (size_t)s.live,
                                  .allowed = (size_t)fmin(s.allowed, s.live),
                                  .coarse_ns = s.coarse_ns,
                                  .scan_ns = scanned - began - s.coarse_ns,
                                  .rank_ns = clock_monotonic_ns() - scanned};
    return SEM_OK;
}
