/* Random numbers: a seeded generator for what must be repeatable, and the
 * kernel's for what must not be guessed. */
#ifndef SEM_BASE_RANDOM_H
#define SEM_BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* xoshiro256** (Blackman and Vigna 2018), seeded through SplitMix64. */
typedef struct random_state {
    uint64_t s[4];
} random_state;

void random_seed(random_state *r, uint64_t seed);
uint64_t random_next(random_state *r);
/* Uniform in [0, bound), without bias; bound must not be 0. */
uint64_t random_below(random_state *r, uint64_t bound);
/* Uniform in [0, 1). */
double random_unit(random_state *r);
/* The number in [0, 1) that 64 random bits make. */
double random_unit_of(uint64_t bits);
/* Puts count items of size bytes into random order (Durstenfeld 1964). */
void random_shuffle(random_state *r, void *items, size_t count, size_t size);

/* A pure function of its arguments: the counter-th value of stream `seed`.
 * Threads that share nothing draw the same values in any order. */
uint64_t random_at(uint64_t seed, uint64_t counter);

/* Fills data from the kernel's generator; false if that failed. */
bool random_bytes(void *data, size_t size);

#endif
