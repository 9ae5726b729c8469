#include "model/trie.h"

#include "base/checked.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A node whose children are still to be placed: the keys [from, to) share the
 * first `depth` bytes, which led to `unit`. */
typedef struct pending {
    uint32_t unit;
    size_t from, to, depth;
} pending;

/* In use, and nobody's child. */
#define ROOT_PARENT (TRIE_NONE - 1)

typedef struct builder {
    trie_unit *units;
    size_t capacity;
    size_t used;      /* units below this may be in use */
    size_t first_gap; /* no free unit is worth trying below this */
    const trie_key *keys;
    pending *stack;
    size_t stacked;
    size_t stack_capacity;
} builder;

/* Orders by bytes, equal keys by value. */
static int compare_keys(const void *a, const void *b)
{
    const trie_key *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int c = memcmp(x->text, y->text, n);
    if (c != 0)
        return c;
    if (x->length != y->length)
        return x->length < y->length ? -1 : 1;
    return (x->value > y->value) - (x->value < y->value);
}

static bool grow(builder *b, size_t wanted)
{
    if (wanted <= b->capacity)
        return true;
    size_t capacity = b->capacity == 0 ? 1024 : b->capacity * 2;
    if (capacity < wanted)
        capacity = wanted;
    if (capacity >= ROOT_PARENT)
        return false;
    trie_unit *units = checked_realloc(b->units, capacity, sizeof *units);
    if (units == NULL)
        return false;
    for (size_t i = b->capacity; i < capacity; i++)
        units[i] = (trie_unit){.base = 0, .parent = TRIE_NONE, .value = -1};
    b->units = units;
    b->capacity = capacity;
    return true;
}

static bool push(builder *b, pending p)
{
    if (b->stacked == b->stack_capacity) {
        size_t capacity = b->stack_capacity == 0 ? 256 : b->stack_capacity * 2;
        pending *stack = checked_realloc(b->stack, capacity, sizeof *stack);
        if (stack == NULL)
            return false;
        b->stack = stack;
        b->stack_capacity = capacity;
    }
    b->stack[b->stacked++] = p;
    return true;
}

static bool fits(const builder *b, size_t base, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (b->units[base + bytes[i]].parent != TRIE_NONE)
            return false;
    return true;
}

/* The lowest base at which all children find a free unit. Where most units that
 * were tried are in use, the search never comes back to them: that keeps
 * building near linear at the price of a few gaps. */
static size_t find_base(builder *b, const unsigned char *bytes, size_t count)
{
    size_t position = b->first_gap > (size_t)bytes[0] + 1 ? b->first_gap : (size_t)bytes[0] + 1;
    size_t in_use = 0;
    size_t start = position;
    for (;; position++) {
        if (!grow(b, position + 512))
            return 0;
        if (b->units[position].parent != TRIE_NONE) {
            in_use++;
            continue;
        }
        if (fits(b, position - bytes[0], bytes, count))
            break;
    }
    if (in_use * 20 >= (position - start + 1) * 19)
        b->first_gap = position;
    else if (position - start > 4096)
        b->first_gap = start + 2048;
    return position - bytes[0];
}

/* Places the children of one node and stacks them. */
static bool place_children(builder *b, pending node)
{
    unsigned char bytes[256];
    size_t ends[256];
    size_t count = 0;
    size_t i = node.from;
    for (; i < node.to && b->keys[i].length == node.depth; i++)
        b->units[node.unit].value = b->keys[i].value;
    size_t first = i;
    for (; i < node.to; i++) {
        unsigned char byte = (unsigned char)b->keys[i].text[node.depth];
        if (count == 0 || bytes[count - 1] != byte)
            bytes[count++] = byte;
        ends[count - 1] = i + 1;
    }
    if (count == 0)
        return true;
    size_t base = find_base(b, bytes, count);
    if (base == 0)
        return false;
    b->units[node.unit].base = (uint32_t)base;
    for (size_t c = 0; c < count; c++) {
        b->units[base + bytes[c]].parent = node.unit;
        if (base + bytes[c] >= b->used)
            b->used = base + bytes[c] + 1;
    }
    for (size_t c = count; c-- > 0;) {
        size_t from = c == 0 ? first : ends[c - 1];
        if (!push(b, (pending){(uint32_t)(base + bytes[c]), from, ends[c], node.depth + 1}))
            return false;
    }
    return true;
}

sem_status trie_create(trie *out, trie_key *keys, size_t count, sem_error *err)
{
    qsort(keys, count, sizeof *keys, compare_keys);
    builder b = {.keys = keys, .first_gap = 1, .used = 1};
    bool ok = grow(&b, 1024);
    if (ok) {
        b.units[TRIE_ROOT].parent = ROOT_PARENT;
        ok = push(&b, (pending){TRIE_ROOT, 0, count, 0});
    }
    while (ok && b.stacked > 0)
        ok = place_children(&b, b.stack[--b.stacked]);
    ok = ok && grow(&b, b.used + 256);
    free(b.stack);
    if (!ok) {
        free(b.units);
        return sem_fail_memory(err, "a dictionary of tokens");
    }
    *out = (trie){b.units, b.capacity};
    return SEM_OK;
}

void trie_free(trie *t)
{
    free(t->units);
    *t = (trie){0};
}

uint32_t trie_walk(const trie *t, uint32_t node, const char *text, size_t length)
{
    for (size_t i = 0; i < length && node != TRIE_NONE; i++)
        node = trie_step(t, node, (unsigned char)text[i]);
    return node;
}

int32_t trie_find(const trie *t, const char *text, size_t length)
{
    uint32_t node = length == 0 ? TRIE_NONE : trie_walk(t, TRIE_ROOT, text, length);
    return node == TRIE_NONE ? -1 : t->units[node].value;
}

int32_t trie_longest(const trie *t, uint32_t node, const char *text, size_t length, size_t *matched)
{
    int32_t value = -1;
    for (size_t i = 0; i < length; i++) {
        node = trie_step(t, node, (unsigned char)text[i]);
        if (node == TRIE_NONE)
            break;
        if (t->units[node].value >= 0) {
            value = t->units[node].value;
            *matched = i + 1;
        }
    }
    return value;
}
