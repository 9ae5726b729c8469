/* Choosing the best of many, by every kernel's way of counting them. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "index/candidates.h"
#include "index/stages.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 500 };

static const code_kernel *const levels[] = {&code_generic, &code_avx2, &code_avx512};
enum { LEVELS = sizeof levels / sizeof levels[0] };

static const code_kernel *level(int i)
{
    if (levels[i]->available())
        return levels[i];
    printf("skipped: this machine has no %s\n", levels[i]->name);
    return NULL;
}

static bool smaller(const void *context, uint32_t a, uint32_t b)
{
    (void)context;
    return a < b;
}

static int by_score(const void *a, const void *b)
{
    const code_candidate *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Few different scores in some rounds, and scores below and above zero. */
static size_t make_candidates(random_state *r, size_t round, code_candidate c[MANY], code_candidate sorted[MANY])
{
    size_t count = 1 + random_below(r, MANY);
    uint64_t values = 1 + random_below(r, round % 3 == 0 ? 3 : 1000);
    float unit = round % 5 == 0 ? 1e30f : 0.01f;
    for (size_t i = 0; i < count; i++) {
        float score = ((float)random_below(r, values) - (float)values / 3) * unit;
        /* 7919 is a prime beyond MANY: all places differ. */
        c[i] = sorted[i] = (code_candidate){.place = (uint32_t)(i * 7919 % 100003), .score = score};
    }
    qsort(sorted, count, sizeof *sorted, by_score);
    return count;
}

/* rough: a quarter more may be left. finite: so is the score of all, which says more of the bound. */
static void check_choice(const code_kernel *kernel, code_candidate *c, const code_candidate *sorted, size_t count,
                         size_t keep, bool rough, bool finite)
{
    float bound = candidates_bound(kernel, c, count, keep);
    size_t left = keep;
    ck_assert(bound <= sorted[keep - 1].score);
    ck_assert(!finite || keep == count || bound >= sorted[keep].score);
    if (rough)
        left = candidates_keep(kernel, c, count, keep, &bound, smaller, NULL);
    else
        bound = candidates_cut(kernel, c, count, keep, smaller, NULL);
    ck_assert(left >= keep && left <= keep + keep / 4);
    ck_assert(bound <= sorted[left - 1].score);
    ck_assert(!finite || left == count || bound >= sorted[left].score);
    qsort(c, left, sizeof *c, by_score);
    ck_assert_mem_eq(c, sorted, left * sizeof *c);
}

static void check_choices(const code_kernel *kernel, bool rough)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t round = 0; kernel != NULL && round < 300; round++) {
        code_candidate c[MANY], sorted[MANY];
        size_t count = make_candidates(&r, round, c, sorted);
        check_choice(kernel, c, sorted, count, 1 + random_below(&r, count), rough, true);
    }
}

START_TEST(a_cut_keeps_the_best_and_breaks_ties_by_order)
{
    check_choices(level(_i), false);
}
END_TEST

START_TEST(a_rough_cut_keeps_the_best_and_few_others)
{
    check_choices(level(_i), true);
}
END_TEST

START_TEST(all_kernels_count_and_gather_alike)
{
    random_state r;
    random_seed(&r, testing_seed());
    const code_kernel *kernel = level(_i);
    for (size_t round = 0; kernel != NULL && round < 300; round++) {
        code_candidate c[MANY], same[MANY], sorted[MANY];
        size_t count = make_candidates(&r, round, c, sorted);
        memcpy(same, c, sizeof c);
        float least = round % 7 == 0 ? FLT_MAX : c[random_below(&r, count)].score, low, high;
        kernel->range(c, count, &low, &high);
        ck_assert_float_eq(low, sorted[count - 1].score);
        ck_assert_float_eq(high, sorted[0].score);
        size_t able = code_generic.count(c, count, least);
        ck_assert_uint_eq(able, code_generic.gather(c, count, least));
        ck_assert_uint_eq(able, kernel->count(same, count, least));
        ck_assert_uint_eq(able, kernel->gather(same, count, least));
        ck_assert_mem_eq(same, c, able * sizeof *c);
    }
}
END_TEST

/* What huge numbers give: infinite scores between others, few or more than are kept. */
START_TEST(infinite_scores_are_the_best)
{
    random_state r;
    random_seed(&r, testing_seed());
    const code_kernel *kernel = level(_i);
    for (size_t round = 0; kernel != NULL && round < 300; round++) {
        code_candidate c[MANY], sorted[MANY];
        size_t count = make_candidates(&r, round, c, sorted), keep = 1 + random_below(&r, count);
        uint64_t one_in = 1 + random_below(&r, 20);
        for (size_t i = 0; i < count; i++)
            if (random_below(&r, one_in) == 0)
                c[i].score = round % 4 == 0 ? FLT_MAX : INFINITY;
        c[random_below(&r, count)].score = round % 2 == 0 ? -FLT_MAX : 0;
        memcpy(sorted, c, count * sizeof *c);
        qsort(sorted, count, sizeof *sorted, by_score);
        check_choice(kernel, c, sorted, count, keep, round % 3 == 0, false);
    }
}
END_TEST

enum { CELLS = 300 };

static void make_cells(random_state *r, float scores[CELLS], uint32_t order[CELLS])
{
    for (uint32_t i = 0; i < CELLS; i++) {
        order[i] = i;
        scores[i] = (float)random_below(r, 100);
    }
}

START_TEST(cells_are_sorted_and_equal_ones_by_their_numbers)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (int round = 0; round < 50; round++) {
        float scores[CELLS];
        uint32_t order[CELLS];
        make_cells(&r, scores, order);
        candidates_order(order, CELLS, scores);
        for (size_t i = 1; i < CELLS; i++) {
            float before = scores[order[i - 1]], here = scores[order[i]];
            ck_assert(before > here || (before == here && order[i - 1] < order[i]));
        }
    }
}
END_TEST

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

START_TEST(the_same_cells_are_chosen_without_order)
{
    random_state r;
    random_seed(&r, testing_seed());
    code_candidate room[CELLS];
    const code_kernel *kernel = level(_i);
    for (int round = 0; kernel != NULL && round < 50; round++) {
        float scores[CELLS];
        uint32_t order[CELLS], expected[CELLS];
        make_cells(&r, scores, order);
        for (size_t i = 0; round % 2 == 0 && i < CELLS; i++)
            scores[i] += (float)i / CELLS; /* no two alike */
        memcpy(expected, order, sizeof order);
        candidates_order(expected, CELLS, scores);
        for (size_t from = 0; from < CELLS;) {
            size_t want = 1 + random_below(&r, 80), end = from + want < CELLS ? from + want : CELLS;
            candidates_choose(kernel, order + from, CELLS - from, want, scores, room);
            qsort(order + from, end - from, sizeof *order, by_number);
            qsort(expected + from, end - from, sizeof *order, by_number);
            ck_assert_mem_eq(order + from, expected + from, (end - from) * sizeof *order);
            from = end;
        }
    }
}
END_TEST

/* The first as many as were planned; then each time no more than there were, and the nearest. */
START_TEST(cells_beyond_those_planned_come_in_growing_steps)
{
    enum { PLANNED = 10 };
    random_state r;
    random_seed(&r, testing_seed());
    sem_error error;
    search_scratch scratch = {0};
    lists l = {.kernel = codes_choose(), .nlist = CELLS};
    stages s = {.lists = &l, .scratch = &scratch, .listed = CELLS};
    ck_ok(coarse_scores_reserve(&scratch.cells, CELLS, &error));
    make_cells(&r, scratch.cells.of, scratch.cells.order);
    for (size_t n = 0, from = 0; n < CELLS; from = n) {
        stages_cell(&s, n, PLANNED);
        size_t end = s.ordered;
        ck_assert_uint_gt(end, n);
        ck_assert_uint_le(end, from == 0 ? PLANNED : 2 * from);
        for (; n < end; n++)
            for (size_t later = end; later < CELLS; later++)
                ck_assert(scratch.cells.of[stages_cell(&s, n, PLANNED)] >=
                          scratch.cells.of[scratch.cells.order[later]]);
    }
    coarse_scores_free(&scratch.cells);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("candidates");
    TCase *tc = tcase_create("candidates");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, a_cut_keeps_the_best_and_breaks_ties_by_order, 0, LEVELS);
    tcase_add_loop_test(tc, a_rough_cut_keeps_the_best_and_few_others, 0, LEVELS);
    tcase_add_loop_test(tc, all_kernels_count_and_gather_alike, 0, LEVELS);
    tcase_add_loop_test(tc, infinite_scores_are_the_best, 0, LEVELS);
    tcase_add_test(tc, cells_are_sorted_and_equal_ones_by_their_numbers);
    tcase_add_loop_test(tc, the_same_cells_are_chosen_without_order, 0, LEVELS);
    tcase_add_test(tc, cells_beyond_those_planned_come_in_growing_steps);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
