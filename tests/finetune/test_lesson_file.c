/* Pairs come back from a file as they were, each text and vector once. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "finetune/lesson_file.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 3, PAIRS = 3 };

static sem_error error;
static char path[600];
static const char DOCUMENT[] = "a document that several pairs have";
static const float VECTORS[2][DIM] = {{1, 0, 0}, {0, 0.6F, 0.8F}};

static const train_negative negatives[] = {{.text = "wrong", .length = 5, .key = 7, .vector = VECTORS[1]},
                                           {.text = DOCUMENT, .length = sizeof DOCUMENT - 1, .key = 8}};

static void fill(train_pair out[PAIRS])
{
    static const char *const queries[PAIRS] = {"one", "", "three"};
    for (size_t i = 0; i < PAIRS; i++)
        out[i] = (train_pair){.query = queries[i],
                              .query_length = strlen(queries[i]),
                              .document = DOCUMENT,
                              .document_length = sizeof DOCUMENT - 1 - i,
                              .document_key = 100 + i,
                              .query_key = UINT64_MAX - i,
                              .weight = 0.1F + (float)i,
                              .domain = (uint32_t)i,
                              .origin = i == 0 ? TRAIN_NEW : TRAIN_OWN_TEXT,
                              .document_vector = i == 1 ? NULL : VECTORS[0]};
    out[0].negatives = negatives;
    out[0].negative_count = 2;
    out[2].negatives = negatives + 1;
    out[2].negative_count = 1;
}

static void same_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    ck_assert_uint_eq(a_length, b_length);
    ck_assert(memcmp(a, b, a_length) == 0);
}

static void same_vector(const float *a, const float *b)
{
    ck_assert_int_eq(a == NULL, b == NULL);
    ck_assert(a == NULL || memcmp(a, b, DIM * sizeof *a) == 0);
}

static void check_same(const train_pair *a, const train_pair *b)
{
    same_text(a->query, a->query_length, b->query, b->query_length);
    same_text(a->document, a->document_length, b->document, b->document_length);
    same_vector(a->document_vector, b->document_vector);
    ck_assert_uint_eq(a->document_key, b->document_key);
    ck_assert_uint_eq(a->query_key, b->query_key);
    ck_assert(memcmp(&a->weight, &b->weight, sizeof a->weight) == 0);
    ck_assert_uint_eq(a->domain, b->domain);
    ck_assert_int_eq(a->origin, b->origin);
    ck_assert_uint_eq(a->negative_count, b->negative_count);
    for (size_t k = 0; k < a->negative_count; k++) {
        same_text(a->negatives[k].text, a->negatives[k].length, b->negatives[k].text, b->negatives[k].length);
        same_vector(a->negatives[k].vector, b->negatives[k].vector);
        ck_assert_uint_eq(a->negatives[k].key, b->negatives[k].key);
    }
}

static void write_lesson(train_pair pairs[PAIRS])
{
    snprintf(path, sizeof path, "%s/lesson", testing_folder());
    fill(pairs);
    ck_ok(lesson_file_write(path, pairs, PAIRS, DIM, &error));
}

START_TEST(pairs_come_back_as_they_were)
{
    train_pair pairs[PAIRS];
    lesson_file l;
    write_lesson(pairs);
    ck_ok(lesson_file_read(&l, path, DIM, &error));
    ck_assert_uint_eq(l.count, PAIRS);
    for (size_t i = 0; i < PAIRS; i++)
        check_same(&pairs[i], &l.pairs[i]);
    lesson_file_free(&l);
    ck_ok(lesson_file_write(path, NULL, 0, DIM, &error));
    ck_ok(lesson_file_read(&l, path, DIM, &error));
    ck_assert_uint_eq(l.count, 0);
    lesson_file_free(&l);
}
END_TEST

START_TEST(what_pairs_share_is_there_once)
{
    enum { MANY = 1000 };
    static train_pair many[MANY];
    static char long_text[5000];
    struct stat st;
    memset(long_text, 'x', sizeof long_text);
    for (size_t i = 0; i < MANY; i++)
        many[i] = (train_pair){.query = "q",
                               .query_length = 1,
                               .document = long_text,
                               .document_length = sizeof long_text,
                               .weight = 1,
                               .document_vector = VECTORS[1]};
    snprintf(path, sizeof path, "%s/lesson", testing_folder());
    ck_ok(lesson_file_write(path, many, MANY, DIM, &error));
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_lt(st.st_size, (off_t)(MANY * 200));
}
END_TEST

START_TEST(one_that_is_missing_damaged_or_of_another_width_is_told_apart)
{
    train_pair pairs[PAIRS];
    lesson_file l;
    struct stat st;
    write_lesson(pairs);
    ck_fails(lesson_file_read(&l, path, DIM + 1, &error), SEM_FAILED_PRECONDITION);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(truncate(path, st.st_size - 8), 0);
    ck_fails(lesson_file_read(&l, path, DIM, &error), SEM_FAILED_PRECONDITION);
    ck_assert_int_eq(unlink(path), 0);
    ck_fails(lesson_file_read(&l, path, DIM, &error), SEM_NOT_FOUND);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lesson files");
    TCase *tests = tcase_create("lesson files");
    tcase_add_test(tests, pairs_come_back_as_they_were);
    tcase_add_test(tests, what_pairs_share_is_there_once);
    tcase_add_test(tests, one_that_is_missing_damaged_or_of_another_width_is_told_apart);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
