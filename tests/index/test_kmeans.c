#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "index/kmeans.h"

#include <float.h>

enum { N = 4000, DIM = 24, K = 32 };

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

/* Mean of each point's dot product with its nearest centroid. */
static double quality(const float *x, const float *centroids, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++) {
        double best = -2;
        for (size_t c = 0; c < k; c++)
            best = fmax(best, dot(x + i * DIM, centroids + c * DIM));
        sum += best;
    }
    return sum / N;
}

static float *points(void)
{
    random_state r;
    random_seed(&r, 5);
    float *x = clustered_points(&r, N, DIM, K, 0.5f);
    ck_assert_ptr_nonnull(x);
    return x;
}

static kmeans_options options_of(unsigned rounds)
{
    return (kmeans_options){.dim = DIM, .k = K, .rounds = rounds, .threads = 1, .seed = 9};
}

START_TEST(centroids_have_unit_length_and_lie_near_the_points)
{
    sem_error error;
    float *x = points(), centroids[K * DIM], start[K * DIM];
    kmeans_options none = options_of(0), ten = options_of(10);
    ck_ok(kmeans_train(&none, x, N, start, NULL, &error));
    ck_ok(kmeans_train(&ten, x, N, centroids, NULL, &error));
    for (size_t c = 0; c < K; c++)
        ck_assert_double_eq_tol(dot(centroids + c * DIM, centroids + c * DIM), 1.0, 1e-5);
    ck_assert_double_gt(quality(x, centroids, K), quality(x, start, K) + 0.02);
    free(x);
}
END_TEST

START_TEST(the_same_seed_repeats_the_run)
{
    sem_error error;
    float *x = points(), a[K * DIM], b[K * DIM];
    kmeans_options o = options_of(3);
    ck_ok(kmeans_train(&o, x, N, a, NULL, &error));
    ck_ok(kmeans_train(&o, x, N, b, NULL, &error));
    ck_assert_mem_eq(a, b, sizeof a);
    free(x);
}
END_TEST

START_TEST(a_warm_start_goes_on_from_the_old_centroids)
{
    sem_error error;
    float *x = points(), first[K * DIM], kept[K * DIM], one[K * DIM];
    kmeans_options o = options_of(10);
    ck_ok(kmeans_train(&o, x, N, first, NULL, &error));
    o = (kmeans_options){.dim = DIM, .k = K, .rounds = 0, .threads = 1, .seed = 3, .start = first, .start_count = K};
    ck_ok(kmeans_train(&o, x, N, kept, NULL, &error));
    for (size_t i = 0; i < K * DIM; i++)
        ck_assert_float_eq_tol(kept[i], first[i], 1e-6f);
    o.rounds = 1;
    ck_ok(kmeans_train(&o, x, N, one, NULL, &error));
    ck_assert_double_ge(quality(x, one, K), quality(x, first, K) - 1e-4);
    free(x);
}
END_TEST

START_TEST(a_warm_start_takes_more_and_fewer_centroids)
{
    sem_error error;
    float *x = points(), first[K * DIM], more[2 * K * DIM], fewer[K / 2 * DIM];
    kmeans_options o = options_of(5);
    ck_ok(kmeans_train(&o, x, N, first, NULL, &error));
    o.start = first;
    o.start_count = K;
    o.k = 2 * K;
    ck_ok(kmeans_train(&o, x, N, more, NULL, &error));
    o.k = K / 2;
    ck_ok(kmeans_train(&o, x, N, fewer, NULL, &error));
    ck_assert_double_gt(quality(x, more, 2 * K), quality(x, first, K));
    ck_assert_double_gt(quality(x, first, K), quality(x, fewer, K / 2));
    free(x);
}
END_TEST

START_TEST(equal_points_are_no_obstacle)
{
    sem_error error;
    float *x = points(), centroids[K * DIM];
    for (size_t i = 1; i < N; i++)
        memcpy(x + i * DIM, x, DIM * sizeof *x);
    kmeans_options o = options_of(4);
    ck_ok(kmeans_train(&o, x, N, centroids, NULL, &error));
    for (size_t i = 0; i < K * DIM; i++)
        ck_assert(isfinite(centroids[i]));
    free(x);
}
END_TEST

START_TEST(what_cannot_be_clustered_is_refused)
{
    sem_error error;
    float *x = points(), centroids[K * DIM];
    kmeans_options o = options_of(2);
    ck_fails(kmeans_train(&o, x, K, centroids, NULL, &error), SEM_INVALID_ARGUMENT);
    x[7] = NAN;
    ck_fails(kmeans_train(&o, x, N, centroids, NULL, &error), SEM_INTERNAL);
    ck_assert_ptr_nonnull(strstr(error.message, "NaN"));
    free(x);
}
END_TEST

START_TEST(cancel_stops_between_rounds)
{
    sem_error error;
    float *x = points(), centroids[K * DIM];
    atomic_bool cancel = true;
    kmeans_options o = options_of(1000000);
    ck_fails(kmeans_train(&o, x, N, centroids, &cancel, &error), SEM_CANCELLED);
    free(x);
}
END_TEST

START_TEST(points_of_different_lengths_are_refused)
{
    sem_error error;
    enum { FEW = 50, WIDE = 8 };
    random_state r;
    random_seed(&r, testing_seed());
    float *x = clustered_points(&r, FEW, WIDE, 5, 0.5f);
    float centroids[4 * WIDE];
    for (size_t i = 0; i < WIDE; i++)
        x[17 * WIDE + i] *= 3.0f;
    kmeans_options o = {.dim = WIDE, .k = 4, .rounds = 2, .threads = 1, .seed = 1};
    ck_fails(kmeans_train(&o, x, FEW, centroids, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "point 17 has 3"));
    free(x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kmeans");
    TCase *tc = tcase_create("kmeans");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, centroids_have_unit_length_and_lie_near_the_points);
    tcase_add_test(tc, the_same_seed_repeats_the_run);
    tcase_add_test(tc, a_warm_start_goes_on_from_the_old_centroids);
    tcase_add_test(tc, a_warm_start_takes_more_and_fewer_centroids);
    tcase_add_test(tc, equal_points_are_no_obstacle);
    tcase_add_test(tc, what_cannot_be_clustered_is_refused);
    tcase_add_test(tc, cancel_stops_between_rounds);
    tcase_add_test(tc, points_of_different_lengths_are_refused);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
