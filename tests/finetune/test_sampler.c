#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/sampler.h"

#include <stdlib.h>
#include <string.h>

static sem_error error;

/* Pairs of one batch that share a key. */
static size_t clashes(const sampler *s, const sampler_keys *keys)
{
    size_t found = 0;
    for (size_t b = 0; b < sampler_batches(s); b++) {
        size_t n = 0;
        const uint32_t *members = sampler_batch(s, b, &n);
        for (size_t i = 0; i < n; i++) {
            for (size_t j = i + 1; j < n; j++) {
                const sampler_keys *x = &keys[members[i]], *y = &keys[members[j]];
                found += x->document == y->document || x->query == y->query ? 1 : 0;
            }
        }
    }
    return found;
}

/* Every pair once, and no batch larger or much smaller than the others. */
static void check_epoch(const sampler *s, size_t count, size_t batch_size)
{
    bool *seen = calloc(count, sizeof *seen);
    size_t total = 0, smallest = count, largest = 0;
    for (size_t b = 0; b < sampler_batches(s); b++) {
        size_t n = 0;
        const uint32_t *members = sampler_batch(s, b, &n);
        total += n;
        smallest = n < smallest ? n : smallest;
        largest = n > largest ? n : largest;
        for (size_t i = 0; i < n; i++) {
            ck_assert(members[i] < count && !seen[members[i]]);
            seen[members[i]] = true;
        }
    }
    free(seen);
    ck_assert_uint_eq(total, count);
    ck_assert_uint_le(largest, batch_size);
    ck_assert_uint_le(largest - smallest, 1);
}

static void fill_keys(sampler_keys *keys, size_t count, size_t documents, size_t queries)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < count; i++)
        keys[i] = (sampler_keys){.document = random_below(&r, documents), .query = random_below(&r, queries)};
}

START_TEST(epoch_holds_every_pair_once)
{
    const struct {
        size_t count, batch;
    } cases[] = {{1, 64}, {2, 1}, {63, 64}, {64, 64}, {65, 64}, {100, 64}, {2560, 64}, {1000, 7}, {17, 17}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sampler *s = NULL;
        sampler_keys *keys = calloc(cases[i].count, sizeof *keys);
        fill_keys(keys, cases[i].count, 50, 50);
        ck_ok(sampler_create(&s, keys, cases[i].count, cases[i].batch, testing_seed(), &error));
        for (size_t epoch = 0; epoch < 3; epoch++) {
            sampler_begin_epoch(s, epoch);
            check_epoch(s, cases[i].count, cases[i].batch);
        }
        sampler_destroy(s);
        free(keys);
    }
}
END_TEST

START_TEST(pairs_of_one_document_or_query_are_kept_apart)
{
    enum { COUNT = 2560 };
    sampler *s = NULL;
    sampler_keys keys[COUNT];
    fill_keys(keys, COUNT, 800, 1500);
    /* The most popular document fills every one of the 40 batches exactly once. */
    for (size_t i = 0; i < 40; i++)
        keys[i].document = 9000;
    ck_ok(sampler_create(&s, keys, COUNT, 64, testing_seed(), &error));
    for (size_t epoch = 0; epoch < 5; epoch++) {
        sampler_begin_epoch(s, epoch);
        ck_assert_uint_eq(clashes(s, keys), 0);
    }
    sampler_destroy(s);
}
END_TEST

START_TEST(document_more_frequent_than_batches_is_spread_evenly)
{
    enum { COUNT = 640, POPULAR = 30 };
    sampler *s = NULL;
    sampler_keys keys[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        keys[i] = (sampler_keys){.document = i < POPULAR ? 0 : i, .query = i};
    ck_ok(sampler_create(&s, keys, COUNT, 64, testing_seed(), &error));
    sampler_begin_epoch(s, 0);
    check_epoch(s, COUNT, 64);
    for (size_t b = 0; b < sampler_batches(s); b++) {
        size_t n = 0, popular = 0;
        const uint32_t *members = sampler_batch(s, b, &n);
        for (size_t i = 0; i < n; i++)
            popular += members[i] < POPULAR ? 1 : 0;
        ck_assert_uint_eq(popular, POPULAR / 10);
    }
    sampler_destroy(s);
}
END_TEST

START_TEST(order_is_a_function_of_seed_and_epoch)
{
    enum { COUNT = 300 };
    sampler *a = NULL, *b = NULL;
    sampler_keys keys[COUNT];
    uint32_t first[COUNT];
    size_t n = 0;
    fill_keys(keys, COUNT, 1000, 1000);
    ck_ok(sampler_create(&a, keys, COUNT, COUNT, 5, &error));
    ck_ok(sampler_create(&b, keys, COUNT, COUNT, 5, &error));
    sampler_begin_epoch(a, 0);
    memcpy(first, sampler_batch(a, 0, &n), sizeof first);
    sampler_begin_epoch(b, 1);
    ck_assert(memcmp(first, sampler_batch(b, 0, &n), sizeof first) != 0);
    sampler_begin_epoch(b, 0);
    ck_assert(memcmp(first, sampler_batch(b, 0, &n), sizeof first) == 0);
    sampler_destroy(a);
    sampler_destroy(b);
    ck_ok(sampler_create(&b, keys, COUNT, COUNT, 6, &error));
    sampler_begin_epoch(b, 0);
    ck_assert(memcmp(first, sampler_batch(b, 0, &n), sizeof first) != 0);
    sampler_destroy(b);
}
END_TEST

START_TEST(one_document_alone_takes_linear_time)
{
    enum { COUNT = 200000 };
    sampler *s = NULL;
    sampler_keys *keys = calloc(COUNT, sizeof *keys);
    for (size_t i = 0; i < COUNT; i++)
        keys[i].query = i;
    ck_ok(sampler_create(&s, keys, COUNT, 64, 1, &error));
    sampler_begin_epoch(s, 0);
    check_epoch(s, COUNT, 64);
    sampler_destroy(s);
    free(keys);
}
END_TEST

START_TEST(no_pairs_and_empty_batches_are_refused)
{
    sampler *s = NULL;
    sampler_keys key = {0};
    ck_fails(sampler_create(&s, &key, 0, 64, 1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(sampler_create(&s, &key, 1, 0, 1, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampler");
    TCase *tests = tcase_create("sampler");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, epoch_holds_every_pair_once);
    tcase_add_test(tests, pairs_of_one_document_or_query_are_kept_apart);
    tcase_add_test(tests, document_more_frequent_than_batches_is_spread_evenly);
    tcase_add_test(tests, order_is_a_function_of_seed_and_epoch);
    tcase_add_test(tests, one_document_alone_takes_linear_time);
    tcase_add_test(tests, no_pairs_and_empty_batches_are_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
