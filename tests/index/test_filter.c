#include "tests/common/testing.h"

#include "base/random.h"
#include "index/filter.h"

#include <jansson.h>
#include <msgpack.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- readable tests: JSON with ' for " becomes MessagePack */

static void pack_json(msgpack_packer *p, json_t *j)
{
    const char *key;
    json_t *v;
    size_t i;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        msgpack_pack_map(p, json_object_size(j));
        json_object_foreach(j, key, v)
        {
            msgpack_pack_str_with_body(p, key, strlen(key));
            pack_json(p, v);
        }
        break;
    case JSON_ARRAY:
        msgpack_pack_array(p, json_array_size(j));
        json_array_foreach(j, i, v) pack_json(p, v);
        break;
    case JSON_STRING: msgpack_pack_str_with_body(p, json_string_value(j), json_string_length(j)); break;
    case JSON_INTEGER: msgpack_pack_int64(p, json_integer_value(j)); break;
    case JSON_REAL: msgpack_pack_double(p, json_real_value(j)); break;
    case JSON_TRUE: msgpack_pack_true(p); break;
    case JSON_FALSE: msgpack_pack_false(p); break;
    default: msgpack_pack_nil(p); break;
    }
}

static void pack_text(msgpack_sbuffer *out, const char *text)
{
    char copy[8192];
    json_error_t why;
    msgpack_packer p;
    ck_assert_uint_lt(strlen(text), sizeof copy);
    strcpy(copy, text);
    for (char *c = copy; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    json_t *j = json_loads(copy, JSON_DECODE_ANY, &why);
    ck_assert_msg(j != NULL, "%s: %s", text, why.text);
    msgpack_packer_init(&p, out, msgpack_sbuffer_write);
    pack_json(&p, j);
    json_decref(j);
}

static filter *compile(const msgpack_sbuffer *b)
{
    sem_error error;
    filter *f = NULL;
    /* An exact copy, so that a sanitizer sees a read beyond the end. */
    unsigned char *copy = malloc(b->size);
    memcpy(copy, b->data, b->size);
    ck_ok(filter_parse(&f, copy, b->size, &error));
    free(copy);
    return f;
}

static bool match_bytes(const filter *f, const msgpack_sbuffer *meta)
{
    unsigned char *copy = malloc(meta->size + 1);
    if (meta->size > 0)
        memcpy(copy, meta->data, meta->size);
    unsigned char *exact = realloc(copy, meta->size > 0 ? meta->size : 1);
    bool result = filter_match(f, exact, meta->size);
    free(exact);
    return result;
}

/* meta "" is a document without any. */
static bool matches(const char *filter_text, const char *meta_text)
{
    msgpack_sbuffer f, m;
    msgpack_sbuffer_init(&f);
    msgpack_sbuffer_init(&m);
    pack_text(&f, filter_text);
    if (meta_text[0] != '\0')
        pack_text(&m, meta_text);
    filter *compiled = compile(&f);
    bool result = match_bytes(compiled, &m);
    filter_free(compiled);
    msgpack_sbuffer_destroy(&f);
    msgpack_sbuffer_destroy(&m);
    return result;
}

static void expect_refused(const char *filter_text, const char *word)
{
    msgpack_sbuffer b;
    sem_error error;
    filter *f = NULL;
    msgpack_sbuffer_init(&b);
    pack_text(&b, filter_text);
    ck_fails(filter_parse(&f, (const unsigned char *)b.data, b.size, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, word) != NULL, "%s: \"%s\" does not say %s", filter_text, error.message, word);
    msgpack_sbuffer_destroy(&b);
}

START_TEST(leaf_compares_values_of_one_type)
{
    ck_assert(matches("{'field':'a','eq':1}", "{'a':1}"));
    ck_assert(!matches("{'field':'a','eq':1}", "{'a':2}"));
    ck_assert(matches("{'field':'a','eq':1}", "{'x':[], 'y':['p','q'], 'a':1.0}"));
    ck_assert(matches("{'field':'a','eq':'x'}", "{'a':'x'}"));
    ck_assert(!matches("{'field':'a','eq':'x'}", "{'a':'xy'}"));
    ck_assert(matches("{'field':'','eq':'x'}", "{'':'x'}"));
    ck_assert(matches("{'field':'a','eq':null}", "{'a':null}"));
    ck_assert(matches("{'field':'a','eq':false}", "{'a':false}"));
    ck_assert(!matches("{'field':'a','eq':false}", "{'a':true}"));
    ck_assert(matches("{'field':'a','gt':'abc'}", "{'a':'abd'}"));
    ck_assert(!matches("{'field':'a','gt':'abc'}", "{'a':'abc'}"));
    ck_assert(matches("{'field':'a','gt':'abc'}", "{'a':'abca'}"));
    ck_assert(matches("{'field':'a','lt':'é'}", "{'a':'z'}"));
    ck_assert(matches("{'field':'a','gte':-3}", "{'a':-3}"));
    ck_assert(matches("{'field':'a','lte':-3.5}", "{'a':-4}"));
    ck_assert(!matches("{'field':'a','lt':-3.5}", "{'a':-3}"));
}
END_TEST

START_TEST(type_mismatch_never_matches)
{
    static const char *const ops[] = {"eq", "gt", "gte", "lt", "lte"};
    static const char *const values[] = {"1", "'1'", "true", "null"};
    char f[128], m[64];
    for (size_t op = 0; op < 5; op++)
        for (size_t i = 0; i < 4; i++)
            for (size_t j = 0; j < 4; j++) {
                snprintf(f, sizeof f, "{'field':'a','%s':%s}", ops[op], values[i]);
                snprintf(m, sizeof m, "{'a':%s}", values[j]);
                bool ordered = op == 0 || ((op == 2 || op == 4) && i < 2);
                ck_assert_msg(matches(f, m) == (i == j && ordered), "%s on %s", f, m);
            }
    /* A bool is no number, and no number is a bool. */
    ck_assert(!matches("{'field':'a','eq':0}", "{'a':false}"));
    ck_assert(!matches("{'field':'a','in':[0,'x']}", "{'a':false}"));
}
END_TEST

START_TEST(missing_field_matches_only_exists_false_and_not)
{
    ck_assert(matches("{'field':'a','exists':false}", "{'b':1}"));
    ck_assert(matches("{'field':'a','exists':false}", ""));
    ck_assert(!matches("{'field':'a','exists':false}", "{'a':null}"));
    ck_assert(matches("{'field':'a','exists':true}", "{'a':null}"));
    ck_assert(matches("{'field':'a','exists':true}", "{'a':[]}"));
    ck_assert(!matches("{'field':'a','exists':true}", ""));
    ck_assert(!matches("{'field':'a','eq':null}", "{'b':1}"));
    ck_assert(!matches("{'field':'a','lt':5}", ""));
    ck_assert(matches("{'not':{'field':'a','lt':5}}", ""));
    ck_assert(!matches("{'field':'a','exists':false,'eq':1}", "{'a':1}"));
    ck_assert(!matches("{'field':'a','exists':false,'eq':1}", ""));
    ck_assert(matches("{'field':'a','exists':true,'eq':1}", "{'a':1}"));
}
END_TEST

START_TEST(array_matches_if_any_element_does)
{
    ck_assert(matches("{'field':'a','eq':'x'}", "{'a':['w','x']}"));
    ck_assert(!matches("{'field':'a','eq':'x'}", "{'a':['w']}"));
    ck_assert(!matches("{'field':'a','eq':'x'}", "{'a':[]}"));
    ck_assert(matches("{'field':'a','in':['x','y']}", "{'a':['w','y']}"));
    ck_assert(matches("{'field':'a','gte':'b','lt':'c'}", "{'a':['a','bb']}"));
    /* One element must pass all operators of the leaf. */
    ck_assert(!matches("{'field':'a','gte':'b','lt':'c'}", "{'a':['a','d']}"));
    ck_assert(matches("{'not':{'field':'a','eq':'x'}}", "{'a':['w']}"));
}
END_TEST

/* As many elements as the largest limits.meta_bytes lets through. */
START_TEST(a_field_behind_millions_of_elements_is_found)
{
    enum { ELEMENTS = 3000000 };
    msgpack_sbuffer m, b;
    msgpack_packer p;
    msgpack_sbuffer_init(&m);
    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &m, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 2);
    msgpack_pack_str_with_body(&p, "a", 1);
    msgpack_pack_array(&p, ELEMENTS);
    for (size_t i = 0; i < ELEMENTS; i++)
        msgpack_pack_str(&p, 0);
    msgpack_pack_str_with_body(&p, "n", 1);
    msgpack_pack_int(&p, 7);
    pack_text(&b, "{'field': 'n', 'eq': 7}");
    filter *f = compile(&b);
    ck_assert(match_bytes(f, &m));
    filter_free(f);
    msgpack_sbuffer_destroy(&m);
    msgpack_sbuffer_destroy(&b);
}
END_TEST

START_TEST(operators_are_joined_by_and)
{
    ck_assert(matches("{'field':'a','gte':1,'lt':3}", "{'a':2}"));
    ck_assert(!matches("{'field':'a','gte':1,'lt':3}", "{'a':3}"));
    ck_assert(!matches("{'field':'a','gte':1,'lt':3}", "{'a':0}"));
    ck_assert(!matches("{'field':'a','gte':1,'lt':3,'in':[5]}", "{'a':2}"));
    ck_assert(matches("{'lte':2.5,'field':'a','gt':2,'exists':true}", "{'a':2.25}"));
}
END_TEST

START_TEST(all_any_and_not_combine)
{
    ck_assert(matches("{'all':[]}", ""));
    ck_assert(!matches("{'any':[]}", "{'a':1}"));
    ck_assert(!matches("{'not':{'all':[]}}", ""));
    ck_assert(matches("{'all':[{'field':'a','eq':1},{'field':'b','eq':2}]}", "{'a':1,'b':2}"));
    ck_assert(!matches("{'all':[{'field':'a','eq':1},{'field':'b','eq':2}]}", "{'a':1,'b':3}"));
    ck_assert(matches("{'any':[{'field':'a','eq':1},{'field':'b','eq':2}]}", "{'a':0,'b':2}"));
    ck_assert(!matches("{'any':[{'field':'a','eq':1},{'field':'b','eq':2}]}", "{'a':0,'b':0}"));
    ck_assert(matches("{'all':[{'any':[{'all':[]}]},{'not':{'any':[]}}]}", ""));
}
END_TEST

/* --- numbers, exactly */

typedef struct number {
    enum { U, I, F, F32 } kind;
    uint64_t u;
    int64_t i;
    double f;
} number;

static void pack_number(msgpack_packer *p, number n)
{
    switch (n.kind) {
    case U: msgpack_pack_uint64(p, n.u); break;
    case I: msgpack_pack_int64(p, n.i); break;
    case F: msgpack_pack_double(p, n.f); break;
    case F32: msgpack_pack_float(p, (float)n.f); break;
    }
}

static bool number_matches(const char *op, number operand, number stored)
{
    msgpack_sbuffer f, m;
    msgpack_packer p;
    msgpack_sbuffer_init(&f);
    msgpack_sbuffer_init(&m);
    msgpack_packer_init(&p, &f, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 2);
    msgpack_pack_str_with_body(&p, "field", 5);
    msgpack_pack_str_with_body(&p, "a", 1);
    msgpack_pack_str_with_body(&p, op, strlen(op));
    if (strcmp(op, "in") == 0)
        msgpack_pack_array(&p, 1);
    pack_number(&p, operand);
    msgpack_packer_init(&p, &m, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 1);
    msgpack_pack_str_with_body(&p, "a", 1);
    pack_number(&p, stored);
    filter *compiled = compile(&f);
    bool result = match_bytes(compiled, &m);
    filter_free(compiled);
    msgpack_sbuffer_destroy(&f);
    msgpack_sbuffer_destroy(&m);
    return result;
}

/* Ascending; entries of the same rank are equal. */
static const struct {
    int rank;
    number n;
} number_line[] = {
    {0, {F, .f = -INFINITY}},
    {1, {F, .f = -1e300}},
    {2, {F, .f = -9223372036854777856.0}},
    {3, {I, .i = INT64_MIN}},
    {3, {F, .f = -9223372036854775808.0}},
    {4, {I, .i = INT64_MIN + 1}},
    {5, {I, .i = -9007199254740993}},
    {6, {F, .f = -9007199254740992.0}},
    {6, {I, .i = -9007199254740992}},
    {7, {I, .i = -2}},
    {8, {F, .f = -1.5}},
    {8, {F32, .f = -1.5}},
    {9, {I, .i = -1}},
    {10, {F, .f = -5e-324}},
    {11, {U, .u = 0}},
    {11, {F, .f = 0.0}},
    {11, {F, .f = -0.0}},
    {12, {F, .f = 5e-324}},
    {13, {F, .f = 0.1}},
    {14, {F32, .f = 0.1f}},
    {15, {U, .u = 1}},
    {15, {F, .f = 1.0}},
    {15, {I, .i = 1}},
    {16, {U, .u = 9007199254740992}},
    {16, {F, .f = 9007199254740992.0}},
    {17, {U, .u = 9007199254740993}},
    {17, {I, .i = 9007199254740993}},
    {18, {F, .f = 9007199254740994.0}},
    {19, {I, .i = INT64_MAX}},
    {20, {F, .f = 9223372036854775808.0}},
    {20, {U, .u = 9223372036854775808U}},
    {21, {U, .u = UINT64_MAX}},
    {22, {F, .f = 18446744073709551616.0}},
    {23, {F, .f = INFINITY}},
};

START_TEST(numbers_compare_exactly_in_every_type)
{
    size_t n = sizeof number_line / sizeof number_line[0];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            number a = number_line[i].n, b = number_line[j].n;
            int order = (number_line[j].rank > number_line[i].rank) - (number_line[j].rank < number_line[i].rank);
            ck_assert_msg(number_matches("eq", a, b) == (order == 0), "eq %zu %zu", i, j);
            ck_assert_msg(number_matches("in", a, b) == (order == 0), "in %zu %zu", i, j);
            ck_assert_msg(number_matches("gt", a, b) == (order > 0), "gt %zu %zu", i, j);
            ck_assert_msg(number_matches("gte", a, b) == (order >= 0), "gte %zu %zu", i, j);
            ck_assert_msg(number_matches("lt", a, b) == (order < 0), "lt %zu %zu", i, j);
            ck_assert_msg(number_matches("lte", a, b) == (order <= 0), "lte %zu %zu", i, j);
        }
}
END_TEST

/* {"field": "a", "in": [count values]} */
static void pack_in(msgpack_sbuffer *b, size_t count)
{
    msgpack_packer p;
    msgpack_packer_init(&p, b, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 2);
    msgpack_pack_str_with_body(&p, "field", 5);
    msgpack_pack_str_with_body(&p, "a", 1);
    msgpack_pack_str_with_body(&p, "in", 2);
    msgpack_pack_array(&p, count);
    for (size_t i = 0; i < count; i++) {
        char text[32];
        snprintf(text, sizeof text, "s%zu", i);
        if (i % 2 == 0)
            msgpack_pack_uint64(&p, (i * 7919) % 100000);
        else
            msgpack_pack_str_with_body(&p, text, strlen(text));
    }
}

/* The ten thousand of the wire contract are the default of limits.filter_values, which proto holds. */
START_TEST(in_takes_as_many_values_as_can_be_configured)
{
    sem_error error;
    msgpack_sbuffer b;
    filter *f;
    char meta[64];
    msgpack_sbuffer_init(&b);
    pack_in(&b, 10000);
    f = compile(&b);
    size_t hits = 0;
    for (size_t i = 0; i < 20000; i++) {
        msgpack_sbuffer m;
        msgpack_sbuffer_init(&m);
        if (i % 2 == 0)
            snprintf(meta, sizeof meta, "{'a':%zu}", (i * 7919) % 100000);
        else
            snprintf(meta, sizeof meta, "{'a':'s%zu'}", i);
        pack_text(&m, meta);
        bool found = filter_match(f, (const unsigned char *)m.data, m.size);
        if (i < 10000)
            ck_assert_msg(found, "%s", meta);
        hits += found;
        msgpack_sbuffer_destroy(&m);
    }
    ck_assert_uint_eq(hits, 10000);
    filter_free(f);
    msgpack_sbuffer_clear(&b);
    pack_in(&b, 100000);
    filter_free(compile(&b));
    msgpack_sbuffer_clear(&b);
    pack_in(&b, 100001);
    ck_fails(filter_parse(&f, (const unsigned char *)b.data, b.size, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "100000"));
    msgpack_sbuffer_destroy(&b);
}
END_TEST

START_TEST(depth_twelve_is_the_limit)
{
    char text[512] = "";
    for (int kind = 0; kind < 2; kind++)
        for (int depth = 11; depth <= 12; depth++) {
            text[0] = '\0';
            for (int i = 0; i < depth; i++)
                strcat(text, kind == 0 ? "{'not':" : "{'any':[");
            strcat(text, "{'field':'a','in':[1]}");
            for (int i = 0; i < depth; i++)
                strcat(text, kind == 0 ? "}" : "]}");
            if (depth == 11)
                ck_assert(matches(text, kind == 0 ? "{'a':2}" : "{'a':1}"));
            else
                expect_refused(text, "12");
        }
}
END_TEST

START_TEST(wrong_filters_are_refused_by_name)
{
    expect_refused("1", "map");
    expect_refused("[]", "map");
    expect_refused("{}", "field");
    expect_refused("{'field':'a'}", "at least one");
    expect_refused("{'eq':1}", "field");
    expect_refused("{'field':1,'eq':1}", "field");
    expect_refused("{'field':'a','equals':1}", "equals");
    expect_refused("{'field':'a','eq':[1]}", "eq");
    expect_refused("{'field':'a','lt':{}}", "lt");
    expect_refused("{'field':'a','in':1}", "in");
    expect_refused("{'field':'a','in':[[1]]}", "in");
    expect_refused("{'field':'a','exists':1}", "exists");
    expect_refused("{'all':{}}", "all");
    expect_refused("{'any':[1]}", "map");
    expect_refused("{'not':[]}", "map");
    expect_refused("{'all':[],'any':[]}", "all");
    expect_refused("{'all':[],'field':'a','eq':1}", "all");
    expect_refused("{'not':{'all':[]},'field':'a'}", "not");
}
END_TEST

START_TEST(nan_is_refused)
{
    sem_error error;
    filter *f;
    for (int narrow = 0; narrow < 2; narrow++)
        for (int in = 0; in < 2; in++) {
            msgpack_sbuffer b;
            msgpack_packer p;
            msgpack_sbuffer_init(&b);
            msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
            msgpack_pack_map(&p, 2);
            msgpack_pack_str_with_body(&p, "field", 5);
            msgpack_pack_str_with_body(&p, "a", 1);
            msgpack_pack_str_with_body(&p, in ? "in" : "gt", 2);
            if (in)
                msgpack_pack_array(&p, 1);
            if (narrow)
                msgpack_pack_float(&p, NAN);
            else
                msgpack_pack_double(&p, (double)NAN);
            ck_fails(filter_parse(&f, (const unsigned char *)b.data, b.size, &error), SEM_INVALID_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(error.message, "NaN"));
            msgpack_sbuffer_destroy(&b);
        }
}
END_TEST

START_TEST(every_width_of_msgpack_is_read)
{
    static const struct {
        unsigned char bytes[10];
        size_t size;
        const char *equal;
    } cases[] = {
        {{0xcc, 200}, 2, "200"},
        {{0xcd, 1, 0}, 3, "256"},
        {{0xce, 1, 0, 0, 0}, 5, "16777216"},
        {{0xcf, 0, 0, 0, 1, 0, 0, 0, 0}, 9, "4294967296"},
        {{0xd0, 0x80}, 2, "-128"},
        {{0xd1, 0x80, 0}, 3, "-32768"},
        {{0xd2, 0x80, 0, 0, 0}, 5, "-2147483648"},
        {{0xd3, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0}, 9, "-8589934592"},
        {{0xd0, 5}, 2, "5"},
        {{0xe0}, 1, "-32"},
        {{0x7f}, 1, "127"},
        {{0xd9, 1, 'x'}, 3, "'x'"},
        {{0xda, 0, 1, 'x'}, 4, "'x'"},
        {{0xdb, 0, 0, 0, 1, 'x'}, 6, "'x'"},
        {{0xdc, 0, 1, 0xa1, 'x'}, 5, "'x'"},
        {{0xdd, 0, 0, 0, 1, 0xa1, 'x'}, 7, "'x'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        msgpack_sbuffer f, m;
        msgpack_sbuffer_init(&f);
        msgpack_sbuffer_init(&m);
        snprintf(text, sizeof text, "{'field':'b','eq':%s}", cases[i].equal);
        pack_text(&f, text);
        /* As a map of 16 and of 32 bits, behind a field of the same form. */
        static const unsigned char head16[] = {0xde, 0, 2, 0xa1, 'a'}, head32[] = {0xdf, 0, 0, 0, 2, 0xd9, 1, 'a'};
        msgpack_sbuffer_write(&m, i % 2 ? (const char *)head16 : (const char *)head32,
                              i % 2 ? sizeof head16 : sizeof head32);
        msgpack_sbuffer_write(&m, (const char *)cases[i].bytes, cases[i].size);
        msgpack_sbuffer_write(&m,
                              "\xa1"
                              "b",
                              2);
        msgpack_sbuffer_write(&m, (const char *)cases[i].bytes, cases[i].size);
        filter *compiled = compile(&f);
        ck_assert_msg(match_bytes(compiled, &m), "case %zu", i);
        filter_free(compiled);
        msgpack_sbuffer_destroy(&f);
        msgpack_sbuffer_destroy(&m);
    }
}
END_TEST

START_TEST(hostile_bytes_neither_crash_nor_take_memory)
{
    sem_error error;
    random_state random;
    filter *f;
    static const unsigned char huge_array[] = {0xdd, 0xff, 0xff, 0xff, 0xff},
                               huge_map[] = {0xdf, 0xff, 0xff, 0xff, 0xff},
                               huge_string[] = {0xdb, 0xff, 0xff, 0xff, 0xff, 'a'};
    ck_fails(filter_parse(&f, huge_array, sizeof huge_array, &error), SEM_INVALID_ARGUMENT);
    ck_fails(filter_parse(&f, huge_map, sizeof huge_map, &error), SEM_INVALID_ARGUMENT);
    ck_fails(filter_parse(&f, huge_string, sizeof huge_string, &error), SEM_INVALID_ARGUMENT);
    ck_fails(filter_parse(&f, huge_string, 0, &error), SEM_INVALID_ARGUMENT);
    /* A filter of many small values would grow twentyfold in memory. */
    size_t many = 4 << 20;
    unsigned char *nils = malloc(many);
    memset(nils, 0xc0, many);
    nils[0] = 0xdd, nils[1] = 0, nils[2] = 0x3f, nils[3] = 0xff, nils[4] = 0xfb;
    ck_fails(filter_parse(&f, nils, many, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "items"));
    free(nils);
    random_seed(&random, testing_seed());
    msgpack_sbuffer b;
    msgpack_sbuffer_init(&b);
    pack_text(&b, "{'all':[{'field':'a','in':[1,'x',2.5]},{'not':{'field':'b','gt':3}},{'any':[]}]}");
    for (int round = 0; round < 20000; round++) {
        size_t size = 1 + random_below(&random, b.size);
        unsigned char *bytes = malloc(size);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (unsigned char)b.data[i];
        for (int change = 0; change < 3; change++)
            bytes[random_below(&random, size)] = (unsigned char)random_next(&random);
        if (filter_parse(&f, bytes, size, &error) == SEM_OK) {
            filter_match(f, bytes, size);
            filter_free(f);
        }
        free(bytes);
    }
    msgpack_sbuffer_destroy(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("filter");
    TCase *tests = tcase_create("filter");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, leaf_compares_values_of_one_type);
    tcase_add_test(tests, type_mismatch_never_matches);
    tcase_add_test(tests, missing_field_matches_only_exists_false_and_not);
    tcase_add_test(tests, array_matches_if_any_element_does);
    tcase_add_test(tests, a_field_behind_millions_of_elements_is_found);
    tcase_add_test(tests, operators_are_joined_by_and);
    tcase_add_test(tests, all_any_and_not_combine);
    tcase_add_test(tests, numbers_compare_exactly_in_every_type);
    tcase_add_test(tests, in_takes_as_many_values_as_can_be_configured);
    tcase_add_test(tests, depth_twelve_is_the_limit);
    tcase_add_test(tests, wrong_filters_are_refused_by_name);
    tcase_add_test(tests, nan_is_refused);
    tcase_add_test(tests, every_width_of_msgpack_is_read);
    tcase_add_test(tests, hostile_bytes_neither_crash_nor_take_memory);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
