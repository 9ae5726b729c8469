/* Whatever is wrong in a store is found, and nothing else. */
#include "tests/index/store_fixture.h"

#include "base/random.h"
#include "index/events.h"
#include "index/verify.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DOCUMENTS = 300, TABLES = 16, ROUNDS = 60, IDS = 400 };

/* --- a store with one of everything */

static void unit_vector(float out[DIM], unsigned seed)
{
    double squares = 0;
    for (unsigned i = 0; i < DIM; i++) {
        out[i] = (float)((seed * 7919 + i * 104729) % 1000) / 1000 + 0.1f;
        squares += (double)out[i] * out[i];
    }
    for (unsigned i = 0; i < DIM; i++)
        out[i] = (float)(out[i] / sqrt(squares));
}

static void put_one(store_write *w, uint32_t collection, unsigned id, unsigned version, bool both)
{
    sem_error error;
    float vector[DIM];
    char text[64];
    uint64_t seq;
    unit_vector(vector, id + 1000 * version);
    int length = snprintf(text, sizeof text, "document %u, version %u", id, version);
    store_put put = {.id = number_id(id), .text = text, .text_length = (size_t)length, .vector = vector};
    if (both)
        put.second = vector;
    ck_ok(
        store_documents_put(w, collection, SPACE, DIM, both ? OTHER_SPACE : 0, both ? DIM : 0, &put, 1, &seq, &error));
}

static void delete_one(store_write *w, uint32_t collection, unsigned id)
{
    sem_error error;
    uint32_t docno;
    size_t deleted;
    uint64_t seq;
    docid which = number_id(id);
    ck_ok(store_documents_delete(w, collection, &which, 1, &docno, &deleted, &seq, &error));
}

static void put_external(store_write *w)
{
    sem_error error;
    bool created;
    uint64_t seq;
    store_collection c = {.name = "vectors", .external = true, .dim = 3, .metric = METRIC_DOT};
    ck_ok(store_collection_create(w, &c, &created, &error));
    store_put put = {.id = string_id("a"), .text = "", .vector = (const float[]){1, 2, 3}};
    ck_ok(store_documents_put(w, c.number, STORE_SPACE_EXTERNAL, 3, 0, 0, &put, 1, &seq, &error));
}

static void put_events(store_write *w, uint32_t collection)
{
    sem_error error;
    const docid shown[] = {number_id(5), number_id(6)}, id = number_id(6);
    const float scores[] = {1, 0.5f};
    event_search search = {.query_id = "q1",
                           .time_ms = 1000,
                           .collection = collection,
                           .generation = 1,
                           .kind = QUERY_TEXT,
                           .query = "words",
                           .query_length = 5,
                           .asked = {.k = 10, .with = 1, .filter = "\x81\xa3not\x80", .filter_size = 6},
                           .shown = shown,
                           .scores = scores,
                           .shown_count = 2};
    event_feedback pair = {.time_ms = 1001,
                           .collection = collection,
                           .query = "words",
                           .query_length = 5,
                           .by_id = true,
                           .id = id,
                           .label = 1};
    const event_search *const one = &search;
    ck_ok(events_put_searches(w, &one, 1, &error));
    ck_ok(events_put_click(w, "q1", 2, &id, 1.0, 1002, 1000, &error));
    ck_ok(events_put_feedback(w, &pair, 1, &error));
}

static void make_store(void)
{
    sem_error error;
    store_write *w;
    uint32_t collection, job;
    store *s = store_with_collection(&collection);
    ck_ok(store_write_begin(s, &w, &error));
    for (unsigned i = 0; i < DOCUMENTS; i++)
        put_one(w, collection, i, 1, true);
    put_external(w);
    put_events(w, collection);
    ck_ok(store_job_next(w, &job, &error));
    ck_ok(store_job_put(w, job, "{}", &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_write_begin(s, &w, &error));
    put_one(w, collection, 299, 2, false);
    delete_one(w, collection, 10);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}

/* --- verifying */

typedef struct findings {
    unsigned count;
    char all[1 << 16];
} findings;

static void note(void *context, const char *text)
{
    findings *f = context;
    size_t used = strlen(f->all);
    f->count++;
    snprintf(f->all + used, sizeof f->all - used, "%s\n", text);
}

static sem_status verify_at(const char *path, findings *f, sem_error *err)
{
    verify_result result;
    verify_options o = {.path = path, .found = note, .context = f};
    *f = (findings){0};
    sem_status status = store_verify(&o, &result, err);
    ck_assert_uint_eq(result.violations, f->count);
    return status;
}

START_TEST(sound_store_has_no_violation)
{
    static findings f;
    sem_error error;
    make_store();
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_str_eq(f.all, "");
    /* Nothing was tidied up: it is the same again. */
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_str_eq(f.all, "");
}
END_TEST

START_TEST(sound_store_has_no_violation_after_anything)
{
    static findings f;
    sem_error error;
    random_state random;
    store_write *w;
    uint32_t collection;
    random_seed(&random, testing_seed());
    store *s = store_with_collection(&collection);
    for (unsigned round = 0; round < ROUNDS; round++) {
        store_read *held = NULL;
        if (random_below(&random, 3) == 0)
            ck_ok(store_read_begin(s, &held, &error));
        ck_ok(store_write_begin(s, &w, &error));
        for (uint64_t n = random_below(&random, 300); n > 0; n--) {
            unsigned id = (unsigned)random_below(&random, IDS);
            if (random_below(&random, 4) == 0)
                delete_one(w, collection, id);
            else
                put_one(w, collection, id, round, random_below(&random, 2) == 0);
        }
        if (random_below(&random, 5) == 0)
            store_write_abort(w);
        else
            ck_ok(store_write_commit(w, &error));
        store_read_end(held);
        if (round % 10 != 9)
            continue;
        store_close(s);
        ck_ok(verify_at(store_folder(), &f, &error));
        ck_assert_str_eq(f.all, "");
        s = open_with(MAP, 0);
    }
    store_close(s);
}
END_TEST

/* A crash came after a space's first commit and before main's, which therefore counts no
 * slots of it: the next start removes the vectors. */
START_TEST(first_vectors_of_a_group_that_was_cut_off_are_no_violation)
{
    static findings f;
    sem_error error;
    store_write *w;
    uint32_t collection;
    char path[FILES_PATH_MAX], *before;
    size_t size;
    store *s = store_with_collection(&collection);
    store_close(s);
    ck_ok(files_join(path, &error, "%s/main/data.mdb", store_folder()));
    ck_ok(files_read(path, SIZE_MAX, &before, &size, &error));
    s = open_with(MAP, 0);
    ck_ok(store_write_begin(s, &w, &error));
    for (unsigned i = 0; i < DOCUMENTS; i++)
        put_one(w, collection, i, 1, true);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    ck_ok(files_write(path, before, size, &error));
    free(before);
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_str_eq(f.all, "");
    store_close(open_with(MAP, 0));
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_str_eq(f.all, "");
}
END_TEST

/* --- damage, done behind the store's back */

typedef struct damage {
    const char *environment, *table;
    const char *key; /* in hexadecimal; NULL: the first */
    enum { TAKE_AWAY, SET_BYTES, CUT_SHORT, MOVE_TO } what;
    size_t at;           /* SET_BYTES: where; CUT_SHORT: bytes that are left */
    const char *bytes;   /* in hexadecimal; MOVE_TO: the new key */
    const char *finding; /* part of what is said */
} damage;

static const damage damages[] = {
    {"main", "docs", NULL, TAKE_AWAY, 0, NULL, "docnos: number 0 leads to default/0, which there is not"},
    {"main", "docs", NULL, TAKE_AWAY, 0, NULL, "default: its record counts 299 documents, there are 298"},
    {"main", "docs", NULL, SET_BYTES, 0, "00000005", "default/0: its number 5 does not lead back to it"},
    {"main", "docs", NULL, SET_BYTES, 4, "ff", "default/0: seq"},
    {"main", "docs", NULL, SET_BYTES, 24, "ff", "default/0: its text is no UTF-8"},
    {"main", "docs", NULL, SET_BYTES, 20, "00000003", "default/0: its meta is no map"},
    {"main", "docs", NULL, CUT_SHORT, 20, NULL, "default/0: its record is damaged"},
    {"main", "docs", NULL, CUT_SHORT, 30, NULL, "default: its record counts"},
    {"main", "docnos", NULL, TAKE_AWAY, 0, NULL, "default/0: its number 0 does not lead back to it"},
    {"main", "places", "00000001", TAKE_AWAY, 0, NULL, "default/0: it has no vector in space 1"},
    {"main", "places", "00000001", TAKE_AWAY, 0, NULL, "slot 0 of default holds a vector that nothing names"},
    {"main", "places", "00000001", SET_BYTES, 0, "0000000000000000", "made from text version 0"},
    {"main", "places", "00000001", SET_BYTES, 0, "ff", "of text version 18374686479671623681, it has 1"},
    {"main", "places", "00000001", SET_BYTES, 8, "00000002", "its slot 2 in space-1 is another's as well"},
    {"main", "places", "00000001", SET_BYTES, 8, "0fffffff", "is not below the counter, 301"},
    {"main", "places", "00000001", CUT_SHORT, 9, NULL, "places: a record is damaged"},
    {"main", "slots", "00000001", SET_BYTES, 0, "0000000000000064",
     "default/100: its slot 100 in space-1 is not below"},
    {"main", "slots", "00000001", TAKE_AWAY, 0, NULL, "default/0: it has slots in space-1, which counts none"},
    {"main", "freed", NULL, SET_BYTES, 0, "ffffffff", "is freed"},
    {"main", "freed", NULL, TAKE_AWAY, 0, NULL, "holds a vector that nothing names and that is not freed"},
    {"main", "names", NULL, TAKE_AWAY, 0, NULL, "collections: a record with number 1 that no name leads to"},
    {"main", "names", NULL, SET_BYTES, 0, "00000009", "names: \"default\" has number 9, whose record is missing"},
    {"main", "collections", NULL, SET_BYTES, 13, "00000000000000ff", "default: its record counts 255 documents"},
    {"main", "collections", NULL, SET_BYTES, 21, "00000000000000ff",
     "default: its record says that 255 documents have vectors"},
    {"main", "collections", NULL, SET_BYTES, 29, "00000000000000ff", "default: its record counts 255 bytes"},
    {"main", "collections", NULL, SET_BYTES, 37, "0000000000000009", "is not below the collection's next, 9"},
    {"main", "log", "0000000000000002", TAKE_AWAY, 0, NULL, "default/1: the log does not have it under 2"},
    {"main", "log", NULL, SET_BYTES, 0, "07", "log: an entry is damaged"},
    {"main", "log", NULL, SET_BYTES, 1, "00000077", "log: entry 1 names collection number 119"},
    {"main", "meta", "736571", SET_BYTES, 0, "0000000000000001", "the store's is 1"},
    {"main", "meta", "757365725f6b6579", CUT_SHORT, 3, NULL, "meta: user_key has 3 bytes"},
    {"main", "generations", NULL, SET_BYTES, 12, "02", "generation 1: its record says that it is not current"},
    {"main", "generations", NULL, TAKE_AWAY, 0, NULL, "generation 1 is current, but has no record"},
    {"main", "generations", NULL, SET_BYTES, 25, "00000005", "space-1: its vectors have 4 floats"},
    {"main", "generations", "00000002", SET_BYTES, 40, "31",
     "generations 1 and 2 share the model g1, but have spaces 1 and 2"},
    {"main", "generations", "00000002", SET_BYTES, 21, "00000001",
     "generations 1 and 2 share space 1, but have models g1 and g2"},
    {"main", "jobs", NULL, SET_BYTES, 0, "20", "jobs: the record of job 1 is no JSON object"},
    {"main", "jobs", NULL, MOVE_TO, 0, "00000044", "jobs: a job has number 68, the newest is 1"},
    {"space-1", "vectors", NULL, TAKE_AWAY, 0, NULL, "its vector in space-1, slot 256, is not there"},
    {"space-1", "vectors", NULL, SET_BYTES, 0, "0000c07f", "has a number that is not finite, at 0"},
    {"space-1", "vectors", NULL, SET_BYTES, 0, "00000041", "instead of 1"},
    {"space-1", "vectors", NULL, CUT_SHORT, 12, NULL, "has not 4 floats"},
    {"space-1", "vectors", NULL, MOVE_TO, 0, "0000000100000005", "slot 5, is there twice, packed and single"},
    {"space-1", "blocks", NULL, TAKE_AWAY, 0, NULL, "default/0: its vector in space-1, slot 0, is not there"},
    {"space-1", "blocks", NULL, SET_BYTES, 48, "0000c07f", "default/0: its vector in space-1 has a number"},
    {"space-1", "blocks", NULL, SET_BYTES, 0, "fe", "space-1: block 0 of default is damaged"},
    {"space-1", "blocks", NULL, CUT_SHORT, 1000, NULL, "space-1: block 0 of default is damaged"},
    {"external", "vectors", NULL, CUT_SHORT, 8, NULL,
     "vectors/\"a\": its vector in external, slot 0, has not 3 floats"},
    {"events", "queries", NULL, TAKE_AWAY, 0, NULL, "the query_id q1 of search 1 does not lead to it"},
    {"events", "queries", NULL, MOVE_TO, 0, "7132", "the query_id q1 of search 1 does not lead to it"},
    {"events", "clicks", NULL, TAKE_AWAY, 0, NULL, "click 2 is not found by its search and document"},
    {"events", "events", NULL, TAKE_AWAY, 0, NULL, "click 2 is of event 1, which is no search"},
    {"events", "events", NULL, SET_BYTES, 27, "0fffffff", "search 1 is damaged"},
    {"events", "events", NULL, SET_BYTES, 38, "00000000", "search 1 is damaged"}, /* k */
    {"events", "events", NULL, SET_BYTES, 42, "ff", "search 1 is damaged"},       /* with */
    {"events", "events", NULL, SET_BYTES, 51, "00ffffff", "search 1 is damaged"}, /* bytes of the filter */
    {"events", "events", "0000000000000002", SET_BYTES, 17, "00000001", "showed its document at 2"},
    {"events", "events", "0000000000000003", SET_BYTES, 14, "07", "feedback 3 is damaged"},
    {"events", "events", "0000000000000003", SET_BYTES, 0, "09", "event 3 is of kind 9"},
    {"events", "meta", "6a756467656d656e7473", SET_BYTES, 0, "0000000000000007",
     "meta counts 7 judgements, there are 2"},
    {"events", "meta", "736571", SET_BYTES, 0, "0000000000000001", "the last has seq 3, meta says 1"},
};

static size_t from_hex(const char *text, unsigned char *out)
{
    size_t size = strlen(text) / 2;
    for (size_t i = 0; i < size; i++) {
        unsigned byte;
        ck_assert_int_eq(sscanf(text + 2 * i, "%2x", &byte), 1);
        out[i] = (unsigned char)byte;
    }
    return size;
}

static void change(MDB_txn *txn, MDB_dbi dbi, const damage *d)
{
    unsigned char wanted[64], bytes[64], key_copy[600];
    MDB_cursor *cursor;
    MDB_val key = {.mv_size = d->key != NULL ? from_hex(d->key, wanted) : 0, .mv_data = wanted}, value;
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    ck_assert_msg(mdb_cursor_get(cursor, &key, &value, d->key != NULL ? MDB_SET_RANGE : MDB_FIRST) == 0,
                  "%s of %s has no such record", d->table, d->environment);
    size_t size = value.mv_size;
    char *copy = malloc(size + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, value.mv_data, size);
    memcpy(key_copy, key.mv_data, key.mv_size);
    mdb_cursor_close(cursor);
    key.mv_data = key_copy;
    if (d->what == SET_BYTES)
        memcpy(copy + d->at, bytes, from_hex(d->bytes, bytes));
    if (d->what == CUT_SHORT)
        size = d->at;
    if (d->what == TAKE_AWAY || d->what == MOVE_TO)
        ck_assert_int_eq(mdb_del(txn, dbi, &key, NULL), 0);
    if (d->what == MOVE_TO)
        key = (MDB_val){.mv_size = from_hex(d->bytes, bytes), .mv_data = bytes};
    value = (MDB_val){.mv_size = size, .mv_data = copy};
    if (d->what != TAKE_AWAY)
        ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
    free(copy);
}

static void do_damage(const char *folder, const damage *d)
{
    char path[FILES_PATH_MAX];
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    sem_error error;
    ck_ok(files_join(path, &error, "%s/%s", folder, d->environment));
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, TABLES), 0);
    ck_assert_int_eq(mdb_env_open(env, path, MDB_NOSYNC, 0600), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, d->table, 0, &dbi), 0);
    change(txn, dbi, d);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

START_TEST(every_damage_is_found)
{
    static findings f;
    sem_error error;
    char folder[FILES_PATH_MAX];
    make_store();
    ck_ok(files_join(folder, &error, "%s/damaged", testing_folder()));
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const damage *d = &damages[i];
        ck_ok(files_copy_folder(store_folder(), folder, &error));
        do_damage(folder, d);
        ck_ok(verify_at(folder, &f, &error));
        ck_assert_msg(strstr(f.all, d->finding) != NULL,
                      "damage %zu of %s, %s: \"%s\" is not in what was found:\n%.4000s", i, d->environment, d->table,
                      d->finding, f.all);
        ck_ok(files_remove_folder(folder, &error));
    }
}
END_TEST

enum { PAGE = 4096, PAGE_ROUNDS = 200 };

/* A page as it was. */
typedef struct sound_page {
    int fd;
    off_t at;
    unsigned char bytes[PAGE];
} sound_page;

/* Damages one page of one environment, in one of the ways that disks know. */
static sound_page damage_page(random_state *random, const char *folder)
{
    sound_page sound;
    static const char *const files[] = {"main", "main", "main", "events", "space-1", "external"};
    char path[FILES_PATH_MAX];
    unsigned char page[PAGE];
    struct stat st;
    sem_error error;
    ck_ok(files_join(path, &error, "%s/%s/data.mdb", folder, files[random_below(random, 6)]));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    const uint64_t pages = (uint64_t)st.st_size / PAGE;
    const off_t at = (off_t)(random_below(random, pages) * PAGE);
    ck_assert_int_eq(pread(fd, page, PAGE, at), PAGE);
    sound.fd = fd;
    sound.at = at;
    memcpy(sound.bytes, page, PAGE);
    switch (random_below(random, 4)) {
    case 0: memset(page, 0, PAGE); break;
    case 1: /* another page of the file */
        ck_assert_int_eq(pread(fd, page, PAGE, (off_t)(random_below(random, pages) * PAGE)), PAGE);
        break;
    case 2: /* its head, where LMDB keeps what it trusts, or any place */
        for (int i = 0; i < 8; i++)
            page[random_below(random, i % 2 == 0 ? 64 : PAGE)] ^= (unsigned char)(1u << random_below(random, 8));
        break;
    default:
        for (int i = 0; i < PAGE; i++)
            page[i] = (unsigned char)random_below(random, 256);
    }
    ck_assert_int_eq(pwrite(fd, page, PAGE, at), PAGE);
    return sound;
}

static void mend_page(const sound_page *sound)
{
    ck_assert_int_eq(pwrite(sound->fd, sound->bytes, PAGE, sound->at), PAGE);
    close(sound->fd);
}

/* LMDB itself believes what a page says: what it does then must not end the program
 * that verifies, nor keep it for ever. */
START_TEST(damaged_pages_are_a_finding_and_end_nothing)
{
    static findings f;
    sem_error error;
    random_state random;
    char folder[FILES_PATH_MAX];
    unsigned died = 0, found = 0, failed = 0;
    random_seed(&random, testing_seed());
    make_store();
    ck_ok(files_join(folder, &error, "%s/damaged", testing_folder()));
    ck_ok(files_copy_folder(store_folder(), folder, &error));
    for (unsigned i = 0; i < PAGE_ROUNDS; i++) {
        sound_page sound = damage_page(&random, folder);
        sem_status status = verify_at(folder, &f, &error);
        ck_assert_msg(status != SEM_INVALID_ARGUMENT, "%s", error.message);
        died += strstr(f.all, "pages are damaged: reading") != NULL;
        found += status == SEM_OK && f.count > 0;
        failed += status != SEM_OK;
        mend_page(&sound);
    }
    ck_ok(verify_at(folder, &f, &error));
    ck_assert_str_eq(f.all, "");
    printf("of %d damaged pages %u ended their reader, %u were findings and %u errors; the others are in no use\n",
           PAGE_ROUNDS, died, found, failed);
    ck_assert_uint_gt(died, 0);
    ck_assert_uint_gt(found + failed, PAGE_ROUNDS / 4);
}
END_TEST

/* What is found of a document of three passages, with these bytes; NULL: nothing. */
static void expect_of_ranges(const store_range *ranges, const char *what)
{
    static findings f;
    static const float vectors[3 * DIM] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    sem_error error;
    store_write *w;
    uint32_t collection, slots[3];
    uint64_t seq;
    store *s = store_with_collection(&collection);
    store_put put = {.id = number_id(7),
                     .text = "für eine Bank",
                     .text_length = strlen("für eine Bank"),
                     .vector = vectors,
                     .cut = {.ranges = ranges, .slots = slots, .count = 3}};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, collection, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    ck_ok(verify_at(store_folder(), &f, &error));
    if (what == NULL)
        ck_assert_str_eq(f.all, "");
    else
        ck_assert_msg(strstr(f.all, what) != NULL, "'%s' is not in: %s", what, f.all);
    ck_ok(files_remove_folder(store_folder(), &error));
}

START_TEST(passages_lie_in_their_text)
{
    expect_of_ranges((const store_range[]){{0, 4}, {5, 9}, {10, 14}}, NULL);
    expect_of_ranges((const store_range[]){{0, 4}, {0, 9}, {10, 14}}, "its passage 1 in space-1 has bytes 0 to 9");
    expect_of_ranges((const store_range[]){{0, 4}, {5, 9}, {10, 15}}, "its passage 2 in space-1 has bytes 10 to 15");
    expect_of_ranges((const store_range[]){{0, 2}, {5, 9}, {10, 14}}, "its passage 0 in space-1 has bytes 0 to 2");
    expect_of_ranges((const store_range[]){{0, 4}, {9, 5}, {10, 14}}, "its passage 1 in space-1 has bytes 9 to 5");
}
END_TEST

START_TEST(lost_and_cut_files_are_named)
{
    static findings f;
    sem_error error;
    make_store();
    ck_assert_int_eq(truncate(below_store("space-1/data.mdb"), 0), 0);
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_ptr_nonnull(strstr(f.all, "space-1: the folder is missing, or its file is empty"));
    ck_ok(files_remove_folder(below_store("space-1"), &error));
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_ptr_nonnull(strstr(f.all, "space-1: the folder is missing"));
    ck_assert_int_eq(truncate(below_store("main/data.mdb"), 40960), 0);
    ck_assert_int_eq(verify_at(store_folder(), &f, &error), SEM_INTERNAL);
    ck_assert_ptr_nonnull(strstr(error.message, "main/data.mdb is cut short"));
    ck_assert_int_eq(truncate(below_store("main/data.mdb"), 0), 0);
    ck_assert_int_eq(verify_at(store_folder(), &f, &error), SEM_INTERNAL);
    ck_assert_ptr_nonnull(strstr(error.message, "main/data.mdb is empty"));
    ck_ok(files_write(below_store("main/data.mdb"), "no environment", 14, &error));
    ck_assert_int_eq(verify_at(store_folder(), &f, &error), SEM_INTERNAL);
    ck_fails(verify_at(testing_folder(), &f, &error), SEM_NOT_FOUND);
}
END_TEST

START_TEST(store_in_use_is_left_alone)
{
    static findings f;
    sem_error error;
    unsigned removed;
    make_store();
    ck_ok(files_make_folder(below_store("lexical"), &error));
    store *s = open_with(MAP, 0);
    ck_fails(verify_at(store_folder(), &f, &error), SEM_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "in use"));
    ck_fails(store_remove_caches(store_folder(), &removed, &error), SEM_FAILED_PRECONDITION);
    store_close(s);
    ck_ok(store_remove_caches(store_folder(), &removed, &error));
    ck_assert_uint_eq(removed, 1);
    ck_assert_int_ne(access(below_store("lexical"), F_OK), 0);
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_str_eq(f.all, "");
}
END_TEST

/* Nobody may write there, or to what lies there; anybody may read. */
static void make_read_only(const char *folder, bool read_only)
{
    char command[FILES_PATH_MAX + 64];
    snprintf(command, sizeof command, read_only ? "chmod -R a=rX '%s'" : "chmod -R u=rwX '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

enum { NOBODY = 65534, CHILD_SOUND = 10 };

/* Permissions do not hold root. */
static void become_nobody(void)
{
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
    ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

/* In a process of its own: what verifies, and as whom, is the child's. */
static int verify_as_nobody(void)
{
    static findings f;
    sem_error error;
    verify_result result;
    verify_options o = {.path = store_folder(), .found = note, .context = &f};
    int status;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        become_nobody();
        sem_status got = store_verify(&o, &result, &error);
        if (got != SEM_OK)
            fprintf(stderr, "%s\n", error.message);
        _exit(got == SEM_OK && result.read_only && result.documents == DOCUMENTS && f.count == 0 ? CHILD_SOUND
                                                                                                 : (int)got);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(store_that_nobody_may_write_to_is_verified)
{
    sem_error error;
    char parent[FILES_PATH_MAX];
    make_store();
    ck_ok(files_join(parent, &error, "%s", testing_folder()));
    ck_assert_int_eq(chmod(parent, 0755), 0);
    make_read_only(store_folder(), true);
    ck_assert_int_eq(verify_as_nobody(), CHILD_SOUND);
    /* As a daemon has it that came first. */
    int fd = open(below_store("semd.lock"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
    ck_assert_int_eq(verify_as_nobody(), SEM_FAILED_PRECONDITION);
    close(fd);
    /* As a copy of it is on a disk that was written elsewhere: without the file that is locked. */
    make_read_only(store_folder(), false);
    ck_assert_int_eq(unlink(below_store("semd.lock")), 0);
    make_read_only(store_folder(), true);
    ck_assert_int_eq(verify_as_nobody(), CHILD_SOUND);
    ck_assert_int_ne(access(below_store("semd.lock"), F_OK), 0);
    make_read_only(store_folder(), false);
}
END_TEST

START_TEST(a_lock_that_root_makes_is_the_folders_owners)
{
    static findings f;
    sem_error error;
    struct stat st;
    if (geteuid() != 0) {
        printf("skipped: only root makes files for others\n");
        return;
    }
    make_store();
    ck_assert_int_eq(unlink(below_store("semd.lock")), 0);
    ck_assert_int_eq(chown(store_folder(), NOBODY, NOBODY), 0);
    ck_ok(verify_at(store_folder(), &f, &error));
    ck_assert_int_eq(stat(below_store("semd.lock"), &st), 0);
    ck_assert(st.st_uid == NOBODY && st.st_gid == NOBODY);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_verify");
    TCase *tests = tcase_create("verify");
    tcase_add_test(tests, sound_store_has_no_violation);
    tcase_add_test(tests, sound_store_has_no_violation_after_anything);
    tcase_add_test(tests, first_vectors_of_a_group_that_was_cut_off_are_no_violation);
    tcase_add_test(tests, every_damage_is_found);
    tcase_add_test(tests, damaged_pages_are_a_finding_and_end_nothing);
    tcase_add_test(tests, passages_lie_in_their_text);
    tcase_add_test(tests, lost_and_cut_files_are_named);
    tcase_add_test(tests, store_in_use_is_left_alone);
    tcase_add_test(tests, store_that_nobody_may_write_to_is_verified);
    tcase_add_test(tests, a_lock_that_root_makes_is_the_folders_owners);
    tcase_set_timeout(tests, 120);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
