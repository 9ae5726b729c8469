/* Failures of LMDB in the middle of a group: the linker puts the __wrap_ functions in the
 * place of its own (mk/tests.mk). */
#include "tests/index/store_fixture.h"

#include <errno.h>

enum {
    DOCUMENTS = 300, /* a block of vectors, and some one by one */
    WIDE = 4096,     /* floats: BATCH such vectors are a block */
    BATCH = 256,
    WAITING_MAX = 64 << 20 /* bytes of vectors from which on a group writes them before its commit */
};

static int commits_left; /* the one that takes it to 0 fails */
static bool blocks_fail;

int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __real_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags);
int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags);

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (commits_left == 0 || --commits_left > 0)
        return __real_mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return ENOSPC;
}

/* Nothing else is as long as a block of WIDE vectors. */
int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags)
{
    bool block = value->mv_size > BATCH * WIDE;
    return blocks_fail && block ? MDB_MAP_FULL : __real_mdb_put(txn, dbi, key, value, flags);
}

/* `count` documents from id `first` on, with a vector in either space. */
static sem_status put_in_both(store_write *w, uint32_t c, uint64_t first, size_t count, sem_error *error)
{
    static store_put docs[DOCUMENTS];
    static float vectors[DOCUMENTS][DIM];
    uint64_t seq;
    for (size_t i = 0; i < count; i++) {
        vectors[i][0] = (float)(first + i);
        vectors[i][1] = 1;
        docs[i] = (store_put){
            .id = number_id(first + i), .text = "a text", .text_length = 6, .vector = vectors[i], .second = vectors[i]};
    }
    return store_documents_put(w, c, SPACE, DIM, OTHER_SPACE, DIM, docs, count, &seq, error);
}

static void check_vector(store *s, uint32_t c, uint32_t space, uint64_t id)
{
    sem_error error;
    store_read *r;
    store_document doc;
    docid key = number_id(id);
    float vector[DIM];
    uint64_t version;
    bool found;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_document_get(r, c, &key, &doc, &found, &error));
    ck_assert(found);
    ck_ok(store_vector_get(r, space, c, doc.docno, vector, DIM, &version, &found, &error));
    ck_assert(found);
    ck_assert_double_eq((double)vector[0], (double)id);
    store_read_end(r);
}

/* _i: which environment's commit fails: that of the first space, of the second, or main's. */
START_TEST(a_group_that_failed_half_committed_leaves_no_vectors_behind)
{
    sem_error error;
    store_write *w;
    uint32_t c;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_in_both(w, c, 0, DOCUMENTS, &error));
    commits_left = 1 + _i;
    ck_fails(store_write_commit(w, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_int_eq(commits_left, 0);
    /* The same slots are given to others, by so many that some stand one by one where a block was. */
    for (uint64_t first = 1000; first < 1000 + DOCUMENTS; first += DOCUMENTS / 3) {
        ck_ok(store_write_begin(s, &w, &error));
        ck_ok(put_in_both(w, c, first, DOCUMENTS / 3, &error));
        ck_ok(store_write_commit(w, &error));
    }
    for (uint64_t id = 1000; id < 1000 + DOCUMENTS; id++) {
        check_vector(s, c, SPACE, id);
        check_vector(s, c, OTHER_SPACE, id);
    }
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), DOCUMENTS);
    ck_assert_uint_eq(vectors_on_disk("space-2"), DOCUMENTS);
}
END_TEST

/* Nothing of the group stays, and each part of it fails for the reason that broke it. */
static void expect_broken(store *s, store_write *w, uint32_t c)
{
    sem_error error;
    ck_fails(put_in_both(w, c, 5000, 1, &error), SEM_RESOURCE_EXHAUSTED);
    ck_fails(store_write_commit(w, &error), SEM_RESOURCE_EXHAUSTED);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_in_both(w, c, 6000, 1, &error));
    ck_ok(store_write_commit(w, &error));
    check_vector(s, c, SPACE, 6000);
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 1);
}

/* _i: the operation's end in which environment fails. */
START_TEST(a_group_that_an_operation_broke_for_want_of_room_says_so)
{
    sem_error error;
    store_write *w;
    uint32_t c;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    commits_left = 1 + _i;
    ck_fails(put_in_both(w, c, 0, DOCUMENTS, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_int_eq(commits_left, 0);
    expect_broken(s, w, c);
}
END_TEST

static sem_status put_wide(store_write *w, uint32_t c, uint64_t first, sem_error *error)
{
    static store_put docs[BATCH];
    static const float vector[WIDE] = {1};
    uint64_t seq;
    for (size_t i = 0; i < BATCH; i++)
        docs[i] = (store_put){.id = number_id(first + i), .text = "", .vector = vector};
    return store_documents_put(w, c, STORE_SPACE_EXTERNAL, WIDE, 0, 0, docs, BATCH, &seq, error);
}

START_TEST(a_group_whose_vectors_found_no_room_before_its_commit_says_so)
{
    sem_error error;
    store_write *w;
    uint32_t c;
    bool created;
    store *s = store_with_collection(&c);
    store_collection wide = {.name = "wide", .external = true, .dim = WIDE};
    store_close(s);
    s = open_with(512 << 20, 0);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_create(w, &wide, &created, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_write_begin(s, &w, &error));
    blocks_fail = true;
    uint64_t id = 0;
    for (; (id + BATCH) * WIDE * sizeof(float) < WAITING_MAX; id += BATCH)
        ck_ok(put_wide(w, wide.number, id, &error));
    ck_fails(put_wide(w, wide.number, id, &error), SEM_RESOURCE_EXHAUSTED);
    blocks_fail = false;
    expect_broken(s, w, c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store faults");
    TCase *tests = tcase_create("store faults");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, a_group_that_failed_half_committed_leaves_no_vectors_behind, 0, 3);
    tcase_add_loop_test(tests, a_group_that_an_operation_broke_for_want_of_room_says_so, 0, 3);
    tcase_add_test(tests, a_group_whose_vectors_found_no_room_before_its_commit_says_so);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
