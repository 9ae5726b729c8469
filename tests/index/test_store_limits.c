#include "tests/index/store_fixture.h"

#include "index/store_internal.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Puts documents of 10 kB, 20 a group, until a put is refused; returns how many there are. */
static uint64_t fill(store *s, uint32_t c, sem_error *last)
{
    sem_error error;
    static char text[10001];
    memset(text, 'x', 10000);
    for (uint64_t n = 0; n < 100000;) {
        store_write *w;
        ck_ok(store_write_begin(s, &w, &error));
        sem_status status = SEM_OK;
        uint64_t before = n;
        for (int i = 0; i < 20 && status == SEM_OK; i++) {
            status = put_text(w, c, number_id(n), text, (float)n, NULL, NULL, last);
            n += status == SEM_OK;
        }
        /* Should the map be full at the commit itself, the group is lost as a whole. */
        if (store_write_commit(w, &error) != SEM_OK)
            return before;
        if (status != SEM_OK) {
            ck_assert_int_eq(status, SEM_RESOURCE_EXHAUSTED);
            return n;
        }
    }
    ck_abort_msg("the store never filled up");
}

static void check_filled(store *s, uint32_t c, uint64_t count)
{
    sem_error error;
    store_read *r;
    store_document doc;
    bool found;
    float vector[DIM];
    uint64_t version;
    ck_ok(store_read_begin(s, &r, &error));
    for (uint64_t i = 0; i <= count; i++) {
        docid id = number_id(i);
        ck_ok(store_document_get(r, c, &id, &doc, &found, &error));
        ck_assert_msg(found == (i < count), "document %llu of %llu", (unsigned long long)i, (unsigned long long)count);
        if (i == count)
            break;
        ck_ok(store_vector_get(r, SPACE, c, doc.docno, vector, DIM, &version, &found, &error));
        ck_assert(found && vector[0] == (float)i);
    }
    store_read_end(r);
}

static void delete_some(store *s, uint32_t c, uint64_t count)
{
    sem_error error;
    for (uint64_t done = 0; done < count; done += 10) {
        store_write *w;
        docid ids[10];
        uint32_t docnos[10];
        size_t deleted;
        uint64_t seq;
        for (uint64_t i = 0; i < 10; i++)
            ids[i] = number_id(done + i);
        ck_ok(store_write_begin(s, &w, &error));
        ck_ok(store_documents_delete(w, c, ids, 10, docnos, &deleted, &seq, &error));
        ck_assert_uint_eq(deleted, 10);
        ck_ok(store_write_commit(w, &error));
    }
}

static void expect_refusals_until_emptied(store *s, const char *word)
{
    sem_error error, last;
    store_write *w;
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t c = make_collection(w, "default");
    ck_ok(store_write_commit(w, &error));
    uint64_t count = fill(s, c, &last);
    ck_assert_uint_gt(count, 100);
    ck_assert_msg(strstr(last.message, word) != NULL, "%s", last.message);
    check_filled(s, c, count);
    /* A full store can be emptied, and then takes writes again. */
    delete_some(s, c, 100);
    empty_group(s);
    for (uint64_t i = 0; i < 30; i++) {
        ck_ok(store_write_begin(s, &w, &error));
        ck_ok(put_text(w, c, number_id(i), "again", 1, NULL, NULL, &error));
        ck_ok(store_write_commit(w, &error));
    }
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_drop(w, c, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}

START_TEST(a_full_map_refuses_puts_and_loses_nothing)
{
    expect_refusals_until_emptied(new_store(8 << 20), "8388608");
}
END_TEST

START_TEST(max_size_refuses_puts_before_the_map_is_full)
{
    store *s = new_store(MAP);
    store_close(s);
    expect_refusals_until_emptied(open_with(MAP, 4 << 20), "storage.max_size is 4194304");
}
END_TEST

START_TEST(one_huge_put_is_refused_whole)
{
    sem_error error;
    uint64_t seq;
    store_write *w;
    bool found;
    store_document doc;
    store *s = new_store(8 << 20);
    char *text = malloc(1 << 20);
    memset(text, 'x', 1 << 20);
    const float v[DIM] = {1};
    store_put puts[20];
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t c = make_collection(w, "default");
    for (size_t i = 0; i < 20; i++)
        puts[i] = (store_put){.id = number_id(i), .text = text, .text_length = 1 << 20, .vector = v};
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 20, &seq, &error), SEM_RESOURCE_EXHAUSTED);
    ck_ok(put_text(w, c, number_id(50), "small", 1, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    docid id = number_id(0);
    ck_ok(store_document_get(r, c, &id, &doc, &found, &error));
    ck_assert(!found);
    store_read_end(r);
    free(text);
    store_close(s);
}
END_TEST

START_TEST(a_full_disk_loses_nothing)
{
    sem_error error, last;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t c = make_collection(w, "default");
    ck_ok(store_write_commit(w, &error));
    /* A limit on the size of files stands in for a full disk. */
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 3 << 20, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    uint64_t count = fill(s, c, &last);
    ck_assert_uint_gt(count, 50);
    check_filled(s, c, count);
    limit.rlim_cur = RLIM_INFINITY;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(count), "fits again", (float)count, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    check_filled(s, c, count + 1);
    store_close(s);
    /* The groups that were lost left no vectors behind. */
    ck_assert_uint_eq(vectors_on_disk("space-1"), count + 1);
    s = open_with(MAP, 0);
    check_filled(s, c, count + 1);
    store_close(s);
}
END_TEST

START_TEST(a_newer_format_is_refused)
{
    static const char *const names[] = {"main", "events", "external", "space-1"};
    sem_error error;
    char found[32];
    store_options options = {.path = store_folder(), .map_size = MAP};
    store *s = new_store(MAP);
    store_close(s);
    snprintf(found, sizeof found, "format %d", STORE_FORMAT + 1);
    for (size_t i = 0; i < 4; i++) {
        set_format(names[i], STORE_FORMAT + 1);
        ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
        ck_assert_msg(strstr(error.message, names[i]) != NULL && strstr(error.message, found) != NULL, "%s",
                      error.message);
        set_format(names[i], 1);
    }
    ck_ok(store_open(&s, &options, NULL, &error));
    store_close(s);
}
END_TEST

START_TEST(what_is_no_store_is_refused)
{
    sem_error error;
    store *s;
    store_options options = {.path = store_folder(), .map_size = MAP};
    char garbage[8192];
    ck_ok(files_make_folder(below_store("main"), &error));
    memset(garbage, 'g', sizeof garbage);
    const char *path = below_store("main/data.mdb");
    ck_ok(files_write(path, garbage, sizeof garbage, &error));
    ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
    ck_assert_int_eq(unlink(path), 0);
    options.map_size = 4096;
    ck_fails(store_open(&s, &options, NULL, &error), SEM_INVALID_ARGUMENT);
    options.map_size = MAP;
    options.path = path;
    ck_ok(files_write(path, garbage, 1, &error));
    ck_assert_int_ne(store_open(&s, &options, NULL, &error), SEM_OK);
}
END_TEST

START_TEST(a_second_opener_is_refused)
{
    sem_error error;
    store *s = new_store(MAP), *second;
    store_options options = {.path = store_folder(), .map_size = MAP};
    ck_fails(store_open(&second, &options, NULL, &error), SEM_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "another semd"));
    store_close(s);
    ck_ok(store_open(&second, &options, NULL, &error));
    store_close(second);
}
END_TEST

/* A line of LMDB's list of readers begins with the process. */
static int is_of_process(const char *line, void *context)
{
    const pid_t *pid = context;
    return strtol(line, NULL, 10) == *pid ? -1 : 0;
}

/* A program that looks at main's file in a process of its own and ends without a word, in a snapshot.
 * pid: what to look for among the readers that there are. */
static pid_t look(pid_t pid, bool *listed)
{
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        MDB_env *env;
        MDB_txn *txn;
        if (mdb_env_create(&env) != 0 || mdb_env_open(env, below_store("main"), MDB_RDONLY | MDB_NOTLS, 0600) != 0 ||
            mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
            _exit(2);
        _exit(mdb_reader_list(env, is_of_process, &pid) < 0 ? 1 : 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    *listed = WEXITSTATUS(status) == 1;
    return child;
}

START_TEST(snapshots_of_programs_that_died_are_given_up)
{
    bool listed;
    store *s = new_store(MAP);
    pid_t first = look(0, &listed);
    (void)look(first, &listed);
    ck_assert_msg(listed, "the snapshot is gone without anybody's doing");
    store_check_readers(s);
    (void)look(first, &listed);
    ck_assert(!listed);
    store_close(s);
}
END_TEST

START_TEST(the_user_key_is_made_once)
{
    unsigned char key[16];
    static const unsigned char zero[16];
    store *s = new_store(MAP);
    memcpy(key, store_user_key(s), 16);
    ck_assert_mem_ne(key, zero, 16);
    store_close(s);
    s = open_with(MAP, 0);
    ck_assert_mem_eq(key, store_user_key(s), 16);
    ck_assert_str_eq(store_path(s), store_folder());
    ck_assert_uint_gt(store_bytes(s), 0);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store limits");
    TCase *tests = tcase_create("store limits");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_full_map_refuses_puts_and_loses_nothing);
    tcase_add_test(tests, max_size_refuses_puts_before_the_map_is_full);
    tcase_add_test(tests, one_huge_put_is_refused_whole);
    tcase_add_test(tests, a_full_disk_loses_nothing);
    tcase_add_test(tests, a_newer_format_is_refused);
    tcase_add_test(tests, what_is_no_store_is_refused);
    tcase_add_test(tests, a_second_opener_is_refused);
    tcase_add_test(tests, snapshots_of_programs_that_died_are_given_up);
    tcase_add_test(tests, the_user_key_is_made_once);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
