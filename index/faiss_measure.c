#include "index/faiss_measure.h"

#include "base/checked.h"
#include "base/random.h"
#include "index/parallel.h"
#include "index/scan.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX = 400, /* own rows; logged queries come on top */
    QUERY_SEED = 77,
    DEEPEST = 1000, /* the last depth */
    GROUP = 10      /* queries that one thread takes at a time, with one view of the rows */
};

/* One-sided 99%, as for our own lists. */
static const double MARGIN = 2.33;

typedef struct tally {
    double sum, squares;
} tally;

typedef struct tallies {
    tally at[CURVE_POINTS_MAX][CURVE_DEPTHS];
    size_t queries;
} tallies;

typedef struct measurement {
    faiss_cells *cells;
    const training *t;
    uint32_t seen;
    size_t count;         /* queries */
    float *queries;       /* [count, width] */
    uint32_t *own;        /* [count] their documents; ROW_NONE for logged ones */
    pthread_mutex_t lock; /* guards what follows */
    tallies sums;
    sem_status status;
    sem_error error;
} measurement;

/* What one thread works in. */
typedef struct bench {
    rows_view view;
    uint16_t *rank_of; /* [seen] 1 + how near the row is to the query among all, 0 for the farther ones */
    vector_hit nearest[DEEPEST];
    size_t count; /* of them */
    faiss_found found;
    tallies sums;
} bench;

static bool cancelled(const measurement *m)
{
    return m->t->cancel != NULL && atomic_load_explicit(m->t->cancel, memory_order_relaxed);
}

/* Reservoir sampling (Vitter 1985, algorithm R). */
static size_t choose_rows(const measurement *m, uint32_t chosen[QUERIES_MAX])
{
    random_state random;
    random_seed(&random, QUERY_SEED);
    size_t met = 0;
    for (uint32_t row = 0; row < m->seen; row++) {
        if (!rows_alive(m->t->rows, row, m->seen))
            continue;
        size_t slot = met < QUERIES_MAX ? met : random_below(&random, met + 1);
        if (slot < QUERIES_MAX)
            chosen[slot] = row;
        met++;
    }
    return met < QUERIES_MAX ? met : QUERIES_MAX;
}

static sem_status choose_queries(measurement *m, sem_error *err)
{
    const training *t = m->t;
    uint32_t chosen[QUERIES_MAX];
    size_t own = choose_rows(m, chosen), width = t->rows->width, dim = t->rows->dim;
    sem_status s = rows_view_renew(t->view, err);
    if (s != SEM_OK)
        return s;
    m->count = own + t->logged_count;
    m->queries = checked_alloc_aligned(m->count + 1, width * sizeof *m->queries);
    m->own = checked_realloc(NULL, m->count + 1, sizeof *m->own);
    if (m->queries == NULL || m->own == NULL)
        return sem_fail_memory(err, "the recall curve");
    memset(m->queries, 0, (m->count + 1) * width * sizeof *m->queries);
    for (size_t q = 0; q < m->count; q++) {
        const float *from = q < own ? rows_vector(t->view, chosen[q]) : t->logged + (q - own) * dim;
        memcpy(m->queries + q * width, from, dim * sizeof *from);
        m->own[q] = q < own ? rows_docno(t->rows, chosen[q]) : ROW_NONE;
    }
    rows_view_rest(t->view);
    return SEM_OK;
}

static void find_nearest(bench *b, const measurement *m, size_t q)
{
    scan on = {.rows = m->t->rows,
               .view = &b->view,
               .seen = m->seen,
               .kernel = m->t->kernel,
               .query = m->queries + q * m->t->rows->width,
               .has_exclude = m->own[q] != ROW_NONE,
               .exclude = m->own[q],
               .best = topk_start(b->nearest, DEEPEST, NULL, NULL)};
    scan_range(&on, 0, m->seen);
    topk_finish(&on.best);
    b->count = on.best.count;
    for (size_t i = 0; i < b->count; i++)
        b->rank_of[b->nearest[i].row] = (uint16_t)(i + 1);
}

static void add(tally *t, size_t found, size_t wanted)
{
    double recall = wanted == 0 ? 1.0 : (double)found / (double)wanted;
    t->sum += recall;
    t->squares += recall * recall;
}

/* A neighbour is found if it is among the candidates that are compared by their floats:
 * none that is not among the nearest comes before it then. */
static bool count_found(bench *b, const measurement *m, size_t q, size_t p)
{
    size_t found[CURVE_DEPTHS] = {0}, place = 0, last = 0;
    for (size_t i = 0; i < b->found.count; i++) {
        uint32_t row = (uint32_t)b->found.ids[i];
        if (row >= m->seen || !rows_alive(m->t->rows, row, m->seen) || rows_docno(m->t->rows, row) == m->own[q])
            continue;
        size_t rank = b->rank_of[row];
        for (size_t d = 0; rank > 0 && d < CURVE_DEPTHS; d++)
            found[d] += rank <= curve_depth(d) && place < faiss_cells_fetch(curve_depth(d));
        place++;
    }
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        last = b->count < curve_depth(d) ? b->count : curve_depth(d);
        add(&b->sums.at[p][d], found[d], last);
    }
    return found[CURVE_DEPTHS - 1] == last;
}

static sem_status measure_query(bench *b, const measurement *m, size_t q, sem_error *err)
{
    const recall_curve *curve = &m->cells->curve;
    bool all = false;
    sem_status s = SEM_OK;
    find_nearest(b, m, q);
    for (size_t p = 0; p + 1 < curve->points && s == SEM_OK; p++) {
        /* More cells hold no more neighbours. */
        if (all) {
            for (size_t d = 0; d < CURVE_DEPTHS; d++)
                add(&b->sums.at[p][d], 1, 1);
            continue;
        }
        s = faiss_ivf_search(m->cells->ivf, m->queries + q * m->t->rows->width, faiss_cells_fetch(DEEPEST),
                             curve->at[p].nprobe, &b->found, err);
        if (s == SEM_OK)
            all = count_found(b, m, q, p);
    }
    for (size_t i = 0; i < b->count; i++)
        b->rank_of[b->nearest[i].row] = 0;
    b->sums.queries++;
    return s;
}

static void merge(measurement *m, const tallies *from)
{
    for (size_t p = 0; p < CURVE_POINTS_MAX; p++)
        for (size_t d = 0; d < CURVE_DEPTHS; d++) {
            m->sums.at[p][d].sum += from->at[p][d].sum;
            m->sums.at[p][d].squares += from->at[p][d].squares;
        }
    m->sums.queries += from->queries;
}

static void measure_group(void *context, size_t group)
{
    measurement *m = context;
    size_t first = group * GROUP, count = m->count - first < GROUP ? m->count - first : GROUP;
    sem_error error;
    bench *b = calloc(1, sizeof *b);
    if (b != NULL)
        b->rank_of = calloc((size_t)m->seen + 1, sizeof *b->rank_of);
    sem_status s = b == NULL || b->rank_of == NULL ? sem_fail_memory(&error, "the recall curve")
                                                   : rows_view_open(&b->view, m->t->rows, &error);
    for (size_t q = 0; s == SEM_OK && q < count; q++)
        s = cancelled(m) ? sem_fail(&error, SEM_CANCELLED, "measuring recall was cancelled")
                         : measure_query(b, m, first + q, &error);
    pthread_mutex_lock(&m->lock);
    if (s == SEM_OK)
        merge(m, &b->sums);
    else if (m->status == SEM_OK) {
        m->status = s;
        m->error = error;
    }
    pthread_mutex_unlock(&m->lock);
    if (b == NULL)
        return;
    rows_view_end(&b->view);
    faiss_found_free(&b->found);
    free(b->rank_of);
    free(b);
}

static void choose_points(recall_curve *curve, size_t nlist)
{
    *curve = (recall_curve){0};
    for (size_t nprobe = 1; nprobe < nlist && curve->points < CURVE_POINTS_MAX - 1; nprobe *= 2)
        curve->at[curve->points++].nprobe = nprobe;
    curve->at[curve->points++].nprobe = nlist;
}

/* The number of candidates is not a choice here: of the factors only the last counts,
 * which recall_curve_nprobe() reads. */
static void conclude(const measurement *m, recall_curve *curve)
{
    double n = fmax((double)m->sums.queries, 1.0);
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        for (size_t p = 0; p + 1 < curve->points; p++) {
            const tally *t = &m->sums.at[p][d];
            double mean = t->sum / n;
            double variance = n < 2 ? 1.0 : fmax(0.0, (t->squares / n - mean * mean) * n / (n - 1));
            curve->at[p].recall[d] = curve->at[p].last[d] = (float)mean;
            curve->at[p].sure[d][CURVE_FACTORS - 1] = (float)(mean - MARGIN * sqrt(variance / n));
        }
        /* Whoever needs nearly every cell is given exact search. */
        curve_point *all = &curve->at[curve->points - 1];
        all->recall[d] = all->last[d] = all->sure[d][CURVE_FACTORS - 1] = 1.0f;
    }
    curve->queries = m->sums.queries;
    curve->logged = m->t->logged_count;
}

sem_status faiss_measure(faiss_cells *f, const training *t, uint32_t seen, sem_error *err)
{
    measurement *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "the recall curve");
    m->cells = f;
    m->t = t;
    m->seen = seen;
    pthread_mutex_init(&m->lock, NULL);
    choose_points(&f->curve, f->nlist);
    sem_status s = choose_queries(m, err);
    if (s == SEM_OK) {
        parallel_run(t->options->threads, (m->count + GROUP - 1) / GROUP, measure_group, m);
        s = m->status;
        if (s == SEM_OK)
            conclude(m, &f->curve);
        else
            *err = m->error;
    }
    pthread_mutex_destroy(&m->lock);
    free(m->queries);
    free(m->own);
    free(m);
    return s;
}
