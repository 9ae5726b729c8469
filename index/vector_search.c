#include "index/vector_search.h"

#include "base/clock.h"
#include "index/scan.h"
#include "index/stages.h"
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
    search_scratch *scratch;
    const vector_query *query;
    uint32_t covered; /* rows from it on are in no list yet, or too new for the curve to tell of them */
    double live;      /* rows: documents, or their passages */
    double per_cell;  /* lanes in a cell, on average */
    double allowed;   /* rows that the filter leaves, about, at most; live without one */
    stages stages;
} search;

/* How to answer it. */
typedef struct plan {
    const char *reason;
    bool exact;
    effort effort; /* cells at least */
    size_t enough; /* rows at least: for a number of cells that the caller chose before a filter */
    double depth;  /* with a filter: how deep among all its k best documents are thought to lie */
} plan;

sem_status vector_query_check(const vector_query *q, size_t dim, sem_error *err)
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
    if (q->allowed_count != 0)
        return q->allowed_count;
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

static double thinned(const search *s)
{
    return recall_curve_thinned(s->lists->measured_rows, s->live);
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

/* The rows that the filter leaves compete among themselves, so that as many
 * candidates do as without one; most of them are let through, since the curve does
 * not know their scores. */
static plan plan_filtered(const search *s)
{
    double k = (double)s->query->k, depth = depth_behind_filter(k, fmin(1.0, s->allowed / s->live));
    if (s->allowed <= 0.0 || depth > DEEP_SHARE * s->live)
        return exactly("the filter leaves few documents");
    const recall_curve *curve = &s->lists->curve;
    plan p = {
        .reason = "lists for the recall asked, behind a filter",
        .effort = recall_curve_thorough(curve, recall_curve_nprobe(curve, s->query->recall, depth * thinned(s)), k),
        .depth = depth};
    return exact_is_cheaper(s, p.effort.nprobe) ? exactly("going through the filter's documents is cheaper") : p;
}

/* A caller's own nprobe says how many rows are to be compared; behind a filter
 * as many of those that pass. */
static plan plan_given_nprobe(const search *s)
{
    plan p = {.effort = recall_curve_thorough(&s->lists->curve, s->query->nprobe, (double)s->query->k),
              .reason = "nprobe was given"};
    if (s->query->allowed == NULL)
        return p;
    double compared = fmin((double)p.effort.nprobe, (double)s->lists->nlist) * s->per_cell;
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
    plan p = {.effort = recall_curve_effort(&s->lists->curve, q->recall, (double)q->k * thinned(s)),
              .reason = "lists for the recall asked"};
    return (double)p.effort.nprobe > EXACT_SHARE * (double)s->lists->nlist
               ? exactly("the recall asked needs most lists")
               : p;
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

/* A sample of the rows that the filter does not pass, compared by their nibbles. */
typedef struct sampling {
    const search *s;
    size_t step, at; /* every step-th row */
    size_t nearer;
} sampling;

static void sample_extent(sampling *on, const list_extent *e)
{
    const search *s = on->s;
    const lists *l = s->lists;
    size_t lanes = (size_t)atomic_load_explicit(&e->used, memory_order_acquire) * CODES_LANES;
    for (; on->at < lanes; on->at += on->step) {
        uint32_t place = e->first * CODES_LANES + (uint32_t)on->at;
        if (!lists_has_row(l, place))
            continue;
        uint32_t row = lists_row(l, place);
        if (row >= s->covered || scan_allows(&s->scan, rows_docno(s->scan.rows, row)))
            continue;
        const uint8_t *nibbles = lists_nibbles(l, row);
        int32_t sum;
        l->kernel->nibbles(s->scratch->codes.bytes, &nibbles, 1, l->nibbles_width, &sum);
        float scale = codes_scale(lists_tail(l, place)->scale[place % CODES_LANES]);
        float score = codes_nibble_score(&s->scratch->codes, sum, scale);
        on->nearer += score >= topk_threshold(&s->scan.best) * s->scratch->codes.stretch;
    }
    on->at -= lanes;
}

/* How many of the lanes of the first `probed` cells that the filter does not
 * pass are at least as near as the k-th hit; from a sample of them. Rows that were
 * met twice count twice: an error on the side of more cells. */
static double count_nearer(const search *s, size_t probed, size_t met)
{
    sampling on = {.s = s, .step = met / SAMPLE_MAX + 1};
    for (size_t i = 0; i < probed; i++)
        for (const list_extent *e = &s->lists->cells[s->scratch->cells.order[i]].head; e != NULL;
             e = atomic_load_explicit(&e->next, memory_order_acquire))
            sample_extent(&on, e);
    return (double)on.nearer * (double)on.step;
}

/* The curve was measured without a filter. Where a filter's documents are
 * about something else than the query, they lie deeper among all than its
 * share tells: then more cells are due, or all of its documents. */
static void adapt_plan(const search *s, plan *p, size_t probed, size_t met)
{
    if (s->scan.best.count < s->scan.best.k) {
        *p = exactly("the filter's documents lie far from the query");
        return;
    }
    double depth = (double)s->query->k + count_nearer(s, probed, met);
    if (depth <= DEPTH_SLACK * p->depth)
        return;
    p->depth = depth;
    size_t nprobe = recall_curve_nprobe_at_rank(&s->lists->curve, s->query->recall, depth);
    if (nprobe > p->effort.nprobe)
        p->effort.nprobe = nprobe;
    if (exact_is_cheaper(s, p->effort.nprobe))
        *p = exactly("the filter's documents lie far from the query");
}

/* Rows of a cell that the filter passes. */
static size_t count_passing(const search *s, uint32_t cell)
{
    size_t count = 0;
    for (const list_extent *e = &s->lists->cells[cell].head; e != NULL;
         e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        uint32_t lanes = atomic_load_explicit(&e->used, memory_order_acquire) * CODES_LANES;
        for (uint32_t i = 0; i < lanes; i++) {
            if (!lists_has_row(s->lists, e->first * CODES_LANES + i))
                continue;
            uint32_t row = lists_row(s->lists, e->first * CODES_LANES + i);
            count += row < s->covered && scan_allows(&s->scan, rows_docno(s->scan.rows, row));
        }
    }
    return count;
}

/* Goes through cells until the plan is met and there are k hits. */
static void scan_cells(search *s, plan *p, size_t *probed)
{
    const lists *l = s->lists;
    const topk *best = &s->scan.best;
    bool adapts = s->query->allowed != NULL && s->query->nprobe == 0;
    bool reaches = p->effort.reach > 0;
    size_t met = 0, passing = 0;
    stages_scan(&s->stages, (uint32_t)l->nlist, LISTS_NONE);
    for (*probed = 0;; ++*probed) {
        if (reaches && *probed >= p->effort.near && stages_found(&s->stages) >= p->effort.rank) {
            p->effort.nprobe = stages_reach(&s->stages, &p->effort, *probed);
            reaches = false;
        }
        if (*probed >= p->effort.nprobe || *probed == l->nlist) {
            stages_finish(&s->stages);
            if (adapts)
                adapt_plan(s, p, *probed, met);
            if (p->exact || *probed == l->nlist)
                break;
            if (*probed >= p->effort.nprobe && passing >= p->enough && best->count == best->k)
                break;
        }
        uint32_t cell = stages_cell(&s->stages, *probed, reaches ? p->effort.near : p->effort.nprobe);
        stages_scan(&s->stages, cell, stages_peek(&s->stages, *probed + 1));
        met += atomic_load_explicit(&l->cells[cell].count, memory_order_relaxed);
        if (p->enough > 0)
            passing += count_passing(s, cell);
    }
    /* Hits may have died since they were candidates. Whether a filter leaves so few only looking at all that it
     * leaves tells: numbers of rows are of no one moment. */
    if (!p->exact && best->count < best->k)
        *p = exactly("the lists held too few hits");
    if (p->exact)
        scan_exactly(s);
}

/* Strangers are coded against nothing near them, which the curve does not know: more
 * of them have their nibbles compared. */
static void allow_for_strangers(const search *s, effort *e)
{
    size_t strangers = lists_strangers(s->lists);
    size_t most = recall_curve_thorough(&s->lists->curve, e->nprobe, (double)s->query->k).first;
    size_t wanted = e->first + strangers < most ? e->first + strangers : most;
    if (wanted > e->first)
        e->first = wanted;
}

static sem_status search_cells(search *s, plan *p, size_t *probed, sem_error *err)
{
    allow_for_strangers(s, &p->effort);
    sem_status status = stages_begin(&s->stages, s->lists, &s->scan, s->scratch, &p->effort, s->covered, err);
    if (status != SEM_OK)
        return status;
    if (s->covered < s->scan.seen)
        scan_range(&s->scan, s->covered, s->scan.seen);
    scan_cells(s, p, probed);
    return SEM_OK;
}

static double rows_a_document(const rows *r)
{
    size_t documents = rows_documents(r);
    return documents == 0 ? 1 : (double)rows_live(r) / (double)documents;
}

static search prepare(const rows_view *view, const lists *l, const dot_kernel *kernel, search_scratch *scratch,
                      const vector_query *q, vector_hit *hits)
{
    const rows *r = view->rows;
    search s = {.lists = l, .scratch = scratch, .query = q, .live = (double)rows_live(r)};
    /* In this order: what is covered now is in the lists for whoever looks later, and counted. */
    s.covered = l == NULL ? 0 : lists_covered(l);
    if (l != NULL)
        s.covered = recall_curve_covers(s.covered, atomic_load_explicit(&l->came, memory_order_relaxed), s.live);
    s.scan = (scan){.rows = r,
                    .view = view,
                    .seen = rows_count(r),
                    .kernel = kernel,
                    .query = scratch->vector,
                    .allowed = q->allowed,
                    .allowed_bits = q->allowed_bits,
                    .has_exclude = q->has_exclude,
                    .exclude = q->exclude,
                    .best = topk_start(hits, q->k, q->tie, q->tie_context)};
    if (s.covered > s.scan.seen)
        s.covered = s.scan.seen;
    s.allowed = s.live;
    if (q->listed != NULL || q->allowed != NULL)
        s.allowed = (double)(q->listed != NULL ? q->listed_count : count_allowed(q)) * rows_a_document(r);
    if (l != NULL)
        s.per_cell = (double)(atomic_load_explicit(&l->entries, memory_order_relaxed) +
                              atomic_load_explicit(&l->seconds, memory_order_relaxed)) /
                     (double)l->nlist;
    return s;
}

static void describe(vector_plan *out, const search *s, const plan *p, size_t probed, uint64_t began, uint64_t scanned)
{
    const stages *g = &s->stages;
    size_t others = s->scan.compared - g->by_floats;
    *out = (vector_plan){.kind = p->exact ? "exact" : "ivf",
                         .codes = p->exact ? "float32" : "1-bit, 4-bit, float32",
                         .reason = p->reason,
                         .lists = p->exact ? 0 : s->lists->nlist,
                         .probed = p->exact ? 0 : probed,
                         .scanned = g->by_bits + others,
                         .candidates = p->exact ? s->scan.best.count : g->by_codes,
                         .by_bits = g->by_bits,
                         .by_codes = g->by_codes,
                         .by_floats = s->scan.compared,
                         .documents = rows_documents(s->scan.rows),
                         .allowed = (size_t)(fmin(s->allowed, s->live) / rows_a_document(s->scan.rows) + 0.5),
                         .coarse_ns = g->coarse_ns,
                         .nibbles_ns = g->nibbles_ns,
                         .floats_ns = g->floats_ns};
    out->rank_ns = clock_monotonic_ns() - scanned + g->nibbles_ns + g->floats_ns;
    uint64_t spent = g->coarse_ns + g->nibbles_ns + g->floats_ns, all = scanned - began;
    out->scan_ns = all > spent ? all - spent : 0;
}

sem_status vector_search(const rows_view *view, const lists *l, const vector_index_options *options,
                         const dot_kernel *kernel, search_scratch *scratch, const vector_query *q, vector_hit *hits,
                         size_t *count, vector_plan *plan_out, sem_error *err)
{
    const rows *r = view->rows;
    *count = 0;
    sem_status status = vector_query_check(q, r->dim, err);
    if (status != SEM_OK)
        return status;
    memcpy(scratch->vector, q->vector, r->dim * sizeof *scratch->vector);
    memset(scratch->vector + r->dim, 0, (r->width - r->dim) * sizeof *scratch->vector);

    uint64_t began = clock_monotonic_ns();
    search s = prepare(view, l, kernel, scratch, q, hits);
    plan p = q->k == 0 ? exactly("no hits were asked for") : make_plan(&s, options);
    size_t probed = 0;
    if (!p.exact)
        status = search_cells(&s, &p, &probed, err);
    else if (q->k > 0)
        scan_exactly(&s);
    if (status != SEM_OK)
        return status;
    uint64_t scanned = clock_monotonic_ns();
    topk_finish(&s.scan.best);
    *count = s.scan.best.count;
    if (plan_out != NULL)
        describe(plan_out, &s, &p, probed, began, scanned);
    return SEM_OK;
}
