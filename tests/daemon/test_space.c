/* The indices of a space. */
#include "tests/index/store_fixture.h"

#include "daemon/space.h"

/* A space with the index of one collection, number 1, which is pinned. */
static space_index *start(store **s, space **sp)
{
    sem_error error;
    store_write *w;
    *s = new_store(MAP);
    ck_ok(store_write_begin(*s, &w, &error));
    store_collection c = {.number = make_collection(w, "default"), .name = "default"};
    ck_ok(store_write_commit(w, &error));
    const space_options options = {.store = *s, .number = SPACE, .dim = DIM, .exact_below = 1000, .threads = 1};
    ck_ok(space_create(sp, &options, &error));
    ck_ok(space_add(*sp, &c, &error));
    return space_acquire(*sp, c.number);
}

/* The index thread may be saving lists when their collection is dropped. */
START_TEST(dropped_collection_leaves_no_saved_lists)
{
    sem_error error;
    store *s;
    space *sp;
    space_index *saving = start(&s, &sp);
    space_drop(sp, 1);
    ck_assert(space_acquire(sp, 1) == NULL);
    ck_ok(files_write(saving->cache, "lists", 5, &error));
    ck_assert_int_eq(access(below_store("cache/space-1-1.lists"), F_OK), 0);
    space_index_release(saving);
    ck_assert_int_ne(access(below_store("cache/space-1-1.lists"), F_OK), 0);
    space_release(sp);
    store_close(s);
}
END_TEST

START_TEST(a_space_that_is_removed_leaves_no_saved_lists)
{
    sem_error error;
    store *s;
    space *sp;
    space_index *saving = start(&s, &sp);
    space_retire(sp);
    ck_ok(files_write(saving->cache, "lists", 5, &error));
    space_index_release(saving);
    space_release(sp);
    ck_assert_int_ne(access(below_store("cache/space-1-1.lists"), F_OK), 0);
    store_close(s);
}
END_TEST

START_TEST(saved_lists_outlive_the_space)
{
    sem_error error;
    store *s;
    space *sp;
    space_index *saving = start(&s, &sp);
    ck_ok(files_write(saving->cache, "lists", 5, &error));
    space_index_release(saving);
    space_release(sp);
    ck_assert_int_eq(access(below_store("cache/space-1-1.lists"), F_OK), 0);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("space");
    TCase *tests = tcase_create("space");
    tcase_add_test(tests, dropped_collection_leaves_no_saved_lists);
    tcase_add_test(tests, a_space_that_is_removed_leaves_no_saved_lists);
    tcase_add_test(tests, saved_lists_outlive_the_space);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
