/* semtrain distill: a student of another family and width learns a teacher's vectors. */
#include "tests/tools/semtrain_run.h"

#include "model/model.h"

#include <jansson.h>

static const char STUDENT[] = "golden/tiny-xlmr", TEACHER[] = "golden/family-bert-layernorm-eps-nogelu";

enum { LINES = 60 };

static const char *shared(const char *name)
{
    static char paths[4][PATH];
    static size_t next;
    const char *found = testing_shared(name);
    char *path = paths[next++ % 4];
    snprintf(path, PATH, "%s", found != NULL ? found : "");
    return path;
}

static void write_talk(void)
{
    char text[LINES * 64], *at = text;
    if (access(testing_path("talk.tsv"), F_OK) == 0)
        return; /* a checkpoint goes by the file's time */
    for (size_t i = 0; i < LINES; i++)
        at += sprintf(at, "sentence number %zu\tSatz Nummer %zu\tphrase numero %zu\n", i, i, i);
    write_file("talk.tsv", text);
}

/* Distils into `output`; extra: lines of [train]; data: lines of the set. False: the models are missing. */
static bool write_recipe(char command[PATH], const char *name, const char *out, const char *extra, const char *data)
{
    char text[8 * PATH];
    if (testing_shared(STUDENT) == NULL)
        return false;
    write_talk();
    snprintf(text, sizeof text,
             "[train]\nmodel = %s\noutput = %s\nbatch_size = 8\nlearning_rate = 0.002\nthreads = 1\n%s"
             "[data talk]\nform = columns\nfile = %s\n%s"
             "[eval de]\nkind = translation\nform = columns\ncolumns = 1 2\nfile = %s\n"
             "[eval search]\nform = columns\ncolumns = 2 1\nfile = %s\n",
             shared(STUDENT), testing_path(out), extra, testing_path("talk.tsv"), data, testing_path("talk.tsv"),
             testing_path("talk.tsv"));
    char file[64];
    snprintf(file, sizeof file, "%s.ini", out);
    snprintf(command, PATH, "%s %s", name, write_file(file, text));
    return true;
}

static const char *taught(const char *extra)
{
    static char text[2 * PATH];
    snprintf(text, sizeof text, "teacher = %s\n%s", shared(TEACHER), extra);
    return text;
}

static void ck_same_weights(const char *a, const char *b)
{
    char first[2 * PATH], second[2 * PATH];
    snprintf(first, sizeof first, "%s/model.safetensors", testing_path(a));
    snprintf(second, sizeof second, "%s/model.safetensors", testing_path(b));
    ck_same_files(first, second);
}

static void flip(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
    const int byte = fgetc(file);
    ck_assert_int_eq(fseek(file, at, SEEK_SET), 0);
    ck_assert_int_ne(fputc(byte ^ 1, file), EOF);
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(a_student_of_another_width_learns_the_teachers_vectors)
{
    char command[PATH], line[2 * PATH];
    model *m;
    if (!write_recipe(command, "distill", "student", taught("epochs = 12\n"), ""))
        return;
    snprintf(line, sizeof line, "--json %s", command);
    ck_assert_int_eq(run(line), 0);
    char *rest = strchr(output, '\n');
    ck_assert_ptr_nonnull(rest);
    *rest = '\0';
    json_t *report = json_loads(output, 0, NULL);
    ck_assert_ptr_nonnull(report);
    const double first = json_number_value(json_object_get(report, "first_loss"));
    const double last = json_number_value(json_object_get(report, "last_loss"));
    ck_assert_msg(last < first / 4, "loss %g -> %g", first, last);
    ck_assert_str_eq(json_string_value(json_object_get(report, "teacher")), shared(TEACHER));
    json_decref(report);
    ck_assert_ptr_nonnull(strstr(rest + 1, "\"figure\":\"forward\",\"before\":"));
    ck_assert_ptr_nonnull(strstr(rest + 1, "\"teacher\":"));
    ck_ok(model_open(&m, testing_path("student"), NULL, NULL, &error));
    ck_ok(model_try(m, &error));
    ck_assert_uint_eq(model_get_config(m)->dim, 64);
    ck_assert_uint_eq(model_get_config(m)->hidden, 48);
    ck_assert_uint_eq(model_get_config(m)->dense_count, 1);
    ck_assert_str_eq(model_get_config(m)->dense[0].folder, "2_Dense");
    model_close(m);
    ck_assert_int_eq(access(testing_path("student.teacher"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("student.tmp-widened"), F_OK), 0);
}
END_TEST

START_TEST(vectors_are_kept_for_other_runs_and_made_anew_where_they_are_wrong)
{
    char command[PATH], line[3 * PATH];
    if (!write_recipe(command, "distill", "first", taught("max_steps = 20\n"), ""))
        return;
    ck_assert_int_eq(run(command), 0);
    snprintf(line, sizeof line, "%s -o train.output=%s -o train.teacher_vectors=%s", command, testing_path("second"),
             testing_path("first.teacher"));
    ck_assert_int_eq(run(line), 0);
    ck_assert_ptr_null(strstr(output, "anew"));
    ck_same_weights("first", "second");
    flip(testing_path("first.teacher"), 5000);
    snprintf(line, sizeof line, "%s -o train.output=%s -o train.teacher_vectors=%s", command, testing_path("third"),
             testing_path("first.teacher"));
    ck_assert_int_eq(run(line), 0);
    ck_prints("first.teacher is damaged");
    ck_same_weights("first", "third");
    snprintf(line, sizeof line, "%s -o train.output=%s -o train.teacher_vectors=%s -o train.teacher=%s", command,
             testing_path("fourth"), testing_path("first.teacher"), shared("golden/family-xlmr-dense-tanh"));
    ck_assert_int_eq(run(line), 0);
    ck_prints("first.teacher is of another model");
    snprintf(line, sizeof line, "%s -o train.output=%s -o train.teacher_vectors=%s", command, testing_path("fifth"),
             testing_path("talk.tsv"));
    ck_assert_int_eq(run(line), 1);
    ck_prints("something else");
}
END_TEST

START_TEST(a_killed_run_goes_on_to_the_same_bits)
{
    static const char *const commands[] = {"train", "distill"};
    char command[PATH], extra[2 * PATH];
    for (size_t i = 0; i < 2; i++) {
        const char *name = commands[i];
        char whole[32], cut[32];
        snprintf(whole, sizeof whole, "%s-whole", name);
        snprintf(cut, sizeof cut, "%s-cut", name);
        snprintf(extra, sizeof extra, "epochs = 15\naverage = 0.9\n");
        if (!write_recipe(command, name, whole, i == 0 ? extra : taught(extra), ""))
            return;
        ck_assert_int_eq(run(command), 0);
        snprintf(extra, sizeof extra, "epochs = 15\naverage = 0.9\ncheckpoint = %s.checkpoint\ncheckpoint_every = 7\n",
                 testing_path(cut));
        ck_assert(write_recipe(command, name, cut, i == 0 ? extra : taught(extra), ""));
        run_through_kills(command, cut);
        ck_same_weights(whole, cut);
    }
}
END_TEST

START_TEST(a_teacher_teaches_beside_other_losses)
{
    char command[PATH], data[3 * PATH];
    write_file("faq.jsonl", "[\"where is my card\", \"in the post\"]\n[\"how do I pay\", \"with your card\"]\n"
                            "[\"who are you\", \"your friend\"]\n[\"what is a bank\", \"a house\"]\n");
    snprintf(data, sizeof data, "loss = mse\n[data faq]\nfile = %s\n", testing_path("faq.jsonl"));
    char extra[2 * PATH];
    snprintf(extra, sizeof extra, "epochs = 2\nteacher = %s\n", shared("golden/tiny-bert"));
    if (!write_recipe(command, "train", "beside", extra, data))
        return;
    ck_assert_int_eq(run(command), 0);
    ck_prints("loss ");
    snprintf(data, sizeof data, "target = each\n[data faq]\nloss = mnrl\nfile = %s\n", testing_path("faq.jsonl"));
    ck_assert(write_recipe(command, "distill", "both", taught("epochs = 2\nmatryoshka = 16,32\n"), data));
    ck_assert_int_eq(run(command), 0);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    const struct {
        const char *command, *extra, *data, *says;
    } wrong[] = {
        {"distill", "", "", "train.teacher is empty"},
        {"train", taught(""), "", "which no data set has"},
        {"train", "teacher_vectors = x\n", "", "which no data set has"},
        {"train", "teacher = /nowhere\n", "loss = mse\n", "/nowhere"},
        {"distill", "teacher = /nowhere\n", "loss = mnrl\n", "which no data set has"},
        {"train", "", "target = each\n", "target = each is of the loss mse"},
        {"distill", "teacher = x\n", "[data l]\nform = labelled\nfile = x\n", "target = each gives each its own"},
        {"distill", "teacher = x\n", "[data s]\nform = sts\nloss = mse\nfile = x\n",
         "target = each gives each its own"},
        {"distill", "teacher = x\n", "[data p]\nanchor = a\npositive = b\nnegative = n\nfile = x\n",
         "negative is about negatives"},
        {"distill", "teacher = x\nsymmetric = true\n", "", "train.symmetric is of the loss mnrl"},
        {"distill", "teacher = x\n", "[data b]\nfile = x\ntarget = each\n[mix]\ncross_dataset = true\n",
         "here are anchor and each"},
    };
    char command[PATH];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (!write_recipe(command, wrong[i].command, "never", wrong[i].extra, wrong[i].data))
            return;
        ck_assert_int_eq(run(command), 1);
        ck_prints(wrong[i].says);
    }
    ck_assert(write_recipe(command, "train", "never", taught(""), "loss = mse\n"));
    ck_assert_int_eq(run(command), 1);
    ck_prints("semtrain distill adds a projection");
    ck_assert_int_ne(access(testing_path("never"), F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_distill");
    TCase *tests = tcase_create("distill");
    tcase_set_timeout(tests, 250);
    tcase_add_test(tests, a_student_of_another_width_learns_the_teachers_vectors);
    tcase_add_test(tests, vectors_are_kept_for_other_runs_and_made_anew_where_they_are_wrong);
    tcase_add_test(tests, a_killed_run_goes_on_to_the_same_bits);
    tcase_add_test(tests, a_teacher_teaches_beside_other_losses);
    tcase_add_test(tests, what_makes_no_sense_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
