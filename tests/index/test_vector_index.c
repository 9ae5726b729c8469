#include "index/dot.h"
#include "index/faiss_ivf.h"
#include "index/lists.h"
#include "index/rows.h"
#include "index/topk.h"
#include "index/training.h"
#include "index/vector_index.h"
#include "index/vector_search.h"
#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include <cblas.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

enum { N = 20000, DIM = 64, TOPICS = 200, QUERIES = 250, K = 10 };

static const float SPREAD = 0.9f;

static const vector_index_options usual = {.dim = DIM, .metric = METRIC_COSINE, .exact_below = 1000, .threads = 1};

typedef struct world {
    random_state random;
    float *centres; /* [TOPICS, DIM] */
    float *vectors; /* [N, DIM] by docno */
    bool *live;     /* [N] */
    vector_index *index;
} world;

static void put(world *w, uint32_t docno, const float *vector)
{
    sem_error error;
    memcpy(w->vectors + (size_t)docno * DIM, vector, DIM * sizeof *vector);
    w->live[docno] = true;
    ck_ok(vector_index_put(w->index, docno, vector, &error));
}

static void drop(world *w, uint32_t docno)
{
    w->live[docno] = false;
    vector_index_remove(w->index, docno);
}

static void random_vector(world *w, size_t topic, float *out)
{
    clustered_point(&w->random, w->centres + topic * DIM, DIM, SPREAD, out);
}

static void put_random(world *w, uint32_t docno, size_t first_topic, size_t topics)
{
    float vector[DIM];
    random_vector(w, first_topic + random_below(&w->random, topics), vector);
    put(w, docno, vector);
}

static world make_world(const vector_index_options *options, size_t n)
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

static void free_world(world *w)
{
    vector_index_destroy(w->index);
    free(w->centres);
    free(w->vectors);
    free(w->live);
}

static void train(world *w)
{
    sem_error error;
    for (int i = 0; i < 4 && vector_index_wants_training(w->index); i++)
        ck_ok(vector_index_train(w->index, NULL, NULL, &error));
    ck_assert(!vector_index_wants_training(w->index));
}

static const char *kind_of(world *w)
{
    vector_index_stats stats;
    vector_index_describe(w->index, &stats);
    return stats.kind;
}

/* Sixteen partial sums, so that the compiler may use vector instructions. */
static double similarity(const world *w, uint32_t docno, const float *query)
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

static bool matches(const world *w, const vector_query *q, uint32_t docno)
{
    if (!w->live[docno] || (q->has_exclude && docno == q->exclude))
        return false;
    return q->allowed == NULL ||
           (docno < q->allowed_bits && (q->allowed[docno / 64] >> docno % 64 & 1) != 0);
}

/* The best k matching documents, computed here; how many there are. */
static size_t brute_force(const world *w, const vector_query *q, vector_hit *best)
{
    topk t = topk_start(best, q->k, NULL, NULL);
    for (uint32_t d = 0; d < N; d++)
        if (matches(w, q, d))
            topk_push(&t, d, (float)similarity(w, d, q->vector));
    topk_finish(&t);
    return t.count;
}

enum { DEEP = 2000 };

/* Searches, checks what holds for every answer, and returns its recall. */
static double search(world *w, const vector_query *q, vector_plan *plan)
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
} measured;

/* Recall over fresh queries from some topics; the template says how. */
static measured measure(world *w, vector_query q, size_t first_topic, size_t topics, vector_plan *plan)
{
    float query[DIM];
    double sum = 0, squares = 0;
    q.vector = query;
    for (size_t i = 0; i < QUERIES; i++) {
        random_vector(w, first_topic + random_below(&w->random, topics), query);
        double recall = search(w, &q, plan);
        sum += recall;
        squares += recall * recall;
    }
    double mean = sum / QUERIES;
    return (measured){.mean = mean, .noise = 2 * sqrt(fmax(0.0, squares / QUERIES - mean * mean) / QUERIES)};
}

static double mean_recall(world *w, vector_query q, size_t first_topic, size_t topics, vector_plan *plan)
{
    return measure(w, q, first_topic, topics, plan).mean;
}

/* What was asked for less 0.01, and less what chance does to so few queries. */
static void expect_recall_of(world *w, vector_query q, size_t first_topic, size_t topics, const char *name)
{
    vector_plan plan = {0};
    measured m = measure(w, q, first_topic, topics, &plan);
    printf("%s: recall %.2f reached %.4f +- %.4f (last: %s, %zu of %zu cells, %zu rows)\n", name, q.recall, m.mean,
           m.noise, plan.kind, plan.probed, plan.lists, plan.scanned);
    ck_assert_msg(m.mean >= q.recall - 0.01 - m.noise, "%s: recall %g instead of %g", name, m.mean, q.recall);
}

/* --- exact */

START_TEST(exact_search_equals_brute_force)
{
    world w = make_world(&usual, 5000);
    vector_plan plan;
    for (size_t k = 1; k <= DEEP; k = k * 5 + 3)
        ck_assert_double_eq(mean_recall(&w, (vector_query){.k = k, .exact = true}, 0, TOPICS, &plan), 1.0);
    ck_assert_str_eq(plan.kind, "exact");
    ck_assert_uint_eq(plan.scanned, 5000);
    free_world(&w);
}
END_TEST

START_TEST(an_empty_index_and_k_0_answer_nothing)
{
    sem_error error;
    world w = make_world(&usual, 0);
    float query[DIM];
    vector_hit hits[K];
    size_t count = 9;
    random_vector(&w, 0, query);
    vector_query q = {.vector = query, .k = K, .recall = 0.95};
    ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
    ck_assert_uint_eq(count, 0);
    put_random(&w, 7, 0, TOPICS);
    q.k = 0;
    ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
    ck_assert_uint_eq(count, 0);
    vector_index_remove(w.index, 8);
    vector_index_remove(w.index, UINT32_MAX);
    ck_assert_uint_eq(vector_index_count(w.index), 1);
    free_world(&w);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    sem_error error;
    world w = make_world(&usual, 100);
    float query[DIM];
    vector_hit hits[K];
    size_t count;
    random_vector(&w, 0, query);
    vector_query q = {.vector = query, .k = K};
    const double bad[] = {0.0, -1.0, 1.5, NAN};
    for (size_t i = 0; i < 4; i++) {
        q.recall = bad[i];
        ck_fails(vector_index_search(w.index, &q, hits, &count, NULL, &error), SEM_INVALID_ARGUMENT);
    }
    query[3] = INFINITY;
    q.exact = true;
    ck_fails(vector_index_search(w.index, &q, hits, &count, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_fails(vector_index_put(w.index, 5, query, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "element 3"));
    ck_assert_uint_eq(vector_index_count(w.index), 100);
    vector_index *none;
    vector_index_options options = usual;
    options.dim = 0;
    ck_fails(vector_index_create(&none, &options, &error), SEM_INVALID_ARGUMENT);
    free_world(&w);
}
END_TEST

START_TEST(dot_metric_is_exact_at_any_size)
{
    vector_index_options options = usual;
    options.metric = METRIC_DOT;
    world w = make_world(&options, 5000);
    float vector[DIM];
    for (uint32_t d = 0; d < 5000; d += 3) {
        random_vector(&w, 1, vector);
        for (size_t i = 0; i < DIM; i++)
            vector[i] *= 1.0f + (float)(d % 7) / 4;
        put(&w, d, vector);
    }
    train(&w);
    vector_plan plan;
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .recall = 0.8}, 0, TOPICS, &plan), 1.0);
    ck_assert_str_eq(plan.kind, "exact");
    ck_assert_str_eq(kind_of(&w), "exact");
    free_world(&w);
}
END_TEST

START_TEST(huge_numbers_leave_the_order_defined)
{
    sem_error error;
    vector_index_options options = {.dim = 3, .metric = METRIC_DOT};
    vector_index *v;
    ck_ok(vector_index_create(&v, &options, &error));
    const float huge[3] = {3e38f, 3e38f, -3e38f}, small[3] = {1, 1, 1}, query[3] = {3e38f, -3e38f, 3e38f};
    ck_ok(vector_index_put(v, 1, huge, &error));
    ck_ok(vector_index_put(v, 2, small, &error));
    vector_hit hits[3];
    size_t count;
    vector_query q = {.vector = query, .k = 3, .exact = true};
    ck_ok(vector_index_search(v, &q, hits, &count, NULL, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(hits[0].docno, 2);
    vector_index_destroy(v);
}
END_TEST

/* --- lists */

static void expect_recall(world *w, vector_query q, size_t first_topic, size_t topics, const char *name)
{
    static const double targets[] = {0.80, 0.90, 0.95, 0.99};
    for (size_t i = 0; i < 4; i++) {
        q.recall = targets[i];
        expect_recall_of(w, q, first_topic, topics, name);
    }
}

START_TEST(recall_asked_for_is_reached)
{
    world w = make_world(&usual, N);
    ck_assert(vector_index_wants_training(w.index));
    train(&w);
    ck_assert_str_eq(kind_of(&w), "ivf");
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "k 10");
    expect_recall(&w, (vector_query){.k = 1}, 0, TOPICS, "k 1");
    expect_recall(&w, (vector_query){.k = 200}, 0, TOPICS, "k 200");
    vector_plan plan;
    mean_recall(&w, (vector_query){.k = K, .recall = 0.9}, 0, TOPICS, &plan);
    ck_assert_str_eq(plan.kind, "ivf");
    ck_assert_uint_lt(plan.scanned, N / 2);
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .recall = 1.0}, 0, TOPICS, &plan), 1.0);
    ck_assert_str_eq(plan.kind, "exact");
    free_world(&w);
}
END_TEST

START_TEST(the_curve_rises_to_1)
{
    world w = make_world(&usual, 10000);
    train(&w);
    vector_index_stats stats;
    vector_index_describe(w.index, &stats);
    ck_assert_uint_ge(stats.nlist, 100);
    ck_assert_int_gt(stats.trained_at_ms, 0);
    ck_assert_uint_ge(stats.curve_points, 6);
    for (size_t i = 1; i < stats.curve_points; i++) {
        ck_assert_uint_gt(stats.curve[i].nprobe, stats.curve[i - 1].nprobe);
        ck_assert_double_ge(stats.curve[i].recall, stats.curve[i - 1].recall);
    }
    ck_assert_uint_eq(stats.curve[stats.curve_points - 1].nprobe, stats.nlist);
    ck_assert_double_eq(stats.curve[stats.curve_points - 1].recall, 1.0);
    free_world(&w);
}
END_TEST

START_TEST(recall_holds_after_drift)
{
    world w = make_world(&usual, 0);
    for (uint32_t d = 0; d < N / 2; d++)
        put_random(&w, d, 0, TOPICS / 2);
    train(&w);
    for (uint32_t d = N / 2; d < N; d++)
        put_random(&w, d, TOPICS / 2, TOPICS / 2);
    expect_recall(&w, (vector_query){.k = K}, TOPICS / 2, TOPICS / 2, "new topics before training");
    train(&w);
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "all topics");
    expect_recall(&w, (vector_query){.k = K}, TOPICS / 2, TOPICS / 2, "new topics");
    free_world(&w);
}
END_TEST

START_TEST(recall_holds_after_heavy_deletes)
{
    world w = make_world(&usual, N);
    train(&w);
    for (uint32_t d = 0; d < N; d++)
        if (d % 4 != 0)
            drop(&w, d);
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "deleted");
    ck_assert(vector_index_wants_training(w.index));
    train(&w);
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "compacted");
    free_world(&w);
}
END_TEST

START_TEST(our_lists_find_what_those_of_faiss_find)
{
    sem_error error;
    enum { ROWS = 8000 };
    random_state random;
    random_seed(&random, testing_seed());
    float *x = clustered_points(&random, ROWS + QUERIES, DIM, TOPICS, SPREAD);
    static uint32_t docnos[ROWS];
    rows *r;
    lists *l;
    faiss_ivf *reference;
    ck_ok(rows_create(&r, DIM, &error));
    for (uint32_t i = 0; i < ROWS; i++) {
        docnos[i] = i * 3 + 1;
        ck_ok(rows_put(r, docnos[i], x + (size_t)i * DIM, &error));
    }
    training t = {.options = &usual, .kernel = dot_choose(), .rows = r};
    ck_ok(training_make_lists(&t, TRAINING_CLUSTER, &l, &error));
    ck_ok(faiss_ivf_create(&reference, DIM, l->centroids, l->nlist, &error));
    ck_ok(faiss_ivf_add(reference, docnos, x, ROWS, &error));
    for (size_t nprobe = 1; nprobe < l->nlist; nprobe *= 3)
        for (size_t i = 0; i < QUERIES; i++) {
            vector_hit ours[K], theirs[K];
            size_t count, expected;
            vector_plan plan;
            vector_query q = {.vector = x + (ROWS + i) * DIM, .k = K, .nprobe = nprobe};
            ck_ok(vector_search(r, l, &usual, t.kernel, &q, ours, &count, &plan, &error));
            ck_ok(faiss_ivf_search(reference, q.vector, K, nprobe, theirs, &expected, &error));
            ck_assert_str_eq(plan.kind, "ivf");
            if (plan.probed > nprobe)
                continue; /* ours went on because there were fewer than k */
            ck_assert_uint_eq(count, expected);
            for (size_t h = 0; h < count; h++) {
                ck_assert_float_eq_tol(ours[h].score, theirs[h].score, 1e-5f);
                ck_assert(ours[h].docno == theirs[h].docno || (h + 1 < count && ours[h].score - ours[h + 1].score < 1e-6f) ||
                          (h > 0 && ours[h - 1].score - ours[h].score < 1e-6f));
            }
        }
    faiss_ivf_destroy(reference);
    lists_free(l);
    rows_release(r);
    free(x);
}
END_TEST

/* --- writing */

START_TEST(puts_and_removes_are_seen_at_once_with_and_without_lists)
{
    world w = make_world(&usual, 6000);
    for (int round = 0; round < 2; round++) {
        vector_query q = {.k = K, .nprobe = 4};
        float query[DIM];
        q.vector = query;
        for (uint32_t i = 0; i < 300; i++) {
            uint32_t docno = (uint32_t)random_below(&w.random, 6000);
            random_vector(&w, random_below(&w.random, TOPICS), query);
            put(&w, docno, query);
            vector_hit hit;
            size_t count;
            sem_error error;
            q.k = 1;
            ck_ok(vector_index_search(w.index, &q, &hit, &count, NULL, &error));
            ck_assert_uint_eq(hit.docno, docno);
            drop(&w, docno);
            q.k = K;
            search(&w, &q, NULL);
            put_random(&w, docno, 0, TOPICS);
        }
        train(&w);
        ck_assert_str_eq(kind_of(&w), "ivf");
    }
    ck_assert_uint_eq(vector_index_count(w.index), 6000);
    free_world(&w);
}
END_TEST

START_TEST(compaction_keeps_every_document_and_its_last_vector)
{
    world w = make_world(&usual, 8000);
    train(&w);
    for (int round = 0; round < 3; round++) {
        for (uint32_t d = 0; d < 8000; d++) {
            if (d % 3 == (uint32_t)round)
                put_random(&w, d, 0, TOPICS);
            if (d % 10 == (uint32_t)round)
                drop(&w, d);
        }
        train(&w);
        ck_assert_double_eq(mean_recall(&w, (vector_query){.k = 50, .exact = true}, 0, TOPICS, NULL), 1.0);
        expect_recall_of(&w, (vector_query){.k = K, .recall = 0.95}, 0, TOPICS, "compacted");
    }
    vector_plan plan;
    mean_recall(&w, (vector_query){.k = 1, .exact = true}, 0, TOPICS, &plan);
    ck_assert_uint_lt(plan.scanned, 10000);
    free_world(&w);
}
END_TEST

START_TEST(a_small_index_is_compacted_too)
{
    world w = make_world(&usual, 500);
    for (int round = 0; round < 20; round++)
        for (uint32_t d = 0; d < 500; d++)
            put_random(&w, d, 0, TOPICS);
    ck_assert(vector_index_wants_training(w.index));
    train(&w);
    vector_plan plan;
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .exact = true}, 0, TOPICS, &plan), 1.0);
    ck_assert_uint_eq(plan.scanned, 500);
    free_world(&w);
}
END_TEST

START_TEST(cancel_leaves_the_index_as_it_was)
{
    sem_error error;
    world w = make_world(&usual, 5000);
    atomic_bool cancel = true;
    ck_fails(vector_index_train(w.index, &cancel, NULL, &error), SEM_CANCELLED);
    ck_assert_str_eq(kind_of(&w), "exact");
    train(&w);
    for (uint32_t d = 0; d < 4000; d++)
        drop(&w, d);
    ck_fails(vector_index_train(w.index, &cancel, NULL, &error), SEM_CANCELLED);
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .exact = true}, 0, TOPICS, NULL), 1.0);
    free_world(&w);
}
END_TEST

/* --- ties */

static int larger_first(void *context, uint32_t a, uint32_t b)
{
    ++*(size_t *)context;
    return a > b ? -1 : a < b;
}

START_TEST(ties_are_ordered_by_id_also_at_the_border)
{
    sem_error error;
    world w = make_world(&usual, 6000);
    float same[DIM];
    random_vector(&w, 3, same);
    for (uint32_t d = 0; d < 3000; d++)
        put(&w, d * 2, same);
    for (int round = 0; round < 3; round++) {
        vector_hit hits[K];
        size_t count, calls = 0;
        vector_query q = {.vector = same, .k = K, .recall = 0.9, .exact = round == 2};
        ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
        for (uint32_t i = 0; i < K; i++) {
            ck_assert_uint_eq(hits[i].docno, 2 * i);
            ck_assert_float_eq(hits[i].score, hits[0].score);
        }
        q.tie = larger_first;
        q.tie_context = &calls;
        ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
        for (uint32_t i = 0; i < K; i++)
            ck_assert_uint_eq(hits[i].docno, 5998 - 2 * i);
        ck_assert_uint_lt(calls, 60000);
        train(&w);
        put(&w, 0, same); /* one of them in the tail */
    }
    free_world(&w);
}
END_TEST

START_TEST(an_index_of_equal_vectors_trains_and_answers)
{
    sem_error error;
    world w = make_world(&usual, 0);
    float same[DIM];
    random_vector(&w, 0, same);
    for (uint32_t d = 0; d < 3000; d++)
        put(&w, d, same);
    train(&w);
    vector_hit hits[K];
    size_t count;
    vector_query q = {.vector = same, .k = K, .recall = 0.8};
    ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
    ck_assert_uint_eq(count, K);
    for (uint32_t i = 0; i < K; i++)
        ck_assert_uint_eq(hits[i].docno, i);
    free_world(&w);
}
END_TEST

START_TEST(a_document_can_be_left_out)
{
    world w = make_world(&usual, 5000);
    train(&w);
    for (uint32_t d = 0; d < 50; d++) {
        vector_query q = {.vector = w.vectors + d * 100 * DIM, .k = K, .recall = 0.95, .has_exclude = true,
                          .exclude = d * 100};
        search(&w, &q, NULL);
        q.exact = true;
        ck_assert_double_eq(search(&w, &q, NULL), 1.0);
    }
    free_world(&w);
}
END_TEST

/* --- filters */

static void allow(uint64_t *bits, uint32_t docno)
{
    bits[docno / 64] |= UINT64_C(1) << docno % 64;
}

START_TEST(filter_never_lowers_recall)
{
    world w = make_world(&usual, N);
    train(&w);
    static const double shares[] = {1.0, 0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001, 0.0};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t bits[N / 64 + 1] = {0};
        for (uint32_t d = 0; d < N; d++)
            if (random_unit(&w.random) < shares[i])
                allow(bits, d);
        char name[32];
        snprintf(name, sizeof name, "filter %g", shares[i]);
        vector_query q = {.k = K, .recall = 0.95, .allowed = bits, .allowed_bits = N};
        expect_recall_of(&w, q, 0, TOPICS, name);
    }
    free_world(&w);
}
END_TEST

/* The filter leaves one half of the topics, and the queries come from the other. */
START_TEST(filter_far_from_the_query_never_lowers_recall)
{
    world w = make_world(&usual, 0);
    uint64_t bits[N / 64 + 1] = {0}, mixed[N / 64 + 1] = {0};
    for (uint32_t d = 0; d < N; d++) {
        put_random(&w, d, d % 2 == 0 ? 0 : TOPICS / 2, TOPICS / 2);
        if (d % 2 == 0)
            allow(bits, d);
        if (d % 2 == 0 || d % 20 == 1)
            allow(mixed, d);
    }
    train(&w);
    vector_query q = {.k = K, .recall = 0.95, .allowed = bits, .allowed_bits = N};
    expect_recall_of(&w, q, TOPICS / 2, TOPICS / 2, "far");
    expect_recall_of(&w, q, 0, TOPICS / 2, "near");
    q.allowed = mixed;
    expect_recall_of(&w, q, TOPICS / 2, TOPICS / 2, "one in ten near");
    free_world(&w);
}
END_TEST

START_TEST(bits_behind_the_bitmap_are_not_allowed)
{
    world w = make_world(&usual, 2000);
    uint64_t bits[N / 64 + 1];
    memset(bits, 0xff, sizeof bits);
    static const size_t lengths[] = {0, 1, 63, 64, 65, 1999, 2000, N};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        vector_query q = {.vector = w.centres, .k = 100, .recall = 0.95, .allowed = bits,
                          .allowed_bits = lengths[i], .exact = i % 2 == 0};
        search(&w, &q, NULL);
    }
    free_world(&w);
}
END_TEST

START_TEST(there_are_always_k_hits_where_k_documents_match)
{
    world w = make_world(&usual, N);
    train(&w);
    uint64_t bits[N / 64 + 1] = {0};
    for (uint32_t d = 0; d < N; d += 2)
        allow(bits, d);
    /* search() compares the count. */
    for (size_t k = 1; k <= DEEP; k = k * 4 + 1) {
        vector_query q = {.vector = w.centres, .k = k, .nprobe = 1};
        search(&w, &q, NULL);
        q.allowed = bits;
        q.allowed_bits = N;
        search(&w, &q, NULL);
        q.nprobe = SIZE_MAX;
        search(&w, &q, NULL);
        q.nprobe = 0;
        q.recall = 0.8;
        search(&w, &q, NULL);
    }
    free_world(&w);
}
END_TEST

/* --- everything at once */

enum { CROWD = 4000, OPERATIONS = 40000, SEARCHERS = 2 };

/* A document's vector never changes here, so where it is known to have been
 * there all the time it must be found with it. since is the number of the
 * operation that made the document as it is, 0 while one is under way. */
typedef struct crowd {
    world w;
    _Atomic uint64_t since[CROWD];
    _Atomic bool exists[CROWD];
    atomic_bool finished;
    atomic_size_t searches, trainings, wrong_ghosts, wrong_missing, failed;
} crowd;

typedef struct sight {
    uint64_t since;
    bool exists;
} sight;

static sight look(crowd *c, uint32_t docno)
{
    sight s;
    s.since = atomic_load(&c->since[docno]);
    s.exists = atomic_load(&c->exists[docno]);
    return s;
}

static void search_once(crowd *c, random_state *random, sight *before, const uint64_t *all)
{
    sem_error error;
    vector_hit hits[K];
    size_t count;
    uint32_t wanted = (uint32_t)random_below(random, CROWD);
    vector_query q = {.vector = c->w.vectors + (size_t)wanted * DIM, .k = K};
    uint64_t way = random_below(random, 4);
    q.exact = way == 0;
    q.nprobe = way == 1 ? 1 : 0;
    q.recall = 0.9;
    if (way == 3) {
        q.allowed = all;
        q.allowed_bits = CROWD;
    }
    for (uint32_t d = 0; d < CROWD; d++)
        before[d] = look(c, d);
    if (vector_index_search(c->w.index, &q, hits, &count, NULL, &error) != SEM_OK) {
        atomic_fetch_add(&c->failed, 1);
        return;
    }
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        found |= hits[i].docno == wanted;
        sight b = before[hits[i].docno], now = look(c, hits[i].docno);
        if (b.since != 0 && b.since == now.since && !b.exists)
            atomic_fetch_add(&c->wrong_ghosts, 1);
    }
    sight b = before[wanted], now = look(c, wanted);
    if (!found && b.since != 0 && b.since == now.since && b.exists)
        atomic_fetch_add(&c->wrong_missing, 1);
    atomic_fetch_add(&c->searches, 1);
}

static void *searcher(void *context)
{
    crowd *c = context;
    random_state random;
    random_seed(&random, testing_seed() + (uint64_t)(size_t)&random);
    sight *before = malloc(CROWD * sizeof *before);
    uint64_t all[CROWD / 64 + 1];
    memset(all, 0xff, sizeof all);
    while (before != NULL && !atomic_load(&c->finished))
        search_once(c, &random, before, all);
    free(before);
    return NULL;
}

static void *trainer(void *context)
{
    crowd *c = context;
    sem_error error;
    while (!atomic_load(&c->finished)) {
        if (!vector_index_wants_training(c->w.index)) {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
            continue;
        }
        if (vector_index_train(c->w.index, &c->finished, NULL, &error) == SEM_OK)
            atomic_fetch_add(&c->trainings, 1);
        else if (error.code != SEM_CANCELLED)
            atomic_fetch_add(&c->failed, 1);
    }
    return NULL;
}

static void write_once(crowd *c, uint64_t operation)
{
    sem_error error;
    uint32_t docno = (uint32_t)random_below(&c->w.random, CROWD);
    bool removes = c->exists[docno] && random_below(&c->w.random, 3) == 0;
    atomic_store(&c->since[docno], 0);
    if (removes)
        vector_index_remove(c->w.index, docno);
    else
        ck_ok(vector_index_put(c->w.index, docno, c->w.vectors + (size_t)docno * DIM, &error));
    atomic_store(&c->exists[docno], !removes);
    atomic_store(&c->since[docno], operation);
}

START_TEST(writing_searching_and_training_go_on_at_once)
{
    vector_index_options options = usual;
    options.exact_below = 500;
    crowd *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    c->w = make_world(&options, 0);
    for (uint32_t d = 0; d < CROWD; d++) {
        random_vector(&c->w, d % TOPICS, c->w.vectors + (size_t)d * DIM);
        c->since[d] = 1;
    }
    pthread_t threads[SEARCHERS + 1];
    for (int i = 0; i < SEARCHERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, searcher, c), 0);
    ck_assert_int_eq(pthread_create(&threads[SEARCHERS], NULL, trainer, c), 0);
    /* Enough of everything, however slow the machine or the sanitizer. */
    for (uint64_t i = 2; i < OPERATIONS || c->trainings < 3 || c->searches < 200; i++) {
        write_once(c, i);
        if (i >= OPERATIONS)
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    atomic_store(&c->finished, true);
    for (int i = 0; i <= SEARCHERS; i++)
        pthread_join(threads[i], NULL);

    printf("%zu searches, %zu trainings\n", c->searches, c->trainings);
    ck_assert_uint_eq(c->failed, 0);
    ck_assert_uint_eq(c->wrong_ghosts, 0);
    ck_assert_uint_eq(c->wrong_missing, 0);
    size_t live = 0;
    for (uint32_t d = 0; d < CROWD; d++) {
        c->w.live[d] = c->exists[d];
        live += c->exists[d];
    }
    ck_assert_uint_eq(vector_index_count(c->w.index), live);
    train(&c->w);
    ck_assert_double_eq(mean_recall(&c->w, (vector_query){.k = 100, .exact = true}, 0, TOPICS, NULL), 1.0);
    free_world(&c->w);
    free(c);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("vector_index");
    TCase *tc = tcase_create("vector_index");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, exact_search_equals_brute_force);
    tcase_add_test(tc, an_empty_index_and_k_0_answer_nothing);
    tcase_add_test(tc, what_makes_no_sense_is_refused);
    tcase_add_test(tc, dot_metric_is_exact_at_any_size);
    tcase_add_test(tc, huge_numbers_leave_the_order_defined);
    tcase_add_test(tc, recall_asked_for_is_reached);
    tcase_add_test(tc, the_curve_rises_to_1);
    tcase_add_test(tc, recall_holds_after_drift);
    tcase_add_test(tc, recall_holds_after_heavy_deletes);
    tcase_add_test(tc, our_lists_find_what_those_of_faiss_find);
    tcase_add_test(tc, puts_and_removes_are_seen_at_once_with_and_without_lists);
    tcase_add_test(tc, compaction_keeps_every_document_and_its_last_vector);
    tcase_add_test(tc, a_small_index_is_compacted_too);
    tcase_add_test(tc, cancel_leaves_the_index_as_it_was);
    tcase_add_test(tc, ties_are_ordered_by_id_also_at_the_border);
    tcase_add_test(tc, an_index_of_equal_vectors_trains_and_answers);
    tcase_add_test(tc, a_document_can_be_left_out);
    tcase_add_test(tc, filter_never_lowers_recall);
    tcase_add_test(tc, filter_far_from_the_query_never_lowers_recall);
    tcase_add_test(tc, bits_behind_the_bitmap_are_not_allowed);
    tcase_add_test(tc, there_are_always_k_hits_where_k_documents_match);
    tcase_add_test(tc, writing_searching_and_training_go_on_at_once);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
