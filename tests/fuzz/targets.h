/* What is fuzzed: everything that reads bytes nobody vouches for. The same
 * functions run under libFuzzer (make fuzz) and over their seeds (make check). */
#ifndef SEM_TESTS_FUZZ_TARGETS_H
#define SEM_TESTS_FUZZ_TARGETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fuzz_target {
    const char *name;
    /* Ends the process where a promise is broken, and returns whether the bytes were
     * accepted; dir is a folder to write to, of this target alone. */
    bool (*run)(const char *dir, const uint8_t *data, size_t size);
    const char *const *seeds; /* ended by NULL, the first accepted; see fuzz_seed() */
} fuzz_target;

enum { FUZZ_TARGETS = 5, FUZZ_SEED_MAX = 1 << 14 };
extern const fuzz_target FUZZ_TARGET_LIST[FUZZ_TARGETS];

/* A seed's bytes: as written, but that | stands for NUL and ^XX for a byte in hex. */
size_t fuzz_seed(const char *seed, uint8_t out[FUZZ_SEED_MAX]);

#endif
