/* For tests of proto/request.h: requests written as JSON, scanned and parsed. */
#ifndef SEM_TESTS_PROTO_REQUESTS_H
#define SEM_TESTS_PROTO_REQUESTS_H

#include "tests/common/testing.h"

#include "base/buffer.h"
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

static inline void setup(void)
{
    request_limits_defaults(&limits);
}

/* JSON with ' for ", so that tests read well. A string "bin:0102" becomes a bin. */
static inline void pack_value(packer *p, json_t *v)
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
static inline sem_status parse_raw(const char *method, const void *params, size_t size, request **out)
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
    sem_status status =
        request_parse(out, &(buffer){.data = exact, .size = size}, &limits, &msgid, &notification, &error);
    ck_assert_uint_eq(msgid, 5);
    ck_assert(!notification);
    ck_assert((status == SEM_OK) == (*out != NULL));
    return status;
}

static inline sem_status parse(const char *method, const char *json, request **out)
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

static inline request *ck_accepts(const char *method, const char *json)
{
    request *r;
    sem_status status = parse(method, json, &r);
    ck_assert_msg(status == SEM_OK, "%s %s: %s", method, json, error.message);
    return r;
}

static inline void ck_takes(const char *method, const char *json)
{
    request_free(ck_accepts(method, json));
}

/* Refused, and the message holds `part`. */
static inline void ck_refuses(const char *method, const char *json, const char *part)
{
    request *r;
    sem_status status = parse(method, json, &r);
    ck_assert_msg(status == SEM_INVALID_ARGUMENT, "%s %s: accepted", method, json);
    ck_assert_msg(strstr(error.message, part) != NULL, "%s %s: \"%s\" lacks \"%s\"", method, json, error.message, part);
}

static inline void ck_refuses_raw(const char *method, const void *params, size_t size, const char *part)
{
    request *r;
    ck_fails(parse_raw(method, params, size, &r), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, part) != NULL, "%s: \"%s\" lacks \"%s\"", method, error.message, part);
}

#define RAW(bytes) bytes, sizeof bytes - 1

static inline bool is(span s, const char *text)
{
    return s.data != NULL && s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

#endif
