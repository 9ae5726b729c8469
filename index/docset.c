#include "index/docset.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "Roaring's portable format is little-endian");

enum {
    COOKIE_PLAIN = 12346, /* no container is of runs */
    COOKIE_RUNS = 12347,  /* some may be; the upper half is the number of containers less one */
    OFFSETS_FROM = 4,     /* with COOKIE_RUNS: containers from which the offsets are written */
    HEAD = 4,             /* bytes of a container's number and cardinality */
    BITS_BYTES = DOCSET_WORDS * 8
};

void docset_free(docset *s)
{
    if (s != NULL)
        roaring_bitmap_free(s);
}

/* --- in */

static void add(docset_builder *b, uint32_t block, const void *body, size_t size, size_t count)
{
    uint16_t head[2] = {(uint16_t)block, (uint16_t)(count - 1)};
    if (b->failed || !buffer_append(&b->heads, head, sizeof head) || !buffer_append(&b->bodies, body, size))
        b->failed = true;
    b->count++;
}

void docset_add_list(docset_builder *b, uint32_t block, const uint16_t *lows, size_t count)
{
    uint64_t bits[DOCSET_WORDS] = {0};
    if (count == 0)
        return;
    if (count <= DOCSET_LIST_MAX) {
        add(b, block, lows, count * sizeof *lows, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        bits[lows[i] / 64] |= UINT64_C(1) << lows[i] % 64;
    add(b, block, bits, sizeof bits, count);
}

size_t docset_list_bits(const uint64_t bits[DOCSET_WORDS], uint16_t *lows)
{
    size_t count = 0;
    for (size_t w = 0; w < DOCSET_WORDS; w++)
        for (uint64_t left = bits[w]; left != 0; left &= left - 1)
            lows[count++] = (uint16_t)(w * 64 + (size_t)__builtin_ctzll(left));
    return count;
}

void docset_add_bits(docset_builder *b, uint32_t block, const uint64_t bits[DOCSET_WORDS], size_t count)
{
    uint16_t lows[DOCSET_LIST_MAX];
    if (count > DOCSET_LIST_MAX)
        add(b, block, bits, BITS_BYTES, count);
    else if (count > 0)
        add(b, block, lows, docset_list_bits(bits, lows) * sizeof *lows, count);
}

static void put_number(unsigned char *at, size_t value)
{
    uint32_t number = (uint32_t)value;
    memcpy(at, &number, sizeof number);
}

/* The cookie, the heads, where each body is, the bodies. */
static unsigned char *assemble(const docset_builder *b, size_t *size)
{
    size_t front = 8 + b->count * (HEAD + 4);
    *size = front + b->bodies.size;
    unsigned char *data = malloc(*size);
    if (data == NULL)
        return NULL;
    put_number(data, COOKIE_PLAIN);
    put_number(data + 4, b->count);
    memcpy(data + 8, b->heads.data, b->heads.size);
    size_t at = front;
    for (size_t i = 0; i < b->count; i++) {
        uint16_t less_one;
        memcpy(&less_one, b->heads.data + i * HEAD + 2, sizeof less_one);
        put_number(data + 8 + b->count * HEAD + i * 4, at);
        at += less_one < DOCSET_LIST_MAX ? ((size_t)less_one + 1) * 2 : BITS_BYTES;
    }
    memcpy(data + front, b->bodies.data, b->bodies.size);
    return data;
}

docset *docset_finish(docset_builder *b)
{
    docset *set = NULL;
    if (!b->failed && b->count == 0) {
        set = roaring_bitmap_create();
    } else if (!b->failed) {
        size_t size;
        unsigned char *data = assemble(b, &size);
        if (data != NULL)
            set = roaring_bitmap_portable_deserialize_safe((const char *)data, size);
        free(data);
    }
    buffer_free(&b->heads);
    buffer_free(&b->bodies);
    *b = (docset_builder){0};
    return set;
}

/* --- out */

typedef struct portable {
    const unsigned char *heads, *runs; /* runs: a bit for each container, or NULL */
    const unsigned char *body;         /* of the next container */
    size_t count;
} portable;

static portable open_portable(const unsigned char *data)
{
    uint32_t cookie, count;
    portable p = {0};
    memcpy(&cookie, data, sizeof cookie);
    memcpy(&count, data + 4, sizeof count);
    if (cookie == COOKIE_PLAIN) {
        p.count = count;
        p.heads = data + 8;
        p.body = p.heads + p.count * (HEAD + 4);
        return p;
    }
    p.count = (cookie >> 16) + 1;
    p.runs = data + 4;
    p.heads = p.runs + (p.count + 7) / 8;
    p.body = p.heads + p.count * (p.count >= OFFSETS_FROM ? HEAD + 4 : HEAD);
    return p;
}

static uint16_t number_at(const unsigned char *data, size_t i)
{
    uint16_t number;
    memcpy(&number, data + 2 * i, sizeof number);
    return number;
}

static void copy_container(portable *p, size_t i, uint64_t *words)
{
    size_t count = (size_t)number_at(p->heads, 2 * i + 1) + 1;
    uint64_t *to = words + (size_t)number_at(p->heads, 2 * i) * DOCSET_WORDS;
    if (p->runs != NULL && (p->runs[i / 8] >> i % 8 & 1) != 0) {
        size_t runs = number_at(p->body, 0);
        for (size_t r = 0; r < runs; r++) {
            size_t from = number_at(p->body, 1 + 2 * r), last = from + number_at(p->body, 2 + 2 * r);
            for (size_t d = from; d <= last; d++)
                to[d / 64] |= UINT64_C(1) << d % 64;
        }
        p->body += 2 + 4 * runs;
    } else if (count <= DOCSET_LIST_MAX) {
        for (size_t k = 0; k < count; k++) {
            uint16_t low = number_at(p->body, k);
            to[low / 64] |= UINT64_C(1) << low % 64;
        }
        p->body += 2 * count;
    } else {
        memcpy(to, p->body, BITS_BYTES);
        p->body += BITS_BYTES;
    }
}

sem_status docset_to_bits(const docset *s, uint64_t **words, size_t *bits, sem_error *err)
{
    size_t blocks = roaring_bitmap_is_empty(s) ? 1 : roaring_bitmap_maximum(s) / DOCSET_BLOCK + 1;
    *words = calloc(blocks * DOCSET_WORDS, sizeof **words);
    unsigned char *data = malloc(roaring_bitmap_portable_size_in_bytes(s));
    if (*words == NULL || data == NULL) {
        free(*words);
        free(data);
        *words = NULL;
        return sem_fail_memory(err, "a filter");
    }
    roaring_bitmap_portable_serialize(s, (char *)data);
    portable p = open_portable(data);
    for (size_t i = 0; i < p.count; i++)
        copy_container(&p, i, *words);
    free(data);
    *bits = blocks * DOCSET_BLOCK;
    return SEM_OK;
}

sem_status docset_to_array(const docset *s, uint32_t **documents, size_t *count, sem_error *err)
{
    *count = (size_t)roaring_bitmap_get_cardinality(s);
    *documents = checked_realloc(NULL, *count + 1, sizeof **documents);
    if (*documents == NULL)
        return sem_fail_memory(err, "a filter");
    roaring_bitmap_to_uint32_array(s, *documents);
    return SEM_OK;
}
