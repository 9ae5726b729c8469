#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "index/index_export.h"
#include "index/vector_index.h"

#include <cblas.h>

#include <pthread.h>

static const vector_index_options sq8 = {
    .dim = DIM, .metric = METRIC_COSINE, .exact_below = 1000, .threads = 1, .engine = VECTOR_ENGINE_FAISS};
static const vector_index_options flat = {.dim = DIM,
                                          .metric = METRIC_COSINE,
                                          .exact_below = 1000,
                                          .threads = 1,
                                          .engine = VECTOR_ENGINE_FAISS,
                                          .faiss_type = VECTOR_FAISS_FLAT};

enum { SOME = 8000 /* documents, where more show no more */ };

static void expect_kind(world *w, const char *kind, const char *codes)
{
    vector_index_stats stats;
    vector_index_describe(w->index, &stats);
    ck_assert_str_eq(stats.kind, kind);
    ck_assert_str_eq(stats.codes, codes);
}

START_TEST(recall_asked_for_is_reached_by_either_type)
{
    const vector_index_options *const types[] = {&sq8, &flat};
    static const char *const codes[] = {"IVF,SQ8", "IVF,Flat"};
    for (size_t i = 0; i < 2; i++) {
        size_t count = i == 0 ? N : SOME;
        world w = make_world(types[i], count);
        expect_kind(&w, "exact", "float32");
        train(&w);
        expect_kind(&w, "faiss", codes[i]);
        expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, codes[i]);
        expect_recall(&w, (vector_query){.k = 200}, 0, TOPICS, codes[i]);
        vector_plan plan;
        mean_recall(&w, (vector_query){.k = K, .recall = 0.9}, 0, TOPICS, &plan);
        ck_assert_str_eq(plan.kind, "faiss");
        ck_assert_str_eq(plan.codes, codes[i]);
        ck_assert_uint_lt(plan.scanned, count / 2);
        ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .recall = 1.0}, 0, TOPICS, &plan), 1.0);
        ck_assert_str_eq(plan.kind, "exact");
        free_world(&w);
    }
}
END_TEST

/* With every cell probed nothing is lost but what the codes lose: nothing with Flat. */
START_TEST(with_all_cells_recall_is_that_of_the_codes)
{
    vector_plan plan;
    world w = make_world(&flat, SOME);
    train(&w);
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .nprobe = SIZE_MAX}, 0, TOPICS, &plan), 1.0);
    ck_assert_str_eq(plan.kind, "faiss");
    ck_assert_uint_eq(plan.probed, plan.lists);
    ck_assert_uint_eq(plan.scanned, SOME);
    free_world(&w);
    w = make_world(&sq8, SOME);
    train(&w);
    double recall = mean_recall(&w, (vector_query){.k = K, .nprobe = SIZE_MAX}, 0, TOPICS, &plan);
    printf("SQ8 alone: recall %.4f\n", recall);
    ck_assert_double_ge(recall, 0.97);
    ck_assert_double_lt(recall, 1.0);
    free_world(&w);
}
END_TEST

/* Beside ours, which compares candidates by their floats, at as many cells. */
START_TEST(as_many_cells_find_about_what_ours_find)
{
    world theirs = make_world(&flat, SOME), ours = make_world(&usual, SOME);
    train(&theirs);
    train(&ours);
    for (size_t nprobe = 4; nprobe <= 256; nprobe *= 4) {
        double a = mean_recall(&theirs, (vector_query){.k = K, .nprobe = nprobe}, 0, TOPICS, NULL);
        double b = mean_recall(&ours, (vector_query){.k = K, .nprobe = nprobe}, 0, TOPICS, NULL);
        printf("%zu cells: FAISS %.4f, ours %.4f\n", nprobe, a, b);
        ck_assert_double_eq_tol(a, b, 0.06);
    }
    free_world(&theirs);
    free_world(&ours);
}
END_TEST

START_TEST(recall_holds_after_drift_and_deletes)
{
    world w = make_world(&sq8, 0);
    expect_recall_after_drift(&w);
    expect_recall_after_deletes(&w);
    free_world(&w);
}
END_TEST

/* Lengths from 1 to 2.5, and later some that are longer than all that was trained. */
START_TEST(dot_metric_keeps_the_recall_asked)
{
    for (int i = 0; i < 2; i++) {
        vector_index_options options = i == 0 ? sq8 : flat;
        options.metric = METRIC_DOT;
        world w = make_world(&options, 0);
        float vector[DIM];
        for (uint32_t d = 0; d < SOME; d++) {
            random_vector(&w, random_below(&w.random, TOPICS), vector);
            for (size_t j = 0; j < DIM; j++)
                vector[j] *= 1.0f + (float)(d % 7) / 4;
            put(&w, d, vector);
        }
        train(&w);
        ck_assert_str_eq(kind_of(&w), "faiss");
        expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "dot");
        for (uint32_t d = 0; d < 300; d++) {
            random_vector(&w, random_below(&w.random, TOPICS), vector);
            for (size_t j = 0; j < DIM; j++)
                vector[j] *= 3.0f;
            put(&w, d, vector);
        }
        expect_recall(&w, (vector_query){.k = K}, 0, TOPICS, "longer");
        free_world(&w);
    }
}
END_TEST

START_TEST(puts_and_removes_are_seen_at_once)
{
    world w = make_world(&sq8, 6000);
    train(&w);
    for (int round = 0; round < 2; round++) {
        expect_puts_and_removes_at_once(&w);
        ck_assert_str_eq(kind_of(&w), "faiss");
    }
    free_world(&w);
}
END_TEST

START_TEST(filters_are_exact)
{
    world w = make_world(&sq8, SOME);
    train(&w);
    static const double shares[] = {1.0, 0.1, 0.001, 0.0};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t bits[N / 64 + 1] = {0};
        for (uint32_t d = 0; d < N; d++)
            if (random_unit(&w.random) < shares[i])
                bits[d / 64] |= UINT64_C(1) << d % 64;
        vector_plan plan;
        vector_query q = {.k = K, .recall = 0.95, .allowed = bits, .allowed_bits = N};
        ck_assert_double_eq(mean_recall(&w, q, 0, TOPICS, &plan), 1.0);
        ck_assert_str_eq(plan.kind, "exact");
    }
    free_world(&w);
}
END_TEST

START_TEST(there_are_always_k_hits_where_k_documents_are)
{
    world w = make_world(&sq8, SOME);
    train(&w);
    for (size_t k = 1; k <= DEEP; k = k * 4 + 1) {
        vector_query q = {.vector = w.centres, .k = k, .nprobe = 1};
        expect_right_hits(&w, &q, NULL); /* compares the count */
        q.has_exclude = true;
        q.exclude = 7;
        expect_right_hits(&w, &q, NULL);
        q.nprobe = 0;
        q.recall = 0.8;
        expect_right_hits(&w, &q, NULL);
    }
    free_world(&w);
}
END_TEST

START_TEST(ties_are_ordered_by_document_also_at_the_border)
{
    sem_error error;
    world w = make_world(&sq8, 6000);
    float same[DIM];
    random_vector(&w, 3, same);
    for (uint32_t d = 0; d < 3000; d++)
        put(&w, d * 2, same);
    train(&w);
    for (int round = 0; round < 2; round++) {
        vector_hit hits[K];
        size_t count;
        vector_query q = {.vector = same, .k = K, .recall = 0.9, .nprobe = round == 0 ? 0 : 3};
        ck_ok(vector_index_search(w.index, &q, hits, &count, NULL, &error));
        ck_assert_uint_eq(count, K);
        for (uint32_t i = 0; i < K; i++)
            ck_assert_uint_eq(hits[i].docno, 2 * i);
        put(&w, 0, same);
    }
    free_world(&w);
}
END_TEST

START_TEST(cancel_leaves_the_index_as_it_was)
{
    sem_error error;
    world w = make_world(&sq8, 5000);
    atomic_bool cancel = true;
    ck_fails(vector_index_train(w.index, &(vector_training){.cancel = &cancel}, &error), SEM_CANCELLED);
    ck_assert_str_eq(kind_of(&w), "exact");
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .exact = true}, 0, TOPICS, NULL), 1.0);
    free_world(&w);
}
END_TEST

/* --- export */

static sem_status refuse_step(void *context, sem_error *err)
{
    ++*(size_t *)context;
    return sem_fail(err, SEM_DEADLINE_EXCEEDED, "the time is over");
}

START_TEST(an_export_to_a_full_disk_or_out_of_time_fails)
{
    sem_error error;
    world w = make_world(&sq8, SOME);
    train(&w);
    uint64_t known[N / 64 + 1];
    memset(known, 0xff, sizeof known);
    index_export how = {.to = fopen("/dev/full", "wb"), .known = known, .known_bits = N};
    index_exported out;
    ck_assert_ptr_nonnull(how.to);
    ck_fails(vector_index_export(w.index, &how, &out, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "path: "));
    (void)fclose(how.to);
    size_t steps = 0;
    how.to = fopen("/dev/null", "wb");
    how.step = refuse_step;
    how.context = &steps;
    ck_fails(vector_index_export(w.index, &how, &out, &error), SEM_DEADLINE_EXCEEDED);
    ck_assert_uint_eq(steps, 1);
    how.step = NULL;
    how.known_bits = 1000; /* the others are of documents that came later */
    ck_ok(vector_index_export(w.index, &how, &out, &error));
    ck_assert_str_eq(out.codes, "IVF,SQ8");
    ck_assert_uint_eq(out.vectors, 1000);
    ck_assert_uint_gt(out.nprobe, 0);
    ck_assert_int_eq(fclose(how.to), 0);
    free_world(&w);
}
END_TEST

/* --- threads */

typedef struct searching {
    world *w;
    const float *query;
    size_t nprobe;
    atomic_bool *stop;
    size_t searches;
} searching;

static void *search_on(void *argument)
{
    searching *s = argument;
    vector_query q = {.vector = s->query, .k = K, .nprobe = s->nprobe};
    while (!atomic_load(s->stop)) {
        vector_hit hits[K];
        size_t count;
        sem_error error;
        vector_plan plan;
        ck_ok(vector_index_search(s->w->index, &q, hits, &count, &plan, &error));
        ck_assert_uint_eq(count, K);
        ck_assert_str_eq(plan.kind, "faiss");
        ck_assert_uint_eq(plan.probed, s->nprobe); /* not that of another thread */
        s->searches++;
    }
    return NULL;
}

START_TEST(each_search_has_its_own_nprobe_while_rows_come)
{
    enum { THREADS = 3 };
    world w = make_world(&sq8, 6000);
    train(&w);
    atomic_bool stop = false;
    searching all[THREADS];
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        all[i] = (searching){.w = &w, .query = w.centres + i * DIM, .nprobe = i * 20 + 3, .stop = &stop};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, search_on, &all[i]), 0);
    }
    for (uint32_t d = 6000; d < 8000; d++)
        put_random(&w, d, 0, TOPICS);
    train(&w);
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        ck_assert_uint_gt(all[i].searches, 0);
    }
    expect_recall_of(&w, (vector_query){.k = K, .recall = 0.95}, 0, TOPICS, "grown");
    free_world(&w);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("vector_faiss");
    TCase *tc = tcase_create("vector_faiss");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, recall_asked_for_is_reached_by_either_type);
    tcase_add_test(tc, with_all_cells_recall_is_that_of_the_codes);
    tcase_add_test(tc, as_many_cells_find_about_what_ours_find);
    tcase_add_test(tc, recall_holds_after_drift_and_deletes);
    tcase_add_test(tc, dot_metric_keeps_the_recall_asked);
    tcase_add_test(tc, puts_and_removes_are_seen_at_once);
    tcase_add_test(tc, filters_are_exact);
    tcase_add_test(tc, there_are_always_k_hits_where_k_documents_are);
    tcase_add_test(tc, ties_are_ordered_by_document_also_at_the_border);
    tcase_add_test(tc, cancel_leaves_the_index_as_it_was);
    tcase_add_test(tc, an_export_to_a_full_disk_or_out_of_time_fails);
    tcase_add_test(tc, each_search_has_its_own_nprobe_while_rows_come);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
