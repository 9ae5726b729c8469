#include "tests/common/testing.h"
#include "tests/index/world.h"

#include "index/vector_index.h"

#include <cblas.h>

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

/* As wide as a collection's vectors may be. */
START_TEST(the_widest_vectors_get_lists)
{
    enum { WIDEST = 65536, ROWS = 300, NEAREST = 5 };
    sem_error error;
    random_state random;
    vector_index *index;
    vector_index_options options = {.dim = WIDEST, .exact_below = 100, .threads = 2};
    random_seed(&random, testing_seed());
    float *all = clustered_points(&random, ROWS, WIDEST, 12, 0.8f);
    ck_ok(vector_index_create(&index, &options, &error));
    for (uint32_t i = 0; i < ROWS; i++)
        ck_ok(vector_index_put(index, i, all + (size_t)i * WIDEST, &error));
    ck_ok(vector_index_train(index, NULL, &error));
    size_t same = 0;
    for (uint32_t i = 0; i < ROWS; i += 10) {
        vector_hit hits[NEAREST], exact[NEAREST];
        vector_plan plan;
        size_t count;
        vector_query q = {.vector = all + (size_t)i * WIDEST, .k = NEAREST, .recall = 0.95};
        ck_ok(vector_index_search(index, &q, hits, &count, &plan, &error));
        ck_assert_str_eq(plan.kind, "ivf");
        ck_assert(count == NEAREST && hits[0].docno == i);
        q.exact = true;
        ck_ok(vector_index_search(index, &q, exact, &count, NULL, &error));
        for (size_t n = 0; n < NEAREST * NEAREST; n++)
            same += hits[n / NEAREST].docno == exact[n % NEAREST].docno;
    }
    ck_assert_uint_ge(same, (size_t)(0.9 * NEAREST * ROWS / 10));
    vector_index_destroy(index);
    free(all);
}
END_TEST

/* Later with some that are longer than all that was trained. */
START_TEST(dot_metric_keeps_the_recall_asked)
{
    vector_index_options options;
    world w = make_dot_world(&options, N);
    ck_assert_double_eq(mean_recall(&w, (vector_query){.k = K, .exact = true}, 0, TOPICS, NULL), 1.0);
    train(&w);
    ck_assert_str_eq(kind_of(&w), "ivf");
    static const double targets[] = {0.80, 0.90, 0.95, 0.99};
    for (size_t i = 0; i < 4; i++)
        expect_recall_of(&w, (vector_query){.k = K, .recall = targets[i]}, 0, TOPICS, "dot");
    for (uint32_t d = 0; d < 500; d++)
        put_of_length(&w, d, random_below(&w.random, TOPICS), 3.0f);
    for (size_t i = 0; i < 4; i++)
        expect_recall_of(&w, (vector_query){.k = K, .recall = targets[i]}, 0, TOPICS, "longer");
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

/* The share of the exact hits that are found. */
static double recall_beside_exact(world *w, vector_query q)
{
    sem_error error;
    float query[DIM];
    vector_hit hits[K], exact[K];
    size_t count, exact_count, found = 0;
    for (size_t i = 0; i < QUERIES; i++) {
        random_vector(w, random_below(&w->random, TOPICS), query);
        q.vector = query;
        const vector_query all = {.vector = query, .k = K, .exact = true};
        ck_ok(vector_index_search(w->index, &q, hits, &count, NULL, &error));
        ck_ok(vector_index_search(w->index, &all, exact, &exact_count, NULL, &error));
        ck_assert_uint_eq(count, K);
        ck_assert_uint_eq(exact_count, K);
        for (size_t h = 0; h < K; h++)
            for (size_t e = 0; e < K; e++)
                found += hits[h].docno == exact[e].docno;
    }
    return (double)found / (QUERIES * K);
}

/* Products of such vectors are infinite, or no numbers where a whole number in them is 0: lists are
 * of little use then, but searches end and give what they promise. */
START_TEST(vectors_of_huge_length_keep_the_recall_asked)
{
    vector_index_options options = usual;
    options.metric = METRIC_DOT;
    world w = make_world(&options, 0);
    float vector[DIM];
    for (uint32_t d = 0; d < 5000; d++) {
        random_vector(&w, random_below(&w.random, TOPICS), vector);
        for (size_t i = 0; i < DIM; i++)
            vector[i] *= _i == 0 ? 1e19f : _i == 1 ? 1e28f : d % 10 == 0 ? 1e30f : 1.0f;
        put(&w, d, vector);
    }
    train(&w);
    ck_assert_double_ge(recall_beside_exact(&w, (vector_query){.k = K, .recall = 0.95}), 0.93);
    ck_assert_double_gt(recall_beside_exact(&w, (vector_query){.k = K, .nprobe = 3}), 0.0);
    free_world(&w);
}
END_TEST

/* --- writing */

START_TEST(puts_and_removes_are_seen_at_once_with_and_without_lists)
{
    world w = make_world(&usual, 6000);
    for (int round = 0; round < 2; round++) {
        expect_puts_and_removes_at_once(&w);
        ck_assert_str_eq(kind_of(&w), "ivf");
    }
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
    ck_fails(vector_index_train(w.index, &(vector_training){.cancel = &cancel}, &error), SEM_CANCELLED);
    ck_assert_str_eq(kind_of(&w), "exact");
    train(&w);
    for (uint32_t d = 0; d < 4000; d++)
        drop(&w, d);
    ck_fails(vector_index_train(w.index, &(vector_training){.cancel = &cancel}, &error), SEM_CANCELLED);
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
        vector_query q = {
            .vector = w.vectors + d * 100 * DIM, .k = K, .recall = 0.95, .has_exclude = true, .exclude = d * 100};
        expect_right_hits(&w, &q, NULL);
        q.exact = true;
        ck_assert_double_eq(expect_right_hits(&w, &q, NULL), 1.0);
    }
    free_world(&w);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("vector_index");
    TCase *tc = tcase_create("vector_index");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, the_widest_vectors_get_lists);
    tcase_add_test(tc, exact_search_equals_brute_force);
    tcase_add_test(tc, an_empty_index_and_k_0_answer_nothing);
    tcase_add_test(tc, what_makes_no_sense_is_refused);
    tcase_add_test(tc, dot_metric_keeps_the_recall_asked);
    tcase_add_test(tc, huge_numbers_leave_the_order_defined);
    tcase_add_loop_test(tc, vectors_of_huge_length_keep_the_recall_asked, 0, 3);
    tcase_add_test(tc, puts_and_removes_are_seen_at_once_with_and_without_lists);
    tcase_add_test(tc, compaction_keeps_every_document_and_its_last_vector);
    tcase_add_test(tc, a_small_index_is_compacted_too);
    tcase_add_test(tc, cancel_leaves_the_index_as_it_was);
    tcase_add_test(tc, ties_are_ordered_by_id_also_at_the_border);
    tcase_add_test(tc, an_index_of_equal_vectors_trains_and_answers);
    tcase_add_test(tc, a_document_can_be_left_out);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
