/* What semtrain writes opens in Python's sentence-transformers and gives the same vectors. */
#include "tests/tools/semtrain_run.h"

#include "model/model.h"
#include "finetune/text_vectors.h"

#include <unistd.h>

static const char *const TEXTS[] = {
    "a house",
    "ein Haus an der Straße, und noch eines",
    "où est la maison ?",
    "  white   space\tand  tabs ",
    "ÀÉÎÕÜ ß ñ – “quoted” … ½ ™ ﬁ",
    "日本語の文章と中文句子",
    "emoji 👩‍👩‍👧 and flags 🇩🇪",
    "x",
    "one two three four five six seven eight nine ten one two three four five six seven eight nine ten one two three "
    "four "
    "five six seven eight nine ten one two three four five six seven eight nine ten one two three four five six seven",
};
enum { TEXT_COUNT = sizeof TEXTS / sizeof *TEXTS };

static void write_vectors(const char *dir, const char *path)
{
    model *m;
    data_text texts[TEXT_COUNT];
    float *vectors;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        texts[i] = (data_text){TEXTS[i], strlen(TEXTS[i])};
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_ok(text_vectors(m, texts, TEXT_COUNT, false, 1, (niceness){0}, &vectors, &error));
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    const size_t floats = TEXT_COUNT * model_get_config(m)->dim;
    ck_assert_uint_eq(fwrite(vectors, sizeof *vectors, floats, out), floats);
    ck_assert_int_eq(fclose(out), 0);
    free(vectors);
    model_close(m);
}

/* A model of a command and, where it has one, a teacher: of which families and widths. */
static const struct {
    const char *command, *student, *teacher, *settings;
} CASES[] = {
    {"train", "golden/tiny-bert", NULL, "matryoshka = 32,16\nscale_kind = learned\n"},
    {"train", "golden/tiny-mpnet", NULL, "symmetric = true\n"},
    {"distill", "golden/tiny-xlmr", "golden/tiny-bert", ""},
    {"distill", "golden/tiny-roberta", "golden/family-bert-layernorm-eps-nogelu", ""},
    {"distill", "golden/family-xlmr-dense-tanh", "golden/tiny-bert", ""},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

/* False where the models are missing. */
static bool make_model(size_t i)
{
    char text[4 * PATH], name[64], command[2 * PATH], line[PATH];
    const char *student = testing_shared(CASES[i].student);
    if (student == NULL)
        return false;
    snprintf(name, sizeof name, "model%zu", i);
    int used = snprintf(text, sizeof text,
                        "[train]\nmodel = %s\noutput = %s\nbatch_size = 4\nepochs = 8\nlearning_rate = 0.001\n%s",
                        student, testing_path(name), CASES[i].settings);
    if (CASES[i].teacher != NULL)
        used += snprintf(text + used, sizeof text - (size_t)used, "teacher = %s\n", testing_shared(CASES[i].teacher));
    snprintf(text + used, sizeof text - (size_t)used, "[data talk]\nform = columns\nfile = %s\n",
             testing_path("talk.tsv"));
    snprintf(line, sizeof line, "recipe%zu.ini", i);
    snprintf(command, sizeof command, "%s %s", CASES[i].command, write_file(line, text));
    ck_assert_int_eq(run(command), 0);
    snprintf(line, sizeof line, "vectors%zu", i);
    write_vectors(testing_path(name), testing_path(line));
    return true;
}

START_TEST(trained_and_distilled_models_give_the_same_vectors_in_python)
{
    char python[FILES_PATH_MAX], line[FILES_PATH_MAX + 3 * CASE_COUNT * PATH], texts[2048];
    size_t used = 0;
    const char *root = getenv("SEMD_ROOT");
    if (!find_python(python, "sentence_transformers"))
        return;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        used += (size_t)snprintf(texts + used, sizeof texts - used, "%s\n", TEXTS[i]);
    write_file("texts", texts);
    write_file("talk.tsv", "one house\tein Haus\tune maison\ntwo trees\tzwei Bäume\tdeux arbres\n"
                           "three birds\tdrei Vögel\ttrois oiseaux\nfour cats\tvier Katzen\tquatre chats\n");
    used = (size_t)snprintf(line, sizeof line, "'%s' '%s/tests/python/check_model.py' 2e-5", python,
                            root != NULL && *root != '\0' ? root : ".");
    for (size_t i = 0; i < CASE_COUNT; i++) {
        if (!make_model(i))
            return;
        used += (size_t)snprintf(line + used, sizeof line - used, " '%s/model%zu' '%s' '%s/vectors%zu'",
                                 testing_folder(), i, testing_path("texts"), testing_folder(), i);
    }
    fflush(NULL);
    ck_assert_msg(system(line) == 0, "check_model.py: see above");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_python");
    TCase *tests = tcase_create("python");
    tcase_set_timeout(tests, 250);
    tcase_add_test(tests, trained_and_distilled_models_give_the_same_vectors_in_python);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
