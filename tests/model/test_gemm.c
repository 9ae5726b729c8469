#include "tests/common/testing.h"

#include "base/random.h"
#include "model/gemm.h"
#include "model/gemm_openblas.h"
#include "model/kernels.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROW = 131 }; /* no multiple of any vector */

static void fill(float *x, size_t n, uint64_t seed, double width)
{
    random_state r;
    random_seed(&r, seed);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((2 * random_unit(&r) - 1) * width);
}

/* --- products against plain loops in double precision */

static void check_product(const gemm *g, bool ta, bool tb, size_t m, size_t n, size_t k)
{
    const float alpha = 0.5f, beta = 2;
    float *a = malloc(m * k * sizeof *a + 1), *b = malloc(k * n * sizeof *b + 1), *c = malloc(m * n * sizeof *c);
    float *before = malloc(m * n * sizeof *before);
    ck_assert(a != NULL && b != NULL && c != NULL && before != NULL);
    fill(a, m * k, 1, 1);
    fill(b, k * n, 2, 1);
    fill(c, m * n, 3, 1);
    memcpy(before, c, m * n * sizeof *c);
    size_t lda = ta ? m : k, ldb = tb ? k : n;
    g->multiply(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, n);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)(ta ? a[p * lda + i] : a[i * lda + p]) * (double)(tb ? b[j * ldb + p] : b[p * ldb + j]);
            sum = (double)alpha * sum + (double)beta * (double)before[i * n + j];
            ck_assert_msg(fabs(sum - (double)c[i * n + j]) < 1e-5 * (double)(k + 10), "%s %d%d %zux%zux%zu", g->name,
                          ta, tb, m, n, k);
        }
    free(a);
    free(b);
    free(c);
    free(before);
}

START_TEST(own_products_equal_plain_loops_at_every_level)
{
    static const size_t sizes[][3] = {{1, 1, 1},   {1, 48, 300},  {2, 16, 1},     {9, 17, 33},
                                      {37, 65, 5}, {64, 80, 257}, {35, 129, 513}, {3, 5, 0}};
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (int form = 0; form < 4; form++)
                check_product(gemm_own(levels[l]), form & 1, form & 2, sizes[s][0], sizes[s][1], sizes[s][2]);
}
END_TEST

/* --- the choice */

static void off_by_a_little(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                            const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    gemm_portable.multiply(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (m > 100 && ta && !tb)
        c[(m - 1) * ldc + n / 2] += 0.01f;
}

static void reads_what_it_should_not(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                                     size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    float kept = c[0];
    gemm_portable.multiply(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    c[0] += 0 * kept;
}

static void writes_behind_the_row(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a,
                                  size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    gemm_portable.multiply(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    c[n] = 0;
}

static const gemm WRONG[] = {{"off_by_a_little", off_by_a_little},
                             {"reads_what_it_should_not", reads_what_it_should_not},
                             {"writes_behind_the_row", writes_behind_the_row}};

START_TEST(a_library_that_computes_wrong_is_refused)
{
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        ck_assert_msg(!gemm_self_test(&WRONG[i], 48, 96, 12), "%s", WRONG[i].name);
    ck_assert(gemm_self_test(&gemm_portable, 48, 96, 12));
}
END_TEST

START_TEST(a_refused_library_is_replaced_and_the_log_says_so)
{
    /* Arrange */
    char path[4096], text[4096] = {0};
    snprintf(path, sizeof path, "%s/log", testing_folder());
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    sem_log log;
    log_init(&log, fd, LOG_LEVEL_INFO);

    /* Act */
    const gemm *chosen = gemm_choose_checked(&WRONG[0], "Sandybridge", 48, 96, 12, &log);

    /* Assert */
    ck_assert_ptr_ne(chosen, &WRONG[0]);
    ck_assert(gemm_self_test(chosen, 48, 96, 12));
    ck_assert_int_gt(pread(fd, text, sizeof text - 1, 0), 0);
    ck_assert_ptr_nonnull(strstr(text, "gemm_self_test_failed"));
    ck_assert_ptr_nonnull(strstr(text, "Sandybridge"));
    ck_assert_ptr_nonnull(strstr(text, "OPENBLAS_CORETYPE"));
    ck_assert_ptr_nonnull(strstr(text, chosen->name));
    close(fd);
}
END_TEST

START_TEST(a_library_without_the_processors_instructions_is_replaced)
{
    const kernels *level;
    sem_error error;
    ck_ok(kernels_choose(&level, &error));
    const gemm *own = gemm_own(level);
    const gemm *old = gemm_choose_checked(&gemm_openblas, "Prescott", 48, 96, 12, NULL);
    ck_assert_ptr_eq(old, own == &gemm_portable ? &gemm_openblas : own);
    ck_assert_ptr_eq(gemm_choose_checked(&gemm_openblas, "Haswell", 48, 96, 12, NULL), &gemm_openblas);
}
END_TEST

START_TEST(what_is_chosen_on_this_machine_computes_right)
{
    const gemm *chosen = gemm_choose(48, 96, 12, NULL);
    ck_assert(gemm_self_test(chosen, 48, 96, 12));
}
END_TEST

/* --- the other kernels against formulas in double precision, each at every level */

static double phi(double x)
{
    return 0.5 * erfc(-x * M_SQRT1_2);
}

static void check_gelu(const kernels *k)
{
    enum { N = 20001 };
    static float x[N], u[N], d[N];
    for (size_t i = 0; i < N; i++)
        x[i] = u[i] = ((float)i - N / 2) * 1e-3f;
    for (size_t i = 0; i < N; i++)
        d[i] = 2;
    k->gelu(x, N, x);
    k->gelu_backward(u, d, N);
    for (size_t i = 0; i < N; i++) {
        double v = (double)(((float)i - N / 2) * 1e-3f);
        double slope = phi(v) + v * exp(-0.5 * v * v) * 0.3989422804014327;
        ck_assert_msg(fabs((double)x[i] - v * phi(v)) < 1e-6 && x[i] == u[i], "%s gelu(%g) = %g", k->name, v,
                      (double)x[i]);
        ck_assert_msg(fabs((double)d[i] - 2 * slope) < 1e-6, "%s gelu'(%g) = %g", k->name, v, (double)d[i]);
    }
    float extreme[] = {-1e30f, -100, 0, 100, 1e30f};
    k->gelu(extreme, 5, extreme);
    ck_assert(extreme[0] == 0 && extreme[1] == 0 && extreme[2] == 0 && extreme[3] == 100 && extreme[4] == 1e30f);
}

static void check_gelu_quick(const kernels *k)
{
    enum { N = 20001 };
    static float x[N], y[N];
    for (size_t i = 0; i < N; i++)
        x[i] = ((float)i - N / 2) * 1e-3f;
    k->gelu_quick(x, N, y);
    for (size_t i = 0; i < N; i++) {
        double v = (double)x[i];
        ck_assert_msg(fabs((double)y[i] - v * phi(v)) < 1.5e-4, "%s gelu_quick(%g) = %g", k->name, v, (double)y[i]);
        /* The relative error that rounding to bfloat16 adds is up to 2^-8. */
        if (v > 0)
            ck_assert(fabs((double)y[i] - v * phi(v)) < 3e-4 * v * phi(v));
    }
    float extreme[] = {-1e30f, -100, 0, 100, 1e30f};
    k->gelu_quick(extreme, 5, extreme);
    ck_assert(extreme[0] == 0 && extreme[1] == 0 && extreme[2] == 0 && extreme[3] == 100 && extreme[4] == 1e30f);
}

typedef struct activation_case {
    const char *name;
    void (*forward)(const float *x, size_t n, float *y);
    void (*backward)(float *u, float *d, size_t n);
    double (*formula)(double x);
} activation_case;

static double gelu_tanh_formula(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

static double silu_formula(double x)
{
    return x / (1 + exp(-x));
}

static double relu_formula(double x)
{
    return x > 0 ? x : 0;
}

static void check_activation(const kernels *k, const activation_case *a)
{
    enum { N = 20001 };
    static float x[N], u[N], d[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = u[i] = ((float)i - N / 2) * 1e-3f + 1e-4f;
        d[i] = 2;
    }
    a->forward(x, N, x);
    a->backward(u, d, N);
    for (size_t i = 0; i < N; i++) {
        double v = (double)(((float)i - N / 2) * 1e-3f + 1e-4f);
        double slope = (a->formula(v + 1e-5) - a->formula(v - 1e-5)) / 2e-5;
        ck_assert_msg(fabs((double)x[i] - a->formula(v)) < 2e-6 && x[i] == u[i], "%s %s(%g) = %g", k->name, a->name, v,
                      (double)x[i]);
        ck_assert_msg(fabs((double)d[i] - 2 * slope) < 5e-6, "%s %s'(%g) = %g", k->name, a->name, v, (double)d[i]);
    }
    float extreme[] = {-1e20f, -100, 0, 100, 1e20f, NAN}, slopes[] = {1, 1, 1, 1, 1, 1};
    a->backward(extreme, slopes, 6);
    ck_assert(fabsf(extreme[0]) < 1e-6f && fabsf(extreme[1]) < 1e-6f && extreme[2] == 0 && extreme[3] == 100);
    ck_assert(extreme[4] == 1e20f && isnan(extreme[5]));
    ck_assert(fabsf(slopes[0]) < 1e-6f && fabsf(slopes[1]) < 1e-6f && slopes[3] == 1 && slopes[4] == 1);
}

static void check_activations(const kernels *k)
{
    const activation_case cases[] = {{"gelu_tanh", k->gelu_tanh, k->gelu_tanh_backward, gelu_tanh_formula},
                                     {"silu", k->silu, k->silu_backward, silu_formula},
                                     {"relu", k->relu, k->relu_backward, relu_formula}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_activation(k, &cases[i]);
}

static void check_layer_norm(const kernels *k)
{
    float x[ROW], residual[ROW], w[ROW], b[ROW], xhat[ROW], y[ROW];
    fill(x, ROW, 1, 3);
    fill(residual, ROW, 2, 3);
    fill(w, ROW, 3, 1);
    fill(b, ROW, 4, 1);
    float rstd = k->layer_norm(x, residual, w, b, 1e-3f, ROW, xhat, y);
    double mean = 0, variance = 0;
    for (size_t i = 0; i < ROW; i++)
        mean += ((double)x[i] + (double)residual[i]) / ROW;
    for (size_t i = 0; i < ROW; i++)
        variance += pow((double)x[i] + (double)residual[i] - mean, 2) / ROW;
    double expected = 1 / sqrt(variance + 1e-3);
    ck_assert_double_eq_tol((double)rstd, expected, 1e-6);
    for (size_t i = 0; i < ROW; i++) {
        double h = ((double)x[i] + (double)residual[i] - mean) * expected;
        ck_assert_double_eq_tol((double)xhat[i], h, 2e-6);
        ck_assert_double_eq_tol((double)y[i], h * (double)w[i] + (double)b[i], 2e-6);
    }
    float again[ROW];
    k->scale_shift(xhat, w, b, ROW, again);
    for (size_t i = 0; i < ROW; i++)
        ck_assert_float_eq_tol(again[i], y[i], 1e-6f);
}

static void check_softmax(const kernels *k)
{
    for (size_t n = 1; n < 70; n++) {
        const size_t padded = (n + 15) / 16 * 16;
        float s[80], before[80];
        fill(s, 80, n, 30);
        memcpy(before, s, sizeof s);
        float sum = k->softmax(s, n, padded, 0.5f, NULL);
        double top = -1e9, total = 0;
        for (size_t i = 0; i < n; i++)
            top = fmax(top, (double)before[i]);
        for (size_t i = 0; i < n; i++)
            total += exp(0.5 * ((double)before[i] - top));
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol((double)(s[i] / sum), exp(0.5 * ((double)before[i] - top)) / total, 1e-6);
        for (size_t i = n; i < padded; i++)
            ck_assert(s[i] == 0);
        for (size_t i = padded; i < 80; i++)
            ck_assert(s[i] == before[i]);
        const kernel_mask mask = {.key = {3, (uint32_t)n}, .threshold = 1 << 22, .scale = 4.0f / 3};
        k->dropout(s, n, &mask);
        ck_assert_float_eq(k->softmax(before, n, padded, 0.5f, &mask), sum);
        ck_assert_int_eq(memcmp(s, before, sizeof s), 0);
    }
}

/* What softmax_backward makes of scores s[n] and of d[n], the gradient of their dropped softmax; kept[n]
 * is what the mask makes of ones. */
static void check_softmax_backward(const kernels *k, size_t n, const kernel_mask *mask)
{
    enum { MOST = 80 };
    const size_t padded = (n + 15) / 16 * 16;
    float s[MOST], d[MOST], p[MOST], kept[MOST], behind[2][MOST];
    fill(s, MOST, n, 30);
    fill(d, MOST, n + 100, 1);
    memcpy(p, s, sizeof p);
    memcpy(behind[0], s, sizeof s);
    memcpy(behind[1], d, sizeof d);
    for (size_t i = 0; i < MOST; i++)
        kept[i] = 1;
    if (mask != NULL)
        k->dropout(kept, n, mask);
    const float sum = k->softmax(p, n, padded, 0.5f, NULL);
    double mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)(p[i] / sum * kept[i] * d[i]);
    k->softmax_backward(s, d, n, padded, 0.5f, mask);
    for (size_t i = 0; i < n; i++) {
        const double whole = (double)(p[i] / sum), gradient = (double)(kept[i] * behind[1][i]);
        ck_assert_double_eq_tol((double)s[i], whole * (double)kept[i], 1e-6);
        ck_assert_double_eq_tol((double)d[i], 0.5 * whole * (gradient - mean), 1e-6);
    }
    for (size_t i = padded; i < MOST; i++)
        ck_assert(s[i] == behind[0][i] && d[i] == behind[1][i]);
}

static void check_softmax_backwards(const kernels *k)
{
    for (size_t n = 1; n < 70; n++) {
        const kernel_mask mask = {.key = {(uint32_t)n, 7}, .threshold = 1 << 22, .scale = 4.0f / 3};
        check_softmax_backward(k, n, NULL);
        check_softmax_backward(k, n, &mask);
    }
}

static void check_vectors(const kernels *k)
{
    float x[ROW], y[ROW], before[ROW];
    fill(x, ROW, 1, 1);
    fill(y, ROW, 2, 1);
    memcpy(before, y, sizeof y);
    double product = 0;
    for (size_t i = 0; i < ROW; i++)
        product += (double)x[i] * (double)y[i];
    ck_assert_double_eq_tol((double)k->dot(x, y, ROW), product, 1e-5);
    k->axpy(0.5f, x, y, ROW);
    for (size_t i = 0; i < ROW; i++)
        ck_assert_float_eq_tol(y[i], 0.5f * x[i] + before[i], 1e-6f);
    k->scale(3, x, ROW);
    fill(before, ROW, 1, 1);
    for (size_t i = 0; i < ROW; i++)
        ck_assert_float_eq(x[i], 3 * before[i]);
}

static void check_few(const kernels *k, size_t m, size_t n, size_t depth)
{
    float *x = malloc(m * depth * sizeof *x), *w = malloc(n * depth * sizeof *w), *y = malloc(m * n * sizeof *y);
    ck_assert(x != NULL && w != NULL && y != NULL);
    fill(x, m * depth, 1, 1);
    fill(w, n * depth, 2, 1);
    for (size_t i = 0; i < m * n; i++)
        y[i] = 5;
    k->multiply_few(m, n, depth, x, w, y);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 5;
            for (size_t p = 0; p < depth; p++)
                sum += (double)x[i * depth + p] * (double)w[j * depth + p];
            ck_assert_double_eq_tol((double)y[i * n + j], sum, 1e-4);
        }
    free(x);
    free(w);
    free(y);
}

START_TEST(few_rows_are_multiplied_right_at_every_level)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++)
        for (size_t m = 1; m < 12; m++)
            for (size_t n = 1; n < 10; n++)
                for (size_t k = 1; k < 70; k += 7)
                    check_few(levels[l], m, n, k);
}
END_TEST

START_TEST(every_level_computes_the_formulas)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        check_gelu(levels[l]);
        check_gelu_quick(levels[l]);
        check_activations(levels[l]);
        check_layer_norm(levels[l]);
        check_softmax(levels[l]);
        check_softmax_backwards(levels[l]);
        check_vectors(levels[l]);
    }
}
END_TEST

START_TEST(kernels_touch_nothing_behind_the_row)
{
    /* Heap blocks of the exact size: a sanitizer build finds every byte too many. */
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t n = 1; n < 36; n++) {
        float *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y), *w = malloc(n * sizeof *w);
        ck_assert(x != NULL && y != NULL && w != NULL);
        const kernel_mask mask = {.key = {1, 2}, .threshold = 1 << 22, .scale = 4.0f / 3};
        for (size_t l = 0; levels[l] != NULL; l++) {
            const kernels *k = levels[l];
            fill(x, n, n, 1);
            fill(y, n, n, 1);
            fill(w, n, n, 1);
            k->gelu(x, n, y);
            k->gelu_backward(x, y, n);
            k->gelu_tanh(x, n, y);
            k->gelu_tanh_backward(x, y, n);
            k->silu(x, n, y);
            k->silu_backward(x, y, n);
            k->relu(x, n, y);
            k->relu_backward(x, y, n);
            fill(x, n, n, 1);
            fill(y, n, n, 1);
            float rstd = k->layer_norm(x, y, w, w, 1e-3f, n, x, y);
            k->layer_norm_backward(y, x, rstd, w, n, x, y, y);
            k->dropout(x, n, &mask);
            k->axpy(2, x, y, n);
            k->scale(0.5f, y, n);
            ck_assert(isfinite(k->dot(x, y, n)));
        }
        free(x);
        free(y);
        free(w);
    }
}
END_TEST

START_TEST(dropout_drops_its_share_and_the_same_at_every_level)
{
    enum { N = 100003 };
    static float first[N], other[N];
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (uint32_t key = 0; key < 4; key++) {
        const kernel_mask mask = {.key = {key, 7 * key}, .threshold = (1 << 24) / 10, .scale = 1.25f};
        for (size_t l = 0; levels[l] != NULL; l++) {
            float *x = l == 0 ? first : other;
            size_t dropped = 0;
            for (size_t i = 0; i < N; i++)
                x[i] = 4;
            levels[l]->dropout(x, N, &mask);
            for (size_t i = 0; i < N; i++) {
                ck_assert(x[i] == 0 || x[i] == 5);
                dropped += x[i] == 0;
            }
            ck_assert_msg(dropped > N / 10 - 500 && dropped < N / 10 + 500, "%zu of %d", dropped, N);
            ck_assert_int_eq(memcmp(x, first, sizeof first), 0);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/gemm");
    TCase *products = tcase_create("products");
    tcase_set_timeout(products, 120);
    tcase_add_test(products, own_products_equal_plain_loops_at_every_level);
    tcase_add_test(products, a_library_that_computes_wrong_is_refused);
    tcase_add_test(products, a_refused_library_is_replaced_and_the_log_says_so);
    tcase_add_test(products, a_library_without_the_processors_instructions_is_replaced);
    tcase_add_test(products, what_is_chosen_on_this_machine_computes_right);
    suite_add_tcase(suite, products);
    TCase *rows = tcase_create("kernels");
    tcase_set_timeout(rows, 60);
    tcase_add_test(rows, few_rows_are_multiplied_right_at_every_level);
    tcase_add_test(rows, every_level_computes_the_formulas);
    tcase_add_test(rows, kernels_touch_nothing_behind_the_row);
    tcase_add_test(rows, dropout_drops_its_share_and_the_same_at_every_level);
    suite_add_tcase(suite, rows);
    return testing_run(suite);
}
