#include "tests/common/testing.h"

#include "base/buffer.h"
#include "base/random.h"
#include "proto/frame.h"
#include "proto/pack.h"
#include "proto/request.h"

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

static request_limits limits;
static sem_error error;
static uint32_t msgid;
static bool notification;

static void setup(void)
{
    request_limits_defaults(&limits);
}

/* JSON with ' for ", so that tests read well. A string "bin:0102" becomes a bin. */
static void pack_value(packer *p, json_t *v)
{
    const char *key;
    json_t *member;
    size_t i;
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        pack_map(p, json_object_size(v));
        json_object_foreach(v, key, member)
        {
            pack_str(p, key);
            pack_value(p, member);
        }
        return;
    case JSON_ARRAY:
        pack_array(p, json_array_size(v));
        json_array_foreach(v, i, member) pack_value(p, member);
        return;
    case JSON_STRING:
        if (strncmp(json_string_value(v), "bin:", 4) == 0) {
            unsigned char bytes[256];
            const char *hex = json_string_value(v) + 4;
            for (i = 0; hex[2 * i] != '\0'; i++)
                sscanf(hex + 2 * i, "%2hhx", &bytes[i]);
            pack_bin(p, bytes, i);
            return;
        }
        pack_strn(p, json_string_value(v), json_string_length(v));
        return;
    case JSON_INTEGER: pack_int(p, json_integer_value(v)); return;
    case JSON_REAL: pack_double(p, json_real_value(v)); return;
    case JSON_NULL: pack_nil(p); return;
    default: pack_bool(p, json_is_true(v)); return;
    }
}

/* Scans and parses [0, 5, method, params]; params is raw MessagePack. */
static sem_status parse_raw(const char *method, const void *params, size_t size, request **out)
{
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    request_begin(&p, 5, method);
    pack_raw(&p, params, size);
    frame_scanner s;
    frame_limits frame = {.bytes = limits.frame_bytes, .depth = limits.depth};
    size_t length;
    frame_scanner_init(&s, &frame);
    ck_ok(frame_scan(&s, b.data, b.size, &length, &error));
    ck_assert_uint_eq(length, b.size);
    unsigned char *exact = malloc(b.size); /* a read too far is seen by a sanitizer */
    memcpy(exact, b.data, b.size);
    size = b.size;
    buffer_free(&b);
    msgid = 99;
    sem_status status = request_parse(out, exact, size, &limits, &msgid, &notification, &error);
    ck_assert_uint_eq(msgid, 5);
    ck_assert(!notification);
    ck_assert((status == SEM_OK) == (*out != NULL));
    return status;
}

static sem_status parse(const char *method, const char *json, request **out)
{
    char text[4096];
    snprintf(text, sizeof text, "%s", json);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    json_error_t where;
    json_t *v = json_loads(text, 0, &where);
    ck_assert_msg(v != NULL, "%s: %s", json, where.text);
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    pack_value(&p, v);
    json_decref(v);
    sem_status status = parse_raw(method, b.data, b.size, out);
    buffer_free(&b);
    return status;
}

static request *accepts(const char *method, const char *json)
{
    request *r;
    sem_status status = parse(method, json, &r);
    ck_assert_msg(status == SEM_OK, "%s %s: %s", method, json, error.message);
    return r;
}

static void takes(const char *method, const char *json)
{
    request_free(accepts(method, json));
}

/* Refused, and the message holds `part`. */
static void refuses(const char *method, const char *json, const char *part)
{
    request *r;
    sem_status status = parse(method, json, &r);
    ck_assert_msg(status == SEM_INVALID_ARGUMENT, "%s %s: accepted", method, json);
    ck_assert_msg(strstr(error.message, part) != NULL, "%s %s: \"%s\" lacks \"%s\"", method, json, error.message, part);
}

static void refuses_raw(const char *method, const void *params, size_t size, const char *part)
{
    request *r;
    ck_fails(parse_raw(method, params, size, &r), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, part) != NULL, "%s: \"%s\" lacks \"%s\"", method, error.message, part);
}

#define RAW(bytes) bytes, sizeof bytes - 1

static bool is(span s, const char *text)
{
    return s.data != NULL && s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

/* --- what holds for every method */

START_TEST(every_method_has_its_name_back)
{
    static const char *const names[] = {"ping",
                                        "info",
                                        "encode",
                                        "collection.create",
                                        "collection.drop",
                                        "collection.list",
                                        "upsert",
                                        "delete",
                                        "get",
                                        "count",
                                        "scroll",
                                        "search",
                                        "explain",
                                        "click",
                                        "feedback",
                                        "finetune",
                                        "job",
                                        "generations",
                                        "rollback",
                                        "model.load"};
    ck_assert_uint_eq(sizeof names / sizeof *names, METHOD_COUNT_OF);
    for (unsigned i = 0; i < METHOD_COUNT_OF; i++)
        ck_assert_str_eq(rpc_method_name((rpc_method)i), names[i]);
}
END_TEST

START_TEST(unknown_method_is_named)
{
    refuses("watch", "[]", "unknown method: watch");
    ck_assert_str_eq(error.message, "unknown method: watch");
    refuses("", "[]", "unknown method: ");
    refuses("Ping", "[]", "unknown method: Ping");
    char name[2000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    refuses(name, "[]", "unknown method: xxx");
    refuses("a\nb", "[]", "unknown method: a?b");
}
END_TEST

START_TEST(params_is_an_array_that_holds_one_map)
{
    takes("ping", "[]");
    takes("ping", "[{}]");
    takes("ping", "[{'deadline_ms': 100}]");
    takes("search", "[{'query': 'x'}]");
    refuses_raw("ping", RAW("\xc0"), "params");
    refuses_raw("ping", RAW("\x80"), "params");
    refuses_raw("ping", RAW("\x91\xc0"), "params");
    refuses_raw("ping", RAW("\x92\x80\x80"), "params");
    refuses("encode", "[]", "texts: required");
    refuses("search", "[['query', 'x']]", "params[0]");
}
END_TEST

START_TEST(method_of_another_type_is_refused)
{
    static const unsigned char frame[] = {0x94, 0x00, 0x05, 0x07, 0x90};
    request *r;
    unsigned char *copy = malloc(sizeof frame);
    memcpy(copy, frame, sizeof frame);
    ck_fails(request_parse(&r, copy, sizeof frame, &limits, &msgid, &notification, &error), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(msgid, 5);
}
END_TEST

START_TEST(notification_is_told_apart)
{
    static const unsigned char frame[] = {0x93, 0x02, 0xa4, 'p', 'i', 'n', 'g', 0x90};
    request *r;
    unsigned char *copy = malloc(sizeof frame);
    memcpy(copy, frame, sizeof frame);
    ck_ok(request_parse(&r, copy, sizeof frame, &limits, &msgid, &notification, &error));
    ck_assert(notification && r->notification);
    ck_assert_int_eq(r->method, METHOD_PING);
    request_free(r);
}
END_TEST

START_TEST(unknown_key_is_named_with_those_allowed)
{
    refuses("search", "[{'query': 'x', 'limit': 3}]", "unknown key \"limit\"");
    ck_assert_ptr_nonnull(strstr(error.message, "nprobe"));
    ck_assert_ptr_nonnull(strstr(error.message, "deadline_ms"));
    refuses("ping", "[{'x': 1}]", "unknown key \"x\"; allowed here: deadline_ms");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a', 'txt': 'b'}]}]", "docs[0]: unknown key \"txt\"");
    refuses("collection.create", "[{'name': 'a', 'options': {'dims': 3}}]", "unknown key \"dims\"");
}
END_TEST

START_TEST(key_twice_is_refused_at_every_level)
{
    refuses_raw("ping",
                RAW("\x91\x82\xab"
                    "deadline_ms\x01\xab"
                    "deadline_ms\x01"),
                "deadline_ms: given twice");
    refuses_raw("upsert",
                RAW("\x91\x81\xa4"
                    "docs\x91\x83\xa2"
                    "id\x01\xa2"
                    "id\x01\xa4text\xa0"),
                "docs[0]: id: given twice");
    refuses_raw("upsert",
                RAW("\x91\x81\xa4"
                    "docs\x91\x83\xa2"
                    "id\x01\xa4text\xa0\xa4meta\x82\xa1"
                    "a\x01\xa1"
                    "a\x02"),
                "docs[0]: meta: key \"a\" given twice");
    refuses_raw("count",
                RAW("\x91\x81\xa6"
                    "filter\x81\xa3"
                    "all\x91\x82\xa1"
                    "a\x01\xa1"
                    "a\x02"),
                "filter: key \"a\" given twice");
}
END_TEST

START_TEST(key_that_is_no_str_is_refused_at_every_level)
{
    refuses_raw("ping", RAW("\x91\x81\x01\x01"), "a str as every key");
    refuses_raw("count",
                RAW("\x91\x81\xa6"
                    "filter\x81\xc4\x01"
                    "a\x01"),
                "a str as every key");
    refuses_raw("upsert",
                RAW("\x91\x81\xa4"
                    "docs\x91\x83\xa2"
                    "id\x01\xa4text\xa0\xa4meta\x81\x01\x01"),
                "docs[0]: meta: must be a str as every key");
}
END_TEST

START_TEST(ext_and_bad_utf8_are_refused_and_keep_the_connection)
{
    refuses_raw("search", RAW("\x91\x81\xa5query\xd4\x01\x00"), "query: must be a str, found an ext");
    refuses_raw("search", RAW("\x91\x81\xa5query\xa2\xc3\x28"), "query: is not valid UTF-8");
    refuses_raw("search", RAW("\x91\x81\xa2\xff\xfe\xa1x"), "unknown key \"(not UTF-8)\"");
    refuses_raw("count",
                RAW("\x91\x81\xa6"
                    "filter\x82\xa5"
                    "field\xa1"
                    "a\xa2"
                    "eq\xd4\x01\x00"),
                "filter: eq: ");
    refuses_raw("count",
                RAW("\x91\x81\xa6"
                    "filter\x82\xa5"
                    "field\xa1"
                    "a\xa2"
                    "eq\xa1\xff"),
                "filter: eq: is not valid UTF-8");
    refuses_raw("count",
                RAW("\x91\x81\xa6"
                    "filter\x81\xa1\xff\x01"),
                "key is not valid UTF-8");
}
END_TEST

START_TEST(deadline_is_taken_by_every_method)
{
    request *r = accepts("count", "[{'deadline_ms': 0}]");
    ck_assert(r->has_deadline);
    ck_assert_uint_eq(r->deadline_ms, 0);
    request_free(r);
    takes("generations", "[{'deadline_ms': 4294967295}]");
    refuses("count", "[{'deadline_ms': 4294967296}]", "deadline_ms: must be from 0 to 4,294,967,295");
    refuses("count", "[{'deadline_ms': -1}]", "deadline_ms");
    refuses("count", "[{'deadline_ms': 1.5}]", "deadline_ms: must be an integer, found a float");
    refuses("count", "[{'deadline_ms': null}]", "deadline_ms");
}
END_TEST

START_TEST(collection_names_have_their_form)
{
    request *r = accepts("count", "[]");
    ck_assert(is(r->collection, "default") && !r->has_collection);
    request_free(r);
    r = accepts("count", "[{'collection': 'a-b_9'}]");
    ck_assert(is(r->collection, "a-b_9") && r->has_collection);
    request_free(r);
    refuses("count", "[{'collection': ''}]", "collection");
    refuses("count", "[{'collection': 'A'}]", "found \"A\"");
    refuses("count", "[{'collection': '../x'}]", "collection");
    refuses("count", "[{'collection': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]", "64");
    takes("count", "[{'collection': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]");
}
END_TEST

/* --- documents */

START_TEST(upsert_reads_documents)
{
    request *r = accepts("upsert", "[{'collection': 'c', 'generation': 3, 'docs': ["
                                   "{'id': 7, 'text': ''},"
                                   "{'id': '7', 'text': 'b', 'meta': {'x': [ 'u', 'v' ], 'y': 1.5, 'z': null}},"
                                   "{'text': 'c', 'id': 'd', 'vector': 'bin:0000803f00000000'}]}]");
    ck_assert_uint_eq(r->u.upsert.count, 3);
    ck_assert(r->u.upsert.docs[0].id.is_integer && r->u.upsert.docs[0].id.integer == 7);
    ck_assert(r->u.upsert.docs[0].text.data != NULL && r->u.upsert.docs[0].text.size == 0);
    ck_assert_ptr_null(r->u.upsert.docs[0].meta.data);
    ck_assert(!r->u.upsert.docs[1].id.is_integer && r->u.upsert.docs[1].id.length == 1);
    ck_assert_int_eq((unsigned char)r->u.upsert.docs[1].meta.data[0], 0x83);
    ck_assert_uint_eq(r->u.upsert.docs[1].meta.size, 1 + 2 + 5 + 2 + 9 + 2 + 1);
    ck_assert_uint_eq(r->u.upsert.docs[2].vector.size, 8);
    ck_assert(r->u.upsert.has_generation && r->u.upsert.generation == 3);
    request_free(r);
    takes("upsert", "[{'docs': []}]");
}
END_TEST

START_TEST(upsert_refuses_bad_documents)
{
    refuses("upsert", "[{}]", "docs: required");
    refuses("upsert", "[{'docs': {}}]", "docs: must be an array");
    refuses("upsert", "[{'docs': [3]}]", "docs[0]: must be a map");
    refuses("upsert", "[{'docs': [{'id': 1}]}]", "docs[0]: text: required");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a'}, {'text': 'a'}]}]", "docs[1]: id: required");
    refuses("upsert", "[{'docs': [{'id': -1, 'text': 'a'}]}]", "docs[0]: id: must be a str or an unsigned integer");
    refuses("upsert", "[{'docs': [{'id': 1.0, 'text': 'a'}]}]", "id");
    refuses("upsert", "[{'docs': [{'id': '', 'text': 'a'}]}]", "1 to 480 bytes");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a'}], 'generation': 0}]", "generation");
    refuses_raw("upsert",
                RAW("\x91\x81\xa4"
                    "docs\x91\x82\xa2"
                    "id\x01\xa4text\xa3"
                    "a\0b"),
                "docs[0]: text: must not hold a NUL character, found one at byte 1");
}
END_TEST

START_TEST(id_has_at_most_480_bytes)
{
    char id[500], json[600];
    memset(id, 'i', sizeof id);
    id[480] = '\0';
    snprintf(json, sizeof json, "[{'ids': ['%s']}]", id);
    takes("get", json);
    id[480] = 'i';
    id[481] = '\0';
    snprintf(json, sizeof json, "[{'ids': [1, '%s']}]", id);
    refuses("get", json, "ids[1]: must have 1 to 480 bytes, found 481");
}
END_TEST

START_TEST(broken_limits_are_named)
{
    limits.upsert_docs = 1;
    refuses("upsert", "[{'docs': [{'id': 1, 'text': ''}, {'id': 2, 'text': ''}]}]",
            "docs: 2 documents, at most 1 (limits.upsert_docs)");
    limits.text_bytes = 3;
    refuses("search", "[{'query': 'four'}]", "query: 4 bytes, at most 3 (limits.text_bytes)");
    refuses("encode", "[{'texts': ['abc', 'four']}]", "texts[1]: 4 bytes");
    limits.max_batch = 1;
    refuses("encode", "[{'texts': ['a', 'b']}]", "texts: 2 texts, at most 1 (limits.max_batch)");
    limits.ids = 2;
    refuses("get", "[{'ids': [1, 2, 3]}]", "ids: 3 ids, at most 2 (limits.ids)");
    refuses("delete", "[{'ids': [1, 2, 3]}]", "ids: 3 ids, at most 2 (limits.ids)");
    limits.k = 5;
    refuses("search", "[{'query': 'a', 'k': 6}]", "k: limits.k: must be from 1 to 5, found 6");
    limits.scroll = 5;
    refuses("scroll", "[{'limit': 6}]", "limit: limits.scroll");
    limits.meta_fields = 1;
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': 1, 'b': 2}}]}]",
            "docs[0]: meta: 2 fields, at most 1 (limits.meta_fields)");
    limits.upsert_docs = 2;
    limits.meta_bytes = 4;
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'abc': 1}}]}]",
            "docs[0]: meta: 6 bytes, at most 4 (limits.meta_bytes)");
    limits.filter_values = 2;
    refuses("count", "[{'filter': {'field': 'a', 'in': [1, 2, 3]}}]",
            "filter: in: 3 values, at most 2 (limits.filter_values)");
    limits.upsert_docs = 1001;
    request_limits_defaults(&limits);
    char *params = calloc(1, 9 + 1001);
    memcpy(params,
           "\x91\x81\xa4"
           "docs\xdc\x03\xe9",
           10);
    char *all = realloc(params, 10 + 1001);
    memset(all + 10, 0x80, 1001);
    refuses_raw("upsert", all, 10 + 1001, "docs: 1,001 documents, at most 1,000");
    free(all);
}
END_TEST

START_TEST(defaults_follow_lower_limits)
{
    limits.k = 5;
    limits.scroll = 7;
    request *r = accepts("search", "[{'query': 'a'}]");
    ck_assert_uint_eq(r->u.search.k, 5);
    request_free(r);
    r = accepts("scroll", "[]");
    ck_assert_uint_eq(r->u.scroll.limit, 7);
    request_free(r);
}
END_TEST

START_TEST(meta_is_flat)
{
    takes("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {}}]}]");
    takes("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': null, 'b': true, 'c': -3, 'd': 'x', 'e': []}}]}]");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': []}]}]", "meta: must be a map");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': {}}}]}]", "meta: a: must be nil, bool");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': [1]}}]}]", "meta: a: [0]: must be a str");
    refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': 'bin:00'}}]}]", "found a bin");
    refuses_raw("upsert",
                RAW("\x91\x81\xa4"
                    "docs\x91\x83\xa2"
                    "id\x01\xa4text\xa0\xa4meta\x81\xa1"
                    "a\xca\x7f\xc0\x00\x00"),
                "meta: a: must not be NaN");
}
END_TEST

START_TEST(many_keys_are_checked_without_quadratic_work)
{
    /* 100,000 distinct keys, then one of them again; the limit is raised to let them in. */
    limits.meta_fields = 200000;
    limits.meta_bytes = 64 << 20;
    for (int twice = 0; twice < 2; twice++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        pack_array(&p, 1);
        pack_map(&p, 1);
        pack_str(&p, "docs");
        pack_array(&p, 1);
        pack_map(&p, 3);
        pack_str(&p, "id");
        pack_uint(&p, 1);
        pack_str(&p, "text");
        pack_str(&p, "");
        pack_str(&p, "meta");
        pack_map(&p, 100001);
        for (int i = 0; i < 100001; i++) {
            char key[32];
            snprintf(key, sizeof key, "key%06d", i == 100000 && twice == 1 ? 50000 : i);
            pack_str(&p, key);
            pack_nil(&p);
        }
        request *r;
        ck_assert_int_eq(parse_raw("upsert", b.data, b.size, &r), twice == 0 ? SEM_OK : SEM_INVALID_ARGUMENT);
        request_free(r);
        buffer_free(&b);
    }
    ck_assert_ptr_nonnull(strstr(error.message, "key050000"));
}
END_TEST

START_TEST(vector_is_finite_and_not_zero)
{
    takes("search", "[{'vector': 'bin:0000803f'}]");
    takes("search", "[{'vector': 'bin:00000000010000000000008000000000'}]");
    refuses("search", "[{'vector': 'bin:'}]", "vector: must have 4 bytes a dimension, found 0");
    refuses("search", "[{'vector': 'bin:000080'}]", "found 3 bytes");
    refuses("search", "[{'vector': 'bin:0000000000000080'}]", "vector: must not be zero");
    refuses("search", "[{'vector': 'bin:0000803f0000807f'}]", "dimension 1");
    refuses("search", "[{'vector': 'bin:0000c0ff'}]", "must be finite");
    refuses("search", "[{'vector': [1.0]}]", "vector: must be a bin, found an array");
}
END_TEST

START_TEST(delete_takes_ids_or_a_filter)
{
    request *r = accepts("delete", "[{'ids': [1, 'a']}]");
    ck_assert_uint_eq(r->u.erase.count, 2);
    request_free(r);
    r = accepts("delete", "[{'ids': []}]");
    ck_assert(r->u.erase.ids != NULL && r->u.erase.count == 0);
    request_free(r);
    r = accepts("delete", "[{'filter': {'field': 'a', 'eq': 1}}]");
    ck_assert(r->u.erase.ids == NULL && r->u.erase.filter.data != NULL);
    request_free(r);
    refuses("delete", "[{}]", "exactly one");
    refuses("delete", "[{'ids': [], 'filter': {}}]", "exactly one");
}
END_TEST

START_TEST(get_and_scroll_take_a_subset_of_parts)
{
    request *r = accepts("get", "[{'ids': [1]}]");
    ck_assert_uint_eq(r->u.get.with, WITH_TEXT | WITH_META);
    request_free(r);
    r = accepts("get", "[{'ids': [1], 'with': []}]");
    ck_assert_uint_eq(r->u.get.with, 0);
    request_free(r);
    r = accepts("scroll", "[{'with': ['vector', 'text'], 'after': 'xyz', 'limit': 1000}]");
    ck_assert_uint_eq(r->u.scroll.with, WITH_TEXT | WITH_VECTOR);
    ck_assert(is(r->u.scroll.after, "xyz") && r->u.scroll.limit == 1000);
    request_free(r);
    r = accepts("scroll", "[]");
    ck_assert(r->u.scroll.after.data == NULL && r->u.scroll.limit == 100);
    request_free(r);
    refuses("get", "[{'ids': [1], 'with': ['score']}]", "with: must be one of \"text\", \"meta\", \"vector\"");
    refuses("get", "[{'ids': [1], 'with': ['text', 'text']}]", "twice");
    refuses("get", "[{'ids': [1], 'with': 'text'}]", "with: must be an array");
    refuses("scroll", "[{'after': null}]", "after");
    refuses("scroll", "[{'limit': 0}]", "limit");
}
END_TEST

START_TEST(filter_keeps_its_bytes)
{
    request *r =
        accepts("count", "[{'filter': {'all': [{'field': 'a', 'in': [1, 'b', null]}, {'not': {'any': []}}]}}]");
    ck_assert_int_eq((unsigned char)r->u.count.filter.data[0], 0x81);
    const char *end = r->u.count.filter.data + r->u.count.filter.size;
    ck_assert_ptr_eq(end, (const char *)r->frame + r->frame_size);
    request_free(r);
    refuses("count", "[{'filter': []}]", "filter: must be a map");
    refuses("count",
            "[{'filter': {'a':1,'b':1,'c':1,'d':1,'e':1,'f':1,'g':1,'h':1,'i':1,'j':1,'k':1,'l':1,'m':1,"
            "'n':1,'o':1,'p':1,'q':1}}]",
            "filter: a map of 17 keys");
}
END_TEST

/* --- searching */

START_TEST(explain_takes_what_search_takes)
{
    request *r = accepts("explain", "[{'query': 'a', 'k': 3, 'recall': 0.5, 'log': true, 'user': 'u'}]");
    ck_assert_int_eq(r->method, METHOD_EXPLAIN);
    ck_assert_uint_eq(r->u.search.k, 3);
    ck_assert_double_eq(r->u.search.recall, 0.5);
    request_free(r);
    refuses("explain", "[{}]", "query, vector, like: exactly one of the three must be given");
    refuses("explain", "[{'query': 'a', 'kk': 3}]", "unknown key \"kk\"");
}
END_TEST

START_TEST(search_takes_one_subject)
{
    request *r = accepts("search", "[{'query': 'x'}]");
    ck_assert(is(r->u.search.query, "x") && r->u.search.k == 10 && r->u.search.log && r->u.search.with == 0);
    ck_assert(r->u.search.mode == SEARCH_DENSE && !r->u.search.exact && !r->u.search.has_recall);
    request_free(r);
    r = accepts("search", "[{'like': 0}]");
    ck_assert(r->u.search.has_like && r->u.search.like.is_integer);
    request_free(r);
    takes("search", "[{'vector': 'bin:0000803f', 'generation': 2}]");
    refuses("search", "[{}]", "exactly one of the three");
    refuses("search", "[{'query': 'x', 'like': 1}]", "exactly one of the three");
    refuses("search", "[{'query': 'x', 'vector': 'bin:0000803f'}]", "exactly one of the three");
    refuses("search", "[{'query': 'x', 'generation': 2}]", "generation: goes only with vector");
}
END_TEST

START_TEST(search_options_exclude_each_other)
{
    refuses("search", "[{'query': 'x', 'recall': 0.9, 'nprobe': 3}]", "exclude each other");
    refuses("search", "[{'query': 'x', 'recall': 0.9, 'exact': true}]", "exclude each other");
    refuses("search", "[{'query': 'x', 'nprobe': 3, 'exact': true}]", "exclude each other");
    takes("search", "[{'query': 'x', 'nprobe': 3, 'exact': false}]");
}
END_TEST

START_TEST(search_options_have_their_ranges)
{
    request *r = accepts("search",
                         "[{'query': 'x', 'recall': 1, 'k': 10000, 'mode': 'hybrid', 'log': false, 'user': 'u',"
                         "'with': ['text','meta','vector'], 'filter': {}}]");
    ck_assert(r->u.search.has_recall && r->u.search.recall == 1.0 && r->u.search.mode == SEARCH_HYBRID);
    ck_assert(is(r->u.search.user, "u") && !r->u.search.log && r->u.search.with == 7);
    request_free(r);
    takes("search", "[{'query': 'x', 'mode': 'lexical'}]");
    refuses("search", "[{'query': 'x', 'recall': 0}]", "recall: must be above 0");
    refuses("search", "[{'query': 'x', 'recall': 1.01}]", "recall: must be from 0 to 1");
    refuses("search", "[{'query': 'x', 'recall': -0.5}]", "recall");
    refuses("search", "[{'query': 'x', 'recall': '1'}]", "recall: must be a number, found a str");
    refuses("search", "[{'query': 'x', 'nprobe': 0}]", "nprobe");
    refuses("search", "[{'query': 'x', 'k': 0}]", "k");
    refuses("search", "[{'query': 'x', 'k': 10001}]", "10,001");
    refuses("search", "[{'query': 'x', 'k': 10.0}]", "k: limits.k: must be an integer");
    refuses("search", "[{'query': 'x', 'mode': 'fuzzy'}]", "mode: must be one of \"dense\", \"lexical\", \"hybrid\"");
    refuses("search", "[{'query': 'x', 'exact': 1}]", "exact: must be a bool");
    refuses_raw("search", RAW("\x91\x82\xa5query\xa1x\xa6recall\xcb\x7f\xf8\0\0\0\0\0\0"), "recall");
    char user[300], json[400];
    memset(user, 'u', sizeof user);
    user[257] = '\0';
    snprintf(json, sizeof json, "[{'query': 'x', 'user': '%s'}]", user);
    refuses("search", json, "user: 257 bytes, at most 256");
    snprintf(json, sizeof json, "[{'query': 'x', 'user': '%s'}]", user + 1);
    takes("search", json);
}
END_TEST

START_TEST(click_reads_its_weight)
{
    request *r = accepts("click", "[{'query_id': 'q', 'id': 'a'}]");
    ck_assert(is(r->u.click.query_id, "q") && r->u.click.weight == 1.0);
    request_free(r);
    r = accepts("click", "[{'query_id': 'q', 'id': 3, 'weight': 10}]");
    ck_assert(r->u.click.weight == 10.0 && r->u.click.id.integer == 3);
    request_free(r);
    takes("click", "[{'query_id': 'q', 'id': 3, 'weight': 0}]");
    refuses("click", "[{'query_id': 'q', 'id': 3, 'weight': 10.5}]", "weight: must be from 0 to 10");
    refuses("click", "[{'query_id': 'q', 'id': 3, 'weight': -1}]", "weight");
    refuses("click", "[{'query_id': '', 'id': 3}]", "query_id: must not be empty");
    refuses("click", "[{'query_id': 'q'}]", "id: required");
    refuses("click", "[{'query_id': 'q', 'id': 1, 'collection': 'c'}]", "unknown key \"collection\"");
    refuses("click", "[{'query_id': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'id': 3}]",
            "query_id: 65 bytes");
}
END_TEST

START_TEST(feedback_pairs_name_a_document_or_a_text)
{
    request *r = accepts("feedback", "[{'collection': 'c', 'pairs': [{'query': 'q', 'id': 0, 'label': 1},"
                                     "{'query': 'q', 'text': 't', 'label': -1}]}]");
    ck_assert(r->u.feedback.pairs[0].by_id && r->u.feedback.pairs[0].label == 1);
    ck_assert(!r->u.feedback.pairs[1].by_id && is(r->u.feedback.pairs[1].text, "t"));
    ck_assert_int_eq(r->u.feedback.pairs[1].label, -1);
    request_free(r);
    refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0}]}]", "pairs[0]: label: required");
    refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 0}]}]", "pairs[0]: label: must be the integer 1");
    refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 1.0}]}]", "label");
    refuses("feedback", "[{'pairs': [{'query': 'q', 'label': 1}]}]", "exactly one of the two");
    refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 1, 'text': '', 'label': 1}]}]", "exactly one of the two");
    refuses("feedback", "[{}]", "pairs: required");
}
END_TEST

/* --- the model and the house */

START_TEST(encode_reads_its_options)
{
    request *r = accepts("encode", "[{'texts': ['a', 'b']}]");
    ck_assert(r->u.encode.count == 2 && r->u.encode.truncate && !r->u.encode.as_array);
    ck_assert(is(r->u.encode.texts[1], "b") && r->u.encode.precision == PRECISION_FLOAT32);
    request_free(r);
    r = accepts("encode", "[{'texts': [''], 'prompt': 'query', 'truncate': false, 'encoding': 'array',"
                          "'precision': 'binary'}]");
    ck_assert(!r->u.encode.truncate && r->u.encode.as_array && r->u.encode.precision == PRECISION_BINARY);
    ck_assert(is(r->u.encode.prompt, "query"));
    request_free(r);
    refuses("encode", "[{'texts': []}]", "texts: must hold one text at least");
    refuses("encode", "[{'texts': 'a'}]", "texts: must be an array");
    refuses("encode", "[{'texts': ['a', 3]}]", "texts[1]: must be a str");
    refuses("encode", "[{'texts': ['a'], 'precision': 'float16'}]", "precision");
    refuses("encode", "[{'texts': ['a'], 'collection': 'c'}]", "unknown key");
}
END_TEST

START_TEST(collection_options_fit_together)
{
    request *r = accepts("collection.create", "[{'name': 'n'}]");
    ck_assert(is(r->collection, "n") && r->u.create.lexical && !r->u.create.external && !r->u.create.dot);
    request_free(r);
    r = accepts("collection.create", "[{'name': 'n', 'options': {'vectors': 'external', 'dim': 8, 'metric': 'dot',"
                                     "'lexical': false}}]");
    ck_assert(!r->u.create.lexical && r->u.create.external && r->u.create.dot && r->u.create.dim == 8);
    request_free(r);
    refuses("collection.create", "[{}]", "name: required");
    refuses("collection.create", "[{'name': 'n', 'options': {'vectors': 'external'}}]", "options.dim: required");
    refuses("collection.create", "[{'name': 'n', 'options': {'dim': 8}}]", "options.dim: goes only with");
    refuses("collection.create", "[{'name': 'n', 'options': {'dim': 0, 'vectors': 'external'}}]",
            "options.dim: must be");
    refuses("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 64}}]",
            "options.passage_tokens: passages are not supported by this version");
    ck_assert_str_eq(error.message, "options.passage_tokens: passages are not supported by this version");
    refuses("collection.create", "[{'name': 'n', 'options': 3}]", "options: must be a map");
    refuses("collection.create", "[{'name': 'n', 'options': {'metric': 'l2'}}]", "options.metric: must be one of");
    takes("collection.drop", "[{'name': 'n'}]");
    refuses("collection.drop", "[{'name': 'n', 'options': {}}]", "unknown key");
    refuses("collection.drop", "[]", "name: required");
}
END_TEST

START_TEST(jobs_and_generations_are_numbered_from_one)
{
    request *r = accepts("finetune", "[{'mode': 'auto', 'wait': true, 'collection': 'c'}]");
    ck_assert(is(r->u.finetune.mode, "auto") && r->u.finetune.wait);
    request_free(r);
    takes("finetune", "[]");
    refuses("finetune", "[{'mode': 'half'}]", "mode");
    r = accepts("job", "[{'job': 3, 'cancel': true}]");
    ck_assert(r->u.job.has_job && r->u.job.job == 3 && r->u.job.cancel);
    request_free(r);
    refuses("job", "[{'job': 0}]", "job");
    r = accepts("rollback", "[]");
    ck_assert(!r->u.rollback.has_generation);
    request_free(r);
    refuses("rollback", "[{'generation': 4294967296}]", "generation");
    r = accepts("model.load", "[{'path': '/m'}]");
    ck_assert(is(r->u.model_load.path, "/m") && r->u.model_load.gate);
    request_free(r);
    refuses("model.load", "[{'path': ''}]", "path");
    refuses_raw("model.load",
                RAW("\x91\x81\xa4path\xa3"
                    "a\0b"),
                "path: must not hold a NUL");
}
END_TEST

START_TEST(mutated_requests_never_break_the_parser)
{
    static const char *const seeds[][2] = {
        {"upsert", "[{'collection': 'c', 'docs': [{'id': 7, 'text': 'abc', 'meta': {'x': ['u'], 'y': 1},"
                   "'vector': 'bin:0000803f'}]}]"},
        {"search", "[{'query': 'x', 'k': 3, 'filter': {'all': [{'field': 'a', 'in': [1, 'b']}]}, 'with': ['text']}]"},
        {"feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 1}]}]"},
        {"collection.create", "[{'name': 'n', 'options': {'vectors': 'external', 'dim': 8}}]"},
    };
    random_state random;
    random_seed(&random, testing_seed());
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        request *r = accepts(seeds[i][0], seeds[i][1]);
        size_t size = r->frame_size, parsed = 0;
        for (int round = 0; round < 20000; round++) {
            unsigned char *copy = malloc(size);
            memcpy(copy, r->frame, size);
            for (uint64_t n = 1 + random_below(&random, 3); n > 0; n--)
                copy[random_below(&random, size)] = (unsigned char)random_next(&random);
            size_t cut = random_below(&random, 8) == 0 ? 1 + random_below(&random, size) : size;
            request *mutant; /* not scanned on purpose: the parser stays inside its bytes by itself */
            if (request_parse(&mutant, copy, cut, &limits, &msgid, &notification, &error) == SEM_OK)
                parsed++;
            request_free(mutant);
        }
        ck_assert_uint_gt(parsed, 0);
        request_free(r);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *c = tcase_create("request");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, every_method_has_its_name_back);
    tcase_add_test(c, unknown_method_is_named);
    tcase_add_test(c, params_is_an_array_that_holds_one_map);
    tcase_add_test(c, method_of_another_type_is_refused);
    tcase_add_test(c, notification_is_told_apart);
    tcase_add_test(c, unknown_key_is_named_with_those_allowed);
    tcase_add_test(c, key_twice_is_refused_at_every_level);
    tcase_add_test(c, key_that_is_no_str_is_refused_at_every_level);
    tcase_add_test(c, ext_and_bad_utf8_are_refused_and_keep_the_connection);
    tcase_add_test(c, deadline_is_taken_by_every_method);
    tcase_add_test(c, collection_names_have_their_form);
    tcase_add_test(c, upsert_reads_documents);
    tcase_add_test(c, upsert_refuses_bad_documents);
    tcase_add_test(c, id_has_at_most_480_bytes);
    tcase_add_test(c, broken_limits_are_named);
    tcase_add_test(c, defaults_follow_lower_limits);
    tcase_add_test(c, meta_is_flat);
    tcase_add_test(c, many_keys_are_checked_without_quadratic_work);
    tcase_add_test(c, vector_is_finite_and_not_zero);
    tcase_add_test(c, delete_takes_ids_or_a_filter);
    tcase_add_test(c, get_and_scroll_take_a_subset_of_parts);
    tcase_add_test(c, filter_keeps_its_bytes);
    tcase_add_test(c, explain_takes_what_search_takes);
    tcase_add_test(c, search_takes_one_subject);
    tcase_add_test(c, search_options_exclude_each_other);
    tcase_add_test(c, search_options_have_their_ranges);
    tcase_add_test(c, click_reads_its_weight);
    tcase_add_test(c, feedback_pairs_name_a_document_or_a_text);
    tcase_add_test(c, encode_reads_its_options);
    tcase_add_test(c, collection_options_fit_together);
    tcase_add_test(c, jobs_and_generations_are_numbered_from_one);
    tcase_add_test(c, mutated_requests_never_break_the_parser);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
