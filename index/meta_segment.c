#include "index/meta_segment.h"

#include "base/checked.h"
#include "index/meta_gather.h"

#include <stdlib.h>
#include <string.h>

/* --- sets */

void meta_set_spread(const meta_set *s, uint64_t bits[DOCSET_WORDS])
{
    if (s->bits != NULL) {
        for (size_t w = 0; w < DOCSET_WORDS; w++)
            bits[w] |= s->bits[w];
        return;
    }
    for (size_t i = 0; i < s->count; i++)
        bits[s->list[i] / 64] |= UINT64_C(1) << s->list[i] % 64;
}

bool meta_set_make(meta_set *out, const uint64_t bits[DOCSET_WORDS])
{
    *out = (meta_set){0};
    for (size_t w = 0; w < DOCSET_WORDS; w++)
        out->count += (size_t)__builtin_popcountll(bits[w]);
    if (out->count == 0)
        return true;
    if (out->count > DOCSET_LIST_MAX) {
        out->bits = checked_realloc(NULL, DOCSET_WORDS, sizeof *out->bits);
        if (out->bits != NULL)
            memcpy(out->bits, bits, DOCSET_WORDS * sizeof *bits);
        return out->bits != NULL;
    }
    out->list = checked_realloc(NULL, out->count, sizeof *out->list);
    size_t count = 0;
    for (size_t w = 0; w < DOCSET_WORDS && out->list != NULL; w++)
        for (uint64_t left = bits[w]; left != 0; left &= left - 1)
            out->list[count++] = (uint16_t)(w * 64 + (size_t)__builtin_ctzll(left));
    return out->list != NULL;
}

static void set_clear(meta_set *s)
{
    free(s->list);
    free(s->bits);
}

/* --- owning */

static void field_clear(meta_field *f)
{
    free(f->name);
    free(f->number_bits);
    free(f->number_types);
    free(f->string_ends);
    free(f->string_bytes);
    free(f->starts);
    free(f->postings);
    free(f->runs);
    set_clear(&f->present);
    *f = (meta_field){0};
}

void meta_segment_share(meta_segment *s)
{
    atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
}

void meta_segment_release(meta_segment *s)
{
    if (s == NULL || atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < s->field_count; i++)
        field_clear(&s->fields[i]);
    free(s->fields);
    set_clear(&s->live);
    free(s);
}

/* --- reading */

int meta_compare_names(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t shared = a_length < b_length ? a_length : b_length;
    int order = shared == 0 ? 0 : memcmp(a, b, shared);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

const meta_field *meta_segment_field(const meta_segment *s, const char *name, size_t length)
{
    size_t low = 0, high = s->field_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const meta_field *f = &s->fields[middle];
        int order = meta_compare_names(f->name, f->name_length, name, length);
        if (order == 0)
            return f;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void number_key(const meta_field *f, uint32_t i, value *out)
{
    out->type = f->number_types != NULL ? (value_type)f->number_types[i] : f->number_type;
    if (out->type == VALUE_UINT)
        out->uint = f->number_bits[i];
    else if (out->type == VALUE_NEGATIVE)
        memcpy(&out->negative, &f->number_bits[i], sizeof out->negative);
    else
        memcpy(&out->real, &f->number_bits[i], sizeof out->real);
}

void meta_field_key(const meta_field *f, uint32_t key, value *out)
{
    uint32_t bools = f->bools[0] + f->bools[1];
    if (key < f->nils) {
        out->type = VALUE_NIL;
        return;
    }
    key -= f->nils;
    if (key < bools) {
        out->type = VALUE_BOOL;
        out->boolean = f->bools[0] == 0 || key == 1;
        return;
    }
    key -= bools;
    if (key < f->numbers) {
        number_key(f, key, out);
        return;
    }
    key -= f->numbers;
    uint32_t start = key == 0 ? 0 : f->string_ends[key - 1];
    out->type = VALUE_STRING;
    out->string = f->string_bytes + start;
    out->length = f->string_ends[key] - start;
}

uint32_t meta_field_search(const meta_field *f, uint32_t from, const value *v, bool after)
{
    uint32_t low = from, high = f->keys, step = 1;
    value key;
    /* In growing steps first: many values are looked up in ascending order. */
    for (uint32_t at = from; at < f->keys; at = low + step - 1, step *= 2) {
        meta_field_key(f, at, &key);
        int order = value_compare(&key, v);
        if (order > 0 || (order == 0 && !after)) {
            high = at;
            break;
        }
        low = at + 1;
        if (step > f->keys - low)
            break;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        meta_field_key(f, middle, &key);
        int order = value_compare(&key, v);
        if (order < 0 || (order == 0 && after))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
