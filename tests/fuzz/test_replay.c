/* Every fuzz target over its seeds and over what is left of them when they are cut
 * or a byte changes: what libFuzzer does for longer. */
#include "tests/common/testing.h"
#include "tests/fuzz/targets.h"

#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { CHANGES = 150 };

START_TEST(seeds_and_their_neighbours_break_no_promise)
{
    const fuzz_target *t = &FUZZ_TARGET_LIST[_i];
    static uint8_t seed[FUZZ_SEED_MAX];
    const char *dir = testing_folder();
    random_state r;
    random_seed(&r, testing_seed());
    size_t seeds = 0;
    for (; t->seeds[seeds] != NULL; seeds++) {
        size_t size = fuzz_seed(t->seeds[seeds], seed);
        ck_assert_uint_gt(size, 3);
        bool accepted = t->run(dir, seed, size);
        ck_assert_msg(accepted || seeds > 0, "%s: the first seed is refused", t->name);
        for (size_t i = 0; i < CHANGES; i++) {
            size_t left = 1 + (size_t)random_below(&r, size), place = (size_t)random_below(&r, left);
            uint8_t *copy = malloc(left); /* of just that size, for the sanitizer */
            ck_assert_ptr_nonnull(copy);
            memcpy(copy, seed, left);
            copy[place] = (uint8_t)random_below(&r, 256);
            t->run(dir, copy, left);
            free(copy);
        }
    }
    ck_assert_uint_ge(seeds, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("replay");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, seeds_and_their_neighbours_break_no_promise, 0, FUZZ_TARGETS);
    suite_add_tcase(s, c);
    return testing_run(s);
}
