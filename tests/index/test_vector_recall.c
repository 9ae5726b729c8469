#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "index/dot.h"
#include "index/faiss_ivf.h"
#include "index/lists.h"
#include "index/recall_curve.h"
#include "index/rows.h"
#include "index/training.h"
#include "index/vector_search.h"

#include <cblas.h>

/* --- lists */

START_TEST(recall_holds_for_unseen_queries)
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
    ck_assert_str_eq(plan.reason, "lists for the recall asked");
    ck_assert_uint_ge(plan.by_codes, plan.by_floats);
    ck_assert_uint_ge(plan.by_floats, K);
    ck_assert_uint_eq(plan.candidates, plan.by_codes);
    ck_assert_uint_eq(plan.scanned, plan.by_bits);
    ck_assert_uint_eq(plan.allowed, plan.documents);
    ck_assert_uint_lt(plan.scanned, plan.documents);
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

/* A point of a topic that is tight, or of one that is all over the place. */
static bool loose_or_tight(world *w, float *out)
{
    size_t topic = random_below(&w->random, TOPICS);
    bool loose = topic % 2 == 1;
    clustered_point(&w->random, w->centres + topic * DIM, DIM, loose ? 2.0f : 0.6f, out);
    return loose;
}

/* What is probed depends on the query where a recall is asked for, and not where nprobe is. */
START_TEST(hard_queries_reach_farther_than_easy_ones)
{
    setenv("SEMD_TEST_SEED", "1", 1); /* the recall promised has tests of its own, with any seed */
    world w = make_world(&usual, 0);
    float vector[DIM];
    for (uint32_t d = 0; d < N; d++) {
        loose_or_tight(&w, vector);
        put(&w, d, vector);
    }
    train(&w);
    size_t probed[2] = {0}, asked[2] = {0};
    measured m = {0};
    for (size_t i = 0; i < QUERIES; i++) {
        vector_plan plan;
        bool loose = loose_or_tight(&w, vector);
        measured_add(&m, &w, &(vector_query){.vector = vector, .k = K, .recall = 0.95}, &plan);
        ck_assert_str_eq(plan.kind, "ivf");
        probed[loose] += plan.probed;
        asked[loose]++;
        expect_right_hits(&w, &(vector_query){.vector = vector, .k = K, .nprobe = 20}, &plan);
        ck_assert_uint_eq(plan.probed, 20);
    }
    m = measured_end(m);
    double hard = (double)probed[1] / (double)asked[1], easy = (double)probed[0] / (double)asked[0];
    printf("recall %.4f +- %.4f, %.0f cells for hard queries, %.0f for easy ones\n", m.mean, m.noise, hard, easy);
    ck_assert_double_ge(m.mean, 0.95 - 0.01 - m.noise);
    ck_assert_double_gt(hard, 2 * easy);
    free_world(&w);
}
END_TEST

START_TEST(recall_holds_after_drift)
{
    world w = make_world(&usual, 0);
    expect_recall_after_drift(&w);
    free_world(&w);
}
END_TEST

/* Near no topic. */
static void random_direction(world *w, float out[DIM])
{
    for (size_t i = 0; i < DIM; i++)
        out[i] = clustered_gauss(&w->random);
    clustered_normalise(out, DIM);
}

/* Those of the best K documents from `first` on that a search with this recall misses. */
static size_t newest_missed(world *w, uint32_t first, const float *query, double recall)
{
    vector_hit hits[K], best[K];
    sem_error error;
    size_t count, missed = 0;
    const vector_query q = {.vector = query, .k = K, .recall = recall};
    ck_ok(vector_index_search(w->index, &q, hits, &count, NULL, &error));
    ck_assert_uint_eq(brute_force(w, &q, best), K);
    ck_assert_uint_eq(count, K);
    for (size_t b = 0; b < K; b++) {
        bool found = best[b].docno < first;
        for (size_t h = 0; h < K; h++)
            found = found || hits[h].docno == best[b].docno;
        missed += !found;
    }
    return missed;
}

static void expect_newest_found(const vector_index_options *options)
{
    enum { DOCUMENTS = 3000, NEW = 1000, FIRST = DOCUMENTS - NEW };
    world w = make_world(options, DOCUMENTS);
    float query[DIM];
    train(&w);
    for (uint32_t d = FIRST; d < DOCUMENTS; d++) { /* as many as there were, but none where one was */
        drop(&w, d);
        random_direction(&w, query);
        put(&w, d, query);
    }
    ck_assert(vector_index_wants_training(w.index));
    for (int i = 0; i < QUERIES; i++) {
        random_direction(&w, query);
        ck_assert_uint_eq(newest_missed(&w, FIRST, query, 0.8), 0);
    }
    train(&w);
    expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "renewed");
    free_world(&w);
}

START_TEST(documents_that_the_curve_does_not_know_are_found_for_certain)
{
    vector_index_options options = usual;
    expect_newest_found(&options);
    options.engine = VECTOR_ENGINE_FAISS;
    expect_newest_found(&options);
}
END_TEST

/* Few of many hardly count, many take too long, and after a compaction more have come than are left. */
START_TEST(rows_that_came_are_left_to_comparing_where_they_count)
{
    ck_assert_uint_eq(recall_curve_covers(1000, 51, 1000), 949);
    ck_assert_uint_eq(recall_curve_covers(1000, 50, 1000), 1000);
    ck_assert_uint_eq(recall_curve_covers(9000, 1024, 9000), 7976);
    ck_assert_uint_eq(recall_curve_covers(9000, 1025, 9000), 9000);
    ck_assert_uint_eq(recall_curve_covers(500, 600, 450), 0);
}
END_TEST

START_TEST(recall_holds_after_heavy_deletes)
{
    world w = make_world(&usual, N);
    train(&w);
    expect_recall_after_deletes(&w);
    free_world(&w);
}
END_TEST

enum { ROWS = 8000 };

/* Rows in lists of ours and in FAISS's, in the same cells. */
typedef struct both {
    float *x; /* [ROWS + QUERIES, DIM] rows, then queries */
    rows *r;
    rows_view view;
    lists *ours;
    faiss_ivf *theirs;
    search_scratch *scratch;
    const dot_kernel *kernel;
} both;

static faiss_ivf *same_cells_of_faiss(const lists *l, const float *x, const uint32_t *docnos)
{
    sem_error error;
    faiss_ivf *out;
    float *centroids = calloc(l->nlist, DIM * sizeof *centroids);
    ck_assert_ptr_nonnull(centroids);
    for (size_t c = 0; c < l->nlist; c++)
        lists_get_centroid(l, c, centroids + c * DIM);
    faiss_ivf_options same = {.dim = DIM, .type = VECTOR_FAISS_FLAT, .centroids = centroids, .nlist = l->nlist};
    ck_ok(faiss_ivf_create(&out, &same, &error));
    ck_ok(faiss_ivf_add(out, docnos, x, ROWS, NULL, &error));
    free(centroids);
    return out;
}

static void make_both(both *b)
{
    sem_error error;
    random_state random;
    static uint32_t docnos[ROWS];
    random_seed(&random, testing_seed());
    b->x = clustered_points(&random, ROWS + QUERIES, DIM, TOPICS, SPREAD);
    b->kernel = dot_choose();
    ck_ok(rows_create(&b->r, DIM, &error));
    for (uint32_t i = 0; i < ROWS; i++) {
        docnos[i] = i * 3 + 1;
        ck_ok(rows_put(b->r, docnos[i], b->x + (size_t)i * DIM, &error));
    }
    ck_ok(scratch_create(&b->scratch, DIM, &error));
    ck_ok(rows_view_begin(&b->view, b->r, NULL, &error));
    const vector_training how = {0};
    training t = {.options = &usual, .kernel = b->kernel, .rows = b->r, .view = &b->view, .how = &how};
    ck_ok(training_make_lists(&t, TRAINING_CLUSTER, &b->ours, &error));
    b->theirs = same_cells_of_faiss(b->ours, b->x, docnos);
}

static void free_both(both *b)
{
    faiss_ivf_destroy(b->theirs);
    scratch_free(b->scratch);
    lists_free(b->ours);
    rows_view_end(&b->view);
    rows_release(b->r);
    free(b->x);
}

/* How many hits of ours are as near as the last of FAISS's; *all: how many those are. */
static size_t find_theirs(both *b, const float *query, size_t nprobe, faiss_found *theirs, size_t *all)
{
    sem_error error;
    vector_hit ours[K];
    size_t count, found = 0;
    vector_plan plan;
    vector_query q = {.vector = query, .k = K, .nprobe = nprobe};
    *all = 0;
    ck_ok(vector_search(&b->view, b->ours, &usual, b->kernel, b->scratch, &q, ours, &count, &plan, &error));
    ck_ok(faiss_ivf_search(b->theirs, q.vector, K, nprobe, theirs, &error));
    ck_assert_str_eq(plan.kind, "ivf");
    if (plan.probed > nprobe)
        return 0; /* ours went on because there were fewer than k */
    /* Where two cells are equally near, ours in bytes may take the other one; and ours
     * hold rows of cells beside them as well. */
    ck_assert_uint_ge(count, theirs->count);
    for (size_t h = 0; h < theirs->count; h++)
        found += ours[h].score >= theirs->scores[theirs->count - 1] - 1e-5f;
    *all = theirs->count;
    return found;
}

START_TEST(our_lists_find_what_those_of_faiss_find)
{
    both b;
    make_both(&b);
    faiss_found theirs = {0};
    size_t found = 0, all = 0, more;
    for (size_t nprobe = 1; nprobe < b.ours->nlist; nprobe *= 3)
        for (size_t i = 0; i < QUERIES; i++) {
            found += find_theirs(&b, b.x + (ROWS + i) * DIM, nprobe, &theirs, &more);
            all += more;
        }
    printf("%zu of %zu found\n", found, all);
    ck_assert_uint_ge(found * 1000, all * 995);
    faiss_found_free(&theirs);
    free_both(&b);
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
        vector_query q = {.vector = w.centres,
                          .k = 100,
                          .recall = 0.95,
                          .allowed = bits,
                          .allowed_bits = lengths[i],
                          .exact = i % 2 == 0};
        expect_right_hits(&w, &q, NULL);
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
    /* expect_right_hits() compares the count. */
    for (size_t k = 1; k <= DEEP; k = k * 4 + 1) {
        vector_query q = {.vector = w.centres, .k = k, .nprobe = 1};
        expect_right_hits(&w, &q, NULL);
        q.allowed = bits;
        q.allowed_bits = N;
        expect_right_hits(&w, &q, NULL);
        q.nprobe = SIZE_MAX;
        expect_right_hits(&w, &q, NULL);
        q.nprobe = 0;
        q.recall = 0.8;
        expect_right_hits(&w, &q, NULL);
    }
    free_world(&w);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("vector_recall");
    TCase *tc = tcase_create("vector_recall");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, recall_holds_for_unseen_queries);
    tcase_add_test(tc, the_curve_rises_to_1);
    tcase_add_test(tc, hard_queries_reach_farther_than_easy_ones);
    tcase_add_test(tc, recall_holds_after_drift);
    tcase_add_test(tc, documents_that_the_curve_does_not_know_are_found_for_certain);
    tcase_add_test(tc, rows_that_came_are_left_to_comparing_where_they_count);
    tcase_add_test(tc, recall_holds_after_heavy_deletes);
    tcase_add_test(tc, our_lists_find_what_those_of_faiss_find);
    tcase_add_test(tc, filter_never_lowers_recall);
    tcase_add_test(tc, filter_far_from_the_query_never_lowers_recall);
    tcase_add_test(tc, bits_behind_the_bitmap_are_not_allowed);
    tcase_add_test(tc, there_are_always_k_hits_where_k_documents_match);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
