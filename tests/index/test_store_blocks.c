/* Blocks of vectors: what is in them is what was put, whatever becomes of the store. */
#include "tests/index/store_fixture.h"

#include "base/random.h"
#include "index/rows.h"
#include "index/store_internal.h"

#include <signal.h>
#include <sys/resource.h>

enum { BLOCK = 256 };

/* The vector of document n in its version v, as put_text makes it. */
static float first_of(uint64_t n, unsigned v)
{
    return (float)(n * 8 + v);
}

static void put_some(store *s, uint32_t c, uint64_t from, uint64_t to, unsigned version)
{
    sem_error error;
    store_write *w;
    char text[32];
    ck_ok(store_write_begin(s, &w, &error));
    for (uint64_t n = from; n < to; n++) {
        snprintf(text, sizeof text, "version %u", version);
        ck_ok(put_text(w, c, number_id(n), text, first_of(n, version), NULL, NULL, &error));
    }
    ck_ok(store_write_commit(w, &error));
}

static void delete_some(store *s, uint32_t c, uint64_t from, uint64_t to, uint64_t step)
{
    sem_error error;
    store_write *w;
    ck_ok(store_write_begin(s, &w, &error));
    for (uint64_t n = from; n < to; n += step) {
        docid id = number_id(n);
        uint32_t docno;
        size_t deleted;
        uint64_t seq;
        ck_ok(store_documents_delete(w, c, &id, 1, &docno, &deleted, &seq, &error));
        ck_assert_uint_eq(deleted, 1);
    }
    ck_ok(store_write_commit(w, &error));
}

static void check_vector(store_read *r, uint32_t c, uint64_t n, bool exists, unsigned version)
{
    sem_error error;
    store_document doc;
    bool found;
    float vector[DIM];
    uint64_t made_from;
    docid id = number_id(n);
    ck_ok(store_document_get(r, c, &id, &doc, &found, &error));
    ck_assert_msg(found == exists, "document %llu", (unsigned long long)n);
    if (!exists)
        return;
    ck_ok(store_vector_get(r, SPACE, c, doc.docno, vector, DIM, &made_from, &found, &error));
    ck_assert_msg(found, "the vector of document %llu", (unsigned long long)n);
    ck_assert_float_eq(vector[0], first_of(n, version));
    ck_assert_float_eq(vector[DIM - 1], 3);
}

static void check_some(store *s, uint32_t c, uint64_t from, uint64_t to, unsigned version)
{
    sem_error error;
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    for (uint64_t n = from; n < to; n++)
        check_vector(r, c, n, true, version);
    store_read_end(r);
}

/* --- packing */

START_TEST(a_group_writes_what_fills_blocks_at_once)
{
    uint32_t c;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, 600, 0);
    check_some(s, c, 0, 600, 0);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.blocks, 2);
    ck_assert_uint_eq(d.packed, 2 * BLOCK);
    ck_assert_uint_eq(d.singles, 600 - 2 * BLOCK);
    s = open_with(MAP, 0);
    check_some(s, c, 0, 600, 0);
    store_close(s);
}
END_TEST

START_TEST(blocks_fill_up_over_many_groups)
{
    uint32_t c;
    store *s = store_with_collection(&c);
    for (uint64_t n = 0; n < 700; n += 7)
        put_some(s, c, n, n + 7, 0);
    check_some(s, c, 0, 700, 0);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.packed, 2 * BLOCK);
    ck_assert_uint_eq(d.singles, 700 - 2 * BLOCK);
}
END_TEST

START_TEST(a_failed_operation_takes_its_vectors_back)
{
    sem_error error;
    uint32_t c;
    uint64_t seq;
    store_write *w;
    store *s = store_with_collection(&c);
    const float v[DIM] = {1, 2, 3, 4};
    store_put puts[300];
    ck_ok(store_write_begin(s, &w, &error));
    for (uint64_t n = 0; n < 100; n++)
        ck_ok(put_text(w, c, number_id(n), "version 0", first_of(n, 0), NULL, NULL, &error));
    for (uint64_t i = 0; i < 300; i++)
        puts[i] = (store_put){.id = number_id(1000 + i), .text = "", .vector = i < 299 ? v : NULL};
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 300, &seq, &error), SEM_CANCELLED);
    for (uint64_t n = 100; n < 300; n++)
        ck_ok(put_text(w, c, number_id(n), "version 0", first_of(n, 0), NULL, NULL, &error));
    ck_ok(store_write_commit(w, &error));
    check_some(s, c, 0, 300, 0);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.packed, BLOCK);
    ck_assert_uint_eq(d.singles, 300 - BLOCK);
}
END_TEST

/* --- slots that are named no more */

START_TEST(sparse_blocks_are_written_anew_and_empty_ones_go)
{
    uint32_t c;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, 3 * BLOCK, 0);
    delete_some(s, c, 0, BLOCK, 3);                 /* a third of the first */
    delete_some(s, c, BLOCK, 2 * BLOCK, 1);         /* all of the second */
    delete_some(s, c, 2 * BLOCK + 1, 3 * BLOCK, 3); /* two thirds of the third */
    delete_some(s, c, 2 * BLOCK + 2, 3 * BLOCK, 3);
    for (int i = 0; i < 3; i++)
        empty_group(s);
    sem_error error;
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    for (uint64_t n = 0; n < 3 * BLOCK; n++)
        check_vector(r, c, n, n < BLOCK ? n % 3 != 0 : n >= 2 * BLOCK && (n - 2 * BLOCK) % 3 == 0, 0);
    store_read_end(r);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.blocks, 2);
    ck_assert_uint_eq(d.packed - d.dead, BLOCK - 86 + 86);
    ck_assert_uint_lt(d.packed, BLOCK + BLOCK / 2); /* the third holds what is left of it, or little more */
}
END_TEST

START_TEST(a_dropped_collection_leaves_no_blocks)
{
    sem_error error;
    uint32_t c, other;
    store_write *w;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, 5 * BLOCK + 9, 0);
    ck_ok(store_write_begin(s, &w, &error));
    other = make_collection(w, "other");
    ck_ok(store_collection_drop(w, c, &error));
    ck_ok(store_write_commit(w, &error));
    put_some(s, other, 0, BLOCK + 1, 1);
    for (int i = 0; i < 3; i++)
        empty_group(s);
    check_some(s, other, 0, BLOCK + 1, 1);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.blocks, 1);
    ck_assert_uint_eq(d.packed, BLOCK);
    ck_assert_uint_eq(d.singles, 1);
    ck_assert_uint_eq(d.dead, 0);
}
END_TEST

/* --- a store that an older semd wrote */

static void unpack_block(MDB_txn *txn, MDB_dbi singles, const unsigned char *key, const MDB_val *value)
{
    const unsigned char *row = (const unsigned char *)value->mv_data + 48;
    uint32_t block = (uint32_t)key[4] << 24 | (uint32_t)key[5] << 16 | (uint32_t)key[6] << 8 | key[7];
    for (uint32_t i = 0; i < BLOCK; i++) {
        if ((((const unsigned char *)value->mv_data)[i / 8] >> i % 8 & 1) == 0)
            continue;
        uint32_t slot = block * BLOCK + i;
        unsigned char id[8] = {key[0], key[1], key[2], key[3]};
        for (int b = 0; b < 4; b++)
            id[4 + b] = (unsigned char)(slot >> (24 - 8 * b));
        float vector[DIM];
        memcpy(vector, row, sizeof vector);
        row += 16 * sizeof(float);
        MDB_val k = {sizeof id, id}, v = {sizeof vector, vector};
        ck_assert_int_eq(mdb_put(txn, singles, &k, &v, 0), 0);
    }
}

/* Makes of a closed store what version 1 would have written. */
static void make_version_1(void)
{
    MDB_env *env = open_environment("space-1", 0);
    MDB_txn *txn;
    MDB_dbi singles, blocks, dead;
    MDB_cursor *cursor;
    MDB_val key, value;
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "vectors", 0, &singles), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "blocks", 0, &blocks), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "dead", 0, &dead), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, blocks, &cursor), 0);
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0)
        unpack_block(txn, singles, key.mv_data, &value);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_drop(txn, blocks, 1), 0);
    ck_assert_int_eq(mdb_drop(txn, dead, 1), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    static const char *const names[] = {"main", "events", "external", "space-1", "space-2"};
    for (size_t i = 0; i < 5; i++)
        set_format(names[i], 1);
}

static sem_status pack(store *s, size_t limit, size_t *packed, sem_error *error)
{
    store_write *w;
    ck_assert_int_eq(store_write_begin(s, &w, error), SEM_OK);
    sem_status status = store_pack(w, limit, packed, error);
    if (status == SEM_OK)
        return store_write_commit(w, error);
    store_write_abort(w);
    return status;
}

START_TEST(a_store_of_version_1_is_opened_and_packed)
{
    sem_error error;
    uint32_t c;
    size_t packed;
    bool due;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, 1000, 0);
    store_close(s);
    make_version_1();
    ck_assert_uint_eq(look_at_disk("space-2").blocks, 0);
    s = open_with(MAP, 0);
    check_some(s, c, 0, 1000, 0);
    put_some(s, c, 0, 20, 1); /* which takes new slots */
    ck_ok(store_pack_due(s, &due, &error));
    ck_assert(due);
    ck_ok(pack(s, 2, &packed, &error));
    ck_assert_uint_eq(packed, 2);
    check_some(s, c, 0, 20, 1);
    check_some(s, c, 20, 1000, 0);
    ck_ok(pack(s, 100, &packed, &error));
    ck_assert_uint_eq(packed, 1);
    ck_ok(store_pack_due(s, &due, &error));
    ck_assert(!due);
    store_close(s);
    disk_vectors d = look_at_disk("space-1");
    ck_assert_uint_eq(d.singles, 1020 - 3 * BLOCK);
    ck_assert_uint_eq(d.packed, 3 * BLOCK - (d.packed < 3 * BLOCK ? 20 : 0));
    s = open_with(MAP, 0);
    check_some(s, c, 0, 20, 1);
    check_some(s, c, 20, 1000, 0);
    store_close(s);
    set_format("space-1", STORE_FORMAT + 1);
    store_options options = {.path = store_folder(), .map_size = MAP};
    ck_fails(store_open(&s, &options, NULL, &error), SEM_FAILED_PRECONDITION);
    set_format("space-1", STORE_FORMAT);
}
END_TEST

/* A limit on the size of files stands in for a full disk. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(a_full_disk_leaves_vectors_unpacked_and_whole)
{
    sem_error error;
    uint32_t c;
    size_t packed;
    store *s = store_with_collection(&c);
    for (uint64_t n = 0; n < 20 * BLOCK; n += 500)
        put_some(s, c, n, n + 500 < 20 * BLOCK ? n + 500 : 20 * BLOCK, 0);
    store_close(s);
    make_version_1();
    s = open_with(MAP, 0);
    FILE *f = fopen(below_store("space-1/data.mdb"), "rb");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    fclose(f);
    limit_files((rlim_t)size + 8192);
    sem_status status = pack(s, 100, &packed, &error);
    limit_files(RLIM_INFINITY); /* what the test writes itself counts as well */
    ck_assert_int_ne(status, SEM_OK);
    check_some(s, c, 0, 20 * BLOCK, 0);
    ck_ok(pack(s, 100, &packed, &error));
    ck_assert_uint_eq(packed, 20);
    check_some(s, c, 0, 20 * BLOCK, 0);
    store_close(s);
    ck_assert_uint_eq(look_at_disk("space-1").singles, 0);
}
END_TEST

/* --- crashes: each environment of a group is committed or not, in their order */

static void copy_file(const char *from, const char *to)
{
    char command[3 * FILES_PATH_MAX];
    snprintf(command, sizeof command, "cp -f --sparse=always '%s' '%s'", from, to);
    ck_assert_int_eq(system(command), 0);
}

static void save_file(const char *name, bool back)
{
    char file[FILES_PATH_MAX], saved[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(file, &error, "%s/%s/data.mdb", store_folder(), name));
    ck_ok(files_join(saved, &error, "%s.%s", store_folder(), name));
    copy_file(back ? saved : file, back ? file : saved);
}

START_TEST(a_crash_before_main_leaves_no_trace_in_blocks)
{
    random_state random;
    uint32_t c;
    uint64_t count = 0;
    random_seed(&random, testing_seed());
    store *s = store_with_collection(&c);
    for (int round = 0; round < 30; round++) {
        uint64_t more = 1 + random_below(&random, 700);
        put_some(s, c, count, count + more, 0);
        count += more;
        store_close(s);
        save_file("main", false);
        s = open_with(MAP, 0);
        /* The spaces are committed and main is not: as if the power went in between. */
        put_some(s, c, count, count + 1 + random_below(&random, 700), 7);
        if (count > 300 && random_below(&random, 2) == 0)
            put_some(s, c, 0, 300, 0); /* the same again */
        store_close(s);
        save_file("main", true);
        s = open_with(MAP, 0);
        check_some(s, c, 0, count, 0);
    }
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), count);
    ck_assert_uint_lt(look_at_disk("space-1").singles, BLOCK);
}
END_TEST

START_TEST(a_crash_while_packing_leaves_one_or_the_other)
{
    sem_error error;
    uint32_t c;
    size_t packed;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, 1000, 0);
    store_close(s);
    make_version_1();
    save_file("main", false);
    s = open_with(MAP, 0);
    ck_ok(pack(s, 2, &packed, &error));
    put_some(s, c, 0, 10, 1); /* lost with main */
    store_close(s);
    save_file("main", true);
    s = open_with(MAP, 0);
    check_some(s, c, 0, 1000, 0);
    ck_ok(pack(s, 9, &packed, &error));
    check_some(s, c, 0, 1000, 0);
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), 1000);
}
END_TEST

/* --- reading in place */

static void expect_rows(const rows_view *view, uint32_t from, uint32_t to, const float *wanted)
{
    for (uint32_t row = from; row < to; row++) {
        const float *vector = rows_vector(view, row);
        ck_assert_float_eq(vector[0], wanted[row]);
        ck_assert_float_eq(vector[3], 3);
        ck_assert_float_eq(vector[DIM], 0);
        ck_assert_float_eq(vector[15], 0);
    }
    ck_assert(!rows_view_missed(view));
}

static void fill_row(rows *r, uint32_t docno, uint32_t slot, float first)
{
    sem_error error;
    const float vector[DIM] = {first, 1, 2, 3};
    ck_ok(rows_put_slot(r, docno, slot, vector, &error));
}

/* A reader and what it sees. */
typedef struct reader {
    store_read *read;
    rows_view view;
} reader;

static void reader_begin(reader *out, store *s, rows *r)
{
    sem_error error;
    ck_ok(store_read_begin(s, &out->read, &error));
    ck_ok(rows_view_begin(&out->view, r, out->read, &error));
}

static void reader_end(reader *of)
{
    rows_view_end(&of->view);
    store_read_end(of->read);
}

enum { SEEN = 150, DOCS = 4 * BLOCK + 50 };

/* Documents, slots and rows have the same numbers here. Less than a block at a time; the reader
 * begins when SEEN are there. */
static void put_rows(store *s, uint32_t c, rows *r, float wanted[DOCS], reader *before)
{
    for (uint32_t n = 0; n < DOCS; n += 50) {
        uint32_t end = n + 50 < DOCS ? n + 50 : DOCS;
        put_some(s, c, n, end, 0);
        for (uint32_t i = n; i < end; i++)
            fill_row(r, i, i, wanted[i] = first_of(i, 0));
        if (end == SEEN)
            reader_begin(before, s, r);
        row_vectors_settle(r->vectors);
        if (end >= SEEN)
            expect_rows(&before->view, 0, SEEN, wanted);
    }
}

START_TEST(a_view_sees_its_vectors_whatever_is_packed_or_written_anew)
{
    static float wanted[DOCS];
    sem_error error;
    uint32_t c;
    rows *r;
    reader before, after;
    store *s = store_with_collection(&c);
    ck_ok(rows_create_stored(&r, s, SPACE, c, DIM, &error));
    put_rows(s, c, r, wanted, &before);
    /* The reader of long ago still sees what it saw, and so does a new one. */
    reader_begin(&after, s, r);
    const float *first = rows_vector(&after.view, 10);
    expect_rows(&before.view, 0, SEEN, wanted);
    expect_rows(&after.view, 0, DOCS, wanted);
    /* Two thirds go, so that blocks are written anew; what the views see stays. */
    reader_end(&before);
    for (uint64_t d = 0; d < 2; d++)
        delete_some(s, c, d, DOCS, 3);
    for (int i = 0; i < 5; i++) {
        empty_group(s);
        put_some(s, c, 5000 + 300 * (uint64_t)i, 5300 + 300 * (uint64_t)i, 0);
        ck_assert_float_eq(first[0], wanted[10]);
        expect_rows(&after.view, 0, DOCS, wanted);
    }
    reader_end(&after);
    for (uint32_t n = 0; n < DOCS; n++)
        if (n % 3 != 2)
            rows_remove(r, n);
    for (int i = 0; i < 5; i++) {
        empty_group(s);
        put_some(s, c, 9000 + 300 * (uint64_t)i, 9300 + 300 * (uint64_t)i, 0);
        row_vectors_settle(r->vectors);
    }
    reader_begin(&after, s, r);
    for (uint32_t n = 2; n < DOCS; n += 3)
        expect_rows(&after.view, n, n + 1, wanted);
    ck_assert_uint_le(atomic_load(&r->vectors->fresh_count), 1);
    reader_end(&after);
    rows_release(r);
    store_close(s);
    ck_assert_uint_lt(look_at_disk("space-1").dead, 5 * BLOCK);
}
END_TEST

/* Values of less than a page lie among others and move when these are written. */
START_TEST(a_block_of_which_little_is_left_is_read_though_it_moves)
{
    enum { KEPT = 5 };
    float wanted[KEPT];
    sem_error error;
    uint32_t c;
    rows *r;
    store_read *read;
    rows_view view;
    store *s = store_with_collection(&c);
    ck_ok(rows_create_stored(&r, s, SPACE, c, DIM, &error));
    put_some(s, c, 0, BLOCK, 0);
    for (uint32_t n = 0; n < KEPT; n++)
        fill_row(r, n, n, wanted[n] = first_of(n, 0));
    delete_some(s, c, KEPT, BLOCK, 1);
    for (uint32_t i = 0; i < 60; i++) {
        put_some(s, c, 1000 + 300 * i, 1300 + 300 * i, 0);
        delete_some(s, c, 1000 + 300 * i + 3, 1300 + 300 * i, 1); /* more blocks that little is left of */
        row_vectors_settle(r->vectors);
        ck_ok(store_read_begin(s, &read, &error));
        ck_ok(rows_view_begin(&view, r, read, &error));
        expect_rows(&view, 0, KEPT, wanted);
        rows_view_end(&view);
        store_read_end(read);
    }
    rows_release(r);
    store_close(s);
}
END_TEST

/* The first part of a block was named before the crash, the other part's slots are
 * given out again and lie unpacked beside the block. */
START_TEST(slots_that_a_crash_cut_off_a_block_are_read_when_given_out_again)
{
    enum { BEFORE = 100, AFTER = 150 };
    float wanted[BEFORE + AFTER];
    sem_error error;
    uint32_t c;
    rows *r;
    store_read *read;
    rows_view view;
    store *s = store_with_collection(&c);
    put_some(s, c, 0, BEFORE, 0);
    store_close(s);
    save_file("main", false);
    s = open_with(MAP, 0);
    put_some(s, c, 1000, 1000 + BLOCK, 0); /* fills the block, and is lost with main */
    store_close(s);
    save_file("main", true);
    s = open_with(MAP, 0);
    ck_ok(rows_create_stored(&r, s, SPACE, c, DIM, &error));
    for (uint32_t n = 0; n < BEFORE; n++)
        fill_row(r, n, n, wanted[n] = first_of(n, 0));
    put_some(s, c, BEFORE, BEFORE + AFTER, 0);
    for (uint32_t n = BEFORE; n < BEFORE + AFTER; n++)
        fill_row(r, n, n, wanted[n] = first_of(n, 0));
    for (int i = 0; i < 3; i++)
        row_vectors_settle(r->vectors);
    ck_ok(store_read_begin(s, &read, &error));
    ck_ok(rows_view_begin(&view, r, read, &error));
    expect_rows(&view, 0, BEFORE + AFTER, wanted);
    rows_view_end(&view);
    store_read_end(read);
    rows_release(r);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store blocks");
    TCase *tests = tcase_create("store blocks");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_group_writes_what_fills_blocks_at_once);
    tcase_add_test(tests, blocks_fill_up_over_many_groups);
    tcase_add_test(tests, a_failed_operation_takes_its_vectors_back);
    tcase_add_test(tests, sparse_blocks_are_written_anew_and_empty_ones_go);
    tcase_add_test(tests, a_dropped_collection_leaves_no_blocks);
    tcase_add_test(tests, a_store_of_version_1_is_opened_and_packed);
    tcase_add_test(tests, a_full_disk_leaves_vectors_unpacked_and_whole);
    tcase_add_test(tests, a_crash_before_main_leaves_no_trace_in_blocks);
    tcase_add_test(tests, a_crash_while_packing_leaves_one_or_the_other);
    tcase_add_test(tests, a_view_sees_its_vectors_whatever_is_packed_or_written_anew);
    tcase_add_test(tests, a_block_of_which_little_is_left_is_read_though_it_moves);
    tcase_add_test(tests, slots_that_a_crash_cut_off_a_block_are_read_when_given_out_again);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
