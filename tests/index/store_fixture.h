/* What the tests of the store share: a store in the test's folder with two
 * spaces that generations name, and short ways to write to it. */
#ifndef SEM_TESTS_INDEX_STORE_FIXTURE_H
#define SEM_TESTS_INDEX_STORE_FIXTURE_H

#include "tests/common/testing.h"

#include "base/files.h"
#include "index/store.h"

#include <lmdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIM = 4, MAP = 64 << 20, SPACE = 1, OTHER_SPACE = 2 };

/* The same in a test's children: they look at what the test made. */
static inline const char *store_folder(void)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    if (path[0] == '\0')
        ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    return path;
}

static inline const char *below_store(const char *name)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(path, &error, "%s/%s", store_folder(), name));
    return path;
}

static inline store *open_with(uint64_t map_size, uint64_t max_size)
{
    sem_error error;
    store *s;
    store_options options = {.path = store_folder(), .map_size = map_size, .max_size = max_size};
    ck_ok(store_open(&s, &options, NULL, &error));
    ck_ok(store_space_open(s, SPACE, DIM, &error));
    ck_ok(store_space_open(s, OTHER_SPACE, DIM, &error));
    return s;
}

/* Spaces that no generation names are removed at open: this names both. */
static inline void name_spaces(store *s)
{
    sem_error error;
    store_write *w;
    store_generation g = {.number = 1,
                          .state = GENERATION_CURRENT,
                          .space = SPACE,
                          .dim = DIM,
                          .mode = "seed",
                          .model = "g1"},
                     other = {.number = 2,
                              .state = GENERATION_CANDIDATE,
                              .space = OTHER_SPACE,
                              .dim = DIM,
                              .mode = "full",
                              .model = "g2"};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_generation_put(w, &other, &error));
    ck_ok(store_write_commit(w, &error));
}

static inline store *new_store(uint64_t map_size)
{
    store *s = open_with(map_size, 0);
    name_spaces(s);
    return s;
}

static inline docid number_id(uint64_t n)
{
    return (docid){.is_integer = true, .integer = n};
}

static inline docid string_id(const char *text)
{
    return (docid){.string = text, .length = strlen(text)};
}

static inline uint32_t make_collection(store_write *w, const char *name)
{
    sem_error error;
    bool created;
    store_collection c = {.lexical = true};
    strcpy(c.name, name);
    ck_ok(store_collection_create(w, &c, &created, &error));
    return c.number;
}

static inline sem_status put_text(store_write *w, uint32_t collection, docid id, const char *text, float first,
                                  store_put *out, uint64_t *seq, sem_error *error)
{
    const float vector[DIM] = {first, 1, 2, 3};
    uint64_t ignored;
    store_put put = {.id = id, .text = text, .text_length = strlen(text), .vector = vector};
    sem_status status =
        store_documents_put(w, collection, SPACE, DIM, 0, 0, &put, 1, seq != NULL ? seq : &ignored, error);
    if (out != NULL)
        *out = put;
    return status;
}

/* A store with a committed collection "default"; its number. */
static inline store *store_with_collection(uint32_t *collection)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    *collection = make_collection(w, "default");
    ck_ok(store_write_commit(w, &error));
    return s;
}

/* An environment of the closed store, opened behind its back. */
static inline MDB_env *open_environment(const char *name, unsigned flags)
{
    MDB_env *env;
    ck_assert_int_eq(mdb_env_create(&env), 0);
    ck_assert_int_eq(mdb_env_set_maxdbs(env, 8), 0);
    ck_assert_int_eq(mdb_env_open(env, below_store(name), flags, 0600), 0);
    return env;
}

/* Bits that are set in the first 32 bytes of a table's values; *entries: how many values. */
static inline size_t bits_on_disk(MDB_txn *txn, const char *table, size_t *entries)
{
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t bits = 0;
    *entries = 0;
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    for (; mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0; ++*entries)
        for (size_t i = 0; i < 32; i++)
            bits += (size_t)__builtin_popcount(((const unsigned char *)value.mv_data)[i]);
    mdb_cursor_close(cursor);
    return bits;
}

typedef struct disk_vectors {
    size_t singles, blocks, packed, dead;
} disk_vectors;

/* What lies in a space's environment, whatever names it. The store must be closed. */
static inline disk_vectors look_at_disk(const char *space)
{
    disk_vectors d;
    size_t ignored;
    MDB_env *env = open_environment(space, MDB_RDONLY);
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;
    ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "vectors", 0, &dbi), 0);
    ck_assert_int_eq(mdb_stat(txn, dbi, &stat), 0);
    d.singles = stat.ms_entries;
    d.packed = bits_on_disk(txn, "blocks", &d.blocks);
    d.dead = bits_on_disk(txn, "dead", &ignored);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return d;
}

/* Vectors that are not known to be named no more. */
static inline size_t vectors_on_disk(const char *space)
{
    disk_vectors d = look_at_disk(space);
    return d.singles + d.packed - d.dead;
}

static inline void empty_group(store *s)
{
    sem_error error;
    store_write *w;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_write_commit(w, &error));
}

static inline bool count_vector(void *context, uint32_t docno, uint64_t version, const void *vector)
{
    (void)docno, (void)version, (void)vector;
    ++*(size_t *)context;
    return true;
}

/* Writes a format version into an environment of the closed store. */
static inline void set_format(const char *name, uint64_t format)
{
    MDB_env *env = open_environment(name, 0);
    MDB_txn *txn;
    MDB_dbi dbi;
    unsigned char bytes[8];
    char key[] = "format";
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(format >> (56 - 8 * i));
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "meta", 0, &dbi), 0);
    MDB_val k = {6, key}, v = {8, bytes};
    ck_assert_int_eq(mdb_put(txn, dbi, &k, &v, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

#endif
