#include "tests/common/testing.h"

#include "base/files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sem_error error;
static char source[FILES_PATH_MAX], target[FILES_PATH_MAX];

static const char *inside(const char *folder, const char *name)
{
    static char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/%s", folder, name));
    return path;
}

/* A folder with a file, and a folder below it with another. */
static void create_source(void)
{
    ck_ok(files_join(source, &error, "%s/source", testing_folder()));
    ck_ok(files_join(target, &error, "%s/target", testing_folder()));
    ck_ok(files_remove_folder(source, &error));
    ck_ok(files_remove_folder(target, &error));
    ck_ok(files_make_folder(inside(source, "below"), &error));
    ck_ok(files_write(inside(source, "one"), "1", 1, &error));
    ck_ok(files_write(inside(source, "below/two"), "22", 2, &error));
}

static void check_file(const char *name, const char *wanted)
{
    char *text;
    size_t size;
    ck_ok(files_read(inside(target, name), 100, &text, &size, &error));
    ck_assert_str_eq(text, wanted);
    free(text);
}

START_TEST(a_folder_is_copied_with_what_its_links_lead_to)
{
    create_source();
    ck_assert_int_eq(symlink("below", inside(source, "again")), 0);
    ck_assert_int_eq(symlink("../one", inside(source, "below/three")), 0);
    ck_ok(files_copy_folder(source, target, &error));
    check_file("one", "1");
    check_file("below/two", "22");
    check_file("below/three", "1");
    check_file("again/two", "22");
}
END_TEST

START_TEST(a_linked_folder_has_the_same_files_and_keeps_what_is_replaced)
{
    struct stat a, b;
    create_source();
    ck_assert_int_eq(symlink("../one", inside(source, "below/three")), 0);
    ck_ok(files_link_folder(source, target, &error));
    check_file("one", "1");
    check_file("below/two", "22");
    ck_assert_int_eq(stat(inside(source, "one"), &a), 0);
    ck_assert_int_eq(stat(inside(target, "one"), &b), 0);
    ck_assert(a.st_ino == b.st_ino);
    ck_assert_int_eq(lstat(inside(target, "below/three"), &b), 0);
    ck_assert(a.st_ino == b.st_ino); /* what the link leads to, not the link */
    ck_ok(files_write(inside(source, "one"), "new", 3, &error));
    check_file("one", "1");
    check_file("below/three", "1");
}
END_TEST

START_TEST(a_cancelled_copy_ends_with_no_further_file)
{
    atomic_bool cancel = true;
    create_source();
    ck_assert_int_eq(files_copy_folder_unless(source, target, &cancel, &error), SEM_CANCELLED);
    const bool one = access(inside(target, "one"), F_OK) == 0, two = access(inside(target, "below/two"), F_OK) == 0;
    ck_assert(!one || !two);
    ck_ok(files_remove_folder(target, &error));
    atomic_store(&cancel, false);
    ck_ok(files_copy_folder_unless(source, target, &cancel, &error));
    check_file("one", "1");
    check_file("below/two", "22");
}
END_TEST

START_TEST(a_link_back_to_a_folder_around_it_is_refused_before_all_is_copied_again)
{
    static const char *const links[] = {".", "below/..", ".."}, *const names[] = {"loop", "loop", "below/loop"};

    create_source();
    ck_assert_int_eq(symlink(links[_i], inside(source, names[_i])), 0);
    ck_assert_int_eq(files_copy_folder(source, target, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "a link back to a folder that it lies in"));
    ck_assert_int_ne(access(inside(target, "loop"), F_OK), 0);
    ck_assert_int_ne(access(inside(target, "below/loop"), F_OK), 0);
}
END_TEST

START_TEST(a_folder_is_not_copied_into_itself_whatever_its_path_looks_like)
{
    char way[FILES_PATH_MAX];
    create_source();
    ck_ok(files_join(way, &error, "%s-way", target));
    ck_assert_int_eq(symlink(inside(source, "below"), way), 0);
    ck_assert_int_eq(files_copy_folder(source, inside(way, "copy"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "lies in it"));
    ck_assert_int_ne(access(inside(source, "below/copy"), F_OK), 0);
}
END_TEST

START_TEST(a_path_lies_in_a_folder_by_where_it_leads)
{
    char way[FILES_PATH_MAX], below[FILES_PATH_MAX], beside[FILES_PATH_MAX];
    bool lies;
    create_source();
    ck_ok(files_join(below, &error, "%s/below", source));
    ck_ok(files_join(beside, &error, "%s-beside", source)); /* the same beginning */
    ck_ok(files_join(way, &error, "%s-way", target));
    ck_ok(files_make_folder(beside, &error));
    ck_assert_int_eq(symlink(below, way), 0);
    ck_ok(files_lies_in(source, source, &lies, &error));
    ck_assert(lies);
    ck_ok(files_lies_in(way, source, &lies, &error));
    ck_assert(lies);
    ck_ok(files_lies_in(below, "/", &lies, &error));
    ck_assert(lies);
    ck_ok(files_lies_in(beside, source, &lies, &error));
    ck_assert(!lies);
    ck_ok(files_lies_in(source, way, &lies, &error));
    ck_assert(!lies);
    ck_assert_int_eq(files_lies_in(inside(source, "missing"), source, &lies, &error), SEM_NOT_FOUND);
}
END_TEST

START_TEST(a_folder_is_found_however_the_path_ends)
{
    static const char *const paths[][2] = {{"a/b", "a"}, {"a/b///", "a"}, {"a", "."}, {"a/", "."},
                                           {"/a", "/"},  {"/a/", "/"},    {"/", "/"}};
    char parent[FILES_PATH_MAX];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ck_ok(files_parent(paths[i][0], parent, &error));
        ck_assert_str_eq(parent, paths[i][1]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("files");
    TCase *tests = tcase_create("files");
    tcase_add_test(tests, a_folder_is_copied_with_what_its_links_lead_to);
    tcase_add_test(tests, a_linked_folder_has_the_same_files_and_keeps_what_is_replaced);
    tcase_add_test(tests, a_cancelled_copy_ends_with_no_further_file);
    tcase_add_loop_test(tests, a_link_back_to_a_folder_around_it_is_refused_before_all_is_copied_again, 0, 3);
    tcase_add_test(tests, a_folder_is_not_copied_into_itself_whatever_its_path_looks_like);
    tcase_add_test(tests, a_path_lies_in_a_folder_by_where_it_leads);
    tcase_add_test(tests, a_folder_is_found_however_the_path_ends);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
