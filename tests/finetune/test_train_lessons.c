/* Runs in which data sets have losses of their own. */
#include "tests/finetune/run_case.h"

#include <unistd.h>

enum { SETS = 3, PAIRS = 12, BATCH = 4, STEPS = 18 };

static const mix_lesson LESSONS[SETS] = {{.loss = LOSS_MNRL}, {.loss = LOSS_COSENT}, {.loss = LOSS_MNRL}};

/* Questions, graded pairs and translations, drawn alike. */
typedef struct lessons_case {
    model *m;
    const char *files[SETS];
    data_options data[SETS];
    mix_set sets[SETS];
    mix *mix;
} lessons_case;

static void write_files(lessons_case *c)
{
    static const char *const names[SETS] = {"faq.jsonl", "sts.tsv", "de.tsv"};
    const bool written = access(data_file_path(names[0]), F_OK) == 0; /* a checkpoint goes by the files' time */
    for (size_t i = 0; i < SETS; i++)
        c->files[i] = strcpy(malloc(512), data_file_path(names[i]));
    if (written)
        return;
    data_file_of(names[0], "[\"question number #\", \"answer to #\", \"no answer to #\"]", PAIRS);
    data_file_of(names[1], "house number #\tthe house with the number #\t#", PAIRS);
    data_file_of(names[2], "sentence #\tSatz #", PAIRS);
}

static bool begin(lessons_case *c)
{
    static const data_form forms[SETS] = {DATA_PAIRS, DATA_STS, DATA_COLUMNS};
    *c = (lessons_case){.m = open_tiny()};
    if (c->m == NULL)
        return false;
    write_files(c);
    for (size_t i = 0; i < SETS; i++) {
        c->data[i] = data_options_defaults();
        c->data[i].name = c->files[i];
        c->data[i].form = forms[i];
        c->data[i].files = &c->files[i];
        c->data[i].file_count = 1;
        c->sets[i] = (mix_set){.data = &c->data[i], .size = PAIRS, .weight = 1};
    }
    const mix_options options = {.weighting = {.method = MIX_EQUAL}, .batch_size = BATCH, .seed = 4};
    ck_ok(mix_open(&c->mix, &options, c->sets, SETS, &error));
    return true;
}

static void end(lessons_case *c)
{
    mix_close(c->mix);
    model_close(c->m);
    for (size_t i = 0; i < SETS; i++)
        free((char *)(uintptr_t)c->files[i]);
}

START_TEST(every_batch_is_of_one_set_and_for_its_loss)
{
    lessons_case c;
    mix_source *s;
    size_t graded = 0, ranked = 0, translated = 0;
    if (!begin(&c))
        return;
    const mix_source_options options = {.lessons = LESSONS, .batch_size = BATCH, .negatives = 1, .seed = 1};
    ck_ok(mix_source_create(&s, c.m, c.mix, &options, &error));
    for (size_t i = 0; i < 60; i++) {
        train_batch batch;
        ck_ok(mix_source_next(s, &batch, &error));
        const loss_batch *about = &batch.about;
        ck_assert_uint_eq(about->pairs, BATCH);
        graded += about->which == LOSS_COSENT;
        ranked += about->which == LOSS_MNRL && about->texts == 3 * BATCH;
        translated += about->which == LOSS_MNRL && about->texts == 2 * BATCH;
        /* The scores are the lines' numbers, which stand once in a set. */
        for (size_t k = 1; k < BATCH && about->which == LOSS_COSENT; k++)
            ck_assert(about->score[k] != about->score[k - 1] && about->score[k] < PAIRS);
        ck_assert(about->which != LOSS_COSENT || about->texts == 2 * BATCH);
    }
    ck_assert_uint_eq(graded + ranked + translated, 60);
    ck_assert(graded > 8 && ranked > 8 && translated > 8);
    mix_source_destroy(s);
    end(&c);
}
END_TEST

START_TEST(a_loss_by_scores_is_refused_where_there_are_none)
{
    static const mix_lesson wrong[SETS] = {{.loss = LOSS_COSENT}, {.loss = LOSS_COSENT}, {.loss = LOSS_COSENT}};
    lessons_case c;
    mix_source *s;
    train_batch batch;
    sem_status status = SEM_OK;
    if (!begin(&c))
        return;
    const mix_source_options options = {.lessons = wrong, .batch_size = BATCH, .seed = 1};
    ck_ok(mix_source_create(&s, c.m, c.mix, &options, &error));
    for (size_t i = 0; i < 60 && status == SEM_OK; i++)
        status = mix_source_next(s, &batch, &error);
    ck_assert_int_eq(status, SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "has none"));
    mix_source_destroy(s);
    end(&c);
}
END_TEST

static float *train_all(const mix_lesson *lessons, const char *checkpoint, size_t behind, sem_status expected,
                        size_t *total)
{
    lessons_case c;
    train_config config;
    train_report report;
    float *params = NULL;
    stopper s = {.behind = behind};
    const train_control control = {.cancel = &s.cancel, .progress = stop, .context = &s};
    const train_mix_options options = {.steps = STEPS, .negatives = 1, .lessons = lessons, .set_count = SETS};
    ck_assert(begin(&c));
    train_config_defaults(&config);
    config.batch_size = BATCH;
    config.learning_rate = 1e-3;
    config.scale_kind = MNRL_SCALE_LEARNED;
    config.dim_count = 2;
    config.dims[0] = 8;
    config.dims[1] = 32;
    config.dim_weights[0] = config.dim_weights[1] = 1;
    config.threads = 2;
    config.checkpoint = checkpoint;
    config.checkpoint_every = 4;
    ck_fails(train_on_mix(c.m, c.mix, &options, &config, &control, &params, &report, &error), expected);
    *total = encoder_layout(model_get_encoder(c.m))->total;
    end(&c);
    return params;
}

START_TEST(a_run_of_several_losses_goes_on_to_the_same_bits)
{
    static const mix_lesson others[SETS] = {{.loss = LOSS_MNRL}, {.loss = LOSS_COSENT}, {.loss = LOSS_COSENT}};
    char path[512];
    size_t total;
    snprintf(path, sizeof path, "%s", data_file_path("checkpoint"));
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    float *whole = train_all(LESSONS, NULL, 0, SEM_OK, &total);
    ck_assert_ptr_null(train_all(LESSONS, path, 6, SEM_CANCELLED, &total));
    ck_assert_ptr_null(train_all(LESSONS, path, 13, SEM_CANCELLED, &total));
    ck_assert_ptr_null(train_all(others, path, 0, SEM_FAILED_PRECONDITION, &total));
    float *resumed = train_all(LESSONS, path, 0, SEM_OK, &total);
    ck_assert_mem_eq(whole, resumed, total * sizeof *whole);
    free(whole);
    free(resumed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_lessons");
    TCase *tests = tcase_create("lessons");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, every_batch_is_of_one_set_and_for_its_loss);
    tcase_add_test(tests, a_loss_by_scores_is_refused_where_there_are_none);
    tcase_add_test(tests, a_run_of_several_losses_goes_on_to_the_same_bits);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
