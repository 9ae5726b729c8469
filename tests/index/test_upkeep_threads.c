/* Splits and merges beside searches and writes. */
#define CROWD 9000
#include "tests/common/testing.h"
#include "tests/index/crowd.h"

#include "index/vector_index.h"

#include <cblas.h>

enum {
    STEADY = 8000, /* documents that only come and go one by one; the others are of one topic */
    BATCH = 20,    /* changes between two looks */
    SPLITS = 3,
    MERGES = 3
};

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

/* Changes documents here and there until there is one more; or not, for so long. */
static void change_until_more(crowd *c, uint64_t *operation, count_fn *count)
{
    enum { TRIES = 200 };
    size_t before = count(c);
    for (int i = 0; i < TRIES && count(c) == before; i++) {
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
    while (splits_of(c) < SPLITS || merges_of(c) < MERGES || c->searches < 200) {
        for (uint32_t d = STEADY; d < CROWD; d++)
            change(c, d, false, ++operation);
        change_until_more(c, &operation, splits_of);
        for (uint32_t d = STEADY; d < CROWD; d++)
            change(c, d, true, ++operation);
        change_until_more(c, &operation, merges_of);
    }
    printf("%zu splits, %zu merges, %llu changes\n", splits_of(c), merges_of(c), (unsigned long long)operation);
    crowd_end(c, threads);
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
