/* Saved lists: a start goes on with them, and what has changed since is right. */
#include "tests/common/small_disk.h"
#include "tests/index/saved_lists.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

static void check_start(int kind, size_t passages)
{
    place_here p;
    setup(&p, kind, passages);
    int64_t at = save_lists(&p);
    vector_index *v = start(&p);
    ck_assert(vector_index_wants_training(v));
    ck_ok(vector_index_train(v, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at);
    ck_assert(!vector_index_wants_training(v));
    ck_assert_uint_eq(vector_index_count(v), N);
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

static void check_changed_start(int kind, size_t passages)
{
    place_here p;
    setup(&p, kind, passages);
    int64_t at = save_lists(&p);
    for (uint64_t n = 0; n < 200; n += 2)
        erase(&p, n);
    put(&p, 1000, 1200); /* again, with other vectors */
    put(&p, N, N + MORE);
    erase(&p, N + 1);
    vector_index *v = start(&p);
    ck_ok(vector_index_train(v, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at);
    ck_assert_uint_eq(vector_index_count(v), N - 100 + MORE - 1);
    check_passages(&p, v);
    check_search(&p, v);
    for (uint32_t n = 2000; n < 3500; n++) {
        vector_index_remove(v, n);
        p.live[n] = false;
    }
    check_passages(&p, v);
    check_search(&p, v);
    train(v); /* leaves the dead behind, in the cells that were read */
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

START_TEST(a_start_goes_on_with_saved_lists)
{
    check_start(_i, 0);
}
END_TEST

START_TEST(a_start_goes_on_with_saved_lists_of_passages)
{
    check_start(_i, MOST);
}
END_TEST

START_TEST(what_changed_since_lists_were_saved_is_right)
{
    check_changed_start(_i, 0);
}
END_TEST

START_TEST(passages_that_changed_since_lists_were_saved_are_right)
{
    check_changed_start(_i, MOST);
}
END_TEST

/* A start that goes on with lists of that training; what they are after upkeep. */
static vector_index_stats go_on(place_here *p, int64_t trained_at, size_t count)
{
    vector_index *v = start(p);
    train(v);
    vector_index_stats stats = stats_of(p, v);
    ck_assert_int_eq(stats.trained_at_ms, trained_at);
    ck_assert_uint_eq(vector_index_count(v), count);
    check_search(p, v);
    vector_index_destroy(v);
    return stats;
}

START_TEST(cells_that_were_split_are_saved)
{
    place_here p;
    setup(&p, OURS, 0);
    vector_index *v = start(&p);
    train(v);
    vector_index_stats before = stats_of(&p, v);
    vector_index_destroy(v);
    p.crowded = true;
    put(&p, N, N + MORE);
    erase(&p, 5);
    vector_index_stats split = go_on(&p, before.trained_at_ms, N + MORE - 1);
    ck_assert_uint_ge(split.splits, 1);
    ck_assert_uint_gt(split.nlist, before.nlist);
    erase(&p, N + 1);
    vector_index_stats again = go_on(&p, before.trained_at_ms, N + MORE - 2);
    ck_assert_uint_eq(again.splits, 0);
    ck_assert_uint_eq(again.nlist, split.nlist);
    teardown(&p);
}
END_TEST

static void *train_in_thread(void *index)
{
    static sem_error failed;
    return vector_index_train(index, NULL, &failed) == SEM_OK ? index : NULL;
}

static bool fill_more(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot,
                      const void *vector)
{
    return docno < N || fill_one(context, docno, version, ordinal, slot, vector);
}

/* Saves what comes out of a pipe. */
static void drain(int from, const char *path)
{
    char buffer[65536];
    FILE *to = fopen(path, "wb");
    ck_assert_ptr_nonnull(to);
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) != 0;) {
        ck_assert_int_gt(n, 0);
        ck_assert_uint_eq(fwrite(buffer, 1, (size_t)n, to), (size_t)n);
    }
    ck_assert_int_eq(fclose(to), 0);
}

/* A pipe in the place of the file holds the saving up until somebody reads. */
START_TEST(lists_are_used_and_grow_while_they_are_saved)
{
    place_here p;
    char beside[FILES_PATH_MAX];
    pthread_t thread;
    store_read *r;
    void *trained;
    setup(&p, OURS, 0);
    ck_ok(files_join(beside, &error, "%s.new", p.cache));
    ck_assert_int_eq(mkfifo(beside, 0600), 0);
    vector_index *v = start(&p);
    ck_assert_int_eq(pthread_create(&thread, NULL, train_in_thread, v), 0);
    int fd = open(beside, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    int64_t at = trained_at(&p, v); /* which asks whether searches go through lists */
    check_search(&p, v);
    put(&p, N, N + MORE);
    ck_ok(store_read_begin(p.store, &r, &error));
    ck_ok(store_slot_walk(r, STORE_SPACE_EXTERNAL, p.collection, fill_more, v, &error));
    store_read_end(r);
    check_search(&p, v);
    drain(fd, p.cache);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(pthread_join(thread, &trained), 0);
    ck_assert_ptr_eq(trained, v);
    vector_index_destroy(v);
    erase(&p, N + 1);
    v = start(&p);
    ck_ok(vector_index_train(v, NULL, &error));
    ck_assert_uint_eq(vector_index_count(v), N + MORE - 1);
    check_search(&p, v);
    ck_assert_int_eq(trained_at(&p, v), at); /* no section was found damaged */
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

START_TEST(lists_of_another_engine_or_type_are_made_anew)
{
    place_here p;
    setup(&p, OURS, 0);
    int64_t at = save_lists(&p);
    p.engine = VECTOR_ENGINE_FAISS;
    at = expect_unused(&p, at);
    p.type = VECTOR_FAISS_FLAT;
    at = expect_unused(&p, at);
    p.engine = VECTOR_ENGINE_SEMD;
    expect_unused(&p, at);
    teardown(&p);
}
END_TEST

START_TEST(lists_that_cannot_be_saved_are_used_all_the_same)
{
    place_here p;
    setup(&p, _i, 0);
    ck_ok(files_join(p.cache, &error, "%s/no/such/folder.lists", testing_folder()));
    vector_index *v = start(&p);
    train(v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

/* The disk of the store is full, that of the file is not. */
START_TEST(lists_are_not_saved_where_the_store_has_no_room)
{
    place_here p;
    char folder[FILES_PATH_MAX], other[FILES_PATH_MAX];
    ck_ok(files_join(folder, &error, "%s/store", testing_folder()));
    if (!small_disk_mount(folder, "24m"))
        return;
    setup(&p, _i, 0);
    small_disk_take(folder, other);
    vector_index *v = start(&p);
    train(v);
    check_search(&p, v);
    ck_assert_int_ne(access(p.cache, F_OK), 0);
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("saved lists");
    TCase *tests = tcase_create("saved lists");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, a_start_goes_on_with_saved_lists, 0, KINDS);
    tcase_add_loop_test(tests, a_start_goes_on_with_saved_lists_of_passages, OURS, FAISS + 1);
    tcase_add_loop_test(tests, what_changed_since_lists_were_saved_is_right, OURS, FAISS + 1);
    tcase_add_loop_test(tests, passages_that_changed_since_lists_were_saved_are_right, OURS, FAISS + 1);
    tcase_add_test(tests, cells_that_were_split_are_saved);
    tcase_add_test(tests, lists_of_another_engine_or_type_are_made_anew);
    tcase_add_test(tests, lists_are_used_and_grow_while_they_are_saved);
    tcase_add_loop_test(tests, lists_that_cannot_be_saved_are_used_all_the_same, OURS, FAISS + 1);
    tcase_add_loop_test(tests, lists_are_not_saved_where_the_store_has_no_room, OURS, FAISS + 1);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
