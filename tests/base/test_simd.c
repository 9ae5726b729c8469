#include "tests/common/testing.h"

#include "base/simd.h"

#include <stdlib.h>

START_TEST(semd_simd_lowers_the_width)
{
    static const struct {
        const char *name;
        simd_width width;
    } levels[] = {{"generic", SIMD_GENERIC},
                  {"avx2", SIMD_AVX2},
                  {"avxvnni", SIMD_AVX2},
                  {"avx512", SIMD_AVX512},
                  {"amx", SIMD_AVX512}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        setenv("SEMD_SIMD", levels[i].name, 1);
        ck_assert_str_eq(simd_wanted(), levels[i].name);
        ck_assert(simd_is_level(levels[i].name));
        ck_assert_int_eq(simd_widest(), levels[i].width);
    }
}
END_TEST

START_TEST(without_semd_simd_any_width_is_allowed)
{
    unsetenv("SEMD_SIMD");
    ck_assert_ptr_null(simd_wanted());
    ck_assert_int_eq(simd_widest(), SIMD_AVX512);
    setenv("SEMD_SIMD", "", 1);
    ck_assert_ptr_null(simd_wanted());
    ck_assert_int_eq(simd_widest(), SIMD_AVX512);
}
END_TEST

START_TEST(unknown_levels_are_told_from_known_ones)
{
    static const char *const names[] = {"avx1024", "AVX2", "avx", "avx512 ", ""};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        setenv("SEMD_SIMD", names[i], 1);
        ck_assert(!simd_is_level(names[i]));
        ck_assert_int_eq(simd_widest(), SIMD_AVX512);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("simd");
    TCase *tc = tcase_create("choice");
    tcase_add_test(tc, semd_simd_lowers_the_width);
    tcase_add_test(tc, without_semd_simd_any_width_is_allowed);
    tcase_add_test(tc, unknown_levels_are_told_from_known_ones);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
