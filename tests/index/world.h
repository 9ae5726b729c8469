/* An index under test beside a plain copy of what it holds, and what must be
 * true of every answer. */
#ifndef SEM_TESTS_INDEX_WORLD_H
#define SEM_TESTS_INDEX_WORLD_H

#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "index/topk.h"
#include "index/vector_index.h"

#include <stdio.h>

#ifndef WORLD_SIZE /* a test may say before it includes this */
#define WORLD_SIZE 20000
#define WORLD_DIM  64
#endif

enum { N = WORLD_SIZE, DIM = WORLD_DIM, TOPICS = 200, QUERIES = 250, K = 10 };

static const float SPREAD = 0.9f;

static const vector_index_options usual = {.dim = DIM, .metric = METRIC_COSINE, .exact_below = 1000, .threads = 1};

typedef struct world {
    random_state random;
    float *centres; /* [TOPICS, DIM] */
    float *vectors; /* [N, DIM] by docno */
    bool *live;     /* [N] */
    vector_index *index;
} world;

static inline void put(world *w, uint32_t docno, const float *vector)
{
    sem_error error;
    memcpy(w->vectors + (size_t)docno * DIM, vector, DIM * sizeof *vector);
    w->live[docno] = true;
    ck_ok(vector_index_put(w->index, docno, vector, &error));
}

static inline void drop(world *w, uint32_t docno)
{
    w->live[docno] = false;
    vector_index_remove(w->index, docno);
}

static inline void random_vector(world *w, size_t topic, float *out)
{
    clustered_point(&w->random, w->centres + topic * DIM, DIM, SPREAD, out);
}

static inline void put_random(world *w, uint32_t docno, size_t first_topic, size_t topics)
{
    float vector[DIM];
    random_vector(w, first_topic + random_below(&w->random, topics), vector);
    put(w, docno, vector);
}

/* For metric dot. */
static inline void put_of_length(world *w, uint32_t docno, size_t topic, float length)
{
    float vector[DIM];
    random_vector(w, topic, vector);
    for (size_t i = 0; i < DIM; i++)
        vector[i] *= length;
    put(w, docno, vector);
}

static inline world make_world(const vector_index_options *options, size_t n)
{
    sem_error error;
    world w = {0};
    random_seed(&w.random, testing_seed());
    w.centres = clustered_centres(&w.random, TOPICS, DIM);
    w.vectors = calloc(N, DIM * sizeof *w.vectors);
    w.live = calloc(N, sizeof *w.live);
    ck_assert(w.centres != NULL && w.vectors != NULL && w.live != NULL);
    ck_ok(vector_index_create(&w.index, options, &error));
    for (uint32_t i = 0; i < n; i++)
        put_random(&w, i, 0, TOPICS);
    return w;
}

/* Of metric dot, with lengths from 1 to 2.5. */
static inline world make_dot_world(vector_index_options *options, size_t n)
{
    *options = usual;
    options->metric = METRIC_DOT;
    world w = make_world(options, 0);
    for (uint32_t d = 0; d < n; d++)
        put_of_length(&w, d, random_below(&w.random, TOPICS), 1.0f + (float)(d % 7) / 4);
    return w;
}

static inline void free_world(world *w)
{
    vector_index_destroy(w->index);
    free(w->centres);
    free(w->vectors);
    free(w->live);
}

static inline void train_with(world *w, const vector_training *how)
{
    sem_error error;
    for (int i = 0; i < 4 && vector_index_wants_training(w->index); i++)
        ck_ok(vector_index_train(w->index, how, &error));
    ck_assert(!vector_index_wants_training(w->index));
}

static inline void train(world *w)
{
    train_with(w, NULL);
}

static inline const char *kind_of(world *w)
{
    vector_index_stats stats;
    vector_index_describe(w->index, &stats);
    return stats.kind;
}

/* Sixteen partial sums, so that the compiler may use vector instructions. */
static inline double similarity(const world *w, uint32_t docno, const float *query)
{
    const float *x = w->vectors + (size_t)docno * DIM;
    float sums[16] = {0};
    for (size_t i = 0; i < DIM; i += 16)
        for (size_t j = 0; j < 16; j++)
            sums[j] += x[i + j] * query[i + j];
    double sum = 0;
    for (size_t j = 0; j < 16; j++)
        sum += (double)sums[j];
    return sum;
}

static inline bool matches(const world *w, const vector_query *q, uint32_t docno)
{
    if (!w->live[docno] || (q->has_exclude && docno == q->exclude))
        return false;
    return q->allowed == NULL || (docno < q->allowed_bits && (q->allowed[docno / 64] >> docno % 64 & 1) != 0);
}

/* The best k matching documents, computed here; how many there are. */
static inline size_t brute_force(const world *w, const vector_query *q, vector_hit *best)
{
    topk t = topk_start(best, q->k, NULL, NULL);
    for (uint32_t d = 0; d < N; d++)
        if (matches(w, q, d))
            topk_push(&t, d, d, (float)similarity(w, d, q->vector));
    topk_finish(&t);
    return t.count;
}

enum { DEEP = 2000 };

/* Searches, checks what holds for every answer, and returns its recall. */
static inline double expect_right_hits(world *w, const vector_query *q, vector_plan *plan)
{
    static vector_hit hits[DEEP];
    static vector_hit best[DEEP];
    sem_error error;
    size_t count = 0, found = 0;
    ck_assert_uint_le(q->k, DEEP);
    ck_ok(vector_index_search(w->index, q, hits, &count, plan, &error));
    size_t expected = brute_force(w, q, best);
    ck_assert_uint_eq(count, expected);
    static bool seen[N];
    for (size_t i = 0; i < count; i++) {
        ck_assert(matches(w, q, hits[i].docno));
        ck_assert(!seen[hits[i].docno]);
        seen[hits[i].docno] = true;
        ck_assert_double_eq_tol(similarity(w, hits[i].docno, q->vector), (double)hits[i].score, 2e-5);
        ck_assert(i == 0 || hits[i - 1].score >= hits[i].score);
        found += hits[i].score >= best[expected - 1].score - 1e-6f;
    }
    for (size_t i = 0; i < count; i++)
        seen[hits[i].docno] = false;
    return expected == 0 ? 1.0 : (double)found / (double)expected;
}

typedef struct measured {
    double mean;
    double noise; /* two standard errors of the mean */
    double rows;  /* that a query was compared with, on average; all three sums until measured_end */
} measured;

static inline void measured_add(measured *m, world *w, const vector_query *q, vector_plan *plan)
{
    double recall = expect_right_hits(w, q, plan);
    m->mean += recall;
    m->noise += recall * recall;
    m->rows += (double)plan->scanned;
}

static inline measured measured_end(measured m)
{
    double mean = m.mean / QUERIES, squares = m.noise / QUERIES;
    return (measured){
        .mean = mean, .noise = 2 * sqrt(fmax(0.0, squares - mean * mean) / QUERIES), .rows = m.rows / QUERIES};
}

/* Recall over fresh queries from some topics; the template says how. plan: the last one's, or NULL. */
static inline measured measure(world *w, vector_query q, size_t first_topic, size_t topics, vector_plan *plan)
{
    float query[DIM];
    vector_plan own;
    measured m = {0};
    q.vector = query;
    for (size_t i = 0; i < QUERIES; i++) {
        random_vector(w, first_topic + random_below(&w->random, topics), query);
        measured_add(&m, w, &q, plan != NULL ? plan : &own);
    }
    return measured_end(m);
}

static inline double mean_recall(world *w, vector_query q, size_t first_topic, size_t topics, vector_plan *plan)
{
    return measure(w, q, first_topic, topics, plan).mean;
}

/* What was asked for less 0.01, and less what chance does to so few queries. */
static inline void expect_recall_of(world *w, vector_query q, size_t first_topic, size_t topics, const char *name)
{
    vector_plan plan = {0};
    measured m = measure(w, q, first_topic, topics, &plan);
    printf("%s: recall %.2f reached %.4f +- %.4f (last: %s, %zu of %zu cells, %zu rows)\n", name, q.recall, m.mean,
           m.noise, plan.kind, plan.probed, plan.lists, plan.scanned);
    ck_assert_msg(m.mean >= q.recall - 0.01 - m.noise, "%s: recall %g instead of %g", name, m.mean, q.recall);
}

/* The recalls that are promised. */
static inline void expect_recall(world *w, vector_query q, size_t first_topic, size_t topics, const char *name)
{
    static const double targets[] = {0.80, 0.90, 0.95, 0.99};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        q.recall = targets[i];
        expect_recall_of(w, q, first_topic, topics, name);
    }
}

/* Half of the topics come after the training. */
static inline void expect_recall_after_drift(world *w)
{
    for (uint32_t d = 0; d < N / 2; d++)
        put_random(w, d, 0, TOPICS / 2);
    train(w);
    for (uint32_t d = N / 2; d < N; d++)
        put_random(w, d, TOPICS / 2, TOPICS / 2);
    expect_recall(w, (vector_query){.k = K}, TOPICS / 2, TOPICS / 2, "new topics before training");
    train(w);
    expect_recall(w, (vector_query){.k = K}, 0, TOPICS, "all topics");
    expect_recall(w, (vector_query){.k = K}, TOPICS / 2, TOPICS / 2, "new topics");
}

/* Of N documents a quarter is left. */
static inline void expect_recall_after_deletes(world *w)
{
    for (uint32_t d = 0; d < N; d++)
        if (d % 4 != 0)
            drop(w, d);
    expect_recall(w, (vector_query){.k = K}, 0, TOPICS, "deleted");
    ck_assert(vector_index_wants_training(w->index));
    train(w);
    expect_recall(w, (vector_query){.k = K}, 0, TOPICS, "compacted");
}

/* Of a world of 6000: each put is the next search's hit, and no removed one is. Trains. */
static inline void expect_puts_and_removes_at_once(world *w)
{
    float query[DIM];
    vector_query q = {.vector = query, .nprobe = 4};
    for (uint32_t i = 0; i < 300; i++) {
        uint32_t docno = (uint32_t)random_below(&w->random, 6000);
        random_vector(w, random_below(&w->random, TOPICS), query);
        put(w, docno, query);
        vector_hit hit;
        size_t count;
        sem_error error;
        q.k = 1;
        ck_ok(vector_index_search(w->index, &q, &hit, &count, NULL, &error));
        ck_assert_uint_eq(hit.docno, docno);
        drop(w, docno);
        q.k = K;
        expect_right_hits(w, &q, NULL);
        put_random(w, docno, 0, TOPICS);
    }
    train(w);
    ck_assert_uint_eq(vector_index_count(w->index), 6000);
}

#endif
