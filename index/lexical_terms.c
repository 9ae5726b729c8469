#include "index/lexical_terms.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 64, BLOCK_BYTES = 16 << 10, KEY_BYTES = 16 };

/* Bytes of terms: they never move while the set grows. */
typedef struct block {
    struct block *next;
    size_t used, size;
    char bytes[];
} block;

typedef struct slot {
    uint32_t entry; /* 1 + position in entries; 0: free */
    uint32_t hash;
} slot;

struct lexical_terms {
    lexical_term *entries;
    uint32_t *hashes; /* of the entries, in the order in which they were added */
    size_t count, capacity;
    slot *slots;
    size_t slot_count; /* a power of two */
    block *blocks;
    unsigned char key[KEY_BYTES]; /* secret: who writes texts must not be able to choose collisions */
};

sem_status lexical_terms_create(lexical_terms **out, sem_error *err)
{
    lexical_terms *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a set of terms");
    t->slots = calloc(FIRST_SLOTS, sizeof *t->slots);
    t->slot_count = FIRST_SLOTS;
    if (t->slots == NULL || !random_bytes(t->key, KEY_BYTES)) {
        lexical_terms_free(t);
        return sem_fail_memory(err, "a set of terms");
    }
    *out = t;
    return SEM_OK;
}

static void free_blocks(lexical_terms *t)
{
    for (block *b = t->blocks, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    t->blocks = NULL;
}

void lexical_terms_free(lexical_terms *t)
{
    if (t == NULL)
        return;
    free_blocks(t);
    free(t->entries);
    free(t->hashes);
    free(t->slots);
    free(t);
}

void lexical_terms_clear(lexical_terms *t)
{
    free_blocks(t);
    t->count = 0;
    memset(t->slots, 0, t->slot_count * sizeof *t->slots);
}

size_t lexical_terms_count(const lexical_terms *t)
{
    return t->count;
}

lexical_term *lexical_terms_at(lexical_terms *t, size_t i)
{
    return &t->entries[i];
}

static uint32_t hash_of(const lexical_terms *t, const char *bytes, size_t length)
{
    return (uint32_t)hash_keyed(t->key, bytes, length);
}

/* The slot of the term, or the free one where it would go. */
static slot *seek(const lexical_terms *t, const char *bytes, size_t length, uint32_t hash)
{
    size_t mask = t->slot_count - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        slot *s = &t->slots[i];
        if (s->entry == 0)
            return s;
        const lexical_term *e = &t->entries[s->entry - 1];
        if (s->hash == hash && e->length == length && memcmp(e->bytes, bytes, length) == 0)
            return s;
    }
}

lexical_term *lexical_terms_find(lexical_terms *t, const char *bytes, size_t length)
{
    const slot *s = seek(t, bytes, length, hash_of(t, bytes, length));
    return s->entry != 0 ? &t->entries[s->entry - 1] : NULL;
}

static void place(lexical_terms *t, uint32_t hash, size_t entry)
{
    size_t mask = t->slot_count - 1, i = hash & mask;
    while (t->slots[i].entry != 0)
        i = (i + 1) & mask;
    t->slots[i] = (slot){.entry = (uint32_t)entry + 1, .hash = hash};
}

static bool grow(lexical_terms *t)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity == 0 ? FIRST_SLOTS / 2 : t->capacity * 2;
        lexical_term *entries = checked_realloc(t->entries, capacity, sizeof *entries);
        if (entries != NULL)
            t->entries = entries;
        uint32_t *hashes = checked_realloc(t->hashes, capacity, sizeof *hashes);
        if (hashes != NULL)
            t->hashes = hashes;
        if (entries == NULL || hashes == NULL || capacity > UINT32_MAX / 2)
            return false;
        t->capacity = capacity;
    }
    if (t->count * 2 < t->slot_count)
        return true;
    // NOLINTNEXTLINE(clang-analyzer-optin.portability.UnixAPI): there are FIRST_SLOTS at least
    slot *slots = calloc(t->slot_count * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    free(t->slots);
    t->slots = slots;
    t->slot_count *= 2;
    for (size_t i = 0; i < t->count; i++)
        place(t, t->hashes[i], i);
    return true;
}

static char *keep_bytes(lexical_terms *t, const char *bytes, size_t length)
{
    block *b = t->blocks;
    if (b == NULL || b->size - b->used < length) {
        size_t size = length > BLOCK_BYTES ? length : BLOCK_BYTES;
        b = malloc(sizeof *b + size);
        if (b == NULL)
            return NULL;
        *b = (block){.next = t->blocks, .size = size};
        t->blocks = b;
    }
    char *copy = b->bytes + b->used;
    memcpy(copy, bytes, length);
    b->used += length;
    return copy;
}

lexical_term *lexical_terms_add(lexical_terms *t, const char *bytes, size_t length)
{
    uint32_t hash = hash_of(t, bytes, length);
    const slot *s = seek(t, bytes, length, hash);
    if (s->entry != 0)
        return &t->entries[s->entry - 1];
    char *copy = grow(t) ? keep_bytes(t, bytes, length) : NULL;
    if (copy == NULL)
        return NULL;
    t->entries[t->count] = (lexical_term){.bytes = copy, .length = length};
    t->hashes[t->count] = hash;
    place(t, hash, t->count);
    return &t->entries[t->count++];
}

typedef int term_compare(const lexical_term *a, const lexical_term *b);

static int compare_through(const void *a, const void *b, void *context)
{
    term_compare **compare = context;
    return (*compare)(a, b);
}

void lexical_terms_sort(lexical_terms *t, term_compare *compare)
{
    if (t->count == 0)
        return;
    qsort_r(t->entries, t->count, sizeof *t->entries, compare_through, &compare);
    memset(t->slots, 0, t->slot_count * sizeof *t->slots);
    for (size_t i = 0; i < t->count; i++) {
        t->hashes[i] = hash_of(t, t->entries[i].bytes, t->entries[i].length);
        place(t, t->hashes[i], i);
    }
}
