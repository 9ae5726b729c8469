/* Training from files as they are read. */
#include "tests/finetune/run_case.h"

#include <math.h>
#include <unistd.h>

enum { PAIRS = 12, STEPS = 3 };

static train_mix_options steps_of(size_t steps, size_t negatives)
{
    return (train_mix_options){.steps = steps, .negatives = negatives, .lessons = &RANKING, .set_count = 1};
}

static size_t total_of(const model *m)
{
    return encoder_layout(model_get_encoder(m))->total;
}

static const char *pairs_file(void)
{
    if (access(data_file_path("train.jsonl"), F_OK) == 0)
        return data_file_path("train.jsonl"); /* a checkpoint goes by the file's time */
    return data_file_of("train.jsonl", "[\"question number #\", \"answer to #\"]", PAIRS);
}

/* In one batch the order of pairs counts for nothing. */
START_TEST(training_from_a_file_equals_training_on_its_pairs)
{
    run_case c;
    char texts[PAIRS][2][64];
    train_pair pairs[PAIRS];
    train_report report, expected_report;
    float *params, *expected;
    train_config config = settings(PAIRS, STEPS);
    config.symmetric = true;
    config.margin = 0.1;
    config.schedule = SCHEDULE_COSINE;
    config.average = 0.5;
    const train_mix_options options = steps_of(STEPS, 0);
    if (!run_begin(&c, pairs_file(), PAIRS))
        return;
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(texts[i][0], 64, "question number %zu", i);
        snprintf(texts[i][1], 64, "answer to %zu", i);
        pairs[i] = (train_pair){.query = texts[i][0],
                                .query_length = strlen(texts[i][0]),
                                .document = texts[i][1],
                                .document_length = strlen(texts[i][1]),
                                .query_key = 100 + i,
                                .document_key = 200 + i,
                                .weight = 1};
    }
    ck_ok(train_on_mix(c.m, c.mix, &options, &config, NULL, &params, &report, &error));
    ck_ok(train_mnrl(c.m, pairs, PAIRS, &config, NULL, &expected, &expected_report, &error));
    ck_assert_uint_eq(report.steps, STEPS);
    ck_assert_uint_eq(report.pairs, STEPS * PAIRS);
    ck_assert_double_eq_tol(report.first_loss, expected_report.first_loss, 1e-5);
    ck_assert_double_eq_tol(report.last_loss, expected_report.last_loss, 1e-4);
    ck_assert_double_lt(report.last_loss, report.first_loss);
    /* A step of AdamW goes by a gradient's sign: where that is near 0 it may go either way. */
    size_t far = 0;
    for (size_t i = 0; i < total_of(c.m); i++)
        far += !(fabsf(params[i] - expected[i]) < 1e-4F);
    ck_assert_uint_lt(far, total_of(c.m) / 500);
    free(params);
    free(expected);
    run_end(&c);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_bits)
{
    const train_config config = settings(5, STEPS);
    const train_mix_options options = steps_of(6, 1);
    float *first = NULL;
    for (size_t round = 0; round < 2; round++) {
        run_case c;
        train_report report;
        float *params;
        if (!run_begin(&c, pairs_file(), 5))
            return;
        ck_ok(train_on_mix(c.m, c.mix, &options, &config, NULL, &params, &report, &error));
        if (round > 0)
            ck_assert_mem_eq(params, first, total_of(c.m) * sizeof *params);
        free(round > 0 ? params : NULL);
        first = round == 0 ? params : first;
        run_end(&c);
    }
    free(first);
}
END_TEST

/* Ten steps, dropout and all; with a checkpoint every three. Cancelled behind some of them. */
static float *train_ten(const char *checkpoint, size_t cancelled_behind, sem_status expected)
{
    run_case c;
    train_report report;
    float *params = NULL;
    stopper s = {.behind = cancelled_behind};
    const train_control control = {.cancel = &s.cancel, .progress = stop, .context = &s};
    train_config config = settings(5, STEPS);
    config.dropout = 0.1;
    config.accumulate = 2;
    config.checkpoint = checkpoint;
    config.checkpoint_every = 3;
    const train_mix_options options = steps_of(10, 1);
    ck_assert(run_begin(&c, pairs_file(), 5));
    ck_fails(train_on_mix(c.m, c.mix, &options, &config, &control, &params, &report, &error), expected);
    if (expected == SEM_OK)
        ck_assert_uint_eq(report.steps, 10);
    run_end(&c);
    return params;
}

START_TEST(a_run_goes_on_from_its_checkpoint_to_the_same_bits)
{
    run_case c;
    char path[512];
    snprintf(path, sizeof path, "%s", data_file_path("checkpoint"));
    if (!run_begin(&c, pairs_file(), 5))
        return;
    const size_t bytes = total_of(c.m) * sizeof(float);
    run_end(&c);
    float *whole = train_ten(NULL, 0, SEM_OK);
    ck_assert_ptr_null(train_ten(path, 5, SEM_CANCELLED));
    ck_assert_ptr_null(train_ten(path, 8, SEM_CANCELLED));
    float *resumed = train_ten(path, 0, SEM_OK);
    ck_assert_mem_eq(whole, resumed, bytes);
    free(whole);
    free(resumed);
    /* Other data: another run. */
    data_file("train.jsonl", "[\"a\", \"b\"]\n[\"c\", \"d\"]\n");
    train_report report;
    float *params;
    train_config config = settings(5, STEPS);
    config.checkpoint = path;
    config.checkpoint_every = 3;
    const train_mix_options options = steps_of(10, 1);
    ck_assert(run_begin(&c, data_file_path("train.jsonl"), 5));
    ck_fails(train_on_mix(c.m, c.mix, &options, &config, NULL, &params, &report, &error), SEM_FAILED_PRECONDITION);
    run_end(&c);
}
END_TEST

static const char MIXED[] = "[\"q0\", \"p0\"]\n[\"q1\", \"p1\", \"n1\"]\n[\"q2\", \"p2\", \"n2\", \"m2\", \"o2\"]\n"
                            "{\"query\": \"q3\", \"pos\": [\"p3\"], \"neg\": [\"p0\"]}\n";

START_TEST(a_batch_holds_anchors_positives_and_as_many_negatives_as_there_are)
{
    for (size_t most = 0; most < 4; most++) {
        run_case c;
        mix_source *s;
        train_batch batch;
        if (!run_begin(&c, data_file("mixed.jsonl", MIXED), 4))
            return;
        const mix_source_options options = {.lessons = &RANKING, .batch_size = 4, .negatives = most, .seed = 1};
        const size_t expected = most == 0 ? 0 : 2 + (most < 3 ? most : 3);
        ck_ok(mix_source_create(&s, c.m, c.mix, &options, &error));
        ck_ok(mix_source_next(s, &batch, &error));
        ck_assert_uint_eq(batch.about.pairs, 4);
        ck_assert_uint_eq(batch.about.texts, 8 + expected);
        ck_assert_uint_le(batch.about.texts, mix_source_max_texts(s));
        for (size_t i = 0; i < batch.about.texts; i++) {
            ck_assert_uint_ge(batch.texts[i].length, 2);
            ck_assert_uint_eq(batch.about.label[i], LOSS_NO_KEY);
        }
        /* A negative that is another pair's positive has that one's key. */
        size_t equal = 0;
        for (size_t i = 8; i < batch.about.texts; i++)
            for (size_t j = 4; j < 8; j++)
                equal += batch.about.text[i] == batch.about.text[j] && batch.about.id[i] == batch.about.id[j];
        ck_assert_uint_eq(equal, most > 0);
        mix_source_destroy(s);
        run_end(&c);
    }
}
END_TEST

START_TEST(texts_of_one_set_share_a_label)
{
    run_case c;
    mix_source *s;
    train_batch batch;
    if (!run_begin(&c, data_file("sets.jsonl", "{\"set\": [\"a\", \"b\", \"c\", \"d\"]}\n[\"e\", \"f\"]\n"), 8))
        return;
    const mix_source_options options = {.lessons = &RANKING, .batch_size = 8, .seed = 1};
    size_t labelled = 0;
    uint64_t label = 0;
    ck_ok(mix_source_create(&s, c.m, c.mix, &options, &error));
    ck_ok(mix_source_next(s, &batch, &error));
    ck_assert_uint_eq(batch.about.texts, 6);
    for (size_t i = 0; i < 6; i++)
        if (batch.about.label[i] != LOSS_NO_KEY) {
            ck_assert(labelled == 0 || label == batch.about.label[i]);
            label = batch.about.label[i];
            labelled++;
        }
    ck_assert_uint_eq(labelled, 4);
    mix_source_destroy(s);
    run_end(&c);
}
END_TEST

START_TEST(a_run_that_is_cancelled_says_so)
{
    run_case c;
    train_report report;
    float *params;
    const train_config config = settings(4, STEPS);
    const atomic_bool cancel = true;
    const train_control control = {.cancel = &cancel};
    if (!run_begin(&c, pairs_file(), 4))
        return;
    const train_mix_options five = steps_of(5, 0), none = steps_of(0, 0), many = steps_of(1, 1000);
    ck_fails(train_on_mix(c.m, c.mix, &five, &config, &control, &params, &report, &error), SEM_CANCELLED);
    ck_assert_ptr_null(params);
    ck_fails(train_on_mix(c.m, c.mix, &none, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    ck_fails(train_on_mix(c.m, c.mix, &many, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    run_end(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_mix");
    TCase *tests = tcase_create("training");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, training_from_a_file_equals_training_on_its_pairs);
    tcase_add_test(tests, the_same_seed_gives_the_same_bits);
    tcase_add_test(tests, a_run_goes_on_from_its_checkpoint_to_the_same_bits);
    tcase_add_test(tests, a_batch_holds_anchors_positives_and_as_many_negatives_as_there_are);
    tcase_add_test(tests, texts_of_one_set_share_a_label);
    tcase_add_test(tests, a_run_that_is_cancelled_says_so);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
