#include "tests/common/testing.h"

#include "base/files.h"
#include "bench/clicksim/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

static results_row row(const char *where, const char *variant, unsigned round, double mrr, const char *decision)
{
    results_row r = {.round = round,
                     .people = {.searches = 3000, .clicks = 2000, .right = 1200, .found = 1500},
                     .heldout = {mrr, 0.01},
                     .kept = {0.9, 0.005},
                     .pairs = 1700,
                     .training_s = 12.5,
                     .flip_s = 0.25};
    snprintf(r.world, sizeof r.world, "%s", where);
    snprintf(r.variant, sizeof r.variant, "%s", variant);
    snprintf(r.heldout_is, sizeof r.heldout_is, "Italian & \"other\" queries");
    snprintf(r.kept_is, sizeof r.kept_is, "English queries");
    snprintf(r.decision, sizeof r.decision, "%s", decision);
    snprintf(r.reason, sizeof r.reason, "because \"it\" is better");
    return r;
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        count++;
    return count;
}

START_TEST(rounds_come_back_as_they_were_kept)
{
    results_row *rows, one = row("italian", "debiased", 1, 0.375, "promoted"),
                       two = row("italian", "debiased", 2, 0.5, "discarded");
    size_t count;
    const char *path = testing_path("kept.jsonl");
    ck_ok(results_append(path, &one, &error));
    ck_ok(results_append(path, &two, &error));
    ck_ok(results_read(&rows, &count, &path, 1, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(rows[0].world, one.world);
    ck_assert_str_eq(rows[0].variant, one.variant);
    ck_assert_str_eq(rows[0].heldout_is, one.heldout_is);
    ck_assert_str_eq(rows[0].kept_is, one.kept_is);
    ck_assert_str_eq(rows[0].decision, one.decision);
    ck_assert_str_eq(rows[0].reason, one.reason);
    ck_assert_mem_eq(&rows[0].people, &one.people, sizeof one.people);
    ck_assert_mem_eq(&rows[0].heldout, &one.heldout, sizeof one.heldout);
    ck_assert_mem_eq(&rows[0].kept, &one.kept, sizeof one.kept);
    ck_assert_uint_eq(rows[0].pairs, one.pairs);
    ck_assert_double_eq(rows[0].training_s, one.training_s);
    ck_assert_double_eq(rows[0].flip_s, one.flip_s);
    ck_assert_uint_eq(rows[1].round, 2);
    free(rows);
}
END_TEST

START_TEST(a_picture_has_a_panel_a_world_a_line_a_variant_and_a_dot_a_promotion)
{
    const results_row rows[] = {
        row("italian", "none", 0, 0.3, ""),           row("italian", "naive", 0, 0.3, ""),
        row("italian", "naive", 1, 0.35, "promoted"), row("italian", "naive", 2, 0.35, "discarded"),
        row("italian", "debiased", 0, 0.3, ""),       row("italian", "debiased", 1, 0.4, "promoted"),
        row("medquad", "debiased", 0, 0.6, ""),       row("medquad", "debiased", 1, 0.7, "promoted")};
    char *text;
    size_t size;
    ck_ok(results_draw(rows, sizeof rows / sizeof *rows, testing_path("rounds.svg"), &error));
    ck_ok(files_read(testing_path("rounds.svg"), 1 << 20, &text, &size, &error));
    ck_assert_uint_eq(count_of(text, "class=\"frame\""), 4); /* two worlds, each held out and kept */
    ck_assert_uint_eq(count_of(text, "<circle "), 2 * 3);
    ck_assert_uint_eq(count_of(text, "class=\"dot k1\""), 2);
    ck_assert_uint_eq(count_of(text, "class=\"dot k2\""), 4);
    ck_assert_ptr_nonnull(strstr(text, "Italian &amp; \"other\" queries"));
    /* Without learning the line goes through to the last round, as it began. */
    double from[2], to[2];
    const char *line = strstr(text, "class=\"line k0\" points=\"");
    ck_assert_ptr_nonnull(line);
    ck_assert_int_eq(sscanf(line, "class=\"line k0\" points=\"%lf,%lf %lf,%lf \"", &from[0], &from[1], &to[0], &to[1]),
                     4);
    ck_assert_double_eq(from[0], 0);
    ck_assert_double_eq(to[0], 360);
    ck_assert_double_eq(from[1], to[1]);
    ck_assert_ptr_null(strstr(text, "nan"));
    free(text);
}
END_TEST

START_TEST(nothing_to_draw_is_said)
{
    ck_fails(results_draw(NULL, 0, testing_path("none.svg"), &error), SEM_FAILED_PRECONDITION);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clicksim results");
    TCase *tests = tcase_create("results");
    tcase_add_test(tests, rounds_come_back_as_they_were_kept);
    tcase_add_test(tests, a_picture_has_a_panel_a_world_a_line_a_variant_and_a_dot_a_promotion);
    tcase_add_test(tests, nothing_to_draw_is_said);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
