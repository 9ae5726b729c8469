/* What recipes say of losses: each data set its own, alternating in one run. */
#include "tests/tools/semtrain_run.h"

#include "model/model.h"

/* Questions and answers beside translations into two languages, and graded pairs. */
static bool write_bridge(char command[PATH], const char *settings)
{
    char text[16 * PATH];
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return false;
    write_file("faq.jsonl", "[\"where is my card\", \"your card is in the post\"]\n"
                            "[\"how do I pay\", \"pay with your card\", \"do not pay\"]\n"
                            "[\"who are you\", \"your bank is your friend\"]\n"
                            "[\"what is a bank\", \"a bank is a house\"]\n");
    write_file("talk.tsv", "one house\tein Haus\tune maison\ntwo trees\tzwei Baeume\tdeux arbres\n"
                           "three birds\tdrei Voegel\ttrois oiseaux\nfour cats\tvier Katzen\tquatre chats\n");
    write_file("sts.tsv", "a house\ta home\t4.5\na house\ta bird\t0.5\na tree\ta plant\t3\na tree\ta card\t1\n");
    snprintf(text, sizeof text,
             "[train]\nmodel = %s\noutput = %s\nbatch_size = 2\nepochs = 6\nthreads = 1\n%s"
             "[mix]\nsampling = equal\n"
             "[data faq]\nfile = %s\n"
             "[data de]\nform = columns\ncolumns = 1 2\nfile = %s\n"
             "[data fr]\nform = columns\ncolumns = 1 3\nfile = %s\n"
             "[data sts]\nform = sts\nfile = %s\n"
             "[eval de]\nkind = translation\nform = columns\ncolumns = 1 2\nfile = %s\n"
             "[eval sts]\nkind = sts\nform = sts\nfile = %s\n",
             dir, testing_path("trained"), settings, testing_path("faq.jsonl"), testing_path("talk.tsv"),
             testing_path("talk.tsv"), testing_path("sts.tsv"), testing_path("talk.tsv"), testing_path("sts.tsv"));
    snprintf(command, PATH, "train %s", write_file("recipe.ini", text));
    return true;
}

START_TEST(questions_translations_and_grades_are_learnt_in_one_run)
{
    char command[PATH];
    model *m;
    if (!write_bridge(command, "matryoshka = 32,16\nmatryoshka_weights = 1,0.5\nscale_kind = learned\n"))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_prints("48 steps"); /* 16 pairs in twos, six times */
    ck_prints("accuracy");
    ck_prints("spearman");
    ck_ok(model_open(&m, testing_path("trained"), NULL, NULL, &error));
    ck_ok(model_try(m, &error));
    model_close(m);
}
END_TEST

START_TEST(a_guide_and_frequencies_are_asked_for_files)
{
    char command[PATH], line[3 * PATH], settings[4 * PATH];
    const char *guide = testing_shared("golden/tiny-mpnet");
    if (guide == NULL)
        return;
    snprintf(settings, sizeof settings, "frequency = true\nguide = %s\nguide_margin = 0.1\nguide_vectors = %s\n", guide,
             testing_path("guide.vectors"));
    if (!write_bridge(command, settings))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_assert_int_eq(access(testing_path("guide.vectors"), F_OK), 0);
    snprintf(line, sizeof line,
             "%s -o train.output=%s -o train.guide_vectors= -o mix.cross_dataset=true -o \"data "
             "sts.form=columns\"",
             command, testing_path("second"));
    ck_assert_int_eq(run(line), 0);
    ck_assert_int_eq(access(testing_path("second"), F_OK), 0);
}
END_TEST

START_TEST(dimensions_beyond_the_models_are_refused)
{
    char command[PATH];
    if (!write_bridge(command, "matryoshka = 32,64\n"))
        return;
    ck_assert_int_eq(run(command), 1);
    ck_prints("Matryoshka dimension 64");
    ck_prints("48");
}
END_TEST

START_TEST(what_makes_no_sense_together_is_refused)
{
    static const struct {
        const char *recipe, *says;
    } wrong[] = {
        {"[data a]\nform = sts\nloss = mnrl\nfile = x\n", "data a: the loss mnrl takes pairs that match"},
        {"[data a]\nloss = cosent\nfile = x\n", "form pairs has none"},
        {"[data a]\nloss = best\nfile = x\n", "auto, mnrl, cosent"},
        {"[data a]\nform = sts\nby_domain = true\ndomains = 2\nfile = x\n", "by_domain is about negatives"},
        {"[mix]\ncross_dataset = true\n[data a]\nform = sts\nfile = x\n[data b]\nfile = y\n",
         "here are cosent and mnrl"},
        {"[mix]\ncross_dataset = true\n[data a]\nform = sts\nfile = x\n[data b]\nform = sts\nfile = y\n",
         "takes batches of one"},
        {"symmetric = true\n[data a]\nform = sts\nfile = x\n", "train.symmetric is of the loss mnrl"},
        {"margin = 0.1\n[data a]\nform = sts\nfile = x\n", "train.margin is of the loss mnrl"},
        {"scale_kind = learned\n[data a]\nform = sts\nfile = x\n", "train.scale_kind is of the loss mnrl"},
        {"frequency = true\n[data a]\nform = sts\nfile = x\n", "train.frequency is of the loss mnrl"},
        {"guide = x\n[data a]\nform = sts\nfile = x\n", "train.guide is of the loss mnrl"},
        {"guide_margin = 0.1\n[data a]\nfile = x\n", "guide names no model"},
        {"guide_vectors = x\n[data a]\nfile = x\n", "train.guide names no model"},
        {"guide = /nowhere\n[data a]\nfile = x\n", "/nowhere"},
        {"matryoshka = 8,8\n[data a]\nfile = x\n", "names dimension 8 twice"},
        {"[eval a]\nloss = mnrl\nfile = x\n", "unknown key eval a.loss"},
    };
    const char *dir = testing_shared("golden/tiny-bert");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong && dir != NULL; i++) {
        char command[PATH], recipe[3 * PATH];
        snprintf(recipe, sizeof recipe, "[train]\nmodel = %s\noutput = %s\n%s", dir, testing_path("never"),
                 wrong[i].recipe);
        snprintf(command, sizeof command, "train %s", write_file("recipe.ini", recipe));
        ck_assert_int_eq(run(command), 1);
        ck_prints(wrong[i].says);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_losses");
    TCase *tests = tcase_create("losses");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, questions_translations_and_grades_are_learnt_in_one_run);
    tcase_add_test(tests, a_guide_and_frequencies_are_asked_for_files);
    tcase_add_test(tests, dimensions_beyond_the_models_are_refused);
    tcase_add_test(tests, what_makes_no_sense_together_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
