/* A full disk in the worst way: what the store leaves free another program takes. */
#include "tests/common/small_disk.h"
#include "tests/index/store_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

enum { TEXT = 20000, LONGEST = 60000, WIDE = 768, MANY = 100000 };

static store *s;
static uint32_t c;
static bool external; /* what c is: external vectors of WIDE floats and short texts */
static char taken[FILES_PATH_MAX];

static bool start(void)
{
    sem_error error;
    store_write *w;
    bool created;
    if (!small_disk_mount(store_folder(), "24m"))
        return false;
    s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    store_collection made = {.name = "docs", .lexical = !external, .external = external, .dim = external ? WIDE : 0};
    ck_ok(store_collection_create(w, &made, &created, &error));
    c = made.number;
    ck_ok(store_write_commit(w, &error));
    return true;
}

/* One group; a put that is taken must be committed, too. */
static bool put(uint64_t id, size_t length)
{
    static char text[LONGEST + 1];
    static const float vector[WIDE] = {1, 2, 3, 4};
    sem_error error;
    store_write *w;
    uint64_t seq;
    memset(text, 'x', length);
    store_put doc = {.id = number_id(id), .text = text, .text_length = length, .vector = vector};
    ck_ok(store_write_begin(s, &w, &error));
    sem_status status =
        store_documents_put(w, c, external ? 0 : SPACE, external ? WIDE : DIM, 0, 0, &doc, 1, &seq, &error);
    if (status != SEM_OK)
        ck_fails(status, SEM_RESOURCE_EXHAUSTED);
    sem_error refused = error;
    ck_ok(store_write_commit(w, &error));
    return status == SEM_OK || (error = refused, false);
}

static uint64_t fill(size_t length)
{
    for (uint64_t id = 0; id < MANY; id++)
        if (!put(id, length))
            return id;
    ck_abort_msg("the disk never filled up");
}

/* Deletes ids from..to-1, `step` apart, one a group. */
static void delete_each(uint64_t from, uint64_t to, uint64_t step)
{
    for (uint64_t i = from; i < to; i += step) {
        sem_error error;
        store_write *w;
        docid id = number_id(i);
        uint32_t docno;
        size_t deleted;
        uint64_t seq;
        ck_ok(store_write_begin(s, &w, &error));
        ck_ok(store_documents_delete(w, c, &id, 1, &docno, &deleted, &seq, &error));
        sem_status status = store_write_commit(w, &error);
        ck_assert_msg(status == SEM_OK, "delete of %llu (from %llu): %s", (unsigned long long)i,
                      (unsigned long long)from, error.message);
    }
}

/* What requests left behind: the log and old texts. */
static void forget(void)
{
    sem_error error;
    store_write *w;
    uint64_t trimmed;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_old_texts_trim(w, UINT64_MAX - 1, MANY, &trimmed, &error));
    ck_ok(store_log_trim(w, UINT64_MAX - 1, &error));
    ck_ok(store_write_commit(w, &error));
}

static uint64_t documents(void)
{
    sem_error error;
    store_read *r;
    store_collection found;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_find(r, "docs", 4, &found, &error));
    store_read_end(r);
    return found.documents;
}

/* percent: of the first time's documents that there is to be room for again. What takes
 * several pages in a row finds the fewer the more the free ones are scattered. */
static void expect_emptied_and_filled_again(size_t length, unsigned percent)
{
    if (!start())
        return;
    uint64_t count = fill(length);
    ck_assert_uint_gt(count, 100);
    small_disk_take(store_folder(), taken);
    delete_each(0, count, 1);
    ck_assert_uint_eq(documents(), 0);
    forget();
    /* Opening writes as well. */
    store_close(s);
    s = open_with(MAP, 0);
    empty_group(s);
    empty_group(s);
    uint64_t again = fill(length);
    printf("%llu documents, then %llu with no byte left on the disk\n", (unsigned long long)count,
           (unsigned long long)again);
    ck_assert_uint_ge(again, count * percent / 100);
    delete_each(0, again, 1);
    forget();
    ck_assert_int_eq(unlink(taken), 0);
    ck_assert_uint_ge(fill(length), count * percent / 100);
    store_close(s);
}

START_TEST(long_texts_are_deleted_and_put_again_with_no_byte_left)
{
    expect_emptied_and_filled_again(TEXT, 75);
}
END_TEST

START_TEST(short_texts_are_deleted_and_put_again_with_no_byte_left)
{
    expect_emptied_and_filled_again(1000, 90);
}
END_TEST

START_TEST(external_vectors_are_deleted_and_put_again_with_no_byte_left)
{
    external = true;
    expect_emptied_and_filled_again(10, 60);
}
END_TEST

/* One request deletes many; whatever LMDB keeps back of that until the commit after the next, nobody
 * but puts that were refused would bring about that commit. */
START_TEST(what_one_delete_leaves_is_room_for_the_next_put)
{
    sem_error error;
    store_write *w;
    uint64_t seq;
    size_t deleted;
    external = true;
    if (!start())
        return;
    uint64_t count = fill(10), many = count / 4;
    docid *ids = calloc(many, sizeof *ids);
    uint32_t *docnos = calloc(many, sizeof *docnos);
    ck_assert(ids != NULL && docnos != NULL);
    for (uint64_t i = 0; i < many; i++)
        ids[i] = number_id(i);
    ck_assert_msg(!put(count, 10), "the disk is not full");
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_delete(w, c, ids, many, docnos, &deleted, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(deleted, many);
    uint64_t again = 0;
    while (again < many && put(count + again, 10))
        again++;
    printf("%llu of %llu documents were deleted at once, then %llu put\n", (unsigned long long)many,
           (unsigned long long)count, (unsigned long long)again);
    ck_assert_uint_ge(again, many / 2);
    free(ids);
    free(docnos);
    store_close(s);
}
END_TEST

/* Texts of all lengths leave free pages in pieces, of which a long one finds no row. */
START_TEST(puts_never_use_up_what_deletes_need)
{
    unsigned random = 1;
    if (!start())
        return;
    uint64_t count = fill(TEXT);
    small_disk_take(store_folder(), taken);
    for (uint64_t round = 0; round < 10; round++) {
        delete_each(round % 3, count, 3);
        forget();
        unsigned refused = 0;
        for (uint64_t id = round % 3; id < count && refused < 20; id += 3) {
            random = random * 1103515245 + 12345;
            refused += !put(id, 1 + (random >> 8) % LONGEST);
        }
    }
    delete_each(0, count, 1);
    ck_assert_uint_eq(documents(), 0);
    store_close(s);
}
END_TEST

START_TEST(puts_are_refused_while_a_snapshot_has_the_pages)
{
    sem_error error;
    store_read *r;
    if (!start())
        return;
    uint64_t count = fill(TEXT);
    small_disk_take(store_folder(), taken);
    ck_ok(store_read_begin(s, &r, &error));
    delete_each(0, 3, 1);
    uint64_t more = 0;
    while (more < MANY && put(count + more, TEXT))
        more++;
    /* There is nothing for them but the tail, of which half is for deletes. */
    ck_assert_uint_lt(more, 10);
    store_read_end(r);
    delete_each(3, count + more, 1);
    ck_assert_uint_eq(documents(), 0);
    forget();
    empty_group(s);
    ck_assert_uint_ge(fill(TEXT), count * 75 / 100);
    store_close(s);
}
END_TEST

static off_t size_of(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_size;
}

START_TEST(a_put_needs_no_room_for_what_deletes_have_made_of_the_file)
{
    enum { LEFT = 5 << 20 }; /* what the disk keeps free, a new tail, and little beside it */
    sem_error error;
    store_read *r;
    external = true; /* a deleted text that is kept for the lexical index asks for room as puts do */
    if (!start())
        return;
    uint64_t count = 0;
    while (count < 400 && put(count, 10))
        count++;
    off_t before = size_of(below_store("main/data.mdb"));
    ck_ok(store_read_begin(s, &r, &error));
    for (uint64_t i = 0; size_of(below_store("main/data.mdb")) < before + 2 * LEFT; i++) {
        ck_assert_uint_lt(i, count);
        delete_each(i, i + 1, 1);
    }
    small_disk_take(store_folder(), taken);
    ck_assert_int_eq(truncate(taken, size_of(taken) - LEFT), 0);
    ck_assert_msg(put(count, 10), "refused");
    store_read_end(r);
    store_close(s);
}
END_TEST

static atomic_uint_fast64_t deleted_so_far;

/* Ends a read long after deletes have taken all that it leaves them. */
static void *end_late(void *read)
{
    while (atomic_load(&deleted_so_far) < 10)
        usleep(1000);
    usleep(300000);
    store_read_end(read);
    return NULL;
}

START_TEST(deletes_wait_for_a_snapshot_rather_than_fail)
{
    sem_error error;
    store_read *r;
    pthread_t reader;
    if (!start())
        return;
    uint64_t count = fill(TEXT);
    small_disk_take(store_folder(), taken);
    ck_ok(store_read_begin(s, &r, &error));
    ck_assert_int_eq(pthread_create(&reader, NULL, end_late, r), 0);
    for (uint64_t i = 0; i < count; i++) {
        delete_each(i, i + 1, 1);
        atomic_fetch_add(&deleted_so_far, 1);
    }
    ck_assert_int_eq(pthread_join(reader, NULL), 0);
    ck_assert_uint_eq(documents(), 0);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store room");
    TCase *tests = tcase_create("store room");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, long_texts_are_deleted_and_put_again_with_no_byte_left);
    tcase_add_test(tests, short_texts_are_deleted_and_put_again_with_no_byte_left);
    tcase_add_test(tests, external_vectors_are_deleted_and_put_again_with_no_byte_left);
    tcase_add_test(tests, what_one_delete_leaves_is_room_for_the_next_put);
    tcase_add_test(tests, puts_never_use_up_what_deletes_need);
    tcase_add_test(tests, puts_are_refused_while_a_snapshot_has_the_pages);
    tcase_add_test(tests, a_put_needs_no_room_for_what_deletes_have_made_of_the_file);
    tcase_add_test(tests, deletes_wait_for_a_snapshot_rather_than_fail);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
