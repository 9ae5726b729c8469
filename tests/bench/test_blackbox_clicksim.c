/* The whole loop, small: simulated people and a real daemon with a tiny model. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "bench/clicksim/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

enum { ROUNDS = 2 };

/* A training that takes two layers seconds, and a gate that judges by few queries: what is held
 * out differs from run to run, so either decision is right. */
static const char *const SETTINGS[] = {
    "finetune.min_pairs=50", "finetune.min_heldout=5",    "finetune.heldout_share=0.3",
    "finetune.max_p=0.3",    "train.batch_size=16",       "train.learning_rate=0.002",
    "train.epochs=6",        "finetune.max_probe_loss=1", "train.dropout=0",
    "finetune.nice=0",       "storage.map_size=4GiB"};

static run_options options(const char *model)
{
    static char semd[FILES_PATH_MAX];
    const char *build = getenv("SEMD_BUILD");
    snprintf(semd, sizeof semd, "%s/semd", build != NULL ? build : "build");
    run_options o = {.sets = {"words"},
                     .variants = {"none", "debiased"},
                     .model = {.kind = CLICK_PBM, .strength = 0, .hit = 1, .noise = 0.01},
                     .rounds = ROUNDS,
                     .clicks = 400,
                     .users = 100,
                     .seed = 1,
                     .mode = "full",
                     .out = testing_folder(),
                     .semd = semd,
                     .model_path = model};
    memcpy(o.options, SETTINGS, sizeof SETTINGS);
    return o;
}

START_TEST(a_small_loop_decides_each_round_and_no_request_fails)
{
    const char *model = testing_shared("golden/tiny-bert");
    results_row *rows;
    size_t count;
    if (model == NULL)
        return;
    const run_options o = options(model);
    ck_ok(run_all(&o, &error)); /* fails with the first request that does */
    const char *path = testing_path("results.jsonl");
    ck_ok(results_read(&rows, &count, &path, 1, &error));

    ck_assert_uint_eq(count, 1 + 1 + ROUNDS); /* none is measured once */
    ck_assert_double_eq(rows[0].heldout.mrr, rows[1].heldout.mrr);
    for (const results_row *row = &rows[2]; row < rows + count; row++) {
        ck_assert_uint_ge(row->people.clicks, o.clicks);
        ck_assert_uint_gt(row->people.right, o.clicks / 2);
        ck_assert(strcmp(row->decision, "promoted") == 0 || strcmp(row->decision, "discarded") == 0);
        ck_assert_str_ne(row->reason, "");
        ck_assert_uint_gt(row->pairs, 50);
        /* What is not promoted changes nothing, what is does. */
        bool changed = fabs(row->heldout.mrr - row[-1].heldout.mrr) > 1e-9;
        ck_assert_int_eq(changed, strcmp(row->decision, "promoted") == 0);
    }
    free(rows);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clicksim");
    TCase *tests = tcase_create("loop");
    tcase_set_timeout(tests, 280);
    tcase_add_test(tests, a_small_loop_decides_each_round_and_no_request_fails);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
