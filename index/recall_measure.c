#include "index/recall_measure.h"

#include "base/checked.h"
#include "index/candidates.h"
#include "index/parallel.h"
#include "index/recall_lanes.h"
#include "index/recall_reach.h"
#include "index/recall_sample.h"
#include "index/recall_truth.h"
#include "index/scratch.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX = 600, /* own rows; logged queries come on top */
    DEEPEST = TRUTH_DEPTH,
    GROUP = TRUTH_GROUP /* queries that one thread takes at a time */
};

/* Neighbours that the nibbles alone may lose. */
static const double SECOND_LOSS = 0.0005;
static const float seconds[] = {1.25f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, 10.0f, 16.0f};
enum { SECONDS = sizeof seconds / sizeof seconds[0] };

typedef struct tallies {
    recall_tally upto[CURVE_POINTS_MAX][CURVE_DEPTHS][CURVE_FACTORS];
    recall_tally last[CURVE_POINTS_MAX][CURVE_DEPTHS];
    recall_tally within[CURVE_REACHES][CURVE_REACH_DEPTHS][CURVE_FACTORS];
    double second[CURVE_DEPTHS][SECONDS]; /* neighbours lost */
    double neighbours[CURVE_DEPTHS];
    size_t queries;
} tallies;

/* A lane of a true neighbour of a query: it has up to two. */
typedef struct neighbour {
    float estimate;  /* by its bits */
    uint32_t cell;   /* that it is in */
    uint32_t listed; /* centroids that are nearer by their bits than that of its cell */
    uint32_t rank;   /* of its row among the neighbours */
} neighbour;

typedef struct measurement {
    const measure_input *in;
    recall_curve *curve;
    recall_sample sample;
    vector_hit *hits;     /* [count, DEEPEST] */
    size_t *found;        /* [count] */
    uint16_t *scales;     /* [seen] of the rows' nibbles; a NaN: in no list */
    reach_nearest *reach; /* [count, CURVE_REACH_DEPTHS] */
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
    m->reach = checked_realloc(NULL, (m->sample.count + 1) * CURVE_REACH_DEPTHS, sizeof *m->reach);
    return m->hits != NULL && m->found != NULL && m->reach != NULL ? SEM_OK : sem_fail_memory(err, "the recall curve");
}

/* What one thread works in. */
typedef struct bench {
    search_scratch *scratch;
    size_t nlist;           /* cells; the strangers' number */
    uint16_t *slot_of;      /* [seen] 1 + the rank of the neighbour, 0 for other rows */
    uint32_t rows[DEEPEST]; /* the neighbours, nearest first */
    size_t count;           /* of them */
    uint32_t *ranks;        /* [nlist] of coarse_rank */
    uint32_t *order;        /* [nlist] cells as they are probed */
    uint32_t *places;       /* [nlist + 1] where each comes in that order; the strangers at 0 */
    neighbour lanes[2 * DEEPEST];
    size_t lane_count;
    uint32_t above[2 * DEEPEST]; /* lanes met that come before the i-th of these and not before the one ahead */
    uint16_t stamps[DEEPEST];    /* by rank: the last point at which a lane of it was met */
    tallies sums;
} bench;

static int by_estimate(const void *a, const void *b)
{
    const neighbour *x = a, *y = b;
    if (x->estimate != y->estimate)
        return x->estimate > y->estimate ? -1 : 1;
    return x->rank != y->rank ? (x->rank < y->rank ? -1 : 1) : x->cell < y->cell ? -1 : x->cell > y->cell;
}

static void note_neighbour(void *context, uint32_t row, uint32_t cell, float estimate)
{
    bench *b = context;
    uint16_t slot = b->slot_of[row];
    if (slot != 0 && b->lane_count < 2 * b->count)
        b->lanes[b->lane_count++] = (neighbour){.estimate = estimate,
                                                .cell = cell,
                                                .listed = cell < b->nlist ? b->ranks[cell] : 0,
                                                .rank = (uint32_t)slot - 1};
}

/* The neighbours' lanes are sorted by estimate by now. */
static void count_row(void *context, uint32_t row, uint32_t cell, float estimate)
{
    bench *b = context;
    (void)row, (void)cell;
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

/* What is found at one point: of each depth, with each number of candidates. */
typedef struct point_found {
    size_t upto[CURVE_DEPTHS][CURVE_FACTORS];
    size_t near[CURVE_DEPTHS]; /* with the most candidates, of those beyond the depth before */
} point_found;

/* What the first `probed` cells of the order would have found: a neighbour is a hit if a cell
 * of its is among them and few enough lanes of theirs have a higher estimate. Of two lanes the
 * one with the higher estimate comes first and decides. most: cells that were looked at. */
static void find_at_point(bench *b, const lists *l, uint16_t stamp, size_t probed, size_t most, point_found *out)
{
    size_t listed = coarse_least(&l->coarse, most), above = 0;
    *out = (point_found){0};
    for (size_t i = 0; i < b->lane_count; i++) {
        const neighbour *n = &b->lanes[i];
        size_t first = depth_index(n->rank);
        above += b->above[i];
        if (b->places[n->cell] >= probed || n->listed >= listed || b->stamps[n->rank] == stamp)
            continue;
        b->stamps[n->rank] = stamp;
        for (size_t d = first; d < CURVE_DEPTHS; d++)
            for (size_t f = CURVE_FACTORS; f-- > 0 && above < curve_candidates(curve_depth(d), f);)
                out->upto[d][f]++;
        out->near[first] += above < curve_candidates(curve_depth(first), CURVE_FACTORS - 1);
    }
}

static size_t neighbours_of(const bench *b, size_t d)
{
    return curve_depth(d) < b->count ? curve_depth(d) : b->count;
}

static void add_point(bench *b, const lists *l, size_t p, size_t nprobe)
{
    point_found found;
    find_at_point(b, l, (uint16_t)(p + 1), nprobe, nprobe, &found);
    for (size_t d = 0, before = 0; d < CURVE_DEPTHS; d++) {
        size_t upto = neighbours_of(b, d);
        for (size_t f = 0; f < CURVE_FACTORS; f++)
            recall_tally_add(&b->sums.upto[p][d][f], found.upto[d][f], upto);
        recall_tally_add(&b->sums.last[p][d], found.near[d], upto - before);
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
    for (uint32_t c = 0; c <= l->nlist; c++)
        recall_lanes_each(l, b->scratch, c, -FLT_MAX, note_neighbour, b);
    for (size_t i = 0; i < b->count; i++)
        b->slot_of[b->rows[i]] = 0;
    qsort(b->lanes, b->lane_count, sizeof b->lanes[0], by_estimate);
}

static void prepare_query(bench *b, const measurement *m, size_t q)
{
    const lists *l = m->in->lists;
    coarse_scores *cells = &b->scratch->cells;
    lists_prepare(l, &b->scratch->codes, m->sample.queries + q * m->in->view->rows->width);
    coarse_rank(&l->coarse, &b->scratch->codes, cells, b->ranks);
    coarse_list(&l->coarse, &b->scratch->codes, l->nlist, cells);
    candidates_order(cells->order, l->nlist, cells->of);
}

static reach_query reaching(const bench *b, const measurement *m, size_t q)
{
    return (reach_query){
        .lists = m->in->lists, .rows = m->in->view->rows, .prepared = b->scratch, .own = m->sample.own[q]};
}

/* How many cells each reach means. */
static void count_reached(bench *b, measurement *m, size_t q)
{
    prepare_query(b, m, q);
    const reach_query query = reaching(b, m, q);
    for (size_t d = 0; d < CURVE_REACH_DEPTHS; d++) {
        effort e = recall_curve_reaching(m->curve, d, 0.0f, 0.0);
        recall_reach_look(&query, &e, b->order, b->places, &m->reach[q * CURVE_REACH_DEPTHS + d]);
    }
}

/* Before cells are gone through in another order. */
static void begin_order(bench *b, const lists *l)
{
    memset(b->above, 0, sizeof b->above);
    memset(b->stamps, 0, sizeof b->stamps);
    recall_lanes_each(l, b->scratch, (uint32_t)l->nlist, b->lanes[b->lane_count - 1].estimate, count_row, b);
}

/* Goes through cells of the order from one place to another. */
static void go_on(bench *b, const lists *l, size_t *probed, size_t to)
{
    for (; *probed < to; ++*probed)
        recall_lanes_each(l, b->scratch, b->order[*probed], b->lanes[b->lane_count - 1].estimate, count_row, b);
}

static void measure_probes(bench *b, const measurement *m)
{
    const lists *l = m->in->lists;
    size_t probed = 0;
    for (size_t i = 0; i < l->nlist; i++) {
        b->order[i] = b->scratch->cells.order[i];
        b->places[b->order[i]] = (uint32_t)i;
    }
    begin_order(b, l);
    for (size_t p = 0; p + 1 < m->curve->points; p++) {
        go_on(b, l, &probed, m->curve->at[p].nprobe);
        add_point(b, l, p, m->curve->at[p].nprobe);
    }
}

static void measure_reaches(bench *b, const measurement *m, size_t q, size_t d)
{
    const lists *l = m->in->lists;
    size_t probed = 0, ends[CURVE_REACHES + 1];
    const reach_query query = reaching(b, m, q);
    recall_reach_order(&query, &m->reach[q * CURVE_REACH_DEPTHS + d], b->order, b->places, ends);
    begin_order(b, l);
    for (size_t r = 0; r < CURVE_REACHES && m->curve->reach[r].cells[d] > 0; r++) {
        point_found found;
        effort e = recall_curve_reaching(m->curve, d, curve_cosine(r), (double)m->curve->reach[r].cells[d]);
        go_on(b, l, &probed, ends[r]);
        find_at_point(b, l, (uint16_t)(r + 1), ends[r], e.nprobe, &found);
        for (size_t f = 0; f < CURVE_FACTORS; f++)
            recall_tally_add(&b->sums.within[r][d][f], found.upto[d][f], neighbours_of(b, d));
    }
}

static void measure_query(bench *b, measurement *m, size_t q)
{
    take_neighbours(b, m, q);
    prepare_query(b, m, q);
    find_lanes(b, m->in->lists);
    b->sums.queries++;
    if (b->lane_count == 0)
        return;
    measure_probes(b, m);
    for (size_t d = 0; d < CURVE_REACH_DEPTHS; d++)
        measure_reaches(b, m, q, d);
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
    for (size_t r = 0; r < CURVE_REACHES; r++)
        for (size_t d = 0; d < CURVE_REACH_DEPTHS; d++) {
            for (size_t f = 0; f < CURVE_FACTORS; f++)
                recall_tally_merge(&to->within[r][d][f], &from->within[r][d][f]);
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
    b->nlist = m->in->lists->nlist;
    b->slot_of = calloc((size_t)m->in->seen + 1, sizeof *b->slot_of);
    b->ranks = calloc(m->in->lists->nlist, sizeof *b->ranks);
    b->order = calloc(m->in->lists->nlist, sizeof *b->order);
    b->places = calloc(m->in->lists->nlist + 1, sizeof *b->places);
    sem_status s = b->slot_of == NULL || b->ranks == NULL || b->order == NULL || b->places == NULL
                       ? sem_fail_memory(err, "the recall curve")
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
    free(b->order);
    free(b->places);
    free(b);
}

typedef void query_fn(bench *b, measurement *m, size_t q);

/* Calls f for a group's queries and adds up what they found; s: of what was done for them before. */
static void take_group(measurement *m, size_t group, query_fn *f, sem_status s, sem_error *error)
{
    size_t first = group * GROUP, count = m->sample.count - first < GROUP ? m->sample.count - first : GROUP;
    bench *b = NULL;
    if (s == SEM_OK)
        s = bench_create(&b, m, error);
    for (size_t q = 0; s == SEM_OK && q < count && !cancelled(m); q++)
        f(b, m, first + q);
    if (s == SEM_OK && cancelled(m))
        s = sem_fail(error, SEM_CANCELLED, "measuring recall was cancelled");
    pthread_mutex_lock(&m->lock);
    if (s == SEM_OK)
        merge(&m->sums, &b->sums);
    else if (m->status == SEM_OK) {
        m->status = s;
        m->error = *error;
    }
    pthread_mutex_unlock(&m->lock);
    bench_free(b);
}

static void look_group(void *context, size_t group)
{
    measurement *m = context;
    sem_error error;
    take_group(m, group, count_reached, SEM_OK, &error);
}

static void measure_group(void *context, size_t group)
{
    measurement *m = context;
    size_t first = group * GROUP, count = m->sample.count - first < GROUP ? m->sample.count - first : GROUP;
    const truth_input truth = {
        .of = m->in, .sample = &m->sample, .scales = m->scales, .hits = m->hits, .found = m->found};
    sem_error error;
    sem_status s = recall_truth_find(&truth, first, count, &error);
    take_group(m, group, measure_query, s, &error);
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
    for (size_t d = 0; d < CURVE_REACH_DEPTHS; d++)
        for (size_t r = 0; r < CURVE_REACHES && curve->reach[r].cells[d] > 0; r++)
            for (size_t f = 0; f < CURVE_FACTORS; f++)
                recall_tally_mean(&t->within[r][d][f], t->queries, &curve->reach[r].sure[d][f]);
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
        size_t groups = (m->sample.count + GROUP - 1) / GROUP;
        parallel_run(in->threads, groups, look_group, m);
        if (m->status == SEM_OK) {
            recall_reach_choose(curve, in->lists, m->reach, m->sample.count);
            parallel_run(in->threads, groups, measure_group, m);
        }
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
    free(m->reach);
    free(m);
    return s;
}
