#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "index/codes.h"
#include "index/lists.h"

#include <float.h>
#include <stdio.h>

enum { BLOCKS = 20, LANES = BLOCKS * CODES_LANES };

static const size_t dims[] = {1, 3, 63, 64, 65, 100, 128, 383, 384, 385, 768, 1000};
enum { DIMS = sizeof dims / sizeof dims[0] };
static const code_kernel *const levels[] = {&code_avx2, &code_avx512};

static void *aligned(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0, (bytes + 63) / 64 * 64);
    return memory;
}

/* Rows around a centroid in both forms, and a query. */
typedef struct coded {
    size_t dim;
    float *rows, *centroid, *query;
    uint8_t *blocks, *bytes, *nibbles;
    uint16_t byte_scales[LANES], scales[LANES]; /* of the bytes, of the nibbles */
    code_query q;
} coded;

static coded make_coded(random_state *r, size_t dim)
{
    coded c = {.dim = dim};
    c.rows = clustered_points(r, LANES, dim, 1, 0.8f);
    c.centroid = aligned(dim * sizeof(float));
    c.query = clustered_points(r, 1, dim, 1, 1.0f);
    for (size_t i = 0; i < LANES; i++)
        for (size_t j = 0; j < dim; j++)
            c.centroid[j] += c.rows[i * dim + j] / LANES;
    c.blocks = aligned((BLOCKS + 8) * codes_block_size(codes_lines(dim)));
    c.bytes = aligned(LANES * codes_width(dim));
    c.nibbles = aligned(LANES * codes_nibbles_width(dim));
    for (size_t b = 0; b < BLOCKS; b++)
        codes_clear_block(c.blocks + b * codes_block_size(codes_lines(dim)), codes_lines(dim));
    for (size_t i = 0; i < LANES; i++) {
        c.byte_scales[i] = codes_to_bytes(c.rows + i * dim, dim, c.bytes + i * codes_width(dim));
        c.scales[i] = codes_to_nibbles(&code_generic, c.rows + i * dim, dim, c.nibbles + i * codes_nibbles_width(dim));
        codes_write_lane(&code_generic, c.blocks + i / CODES_LANES * codes_block_size(codes_lines(dim)),
                         i % CODES_LANES, c.rows + i * dim, c.centroid, dim, (uint32_t)i, c.scales[i]);
    }
    ck_assert(codes_query_reserve(&c.q, dim));
    codes_prepare(&c.q, c.query, dim);
    return c;
}

static void free_coded(coded *c)
{
    free(c->rows);
    free(c->centroid);
    free(c->query);
    free(c->blocks);
    free(c->bytes);
    free(c->nibbles);
    codes_query_free(&c->q);
}

static double product(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

START_TEST(every_level_finds_the_same_candidates)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t d = 0; d < DIMS; d++) {
        coded c = make_coded(&r, dims[d]);
        static code_candidate expected[LANES + 8], found[LANES + 8];
        float threshold = -FLT_MAX;
        const code_run run = {.blocks = c.blocks,
                              .count = BLOCKS,
                              .first_place = 80,
                              .base = (float)product(c.query, c.centroid, c.dim),
                              .next = d % 2 == 0 ? c.blocks : NULL};
        for (int round = 0; round < 3; round++) {
            size_t count = code_generic.scan(&c.q, &run, threshold, expected);
            ck_assert(round > 0 || count == LANES);
            for (size_t l = 0; l < 2; l++) {
                if (!levels[l]->available()) {
                    printf("skipped: this machine has no %s\n", levels[l]->name);
                    continue;
                }
                ck_assert_uint_eq(levels[l]->scan(&c.q, &run, threshold, found), count);
                ck_assert_mem_eq(found, expected, count * sizeof *found);
            }
            threshold = expected[random_below(&r, count)].score;
        }
        free_coded(&c);
    }
}
END_TEST

typedef void sum_fn(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums);

static void check_sums(random_state *r, const coded *c, const uint8_t *table, size_t width, sum_fn *reference,
                       sum_fn *other)
{
    for (size_t count = 0; count <= CODES_BATCH; count++) {
        const uint8_t *batch[CODES_BATCH] = {0};
        int32_t expected[CODES_BATCH], found[CODES_BATCH];
        for (size_t i = 0; i < count; i++)
            batch[i] = table + (i == 0 ? 0 : random_below(r, LANES)) * width;
        reference(c->q.bytes, batch, count, width, expected);
        other(c->q.bytes, batch, count, width, found);
        ck_assert_mem_eq(found, expected, count * sizeof *found);
    }
}

START_TEST(every_level_sums_the_same_bytes_and_nibbles)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t d = 0; d < DIMS; d++) {
        coded c = make_coded(&r, dims[d]);
        size_t width = codes_width(c.dim), nibbles = codes_nibbles_width(c.dim);
        /* The largest products there are, as well. */
        memset(c.bytes, 255, width);
        memset(c.nibbles, 255, nibbles);
        for (size_t l = 0; l < 2; l++) {
            if (!levels[l]->available())
                continue;
            check_sums(&r, &c, c.bytes, width, code_generic.bytes, levels[l]->bytes);
            check_sums(&r, &c, c.nibbles, nibbles, code_generic.nibbles, levels[l]->nibbles);
            memset(c.q.bytes, 127, c.dim);
            check_sums(&r, &c, c.bytes, width, code_generic.bytes, levels[l]->bytes);
            check_sums(&r, &c, c.nibbles, nibbles, code_generic.nibbles, levels[l]->nibbles);
        }
        free_coded(&c);
    }
}
END_TEST

START_TEST(every_level_gives_the_same_codes)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t d = 0; d < DIMS; d++) {
        coded c = make_coded(&r, dims[d]);
        size_t size = codes_block_size(codes_lines(c.dim)), width = codes_nibbles_width(c.dim);
        uint8_t *block = aligned(size), *nibbles = aligned(width);
        for (size_t l = 0; l < 2; l++) {
            if (!levels[l]->available())
                continue;
            for (size_t i = 0; i < LANES; i++) {
                const float *row = c.rows + i * c.dim;
                codes_write_lane(levels[l], block, i % CODES_LANES, row, c.centroid, c.dim, (uint32_t)i, c.scales[i]);
                ck_assert_uint_eq(codes_to_nibbles(levels[l], row, c.dim, nibbles), c.scales[i]);
                ck_assert_mem_eq(nibbles, c.nibbles + i * width, width);
                if (i % CODES_LANES == CODES_LANES - 1)
                    ck_assert_mem_eq(block, c.blocks + i / CODES_LANES * size, size);
            }
        }
        free(block);
        free(nibbles);
        free_coded(&c);
    }
}
END_TEST

/* Of all that are as large as can be, in every place. */
START_TEST(sums_of_the_widest_vectors_fit)
{
    enum { WIDEST = CODES_DIM_MAX };
    float *ones = aligned(WIDEST * sizeof *ones), *none = aligned(WIDEST * sizeof *none);
    uint8_t *bytes = aligned(codes_width(WIDEST)), *nibbles = aligned(codes_nibbles_width(WIDEST));
    uint8_t *block = aligned((1 + 8) * codes_block_size(codes_lines(WIDEST))), *most = aligned(codes_width(WIDEST));
    int8_t *most_bytes = aligned(codes_query_width(WIDEST));
    code_query q;
    memset(most, 255, codes_width(WIDEST));
    memset(most_bytes, 127, codes_query_width(WIDEST));
    for (size_t i = 0; i < WIDEST; i++)
        ones[i] = 1;
    ck_assert(codes_query_reserve(&q, WIDEST));
    codes_prepare(&q, ones, WIDEST);
    const float byte_scale = codes_scale(codes_to_bytes(ones, WIDEST, bytes));
    const uint16_t scale = codes_to_nibbles(&code_generic, ones, WIDEST, nibbles);
    codes_clear_block(block, codes_lines(WIDEST));
    codes_write_lane(&code_generic, block, 0, ones, none, WIDEST, 7, scale);
    const code_kernel *const all[] = {&code_generic, &code_avx2, &code_avx512};
    const code_run run = {.blocks = block, .count = 1};
    for (size_t l = 0; l < 3; l++) {
        code_candidate found[LANES + 8];
        const uint8_t *byte_row = bytes, *nibble_row = nibbles, *most_row = most;
        int32_t sum;
        if (!all[l]->available())
            continue;
        all[l]->bytes(most_bytes, &most_row, 1, codes_width(WIDEST), &sum);
        ck_assert_int_eq(sum, 127 * 255 * WIDEST);
        all[l]->nibbles(most_bytes, &most_row, 1, codes_nibbles_width(WIDEST), &sum);
        ck_assert_int_eq(sum, 127 * 15 * WIDEST);
        all[l]->bytes(q.bytes, &byte_row, 1, codes_width(WIDEST), &sum);
        ck_assert_float_eq_tol(codes_byte_score(&q, sum, byte_scale), WIDEST, WIDEST * 0.02f);
        all[l]->nibbles(q.bytes, &nibble_row, 1, codes_nibbles_width(WIDEST), &sum);
        ck_assert_float_eq_tol(codes_nibble_score(&q, sum, codes_scale(scale)), WIDEST, WIDEST * 0.02f);
        ck_assert_uint_eq(all[l]->scan(&q, &run, 0, found), 1);
        ck_assert_float_eq_tol(found[0].score, WIDEST, WIDEST * 0.02f);
    }
    codes_query_free(&q);
    free(block);
    free(nibbles);
    free(bytes);
    free(most);
    free(most_bytes);
    free(none);
    free(ones);
}
END_TEST

/* What a lane holds, by its definition. */
START_TEST(lanes_hold_signs_and_their_numbers)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t d = 0; d < DIMS; d++) {
        coded c = make_coded(&r, dims[d]);
        size_t lines = codes_lines(c.dim), size = codes_block_size(lines);
        for (size_t i = 0; i < LANES; i++) {
            const uint8_t *block = c.blocks + i / CODES_LANES * size;
            const uint32_t *words = (const uint32_t *)(const void *)block + i % CODES_LANES;
            const code_tail *tail = codes_tail(block, lines);
            double squares = 0, sizes = 0, along = 0, signs = 0;
            for (size_t j = 0; j < c.dim; j++) {
                double o = c.centroid[j], x = c.rows[i * c.dim + j] - c.centroid[j];
                ck_assert_int_eq(words[j / CODES_BITS * CODES_LANES] >> j % CODES_BITS & 1, x > 0);
                squares += x * x;
                sizes += fabs(x);
                along += o * x;
                signs += x > 0 ? o : -o;
            }
            double factor = sizes > 0 ? squares / sizes : 0;
            double kept = (double)codes_scale(tail->factor[i % CODES_LANES]); /* of eight bits */
            ck_assert_double_eq_tol(kept, factor, factor / 256);
            ck_assert_double_eq_tol((double)tail->offset[i % CODES_LANES], along - kept * signs, 1e-5);
        }
        free_coded(&c);
    }
}
END_TEST

START_TEST(estimates_are_near_the_products)
{
    random_state r;
    random_seed(&r, testing_seed());
    enum { WIDE = 384 };
    double bits = 0, bytes = 0, nibbles = 0;
    coded c = make_coded(&r, WIDE);
    static code_candidate found[LANES + 8];
    const code_run run = {.blocks = c.blocks, .count = BLOCKS, .base = (float)product(c.query, c.centroid, WIDE)};
    size_t count = code_generic.scan(&c.q, &run, -FLT_MAX, found);
    ck_assert_uint_eq(count, LANES);
    for (size_t i = 0; i < LANES; i++) {
        const uint8_t *row = c.bytes + i * codes_width(WIDE);
        int32_t sum;
        code_generic.bytes(c.q.bytes, &row, 1, codes_width(WIDE), &sum);
        double exact = product(c.query, c.rows + i * WIDE, WIDE);
        double short_form = (double)codes_byte_score(&c.q, sum, codes_scale(c.byte_scales[i]));
        const uint8_t *four = c.nibbles + i * codes_nibbles_width(WIDE);
        code_generic.nibbles(c.q.bytes, &four, 1, codes_nibbles_width(WIDE), &sum);
        double shorter = (double)codes_nibble_score(&c.q, sum, codes_scale(c.scales[i]));
        ck_assert_uint_eq(found[i].place, i);
        bits += ((double)found[i].score - exact) * ((double)found[i].score - exact) / LANES;
        bytes += (short_form - exact) * (short_form - exact) / LANES;
        nibbles += (shorter - exact) * (shorter - exact) / LANES;
    }
    printf("error of bits %.4f, of nibbles %.4f, of bytes %.5f\n", sqrt(bits), sqrt(nibbles), sqrt(bytes));
    ck_assert_double_lt(sqrt(bits), 0.06);
    ck_assert_double_lt(sqrt(nibbles), 0.012);
    ck_assert_double_lt(sqrt(bytes), 0.002);
    free_coded(&c);
}
END_TEST

START_TEST(empty_lanes_are_never_candidates)
{
    random_state r;
    random_seed(&r, testing_seed());
    coded c = make_coded(&r, 100);
    size_t size = codes_block_size(codes_lines(100));
    static code_candidate found[LANES + 8];
    for (size_t b = 0; b < BLOCKS; b += 2)
        codes_clear_block(c.blocks + b * size, codes_lines(100));
    const code_run run = {.blocks = c.blocks, .count = BLOCKS};
    ck_assert_uint_eq(codes_choose()->scan(&c.q, &run, -FLT_MAX, found), LANES / 2);
    for (size_t i = 0; i < LANES / 2; i++)
        ck_assert_uint_eq(found[i].place / CODES_LANES % 2, 1);
    free_coded(&c);
}
END_TEST

START_TEST(vectors_of_zeros_have_codes)
{
    const float none[100] = {0};
    uint8_t bytes[128];
    float back[100];
    ck_assert_uint_eq(codes_to_bytes(none, 100, bytes), 0);
    codes_from_bytes(bytes, codes_scale(0), 100, back);
    ck_assert_mem_eq(back, none, sizeof none);
    uint8_t nibbles[64];
    ck_assert_uint_eq(codes_to_nibbles(&code_generic, none, 100, nibbles), 0);
    uint8_t *block = aligned(codes_block_size(codes_lines(100)));
    codes_clear_block(block, codes_lines(100));
    codes_write_lane(&code_generic, block, 3, none, none, 100, 7, 0);
    ck_assert_uint_eq(codes_tail(block, codes_lines(100))->factor[3], 0);
    ck_assert_float_eq(codes_tail(block, codes_lines(100))->offset[3], 0.0f);
    free(block);
}
END_TEST

/* --- the best of many */

int main(void)
{
    Suite *suite = suite_create("codes");
    TCase *tc = tcase_create("codes");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, every_level_finds_the_same_candidates);
    tcase_add_test(tc, every_level_sums_the_same_bytes_and_nibbles);
    tcase_add_test(tc, every_level_gives_the_same_codes);
    tcase_add_test(tc, sums_of_the_widest_vectors_fit);
    tcase_add_test(tc, lanes_hold_signs_and_their_numbers);
    tcase_add_test(tc, estimates_are_near_the_products);
    tcase_add_test(tc, empty_lanes_are_never_candidates);
    tcase_add_test(tc, vectors_of_zeros_have_codes);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
