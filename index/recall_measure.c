#include "index/recall_measure.h"

#include "base/checked.h"
#include "base/clock.h"
#include "index/candidates.h"
#include "index/parallel.h"
#include "index/recall_sample.h"
#include "index/scan.h"
#include "index/scratch.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX = 600, /* own rows; logged queries come on top */
    DEEPEST = 1000,    /* the last depth */
    GROUP = 50,        /* queries that one thread takes at a time */
    NEAR = 1600,       /* nearest by their nibbles, of which the floats find the deepest */
    NEAR_ROOM = 3 * NEAR,
    SCAN_PIECE = 64, /* blocks */
    ROWS_PIECE = 512 /* rows, so that their nibbles stay in the cache */
};

/* Neighbours that the nibbles alone may lose. */
static const double SECOND_LOSS = 0.0005;
static const float seconds[] = {1.25f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, 10.0f, 16.0f};
enum { SECONDS = sizeof seconds / sizeof seconds[0] };

typedef struct tallies {
    recall_tally upto[CURVE_POINTS_MAX][CURVE_DEPTHS][CURVE_FACTORS];
    recall_tally last[CURVE_POINTS_MAX][CURVE_DEPTHS];
    double second[CURVE_DEPTHS][SECONDS]; /* neighbours lost */
    double neighbours[CURVE_DEPTHS];
    size_t queries;
} tallies;

/* A lane of a true neighbour of a query: it has up to two. */
typedef struct neighbour {
    float estimate;   /* by its bits */
    uint32_t cell_at; /* where its cell comes in the order of probing */
    uint32_t listed;  /* centroids that are nearer by their bits than that of its cell */
    uint32_t rank;    /* of its row among the neighbours */
} neighbour;

typedef struct measurement {
    const measure_input *in;
    recall_curve *curve;
    recall_sample sample;
    vector_hit *hits;     /* [count, DEEPEST] */
    size_t *found;        /* [count] */
    uint16_t *scales;     /* [seen] of the rows' nibbles; a NaN: in no list */
    pthread_mutex_t lock; /* guards what follows */
    tallies sums;
    sem_status status;
    sem_error error;
} measurement;

static bool cancelled(const measurement *m)
{
    return m->in->cancel != NULL && atomic_load_explicit(m->in->cancel, memory_order_relaxed);
}

static sem_status choose_queries(measurement *m, sem_error *err)
{
    const measure_input *in = m->in;
    sem_status s = recall_sample_choose(&m->sample, in->view, in->seen, QUERIES_MAX, in->logged, in->logged_count, err);
    if (s != SEM_OK)
        return s;
    m->hits = checked_realloc(NULL, (m->sample.count + 1) * DEEPEST, sizeof *m->hits);
    m->found = calloc(m->sample.count + 1, sizeof *m->found);
    return m->hits != NULL && m->found != NULL ? SEM_OK : sem_fail_memory(err, "the recall curve");
}

/* A query that looks for its true neighbours. */
typedef struct seeker {
    code_query codes;
    code_candidate *near;
    size_t count;
    float threshold;
} seeker;

static sem_status seeker_start(seeker *k, const measurement *m, size_t q, sem_error *err)
{
    const lists *l = m->in->lists;
    *k = (seeker){.threshold = -FLT_MAX};
    k->near = checked_realloc(NULL, NEAR_ROOM, sizeof *k->near);
    if (k->near == NULL || !codes_query_reserve(&k->codes, l->dim))
        return sem_fail_memory(err, "the recall curve");
    codes_prepare_bytes(&k->codes, m->sample.queries + q * m->in->view->rows->width, l->dim);
    return SEM_OK;
}

static void seek_piece(seeker *k, const measurement *m, uint32_t from, uint32_t to)
{
    const lists *l = m->in->lists;
    for (uint32_t row = from; row < to; row += CODES_BATCH) {
        const uint8_t *batch[CODES_BATCH];
        int32_t sums[CODES_BATCH];
        uint32_t n = to - row < CODES_BATCH ? to - row : CODES_BATCH;
        for (uint32_t j = 0; j < n; j++)
            batch[j] = lists_nibbles(l, row + j);
        l->kernel->nibbles(k->codes.bytes, batch, n, l->nibbles_width, sums);
        for (uint32_t j = 0; j < n; j++) {
            float score = codes_nibble_score(&k->codes, sums[j], codes_scale(m->scales[row + j]));
            if (score >= k->threshold) /* not a NaN */
                k->near[k->count++] = (code_candidate){.place = row + j, .score = score};
        }
        if (k->count > NEAR_ROOM - CODES_BATCH) {
            k->threshold = candidates_cut(m->in->lists->kernel, k->near, k->count, NEAR, candidate_smaller_place, NULL);
            k->count = NEAR;
        }
    }
}

/* All queries of a group over one piece of rows after the other: the piece stays in
 * the cache, which makes this several times as fast as query after query. */
static void seek(seeker *seekers, size_t count, const measurement *m)
{
    for (uint32_t from = 0; from < m->in->seen && !cancelled(m); from += ROWS_PIECE) {
        uint32_t to = m->in->seen - from < ROWS_PIECE ? m->in->seen : from + ROWS_PIECE;
        for (size_t q = 0; q < count; q++)
            seek_piece(&seekers[q], m, from, to);
    }
}

/* The floats decide among those that are nearest by their nibbles. */
static void settle(seeker *k, measurement *m, const rows_view *view, size_t q)
{
    const measure_input *in = m->in;
    scan on = {.rows = in->view->rows,
               .view = view,
               .seen = in->seen,
               .kernel = in->kernel,
               .query = m->sample.queries + q * in->view->rows->width,
               .has_exclude = m->sample.own[q] != ROW_NONE,
               .exclude = m->sample.own[q],
               .best = topk_start(m->hits + q * DEEPEST, DEEPEST, NULL, NULL)};
    if (k->count > NEAR) {
        candidates_cut(m->in->lists->kernel, k->near, k->count, NEAR, candidate_smaller_place, NULL);
        k->count = NEAR;
    }
    for (size_t i = 0; i < k->count; i++)
        scan_offer(&on, k->near[i].place, rows_vector(view, k->near[i].place));
    scan_flush(&on);
    topk_finish(&on.best);
    m->found[q] = on.best.count;
}

static sem_status find_neighbours(measurement *m, size_t first, size_t count, sem_error *err)
{
    seeker seekers[GROUP];
    rows_view view = {0};
    sem_status s = SEM_OK;
    size_t started = 0;
    while (started < count && s == SEM_OK) {
        s = seeker_start(&seekers[started], m, first + started, err);
        started++;
    }
    if (s == SEM_OK)
        seek(seekers, count, m);
    if (s == SEM_OK)
        s = rows_view_open(&view, m->in->view->rows, err);
    for (size_t q = 0; q < started; q++) {
        if (s == SEM_OK && !cancelled(m))
            settle(&seekers[q], m, &view, first + q);
        codes_query_free(&seekers[q].codes);
        free(seekers[q].near);
    }
    rows_view_end(&view);
    return s;
}

/* What one thread works in. */
typedef struct bench {
    search_scratch *scratch;
    uint16_t *slot_of;      /* [seen] 1 + the rank of the neighbour, 0 for other rows */
    uint32_t rows[DEEPEST]; /* the neighbours, nearest first */
    size_t count;           /* of them */
    uint32_t *ranks;        /* [nlist] of coarse_rank */
    neighbour lanes[2 * DEEPEST];
    size_t lane_count;
    uint32_t above[2 * DEEPEST]; /* lanes met that come before the i-th of these and not before the one ahead */
    uint16_t stamps[DEEPEST];    /* by rank: the last point at which a lane of it was met */
    code_candidate scanned[(SCAN_PIECE + 1) * CODES_LANES];
    tallies sums;
} bench;

static int by_estimate(const void *a, const void *b)
{
    const neighbour *x = a, *y = b;
    if (x->estimate != y->estimate)
        return x->estimate > y->estimate ? -1 : 1;
    return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : x->cell_at < y->cell_at ? -1 : x->cell_at > y->cell_at;
}

typedef void lane_fn(bench *b, const lists *l, uint32_t row, uint32_t cell, uint32_t cell_at, float estimate);

/* Calls f for each lane of a cell whose estimate is at least so high. */
static void each_lane(bench *b, const lists *l, uint32_t cell, uint32_t cell_at, float least, lane_fn *f)
{
    float base = lists_base(l, cell, b->scratch->cells.of);
    for (const list_extent *e = &l->cells[cell].head; e != NULL;
         e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        uint32_t used = atomic_load_explicit(&e->used, memory_order_acquire);
        for (uint32_t from = 0; from < used; from += SCAN_PIECE) {
            uint32_t n = used - from < SCAN_PIECE ? used - from : SCAN_PIECE, first = e->first + from;
            const code_run run = {.blocks = l->blocks + first * codes_block_size(l->lines),
                                  .count = n,
                                  .first_place = first * CODES_LANES,
                                  .base = base};
            size_t found = l->kernel->scan(&b->scratch->codes, &run, least, b->scanned);
            for (size_t i = 0; i < found; i++)
                f(b, l, lists_row(l, b->scanned[i].place), cell, cell_at, b->scanned[i].score);
        }
    }
}

static void note_neighbour(bench *b, const lists *l, uint32_t row, uint32_t cell, uint32_t cell_at, float estimate)
{
    uint16_t slot = b->slot_of[row];
    if (slot != 0 && b->lane_count < 2 * b->count)
        b->lanes[b->lane_count++] = (neighbour){.estimate = estimate,
                                                .cell_at = cell_at,
                                                .listed = cell < l->nlist ? b->ranks[cell] : 0,
                                                .rank = (uint32_t)slot - 1};
}

/* The neighbours' lanes are sorted by estimate by now. */
static void count_row(bench *b, const lists *l, uint32_t row, uint32_t cell, uint32_t cell_at, float estimate)
{
    (void)l, (void)row, (void)cell, (void)cell_at;
    if (estimate <= b->lanes[b->lane_count - 1].estimate)
        return;
    size_t low = 0, high = b->lane_count - 1; /* the first that is below the row */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (b->lanes[middle].estimate < estimate)
            high = middle;
        else
            low = middle + 1;
    }
    b->above[low]++;
}

static size_t depth_index(size_t rank)
{
    size_t d = 0;
    while (d + 1 < CURVE_DEPTHS && rank >= curve_depth(d))
        d++;
    return d;
}

/* What nprobe cells would have found: a neighbour is a hit if a cell of its is among
 * them and few enough lanes of theirs have a higher estimate. Of two lanes the one with
 * the higher estimate comes first and decides. */
static void add_point(bench *b, const lists *l, size_t p, size_t nprobe)
{
    size_t found[CURVE_DEPTHS][CURVE_FACTORS] = {{0}}, near[CURVE_DEPTHS] = {0}, above = 0;
    size_t listed = coarse_least(&l->coarse, nprobe);
    uint16_t stamp = (uint16_t)(p + 1);
    for (size_t i = 0; i < b->lane_count; i++) {
        const neighbour *n = &b->lanes[i];
        size_t first = depth_index(n->rank);
        above += b->above[i];
        if (n->cell_at >= nprobe || n->listed >= listed || b->stamps[n->rank] == stamp)
            continue;
        b->stamps[n->rank] = stamp;
        for (size_t d = first; d < CURVE_DEPTHS; d++)
            for (size_t f = CURVE_FACTORS; f-- > 0 && above < curve_candidates(curve_depth(d), f);)
                found[d][f]++;
        near[first] += above < curve_candidates(curve_depth(first), CURVE_FACTORS - 1);
    }
    for (size_t d = 0, before = 0; d < CURVE_DEPTHS; d++) {
        size_t upto = curve_depth(d) < b->count ? curve_depth(d) : b->count;
        for (size_t f = 0; f < CURVE_FACTORS; f++)
            recall_tally_add(&b->sums.upto[p][d][f], found[d][f], upto);
        recall_tally_add(&b->sums.last[p][d], near[d], upto - before);
        before = upto;
    }
}

/* Which neighbours the nibbles would lose, for each multiple of the depth. */
static void add_second(bench *b, const measurement *m)
{
    const lists *l = m->in->lists;
    code_candidate ranked[DEEPEST];
    for (size_t i = 0; i < b->count; i++) {
        const uint8_t *const nibbles = lists_nibbles(l, b->rows[i]);
        int32_t sum;
        l->kernel->nibbles(b->scratch->codes.bytes, &nibbles, 1, l->nibbles_width, &sum);
        float score = codes_nibble_score(&b->scratch->codes, sum, codes_scale(m->scales[b->rows[i]]));
        ranked[i] = (code_candidate){.place = (uint32_t)i, .score = candidate_score(score)};
    }
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        size_t depth = curve_depth(d);
        if (b->count < 2 * depth)
            break;
        b->sums.neighbours[d] += (double)depth;
        for (size_t s = 0; s < SECONDS; s++) {
            size_t keep = (size_t)ceilf((float)depth * seconds[s]) + CURVE_SPARE;
            if (keep >= b->count)
                break;
            candidates_cut(m->in->lists->kernel, ranked, b->count, keep, candidate_smaller_place, NULL);
            for (size_t i = keep; i < b->count; i++)
                b->sums.second[d][s] += ranked[i].place < depth;
        }
    }
}

static void take_neighbours(bench *b, const measurement *m, size_t q)
{
    b->count = b->lane_count = 0;
    for (size_t i = 0; i < m->found[q]; i++) {
        uint32_t row = m->hits[q * DEEPEST + i].row;
        if (row >= m->in->seen)
            continue; /* came meanwhile */
        b->rows[b->count] = row;
        b->slot_of[row] = (uint16_t)++b->count;
    }
}

/* Finds the lanes of the neighbours, and sorts them. */
static void find_lanes(bench *b, const lists *l)
{
    const uint32_t *order = b->scratch->cells.order;
    each_lane(b, l, (uint32_t)l->nlist, 0, -FLT_MAX, note_neighbour);
    for (uint32_t i = 0; i < l->nlist; i++)
        each_lane(b, l, order[i], i, -FLT_MAX, note_neighbour);
    for (size_t i = 0; i < b->count; i++)
        b->slot_of[b->rows[i]] = 0;
    qsort(b->lanes, b->lane_count, sizeof b->lanes[0], by_estimate);
    memset(b->above, 0, sizeof b->above);
    memset(b->stamps, 0, sizeof b->stamps);
}

static void measure_query(bench *b, const measurement *m, size_t q)
{
    const lists *l = m->in->lists;
    take_neighbours(b, m, q);
    lists_prepare(l, &b->scratch->codes, m->sample.queries + q * m->in->view->rows->width);
    coarse_scores *cells = &b->scratch->cells;
    coarse_rank(&l->coarse, &b->scratch->codes, cells, b->ranks);
    coarse_list(&l->coarse, &b->scratch->codes, l->nlist, cells);
    const uint32_t *order = cells->order;
    candidates_order(cells->order, l->nlist, cells->of);
    find_lanes(b, l);
    b->sums.queries++;
    if (b->lane_count == 0)
        return;
    float least = b->lanes[b->lane_count - 1].estimate;
    each_lane(b, l, (uint32_t)l->nlist, 0, least, count_row);
    uint32_t probed = 0;
    for (size_t p = 0; p + 1 < m->curve->points; p++) {
        for (; probed < m->curve->at[p].nprobe; probed++)
            each_lane(b, l, order[probed], probed, least, count_row);
        add_point(b, l, p, m->curve->at[p].nprobe);
    }
    add_second(b, m);
}

static void merge(tallies *to, const tallies *from)
{
    for (size_t p = 0; p < CURVE_POINTS_MAX; p++)
        for (size_t d = 0; d < CURVE_DEPTHS; d++) {
            for (size_t f = 0; f < CURVE_FACTORS; f++)
                recall_tally_merge(&to->upto[p][d][f], &from->upto[p][d][f]);
            recall_tally_merge(&to->last[p][d], &from->last[p][d]);
        }
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        to->neighbours[d] += from->neighbours[d];
        for (size_t s = 0; s < SECONDS; s++)
            to->second[d][s] += from->second[d][s];
    }
    to->queries += from->queries;
}

static sem_status bench_create(bench **out, const measurement *m, sem_error *err)
{
    bench *b = calloc(1, sizeof *b);
    if (b == NULL)
        return sem_fail_memory(err, "the recall curve");
    b->slot_of = calloc((size_t)m->in->seen + 1, sizeof *b->slot_of);
    b->ranks = calloc(m->in->lists->nlist, sizeof *b->ranks);
    sem_status s = b->slot_of == NULL || b->ranks == NULL ? sem_fail_memory(err, "the recall curve")
                                                          : scratch_create(&b->scratch, m->in->lists->dim, err);
    if (s == SEM_OK)
        s = scratch_reserve(b->scratch, m->in->lists->nlist, 1, err);
    *out = b;
    return s;
}

static void bench_free(bench *b)
{
    if (b == NULL)
        return;
    scratch_free(b->scratch);
    free(b->slot_of);
    free(b->ranks);
    free(b);
}

static void measure_group(void *context, size_t group)
{
    measurement *m = context;
    size_t first = group * GROUP, count = m->sample.count - first < GROUP ? m->sample.count - first : GROUP;
    sem_error error;
    bench *b = NULL;
    sem_status s = bench_create(&b, m, &error);
    if (s == SEM_OK)
        s = find_neighbours(m, first, count, &error);
    for (size_t q = 0; s == SEM_OK && q < count && !cancelled(m); q++)
        measure_query(b, m, first + q);
    if (s == SEM_OK && cancelled(m))
        s = sem_fail(&error, SEM_CANCELLED, "measuring recall was cancelled");
    pthread_mutex_lock(&m->lock);
    if (s == SEM_OK)
        merge(&m->sums, &b->sums);
    else if (m->status == SEM_OK) {
        m->status = s;
        m->error = error;
    }
    pthread_mutex_unlock(&m->lock);
    bench_free(b);
}

static float choose_second(const tallies *t, size_t d)
{
    for (size_t s = 0; s < SECONDS; s++)
        if (t->second[d][s] <= SECOND_LOSS * t->neighbours[d])
            return seconds[s];
    return seconds[SECONDS - 1];
}

static void conclude(const measurement *m, recall_curve *curve)
{
    const tallies *t = &m->sums;
    for (size_t d = 0; d < CURVE_DEPTHS; d++) {
        for (size_t p = 0; p + 1 < curve->points; p++) {
            curve_point *at = &curve->at[p];
            for (size_t f = 0; f < CURVE_FACTORS; f++)
                at->recall[d] = recall_tally_mean(&t->upto[p][d][f], t->queries, &at->sure[d][f]);
            recall_tally_mean(&t->last[p][d], t->queries, &at->last[d]);
        }
        /* With every cell probed nothing is missed: such a search is exact. */
        curve_point *all = &curve->at[curve->points - 1];
        all->recall[d] = all->last[d] = 1.0f;
        for (size_t f = 0; f < CURVE_FACTORS; f++)
            all->sure[d][f] = f + 1 == CURVE_FACTORS ? 1.0f : 0.0f;
        /* Too few rows to see what deeper searches need: as the depth before. */
        curve->second[d] = t->neighbours[d] > 0 || d == 0 ? choose_second(t, d) : curve->second[d - 1];
    }
    curve->queries = t->queries;
    curve->logged = m->in->logged_count;
}

static void note_scale(void *context, uint32_t cell, uint32_t place)
{
    measurement *m = context;
    const lists *l = m->in->lists;
    uint32_t row = lists_row(l, place);
    (void)cell;
    if (row < m->in->seen)
        m->scales[row] = lists_tail(l, place)->scale[place % CODES_LANES];
}

static sem_status find_scales(measurement *m, sem_error *err)
{
    m->scales = checked_realloc(NULL, (size_t)m->in->seen + 1, sizeof *m->scales);
    if (m->scales == NULL)
        return sem_fail_memory(err, "the recall curve");
    memset(m->scales, 0xff, (size_t)m->in->seen * sizeof *m->scales); /* NaN */
    lists_each(m->in->lists, note_scale, m);
    return SEM_OK;
}

/* A search meets large cells more often than small ones. */
static float rows_of_met_cells(const lists *l)
{
    double sum = 0, squares = 0;
    for (size_t c = 0; c < l->nlist; c++) {
        double n = (double)atomic_load_explicit(&l->cells[c].count, memory_order_relaxed);
        sum += n;
        squares += n * n;
    }
    return sum > 0 ? (float)(squares / sum) : 1.0f;
}

/* An estimate for 384 dimensions, not calibrated on each machine: it shifts the choice between
 * more cells and more candidates, not the recall that is reached. */
static const float CANDIDATE_COST = 20;

sem_status recall_measure(recall_curve *curve, const measure_input *in, sem_error *err)
{
    measurement *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "the recall curve");
    m->in = in;
    m->curve = curve;
    pthread_mutex_init(&m->lock, NULL);
    recall_curve_begin(curve, in->lists->nlist);
    curve->cells_rows = rows_of_met_cells(in->lists);
    curve->candidate_cost = CANDIDATE_COST;
    sem_status s = choose_queries(m, err);
    if (s == SEM_OK)
        s = find_scales(m, err);
    if (s == SEM_OK) {
        parallel_run(in->threads, (m->sample.count + GROUP - 1) / GROUP, measure_group, m);
        s = m->status;
        if (s == SEM_OK)
            conclude(m, curve);
        else
            *err = m->error;
    }
    pthread_mutex_destroy(&m->lock);
    recall_sample_free(&m->sample);
    free(m->hits);
    free(m->found);
    free(m->scales);
    free(m);
    return s;
}
