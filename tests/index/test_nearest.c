/* The nearest centroids of many rows at a time: as one row at a time finds them. */
#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "index/lists.h"
#include "index/nearest.h"
#include "index/refine.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 37 };

static const size_t dims[] = {1, 4, 63, 64, 65, 100, 384, 385};
static const size_t counts[] = {1, 15, 16, 65, 300};
enum { DIMS = sizeof dims / sizeof dims[0], COUNTS = sizeof counts / sizeof counts[0] };
static const nearest_kernel *const levels[] = {&nearest_avx2, &nearest_avx512};

static sem_error error;

/* Rows and centroids, some of them equal. */
typedef struct world_here {
    size_t dim, count;
    float *vectors, *centroids;
    uint8_t *bytes;
    float *scales, *extras;
    byte_rows rows;
    panels panels;
} world_here;

/* NULL: from the test's seed. */
static world_here make(random_state *r, size_t dim, size_t count, bool dot)
{
    random_state own;
    if (r == NULL) {
        random_seed(&own, testing_seed());
        r = &own;
    }
    world_here w = {.dim = dim, .count = count};
    w.vectors = clustered_points(r, ROWS, dim, 4, 0.8f);
    w.centroids = clustered_points(r, count, dim, 4, 0.8f);
    w.bytes = aligned_alloc(64, count * codes_width(dim));
    w.scales = calloc(count, sizeof *w.scales);
    w.extras = calloc(count, sizeof *w.extras);
    if (count > 10)
        memcpy(w.centroids + 9 * dim, w.centroids + 3 * dim, dim * sizeof(float));
    for (size_t c = 0; c < count; c++) {
        w.scales[c] = codes_scale(codes_to_bytes(w.centroids + c * dim, dim, w.bytes + c * codes_width(dim)));
        w.extras[c] = !dot || c == 3 || c == 9 ? 0.0f : (float)random_below(r, 1000) / 1000.0f;
    }
    ck_assert(byte_rows_reserve(&w.rows, ROWS, dim));
    for (size_t i = 0; i < ROWS; i++)
        byte_rows_set(&w.rows, i, w.vectors + i * dim, dot ? (float)random_below(r, 1000) / 1000.0f : 0.0f);
    ck_ok(panels_create(&w.panels, w.bytes, w.scales, dot ? w.extras : NULL, count, dim, &error));
    return w;
}

static void unmake(world_here *w)
{
    free(w->vectors);
    free(w->centroids);
    free(w->bytes);
    free(w->scales);
    free(w->extras);
    byte_rows_free(&w->rows);
    panels_free(&w->panels);
}

static void find(world_here *w, const nearest_kernel *kernel, size_t keep, near_cells near[ROWS])
{
    w->panels.kernel = kernel;
    panels_nearest(&w->panels, &w->rows, 0, ROWS, keep, near);
}

static void expect_same_of_levels(random_state *r, size_t dim, size_t count, bool dot, size_t keep)
{
    world_here w = make(r, dim, count, dot);
    near_cells want[ROWS], found[ROWS];
    find(&w, &nearest_generic, keep, want);
    for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++) {
        if (!levels[l]->available()) {
            fprintf(stderr, "this machine has no %s: not compared\n", levels[l]->name);
            continue;
        }
        find(&w, levels[l], keep, found);
        for (size_t i = 0; i < ROWS; i++) {
            ck_assert_uint_eq(found[i].count, want[i].count);
            ck_assert_mem_eq(found[i].cells, want[i].cells, want[i].count * sizeof want[i].cells[0]);
            ck_assert_mem_eq(found[i].scores, want[i].scores, want[i].count * sizeof want[i].scores[0]);
        }
    }
    unmake(&w);
}

START_TEST(every_level_finds_the_same_centroids)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t d = 0; d < DIMS; d++)
        for (size_t c = 0; c < COUNTS; c++) {
            expect_same_of_levels(&r, dims[d], counts[c], false, 1);
            expect_same_of_levels(&r, dims[d], counts[c], false, NEAREST_MAX);
            expect_same_of_levels(&r, dims[d], counts[c], true, NEAREST_MAX);
        }
}
END_TEST

START_TEST(what_is_found_is_what_bytes_say_of_all_centroids)
{
    world_here w = make(NULL, 100, 300, true);
    near_cells found[ROWS];
    find(&w, nearest_choose(), NEAREST_MAX, found);
    for (size_t i = 0; i < ROWS; i++) {
        ck_assert_uint_eq(found[i].count, NEAREST_MAX);
        near_cells want = {.keep = NEAREST_MAX};
        for (uint32_t c = 0; c < w.count; c++) {
            float back[100], there[100], sum = w.rows.extras[i] * w.extras[c];
            uint8_t bytes[128];
            float scale = codes_scale(codes_to_bytes(w.vectors + i * w.dim, w.dim, bytes));
            codes_from_bytes(bytes, scale, w.dim, back);
            codes_from_bytes(w.bytes + c * codes_width(w.dim), w.scales[c], w.dim, there);
            for (size_t j = 0; j < w.dim; j++)
                sum += back[j] * there[j];
            near_cells_note(&want, c, sum);
        }
        for (size_t n = 0; n < NEAREST_MAX; n++)
            ck_assert_float_eq_tol(found[i].scores[n], want.scores[n], 1e-4f);
    }
    unmake(&w);
}
END_TEST

START_TEST(of_equal_centroids_the_first_comes_first)
{
    world_here w = make(NULL, 64, 65, false);
    near_cells found[ROWS];
    byte_rows_set(&w.rows, 5, w.centroids + 3 * (size_t)64, 0.0f); /* one row at least is near both */
    find(&w, nearest_choose(), NEAREST_MAX, found);
    size_t met = 0;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t n = 0; n < NEAREST_MAX; n++)
            if (found[i].cells[n] == 9) {
                ck_assert_uint_gt(n, 0);
                ck_assert_uint_eq(found[i].cells[n - 1], 3);
                met++;
            }
    ck_assert_uint_gt(met, 0);
    unmake(&w);
}
END_TEST

START_TEST(where_no_product_is_a_number_there_is_still_a_centroid)
{
    world_here w = make(NULL, 64, 65, false);
    near_cells found[ROWS];
    for (size_t c = 0; c < 65; c++)
        w.panels.scales[c] = NAN;
    find(&w, nearest_choose(), NEAREST_MAX, found);
    for (size_t i = 0; i < ROWS; i++) {
        ck_assert_uint_eq(found[i].count, 1);
        ck_assert_uint_eq(found[i].cells[0], 0);
        ck_assert_float_eq(found[i].scores[0], -FLT_MAX);
    }
    unmake(&w);
}
END_TEST

/* Mean product of the rows with their nearest centroid. */
static double nearness(world_here *w)
{
    near_cells found[ROWS];
    double sum = 0;
    for (size_t c = 0; c < w->count; c++)
        w->scales[c] =
            codes_scale(codes_to_bytes(w->centroids + c * w->dim, w->dim, w->bytes + c * codes_width(w->dim)));
    panels_free(&w->panels);
    ck_ok(panels_create(&w->panels, w->bytes, w->scales, NULL, w->count, w->dim, &error));
    find(w, nearest_choose(), 1, found);
    for (size_t i = 0; i < ROWS; i++)
        sum += (double)found[i].scores[0];
    return sum / ROWS;
}

START_TEST(rounds_bring_centroids_nearer_and_leave_those_without_rows)
{
    enum { DIM = 64, CELLS = 5 };
    world_here w = make(NULL, DIM, CELLS, false);
    float lost[DIM];
    for (size_t i = 0; i < DIM; i++) /* opposite to a row, and so to its neighbours */
        lost[i] = w.centroids[2 * DIM + i] = -w.vectors[i];
    double before = nearness(&w);
    refine_input in = {.points = &w.rows, .count = ROWS, .nlist = CELLS, .wide = DIM, .rounds = 3, .threads = 2};
    ck_ok(refine_cells(&in, w.centroids, &error));
    ck_assert_double_gt(nearness(&w), before);
    near_cells found[ROWS];
    find(&w, nearest_choose(), 1, found);
    bool used = false;
    for (size_t i = 0; i < ROWS; i++)
        used = used || found[i].cells[0] == 2;
    if (!used)
        ck_assert_mem_eq(w.centroids + 2 * DIM, lost, sizeof lost);
    for (size_t c = 0; c < CELLS; c++) {
        double squares = 0;
        for (size_t i = 0; i < DIM; i++)
            squares += (double)w.centroids[c * DIM + i] * (double)w.centroids[c * DIM + i];
        ck_assert_double_eq_tol(squares, 1.0, 1e-4);
    }
    unmake(&w);
}
END_TEST

START_TEST(rounds_can_be_cancelled)
{
    world_here w = make(NULL, 64, 5, false);
    atomic_bool cancel;
    atomic_init(&cancel, true);
    refine_input in = {
        .points = &w.rows, .count = ROWS, .nlist = 5, .wide = 64, .rounds = 3, .threads = 1, .cancel = &cancel};
    ck_assert_int_eq(refine_cells(&in, w.centroids, &error), SEM_CANCELLED);
    unmake(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nearest");
    TCase *tc = tcase_create("nearest");
    tcase_add_test(tc, every_level_finds_the_same_centroids);
    tcase_add_test(tc, what_is_found_is_what_bytes_say_of_all_centroids);
    tcase_add_test(tc, of_equal_centroids_the_first_comes_first);
    tcase_add_test(tc, where_no_product_is_a_number_there_is_still_a_centroid);
    tcase_add_test(tc, rounds_bring_centroids_nearer_and_leave_those_without_rows);
    tcase_add_test(tc, rounds_can_be_cancelled);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
