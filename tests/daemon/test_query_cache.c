/* The cache of query embeddings. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "daemon/query_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 8, LIMIT = 64 << 10, THREADS = 4, ROUNDS = 20000, TEXTS = 500 };

static sem_error error;
static query_cache *cache;

static void start(size_t bytes)
{
    ck_ok(query_cache_create(&cache, bytes, &error));
    query_cache_set_generation(cache, 1);
}

static void end(void)
{
    query_cache_destroy(cache);
    cache = NULL;
}

/* What number n of a generation becomes: told from every other by its values. */
static void put(uint32_t generation, const char *prompt, int n)
{
    char text[32];
    float vector[DIM];
    for (int i = 0; i < DIM; i++)
        vector[i] = (float)(n * 100 + i) + (float)generation * 0.25f;
    int size = snprintf(text, sizeof text, "text %d", n);
    query_cache_put(cache, &(cached_query){.generation = generation,
                                           .prompt = prompt,
                                           .text = text,
                                           .size = (size_t)size,
                                           .vector = vector,
                                           .dim = DIM,
                                           .tokens = (uint32_t)n + 3,
                                           .truncated = n % 2 == 1});
}

/* Whether it is known; if so, right in all its parts. */
static bool known(uint32_t generation, const char *prompt, int n)
{
    char text[32];
    float vector[DIM];
    int size = snprintf(text, sizeof text, "text %d", n);
    cached_query q = {
        .generation = generation, .prompt = prompt, .text = text, .size = (size_t)size, .vector = vector, .dim = DIM};
    if (!query_cache_get(cache, &q))
        return false;
    for (int i = 0; i < DIM; i++)
        ck_assert(vector[i] == (float)(n * 100 + i) + (float)generation * 0.25f);
    ck_assert_uint_eq(q.tokens, (uint32_t)n + 3);
    ck_assert_int_eq(q.truncated, n % 2 == 1);
    return true;
}

static query_cache_stats stats(void)
{
    query_cache_stats now;
    query_cache_get_stats(cache, &now);
    return now;
}

START_TEST(a_query_asked_again_is_known)
{
    start(LIMIT);
    ck_assert(!known(1, "", 7));
    put(1, "", 7);
    ck_assert(known(1, "", 7));
    ck_assert(!known(1, "", 8));
    put(1, "", 7); /* no second entry */
    ck_assert_uint_eq(stats().entries, 1);
    ck_assert_uint_eq(stats().hits, 1);
    ck_assert_uint_eq(stats().misses, 2);
    end();
}
END_TEST

START_TEST(prompts_are_told_apart_from_each_other_and_from_texts)
{
    start(LIMIT);
    float one[DIM] = {1}, got[DIM] = {0};
    cached_query q = {.generation = 1, .prompt = "ab", .text = "c", .size = 1, .vector = one, .dim = DIM};
    query_cache_put(cache, &q);
    q.vector = got;
    q.prompt = "a";
    q.text = "bc";
    q.size = 2;
    ck_assert(!query_cache_get(cache, &q));
    q.prompt = "ab";
    q.text = "c";
    q.size = 1;
    ck_assert(query_cache_get(cache, &q));
    ck_assert(got[0] == 1.0f);
    q.as_document = true;
    ck_assert(!query_cache_get(cache, &q));
    q.as_document = false;
    q.dim = DIM - 1;
    ck_assert(!query_cache_get(cache, &q));
    end();
}
END_TEST

START_TEST(memory_is_bounded_and_the_least_recently_used_leave)
{
    start(LIMIT);
    int n = 0;
    while (stats().evictions == 0)
        put(1, "", n++);
    ck_assert_uint_le(stats().bytes, LIMIT);
    ck_assert_uint_gt(stats().bytes, LIMIT - 1024);
    ck_assert(!known(1, "", 0)); /* the first to come is the first to leave */
    ck_assert(known(1, "", 1));  /* and is now the newest */
    put(1, "", n);
    ck_assert(!known(1, "", 2));
    ck_assert(known(1, "", 1));
    for (int i = 0; i < 100000; i++) {
        put(1, i % 2 == 0 ? "query: " : "", n + i);
        ck_assert_uint_le(stats().bytes, LIMIT);
    }
    ck_assert(known(1, "", n + 99999));
    ck_assert(!known(1, "", 1));
    end();
}
END_TEST

START_TEST(a_text_of_great_length_does_not_drive_the_others_out)
{
    start(LIMIT);
    for (int i = 0; i < 100; i++)
        put(1, "", i);
    size_t size = LIMIT / 2;
    char *text = calloc(1, size);
    float vector[DIM] = {1};
    ck_assert_ptr_nonnull(text);
    cached_query q = {.generation = 1, .prompt = "", .text = text, .size = size, .vector = vector, .dim = DIM};
    query_cache_put(cache, &q);
    ck_assert(!query_cache_get(cache, &q));
    ck_assert_uint_eq(stats().entries, 100);
    free(text);
    end();
}
END_TEST

START_TEST(a_flip_forgets_all_and_takes_nothing_of_the_past)
{
    start(LIMIT);
    size_t empty = stats().bytes;
    for (int i = 0; i < 100; i++)
        put(1, "", i);
    query_cache_set_generation(cache, 2);
    ck_assert_uint_eq(stats().entries, 0);
    ck_assert_uint_eq(stats().bytes, empty);
    ck_assert(!known(2, "", 5));
    ck_assert(!known(1, "", 5));
    put(1, "", 5); /* a request that began before the flip */
    ck_assert_uint_eq(stats().entries, 0);
    put(2, "", 5);
    ck_assert(known(2, "", 5));
    ck_assert(!known(1, "", 5));
    query_cache_set_generation(cache, 1); /* a rollback */
    ck_assert(!known(1, "", 5));
    ck_assert(!known(2, "", 5));
    end();
}
END_TEST

START_TEST(no_memory_means_no_cache)
{
    start(0);
    put(1, "", 1);
    ck_assert(!known(1, "", 1));
    ck_assert_uint_eq(stats().bytes, 0);
    ck_assert_uint_eq(stats().misses, 0);
    end();
}
END_TEST

static atomic_uint running;

/* The generation is looked at before and after: only one that did not change
 * between says what must be found. */
static void *use(void *argument)
{
    uint64_t seed = *(const uint64_t *)argument;
    random_state r;
    random_seed(&r, seed);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t generation = atomic_load(&running);
        int n = (int)(random_next(&r) % TEXTS);
        if (!known(generation, "p", n))
            put(generation, "p", n);
    }
    return NULL;
}

START_TEST(many_threads_never_see_a_wrong_vector)
{
    uint64_t seed = testing_seed(), seeds[THREADS];
    pthread_t threads[THREADS];
    start(LIMIT);
    atomic_store(&running, 1);
    for (uint64_t i = 0; i < THREADS; i++) {
        seeds[i] = seed + i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use, &seeds[i]), 0);
    }
    for (uint32_t g = 2; g < 200; g++) {
        atomic_store(&running, g);
        query_cache_set_generation(cache, g);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(stats().hits + stats().misses, (uint64_t)THREADS * ROUNDS);
    ck_assert_uint_gt(stats().hits, 0);
    ck_assert_uint_le(stats().bytes, LIMIT);
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("query cache");
    TCase *tests = tcase_create("query cache");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_query_asked_again_is_known);
    tcase_add_test(tests, prompts_are_told_apart_from_each_other_and_from_texts);
    tcase_add_test(tests, memory_is_bounded_and_the_least_recently_used_leave);
    tcase_add_test(tests, a_text_of_great_length_does_not_drive_the_others_out);
    tcase_add_test(tests, a_flip_forgets_all_and_takes_nothing_of_the_past);
    tcase_add_test(tests, no_memory_means_no_cache);
    tcase_add_test(tests, many_threads_never_see_a_wrong_vector);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
