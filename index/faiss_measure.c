#include "index/faiss_measure.h"

#include "index/parallel.h"
#include "index/recall_sample.h"
#include "index/scan.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX = 400, /* own rows; logged queries come on top */
    DEEPEST = 1000,    /* the last depth */
    GROUP = 10         /* queries that one thread takes at a time, with one view of the rows */
};

typedef struct tallies {
    recall_tally at[CURVE_POINTS_MAX][CURVE_DEPTHS];
    size_t queries;
} tallies;

typedef struct measurement {
    faiss_cells *cells;
    const training *t;
    uint32_t seen;
    recall_sample sample;
    size_t logged;        /* queries of these that were asked */
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
    return m->t->how->cancel != NULL && atomic_load_explicit(m->t->how->cancel, memory_order_relaxed);
}

static void find_nearest(bench *b, const measurement *m, size_t q)
{
    scan on = {.rows = m->t->rows,
               .view = &b->view,
               .seen = m->seen,
               .kernel = m->t->kernel,
               .query = m->sample.queries + q * m->t->rows->width,
               .has_exclude = m->sample.own[q] != ROW_NONE,
               .exclude = m->sample.own[q],
               .best = topk_start(b->nearest, DEEPEST, NULL, NULL)};
    scan_range(&on, 0, m->seen);
    topk_finish(&on.best);
    b->count = on.best.count;
    for (size_t i = 0; i < b->count; i++)
        b->rank_of[b->nearest[i].row] = (uint16_t)(i + 1);
}

/* A neighbour is found if it is among the candidates that are compared by their floats:
 * none that is not among the nearest comes before it then. */
static bool count_found(bench *b, const measurement *m, size_t q, size_t p)
{
    size_t found[CURVE_DEPTHS] = {0}, place = 0, last = 0;
    for (size_t i = 0; i < b->found.count; i++) {
        uint32_t row = (uint32_t)b->found.ids[i];
        if (row >= m->seen || !rows_alive(m->t->rows, row, m->seen) || rows_docno(m->t->rows, row) == m->sample.own[q])
            continue;
        size_t rank = b->rank_of[row];
        for (size_t d = 0; rank > 0 && d < CURVE_DEPTHS; d++)
            found[d] += rank <= curve_depth(d) && place < faiss_cells_fetch(curve_depth(d));
        place++;
    }
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        last = b->count < curve_depth(d) ? b->count : curve_depth(d);
        recall_tally_add(&b->sums.at[p][d], found[d], last);
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
                recall_tally_add(&b->sums.at[p][d], 1, 1);
            continue;
        }
        s = faiss_ivf_search(m->cells->ivf, m->sample.queries + q * m->t->rows->width, faiss_cells_fetch(DEEPEST),
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
        for (size_t d = 0; d < CURVE_DEPTHS; d++)
            recall_tally_merge(&m->sums.at[p][d], &from->at[p][d]);
    m->sums.queries += from->queries;
}

static void measure_group(void *context, size_t group)
{
    measurement *m = context;
    size_t first = group * GROUP, count = m->sample.count - first < GROUP ? m->sample.count - first : GROUP;
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

/* The number of candidates is not a choice here: of the factors only the last counts,
 * which recall_curve_nprobe() reads. */
static void conclude(const measurement *m, recall_curve *curve)
{
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        for (size_t p = 0; p + 1 < curve->points; p++) {
            curve_point *at = &curve->at[p];
            at->recall[d] = at->last[d] =
                recall_tally_mean(&m->sums.at[p][d], m->sums.queries, &at->sure[d][CURVE_FACTORS - 1]);
        }
        /* Whoever needs nearly every cell is given exact search. */
        curve_point *all = &curve->at[curve->points - 1];
        all->recall[d] = all->last[d] = all->sure[d][CURVE_FACTORS - 1] = 1.0f;
    }
    curve->queries = m->sums.queries;
    curve->logged = m->logged;
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
    f->curve = (recall_curve){0};
    recall_curve_begin(&f->curve, f->nlist);
    float *logged = training_queries(t, &m->logged);
    sem_status s = recall_sample_choose(&m->sample, t->view, seen, QUERIES_MAX, logged, m->logged, err);
    free(logged);
    if (s == SEM_OK) {
        parallel_run(t->options->threads, (m->sample.count + GROUP - 1) / GROUP, measure_group, m);
        s = m->status;
        if (s == SEM_OK)
            conclude(m, &f->curve);
        else
            *err = m->error;
    }
    pthread_mutex_destroy(&m->lock);
    recall_sample_free(&m->sample);
    free(m);
    return s;
}
