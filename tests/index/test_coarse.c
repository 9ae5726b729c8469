#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "index/coarse.h"

#include <math.h>

enum { MANY = 7000, FEW = 60, DIM = 128, QUERIES = 40 };

typedef struct fixture {
    coarse c;
    uint8_t *bytes;
    float *scales;
    coarse_scores scores, all;
    code_query q;
} fixture;

static void start(fixture *f, random_state *r, size_t count)
{
    sem_error error;
    size_t width = codes_width(DIM);
    float *centroids = clustered_points(r, count, DIM, 60, 0.5f);
    f->bytes = aligned_alloc(64, count * width);
    f->scales = calloc(count, sizeof *f->scales);
    ck_assert(f->bytes != NULL && f->scales != NULL);
    for (size_t i = 0; i < count; i++)
        f->scales[i] = codes_scale(codes_to_bytes(centroids + i * DIM, DIM, f->bytes + i * width));
    f->c = (coarse){
        .kernel = codes_choose(), .count = count, .dim = DIM, .width = width, .bytes = f->bytes, .scales = f->scales};
    f->scores = f->all = (coarse_scores){0};
    ck_assert(codes_query_reserve(&f->q, DIM));
    ck_ok(coarse_prepare(&f->c, &error));
    ck_ok(coarse_scores_reserve(&f->scores, count, &error));
    ck_ok(coarse_scores_reserve(&f->all, count, &error));
    free(centroids);
}

static void end(fixture *f)
{
    coarse_clear(&f->c);
    coarse_scores_free(&f->scores);
    coarse_scores_free(&f->all);
    free(f->bytes);
    free(f->scales);
    codes_query_free(&f->q);
}

/* Near one of the centroids, as queries are. */
static void ask(fixture *f, random_state *r)
{
    float query[DIM];
    size_t near = random_below(r, f->c.count);
    codes_from_bytes(f->bytes + near * f->c.width, f->scales[near], DIM, query);
    for (size_t i = 0; i < DIM; i++)
        query[i] += 0.2f * ((float)random_unit(r) - 0.5f);
    codes_prepare(&f->q, query, DIM);
}

static void check_each_once(const uint32_t *order, size_t listed, size_t count)
{
    uint8_t *seen = calloc(count, 1);
    ck_assert_ptr_nonnull(seen);
    for (size_t i = 0; i < listed; i++) {
        ck_assert_uint_lt(order[i], count);
        ck_assert_uint_eq(seen[order[i]]++, 0);
    }
    free(seen);
}

START_TEST(what_is_listed_has_the_score_that_it_has_without_bits)
{
    random_state r;
    random_seed(&r, testing_seed());
    fixture f;
    start(&f, &r, MANY);
    ck_assert_ptr_nonnull(f.c.blocks);
    for (int i = 0; i < QUERIES; i++) {
        ask(&f, &r);
        size_t want = 1 + random_below(&r, 100), listed = coarse_list(&f.c, &f.q, want, &f.scores);
        ck_assert_uint_eq(listed, coarse_least(&f.c, want));
        ck_assert_uint_lt(listed, MANY);
        check_each_once(f.scores.order, listed, MANY);
        ck_assert_uint_eq(coarse_list(&f.c, &f.q, MANY, &f.all), MANY);
        for (size_t j = 0; j < listed; j++)
            ck_assert_float_eq(f.scores.of[f.scores.order[j]], f.all.of[f.scores.order[j]]);
        coarse_list_rest(&f.c, &f.q, listed, &f.scores);
        check_each_once(f.scores.order, MANY, MANY);
        ck_assert_mem_eq(f.scores.of, f.all.of, MANY * sizeof(float));
    }
    end(&f);
}
END_TEST

START_TEST(the_nearest_is_nearly_always_among_those_listed)
{
    random_state r;
    random_seed(&r, testing_seed());
    fixture f;
    start(&f, &r, MANY);
    int found = 0;
    for (int i = 0; i < QUERIES; i++) {
        ask(&f, &r);
        coarse_list(&f.c, &f.q, 16, &f.scores);
        coarse_list(&f.c, &f.q, MANY, &f.all);
        size_t best = 0;
        for (size_t j = 1; j < MANY; j++)
            best = f.all.of[j] > f.all.of[best] ? j : best;
        found += f.scores.of[best] > -INFINITY;
    }
    ck_assert_int_ge(found, QUERIES - 4);
    end(&f);
}
END_TEST

START_TEST(ranks_are_the_order_in_which_they_are_listed)
{
    random_state r;
    random_seed(&r, testing_seed());
    fixture f;
    start(&f, &r, MANY);
    uint32_t *ranks = calloc(MANY, sizeof *ranks);
    ck_assert_ptr_nonnull(ranks);
    for (int i = 0; i < QUERIES; i++) {
        ask(&f, &r);
        size_t want = 1 + random_below(&r, 100), least = coarse_least(&f.c, want);
        coarse_list(&f.c, &f.q, want, &f.scores);
        coarse_rank(&f.c, &f.q, &f.all, ranks);
        for (size_t j = 0; j < MANY; j++)
            ck_assert_int_eq(f.scores.of[j] > -INFINITY, ranks[j] < least);
    }
    free(ranks);
    end(&f);
}
END_TEST

START_TEST(few_centroids_are_all_scored)
{
    random_state r;
    random_seed(&r, testing_seed());
    fixture f;
    start(&f, &r, FEW);
    ck_assert_ptr_null(f.c.blocks);
    ask(&f, &r);
    ck_assert_uint_eq(coarse_list(&f.c, &f.q, 1, &f.scores), FEW);
    check_each_once(f.scores.order, FEW, FEW);
    end(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coarse");
    TCase *tc = tcase_create("coarse");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, what_is_listed_has_the_score_that_it_has_without_bits);
    tcase_add_test(tc, the_nearest_is_nearly_always_among_those_listed);
    tcase_add_test(tc, ranks_are_the_order_in_which_they_are_listed);
    tcase_add_test(tc, few_centroids_are_all_scored);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
