#include "index/recall_curve.h"

#include "base/checked.h"
#include "base/random.h"
#include "index/scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES_MAX = 400, QUERY_SEED = 77 };

/* One-sided 99%: a recall below the one that `sure` names comes by chance in
 * one measurement of a hundred. */
static const double MARGIN = 2.33;

static const size_t depths[CURVE_DEPTHS] = {10, 30, 100, 300, 1000};
enum { DEEPEST = 1000 };

typedef struct ranked_cell {
    float score;
    uint32_t cell;
} ranked_cell;

typedef struct measurement {
    const curve_input *in;
    size_t count;                  /* queries */
    uint32_t queries[QUERIES_MAX]; /* their rows */
    float *vectors;                /* [count, width] copies, aligned to 64 bytes */
    scan *scans;                   /* [count] */
    vector_hit *hits;              /* [count, DEEPEST] */
    ranked_cell *ranked;           /* [nlist] scratch */
    uint32_t *rank_of;             /* [nlist] scratch: where a cell comes in the order of probing */
    struct tally {
        double sum, squares;
    } upto[CURVE_POINTS_MAX][CURVE_DEPTHS], beyond[CURVE_POINTS_MAX][CURVE_DEPTHS];
} measurement;

static bool counts(const curve_input *in, uint32_t row)
{
    return in->cells[row] != ROW_NONE && rows_alive(in->rows, row, in->seen);
}

/* Reservoir sampling (Vitter 1985, algorithm R). */
static void choose_queries(measurement *m)
{
    random_state random;
    random_seed(&random, QUERY_SEED);
    size_t met = 0;
    for (uint32_t row = 0; row < m->in->seen; row++) {
        if (!counts(m->in, row))
            continue;
        size_t slot = met < QUERIES_MAX ? met : random_below(&random, met + 1);
        if (slot < QUERIES_MAX)
            m->queries[slot] = row;
        met++;
    }
    m->count = met < QUERIES_MAX ? met : QUERIES_MAX;
}

static bool copy_queries(measurement *m)
{
    size_t width = m->in->rows->width;
    m->vectors = checked_alloc_aligned(m->count * width, sizeof *m->vectors);
    for (size_t q = 0; m->vectors != NULL && q < m->count; q++)
        memcpy(m->vectors + q * width, rows_vector(m->in->view, m->queries[q]), width * sizeof *m->vectors);
    return m->vectors != NULL;
}

/* All queries over one chunk of rows after the other: the chunk stays in the
 * cache, which makes this several times as fast as query after query. */
static sem_status find_neighbours(measurement *m, sem_error *err)
{
    const curve_input *in = m->in;
    for (size_t q = 0; q < m->count; q++)
        m->scans[q] = (scan){.rows = in->rows,
                             .view = in->view,
                             .seen = in->seen,
                             .kernel = in->kernel,
                             .query = m->vectors + q * in->rows->width,
                             .has_exclude = true,
                             .exclude = rows_docno(in->rows, m->queries[q]),
                             .best = topk_start(m->hits + q * DEEPEST, DEEPEST, NULL, NULL)};
    enum {
        PIECE = 256,       /* rows: 384 KiB at 384 dimensions */
        PIECES_A_VIEW = 32 /* some hundred milliseconds */
    };
    for (uint32_t from = 0; from < in->seen;) {
        if (in->cancel != NULL && atomic_load_explicit(in->cancel, memory_order_relaxed))
            return sem_fail(err, SEM_CANCELLED, "measuring recall was cancelled");
        sem_status s = from % (PIECE * PIECES_A_VIEW) == 0 ? rows_view_renew(in->view, err) : SEM_OK;
        if (s != SEM_OK)
            return s;
        uint32_t to = in->seen - from < PIECE ? in->seen : from + PIECE;
        for (size_t q = 0; q < m->count; q++)
            scan_range(&m->scans[q], from, to);
        from = to;
    }
    for (size_t q = 0; q < m->count; q++)
        topk_finish(&m->scans[q].best);
    return SEM_OK;
}

static int by_score(const void *a, const void *b)
{
    const ranked_cell *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->cell < y->cell ? -1 : 1;
}

static void rank_cells(measurement *m, const float *query)
{
    const curve_input *in = m->in;
    size_t width = in->rows->width;
    for (size_t c = 0; c < in->nlist; c += DOT_BATCH) {
        const float *batch[DOT_BATCH];
        float scores[DOT_BATCH];
        size_t n = in->nlist - c < DOT_BATCH ? in->nlist - c : DOT_BATCH;
        for (size_t i = 0; i < n; i++)
            batch[i] = in->centroids + (c + i) * width;
        in->kernel->rows(query, batch, n, width, scores);
        for (size_t i = 0; i < n; i++)
            m->ranked[c + i] = (ranked_cell){.score = scores[i], .cell = (uint32_t)(c + i)};
    }
    qsort(m->ranked, in->nlist, sizeof *m->ranked, by_score);
    for (size_t i = 0; i < in->nlist; i++)
        m->rank_of[m->ranked[i].cell] = (uint32_t)i;
}

static void add(struct tally *t, size_t found, size_t neighbours)
{
    double recall = neighbours == 0 ? 1.0 : (double)found / (double)neighbours;
    t->sum += recall;
    t->squares += recall * recall;
}

/* A neighbour is found with P probes if its cell is among the P nearest: the
 * whole curve follows from ranks, without searching once for each P. */
static void add_query(measurement *m, const recall_curve *curve, size_t q)
{
    const curve_input *in = m->in;
    rank_cells(m, m->vectors + q * in->rows->width);
    const topk *best = &m->scans[q].best;
    size_t found[CURVE_POINTS_MAX] = {0}, neighbours = 0, i = 0;
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        size_t found_before[CURVE_POINTS_MAX], before = neighbours;
        memcpy(found_before, found, sizeof found);
        for (; i < best->count && neighbours < depths[d]; i++) {
            uint32_t row = rows_row_of(in->rows, best->hits[i].docno);
            if (row >= in->seen || in->cells[row] == ROW_NONE)
                continue; /* replaced meanwhile, or removed */
            neighbours++;
            uint32_t rank = m->rank_of[in->cells[row]];
            for (size_t p = 0; p < curve->points; p++)
                found[p] += rank < curve->at[p].nprobe;
        }
        for (size_t p = 0; p < curve->points; p++) {
            add(&m->upto[p][d], found[p], neighbours);
            add(&m->beyond[p][d], found[p] - found_before[p], neighbours - before);
        }
    }
}

/* The mean, and in *sure the mean less its margin of error. */
static double mean_of(const struct tally *t, size_t count, double *sure)
{
    double n = fmax((double)count, 1.0), mean = t->sum / n;
    double variance = count < 2 ? 1.0 : fmax(0.0, (t->squares / n - mean * mean) * n / (n - 1));
    *sure = mean - MARGIN * sqrt(variance / n);
    return mean;
}

static void conclude(const measurement *m, recall_curve *curve)
{
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        for (size_t p = 0; p < curve->points; p++) {
            curve->at[p].recall[d] = mean_of(&m->upto[p][d], m->count, &curve->at[p].sure[d]);
            mean_of(&m->beyond[p][d], m->count, &curve->at[p].last[d]);
        }
        /* With every cell probed nothing is missed. */
        size_t all = curve->points - 1;
        curve->at[all].recall[d] = curve->at[all].sure[d] = curve->at[all].last[d] = 1.0;
    }
}

static void choose_points(recall_curve *curve, size_t nlist)
{
    curve->points = 0;
    for (size_t nprobe = 1; nprobe < nlist && curve->points < CURVE_POINTS_MAX - 1; nprobe *= 2)
        curve->at[curve->points++].nprobe = nprobe;
    curve->at[curve->points++].nprobe = nlist;
}

sem_status recall_curve_measure(recall_curve *curve, const curve_input *in, sem_error *err)
{
    sem_status s = SEM_RESOURCE_EXHAUSTED;
    measurement *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "the recall curve");
    m->in = in;
    choose_points(curve, in->nlist);
    choose_queries(m);
    m->scans = checked_realloc(NULL, m->count + 1, sizeof *m->scans);
    m->hits = checked_realloc(NULL, (m->count + 1) * DEEPEST, sizeof *m->hits);
    m->ranked = checked_realloc(NULL, in->nlist, sizeof *m->ranked);
    m->rank_of = checked_realloc(NULL, in->nlist, sizeof *m->rank_of);
    if (!copy_queries(m) || m->scans == NULL || m->hits == NULL || m->ranked == NULL || m->rank_of == NULL) {
        s = sem_fail_memory(err, "the recall curve");
        goto cleanup;
    }
    s = find_neighbours(m, err);
    if (s != SEM_OK)
        goto cleanup;
    for (size_t q = 0; q < m->count; q++)
        add_query(m, curve, q);
    conclude(m, curve);
cleanup:
    free(m->vectors);
    free(m->scans);
    free(m->hits);
    free(m->ranked);
    free(m->rank_of);
    free(m);
    return s;
}

static double value_at(const recall_curve *curve, size_t point, size_t d, bool at_rank)
{
    return at_rank ? curve->at[point].last[d] : curve->at[point].sure[d];
}

/* Recall grows ever slower with the logarithm of nprobe, so a straight line
 * between two points errs on the side of more probes. */
static double nprobe_at_depth(const recall_curve *curve, double recall, size_t d, bool at_rank)
{
    size_t p = 0;
    while (p + 1 < curve->points && value_at(curve, p, d, at_rank) < recall)
        p++;
    if (p == 0)
        return (double)curve->at[0].nprobe;
    double below = value_at(curve, p - 1, d, at_rank), above = value_at(curve, p, d, at_rank);
    double part = above > below ? (recall - below) / (above - below) : 1.0;
    double few = (double)curve->at[p - 1].nprobe, many = (double)curve->at[p].nprobe;
    return few * pow(many / few, fmin(part, 1.0));
}

static size_t find_nprobe(const recall_curve *curve, double recall, double k, bool at_rank)
{
    /* Between two depths the deeper one counts: where clusters end, the need
     * for probes jumps. Beyond the last it grows at most as k does. */
    size_t d = 0;
    while (d + 1 < CURVE_DEPTHS && k > (double)depths[d])
        d++;
    double beyond = fmax(1.0, k / DEEPEST);
    double nprobe = ceil(nprobe_at_depth(curve, recall, d, at_rank) * beyond - 1e-9);
    double nlist = (double)curve->at[curve->points - 1].nprobe;
    return (size_t)fmin(fmax(nprobe, 1.0), nlist);
}

size_t recall_curve_nprobe(const recall_curve *curve, double recall, double k)
{
    return find_nprobe(curve, recall, k, false);
}

size_t recall_curve_nprobe_at_rank(const recall_curve *curve, double recall, double k)
{
    return find_nprobe(curve, recall, k, true);
}
