/* Memory that is used again. */
#include "tests/common/testing.h"

#include "base/buffer.h"
#include "base/pool.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20, THREADS = 4, ROUNDS = 20000, HELD = 16 };

static sem_error error;
static pool *p;

static void start(void)
{
    ck_ok(pool_create(&p, MOST, &error));
}

static pool_stats stats(void)
{
    pool_stats now;
    pool_get_stats(p, &now);
    return now;
}

START_TEST(what_was_given_back_is_used_again)
{
    start();
    for (size_t bytes = 0; bytes <= POOL_LARGEST; bytes = 3 * bytes + 1) {
        unsigned char *block = pool_take(p, bytes);
        ck_assert_ptr_nonnull(block);
        ck_assert_uint_eq((uintptr_t)block % 64, 0);
        memset(block, 7, bytes);
        pool_give(block);
        ck_assert_ptr_eq(pool_take(p, bytes), block);
        pool_give(block);
    }
    uint64_t allocated = stats().allocated;
    for (size_t bytes = 0; bytes <= POOL_LARGEST; bytes = 3 * bytes + 1)
        pool_give(pool_take(p, bytes));
    ck_assert_uint_eq(stats().allocated, allocated);
    pool_give(NULL);
    pool_destroy(p);
}
END_TEST

START_TEST(what_is_kept_has_a_limit)
{
    void *blocks[HELD];
    start();
    for (int i = 0; i < HELD; i++)
        ck_assert_ptr_nonnull(blocks[i] = pool_take(p, POOL_LARGEST));
    for (int i = 0; i < HELD; i++)
        pool_give(blocks[i]);
    ck_assert_uint_eq(stats().kept, MOST);
    pool_give(pool_take(p, POOL_LARGEST + 1)); /* too large to be kept */
    ck_assert_uint_eq(stats().kept, MOST);
    pool_destroy(p);
}
END_TEST

START_TEST(trim_frees_what_was_not_needed_since_the_last_one)
{
    start();
    void *one = pool_take(p, 1000), *two = pool_take(p, 1000);
    pool_give(one);
    pool_give(two);
    pool_trim(p);
    ck_assert_uint_eq(stats().kept, 2 * 1024); /* both were in use a moment ago */
    pool_give(pool_take(p, 1000));
    pool_trim(p);
    ck_assert_uint_eq(stats().kept, 1024);
    pool_trim(p);
    ck_assert_uint_eq(stats().kept, 0);
    pool_destroy(p);
}
END_TEST

START_TEST(without_a_pool_the_allocator_serves)
{
    unsigned char *block = pool_take_cleared(NULL, 3, 5);
    ck_assert_ptr_nonnull(block);
    for (int i = 0; i < 15; i++)
        ck_assert_int_eq(block[i], 0);
    pool_give(block);
    ck_assert_ptr_null(pool_take_array(NULL, SIZE_MAX / 2, 3));
    ck_assert_ptr_null(pool_take(NULL, SIZE_MAX));
}
END_TEST

START_TEST(a_block_that_grows_keeps_its_content)
{
    start();
    for (int pooled = 0; pooled < 2; pooled++) {
        buffer b = {.memory = pooled ? p : NULL};
        for (uint32_t i = 0; i < 300000; i++)
            ck_assert(buffer_append(&b, &i, sizeof i));
        for (uint32_t i = 0; i < 300000; i++) {
            uint32_t found;
            memcpy(&found, b.data + i * sizeof found, sizeof found);
            ck_assert_uint_eq(found, i);
        }
        buffer_free(&b);
        ck_assert_ptr_null(b.data);
        ck_assert_ptr_eq(b.memory, pooled ? p : NULL);
    }
    pool_destroy(p);
}
END_TEST

/* Each block holds its own address as long as it is somebody's. */
static void *use(void *argument)
{
    void **blocks[HELD] = {NULL};
    unsigned n = *(unsigned *)argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        n = n * 1103515245u + 12345u;
        unsigned at = n >> 16 & (HELD - 1);
        if (blocks[at] != NULL) {
            if (*blocks[at] != blocks[at])
                return argument;
            pool_give(blocks[at]);
        }
        blocks[at] = pool_take(p, 8u << (n >> 8 & 7));
        if (blocks[at] == NULL)
            return argument;
        *blocks[at] = blocks[at];
        if (n % 1000 == 0)
            pool_trim(p);
    }
    for (int i = 0; i < HELD; i++)
        pool_give(blocks[i]);
    return NULL;
}

START_TEST(threads_never_share_a_block)
{
    pthread_t threads[THREADS];
    unsigned seeds[THREADS];
    start();
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i + 1;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use, &seeds[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    pool_destroy(p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tests = tcase_create("pool");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, what_was_given_back_is_used_again);
    tcase_add_test(tests, what_is_kept_has_a_limit);
    tcase_add_test(tests, trim_frees_what_was_not_needed_since_the_last_one);
    tcase_add_test(tests, without_a_pool_the_allocator_serves);
    tcase_add_test(tests, a_block_that_grows_keeps_its_content);
    tcase_add_test(tests, threads_never_share_a_block);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
