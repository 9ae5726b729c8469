/* A file that was lost is missed, and one that was not there yet is made. */
#include "tests/index/store_fixture.h"

#include "base/clock.h"
#include "base/random.h"
#include "index/events.h"
#include "index/verify.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { KILLS = 60, WAIT_US_MAX = 8000, TABLES = 16 };

static const store_options OPTIONS = {.map_size = MAP};

static sem_status try_open(store **s, sem_error *error)
{
    store_options options = OPTIONS;
    options.path = store_folder();
    return store_open(s, &options, NULL, error);
}

static void expect_refused(const char *what)
{
    sem_error error;
    store *s;
    ck_fails(try_open(&s, &error), SEM_FAILED_PRECONDITION);
    ck_assert_msg(strstr(error.message, what) != NULL, "'%s' is not in: %s", what, error.message);
}

static void expect_opened(void)
{
    sem_error error;
    store *s;
    ck_ok(try_open(&s, &error));
    store_close(s);
}

static void note(void *context, const char *text)
{
    char *all = context;
    size_t used = strlen(all);
    snprintf(all + used, FILES_PATH_MAX - used, "%s\n", text);
}

/* What is found in the store, FILES_PATH_MAX bytes. */
static void find(char *all)
{
    sem_error error;
    verify_result result;
    verify_options options = {.path = store_folder(), .found = note, .context = all};
    all[0] = '\0';
    ck_ok(store_verify(&options, &result, &error));
}

static void expect_finding(const char *what)
{
    static char all[FILES_PATH_MAX];
    find(all);
    ck_assert_msg(strstr(all, what) != NULL, "'%s' is not in: %s", what, all);
}

static void expect_sound(void)
{
    static char all[FILES_PATH_MAX];
    find(all);
    ck_assert_str_eq(all, "");
}

static void put_feedback(store *s, uint64_t *seq)
{
    sem_error error;
    store_write *w;
    event_feedback pair = {
        .time_ms = 1, .collection = 1, .query = "q", .query_length = 1, .by_id = true, .id = number_id(1), .label = 1};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_put_feedback(w, &pair, 1, &error));
    ck_ok(events_last_seq(store_write_view(w), seq, &error));
    ck_ok(store_write_commit(w, &error));
}

/* With a document, one of external vectors, and an event. */
static void make_store(void)
{
    sem_error error;
    store_write *w;
    bool created;
    uint32_t c;
    uint64_t seq;
    store *s = store_with_collection(&c);
    store_collection vectors = {.name = "vectors", .external = true, .dim = DIM, .metric = METRIC_DOT};
    store_put put = {.id = string_id("a"), .text = "", .vector = (const float[DIM]){1, 2, 3, 4}},
              document = {.id = number_id(1), .text = "text", .text_length = 4, .vector = (const float[DIM]){1}};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, &document, 1, &seq, &error));
    ck_ok(store_collection_create(w, &vectors, &created, &error));
    ck_ok(store_documents_put(w, vectors.number, STORE_SPACE_EXTERNAL, DIM, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    put_feedback(s, &seq);
    store_close(s);
}

/* A file that is put back is taken as it was. */
static void lose(const char *folder, const char *refusal)
{
    sem_error error;
    char file[64], *was;
    size_t size;
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    ck_ok(files_read(below_store(file), MAP, &was, &size, &error));
    for (int how = 0; how < 3; how++) {
        if (how == 0)
            ck_assert_int_eq(truncate(below_store(file), 0), 0);
        else if (how == 1)
            ck_assert_int_eq(unlink(below_store(file)), 0);
        else
            ck_ok(files_remove_folder(below_store(folder), &error));
        expect_finding(folder);
        /* The first try leaves an environment without tables. */
        expect_refused(refusal);
        expect_refused(refusal);
        expect_finding(folder);
        ck_ok(files_write(below_store(file), was, size, &error));
        expect_opened();
        expect_sound();
    }
    free(was);
}

START_TEST(an_event_log_that_was_lost_is_not_taken_for_a_new_one)
{
    sem_error error;
    store *s;
    uint64_t seq = 0;
    make_store();
    lose("events", "events/data.mdb, the log of searches, clicks and feedback, is empty or was lost");
    ck_ok(try_open(&s, &error));
    put_feedback(s, &seq);
    ck_assert_uint_eq(seq, 2); /* behind the one that was put back with its file */
    store_close(s);
}
END_TEST

/* The first number of the only document's vector. */
static float first_of(store *s, uint32_t space, const char *collection)
{
    sem_error error;
    store_read *r;
    store_collection c;
    float vector[DIM] = {0};
    uint64_t version;
    bool found = false;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_find(r, collection, strlen(collection), &c, &error));
    ck_ok(store_vector_get(r, space, c.number, 0, vector, DIM, &version, &found, &error));
    ck_assert_msg(found, "%s has lost its vector", collection);
    store_read_end(r);
    return vector[0];
}

START_TEST(vectors_that_were_lost_are_not_taken_for_none)
{
    sem_error error;
    store *s;
    make_store();
    lose("external", "external, but it is empty; put the folder back or restore a backup");
    lose("space-1", "space-1, but it is empty; put the folder back or restore a backup");
    ck_ok(try_open(&s, &error));
    ck_assert_float_eq(first_of(s, STORE_SPACE_EXTERNAL, "vectors"), 1);
    ck_assert_float_eq(first_of(s, SPACE, "default"), 1);
    store_close(s);
}
END_TEST

/* Jobs and exports remember numbers of events: none comes twice. The permission holds once. */
START_TEST(an_operator_may_give_the_event_log_up)
{
    sem_error error;
    store *s;
    uint64_t seq = 0;
    const uint64_t now = (uint64_t)clock_wall_ms();
    make_store();
    ck_ok(files_remove_folder(below_store("events"), &error));
    expect_refused("events-given-up, and the next start begins a new one");
    ck_ok(files_write(below_store("events-given-up"), "", 0, &error));
    ck_ok(try_open(&s, &error));
    ck_assert_int_ne(access(below_store("events-given-up"), F_OK), 0);
    put_feedback(s, &seq);
    ck_assert_uint_gt(seq, now);
    store_close(s);
    expect_sound();
    /* Where there is a log it stays, whoever made the file. */
    ck_ok(files_write(below_store("events-given-up"), "", 0, &error));
    ck_ok(try_open(&s, &error));
    ck_assert_int_ne(access(below_store("events-given-up"), F_OK), 0);
    const uint64_t before = seq;
    put_feedback(s, &seq);
    ck_assert_uint_eq(seq, before + 1);
    store_close(s);
    ck_ok(files_remove_folder(below_store("events"), &error));
    expect_refused("is empty or was lost");
}
END_TEST

/* --- files that are not there yet */

static void forget_user_key(void)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi meta;
    char name[] = "user_key";
    MDB_val key = {.mv_size = strlen(name), .mv_data = name};
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, TABLES), 0);
    ck_assert_int_eq(mdb_env_open(env, below_store("main"), 0, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "meta", 0, &meta), 0);
    ck_assert_int_eq(mdb_del(txn, meta, &key, NULL), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* In the order in which the first start makes things. */
START_TEST(a_first_start_that_was_cut_off_is_made_up_for)
{
    sem_error error;
    MDB_env *env;
    for (int stage = 0; stage < 4; stage++) {
        expect_opened();
        ck_ok(files_remove_folder(below_store("external"), &error));
        if (stage < 3) {
            forget_user_key();
            ck_ok(files_remove_folder(below_store("events"), &error));
        }
        if (stage == 1 || stage == 2)
            ck_ok(files_make_folder(below_store("events"), &error));
        if (stage == 2) { /* LMDB's file without a table */
            ck_assert_int_eq(mdb_env_create(&env), 0);
            ck_assert_int_eq(mdb_env_open(env, below_store("events"), 0, 0600), 0);
            mdb_env_close(env);
        }
        expect_sound();
        expect_opened();
        expect_sound();
        ck_ok(files_remove_folder(store_folder(), &error));
    }
}
END_TEST

START_TEST(a_first_start_may_be_killed_at_any_time)
{
    sem_error error;
    random_state random;
    random_seed(&random, testing_seed());
    for (int i = 0; i < KILLS; i++) {
        int status;
        const useconds_t wait = (useconds_t)random_below(&random, WAIT_US_MAX);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            store *s;
            _exit(try_open(&s, &error) == SEM_OK ? 0 : 1);
        }
        usleep(wait);
        kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        expect_opened();
        expect_sound();
        ck_ok(files_remove_folder(store_folder(), &error));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_lost");
    TCase *tests = tcase_create("lost");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, an_event_log_that_was_lost_is_not_taken_for_a_new_one);
    tcase_add_test(tests, vectors_that_were_lost_are_not_taken_for_none);
    tcase_add_test(tests, an_operator_may_give_the_event_log_up);
    tcase_add_test(tests, a_first_start_that_was_cut_off_is_made_up_for);
    tcase_add_test(tests, a_first_start_may_be_killed_at_any_time);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
