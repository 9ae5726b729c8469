#include "index/faiss_search.h"

#include "base/clock.h"
#include "index/scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With this share of the cells to be probed, comparing all rows is quicker. */
static const double EXACT_SHARE = 0.75;
/* A k of more than this share of all rows reaches into most cells. */
static const double DEEP_SHARE = 0.05;
enum { SPARE = 16 /* rows fetched beside those that are needed: dead ones, and those equal at the border */ };

typedef struct search {
    scan scan;
    const faiss_cells *cells;
    const vector_query *query;
    uint32_t covered; /* rows from it on are in no cell yet */
    size_t nprobe;
    size_t need;        /* candidates that are compared by their floats */
    const char *reason; /* why exactly, or why not */
    faiss_found found;  /* FAISS's, best first */
    size_t kept;        /* of them, the first so many */
    size_t strangers;   /* to be compared besides */
} search;

/* Sets nprobe, or leaves it 0: then exactly, and the reason says why. */
static void choose(search *s, const vector_index_options *options)
{
    const vector_query *q = s->query;
    double live = (double)rows_live(s->scan.rows), nlist = (double)s->cells->nlist;
    s->nprobe = 0;
    s->reason = NULL; /* vector_search() finds the same, and says it */
    if (q->k == 0 || q->exact || q->listed != NULL || live < (double)options->exact_below)
        return;
    s->reason = "FAISS knows no filters";
    if (q->allowed != NULL)
        return;
    if (q->nprobe != 0) {
        s->reason = "nprobe was given";
        s->nprobe = q->nprobe < s->cells->nlist ? q->nprobe : s->cells->nlist;
        s->need = q->k;
        return;
    }
    s->reason = "a recall of 1 was asked for";
    if (q->recall >= 1.0)
        return;
    s->reason = "k is a large part of all documents";
    if ((double)q->k > DEEP_SHARE * live)
        return;
    double depth = (double)q->k * recall_curve_thinned(s->cells->measured_rows, live);
    size_t nprobe = recall_curve_nprobe(&s->cells->curve, q->recall, depth);
    s->reason = "the recall asked needs most lists";
    if ((double)nprobe > EXACT_SHARE * nlist)
        return;
    s->reason = "lists for the recall asked";
    s->nprobe = nprobe;
    s->need = faiss_cells_fetch(q->k);
    s->strangers = atomic_load_explicit(&s->cells->strangers_count, memory_order_acquire);
}

static bool is_listed(const search *s, uint32_t row)
{
    size_t low = 0, high = s->strangers;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->cells->strangers[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->strangers && s->cells->strangers[low] == row;
}

/* Whether a row that FAISS found is to be compared here. */
static bool counts(const search *s, int64_t id)
{
    uint32_t row = (uint32_t)id;
    return row < s->covered && rows_alive(s->scan.rows, row, s->scan.seen) &&
           !(s->scan.has_exclude && rows_docno(s->scan.rows, row) == s->scan.exclude);
}

/* Sets kept to what has the need-th best score among rows that count, or a better one.
 * False: more are to be fetched to know that. */
static bool keep(search *s, size_t fetched)
{
    size_t good = 0;
    float least = -INFINITY;
    for (s->kept = 0; s->kept < s->found.count; s->kept++) {
        if (good >= s->need && s->found.scores[s->kept] < least)
            return true;
        if (!counts(s, s->found.ids[s->kept]))
            continue;
        if (++good == s->need)
            least = s->found.scores[s->kept];
    }
    return s->found.count < fetched; /* the cells hold no more */
}

/* As many rows as are needed, and those that equal the last of them. */
static sem_status fetch(search *s, sem_error *err)
{
    const rows *r = s->scan.rows;
    size_t entries = atomic_load_explicit(&s->cells->entries, memory_order_relaxed);
    double alive = fmax((double)rows_live(r) / fmax((double)rows_count(r), 1.0), 0.1);
    size_t wanted = (size_t)((double)s->need / alive) + SPARE;
    for (;; wanted *= 2) {
        if (wanted > entries + SPARE)
            wanted = entries + SPARE; /* more than there are, so that the end shows */
        sem_status status = faiss_ivf_search(s->cells->ivf, s->query->vector, wanted, s->nprobe, &s->found, err);
        if (status != SEM_OK || keep(s, wanted) || wanted > entries)
            return status;
    }
}

static void compare(search *s)
{
    for (size_t i = 0; i < s->kept; i++)
        if (counts(s, s->found.ids[i]) && !is_listed(s, (uint32_t)s->found.ids[i]))
            scan_offer(&s->scan, (uint32_t)s->found.ids[i], rows_vector(s->scan.view, (uint32_t)s->found.ids[i]));
    for (size_t i = 0; i < s->strangers; i++)
        if (s->cells->strangers[i] < s->covered)
            scan_offer(&s->scan, s->cells->strangers[i], rows_vector(s->scan.view, s->cells->strangers[i]));
    scan_flush(&s->scan);
    if (s->covered < s->scan.seen)
        scan_range(&s->scan, s->covered, s->scan.seen);
}

static sem_status exactly(const search *s, const vector_index_options *options, search_scratch *scratch,
                          vector_hit *hits, size_t *count, vector_plan *plan, sem_error *err)
{
    sem_status status =
        vector_search(s->scan.view, NULL, options, s->scan.kernel, scratch, s->query, hits, count, plan, err);
    if (status == SEM_OK && plan != NULL && s->reason != NULL)
        plan->reason = s->reason;
    return status;
}

static void describe(vector_plan *out, const search *s, uint64_t began, uint64_t fetched)
{
    bool flat = faiss_ivf_type(s->cells->ivf) == VECTOR_FAISS_FLAT;
    size_t live = rows_documents(s->scan.rows), scanned = s->found.scanned;
    *out = (vector_plan){.kind = "faiss",
                         .codes = faiss_cells_codes(s->cells),
                         .reason = s->reason,
                         .lists = s->cells->nlist,
                         .probed = s->nprobe,
                         .scanned = scanned + s->strangers + (s->scan.seen - s->covered),
                         .candidates = s->scan.compared,
                         .by_codes = flat ? 0 : scanned,
                         .by_floats = s->scan.compared + (flat ? scanned : 0),
                         .documents = live,
                         .allowed = live,
                         .scan_ns = fetched - began};
    out->floats_ns = out->rank_ns = clock_monotonic_ns() - fetched;
}

static search prepare(const rows_view *view, const faiss_cells *f, const dot_kernel *kernel, search_scratch *scratch,
                      const vector_query *q, vector_hit *hits)
{
    const rows *r = view->rows;
    search s = {.cells = f, .query = q};
    /* In this order: what is covered now is in the cells for whoever looks later, and counted. */
    s.covered = faiss_cells_covered(f);
    s.covered =
        recall_curve_covers(s.covered, atomic_load_explicit(&f->came, memory_order_relaxed), (double)rows_live(r));
    s.scan = (scan){.rows = r,
                    .view = view,
                    .seen = rows_count(r),
                    .kernel = kernel,
                    .query = scratch->vector,
                    .has_exclude = q->has_exclude,
                    .exclude = q->exclude,
                    .best = topk_start(hits, q->k, q->tie, q->tie_context)};
    if (s.covered > s.scan.seen)
        s.covered = s.scan.seen;
    return s;
}

sem_status faiss_search(const rows_view *view, const faiss_cells *f, const vector_index_options *options,
                        const dot_kernel *kernel, search_scratch *scratch, const vector_query *q, vector_hit *hits,
                        size_t *count, vector_plan *plan, sem_error *err)
{
    size_t dim = view->rows->dim;
    *count = 0;
    sem_status status = vector_query_check(q, dim, err);
    if (status != SEM_OK)
        return status;
    search s = prepare(view, f, kernel, scratch, q, hits);
    choose(&s, options);
    if (s.nprobe == 0)
        return exactly(&s, options, scratch, hits, count, plan, err);
    memcpy(scratch->vector, q->vector, dim * sizeof *scratch->vector);
    memset(scratch->vector + dim, 0, (view->rows->width - dim) * sizeof *scratch->vector);
    uint64_t began = clock_monotonic_ns();
    status = fetch(&s, err);
    uint64_t fetched = clock_monotonic_ns();
    if (status == SEM_OK) {
        compare(&s);
        topk_finish(&s.scan.best);
        *count = s.scan.best.count;
        if (plan != NULL)
            describe(plan, &s, began, fetched);
    }
    faiss_found_free(&s.found);
    /* Fewer than k only where there are no more, which only looking at all of them tells. */
    if (status == SEM_OK && *count < q->k) {
        s.reason = "the lists held too few hits";
        status = exactly(&s, options, scratch, hits, count, plan, err);
    }
    return status;
}
