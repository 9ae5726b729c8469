/* A read-only dictionary of byte strings that is walked byte by byte: a
 * double-array trie (Aoe 1989, "An Efficient Digital Search Algorithm by Using
 * a Double-Array Structure"). One step is one memory access. */
#ifndef SEM_MODEL_TRIE_H
#define SEM_MODEL_TRIE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct trie_key {
    const char *text;
    size_t length; /* bytes; the empty string is no key */
    int32_t value; /* >= 0 */
} trie_key;

typedef struct trie_unit {
    uint32_t base;   /* the child by byte c is unit base + c, if its parent says so */
    uint32_t parent; /* TRIE_NONE where the unit is free */
    int32_t value;   /* of the key that ends here, or -1 */
} trie_unit;

typedef struct trie {
    trie_unit *units; /* owned; 256 more than the largest base, so that a step needs no check */
    size_t count;
} trie;

enum { TRIE_ROOT = 0 };
#define TRIE_NONE UINT32_MAX

/* keys are sorted in place; of equal keys the one with the largest value wins. */
sem_status trie_create(trie *out, trie_key *keys, size_t count, sem_error *err);
void trie_free(trie *t);

/* The child of node by this byte, or TRIE_NONE. */
static inline uint32_t trie_step(const trie *t, uint32_t node, unsigned char byte)
{
    uint32_t child = t->units[node].base + byte;
    return t->units[child].parent == node ? child : TRIE_NONE;
}

/* The node that text leads to from node, or TRIE_NONE. */
uint32_t trie_walk(const trie *t, uint32_t node, const char *text, size_t length);

/* The value of a whole key, or -1. */
int32_t trie_find(const trie *t, const char *text, size_t length);

/* The value of the longest key that text begins with, its length in *matched; or -1. */
int32_t trie_longest(const trie *t, uint32_t node, const char *text, size_t length, size_t *matched);

#endif
