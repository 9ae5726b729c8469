/* A backup is what the store was at one moment, however much is written meanwhile. */
#include "tests/index/store_fixture.h"

#include "index/backup.h"

#include <ftw.h>
#include <sys/stat.h>

enum { DOCUMENTS = 3000, GROWTH = 1 << 30, REPLACED = 400 /* documents at each step of a backup */ };

static void put_model(const char *name)
{
    char path[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(path, &error, "%s/models/%s/empty", store_folder(), name));
    ck_ok(files_make_folder(path, &error));
    ck_ok(files_join(path, &error, "%s/models/%s/config.json", store_folder(), name));
    ck_ok(files_write(path, "{}", 2, &error));
}

/* In one operation: under sanitizers each takes milliseconds, for the megabytes that LMDB takes for it. */
static void put_range(store *s, uint32_t collection, unsigned from, unsigned to, const char *what)
{
    static char texts[DOCUMENTS][64];
    static float vectors[DOCUMENTS][DIM];
    static store_put puts[DOCUMENTS];
    sem_error error;
    store_write *w;
    uint64_t seq;
    for (unsigned i = from; i < to; i++) {
        const size_t k = i - from;
        snprintf(texts[k], sizeof texts[k], "%s %u", what, i);
        memcpy(vectors[k], (const float[DIM]){(float)i, 1, 2, 3}, sizeof vectors[k]);
        puts[k] =
            (store_put){.id = number_id(i), .text = texts[k], .text_length = strlen(texts[k]), .vector = vectors[k]};
    }
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, collection, SPACE, DIM, 0, 0, puts, to - from, &seq, &error));
    ck_ok(store_write_commit(w, &error));
}

static void delete_range(store *s, uint32_t collection, unsigned from, unsigned to)
{
    sem_error error;
    store_write *w;
    uint32_t docnos[DOCUMENTS];
    docid ids[DOCUMENTS];
    size_t deleted;
    uint64_t seq;
    for (unsigned i = from; i < to; i++)
        ids[i - from] = number_id(i);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_delete(w, collection, ids, to - from, docnos, &deleted, &seq, &error));
    ck_ok(store_write_commit(w, &error));
}

/* A store with documents, some replaced and some deleted, and the models that its generations name. */
static store *filled(uint32_t *collection)
{
    store *s = store_with_collection(collection);
    put_model("g1");
    put_model("g2");
    put_range(s, *collection, 0, DOCUMENTS, "first");
    put_range(s, *collection, 0, 100, "second");
    delete_range(s, *collection, 100, 150);
    return s;
}

/* What a test does while the backup runs. */
typedef struct meanwhile {
    store *s;
    uint32_t collection;
    unsigned calls;
    unsigned stop_at;    /* the call that ends the backup; 0: none does */
    bool replace, erase; /* documents, at each call */
} meanwhile;

static sem_status on_progress(void *context, uint64_t done, uint64_t total, sem_error *err)
{
    meanwhile *m = context;
    ck_assert_uint_le(done, total);
    m->calls++;
    if (m->replace)
        put_range(m->s, m->collection, 200, 200 + REPLACED, m->calls % 2 == 0 ? "even" : "odd");
    if (m->erase && m->calls == 1)
        delete_range(m->s, m->collection, 1000, 2000);
    return m->calls == m->stop_at ? sem_fail(err, SEM_CANCELLED, "stopped") : SEM_OK;
}

static sem_status take(store *s, const char *name, uint64_t limit, meanwhile *m, backup_result *out, sem_error *err)
{
    backup_options o = {
        .folder = testing_path("backups"), .name = name, .growth = limit, .progress = on_progress, .context = m};
    return backup_take(s, &o, out, err);
}

static sem_status restore(const char *name, const char *target, sem_error *err)
{
    char from[FILES_PATH_MAX];
    backup_result out;
    ck_assert_int_eq(files_join(from, err, "%s/%s", testing_path("backups"), name), SEM_OK);
    return backup_restore(from, target, NULL, NULL, &out, err);
}

static store *open_at(const char *path)
{
    sem_error error;
    store *s;
    store_options o = {.path = path, .map_size = MAP};
    ck_ok(store_open(&s, &o, NULL, &error));
    return s;
}

typedef struct seen {
    store_read *r;
    uint32_t collection;
    size_t documents, second, odd;
} seen;

static bool see(void *context, const store_document *d)
{
    seen *all = context;
    float vector[DIM];
    uint64_t version;
    bool found;
    sem_error error;
    ck_ok(store_vector_get(all->r, SPACE, all->collection, d->docno, vector, DIM, &version, &found, &error));
    ck_assert_msg(found && version == d->text_version && vector[0] == (float)d->id.integer, "document %llu",
                  (unsigned long long)d->id.integer);
    all->documents++;
    all->second += d->text_length > 6 && memcmp(d->text, "second", 6) == 0;
    all->odd += memcmp(d->text, "odd", 3) == 0 || memcmp(d->text, "even", 4) == 0;
    return true;
}

static seen look(store *s, uint32_t collection)
{
    sem_error error;
    seen all = {.collection = collection};
    ck_ok(store_read_begin(s, &all.r, &error));
    ck_ok(store_document_walk(all.r, collection, NULL, 0, see, &all, &error));
    store_read_end(all.r);
    return all;
}

/* How many entries a folder has; 0 where it is missing. */
static unsigned entries;

static int count_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)path, (void)st, (void)kind;
    entries += where->level == 1;
    return 0;
}

static unsigned entries_of(const char *path)
{
    entries = 0;
    nftw(path, count_entry, 8, FTW_PHYS);
    return entries;
}

START_TEST(backup_is_the_store_of_one_moment)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile m = {.s = s, .collection = collection, .replace = true, .erase = true};
    ck_ok(take(s, "one", GROWTH, &m, &result, &error));
    ck_assert_uint_gt(m.calls, 3);
    ck_assert_uint_eq(result.generation, 1);
    ck_assert_uint_eq(entries_of(testing_path("backups")), 1);
    store_close(s);
    ck_ok(restore("one", testing_path("restored"), &error));
    s = open_at(testing_path("restored"));
    seen all = look(s, collection);
    /* The copy of models calls first, before main is copied but after its snapshot. */
    ck_assert_uint_eq(all.documents, DOCUMENTS - 50);
    ck_assert_uint_eq(all.second, 100);
    ck_assert_uint_eq(all.odd, 0);
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    ck_assert_uint_eq(store_last_seq(r), result.seq);
    store_read_end(r);
    /* It goes on where it was. */
    put_range(s, collection, 0, DOCUMENTS, "third");
    delete_range(s, collection, 0, 1000);
    ck_assert_uint_eq(look(s, collection).documents, DOCUMENTS - 1000);
    store_close(s);
    s = open_at(testing_path("restored"));
    ck_assert_uint_eq(look(s, collection).documents, DOCUMENTS - 1000);
    store_close(s);
}
END_TEST

/* --- files of a backup */

static const void *needle;
static char found_in[FILES_PATH_MAX];

static int find_needle(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)where;
    char *data;
    size_t size;
    sem_error error;
    if (kind != FTW_F || st->st_size == 0)
        return 0;
    ck_ok(files_read(path, 1 << 30, &data, &size, &error));
    if (memmem(data, size, needle, 16) != NULL)
        snprintf(found_in, sizeof found_in, "%s", path);
    free(data);
    return 0;
}

START_TEST(backup_does_not_hold_the_key_of_user_names)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    unsigned char key[16];
    store *s = filled(&collection);
    meanwhile m = {.s = s};
    memcpy(key, store_user_key(s), sizeof key);
    ck_ok(take(s, "one", GROWTH, &m, &result, &error));
    store_close(s);
    needle = key;
    nftw(store_folder(), find_needle, 8, FTW_PHYS);
    ck_assert_str_ne(found_in, ""); /* or the search below would say nothing */
    found_in[0] = '\0';
    nftw(testing_path("backups"), find_needle, 8, FTW_PHYS);
    ck_assert_str_eq(found_in, "");
    ck_ok(restore("one", testing_path("restored"), &error));
    s = open_at(testing_path("restored"));
    ck_assert_mem_ne(store_user_key(s), key, sizeof key);
    memcpy(key, store_user_key(s), sizeof key);
    store_close(s);
    s = open_at(testing_path("restored"));
    ck_assert_mem_eq(store_user_key(s), key, sizeof key);
    store_close(s);
}
END_TEST

static char files[64][FILES_PATH_MAX];
static unsigned file_count;

static int note_file(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)where;
    if (kind == FTW_F && st->st_size > 0)
        snprintf(files[file_count++], FILES_PATH_MAX, "%s", path);
    return 0;
}

/* A filled store of which the backup "one" was taken. */
static store *filled_and_taken(void)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile m = {.s = s};
    ck_ok(take(s, "one", GROWTH, &m, &result, &error));
    return s;
}

static void flip_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
    int byte = fgetc(f);
    ck_assert_int_eq(fseek(f, at, SEEK_SET), 0);
    ck_assert_int_ne(fputc(byte ^ 0x20, f), EOF);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(restore_refuses_a_damaged_file_by_its_name)
{
    sem_error error;
    store *s = filled_and_taken();
    store_close(s);
    nftw(testing_path("backups"), note_file, 8, FTW_PHYS);
    ck_assert_uint_ge(file_count, 6); /* manifest, main, events, external, a space, a model's */
    for (unsigned i = 0; i < file_count; i++) {
        struct stat st;
        ck_assert_int_eq(stat(files[i], &st), 0);
        long places[] = {0, (long)st.st_size / 2, (long)st.st_size - 1};
        for (unsigned k = 0; k < 3; k++) {
            flip_byte(files[i], places[k]);
            ck_assert_int_eq(restore("one", testing_path("restored"), &error), SEM_INVALID_ARGUMENT);
            ck_assert_msg(strstr(error.message, files[i]) != NULL, "%s is not named: %s", files[i], error.message);
            ck_assert_int_ne(access(testing_path("restored"), F_OK), 0);
            flip_byte(files[i], places[k]);
        }
        /* One that is missing, and one that is cut short. */
        char aside[FILES_PATH_MAX + 8];
        snprintf(aside, sizeof aside, "%s.aside", files[i]);
        ck_assert_int_eq(rename(files[i], aside), 0);
        ck_assert_int_ne(restore("one", testing_path("restored"), &error), SEM_OK);
        ck_assert_int_eq(rename(aside, files[i]), 0);
    }
    ck_assert_int_eq(truncate(testing_path("backups/one/main/data.mdb"), 4096), 0);
    ck_assert_int_eq(restore("one", testing_path("restored"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "main/data.mdb is damaged: it has 4096 bytes"));
}
END_TEST

START_TEST(restore_leaves_a_folder_alone_that_holds_something)
{
    sem_error error;
    store *s = filled_and_taken();
    store_close(s);
    ck_assert_int_eq(restore("one", store_folder(), &error), SEM_ALREADY_EXISTS);
    ck_ok(files_make_folder(testing_path("empty"), &error));
    ck_ok(restore("one", testing_path("empty"), &error));
    ck_assert_uint_ge(entries_of(testing_path("empty")), 5);
    ck_assert_int_eq(restore("one", testing_path("backups/one/inside"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_int_ne(access(testing_path("backups/one/inside"), F_OK), 0);
    ck_assert_int_eq(restore("nothing", testing_path("other"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "no manifest.json"));
}
END_TEST

START_TEST(candidates_are_left_out)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile m = {.s = s};
    store_write *w;
    store_put put = {.id = number_id(7),
                     .text = "both",
                     .text_length = 4,
                     .vector = (const float[DIM]){7, 1, 2, 3},
                     .second = (const float[DIM]){7, 1, 2, 3}};
    uint64_t seq;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, collection, SPACE, DIM, OTHER_SPACE, DIM, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(take(s, "one", GROWTH, &m, &result, &error));
    store_close(s);
    ck_assert_int_ne(access(testing_path("backups/one/space-2"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("backups/one/models/g2"), F_OK), 0);
    ck_assert_int_eq(access(testing_path("backups/one/models/g1/empty"), F_OK), 0);
    ck_ok(restore("one", testing_path("restored"), &error));
    s = open_at(testing_path("restored"));
    store_read *r;
    store_generation g;
    bool found;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_generation_get(r, 2, &g, &found, &error));
    ck_assert(!found);
    store_read_end(r);
    ck_assert_uint_eq(look(s, collection).documents, DOCUMENTS - 50);
    store_close(s);
}
END_TEST

/* --- what ends a backup early */

START_TEST(backup_that_makes_the_files_grow_too_much_is_given_up)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile m = {.s = s, .collection = collection, .replace = true};
    ck_assert_int_eq(take(s, "one", 16384, &m, &result, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_ptr_nonnull(strstr(error.message, "storage.backup_growth is 16384"));
    ck_assert_uint_eq(entries_of(testing_path("backups")), 0);
    /* Nothing is held any more: what was replaced goes. */
    m = (meanwhile){.s = s};
    ck_ok(take(s, "one", 16384, &m, &result, &error));
    empty_group(s);
    store_close(s);
}
END_TEST

START_TEST(backup_that_is_stopped_leaves_nothing)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile whole = {.s = s};
    ck_ok(take(s, "whole", GROWTH, &whole, &result, &error));
    for (unsigned stop = 1; stop <= whole.calls; stop++) {
        meanwhile m = {.s = s, .stop_at = stop};
        ck_assert_int_eq(take(s, "one", GROWTH, &m, &result, &error), SEM_CANCELLED);
        ck_assert_uint_eq(entries_of(testing_path("backups")), 1);
    }
    ck_ok(store_space_remove(s, OTHER_SPACE, &error)); /* no pin is left */
    store_close(s);
}
END_TEST

START_TEST(backup_that_was_cut_off_is_swept_away_and_not_restored)
{
    sem_error error;
    store *s = filled_and_taken();
    /* As if the end had come before the rename, and before the manifest. */
    ck_assert_int_eq(rename(testing_path("backups/one"), testing_path("backups/~one")), 0);
    ck_assert_int_eq(unlink(testing_path("backups/~one/manifest.json")), 0);
    ck_assert_int_eq(restore("~one", testing_path("restored"), &error), SEM_INVALID_ARGUMENT);
    ck_ok(backup_sweep(testing_path("backups"), NULL, &error));
    ck_assert_uint_eq(entries_of(testing_path("backups")), 0);
    ck_ok(backup_sweep(testing_path("missing"), NULL, &error));
    store_close(s);
}
END_TEST

START_TEST(folders_of_others_are_not_swept_away)
{
    sem_error error;
    ck_ok(files_make_folder(testing_path("backups/~mine/main"), &error));
    ck_ok(files_write(testing_path("backups/~mine/letter.txt"), "dear", 4, &error));
    ck_ok(files_make_folder(testing_path("backups/~one/space-1"), &error));
    ck_ok(backup_sweep(testing_path("backups"), NULL, &error));
    ck_assert_uint_eq(entries_of(testing_path("backups")), 1);
    ck_assert_int_eq(access(testing_path("backups/~mine/letter.txt"), F_OK), 0);
}
END_TEST

START_TEST(names_are_folders_that_are_new)
{
    uint32_t collection;
    sem_error error;
    backup_result result;
    store *s = filled(&collection);
    meanwhile m = {.s = s};
    static const char *const wrong[] = {"", ".", "..", "a/b", "~a", "a b"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(take(s, wrong[i], GROWTH, &m, &result, &error), SEM_INVALID_ARGUMENT);
    ck_ok(take(s, "one", GROWTH, &m, &result, &error));
    ck_assert_int_eq(take(s, "one", GROWTH, &m, &result, &error), SEM_ALREADY_EXISTS);
    backup_options inside = {
        .folder = below_store("backups"), .name = "one", .growth = GROWTH, .progress = on_progress, .context = &m};
    ck_assert_int_eq(backup_take(s, &inside, &result, &error), SEM_FAILED_PRECONDITION);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_backup");
    TCase *tests = tcase_create("backup");
    tcase_add_test(tests, backup_is_the_store_of_one_moment);
    tcase_add_test(tests, backup_does_not_hold_the_key_of_user_names);
    tcase_add_test(tests, restore_refuses_a_damaged_file_by_its_name);
    tcase_add_test(tests, restore_leaves_a_folder_alone_that_holds_something);
    tcase_add_test(tests, candidates_are_left_out);
    tcase_add_test(tests, backup_that_makes_the_files_grow_too_much_is_given_up);
    tcase_add_test(tests, backup_that_is_stopped_leaves_nothing);
    tcase_add_test(tests, backup_that_was_cut_off_is_swept_away_and_not_restored);
    tcase_add_test(tests, folders_of_others_are_not_swept_away);
    tcase_add_test(tests, names_are_folders_that_are_new);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
