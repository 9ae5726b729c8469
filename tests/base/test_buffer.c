#include "tests/common/testing.h"

#include "base/buffer.h"

#include <string.h>

/* Of every length around that which is tried at first, and of many in a row. */
START_TEST(what_is_printed_stands_behind_what_was_there)
{
    enum { LONGEST = 200 };
    char text[LONGEST + 1], expected[LONGEST * LONGEST];
    size_t size = 0;
    buffer b = {0};
    memset(text, 'x', LONGEST);
    text[LONGEST] = '\0';
    for (size_t length = 0; length < LONGEST; length++) {
        const char *printed = text + LONGEST - length;
        ck_assert(buffer_print(&b, "%s", printed));
        memcpy(expected + size, printed, length);
        size += length;
        ck_assert_uint_eq(b.size, size);
        ck_assert_mem_eq(b.data, expected, size);
    }
    ck_assert(buffer_print(&b, "%d,%.3f|%c", -7, 0.5, 'c'));
    ck_assert_mem_eq(b.data + size, "-7,0.500|c", b.size - size);
    ck_assert_uint_eq(b.size - size, strlen("-7,0.500|c"));
    buffer_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buffer");
    TCase *tests = tcase_create("buffer");
    tcase_add_test(tests, what_is_printed_stands_behind_what_was_there);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
