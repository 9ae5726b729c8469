#include "tests/common/testing.h"

#include "base/files.h"
#include "tools/demo/corpus.h"
#include "tools/demo/texts.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

#define LONG                                                                                                           \
    " A program that draws plots of measurements, with axes, legends and colours of\n many kinds, for papers, "        \
    "posters and slides, on screen or on paper.\n"

static const char ENGLISH[] =
    "Package: plot\nDescription-md5: aa\nDescription-en: draw plots\n" LONG " .\n It is fast.\n\n"
    "Package: plot-dev\nDescription-md5: bb\nDescription-en: draw plots - development files\n" LONG
    " .\n These are its headers, which nobody looks for.\n\n\n"
    "Package: short\nDescription-md5: cc\nDescription-en: little\n See plot.\n\n"
    "Package: chess\nDescription-md5: dd\nDescription-en: play chess\n Plays chess against you on "
    "a board with sixty-four\n fields, and explains \"why\" it won: caf\303\251.\n";
static const char ITALIAN[] = "Package: plot\nDescription-md5: aa\nDescription-it: disegna grafici\n Un programma.\n";
static const char PACKAGES[] = "Package: plot\nDescription: draw plots\nDescription-md5: aa\nSection: science\n\n"
                               "Package: chess\nDepends: a,\n b\nDescription-md5: dd\nSection: games\n\n"
                               "Package: plot-dev\nSection: devel\nDescription-md5: bb\n\n"
                               "Package: plot\nDescription-md5: aa\nSection: science\n\n"
                               "Package: short\nDescription-md5: cc\n\nPackage: unknown\nDescription-md5: ee\n\n";

static void write_lists(const char *english, size_t english_size)
{
    ck_ok(files_write(testing_path("en"), english, english_size, &error));
    ck_ok(files_write(testing_path("it"), ITALIAN, sizeof ITALIAN - 1, &error));
    ck_ok(files_write(testing_path("packages"), PACKAGES, sizeof PACKAGES - 1, &error));
}

static sem_status join(texts_report *report)
{
    return texts_join(testing_path("en"), testing_path("it"), testing_path("packages"), testing_path("out"), report,
                      &error);
}

START_TEST(lists_are_joined_and_twins_count_once)
{
    texts_report report;
    write_lists(ENGLISH, sizeof ENGLISH - 1);
    ck_ok(join(&report));

    ck_assert_uint_eq(report.english, 4);
    ck_assert_uint_eq(report.italian, 1);
    ck_assert_uint_eq(report.packages, 2);
    ck_assert_uint_eq(report.both, 1);
    FILE *in = fopen(testing_path("out"), "r");
    ck_assert_ptr_nonnull(in);
    json_t *chess = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL), *plot = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL);
    fclose(in);
    ck_assert_str_eq(json_string_value(json_object_get(chess, "name")), "chess");
    ck_assert_str_eq(json_string_value(json_object_get(chess, "section")), "games");
    ck_assert_ptr_null(json_object_get(chess, "it"));
    ck_assert_str_eq(
        json_string_value(json_object_get(chess, "text")),
        "Plays chess against you on a board with sixty-four fields, and explains \"why\" it won: caf\303\251.");
    ck_assert_str_eq(json_string_value(json_object_get(plot, "it")), "disegna grafici");
    ck_assert_str_eq(json_string_value(json_object_get(plot, "en")), "draw plots");
    ck_assert_str_eq(json_string_value(json_object_get(plot, "text")),
                     "A program that draws plots of measurements, with axes, legends and colours of many kinds, for "
                     "papers, posters and slides, on screen or on paper. It is fast.");
    json_decref(chess);
    json_decref(plot);
}
END_TEST

START_TEST(lists_cut_anywhere_never_break_the_join)
{
    texts_report report;
    for (size_t size = 0; size < sizeof ENGLISH - 1; size++) {
        write_lists(ENGLISH, size);
        sem_status status = join(&report);
        ck_assert(status == SEM_OK || status == SEM_NOT_FOUND);
    }
}
END_TEST

START_TEST(too_few_packages_are_refused_with_both_numbers)
{
    texts_report report;
    corpus *texts = calloc(1, sizeof *texts);
    write_lists(ENGLISH, sizeof ENGLISH - 1);
    ck_ok(join(&report));

    ck_fails(corpus_load(texts, testing_path("out"), &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "only 1 "));
    ck_assert_ptr_nonnull(strstr(error.message, "5000"));
    free(texts);
}
END_TEST

START_TEST(held_out_clicked_and_other_packages_share_no_query)
{
    corpus *texts = calloc(1, sizeof *texts);
    FILE *out = fopen(testing_path("many"), "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < 2 * CORPUS_DOCUMENTS; i++) /* every other one repeats a query */
        fprintf(out, "{\"name\":\"p%d\",\"section\":\"s\",\"en\":\"e%d\",\"it\":\"i%d\",\"text\":\"t%d\"}\n", i, i / 2,
                i, i);
    fclose(out);

    ck_ok(corpus_load(texts, testing_path("many"), &error));
    bool *seen = calloc(CORPUS_DOCUMENTS, sizeof *seen);
    for (int i = 0; i < CORPUS_DOCUMENTS; i++) {
        int query = atoi(texts->packages[i].english + 1);
        ck_assert(!seen[query]);
        seen[query] = true;
    }
    free(seen);
    corpus_free(texts);
    free(texts);
}
END_TEST

START_TEST(a_damaged_line_is_refused_with_its_number)
{
    static const char text[] =
        "{\"name\":\"a\",\"section\":\"s\",\"en\":\"e\",\"it\":\"i\",\"text\":\"t\"}\n{\"name\":";
    corpus *texts = calloc(1, sizeof *texts);
    ck_ok(files_write(testing_path("half"), text, sizeof text - 1, &error));
    ck_fails(corpus_load(texts, testing_path("half"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "package 2"));
    free(texts);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("demo texts");
    TCase *tests = tcase_create("texts");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, lists_are_joined_and_twins_count_once);
    tcase_add_test(tests, lists_cut_anywhere_never_break_the_join);
    tcase_add_test(tests, too_few_packages_are_refused_with_both_numbers);
    tcase_add_test(tests, held_out_clicked_and_other_packages_share_no_query);
    tcase_add_test(tests, a_damaged_line_is_refused_with_its_number);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
