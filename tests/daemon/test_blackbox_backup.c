/* Backups of a daemon that is written to, killed and stopped meanwhile. */
#include "tests/daemon/blackbox.h"

#include "base/random.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { WRITERS = 4, WRITES = 150, KILLS = 12, QUERIES = 10, DOCS = WRITERS * WRITES };

static char backup_option[FILES_PATH_MAX + 64];

static bool create(box *b)
{
    if (!box_create(b, "golden/tiny-bert"))
        return false;
    snprintf(backup_option, sizeof backup_option, "storage.backup_dir=%s/backups", testing_folder());
    b->options[0] = backup_option;
    return true;
}

static int restore(const char *name, const char *target)
{
    return box_semctl("restore %s/backups/%s %s/%s", testing_folder(), name, testing_folder(), target);
}

/* Every invariant, the models as well. */
static int verify(const char *target)
{
    return box_semctl("verify %s/%s", testing_folder(), target);
}

/* A daemon on what was restored. */
static void start_restored(box *b, const char *target)
{
    ck_assert(box_create(b, "golden/tiny-bert"));
    snprintf(b->storage, sizeof b->storage, "storage.path=%s/%s", testing_folder(), target);
    snprintf(b->log, sizeof b->log, "%s/%s.log", testing_folder(), target);
    box_start(b);
}

/* --- writers: document i of the test is written once, by request seq_of[i], and some are deleted again */

static uint64_t seq_of[DOCS], deleted_by[DOCS];
static atomic_uint written;

typedef struct writing {
    box *b;
    unsigned first;
} writing;

static uint64_t call_seq(client *c, const char *method, const buffer *params)
{
    sem_error error;
    client_reply reply;
    ck_ok(client_call(c, method, params->data, params->size, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert_msg(!reply.is_error, "%s: %s", method, reply.code);
    uint64_t seq = object_uint(object_get(&reply.value, "seq"), 0);
    client_reply_free(&reply);
    return seq;
}

static void *write_some(void *argument)
{
    writing *w = argument;
    client *c = box_connect(w->b);
    for (unsigned i = w->first; i < w->first + WRITES; i++) {
        buffer params = {0};
        char text[64];
        packer p;
        snprintf(text, sizeof text, "document %u of a stream of writes", i);
        box_document(&params, i, text);
        seq_of[i] = call_seq(c, "upsert", &params);
        buffer_free(&params);
        atomic_fetch_add(&written, 1);
        if (i % 5 != 4)
            continue;
        pack_init(&p, &params);
        pack_array(&p, 1);
        pack_map(&p, 1);
        pack_str(&p, "ids");
        pack_array(&p, 1);
        pack_uint(&p, i - 2);
        deleted_by[i - 2] = call_seq(c, "delete", &params);
        buffer_free(&params);
    }
    client_close(c);
    return NULL;
}

static bool has(box *b, unsigned id)
{
    return box_at(box_call(b, "get", "{'ids': [%u]}", id), 0)->type != MSGPACK_OBJECT_NIL;
}

static void compare_searches(box *a, box *b)
{
    for (unsigned i = 0; i < QUERIES; i++) {
        uint64_t ids[10];
        double scores[10];
        const msgpack_object *hits =
            object_get(box_call(a, "search", "{'query': 'the stream of document %u', 'exact': true}", 37 * i), "hits");
        size_t count = box_count(hits);
        ck_assert_uint_eq(count, 10);
        for (size_t k = 0; k < count; k++) {
            ids[k] = object_uint(object_get(box_at(hits, k), "id"), 0);
            scores[k] = object_double(object_get(box_at(hits, k), "score"), 0);
        }
        hits =
            object_get(box_call(b, "search", "{'query': 'the stream of document %u', 'exact': true}", 37 * i), "hits");
        ck_assert_uint_eq(box_count(hits), count);
        for (size_t k = 0; k < count; k++) {
            ck_assert_uint_eq(object_uint(object_get(box_at(hits, k), "id"), 0), ids[k]);
            ck_assert_double_eq(object_double(object_get(box_at(hits, k), "score"), 0), scores[k]);
        }
    }
}

START_TEST(backup_holds_exactly_the_writes_up_to_its_seq)
{
    box b, restored;
    pthread_t threads[WRITERS];
    writing writers[WRITERS];
    if (!create(&b))
        return;
    box_start(&b);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (writing){&b, i * WRITES};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, write_some, &writers[i]), 0);
    }
    while (atomic_load(&written) < DOCS / 3)
        usleep(1000);
    uint64_t seq = object_uint(object_get(box_call(&b, "backup", "{'name': 'meanwhile'}"), "seq"), 0);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_gt(seq, DOCS / 3 - 1);
    box_call(&b, "backup", "{'name': 'after'}");
    ck_assert_int_eq(restore("meanwhile", "then"), 0);
    ck_assert_int_eq(verify("then"), 0);
    start_restored(&restored, "then");
    unsigned there = 0;
    for (unsigned i = 0; i < DOCS; i++) {
        bool expected = seq_of[i] <= seq && !(deleted_by[i] != 0 && deleted_by[i] <= seq);
        ck_assert_msg(has(&restored, i) == expected, "document %u of seq %llu, deleted by %llu, in a backup of %llu", i,
                      (unsigned long long)seq_of[i], (unsigned long long)deleted_by[i], (unsigned long long)seq);
        there += expected;
    }
    ck_assert_uint_eq(object_uint(object_get(box_call(&restored, "count", "{}"), "count"), 0), there);
    /* It goes on with the next number. */
    uint64_t next = object_uint(
        object_get(box_call(&restored, "upsert", "{'docs': [{'id': 'new', 'text': 'after the restore'}]}"), "seq"), 0);
    ck_assert_uint_eq(next, seq + 1);
    ck_assert_int_eq(verify("then"), 3); /* a daemon has it */
    box_stop(&restored);
    ck_assert_int_eq(verify("then"), 0);
    ck_assert_int_eq(restore("after", "later"), 0);
    start_restored(&restored, "later");
    compare_searches(&b, &restored);
    box_stop(&restored);
    box_stop(&b);
    ck_assert_int_eq(verify("data"), 0);
    ck_assert_int_eq(box_semctl("verify %s/data --rebuild", testing_folder()), 0);
    /* A model that lost its words. */
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/data/models/tiny-bert/tokenizer.json", testing_folder());
    ck_assert_int_eq(truncate(path, 100), 0);
    ck_assert_int_eq(verify("data"), 1);
}
END_TEST

/* --- ends that come in the middle */

static void load_documents(box *b, unsigned count)
{
    for (unsigned i = 0; i < count; i += 50) {
        buffer text = {0};
        for (unsigned k = 0; k < 50; k++) {
            char one[96];
            int n = snprintf(one, sizeof one, "%s{'id': %u, 'text': 'document %u of some'}", k > 0 ? ", " : "", i + k,
                             i + k);
            ck_assert(buffer_append(&text, one, (size_t)n));
        }
        box_call(b, "upsert", "{'docs': [%.*s]}", (int)text.size, (const char *)text.data);
        buffer_free(&text);
    }
}

/* Folders below backups/ whose name begins with ~ (unfinished) or not. */
static unsigned backups_found(bool unfinished)
{
    char path[FILES_PATH_MAX];
    unsigned count = 0;
    snprintf(path, sizeof path, "%s/backups", testing_folder());
    DIR *folder = opendir(path);
    for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;)
        count += e->d_name[0] != '.' && (e->d_name[0] == '~') == unfinished;
    if (folder != NULL)
        closedir(folder);
    return count;
}

START_TEST(killed_daemon_leaves_no_backup_that_is_not_whole)
{
    box b, restored;
    random_state state;
    random_seed(&state, testing_seed());
    if (!create(&b))
        return;
    box_start(&b);
    load_documents(&b, 500);
    unsigned whole = 0, cut = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        char name[32], half[40];
        snprintf(name, sizeof name, "kill-%u", i);
        snprintf(half, sizeof half, "~%s", name);
        box_send(b.client, "backup", "{'name': '%s'}", name);
        usleep((useconds_t)random_below(&state, 900000));
        box_kill(&b);
        unsigned before = whole;
        whole = backups_found(false);
        cut += backups_found(true);
        ck_assert_int_eq(restore(name, name) == 0, whole > before);
        /* The end may have come after all was written and before it got its name. */
        if (backups_found(true) > 0 && restore(half, half) == 0)
            ck_assert_int_eq(verify(half), 0);
        box_start(&b);
        ck_assert_uint_eq(backups_found(true), 0);
    }
    printf("of %d backups %u were cut off, %u whole\n", KILLS, cut, whole);
    box_call(&b, "backup", "{'name': 'last'}");
    box_stop(&b);
    ck_assert_int_eq(verify("data"), 0);
    ck_assert_int_eq(restore("last", "last"), 0);
    start_restored(&restored, "last");
    ck_assert_uint_eq(object_uint(object_get(box_call(&restored, "count", "{}"), "count"), 0), 500);
    box_stop(&restored);
}
END_TEST

START_TEST(stopped_daemon_leaves_no_unfinished_backup)
{
    box b;
    if (!create(&b))
        return;
    for (unsigned i = 0; i < 3; i++) {
        char name[32];
        box_start(&b);
        load_documents(&b, 500);
        snprintf(name, sizeof name, "stop-%u", i);
        box_send(b.client, "backup", "{'name': '%s'}", name);
        box_stop(&b);
        ck_assert_uint_eq(backups_found(true), 0);
        if (backups_found(false) > 0)
            ck_assert_int_eq(restore(name, name), 0);
    }
}
END_TEST

START_TEST(backups_are_refused_with_the_reason)
{
    box b;
    sem_error error;
    client_reply reply;
    if (!create(&b))
        return;
    b.options[0] = NULL;
    box_start(&b);
    ck_assert_ptr_nonnull(
        strstr(box_fails(&b, "FAILED_PRECONDITION", "backup", "{'name': 'a'}"), "storage.backup_dir"));
    box_stop(&b);
    b.options[0] = backup_option;
    box_start(&b);
    load_documents(&b, 500);
    box_fails(&b, "INVALID_ARGUMENT", "backup", "{'name': '../a'}");
    box_fails(&b, "DEADLINE_EXCEEDED", "backup", "{'name': 'late', 'deadline_ms': 1}");
    ck_assert_uint_eq(backups_found(true) + backups_found(false), 0);
    /* Two of one name: one of them is it, whether they meet or not. */
    unsigned succeeded = 0;
    box_send(b.client, "backup", "{'name': 'twice'}");
    box_send(b.client, "backup", "{'name': 'twice'}");
    for (int i = 0; i < 2; i++) {
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        ck_assert(!reply.is_error || strcmp(reply.code, "ALREADY_EXISTS") == 0);
        succeeded += !reply.is_error;
        client_reply_free(&reply);
    }
    ck_assert_uint_eq(succeeded, 1);
    box_call(&b, "backup", "{'name': 'again'}");
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_backup");
    TCase *tests = tcase_create("backup");
    tcase_add_test(tests, backup_holds_exactly_the_writes_up_to_its_seq);
    tcase_add_test(tests, killed_daemon_leaves_no_backup_that_is_not_whole);
    tcase_add_test(tests, stopped_daemon_leaves_no_unfinished_backup);
    tcase_add_test(tests, backups_are_refused_with_the_reason);
    tcase_set_timeout(tests, 280);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
