/* Splits and merges beside searches and writes. */
#ifdef __SANITIZE_THREAD__
#define BATCH 4 /* it takes its time over each training, and many changes make many due */
#else
#define BATCH 20
#endif
#define CROWD 9000
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

/* Changes BATCH documents here and there between two looks until there was one, or a training in
 * its place: what dies of that makes a sweep due. */
static void change_until_one(crowd *c, uint64_t *operation, count_fn *count)
{
    size_t trainings = c->trainings;
    while (count(c) == 0 && c->trainings == trainings) {
        for (int j = 0; j < BATCH; j++) {
            uint32_t docno = (uint32_t)random_below(&c->w.random, STEADY);
            change(c, docno, random_below(&c->w.random, 100) == 0, ++*operation);
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void change_the_others(crowd *c, bool gone, uint64_t *operation)
{
    for (uint32_t d = STEADY; d < CROWD; d++)
        change(c, d, gone, ++*operation);
}

START_TEST(upkeep_never_loses_a_row_or_brings_one_back)
{
    vector_index_options options = usual;
    pthread_t threads[SEARCHERS + 1];
    uint64_t operation = 1;
    options.exact_below = STEADY - STEADY / 8; /* so that the others are no growth that makes training due */
    crowd *c = crowd_begin(&options, STEADY, threads);
    for (uint32_t d = 0; d < STEADY; d++)
        change(c, d, false, ++operation);
    do {
        while (vector_index_wants_training(c->w.index)) /* else k-means has cells for the others at once */
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        change_the_others(c, false, &operation);
        change_until_one(c, &operation, splits_of);
        change_the_others(c, true, &operation);
        change_until_one(c, &operation, merges_of);
    } while (splits_of(c) == 0 || merges_of(c) == 0);
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
