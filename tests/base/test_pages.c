#include "tests/common/testing.h"

#include "base/pages.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 16 };

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Pages that are in memory. */
static size_t resident(void *memory)
{
    unsigned char there[PAGES];
    size_t count = 0;
    ck_assert_int_eq(mincore(memory, PAGES * page_size(), there), 0);
    for (size_t i = 0; i < PAGES; i++)
        count += there[i] & 1;
    return count;
}

START_TEST(what_is_allocated_is_zeroed_and_aligned)
{
    const size_t bytes = 100000;
    unsigned char *memory = pages_alloc(bytes);
    ck_assert_ptr_nonnull(memory);
    ck_assert_uint_eq((uintptr_t)memory % 64, 0);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_uint_eq(memory[i], 0);
    memory[bytes - 1] = 1;
    pages_free(memory, bytes);
    pages_free(NULL, bytes);
}
END_TEST

/* Sizes around a huge page, a whole page and not. */
START_TEST(huge_pages_are_zeroed_and_aligned_and_end_where_they_should)
{
    static const size_t SIZES[] = {1, 100000, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 5 << 20};
    const size_t bytes = SIZES[_i];
    unsigned char *memory = pages_alloc_huge(bytes);
    ck_assert_ptr_nonnull(memory);
#ifndef __SANITIZE_ADDRESS__
    const size_t whole = (bytes + page_size() - 1) / page_size() * page_size();
    ck_assert_uint_eq((uintptr_t)memory % (2 << 20), 0);
    ck_assert_int_eq(mincore(memory, whole, (unsigned char[2048]){0}), 0);
#endif
    size_t other = 0;
    for (size_t i = 0; i < bytes; i++)
        other += memory[i] != 0;
    ck_assert_uint_eq(other, 0);
    memory[0] = memory[bytes - 1] = 1;
    pages_free(memory, bytes);
}
END_TEST

START_TEST(what_is_cleared_is_zero_and_takes_no_memory)
{
    const size_t page = page_size(), from = 2 * page + 100, to = 10 * page - 100;
    unsigned char *memory = pages_alloc(PAGES * page);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 7, PAGES * page);
    pages_clear(memory, from, to);
#ifndef __SANITIZE_ADDRESS__
    ck_assert_uint_eq(resident(memory), PAGES - 6); /* two of the eight pages have other bytes too */
#endif
    for (size_t i = 0; i < PAGES * page; i++)
        ck_assert_uint_eq(memory[i], i >= from && i < to ? 0 : 7);
    memset(memory, 7, PAGES * page);
    pages_clear(memory, page + 10, page + 20);
    for (size_t i = 0; i < PAGES * page; i++)
        ck_assert_uint_eq(memory[i], i >= page + 10 && i < page + 20 ? 0 : 7);
    pages_free(memory, PAGES * page);
}
END_TEST

START_TEST(reserved_pages_take_memory_only_while_they_are_open)
{
    const size_t page = page_size();
    unsigned char *memory = pages_reserve(PAGES * page);
    ck_assert_ptr_nonnull(memory);
    ck_assert_uint_eq((uintptr_t)memory % page, 0);
    ck_assert_uint_eq(resident(memory), 0);

    ck_assert(pages_open(memory, 2 * page + 100, 10 * page - 100));
    for (size_t i = 2 * page; i < 10 * page; i++)
        memory[i] = 7;
    ck_assert_uint_eq(resident(memory), 8);

    pages_drop(memory, 2 * page + 100, 10 * page - 100);
    ck_assert_uint_eq(resident(memory), 2);
    ck_assert_uint_eq(memory[2 * page], 7);
    ck_assert_uint_eq(memory[10 * page - 1], 7);

    ck_assert(pages_open(memory, 3 * page, 4 * page));
    ck_assert_uint_eq(memory[3 * page], 0);
    pages_release(memory, PAGES * page);
    pages_release(NULL, PAGES * page);
}
END_TEST

START_TEST(a_part_of_a_page_is_not_dropped)
{
    const size_t page = page_size();
    unsigned char *memory = pages_reserve(PAGES * page);
    ck_assert_ptr_nonnull(memory);
    ck_assert(pages_open(memory, 0, page));
    memory[page - 1] = 7;
    pages_drop(memory, 0, page - 1);
    pages_drop(memory, 10, 20);
    ck_assert_uint_eq(memory[page - 1], 7);
    pages_release(memory, PAGES * page);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(a_touch_of_what_was_dropped_ends_the_process)
{
    const size_t page = page_size();
    volatile unsigned char *memory = pages_reserve(PAGES * page);
    ck_assert_ptr_nonnull((void *)(uintptr_t)memory);
    ck_assert(pages_open((void *)(uintptr_t)memory, 0, 2 * page));
    memory[page] = 7;
    pages_drop((void *)(uintptr_t)memory, page, 2 * page);
    signal(SIGSEGV, SIG_DFL);
    ck_assert_uint_eq(memory[page], 0);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("base/pages");
    TCase *all = tcase_create("all");
    tcase_add_test(all, what_is_allocated_is_zeroed_and_aligned);
    tcase_add_loop_test(all, huge_pages_are_zeroed_and_aligned_and_end_where_they_should, 0, 6);
    tcase_add_test(all, what_is_cleared_is_zero_and_takes_no_memory);
    tcase_add_test(all, reserved_pages_take_memory_only_while_they_are_open);
    tcase_add_test(all, a_part_of_a_page_is_not_dropped);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test_raise_signal(all, a_touch_of_what_was_dropped_ends_the_process, SIGSEGV);
#endif
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
