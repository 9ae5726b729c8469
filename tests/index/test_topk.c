#include "tests/common/testing.h"

#include "base/random.h"
#include "index/dot.h"
#include "index/topk.h"

#include <stdlib.h>
#include <string.h>

static int by_hit(const void *a, const void *b)
{
    const vector_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->docno < y->docno ? -1 : x->docno > y->docno;
}

START_TEST(topk_equals_sorting_everything)
{
    enum { N = 3000 };
    static vector_hit all[N], best[N];
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t k = 1; k <= N; k = k * 3 + 1) {
        topk t = topk_start(best, k, NULL, NULL);
        for (uint32_t i = 0; i < N; i++) {
            all[i] = (vector_hit){.docno = i, .score = (float)random_below(&r, 200)};
            topk_push(&t, i, i, all[i].score);
        }
        qsort(all, N, sizeof all[0], by_hit);
        topk_finish(&t);
        ck_assert_uint_eq(t.count, k);
        for (size_t i = 0; i < k; i++) {
            ck_assert_uint_eq(best[i].docno, all[i].docno);
            ck_assert_float_eq(best[i].score, all[i].score);
        }
    }
}
END_TEST

static int counted_reverse(void *context, uint32_t a, uint32_t b)
{
    ++*(size_t *)context;
    return a > b ? -1 : a < b;
}

START_TEST(thousands_of_ties_cost_few_comparisons)
{
    enum { N = 100000, K = 10 };
    vector_hit best[K];
    size_t calls = 0;
    topk t = topk_start(best, K, counted_reverse, &calls);
    /* Ascending docnos: each is better than all before, the worst case. */
    for (uint32_t i = 0; i < N; i++)
        topk_push(&t, i, i, 0.5f);
    topk_finish(&t);
    for (uint32_t i = 0; i < K; i++)
        ck_assert_uint_eq(best[i].docno, N - 1 - i);
    ck_assert_uint_lt(calls, 10 * (size_t)N);
}
END_TEST

START_TEST(fewer_pushes_than_k_are_all_kept)
{
    vector_hit best[8];
    topk t = topk_start(best, 8, NULL, NULL);
    ck_assert(topk_threshold(&t) == -INFINITY);
    topk_push(&t, 3, 3, -INFINITY);
    topk_push(&t, 1, 1, 0.25f);
    topk_finish(&t);
    ck_assert_uint_eq(t.count, 2);
    ck_assert_uint_eq(best[0].docno, 1);
    ck_assert_uint_eq(best[1].docno, 3);
}
END_TEST

/* --- kernels */

static const dot_kernel *const kernels[] = {&dot_generic, &dot_avx2, &dot_avx512};
enum { KERNELS = sizeof kernels / sizeof kernels[0], WIDTH_MAX = 1040 };

static void fill_random(random_state *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)random_unit(r) * 2.0f - 1.0f;
}

START_TEST(every_kernel_agrees_with_the_generic_one)
{
    static _Alignas(64) float query[WIDTH_MAX], data[DOT_BATCH * WIDTH_MAX];
    random_state r;
    random_seed(&r, testing_seed());
    fill_random(&r, query, WIDTH_MAX);
    fill_random(&r, data, DOT_BATCH * WIDTH_MAX);
    for (size_t level = 0; level < KERNELS; level++) {
        if (!kernels[level]->available())
            continue;
        for (size_t width = DOT_LANES; width <= WIDTH_MAX; width += 5 * DOT_LANES)
            for (size_t count = 1; count <= DOT_BATCH; count++) {
                const float *rows[DOT_BATCH];
                float expected[DOT_BATCH], found[DOT_BATCH + 1];
                found[count] = 12345.0f;
                for (size_t i = 0; i < count; i++)
                    rows[i] = data + i * WIDTH_MAX;
                dot_generic.rows(query, rows, count, width, expected);
                kernels[level]->rows(query, rows, count, width, found);
                for (size_t i = 0; i < count; i++)
                    ck_assert_float_eq_tol(found[i], expected[i], 1e-4f);
                ck_assert_float_eq(found[count], 12345.0f);
            }
    }
}
END_TEST

START_TEST(a_row_scores_the_same_bits_in_every_place)
{
    static _Alignas(64) float query[WIDTH_MAX], row[WIDTH_MAX], others[DOT_BATCH * WIDTH_MAX];
    random_state r;
    random_seed(&r, testing_seed());
    fill_random(&r, query, WIDTH_MAX);
    fill_random(&r, row, WIDTH_MAX);
    fill_random(&r, others, DOT_BATCH * WIDTH_MAX);
    for (size_t level = 0; level < KERNELS; level++) {
        if (!kernels[level]->available())
            continue;
        const float *alone = row;
        float expected;
        kernels[level]->rows(query, &alone, 1, WIDTH_MAX, &expected);
        for (size_t count = 1; count <= DOT_BATCH; count++)
            for (size_t place = 0; place < count; place++) {
                const float *rows[DOT_BATCH];
                float found[DOT_BATCH];
                for (size_t i = 0; i < count; i++)
                    rows[i] = i == place ? row : others + i * WIDTH_MAX;
                kernels[level]->rows(query, rows, count, WIDTH_MAX, found);
                ck_assert_mem_eq(&found[place], &expected, sizeof expected);
            }
    }
}
END_TEST

START_TEST(a_row_scores_the_same_bits_however_it_is_aligned)
{
    static _Alignas(64) float query[WIDTH_MAX], row[WIDTH_MAX], moved[WIDTH_MAX + DOT_LANES];
    random_state r;
    random_seed(&r, testing_seed());
    fill_random(&r, query, WIDTH_MAX);
    fill_random(&r, row, WIDTH_MAX);
    for (size_t level = 0; level < KERNELS; level++) {
        if (!kernels[level]->available())
            continue;
        const float *at = row;
        float expected, found;
        kernels[level]->rows(query, &at, 1, WIDTH_MAX, &expected);
        for (size_t shift = 1; shift < DOT_LANES; shift++) {
            memcpy(moved + shift, row, sizeof row);
            at = moved + shift;
            kernels[level]->rows(query, &at, 1, WIDTH_MAX, &found);
            ck_assert_mem_eq(&found, &expected, sizeof expected);
        }
    }
}
END_TEST

START_TEST(semd_simd_lowers_the_kernel)
{
    setenv("SEMD_SIMD", "generic", 1);
    ck_assert_ptr_eq(dot_choose(), &dot_generic);
    setenv("SEMD_SIMD", "avx2", 1);
    ck_assert_ptr_eq(dot_choose(), dot_avx2.available() ? &dot_avx2 : &dot_generic);
    setenv("SEMD_SIMD", "avxvnni", 1);
    ck_assert_ptr_eq(dot_choose(), dot_avx2.available() ? &dot_avx2 : &dot_generic);
    setenv("SEMD_SIMD", "amx", 1);
    ck_assert_ptr_eq(dot_choose(), dot_avx512.available() ? &dot_avx512
                                   : dot_avx2.available() ? &dot_avx2
                                                          : &dot_generic);
    unsetenv("SEMD_SIMD");
    ck_assert(dot_choose()->available());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("topk");
    TCase *tc = tcase_create("topk");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, topk_equals_sorting_everything);
    tcase_add_test(tc, thousands_of_ties_cost_few_comparisons);
    tcase_add_test(tc, fewer_pushes_than_k_are_all_kept);
    tcase_add_test(tc, every_kernel_agrees_with_the_generic_one);
    tcase_add_test(tc, a_row_scores_the_same_bits_in_every_place);
    tcase_add_test(tc, a_row_scores_the_same_bits_however_it_is_aligned);
    tcase_add_test(tc, semd_simd_lowers_the_kernel);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
