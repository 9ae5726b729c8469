/* semtrain from its command line: what it prints, writes and refuses. */
#include "tests/tools/semtrain_run.h"

#include "model/model.h"
#include "finetune/data_stream.h"

#include <jansson.h>

#include <unistd.h>

START_TEST(wrong_usage_is_told_from_failure)
{
    ck_assert_int_eq(run(""), 2);
    ck_prints("no command given");
    ck_assert_int_eq(run("nonsense"), 2);
    ck_assert_int_eq(run("train"), 2);
    ck_assert_int_eq(run("train a b"), 2);
    ck_assert_int_eq(run("datasets a"), 2);
    ck_assert_int_eq(run("--nonsense"), 2);
    ck_assert_int_eq(run("train /nowhere/recipe.ini"), 1);
    ck_prints("/nowhere/recipe.ini");
    ck_assert_int_eq(run("--help"), 0);
    ck_prints("usage: semtrain");
    ck_assert_int_eq(run("--version"), 0);
    ck_assert_int_eq(run("--keys"), 0);
    ck_prints("[data NAME]");
    ck_prints("learning_rate");
}
END_TEST

START_TEST(datasets_are_listed_for_people_and_programs)
{
    json_error_t json_error;
    ck_assert_int_eq(run("datasets"), 0);
    ck_prints("gooaq_pairs");
    ck_prints("3,012,490");
    ck_prints("59.76");
    ck_assert_int_eq(run("--json datasets"), 0);
    json_t *all = json_loads(output, 0, &json_error);
    ck_assert_ptr_nonnull(all);
    ck_assert_uint_eq(json_array_size(all), 19);
    ck_assert(json_is_null(json_object_get(json_array_get(all, 18), "pairs")));
    json_decref(all);
}
END_TEST

START_TEST(a_recipe_is_refused_by_what_is_wrong_with_it)
{
    static const struct {
        const char *recipe, *says;
    } wrong[] = {
        {"[train]\nlearning_rat = 1\n", "recipe.ini:2: unknown key train.learning_rat"},
        {"[trian]\n", "unknown section [trian]"},
        {"[data ]\n", "name is 1 to"},
        {"[data a]\nform = poetry\nfile = x\n", "pairs, parallel, columns, labelled, sts"},
        {"[data a]\nform = pairs\n", "data set a names no file"},
        {"[data a]\nfile = x\nwindow = 5\nwindow = 6\n", "recipe.ini:4: data a.window was given already"},
        {"[eval a]\nfile = x\nmixed_share = 1\n", "unknown key eval a.mixed_share"},
        {"[train]\nbatch_size = 1\n", "train.batch_size is '1'"},
        {"[mix]\nsampling = best\n", "equal, proportional"},
        {"[data a]\nform = columns\nfile = x\ncolumns = 0 1\n", "columns is '0 1'"},
        {"[data a]\nform = parallel\nfile = x\n", "two by two"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char command[PATH];
        snprintf(command, sizeof command, "train %s", write_file("recipe.ini", wrong[i].recipe));
        ck_assert_int_eq(run(command), 1);
        ck_prints(wrong[i].says);
    }
}
END_TEST

START_TEST(a_recipe_trains_a_model_that_opens_and_says_what_became_better)
{
    char command[PATH];
    model *m;
    if (!small_recipe(command, "train"))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_prints("12 steps"); /* 7 pairs in twos, three times */
    size_t told = 0;
    for (const char *at = output; (at = strstr(at, "faq.jsonl:3: it is no JSON")) != NULL; at++)
        told++;
    ck_assert_uint_eq(told, 2); /* of [data], and once of [eval], though that is measured twice */
    ck_prints("malformed lines skipped: 2");
    ck_prints("ndcg");
    ck_prints("accuracy");
    ck_ok(model_open(&m, testing_path("trained"), NULL, NULL, &error));
    ck_ok(model_try(m, &error));
    model_close(m);
    ck_assert_int_eq(run(command), 1);
    ck_prints("is there already");
}
END_TEST

START_TEST(values_of_the_command_line_take_the_place_of_the_recipes)
{
    char command[PATH], line[3 * PATH];
    if (!small_recipe(command, "train"))
        return;
    snprintf(line, sizeof line, "-j -o train.max_steps=2 -o train.output=%s -o \"data talk.file=/nowhere\" %s",
             testing_path("other"), command);
    ck_assert_int_eq(run(line), 1);
    ck_prints("two by two");
    snprintf(line, sizeof line, "-j -o train.max_steps=2 -o train.output=%s %s", testing_path("other"), command);
    ck_assert_int_eq(run(line), 0);
    ck_prints("\"steps\":2");
    ck_assert_int_eq(access(testing_path("other"), F_OK), 0);
}
END_TEST

START_TEST(mined_lines_are_read_back_as_pairs_with_negatives)
{
    char command[PATH];
    data_stream *s;
    const example *const *items;
    size_t count, negatives = 0;
    if (!small_recipe(command, "mine"))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_prints("faq: 4 pairs");
    const char *const files[] = {testing_path("mined/faq.jsonl")};
    data_options o = data_options_defaults();
    o.name = "mined";
    o.files = files;
    o.file_count = 1;
    o.max_malformed = 0;
    ck_ok(data_stream_open(&s, &o, 0, &error));
    ck_ok(data_stream_window(s, &items, &count, &error));
    ck_assert_uint_eq(count, 4);
    for (size_t i = 0; i < count; i++)
        negatives += items[i]->negative_count;
    ck_assert_uint_gt(negatives, 0);
    data_stream_close(s);
}
END_TEST

START_TEST(a_model_is_measured_on_every_set)
{
    char command[PATH];
    if (!small_recipe(command, "eval"))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_prints("own: retrieval, 4 queries");
    ck_prints("talk: translation, 3 pairs");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain");
    TCase *tests = tcase_create("commands");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, wrong_usage_is_told_from_failure);
    tcase_add_test(tests, datasets_are_listed_for_people_and_programs);
    tcase_add_test(tests, a_recipe_is_refused_by_what_is_wrong_with_it);
    tcase_add_test(tests, a_recipe_trains_a_model_that_opens_and_says_what_became_better);
    tcase_add_test(tests, values_of_the_command_line_take_the_place_of_the_recipes);
    tcase_add_test(tests, mined_lines_are_read_back_as_pairs_with_negatives);
    tcase_add_test(tests, a_model_is_measured_on_every_set);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
