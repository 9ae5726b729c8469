#include "base/random.h"

#include <errno.h>
#include <sys/random.h>

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void random_seed(random_state *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = mix(seed += UINT64_C(0x9E3779B97F4A7C15));
}

static uint64_t rotate(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t random_next(random_state *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t random_below(random_state *r, uint64_t bound)
{
    /* Lemire 2019, "Fast random integer generation in an interval". */
    __uint128_t m = (__uint128_t)random_next(r) * bound;
    if ((uint64_t)m < bound) {
        uint64_t threshold = -bound % bound;
        while ((uint64_t)m < threshold)
            m = (__uint128_t)random_next(r) * bound;
    }
    return (uint64_t)(m >> 64);
}

double random_unit(random_state *r)
{
    return random_unit_of(random_next(r));
}

double random_unit_of(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1.0p-53;
}

void random_shuffle(random_state *r, void *items, size_t count, size_t size)
{
    char *all = items;
    for (size_t i = count; i > 1; i--) {
        char *last = all + (i - 1) * size, *drawn = all + (size_t)random_below(r, i) * size;
        for (size_t b = 0; b < size; b++) {
            char kept = last[b];
            last[b] = drawn[b];
            drawn[b] = kept;
        }
    }
}

uint64_t random_at(uint64_t seed, uint64_t counter)
{
    return mix(mix(seed + UINT64_C(0x9E3779B97F4A7C15)) + (counter + 1) * UINT64_C(0x9E3779B97F4A7C15));
}

bool random_bytes(void *data, size_t size)
{
    unsigned char *p = data;
    while (size > 0) {
        ssize_t n = getrandom(p, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}
