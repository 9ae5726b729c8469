#include "tests/common/testing.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 40, EVERY = 2 /* steps between checkpoints */, KILLS = 8 };

static sem_error error;

/* --- the file */

static char path[600];

static void write_example(void)
{
    checkpoint_writer *w = NULL;
    const float numbers[] = {1, 2, 3};
    snprintf(path, sizeof path, "%s/state", testing_folder());
    ck_ok(checkpoint_create(&w, path, &error));
    ck_ok(checkpoint_put(w, "numbers", numbers, sizeof numbers, &error));
    ck_ok(checkpoint_put(w, "nothing", NULL, 0, &error));
    ck_ok(checkpoint_put(w, "text", "abc", 3, &error));
    ck_ok(checkpoint_commit(w, &error));
}

START_TEST(sections_come_back)
{
    checkpoint_reader *c = NULL;
    float numbers[3];
    char text[3];
    const void *data = NULL;
    size_t size = 1;
    write_example();
    ck_ok(checkpoint_open(&c, path, &error));
    ck_ok(checkpoint_get(c, "numbers", numbers, sizeof numbers, &error));
    ck_ok(checkpoint_get(c, "text", text, sizeof text, &error));
    ck_ok(checkpoint_view(c, "nothing", &data, &size, &error));
    ck_assert(numbers[2] == 3 && memcmp(text, "abc", 3) == 0 && size == 0);
    ck_fails(checkpoint_get(c, "text", text, 2, &error), SEM_FAILED_PRECONDITION);
    ck_fails(checkpoint_get(c, "other", text, 3, &error), SEM_FAILED_PRECONDITION);
    checkpoint_close(c);
}
END_TEST

START_TEST(every_damaged_byte_and_every_cut_is_found)
{
    char *content = NULL;
    size_t size = 0;
    checkpoint_reader *c = NULL;
    write_example();
    ck_ok(files_read(path, 1 << 20, &content, &size, &error));
    for (size_t i = 0; i < size; i++) {
        content[i] ^= 0x10;
        ck_ok(files_write(path, content, size, &error));
        content[i] ^= 0x10;
        /* The zeros between sections are nobody's. */
        if (checkpoint_open(&c, path, &error) == SEM_OK) {
            ck_assert_msg(content[i] == 0, "a change of byte %zu went unseen", i);
            checkpoint_close(c);
        }
        ck_ok(files_write(path, content, i, &error));
        ck_fails(checkpoint_open(&c, path, &error), SEM_FAILED_PRECONDITION);
        ck_assert_ptr_null(c);
    }
    free(content);
}
END_TEST

START_TEST(an_abandoned_checkpoint_leaves_the_one_before)
{
    checkpoint_writer *w = NULL;
    checkpoint_reader *c = NULL;
    char text[3];
    write_example();
    ck_ok(checkpoint_create(&w, path, &error));
    ck_ok(checkpoint_put(w, "text", "xyz", 3, &error));
    checkpoint_abandon(w);
    ck_ok(checkpoint_open(&c, path, &error));
    ck_ok(checkpoint_get(c, "text", text, sizeof text, &error));
    ck_assert(memcmp(text, "abc", 3) == 0);
    checkpoint_close(c);
    ck_ok(files_write(path, "", 0, &error));
    ck_fails(checkpoint_open(&c, path, &error), SEM_FAILED_PRECONDITION);
    unlink(path);
    ck_fails(checkpoint_open(&c, path, &error), SEM_NOT_FOUND);
}
END_TEST

/* --- runs */

typedef struct run {
    train_config config;
    size_t die_at; /* step whose report is the process's last; 0: none */
    size_t steps;
    train_report report;
    float *params;
    size_t bytes;
} run;

static void on_progress(void *context, const train_progress *now)
{
    run *r = context;
    r->steps++;
    if (now->step == r->die_at)
        raise(SIGKILL);
}

static train_precision precision; /* of all runs of a test */
static bool frozen;               /* whether all runs of a test leave embeddings and the lower layer as they are */

/* What all runs are: dropout, two threads, texts in pieces, all that keeps state. */
static void run_arrange(run *r, const char *checkpoint)
{
    memset(r, 0, sizeof *r);
    train_config_defaults(&r->config);
    r->config.learning_rate = 2e-3;
    r->config.batch_size = 8;
    r->config.epochs = 6;
    r->config.threads = 2;
    r->config.tape_bytes = 300000;
    r->config.scale_kind = MNRL_SCALE_LEARNED;
    r->config.accumulate = 2;
    r->config.average = 0.9;
    r->config.layer_decay = 0.8;
    r->config.schedule = SCHEDULE_COSINE;
    r->config.frequency = true;
    r->config.precision = precision;
    r->config.freeze_embeddings = frozen;
    r->config.freeze_layers = frozen ? 1 : 0;
    r->config.checkpoint = checkpoint;
    r->config.checkpoint_every = EVERY;
}

static sem_status run_train(run *r)
{
    static const char *const words[] = {"card", "money", "account", "top", "exchange", "cash", "pin"};
    static char queries[PAIRS][64], documents[PAIRS][64];
    train_pair pairs[PAIRS];
    model *m = NULL;
    sem_log log;
    const train_control control = {.progress = on_progress, .context = r};
    log_init(&log, 2, LOG_LEVEL_ERROR);
    ck_ok(model_open(&m, testing_shared("golden/tiny-bert"), NULL, &log, &error));
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(queries[i], sizeof queries[i], "why is my %s %s", words[i % 7], words[i / 7]);
        snprintf(documents[i], sizeof documents[i], "about the %s", words[i % 7]);
        pairs[i] = (train_pair){.query = queries[i],
                                .query_length = strlen(queries[i]),
                                .document = documents[i],
                                .document_length = strlen(documents[i]),
                                .document_key = hash_text(documents[i], strlen(documents[i])),
                                .query_key = hash_text(queries[i], strlen(queries[i])),
                                .weight = 1};
    }
    sem_status status = train_mnrl(m, pairs, PAIRS, &r->config, &control, &r->params, &r->report, &error);
    r->bytes = encoder_layout(model_get_encoder(m))->total * sizeof(float);
    model_close(m);
    return status;
}

/* Trains in a process of its own, which leaves its parameters in the file result, and
 * kills it after some microseconds or at a step (0: neither). True if it came to its end. */
static bool train_apart(const char *checkpoint, const char *result, size_t die_at, long die_after_us)
{
    fflush(NULL);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        run r;
        run_arrange(&r, checkpoint);
        r.die_at = die_at;
        bool good = run_train(&r) == SEM_OK && files_write(result, r.params, r.bytes, &error) == SEM_OK;
        if (!good)
            fprintf(stderr, "%s\n", error.message);
        _exit(good ? 0 : 1);
    }
    if (die_after_us > 0) {
        const struct timespec wait = {die_after_us / 1000000, die_after_us % 1000000 * 1000};
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        ck_assert_int_eq(errno, EINTR);
    ck_assert_msg(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL, "the run failed");
    return WIFEXITED(status);
}

static void check_same_files(const char *a, const char *b)
{
    char *x = NULL, *y = NULL;
    size_t x_size = 0, y_size = 0;
    ck_ok(files_read(a, (size_t)64 << 20, &x, &x_size, &error));
    ck_ok(files_read(b, (size_t)64 << 20, &y, &y_size, &error));
    ck_assert_uint_eq(x_size, y_size);
    ck_assert(memcmp(x, y, x_size) == 0);
    free(x);
    free(y);
}

START_TEST(a_run_killed_again_and_again_ends_with_the_bits_of_one_left_alone)
{
    char state[600], whole[600], pieces[600];
    random_state r;
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    snprintf(state, sizeof state, "%s/run", testing_folder());
    snprintf(whole, sizeof whole, "%s/whole", testing_folder());
    snprintf(pieces, sizeof pieces, "%s/pieces", testing_folder());
    precision = _i == 0 ? TRAIN_FLOAT32 : TRAIN_BFLOAT16;
    random_seed(&r, testing_seed());
    const uint64_t began_ns = clock_monotonic_ns();
    ck_assert(train_apart(NULL, whole, 0, 0));
    const double whole_us = (double)(clock_monotonic_ns() - began_ns) / 1e3;

    bool ended = false;
    for (size_t kill_number = 0; kill_number < KILLS && !ended; kill_number++) {
        if (kill_number % 2 == 0)
            ended = train_apart(state, pieces, 1 + random_below(&r, 15), 0);
        else
            ended = train_apart(state, pieces, 0, 1 + (long)(whole_us * random_unit(&r)));
    }
    ck_assert(ended || train_apart(state, pieces, 0, 0));
    check_same_files(whole, pieces);
}
END_TEST

/* In this process: a run that is stopped once, at every step. */
START_TEST(a_run_goes_on_after_the_steps_that_its_checkpoint_has)
{
    run whole, rest;
    char state[600];
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    snprintf(state, sizeof state, "%s/run", testing_folder());
    frozen = _i == 1;
    precision = _i == 2 ? TRAIN_BFLOAT16 : TRAIN_AUTO;
    run_arrange(&whole, NULL);
    ck_ok(run_train(&whole));
    ck_assert_uint_eq(whole.report.steps, 15); /* 6 epochs of 5 batches, two a step */
    for (size_t at = 1; at < 6; at++) {
        char unused[600];
        snprintf(unused, sizeof unused, "%s/unused", testing_folder());
        ck_assert(!train_apart(state, unused, at, 0));
        run_arrange(&rest, state);
        ck_ok(run_train(&rest));
        /* The report of a step comes before its checkpoint. */
        ck_assert_uint_eq(rest.report.resumed_at, (at - 1) / EVERY * EVERY);
        ck_assert_uint_eq(rest.steps, 15 - rest.report.resumed_at);
        ck_assert_uint_eq(rest.report.pairs, whole.report.pairs);
        ck_assert(rest.report.first_loss == whole.report.first_loss);
        ck_assert(rest.report.last_loss == whole.report.last_loss);
        ck_assert(memcmp(rest.params, whole.params, whole.bytes) == 0);
        free(rest.params);
        unlink(state);
    }
    free(whole.params);
}
END_TEST

START_TEST(a_checkpoint_of_another_run_is_refused)
{
    run r;
    char state[600];
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    snprintf(state, sizeof state, "%s/run", testing_folder());
    run_arrange(&r, state);
    ck_ok(run_train(&r));
    free(r.params);
    for (size_t i = 0; i < 4; i++) {
        run_arrange(&r, state);
        r.config.seed += i == 0;
        r.config.learning_rate *= i == 1 ? 2 : 1;
        r.config.threads += i == 2;
        r.config.epochs += i == 3;
        ck_fails(run_train(&r), SEM_FAILED_PRECONDITION);
        ck_assert_msg(strstr(error.message, "other data, model or settings") != NULL, "%s", error.message);
        ck_assert_ptr_null(r.params);
    }
}
END_TEST

START_TEST(a_seed_gives_the_same_bits_and_another_seed_others)
{
    run r[3];
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    for (size_t i = 0; i < 3; i++) {
        run_arrange(&r[i], NULL);
        r[i].config.seed = i < 2 ? 7 : 8;
        ck_ok(run_train(&r[i]));
    }
    ck_assert(memcmp(r[0].params, r[1].params, r[0].bytes) == 0);
    ck_assert(memcmp(r[0].params, r[2].params, r[0].bytes) != 0);
    for (size_t i = 0; i < 3; i++)
        free(r[i].params);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, sections_come_back);
    tcase_add_test(tests, every_damaged_byte_and_every_cut_is_found);
    tcase_add_test(tests, an_abandoned_checkpoint_leaves_the_one_before);
    tcase_add_loop_test(tests, a_run_killed_again_and_again_ends_with_the_bits_of_one_left_alone, 0, 2);
    tcase_add_loop_test(tests, a_run_goes_on_after_the_steps_that_its_checkpoint_has, 0, 3);
    tcase_add_test(tests, a_checkpoint_of_another_run_is_refused);
    tcase_add_test(tests, a_seed_gives_the_same_bits_and_another_seed_others);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
