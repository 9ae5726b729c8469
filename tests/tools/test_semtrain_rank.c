/* `semtrain rank`: the table of a user's own sets, kept through kills. */
#include "tests/tools/semtrain_run.h"

#include <jansson.h>

/* Rank the recipe's two sets in 6 steps of 2 pairs. */
static bool rank_line(char line[4 * PATH], const char *options)
{
    char command[PATH];
    snprintf(command, sizeof command, "rank %s", testing_path("recipe.ini"));
    /* Once: files written again are other files. */
    if (access(testing_path("recipe.ini"), F_OK) != 0 && !small_recipe(command, "rank"))
        return false;
    snprintf(line, 4 * PATH,
             "%s -o rank.steps=6 -o rank.batch_size=2 -o train.threads=2 -o \"data faq.description=cards & banks\" %s",
             options, command);
    return true;
}

static json_t *parse_output(void)
{
    json_error_t json_error;
    /* Standard error stands there too. */
    const char *begin = strstr(output, "{\"steps\"");
    json_t *o = begin != NULL ? json_loads(begin, JSON_DISABLE_EOF_CHECK, &json_error) : NULL;
    ck_assert_msg(o != NULL, "%s", output);
    return o;
}

static size_t count_lines(const char *path)
{
    FILE *in = fopen(path, "r");
    size_t lines = 0;
    ck_assert_msg(in != NULL, "%s is missing", path);
    for (int c; (c = getc(in)) != EOF;)
        lines += c == '\n';
    fclose(in);
    return lines;
}

START_TEST(sets_are_listed_by_what_a_model_learns_from_each)
{
    char line[4 * PATH];
    if (!rank_line(line, ""))
        return;
    ck_assert_msg(run(line) == 0, "%s", output);
    ck_prints("data set");
    ck_prints("cards & banks");
    ck_prints("after 6 steps at batch size 2");
    ck_assert(rank_line(line, "--json"));
    ck_assert_int_eq(run(line), 0);
    json_t *o = parse_output();
    const json_t *sets = json_object_get(o, "sets");
    ck_assert_uint_eq(json_array_size(sets), 2);
    ck_assert(json_is_real(json_object_get(o, "base")));
    double before = 101;
    for (size_t i = 0; i < 2; i++) {
        const json_t *set = json_array_get(sets, i);
        const bool faq = strcmp(json_string_value(json_object_get(set, "name")), "faq") == 0;
        const double score = json_number_value(json_object_get(set, "score"));
        ck_assert(score >= 0 && score <= before); /* best first */
        before = score;
        ck_assert_int_eq(json_integer_value(json_object_get(set, "pairs")), faq ? 4 : 3);
        ck_assert_str_eq(json_string_value(json_object_get(set, "description")), faq ? "cards & banks" : "");
    }
    json_decref(o);
    /* The second run trained nothing: two sets and the model itself. */
    ck_assert_uint_eq(count_lines(testing_path("recipe.ini.rank")), 3);
}
END_TEST

START_TEST(a_result_is_of_its_settings)
{
    char line[4 * PATH];
    if (!rank_line(line, ""))
        return;
    ck_assert_int_eq(run(line), 0);
    ck_assert(rank_line(line, "-o train.learning_rate=0.01"));
    ck_assert_int_eq(run(line), 0);
    ck_assert_uint_eq(count_lines(testing_path("recipe.ini.rank")), 6);
    /* Another description, or pace of checkpoints, is no other run. */
    ck_assert(rank_line(line, "-o train.checkpoint_every=3 -o \"data talk.description=talk\""));
    ck_assert_int_eq(run(line), 0);
    ck_assert_uint_eq(count_lines(testing_path("recipe.ini.rank")), 6);
    write_file("recipe.ini.rank", "nonsense\n");
    ck_assert_int_eq(run(line), 1);
    ck_prints("recipe.ini.rank:1: no result of a ranking");
}
END_TEST

START_TEST(a_ranking_that_was_killed_goes_on_to_the_same_scores)
{
    char line[4 * PATH];
    random_state r;
    size_t killed = 0;
    random_seed(&r, testing_seed());
    if (!rank_line(line, "--json -o train.checkpoint_every=5"))
        return;
    snprintf(line + strlen(line), sizeof line - strlen(line), " -o rank.output=%s -o rank.steps=200",
             testing_path("whole"));
    ck_assert_msg(run(line) == 0, "%s", output);
    json_t *whole = parse_output();
    ck_assert(rank_line(line, "--json -o train.checkpoint_every=5"));
    snprintf(line + strlen(line), sizeof line - strlen(line), " -o rank.output=%s -o rank.steps=200",
             testing_path("cut"));
    while (run_killed(line, (unsigned)(20 + random_below(&r, 150 + 50 * killed))))
        ck_assert_uint_lt(++killed, 200);
    ck_assert_uint_gt(killed, 0);
    ck_assert_int_eq(run(line), 0);
    json_t *cut = parse_output();
    ck_assert(json_equal(whole, cut));
    ck_assert_uint_eq(count_lines(testing_path("cut")), 3);
    ck_assert_int_ne(access(testing_path("cut.faq.state"), F_OK), 0);
    json_decref(whole);
    json_decref(cut);
}
END_TEST

START_TEST(a_ranking_by_nothing_is_refused)
{
    char line[4 * PATH];
    snprintf(line, sizeof line, "rank %s", write_file("recipe.ini", "[data a]\nfile = x\n"));
    ck_assert_int_eq(run(line), 1);
    ck_prints("no [eval NAME] section");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_rank");
    TCase *tests = tcase_create("rank");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, sets_are_listed_by_what_a_model_learns_from_each);
    tcase_add_test(tests, a_result_is_of_its_settings);
    tcase_add_test(tests, a_ranking_that_was_killed_goes_on_to_the_same_scores);
    tcase_add_test(tests, a_ranking_by_nothing_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
