/* Training in fixed shapes: the same losses as without padding, and four plans however long the run. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/loss_mnrl.h"
#include "finetune/train_step.h"
#include "finetune/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 12, TEXTS = 3 * PAIRS, LONGEST = 256, STEPS = 12, WIDTH = 32 };

static sem_error error;

static const model_config CONFIG = {.family = FAMILY_BERT,
                                    .family_name = "bert",
                                    .vocab = 200,
                                    .hidden = WIDTH,
                                    .layers = 2,
                                    .heads = 2,
                                    .intermediate = 64,
                                    .positions = LONGEST,
                                    .types = 2,
                                    .layer_norm_eps = 1e-12f,
                                    .activation = ACT_GELU,
                                    .pooling = POOL_MEAN,
                                    .dim = WIDTH,
                                    .max_tokens = LONGEST};

/* A batch of random texts; those of the bucket's widths and one beside them among them. */
typedef struct random_batch {
    int32_t ids[TEXTS][LONGEST];
    train_text texts[TEXTS];
    uint64_t id[TEXTS];
    train_batch batch;
} random_batch;

static void fill_batch(random_batch *b, random_state *r, bool triplets, size_t longest)
{
    static const uint32_t edges[] = {1, 63, 64, 65, 128, 129, 196, 197, 255, 256};
    const size_t count = (triplets ? 3 : 2) * PAIRS;
    for (size_t i = 0; i < count; i++) {
        const uint32_t edge = edges[random_below(r, sizeof edges / sizeof *edges)];
        const uint32_t length = random_below(r, 2) == 0 && edge <= longest ? edge
                                                                           : 1 + (uint32_t)random_below(r, longest);
        for (size_t k = 0; k < length; k++)
            b->ids[i][k] = (int32_t)random_below(r, CONFIG.vocab);
        b->texts[i] = (train_text){b->ids[i], length};
        b->id[i] = i;
    }
    b->batch = (train_batch){.texts = b->texts, .about = {.pairs = PAIRS, .texts = count, .id = b->id}};
}

/* What a run gives. */
typedef struct outcome {
    double losses[STEPS], norms[STEPS];
    float *params;
    size_t total;
    train_shape_report report;
} outcome;

/* Pairs and triplets in turn, of up to `longest` tokens. */
static outcome run_steps(train_shape shape, size_t longest, size_t tape_bytes, float drop)
{
    outcome o = {.total = 0};
    param_layout layout;
    random_state r;
    loss *l;
    train_step *s;
    const mnrl_options ranking = {.scale = 20};
    random_batch *b = malloc(sizeof *b);
    ck_assert_ptr_nonnull(b);
    ck_ok(param_layout_create(&layout, &CONFIG, &error));
    o.params = malloc(layout.total * sizeof *o.params);
    o.total = layout.total;
    ck_assert_ptr_nonnull(o.params);
    random_seed(&r, 5);
    for (size_t i = 0; i < layout.total; i++)
        o.params[i] = 0.3f * (float)(random_unit(&r) - 0.4);
    ck_ok(loss_mnrl_create(&l, &ranking, &gemm_portable, PAIRS, TEXTS, &error));
    const train_step_options options = {.config = &CONFIG,
                                        .layout = &layout,
                                        .g = &gemm_portable,
                                        .loss = l,
                                        .shape = shape,
                                        .groups = {.layer_decay = 1},
                                        .optimiser = adamw_defaults(),
                                        .clip_norm = 1,
                                        .hidden_dropout = drop,
                                        .attention_dropout = drop,
                                        .seed = 3,
                                        .max_tokens = LONGEST,
                                        .max_steps = STEPS,
                                        .tape_bytes = tape_bytes,
                                        .threads = 2};
    ck_ok(train_step_create(&s, &options, o.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        train_step_result result;
        fill_batch(b, &r, step % 2 == 1, longest);
        ck_ok(train_step_run(s, &b->batch, 1e-4, &result, &error));
        o.losses[step] = result.loss;
        o.norms[step] = result.gradient_norm;
    }
    ck_ok(train_step_finish(s, &error));
    o.report = *train_step_shapes(s);
    train_step_destroy(s);
    loss_destroy(l);
    param_layout_free(&layout);
    free(b);
    return o;
}

/* In one go and in many pieces. */
static const size_t TAPES[] = {1, 4 << 20, 256 << 20};

START_TEST(buckets_give_the_losses_of_packed_texts)
{
    outcome plain = run_steps(TRAIN_SHAPE_PACKED, LONGEST, TAPES[_i], 0);
    outcome padded = run_steps(TRAIN_SHAPE_BUCKETS, LONGEST, TAPES[_i], 0);
    for (size_t step = 0; step < STEPS; step++) {
        ck_assert_double_eq_tol(plain.losses[step], padded.losses[step], 1e-5);
        ck_assert_double_eq_tol(plain.norms[step] / padded.norms[step], 1, 1e-3);
    }
    ck_assert_uint_eq(plain.report.plans_built, 0);
    ck_assert_uint_eq(plain.report.tokens, 0);
    free(plain.params);
    free(padded.params);
}
END_TEST

START_TEST(there_are_four_plans_however_long_the_run)
{
    outcome o = run_steps(TRAIN_SHAPE_BUCKETS, LONGEST, TAPES[_i], 0);
    size_t used = 0;
    ck_assert_uint_eq(o.report.plans_built, TRAIN_BUCKETS);
    for (size_t k = 0; k < TRAIN_BUCKETS; k++) {
        ck_assert_uint_ge(o.report.steps[k], 1);
        ck_assert_uint_le(o.report.steps[k], STEPS);
        ck_assert_uint_ge(o.report.passes[k], o.report.steps[k]);
        used += o.report.steps[k];
    }
    ck_assert_uint_eq(o.report.plans_built + o.report.plans_reused, used);
    ck_assert(o.report.padding > 0 && o.report.padding < o.report.tokens);
    free(o.params);
}
END_TEST

START_TEST(a_width_that_no_text_has_gets_no_plan)
{
    outcome o = run_steps(TRAIN_SHAPE_BUCKETS, 100, TAPES[1], 0);
    ck_assert_uint_eq(o.report.plans_built, 2);
    ck_assert_uint_eq(o.report.steps[2] + o.report.steps[3], 0);
    free(o.params);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_bits)
{
    outcome a = run_steps(TRAIN_SHAPE_BUCKETS, LONGEST, TAPES[1], 0.1f);
    outcome b = run_steps(TRAIN_SHAPE_BUCKETS, LONGEST, TAPES[1], 0.1f);
    ck_assert(memcmp(a.params, b.params, a.total * sizeof *a.params) == 0);
    free(a.params);
    free(b.params);
}
END_TEST

START_TEST(texts_longer_than_the_widest_shape_are_refused)
{
    train_config config;
    train_config_defaults(&config);
    config.shape = TRAIN_SHAPE_BUCKETS;
    config.max_tokens = 256;
    ck_ok(train_config_check(&config, &error));
    config.max_tokens = 257;
    ck_fails(train_config_check(&config, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, "256") != NULL, "%s", error.message);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_shapes");
    TCase *tests = tcase_create("shapes");
    const int tapes = sizeof TAPES / sizeof *TAPES;
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, buckets_give_the_losses_of_packed_texts, 0, tapes);
    tcase_add_loop_test(tests, there_are_four_plans_however_long_the_run, 0, tapes);
    tcase_add_test(tests, a_width_that_no_text_has_gets_no_plan);
    tcase_add_test(tests, the_same_seed_gives_the_same_bits);
    tcase_add_test(tests, texts_longer_than_the_widest_shape_are_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
