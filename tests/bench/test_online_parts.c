#include "tests/common/testing.h"

#include "bench/online/memory.h"
#include "bench/online/texts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sem_error error;

START_TEST(anonymous_memory_is_read_in_bytes)
{
    ck_assert_uint_eq(memory_parse("VmRSS:\t  900 kB\nRssAnon:\t    1234 kB\nRssFile:\t  5 kB\n"), 1234 * 1024);
    ck_assert_uint_eq(memory_parse("VmRSS:\t  900 kB\n"), 0);
}
END_TEST

START_TEST(a_peak_is_seen_once_and_forgotten)
{
    enum { BYTES = 64 << 20 };
    memory_watch *m;
    ck_ok(memory_watch_start(&m, getpid(), &error));
    uint64_t before = memory_watch_peak(m);
    /* Not malloc: a sanitizer keeps what was freed. */
    volatile char *much = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(much != MAP_FAILED);
    for (size_t i = 0; i < BYTES; i += 4096)
        much[i] = 1;
    uint64_t with = memory_watch_peak(m);
    ck_assert_int_eq(munmap((void *)(uintptr_t)much, BYTES), 0);
    memory_watch_peak(m);
    uint64_t after = memory_watch_peak(m);
    memory_watch_stop(m);
    ck_assert_uint_ge(with, before + BYTES / 2);
    ck_assert_uint_lt(after, with);
}
END_TEST

enum { MORE = 100 };

/* A corpus of made packages. */
static void make_texts(online_texts *t)
{
    const char *path = testing_path("packages.jsonl");
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < CORPUS_DOCUMENTS + MORE; i++)
        fprintf(out, "{\"name\":\"p%d\",\"section\":\"s\",\"en\":\"e%d\",\"it\":\"i%d\",\"text\":\"t%d\"}\n", i, i, i,
                i);
    ck_assert_int_eq(fclose(out), 0);
    ck_ok(online_texts_load(t, path, &error));
    ck_assert_uint_eq(t->more_count, MORE); /* the corpus's own do not come twice */
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Sorts and frees them. */
static void ck_different(char **texts, size_t count)
{
    qsort(texts, count, sizeof *texts, by_text);
    for (size_t i = 1; i < count; i++)
        ck_assert_str_ne(texts[i - 1], texts[i]);
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

START_TEST(no_query_comes_twice)
{
    enum { QUERIES = 200000 };
    online_texts t;
    char **queries = calloc(QUERIES, sizeof *queries), query[TRAFFIC_QUERY_MAX];
    make_texts(&t);
    for (size_t i = 0; i < QUERIES; i++) {
        online_texts_query(&t, i, query);
        queries[i] = strdup(query);
    }
    ck_different(queries, QUERIES);
    online_texts_free(&t);
}
END_TEST

START_TEST(documents_beyond_the_packages_differ)
{
    enum { DOCUMENTS = 5 * MORE };
    online_texts t;
    make_texts(&t);
    char **documents = calloc(DOCUMENTS, sizeof *documents);
    for (size_t i = 0; i < DOCUMENTS; i++) {
        buffer out = {0};
        packer p;
        pack_init(&p, &out);
        online_texts_document(&t, CORPUS_DOCUMENTS + i, &p);
        ck_assert(!p.failed);
        /* Without the head and the number: {"id": number, "text": ... */
        const char *at = memmem(out.data, out.size, "text", 4);
        ck_assert_ptr_nonnull(at);
        const size_t length = out.size - (size_t)((const unsigned char *)at - out.data);
        documents[i] = calloc(length + 1, 1);
        ck_assert_ptr_nonnull(documents[i]);
        memcpy(documents[i], at, length);
        buffer_free(&out);
    }
    ck_different(documents, DOCUMENTS);
    online_texts_free(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("online");
    TCase *tests = tcase_create("parts");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, anonymous_memory_is_read_in_bytes);
    tcase_add_test(tests, a_peak_is_seen_once_and_forgotten);
    tcase_add_test(tests, no_query_comes_twice);
    tcase_add_test(tests, documents_beyond_the_packages_differ);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
