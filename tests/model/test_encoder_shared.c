#include "tests/common/testing.h"
#include "tests/model/small_model.h"

#include "base/random.h"
#include "model/encoder.h"
#include "model/kernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MEMBERS_MAX = 4, TOKENS_MAX = 200, TEXTS_MAX = 8, WIDTH_MAX = 96 };

/* Widths that are multiples of a panel and some that are not; with and without a
 * bias by distance. */
static const model_config MPNET = {.family = FAMILY_MPNET,
                                   .family_name = "mpnet",
                                   .vocab = 70,
                                   .hidden = 96,
                                   .layers = 3,
                                   .heads = 3,
                                   .intermediate = 224,
                                   .positions = 90,
                                   .position_start = 2,
                                   .relative_buckets = 32,
                                   .layer_norm_eps = 1e-5f,
                                   .activation = ACT_GELU_TANH,
                                   .pooling = POOL_CLS,
                                   .dim = 96,
                                   .max_tokens = 80};
static const model_config MODERN = {.family = FAMILY_MODERNBERT,
                                    .family_name = "modernbert",
                                    .vocab = 70,
                                    .hidden = 72,
                                    .layers = 3,
                                    .heads = 6,
                                    .intermediate = 104,
                                    .positions = 80,
                                    .rotary_theta = 1000,
                                    .local = {false, true, true},
                                    .window = 7,
                                    .local_theta = 100,
                                    .gated = true,
                                    .prenorm = true,
                                    .no_attention_bias = true,
                                    .layer_norm_eps = 1e-5f,
                                    .activation = ACT_GELU,
                                    .pooling = POOL_MEAN,
                                    .dim = 72,
                                    .max_tokens = 80};
static const model_config *const CONFIGS[] = {&SMALL, &MPNET, &MODERN};
enum { CONFIG_COUNT = sizeof CONFIGS / sizeof *CONFIGS };

static const struct {
    size_t texts;
    uint32_t lengths[TEXTS_MAX];
} BATCHES[] = {{1, {1}},          {1, {6}},        {1, {13}}, {1, {14}},     {1, {25}},
               {1, {64}},         {3, {5, 1, 11}}, {1, {65}}, {2, {40, 33}}, /* too many for a crew, in the end */
               {4, {3, 3, 2, 12}}};
enum { BATCH_COUNT = sizeof BATCHES / sizeof *BATCHES };

static encoder *make_encoder(const model_config *config, packed_precision precision, packed_precision projections)
{
    sem_error error;
    param_layout layout;
    encoder *e;
    ck_ok(param_layout_create(&layout, config, &error));
    float *params = malloc(layout.total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    random_state r;
    random_seed(&r, 3);
    for (size_t i = 0; i < layout.total; i++)
        params[i] = 0.3f * (float)(random_unit(&r) - 0.4);
    param_layout_free(&layout);
    ck_ok(encoder_create(&e, config, params, &gemm_portable, &error));
    encoder_precisions table = encoder_all_in(e, precision);
    for (size_t i = 0; i < encoder_matrices(e); i += 4)
        table.letters[i] = packed_precision_name(projections)[0];
    ck_ok(encoder_pack(e, &table, &error));
    return e;
}

static void random_ids(int32_t *ids, size_t n, random_state *r, const model_config *config)
{
    for (size_t i = 0; i < n; i++)
        ids[i] = (int32_t)random_below(r, config->vocab);
}

/* --- helpers */

typedef struct helper {
    crew *c;
    atomic_bool *stop;
    random_state random;
    unsigned leave_in; /* leaves once in so many chunks; 0: stays */
} helper;

static bool leave(void *context)
{
    helper *h = context;
    return atomic_load(h->stop) || (h->leave_in != 0 && random_below(&h->random, h->leave_in) == 0);
}

static void *help(void *argument)
{
    helper *h = argument;
    while (!atomic_load(h->stop)) {
        crew_help(h->c, leave, h);
        sched_yield();
    }
    return NULL;
}

typedef struct helpers {
    pthread_t threads[MEMBERS_MAX];
    helper each[MEMBERS_MAX];
    size_t count;
    atomic_bool stop;
} helpers;

static void helpers_start(helpers *h, crew *c, size_t count, unsigned leave_in)
{
    h->count = count;
    atomic_store(&h->stop, false);
    for (size_t i = 0; i < count; i++) {
        h->each[i] = (helper){.c = c, .stop = &h->stop, .leave_in = leave_in};
        random_seed(&h->each[i].random, testing_seed() + i);
        ck_assert_int_eq(pthread_create(&h->threads[i], NULL, help, &h->each[i]), 0);
    }
}

static void helpers_stop(helpers *h)
{
    atomic_store(&h->stop, true);
    for (size_t i = 0; i < h->count; i++)
        pthread_join(h->threads[i], NULL);
}

/* --- the same bits */

/* Every batch, alone and with the crew. */
static void check_batches(const encoder *e, const model_config *config, crew *c, unsigned rounds)
{
    sem_error error;
    encoder_scratch *alone, *shared;
    static _Thread_local float expected[TEXTS_MAX * WIDTH_MAX], found[TEXTS_MAX * WIDTH_MAX];
    int32_t ids[TOKENS_MAX];
    random_state r;
    random_seed(&r, testing_seed());
    ck_ok(encoder_scratch_create(&alone, e, 64, &error));
    ck_ok(encoder_scratch_create(&shared, e, 64, &error));
    for (size_t b = 0; b < BATCH_COUNT * rounds; b++) {
        const uint32_t *lengths = BATCHES[b % BATCH_COUNT].lengths;
        size_t texts = BATCHES[b % BATCH_COUNT].texts;
        random_ids(ids, TOKENS_MAX, &r, config);
        memset(found, 0, sizeof found);
        ck_ok(encoder_forward(e, alone, ids, lengths, texts, expected, &error));
        ck_ok(encoder_forward_shared(e, shared, c, ids, lengths, texts, found, &error));
        ck_assert_msg(memcmp(found, expected, texts * config->dim * sizeof *found) == 0,
                      "batch %zu differs with a crew of %zu", b, crew_members(c));
    }
    encoder_scratch_destroy(alone);
    encoder_scratch_destroy(shared);
}

static const struct {
    packed_precision precision, projections;
} PRECISIONS[] = {{PACKED_FLOAT32, PACKED_FLOAT32},
                  {PACKED_BFLOAT16, PACKED_BFLOAT16},
                  {PACKED_INT8, PACKED_INT8},
                  {PACKED_INT8, PACKED_BFLOAT16}};

/* ThreadSanitizer takes its time: the first and the last are enough for it. */
#ifdef __SANITIZE_THREAD__
enum { PRECISION_STEP = 3 };
#else
enum { PRECISION_STEP = 1 };
#endif

static void check_level(const char *name, size_t members, size_t helping, unsigned leave_in)
{
    sem_error error;
    crew *c;
    helpers h;
    ck_assert_int_eq(setenv("SEMD_SIMD", name, 1), 0);
    ck_ok(crew_create(&c, members, &error));
    bool leads = crew_lead(c);
    ck_assert(leads == (members > 1));
    helpers_start(&h, c, helping, leave_in);
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        for (size_t p = 0; p < sizeof PRECISIONS / sizeof *PRECISIONS; p += PRECISION_STEP) {
            encoder *e = make_encoder(CONFIGS[i], PRECISIONS[p].precision, PRECISIONS[p].projections);
            check_batches(e, CONFIGS[i], c, 1);
            encoder_destroy(e);
        }
    }
    helpers_stop(&h);
    if (leads)
        crew_dismiss(c);
    crew_destroy(c);
    unsetenv("SEMD_SIMD");
}

START_TEST(helpers_change_no_bit_of_an_embedding)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    size_t last = 0;
    for (; levels[last] != NULL; last++)
        check_level(levels[last]->name, 2, 1, 0);
    for (size_t members = 1; members <= MEMBERS_MAX; members++)
        check_level(levels[last - 1]->name, members, members - 1, 0);
}
END_TEST

START_TEST(a_crew_without_helpers_changes_no_bit_of_an_embedding)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t i = 0; levels[i] != NULL; i++)
        check_level(levels[i]->name, MEMBERS_MAX, 0, 0);
}
END_TEST

START_TEST(helpers_that_come_late_and_leave_early_change_no_bit_of_an_embedding)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t i = 0; levels[i] != NULL; i++) {
        check_level(levels[i]->name, 3, 3, 5);
    }
}
END_TEST

/* --- several that would lead */

typedef struct rival {
    const encoder *e;
    crew *c;
    unsigned led;
} rival;

static void *lead_when_possible(void *argument)
{
    enum { PASSES = 20 };
    rival *a = argument;
    for (unsigned i = 0; i < PASSES; i++) {
        if (crew_lead(a->c)) {
            check_batches(a->e, CONFIGS[0], a->c, 1);
            crew_dismiss(a->c);
            a->led++;
        } else {
            sched_yield();
        }
    }
    return NULL;
}

START_TEST(leaders_that_take_turns_get_the_same_bits)
{
    enum { RIVALS = 2 };
    sem_error error;
    encoder *e = make_encoder(CONFIGS[0], PACKED_FLOAT32, PACKED_FLOAT32);
    crew *c;
    helpers h;
    ck_ok(crew_create(&c, 3, &error));
    helpers_start(&h, c, 2, 30);
    pthread_t threads[RIVALS];
    rival rivals[RIVALS] = {{e, c, 0}, {e, c, 0}};
    for (size_t i = 0; i < RIVALS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, lead_when_possible, &rivals[i]), 0);
    for (size_t i = 0; i < RIVALS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_gt(rivals[0].led + rivals[1].led, 0);
    helpers_stop(&h);
    crew_destroy(c);
    encoder_destroy(e);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encoder_shared");
    TCase *all = tcase_create("encoder_shared");
    tcase_set_timeout(all, 280);
    tcase_add_test(all, helpers_change_no_bit_of_an_embedding);
    tcase_add_test(all, a_crew_without_helpers_changes_no_bit_of_an_embedding);
    tcase_add_test(all, helpers_that_come_late_and_leave_early_change_no_bit_of_an_embedding);
    tcase_add_test(all, leaders_that_take_turns_get_the_same_bits);
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
