/* Vectors come, are found and go with what they belong to. */
#include "tests/index/store_fixture.h"

START_TEST(drop_removes_documents_and_vectors_everywhere)
{
    sem_error error;
    uint32_t c, docnos[1];
    uint64_t seq, version;
    size_t count = 0, deleted;
    bool found, created;
    store_write *w;
    store_read *r;
    store_collection info;
    float vector[DIM];
    store *s = store_with_collection(&c);
    const float v[DIM] = {1};
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t kept = make_collection(w, "kept");
    for (uint64_t i = 0; i < 100; i++) {
        store_put put = {.id = number_id(i), .text = "t", .text_length = 1, .vector = v, .second = v};
        ck_ok(store_documents_put(w, c, SPACE, DIM, OTHER_SPACE, DIM, &put, 1, &seq, &error));
        put.second = NULL;
        ck_ok(store_documents_put(w, kept, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    }
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_drop(w, c, &error));
    ck_fails(store_collection_drop(w, c, &error), SEM_NOT_FOUND);
    docid id = number_id(1);
    ck_fails(store_documents_delete(w, c, &id, 1, docnos, &deleted, &seq, &error), SEM_NOT_FOUND);
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    ck_fails(store_collection_find(r, "default", 7, &info, &error), SEM_NOT_FOUND);
    ck_ok(store_vector_walk(r, SPACE, c, count_vector, &count, &error));
    ck_assert_uint_eq(count, 0);
    ck_ok(store_vector_get(r, OTHER_SPACE, c, 0, vector, DIM, &version, &found, &error));
    ck_assert(!found);
    ck_ok(store_vector_walk(r, SPACE, kept, count_vector, &count, &error));
    ck_assert_uint_eq(count, 100);
    store_read_end(r);
    empty_group(s);
    /* A collection of the same name is another one. */
    ck_ok(store_write_begin(s, &w, &error));
    info = (store_collection){.name = "default", .lexical = true};
    ck_ok(store_collection_create(w, &info, &created, &error));
    ck_assert(created && info.number > c && info.documents == 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 100);
    ck_assert_uint_eq(vectors_on_disk("space-2"), 0);
}
END_TEST

START_TEST(a_read_finds_the_vectors_of_its_snapshot)
{
    sem_error error;
    uint32_t c, docnos[1];
    uint64_t seq, version;
    size_t deleted;
    bool found;
    store_write *w;
    store_read *old, *new;
    store_put put;
    float vector[DIM];
    store *s = store_with_collection(&c);
    docid id = number_id(1), gone = number_id(2);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, id, "first", 1, &put, NULL, &error));
    ck_ok(put_text(w, c, gone, "gone", 10, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &old, &error));
    for (int i = 2; i < 6; i++) {
        ck_ok(store_write_begin(s, &w, &error));
        ck_ok(put_text(w, c, id, "later", (float)i, NULL, NULL, &error));
        ck_ok(store_documents_delete(w, c, &gone, 1, docnos, &deleted, &seq, &error));
        ck_ok(store_write_commit(w, &error));
    }
    ck_ok(store_read_begin(s, &new, &error));
    ck_ok(store_vector_get(new, SPACE, c, put.docno, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 5.0f);
    /* The old read enters the space only now. */
    ck_ok(store_vector_get(old, SPACE, c, put.docno, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 1.0f);
    ck_ok(store_vector_get(old, SPACE, c, put.docno + 1, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 10.0f);
    ck_ok(store_read_renew(old, &error));
    ck_ok(store_vector_get(old, SPACE, c, put.docno, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 5.0f);
    store_read_end(old);
    store_read_end(new);
    empty_group(s);
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 1);
}
END_TEST

START_TEST(vectors_that_nobody_names_go_at_the_next_start)
{
    sem_error error;
    uint32_t c;
    store_write *w;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(1), "kept", 1, NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    /* As after a crash between the commit of a space and that of main. */
    MDB_env *env = open_environment("space-1", 0);
    MDB_txn *txn;
    MDB_dbi dbi;
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "vectors", 0, &dbi), 0);
    for (unsigned i = 0; i < 30; i++) {
        unsigned char key[8] = {0, 0, 0, (unsigned char)(i % 3), 0, 0, 0, (unsigned char)(5 + i)};
        float v[DIM] = {0};
        MDB_val k = {sizeof key, key}, value = {sizeof v, v};
        ck_assert_int_eq(mdb_put(txn, dbi, &k, &value, 0), 0);
    }
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 31);
    s = open_with(MAP, 0);
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 1);
}
END_TEST

START_TEST(external_vectors_have_the_width_of_their_collection)
{
    sem_error error;
    bool created, found, stored;
    uint64_t seq, version;
    uint32_t slot;
    store_write *w;
    float vector[3];
    store *s = new_store(MAP);
    const float v[3] = {1, 2, 3};
    store_collection c = {.name = "outside", .external = true, .dim = 3};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_create(w, &c, &created, &error));
    store_put put = {.id = number_id(1), .text = "", .vector = v};
    ck_fails(store_documents_put(w, c.number, 0, 4, 0, 0, &put, 1, &seq, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_documents_put(w, c.number, SPACE, DIM, 0, 0, &put, 1, &seq, &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_documents_put(w, c.number, STORE_SPACE_EXTERNAL, 3, 0, 0, &put, 1, &seq, &error));
    ck_fails(store_vector_put(w, 0, c.number, put.docno, seq, v, 3, &stored, &slot, &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_vector_get(r, STORE_SPACE_EXTERNAL, c.number, put.docno, vector, 3, &version, &found, &error));
    ck_assert(found && vector[2] == 3.0f);
    store_read_end(r);
    store_close(s);
}
END_TEST

/* A document's text says what its vector must be: both of one write. */
int main(void)
{
    Suite *suite = suite_create("store vectors");
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, drop_removes_documents_and_vectors_everywhere);
    tcase_add_test(tests, a_read_finds_the_vectors_of_its_snapshot);
    tcase_add_test(tests, vectors_that_nobody_names_go_at_the_next_start);
    tcase_add_test(tests, external_vectors_have_the_width_of_their_collection);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
