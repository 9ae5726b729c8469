/* What every test program shares: a temporary folder, where the reference data
 * lies, and a main that prints Check's closing line. */
#ifndef SEM_TESTS_COMMON_TESTING_H
#define SEM_TESTS_COMMON_TESTING_H

#include "base/status.h"

#include <check.h>

#include <stdbool.h>
#include <stdint.h>

/* A new empty folder below $TMPDIR or /tmp; static buffer. Removed at exit of
 * the process that made it. */
const char *testing_folder(void);

/* testing_folder()/<name>. One of eight static buffers, the next at each call. */
const char *testing_path(const char *name);

/* ../shared/<name> from the project's root, or NULL when it is missing; then a
 * line says that the test was skipped. Static buffer. */
const char *testing_shared(const char *name);

/* build/models/all-MiniLM-L6-v2, or NULL (with a line) when it is missing. */
const char *testing_minilm(void);

/* The seed of this run: $SEMD_TEST_SEED or the clock, printed once. */
uint64_t testing_seed(void);
/* The same with a seed of the test's own instead of the clock's: for what holds of nearly all draws, not of each. */
uint64_t testing_seed_or(uint64_t usual);

/* Runs the suite and prints the closing line; returns main's exit status. */
int testing_run(Suite *suite);

#define ck_ok(call)                                                                                                    \
    do {                                                                                                               \
        sem_status ck_status_ = (call);                                                                                \
        ck_assert_msg(ck_status_ == SEM_OK, "%s: %s: %s", #call, sem_status_name(ck_status_), error.message);          \
    } while (0)

#define ck_fails(call, expected_code)                                                                                  \
    do {                                                                                                               \
        sem_status ck_status_ = (call);                                                                                \
        ck_assert_msg(ck_status_ == (expected_code), "%s: %s instead of %s: %s", #call, sem_status_name(ck_status_),   \
                      sem_status_name(expected_code), error.message);                                                  \
    } while (0)

/* Every test declares `sem_error error`; ck_ok and ck_fails print its message. */

#endif
