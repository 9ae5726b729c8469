/* Splits and merges beside searches and writes. */
#ifdef __SANITIZE_THREAD__
#define CROWD 3400 /* it takes its time over each training, and many changes make many due */
#define BATCH 4
#else
#define CROWD 9000
#define BATCH 20
#endif
#include "tests/common/testing.h"
#include "tests/index/crowd.h"

#include "index/vector_index.h"

#include <cblas.h>

/* Documents that only come and go one by one; the others are of one topic. */
enum { STEADY = CROWD - CROWD / 9 };

typedef size_t count_fn(crowd *c);

static size_t splits_of(crowd *c)
{
    vector_index_stats stats;
    vector_index_describe(c->w.index, &stats);
    return stats.splits;
}

static size_t merges_of(crowd *c)
{
    vector_index_stats stats;
    vector_index_describe(c->w.index, &stats);
    return stats.merges;
}

/* Changes BATCH documents here and there between two looks until there was one: what dies of
 * that makes a sweep due. */
static void change_until_one(crowd *c, uint64_t *operation, count_fn *count)
{
    while (count(c) == 0) {
        for (int j = 0; j < BATCH; j++) {
            uint32_t docno = (uint32_t)random_below(&c->w.random, STEADY);
            change(c, docno, random_below(&c->w.random, 100) == 0, ++*operation);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

START_TEST(upkeep_never_loses_a_row_or_brings_one_back)
{
    vector_index_options options = usual;
    pthread_t threads[SEARCHERS + 1];
    uint64_t operation = 1;
    options.exact_below = 500;
    crowd *c = crowd_begin(&options, STEADY, threads);
    for (uint32_t d = 0; d < STEADY; d++)
        change(c, d, false, ++operation);
    while (vector_index_wants_training(c->w.index)) /* else k-means has cells for the crowd at once */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    for (uint32_t d = STEADY; d < CROWD; d++)
        change(c, d, false, ++operation);
    change_until_one(c, &operation, splits_of);
    for (uint32_t d = STEADY; d < CROWD; d++)
        change(c, d, true, ++operation);
    change_until_one(c, &operation, merges_of);
    printf("%zu splits, %zu merges, %llu changes\n", splits_of(c), merges_of(c), (unsigned long long)operation);
    check_crowd(c, threads);
}
END_TEST

int main(void)
{
    openblas_set_num_threads(1);
    Suite *suite = suite_create("upkeep_threads");
    TCase *tc = tcase_create("upkeep_threads");
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, upkeep_never_loses_a_row_or_brings_one_back);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
