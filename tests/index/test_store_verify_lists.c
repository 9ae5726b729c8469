/* Whatever is wrong with saved lists is found, and is no violation of the store's. */
#include "tests/index/saved_lists.h"

#include "index/verify.h"

#include <lmdb.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static char found[1 << 14];

static void note(void *context, const char *text)
{
    const size_t used = strlen(found);
    (void)context;
    snprintf(found + used, sizeof found - used, "%s\n", text);
}

static verify_result look(void)
{
    char path[FILES_PATH_MAX];
    verify_result result;
    verify_options options = {.path = path, .found = note};
    found[0] = '\0';
    ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    ck_ok(store_verify(&options, &result, &error));
    return result;
}

/* Nothing but this. */
static void expect(const char *what)
{
    const verify_result r = look();
    ck_assert_msg(strstr(found, what) != NULL, "'%s' is not in: %s", what, found);
    ck_assert_msg(r.violations == 0 && r.caches == 1, "%s", found);
}

/* FAISS's files are left to the daemon. */
static void expect_sound(int kind)
{
    const verify_result r = look();
    ck_assert_str_eq(found, "");
    ck_assert(r.violations == 0 && r.caches == 0 && r.lists == (kind == OURS || kind == OURS_DOT));
}

/* Lists as the daemon saves them, of a store that is closed then; its rows changed afterwards. */
static void make_lists(place_here *p, int kind, size_t passages)
{
    char folder[FILES_PATH_MAX];
    setup(p, kind, passages);
    ck_ok(files_join(folder, &error, "%s/cache", store_path(p->store)));
    ck_ok(files_make_folder(folder, &error));
    ck_ok(files_join(p->cache, &error, "%s/space-0-%u.lists", folder, p->collection));
    save_lists(p);
    for (uint64_t n = 0; n < N; n += 7)
        erase(p, n);
    put(p, N, N + MORE);
    teardown(p);
}

static void remove_all(void)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    ck_ok(files_remove_folder(path, &error));
}

static void flip(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

START_TEST(sound_lists_are_found_sound)
{
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t passages = 0; passages <= MOST; passages += MOST) {
            place_here p;
            make_lists(&p, kind, passages);
            expect_sound(kind);
            remove_all();
        }
}
END_TEST

START_TEST(a_byte_of_a_file_that_changed_is_found)
{
    enum { PLACES = 40 };
    for (int kind = OURS; kind <= OURS_DOT; kind += OURS_DOT - OURS) {
        place_here p;
        struct stat st;
        size_t known = 0;
        make_lists(&p, kind, 0);
        ck_assert_int_eq(stat(p.cache, &st), 0);
        for (int i = 0; i < PLACES; i++) {
            const off_t at = i == 0 ? 0 : i == 1 ? 8 : st.st_size / PLACES * i;
            flip(p.cache, at);
            const verify_result r = look();
            /* What fills a part up to a whole page is read by nobody. */
            ck_assert(r.violations == 0 && r.caches <= 1);
            known += r.caches;
            flip(p.cache, at);
        }
        ck_assert_uint_ge(known, PLACES * 8 / 10);
        expect_sound(kind);
        ck_assert_int_eq(truncate(p.cache, st.st_size / 2), 0);
        expect("it is too short");
        ck_assert_int_eq(truncate(p.cache, 0), 0);
        expect("it is too short");
        remove_all();
    }
}
END_TEST

/* Turns a vector in the store round: as long, and coded otherwise whatever it was. */
static void change_vector(void)
{
    enum { BLOCK_HEAD = 48 };
    char path[FILES_PATH_MAX];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi blocks;
    MDB_cursor *cursor;
    MDB_val key, value;
    ck_ok(files_join(path, &error, "%s/store/external", testing_folder()));
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 16), 0);
    ck_assert_int_eq(mdb_env_set_mapsize(env, 256 << 20), 0);
    ck_assert_int_eq(mdb_env_open(env, path, 0, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "blocks", 0, &blocks), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, blocks, &cursor), 0);
    ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    char *copy = malloc(value.mv_size);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, value.mv_data, value.mv_size);
    float *row = (float *)(void *)(copy + BLOCK_HEAD) + DIM; /* of the second document: the first is gone */
    for (size_t i = 0; i < DIM; i++)
        row[i] = -row[i];
    MDB_val changed = {.mv_size = value.mv_size, .mv_data = copy};
    ck_assert_int_eq(mdb_cursor_put(cursor, &key, &changed, MDB_CURRENT), 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    free(copy);
}

START_TEST(lists_of_other_vectors_are_found)
{
    place_here p;
    make_lists(&p, OURS, 0);
    change_vector();
    expect("row 1, of outside/1, has the code of another vector");
    remove_all();
}
END_TEST

/* Of a store from before: what it knew was never given out here. */
START_TEST(lists_of_another_store_are_found)
{
    char saved[FILES_PATH_MAX];
    place_here p;
    make_lists(&p, OURS, 0);
    ck_ok(files_join(saved, &error, "%s/lists", testing_folder()));
    ck_ok(files_copy_file(p.cache, saved, &error));
    remove_all();
    char folder[FILES_PATH_MAX];
    store *s;
    store_write *w;
    bool created;
    uint64_t seq;
    store_collection c = {.name = "outside", .external = true, .dim = DIM};
    const float vector[DIM] = {1};
    store_put put = {.id = {.is_integer = true, .integer = 1}, .text = "", .vector = vector};
    ck_ok(files_join(folder, &error, "%s/store", testing_folder()));
    store_options options = {.path = folder, .map_size = 256 << 20};
    ck_ok(store_open(&s, &options, NULL, &error));
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_create(w, &c, &created, &error));
    ck_ok(store_documents_put(w, c.number, STORE_SPACE_EXTERNAL, DIM, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    ck_ok(files_join(folder, &error, "%s/store/cache", testing_folder()));
    ck_ok(files_make_folder(folder, &error));
    ck_ok(files_copy_file(saved, p.cache, &error));
    verify_result r = look();
    ck_assert_ptr_nonnull(strstr(found, "which were never given out"));
    ck_assert(r.violations == 0 && r.caches >= 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_verify_lists");
    TCase *tests = tcase_create("lists");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, sound_lists_are_found_sound);
    tcase_add_test(tests, a_byte_of_a_file_that_changed_is_found);
    tcase_add_test(tests, lists_of_other_vectors_are_found);
    tcase_add_test(tests, lists_of_another_store_are_found);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
