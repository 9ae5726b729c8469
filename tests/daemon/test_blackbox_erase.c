/* What goes from the log by itself, and what is erased from it, file and all. */
#include "tests/daemon/blackbox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATIENCE = 600, PAUSE_US = 50000 };

static box b;
static const char SECRET[] = "secretwordsofann";

static bool start(const char *first, const char *second)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    b.options[0] = first;
    b.options[1] = second;
    box_start(&b);
    box_call(&b, "upsert", "{'docs': [{'id': 7, 'text': 'a card'}, {'id': 'b', 'text': 'an account in the bank'}]}");
    return true;
}

static const char *ask(const char *query, const char *user)
{
    static char id[80];
    const msgpack_object *found =
        object_get(box_call(&b, "search", "{'query': '%s', 'user': '%s'}", query, user), "query_id");
    snprintf(id, sizeof id, "%.*s", (int)found->via.str.size, found->via.str.ptr);
    return id;
}

static size_t logged(const char *kind)
{
    const msgpack_object *page = box_call(&b, "events", "{'kinds': ['%s'], 'limit': 1000}", kind);
    ck_assert_int_eq(object_get(page, "next")->type, MSGPACK_OBJECT_NIL);
    return box_count(object_get(page, "events"));
}

static uint64_t erase(const char *what)
{
    return object_uint(object_get(box_call(&b, "events.erase", "{%s}", what), "erased"), UINT64_MAX);
}

/* How often the bytes stand in any file below the storage path but the lexical index and the documents. */
static size_t times_in_log(const char *text)
{
    char path[FILES_PATH_MAX], *data;
    sem_error error;
    size_t size, times = 0, length = strlen(text);
    snprintf(path, sizeof path, "%s/data/events/data.mdb", testing_folder());
    ck_ok(files_read(path, (size_t)1 << 30, &data, &size, &error));
    for (char *at = data; (at = memmem(at, size - (size_t)(at - data), text, length)) != NULL; at += length)
        times++;
    free(data);
    return times;
}

/* With the daemon stopped: in any file below the storage path. */
static bool is_anywhere(const char *text)
{
    char line[2 * FILES_PATH_MAX];
    snprintf(line, sizeof line, "grep -rqa %s %s/data", text, testing_folder());
    int status = system(line);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 0;
}

static void ck_whole(void)
{
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
}

START_TEST(an_erased_user_is_in_no_file)
{
    char text[64];
    if (!start(NULL, NULL))
        return;
    for (int i = 0; i < 60; i++) {
        snprintf(text, sizeof text, "%s %d", i % 2 == 0 ? SECRET : "card", i);
        const char *id = ask(text, i % 2 == 0 ? "ann" : "bob");
        if (i % 10 == 0)
            box_call(&b, "click", "{'query_id': '%s', 'id': 7}", id);
    }
    ask(SECRET, "ann"); /* not in the log yet, and erased all the same */
    ck_assert_uint_eq(erase("'user': 'ann'"), 31 + 6);
    ck_assert_uint_eq(times_in_log(SECRET), 0);
    ck_assert_uint_eq(logged("search"), 30);
    ck_assert_uint_eq(logged("click"), 0);
    ck_assert_uint_eq(erase("'user': 'ann'"), 0);
    /* The log goes on where it was. */
    box_call(&b, "click", "{'query_id': '%s', 'id': 'b'}", ask("card", "bob"));
    box_stop(&b);
    ck_assert(!is_anywhere(SECRET));
    ck_whole();
    box_start(&b);
    ck_assert(logged("search") == 31 && logged("click") == 1);
    box_stop(&b);
}
END_TEST

START_TEST(an_erased_document_leaves_an_empty_place)
{
    if (!start(NULL, NULL))
        return;
    char id[80];
    snprintf(id, sizeof id, "%s", ask("card", "ann"));
    box_call(&b, "click", "{'query_id': '%s', 'id': 'b'}", id);
    box_call(&b, "click", "{'query_id': '%s', 'id': 7}", id);
    box_call(&b, "feedback", "{'pairs': [{'query': 'q', 'id': 'b', 'label': 1}, {'query': 'q', 'id': 7, 'label': 1}]}");
    ck_assert_uint_eq(erase("'id': 'b'"), 3);
    const msgpack_object *all = object_get(box_call(&b, "events", NULL), "events");
    ck_assert_uint_eq(box_count(all), 3);
    const msgpack_object *hits = object_get(box_at(all, 0), "hits");
    ck_assert(box_count(hits) == 2 && object_uint(object_get(box_at(hits, 0), "id"), 0) == 7);
    ck_assert_int_eq(box_at(hits, 1)->type, MSGPACK_OBJECT_NIL);
    box_fails(&b, "INVALID_ARGUMENT", "click", "{'query_id': '%s', 'id': 'b'}", id);
    box_call(&b, "click", "{'query_id': '%s', 'id': 7}", id);
    box_stop(&b);
    ck_whole();
}
END_TEST

START_TEST(events_older_than_a_time_are_erased)
{
    if (!start(NULL, NULL))
        return;
    ask("card", "ann");
    box_call(&b, "feedback", "{'pairs': [{'query': 'q', 'text': 't', 'label': 1}]}");
    const msgpack_object *all = object_get(box_call(&b, "events", NULL), "events");
    unsigned long long last = object_uint(object_get(box_at(all, 1), "time_ms"), 0);
    char what[64];
    snprintf(what, sizeof what, "'before': %llu", last + 1);
    ck_assert_uint_eq(erase("'before': 1000"), 0);
    ck_assert_uint_eq(erase(what), 2);
    ck_assert(logged("search") == 0 && logged("feedback") == 0);
    box_stop(&b);
    ck_whole();
}
END_TEST

START_TEST(old_events_go_by_themselves)
{
    if (!start("events.keep=2s", "events.click_window=2s"))
        return;
    char id[80];
    snprintf(id, sizeof id, "%s", ask("card", "ann"));
    box_call(&b, "click", "{'query_id': '%s', 'id': 7}", id);
    box_call(&b, "feedback", "{'pairs': [{'query': 'q', 'text': 't', 'label': 1}]}");
    ck_assert_uint_eq(logged("search"), 1);
    int tries = 0;
    while (logged("search") + logged("click") + logged("feedback") > 0) {
        ck_assert_int_lt(tries++, PATIENCE);
        usleep(PAUSE_US);
    }
    box_fails(&b, "NOT_FOUND", "click", "{'query_id': '%s', 'id': 7}", id);
    box_stop(&b);
    ck_whole();
}
END_TEST

START_TEST(the_oldest_events_go_for_room)
{
    enum { TEXT = 20000, PAIRS = 100 };
    if (!start("events.max_size=1MiB", NULL))
        return;
    static char text[TEXT + 1];
    for (int i = 0; i < PAIRS; i++) {
        memset(text, 'a' + i % 26, TEXT);
        box_call(&b, "feedback", "{'pairs': [{'query': 'number %d', 'text': '%s', 'label': 1}]}", i, text);
    }
    size_t left = PAIRS;
    for (int tries = 0; left > (1 << 20) / TEXT; tries++) {
        ck_assert_int_lt(tries, PATIENCE);
        usleep(PAUSE_US);
        left = logged("feedback");
    }
    ck_assert_uint_gt(left, 10);
    const msgpack_object *all = object_get(box_call(&b, "events", "{'limit': 1000}"), "events");
    char newest[32];
    snprintf(newest, sizeof newest, "number %d", PAIRS - 1);
    ck_assert(object_is(object_get(box_at(all, box_count(all) - 1), "query"), newest));
    box_stop(&b);
    ck_whole();
}
END_TEST

/* --- while others search and click */

enum { CLIENTS = 3, ERASURES = 12 };

typedef struct clicker {
    client *client;
    pthread_t thread;
    atomic_bool *stop;
    size_t clicks; /* that were answered */
    bool failed;
} clicker;

/* A call on a connection of its own; false when it did not succeed. */
static bool call(clicker *k, const char *method, json_t *params, client_reply *reply)
{
    sem_error error;
    buffer bytes = {0};
    box_pack_json(&bytes, params);
    bool done = client_call(k->client, method, bytes.data, bytes.size, BOX_TIMEOUT_MS, reply, &error) == SEM_OK;
    buffer_free(&bytes);
    return done && !reply->is_error;
}

static void *click_main(void *context)
{
    clicker *k = context;
    while (!atomic_load(k->stop) && !k->failed) {
        client_reply found = {0}, clicked = {0};
        k->failed = !call(k, "search", json_pack("{s:s, s:s}", "query", "card", "user", "bob"), &found);
        const msgpack_object *id = object_get(&found.value, "query_id");
        json_t *params =
            k->failed ? NULL : json_pack("{s:s%, s:i}", "query_id", id->via.str.ptr, (size_t)id->via.str.size, "id", 7);
        k->failed = k->failed || !call(k, "click", params, &clicked);
        k->clicks += !k->failed;
        client_reply_free(&found);
        client_reply_free(&clicked);
    }
    return NULL;
}

static size_t count_all(const char *kind)
{
    char after[32] = "0";
    size_t count = 0;
    while (after[0] != '\0') {
        const msgpack_object *page =
            box_call(&b, "events", "{'kinds': ['%s'], 'limit': 1000, 'after': '%s'}", kind, after);
        const msgpack_object *next = object_get(page, "next");
        bool is_end = next->type == MSGPACK_OBJECT_NIL;
        count += box_count(object_get(page, "events"));
        snprintf(after, sizeof after, "%.*s", is_end ? 0 : (int)next->via.str.size, is_end ? "" : next->via.str.ptr);
    }
    return count;
}

START_TEST(no_click_is_lost_while_the_file_is_written_anew)
{
    clicker all[CLIENTS];
    atomic_bool stop = false;
    size_t clicks = 0;
    if (!start(NULL, NULL))
        return;
    for (int i = 0; i < CLIENTS; i++) {
        all[i] = (clicker){.client = box_connect(&b), .stop = &stop};
        ck_assert_int_eq(pthread_create(&all[i].thread, NULL, click_main, &all[i]), 0);
    }
    for (int i = 0; i < ERASURES; i++) {
        ask(SECRET, "ann");
        ck_assert_uint_eq(erase("'user': 'ann'"), 1);
        ck_assert_uint_eq(times_in_log(SECRET), 0);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(all[i].thread, NULL);
        ck_assert(!all[i].failed);
        clicks += all[i].clicks;
        client_close(all[i].client);
    }
    ck_assert_uint_gt(clicks, CLIENTS);
    ck_assert_uint_eq(count_all("click"), clicks);
    ck_assert_uint_eq(count_all("search"), clicks);
    box_kill(&b); /* what was answered is on disk */
    ck_whole();
    box_start(&b);
    ck_assert_uint_eq(count_all("click"), clicks);
    box_stop(&b);
}
END_TEST

/* Bob's searches are never lost, and Ann's are gone in the end, wherever the erasing was cut off. */
START_TEST(a_kill_while_erasing_loses_nothing_else)
{
    enum { ROUNDS = 8, EACH = 20 };
    unsigned seed = 1;
    size_t bobs = 0;
    if (!start(NULL, NULL))
        return;
    const char *given = getenv("SEMD_TEST_SEED");
    if (given != NULL)
        seed = (unsigned)strtoul(given, NULL, 10);
    printf("seed %u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < EACH; i++)
            ask(SECRET, "ann");
        for (int i = 0; i < EACH; i++)
            ask("card", "bob");
        bobs += EACH;
        box_call(&b, "feedback", "{'pairs': [{'query': 'q', 'text': 't', 'label': 1}]}"); /* commits the searches too */
        box_send(b.client, "events.erase", "{'user': 'ann'}");
        usleep((useconds_t)(rand_r(&seed) % 60000));
        box_kill(&b);
        ck_whole();
        box_start(&b);
        const msgpack_object *page = box_call(&b, "events", "{'kinds': ['search'], 'limit': 1000}");
        const msgpack_object *all = object_get(page, "events");
        size_t found = 0;
        for (size_t i = 0; i < box_count(all); i++)
            found += object_is(object_get(box_at(all, i), "query"), "card");
        ck_assert_uint_eq(found, bobs);
        ck_assert_uint_eq(logged("feedback"), (size_t)round + 1);
    }
    erase("'user': 'ann'");
    ck_assert_uint_eq(logged("search"), bobs);
    box_stop(&b);
    ck_assert(!is_anywhere(SECRET));
    ck_whole();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_erase");
    TCase *tests = tcase_create("erase");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, an_erased_user_is_in_no_file);
    tcase_add_test(tests, an_erased_document_leaves_an_empty_place);
    tcase_add_test(tests, events_older_than_a_time_are_erased);
    tcase_add_test(tests, old_events_go_by_themselves);
    tcase_add_test(tests, the_oldest_events_go_for_room);
    tcase_add_test(tests, no_click_is_lost_while_the_file_is_written_anew);
    tcase_add_test(tests, a_kill_while_erasing_loses_nothing_else);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
