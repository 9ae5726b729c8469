/* Random meta and random filters over it: few fields and few values, so that
 * they meet, of every type and with the numbers that are easily taken for others. */
#ifndef SEM_TESTS_INDEX_RANDOM_META_H
#define SEM_TESTS_INDEX_RANDOM_META_H

#include "base/random.h"
#include "index/filter.h"

#include <msgpack.h>

#include <stdio.h>
#include <string.h>

static inline void pack_text_value(msgpack_packer *p, const char *text)
{
    msgpack_pack_str_with_body(p, text, strlen(text));
}

static inline void random_number(random_state *r, msgpack_packer *p)
{
    static const double reals[] = {-1e300,
                                   -9007199254740992.0,
                                   -1.5,
                                   -0.0,
                                   0.5,
                                   1.0,
                                   3.0,
                                   9007199254740992.0,
                                   9223372036854775808.0,
                                   18446744073709551616.0,
                                   1e300,
                                   7.0};
    static const int64_t integers[] = {INT64_MIN,        -9007199254740993, -9007199254740992, -2,       -1, 0, 1, 3,
                                       9007199254740992, 9007199254740993,  9007199254740994,  INT64_MAX};
    switch (random_below(r, 5)) {
    case 0: msgpack_pack_double(p, reals[random_below(r, 12)]); break;
    case 1: msgpack_pack_int64(p, integers[random_below(r, 12)]); break;
    case 2: msgpack_pack_uint64(p, UINT64_MAX - random_below(r, 2)); break;
    case 3: msgpack_pack_float(p, (float)random_below(r, 8)); break;
    default: msgpack_pack_int64(p, (int64_t)random_below(r, 40) - 20); break;
    }
}

static inline void random_string(random_state *r, msgpack_packer *p)
{
    static const char *const texts[] = {"", "a", "ab", "abcdefgh", "abcdefghi", "abcdefgh\x01", "b", "\xc3\xa9", "z"};
    char text[16];
    if (random_below(r, 2) == 0) {
        pack_text_value(p, texts[random_below(r, 9)]);
        return;
    }
    snprintf(text, sizeof text, "word%u", (unsigned)random_below(r, 300));
    pack_text_value(p, text);
}

static inline void random_scalar(random_state *r, msgpack_packer *p)
{
    switch (random_below(r, 8)) {
    case 0: msgpack_pack_nil(p); break;
    case 1: msgpack_pack_true(p); break;
    case 2: msgpack_pack_false(p); break;
    case 3:
    case 4: random_string(r, p); break;
    default: random_number(r, p); break;
    }
}

enum { META_FIELDS = 7 };
/* The last is in few documents; "" is a name too. */
static const char *const meta_field_names[META_FIELDS] = {"a", "bb", "tags", "mixed", "n", "", "rare"};

static inline void random_field_value(random_state *r, size_t field, msgpack_packer *p)
{
    size_t count = random_below(r, 4);
    switch (field) {
    case 0: msgpack_pack_uint64(p, random_below(r, 3)); break; /* few values: runs of their own */
    case 1: random_string(r, p); break;
    case 2:
        msgpack_pack_array(p, count);
        for (size_t i = 0; i < count; i++)
            random_string(r, p);
        break;
    case 4: msgpack_pack_uint64(p, random_below(r, 1 << 20)); break; /* many */
    default: random_scalar(r, p); break;
    }
}

/* Appends a map, or nothing: a document without meta. */
static inline void random_meta(random_state *r, msgpack_sbuffer *out)
{
    msgpack_packer p;
    bool has[META_FIELDS];
    size_t count = 0;
    if (random_below(r, 20) == 0)
        return;
    for (size_t i = 0; i < META_FIELDS; i++) {
        has[i] = random_below(r, i == META_FIELDS - 1 ? 50 : 5) == 0 ||
                 (i < META_FIELDS - 1 && random_below(r, 2) == 0);
        count += has[i];
    }
    msgpack_packer_init(&p, out, msgpack_sbuffer_write);
    msgpack_pack_map(&p, count);
    for (size_t i = 0; i < META_FIELDS; i++)
        if (has[i]) {
            pack_text_value(&p, meta_field_names[i]);
            random_field_value(r, i, &p);
        }
}

static inline void random_leaf(random_state *r, msgpack_packer *p)
{
    static const char *const ops[] = {"eq", "gte", "gt", "lte", "lt", "in", "exists"};
    static const unsigned odds[] = {3, 4, 6, 4, 6, 4, 6};
    size_t field = random_below(r, META_FIELDS + 1), count = 0;
    bool has[7];
    for (size_t i = 0; i < 7; i++) {
        has[i] = random_below(r, odds[i]) == 0;
        count += has[i];
    }
    if (count == 0) {
        has[random_below(r, 7)] = true;
        count = 1;
    }
    msgpack_pack_map(p, count + 1);
    pack_text_value(p, "field");
    pack_text_value(p, field < META_FIELDS ? meta_field_names[field] : "never");
    for (size_t i = 0; i < 7; i++) {
        if (!has[i])
            continue;
        size_t values = random_below(r, 40);
        pack_text_value(p, ops[i]);
        if (i == 5)
            msgpack_pack_array(p, values);
        if (i == 6 && random_below(r, 2) == 0)
            msgpack_pack_true(p);
        else if (i == 6)
            msgpack_pack_false(p);
        for (size_t k = 0; i < 6 && k < (i == 5 ? values : 1); k++)
            if (field < META_FIELDS && field != 2 && random_below(r, 4) != 0)
                random_field_value(r, field, p);
            else
                random_scalar(r, p);
    }
}

static inline void random_filter_node(random_state *r, msgpack_packer *p, unsigned depth)
{
    size_t kind = random_below(r, depth == 0 ? 1 : 6), count = random_below(r, 4);
    if (kind < 3) {
        random_leaf(r, p);
        return;
    }
    msgpack_pack_map(p, 1);
    if (kind == 3) {
        pack_text_value(p, "not");
        random_filter_node(r, p, depth - 1);
        return;
    }
    pack_text_value(p, kind == 4 ? "all" : "any");
    msgpack_pack_array(p, count);
    for (size_t i = 0; i < count; i++)
        random_filter_node(r, p, depth - 1);
}

static inline filter *random_filter(random_state *r)
{
    sem_error error;
    msgpack_sbuffer b;
    msgpack_packer p;
    filter *f = NULL;
    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
    random_filter_node(r, &p, 4);
    if (filter_parse(&f, (const unsigned char *)b.data, b.size, &error) != SEM_OK)
        f = NULL;
    msgpack_sbuffer_destroy(&b);
    return f;
}

#endif
