#include "tests/common/testing.h"

#include "base/files.h"
#include "finetune/curve.h"
#include "finetune/curve_svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_error error;

static const char *const NAMES[] = {"own.ndcg", "talk.accuracy"};

static curve_row row_of(uint64_t step)
{
    curve_row row = {.step = step,
                     .examples = 64 * step,
                     .loss = 3.0 / (double)step,
                     .scale = 20,
                     .learning_rate = 1e-4 * (double)step,
                     .gradient_norm = 2.5,
                     .seconds = 0.5 * (double)step};
    if (step % 5 == 0) {
        row.evaluated = true;
        row.evaluation = 0.25;
        row.figures[0] = 0.5;
        row.figures[1] = NAN;
    }
    return row;
}

/* Writes steps [first, last] as one process does. */
static void write_steps(const char *path, uint64_t first, uint64_t last, size_t figures)
{
    curve *c;
    ck_ok(curve_open(&c, path, first, NAMES, figures, &error));
    for (uint64_t step = first; step <= last; step++) {
        curve_row row = row_of(step);
        row.seconds = 0.5 * (double)(step - first + 1);
        ck_ok(curve_add(c, &row, &error));
    }
    ck_ok(curve_sync(c, &error));
    curve_close(c);
}

typedef struct seen {
    size_t rows, evaluations;
    uint64_t next;
} seen;

static void check_row(void *context, const curve_row *row)
{
    seen *s = context;
    const curve_row wanted = row_of(++s->next);
    ck_assert_uint_eq(row->step, wanted.step);
    ck_assert_uint_eq(row->examples, wanted.examples);
    ck_assert_double_eq_tol(row->loss, wanted.loss, 1e-8);
    ck_assert_double_eq_tol(row->scale, wanted.scale, 1e-8);
    ck_assert_double_eq_tol(row->learning_rate, wanted.learning_rate, 1e-12);
    ck_assert_double_eq_tol(row->gradient_norm, wanted.gradient_norm, 1e-8);
    ck_assert_double_eq_tol(row->seconds, wanted.seconds, 1e-3);
    ck_assert_int_eq(row->evaluated, wanted.evaluated);
    if (row->evaluated) {
        ck_assert_double_eq_tol(row->evaluation, 0.25, 1e-8);
        ck_assert_double_eq_tol(row->figures[0], 0.5, 1e-8);
        ck_assert(isnan(row->figures[1]));
        s->evaluations++;
    }
    s->rows++;
}

static void check_steps(const char *path, size_t steps)
{
    seen s = {0};
    ck_ok(curve_read(path, check_row, &s, &error));
    ck_assert_uint_eq(s.rows, steps);
    ck_assert_uint_eq(s.evaluations, steps / 5);
}

static const char BEGINNING[] =
    "step,examples,loss,scale,learning_rate,gradient_norm,seconds,evaluation,own.ndcg,talk.accuracy\n"
    "1,64,3,20,0.0001,2.5,0.500,,,\n";

START_TEST(rows_come_back)
{
    write_steps(testing_path("curve.csv"), 1, 12, 2);
    check_steps(testing_path("curve.csv"), 12);
    char *text;
    size_t size;
    ck_ok(files_read(testing_path("curve.csv"), 1 << 20, &text, &size, &error));
    ck_assert(strncmp(text, BEGINNING, sizeof BEGINNING - 1) == 0);
    free(text);
}
END_TEST

START_TEST(a_run_that_goes_on_doubles_no_row_and_counts_its_seconds_on)
{
    const char *path = testing_path("curve.csv");
    /* The second process begins before the first one's end, within it and behind it. */
    for (uint64_t from = 2; from <= 9; from++) {
        write_steps(path, 1, 8, 2);
        write_steps(path, from, 12, 2);
        check_steps(path, 12);
    }
    /* Another run: nothing of the last one stays, whatever its columns were. */
    write_steps(path, 1, 3, 0);
    write_steps(path, 1, 7, 2);
    check_steps(path, 7);
}
END_TEST

START_TEST(a_file_cut_anywhere_keeps_its_whole_rows)
{
    const char *path = testing_path("curve.csv"), *cut = testing_path("cut.csv");
    char *text;
    size_t size;
    write_steps(path, 1, 6, 2);
    ck_ok(files_read(path, 1 << 20, &text, &size, &error));
    for (size_t bytes = 0; bytes <= size; bytes++) {
        uint64_t whole = 0;
        for (size_t i = 0; i < bytes; i++)
            whole += text[i] == '\n';
        whole -= whole > 0; /* the line of names */
        ck_ok(files_write(cut, text, bytes, &error));
        write_steps(cut, whole + 1, 9, 2);
        check_steps(cut, 9);
    }
    free(text);
}
END_TEST

START_TEST(a_file_of_other_columns_or_no_curve_is_refused)
{
    curve *c;
    seen s = {0};
    const char *path = testing_path("curve.csv");
    write_steps(path, 1, 6, 1);
    ck_fails(curve_open(&c, path, 4, NAMES, 2, &error), SEM_FAILED_PRECONDITION);
    ck_assert_ptr_null(c);
    ck_ok(files_write(path, "a,b\n1,2\n", 8, &error));
    ck_fails(curve_open(&c, path, 4, NAMES, 2, &error), SEM_FAILED_PRECONDITION);
    ck_fails(curve_read(path, check_row, &s, &error), SEM_FAILED_PRECONDITION);
    write_steps(path, 1, 2, 0);
    FILE *out = fopen(path, "a");
    ck_assert_ptr_nonnull(out);
    fputs("three,2,1\n", out);
    fclose(out);
    s.next = 0;
    ck_fails(curve_read(path, check_row, &s, &error), SEM_FAILED_PRECONDITION);
    ck_assert_msg(strstr(error.message, ":4:") != NULL, "%s", error.message);
}
END_TEST

/* The process's own memory opens like a file, and its first page cannot be read. */
START_TEST(a_file_that_cannot_be_read_is_told_of_and_not_cut)
{
    curve *c;
    ck_fails(curve_open(&c, "/proc/self/mem", 4, NAMES, 2, &error), SEM_INTERNAL);
    ck_assert_msg(strstr(error.message, "read") != NULL, "%s", error.message);
    ck_assert_ptr_null(c);
}
END_TEST

/* --- the picture */

static size_t count_of(const char *text, const char *what)
{
    size_t found = 0;
    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        found++;
    return found;
}

/* Every element that begins ends, innermost first. */
static void check_xml(const char *text)
{
    char open[32][16];
    size_t depth = 0;
    for (const char *at = text; (at = strchr(at, '<')) != NULL; at++) {
        const char *end = strchr(at, '>');
        ck_assert_ptr_nonnull(end);
        char name[16];
        const bool closing = at[1] == '/';
        ck_assert_int_eq(sscanf(at + 1 + closing, "%15[a-z]", name), 1);
        if (closing) {
            ck_assert_uint_gt(depth, 0);
            ck_assert_str_eq(open[--depth], name);
        } else if (end[-1] != '/') {
            ck_assert_uint_lt(depth, 32);
            strcpy(open[depth++], name);
        }
    }
    ck_assert_uint_eq(depth, 0);
}

static char *draw_steps(uint64_t steps, size_t figures)
{
    const curve_labels labels = {.title = "a <b> & c", .loss = "loss (nats)", .evaluation = "worth"};
    char *text;
    size_t size;
    write_steps(testing_path("curve.csv"), 1, steps, figures);
    ck_ok(curve_draw(testing_path("curve.csv"), testing_path("curve.svg"), &labels, &error));
    ck_ok(files_read(testing_path("curve.svg"), 1 << 20, &text, &size, &error));
    check_xml(text);
    ck_assert_ptr_nonnull(strstr(text, "a &lt;b&gt; &amp; c"));
    ck_assert_ptr_nonnull(strstr(text, "prefers-color-scheme:dark"));
    return text;
}

START_TEST(a_picture_has_a_named_axis_for_each_course)
{
    char *text = draw_steps(2000, 2);
    ck_assert_uint_eq(count_of(text, "<polyline"), 4);
    ck_assert_uint_eq(count_of(text, ">steps</text>"), 4);
    ck_assert_uint_eq(count_of(text, ">loss (nats)</text>"), 1);
    ck_assert_uint_eq(count_of(text, ">worth</text>"), 1);
    ck_assert_uint_eq(count_of(text, ">scale (factor of the cosine)</text>"), 1);
    ck_assert_uint_eq(count_of(text, ">learning rate (of a step)</text>"), 1);
    ck_assert_uint_eq(count_of(text, ">1,000</text>"), 4);
    ck_assert_uint_eq(count_of(text, "nan"), 0);
    free(text);
}
END_TEST

START_TEST(what_was_not_measured_has_no_axis)
{
    char *text = draw_steps(1, 0);
    ck_assert_uint_eq(count_of(text, "<polyline"), 3);
    ck_assert_uint_eq(count_of(text, ">worth</text>"), 0);
    ck_assert_uint_eq(count_of(text, "nan") + count_of(text, "inf"), 0);
    free(text);
    const curve_labels labels = {.title = "", .loss = "", .evaluation = ""};
    ck_ok(files_write(testing_path("empty.csv"), "", 0, &error));
    ck_fails(curve_draw(testing_path("empty.csv"), testing_path("empty.svg"), &labels, &error),
             SEM_FAILED_PRECONDITION);
    ck_fails(curve_draw(testing_path("none.csv"), testing_path("empty.svg"), &labels, &error), SEM_NOT_FOUND);
}
END_TEST

START_TEST(a_picture_of_a_long_run_is_as_small_as_that_of_a_short_one)
{
    char *text = draw_steps(20000, 2);
    ck_assert_uint_lt(strlen(text), 64 * 1024);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("curve");
    TCase *tests = tcase_create("curve");
    tcase_set_timeout(tests, 60); /* it waits for the disk hundreds of times */
    tcase_add_test(tests, rows_come_back);
    tcase_add_test(tests, a_run_that_goes_on_doubles_no_row_and_counts_its_seconds_on);
    tcase_add_test(tests, a_file_cut_anywhere_keeps_its_whole_rows);
    tcase_add_test(tests, a_file_of_other_columns_or_no_curve_is_refused);
    tcase_add_test(tests, a_file_that_cannot_be_read_is_told_of_and_not_cut);
    tcase_add_test(tests, a_picture_has_a_named_axis_for_each_course);
    tcase_add_test(tests, what_was_not_measured_has_no_axis);
    tcase_add_test(tests, a_picture_of_a_long_run_is_as_small_as_that_of_a_short_one);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
