/* The rules of the house that a machine can check. */
#include "tests/common/source_tree.h"
#include "tests/common/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LINES_MAX = 700, FUNCTION_LINES_MAX = 70 };

static const char *const C_SUFFIXES[] = {".c", ".h", ".cpp", NULL};

static void check_lengths(void *context, const char *path, char *content)
{
    size_t lines = 0, opened = 0;
    if (text_begins(path, "tests/"))
        return;
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        lines++;
        if (strcmp(line, "{") == 0)
            opened = lines;
        if (strcmp(line, "}") == 0 && opened > 0) {
            size_t length = lines - opened - 1;
            if (length > FUNCTION_LINES_MAX)
                source_tree_complain(context, "%s:%zu: a function of %zu lines; %d are the most", path, opened, length,
                                     FUNCTION_LINES_MAX);
            opened = 0;
        }
    }
    if (lines > FILE_LINES_MAX)
        source_tree_complain(context, "%s has %zu lines; %d are the most", path, lines, FILE_LINES_MAX);
}

START_TEST(functions_fit_on_a_screen_and_files_in_a_head)
{
    size_t broken = 0;
    ck_assert_uint_gt(source_tree_visit(C_SUFFIXES, check_lengths, &broken), 10);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

static void check_lines(void *context, const char *path, char *content)
{
    size_t number = 0;
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        number++;
        size_t length = strlen(line);
        if (strchr(line, '\t') != NULL || (length > 0 && line[length - 1] == ' '))
            source_tree_complain(context, "%s:%zu: a tab, or a space at the end", path, number);
    }
}

START_TEST(lines_have_no_tabs_and_no_spaces_at_the_end)
{
    size_t broken = 0;
    source_tree_visit(C_SUFFIXES, check_lines, &broken);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

/* Written in two parts, so that this file does not find itself. */
static const char *const FORBIDDEN[] = {"TO"
                                        "DO",
                                        "FIX"
                                        "ME",
                                        "XX"
                                        "X:",
                                        "HA"
                                        "CK:",
                                        "not imple"
                                        "mented",
                                        "/wo"
                                        "rk/",
                                        "stu"
                                        "b:"};

static void check_markers(void *context, const char *path, char *content)
{
    for (size_t i = 0; i < sizeof FORBIDDEN / sizeof *FORBIDDEN; i++)
        if (strstr(content, FORBIDDEN[i]) != NULL)
            source_tree_complain(context, "%s holds \"%s\": finish it, or leave it out", path, FORBIDDEN[i]);
}

START_TEST(nothing_is_left_for_later)
{
    static const char *const all[] = {".c", ".h", ".cpp", ".py", ".sh", ".md", ".mk", ".conf", "Makefile", NULL};
    size_t broken = 0;
    ck_assert_uint_gt(source_tree_visit(all, check_markers, &broken), 10);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

/* Functions of the C library that libraries below the programs must not call. */
static void check_quiet(void *context, const char *path, char *content)
{
    static const char *const loud[] = {" printf(", " exit(", " abort(", " puts(", " perror("};
    static const char *const folders[] = {"base/", "model/", "index/", "finetune/", "proto/"};
    bool ours = false;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        ours |= text_begins(path, folders[i]);
    for (size_t i = 0; ours && i < sizeof loud / sizeof *loud; i++) {
        if (strstr(content, loud[i]) != NULL)
            source_tree_complain(context, "%s holds \"%s\": nothing below the programs prints or ends the process",
                                 path, loud[i]);
    }
}

START_TEST(nothing_below_the_programs_prints_or_exits)
{
    static const char *const sources[] = {".c", ".cpp", NULL};
    size_t broken = 0;
    source_tree_visit(sources, check_quiet, &broken);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("style");
    TCase *tests = tcase_create("rules");
    tcase_add_test(tests, functions_fit_on_a_screen_and_files_in_a_head);
    tcase_add_test(tests, lines_have_no_tabs_and_no_spaces_at_the_end);
    tcase_add_test(tests, nothing_is_left_for_later);
    tcase_add_test(tests, nothing_below_the_programs_prints_or_exits);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
