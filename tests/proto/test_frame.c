#include "tests/common/testing.h"

#include "base/clock.h"
#include "base/random.h"
#include "proto/frame.h"
#include "proto/pack.h"
#include "proto/value.h"

#include <msgpack.h>

#include <stdlib.h>
#include <string.h>

static const frame_limits LIMITS = {.bytes = 64 << 20, .depth = 32};

/* Scans all of it at once. */
static sem_status scan(const void *data, size_t size, const frame_limits *limits, frame_scanner *s, size_t *length,
                       sem_error *error)
{
    frame_scanner_init(s, limits);
    return frame_scan(s, data, size, length, error);
}

static sem_status scan_text(const char *bytes, size_t size)
{
    frame_scanner s;
    size_t length;
    sem_error error;
    return scan(bytes, size, &LIMITS, &s, &length, &error);
}

#define SCAN(bytes) scan_text(bytes, sizeof bytes - 1)

/* [0, 7, "m", [every kind of value]] */
static void pack_everything(buffer *out)
{
    packer p;
    pack_init(&p, out);
    request_begin(&p, 7, "m");
    pack_array(&p, 16);
    pack_nil(&p);
    pack_bool(&p, true);
    pack_uint(&p, UINT64_MAX);
    pack_int(&p, INT64_MIN);
    pack_int(&p, -7);
    pack_double(&p, 0.5);
    pack_float(&p, 0.25F);
    pack_str(&p, "");
    char text[70000];
    memset(text, 'x', sizeof text);
    pack_strn(&p, text, 31);
    pack_strn(&p, text, 200);
    pack_strn(&p, text, sizeof text);
    pack_bin(&p, text, 200);
    pack_bin(&p, text, sizeof text);
    pack_map(&p, 1);
    pack_str(&p, "k");
    pack_array(&p, 0);
    pack_raw(&p, "\xd5\x01yy", 4); /* fixext 2 */
    pack_raw(&p,
             "\xc7\x03\x05"
             "abc",
             6); /* ext 8 */
    ck_assert(!p.failed);
}

START_TEST(frame_is_found_however_it_is_split)
{
    sem_error error;
    buffer b = {0};
    pack_everything(&b);
    size_t whole = b.size;
    buffer_append(&b, "\x94\x00", 2); /* the next frame has begun */
    for (size_t step = 1; step < 5000; step = step * 3 + 1) {
        frame_scanner s;
        size_t length = 0, given = 0;
        frame_scanner_init(&s, &LIMITS);
        while (length == 0 && given < b.size) {
            given = given + step < b.size ? given + step : b.size;
            ck_ok(frame_scan(&s, b.data, given, &length, &error));
            ck_assert(length == 0 || given >= whole);
        }
        ck_assert_uint_eq(length, whole);
        ck_assert(s.is_request && s.has_msgid);
        ck_assert_uint_eq(s.msgid, 7);
    }
    buffer_free(&b);
}
END_TEST

START_TEST(large_frame_in_single_bytes_costs_linear_work)
{
    /* Work is counted, not timed: the scanner must never look at a byte of a payload. */
    sem_error error;
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    request_begin(&p, 1, "upsert");
    pack_array(&p, 1);
    size_t size = 4 << 20;
    char *text = calloc(1, size);
    pack_bin(&p, text, size);
    free(text);
    frame_scanner s;
    size_t length = 0;
    frame_scanner_init(&s, &LIMITS);
    for (size_t given = 1; given <= b.size; given++) {
        size_t before = s.position;
        ck_ok(frame_scan(&s, b.data, given, &length, &error));
        ck_assert_uint_ge(s.position, before);
        ck_assert_uint_le(given - s.position, 9); /* only a head is ever looked at twice */
    }
    ck_assert_uint_eq(length, b.size);
    buffer_free(&b);
}
END_TEST

START_TEST(msgid_is_taken_in_any_integer_encoding)
{
    static const struct {
        const char *bytes;
        size_t size;
        uint32_t msgid;
    } cases[] = {
        {"\x94\x00\x05\xa1m\x90", 6, 5},
        {"\x94\x00\xcc\x05\xa1m\x90", 7, 5},
        {"\x94\x00\xcd\x00\x05\xa1m\x90", 8, 5},
        {"\x94\x00\xce\xff\xff\xff\xff\xa1m\x90", 10, UINT32_MAX},
        {"\x94\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x05\xa1m\x90", 14, 5},
        {"\x94\x00\xd0\x05\xa1m\x90", 7, 5},
        {"\x94\x00\xd1\x00\x05\xa1m\x90", 8, 5},
        {"\x94\x00\xd2\x00\x00\x00\x05\xa1m\x90", 10, 5},
        {"\x94\x00\xd3\x00\x00\x00\x00\x00\x00\x00\x05\xa1m\x90", 14, 5},
        {"\xdc\x00\x04\xcc\x00\x05\xa1m\x90", 9, 5},
        {"\xdd\x00\x00\x00\x04\xd0\x00\x05\xa1m\x90", 11, 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        frame_scanner s;
        size_t length;
        sem_error error;
        ck_ok(scan(cases[i].bytes, cases[i].size, &LIMITS, &s, &length, &error));
        ck_assert_uint_eq(length, cases[i].size);
        ck_assert_uint_eq(s.msgid, cases[i].msgid);
    }
}
END_TEST

START_TEST(bad_msgid_breaks_the_stream)
{
    ck_assert_int_ne(SCAN("\x94\x00\xff\xa1m\x90"), SEM_OK);                                 /* -1 */
    ck_assert_int_ne(SCAN("\x94\x00\xd0\x80\xa1m\x90"), SEM_OK);                             /* -128 */
    ck_assert_int_ne(SCAN("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1m\x90"), SEM_OK); /* 2^32 */
    ck_assert_int_ne(SCAN("\x94\x00\xd3\xff\xff\xff\xff\xff\xff\xff\xff\xa1m\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\xa1"
                          "5\xa1m\x90"),
                     SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\xca\x40\xa0\x00\x00\xa1m\x90"), SEM_OK); /* 5.0 */
    ck_assert_int_ne(SCAN("\x94\x00\xc0\xa1m\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\x90\xa1m\x90"), SEM_OK);
}
END_TEST

START_TEST(what_is_no_rpc_array_breaks_the_stream)
{
    ck_assert_int_ne(SCAN("\x05"), SEM_OK);
    ck_assert_int_ne(SCAN("GET / HTTP/1.1\r\n"), SEM_OK);
    ck_assert_int_ne(SCAN("\x80"), SEM_OK);
    ck_assert_int_ne(SCAN("\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x95\x00\x01\xa1m\x90\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x93\x00\x01\xa1m"), SEM_OK);     /* a request of three */
    ck_assert_int_ne(SCAN("\x94\x02\xa1m\x90\x90"), SEM_OK); /* a notification of four */
    ck_assert_int_ne(SCAN("\x94\x01\x01\xc0\xc0"), SEM_OK);  /* an answer */
    ck_assert_int_ne(SCAN("\x94\x03\x01\xa1m\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\xff\x01\xa1m\x90"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\xc2\x01\xa1m\x90"), SEM_OK); /* false is no 0 */
    ck_assert_int_eq(SCAN("\x93\x02\xa1m\x90"), SEM_OK);
}
END_TEST

START_TEST(what_is_only_a_bad_request_keeps_the_stream)
{
    ck_assert_int_eq(SCAN("\x94\x00\x01\xa2\xff\xfe\x90"), SEM_OK);              /* method that is no UTF-8 */
    ck_assert_int_eq(SCAN("\x94\x00\x01\x05\x90"), SEM_OK);                      /* method that is no str */
    ck_assert_int_eq(SCAN("\x94\x00\x01\xa1m\xc0"), SEM_OK);                     /* params that is no array */
    ck_assert_int_eq(SCAN("\x94\x00\x01\xa1m\x91\xd4\x01\x00"), SEM_OK);         /* ext */
    ck_assert_int_eq(SCAN("\x94\x00\x01\xa1m\x91\x82\x01\x01\x01\x01"), SEM_OK); /* keys twice, no str */
}
END_TEST

START_TEST(invalid_byte_is_found_at_every_place)
{
    ck_assert_int_ne(SCAN("\xc1"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\xc1"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\xc1"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\x01\xc1"), SEM_OK);
    ck_assert_int_ne(SCAN("\x94\x00\x01\xa1m\x91\xc1"), SEM_OK);
    ck_assert_int_eq(SCAN("\x94\x00\x01\xa1m\x91\xa1\xc1"), SEM_OK); /* inside a str it is a byte like any other */
}
END_TEST

START_TEST(claimed_counts_are_refused_at_once)
{
    static const char *const heads[] = {
        "\x94\x00\x01\xa1m\xdd\xff\xff\xff\xff", /* array of 2^32-1 */
        "\x94\x00\x01\xa1m\xdf\xff\xff\xff\xff", /* map */
        "\x94\x00\x01\xa1m\xdf\x02\x00\x00\x00", /* a map that needs 64 MiB of keys and values */
        "\x94\x00\x01\xa1m\xc6\xff\xff\xff\xff", /* bin */
        "\x94\x00\x01\xa1m\xdb\xff\xff\xff\xff", /* str */
        "\x94\x00\x01\xa1m\xdb\x04\x00\x00\x00", /* one of 64 MiB, with its head above the limit */
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        frame_scanner s;
        size_t length;
        sem_error error;
        ck_fails(scan(heads[i], 10, &LIMITS, &s, &length, &error), SEM_INVALID_ARGUMENT);
        ck_assert(s.has_msgid && s.msgid == 1);
        ck_assert_msg(strstr(error.message, "67,108,864") != NULL, "%s", error.message);
    }
}
END_TEST

START_TEST(counts_of_many_levels_are_summed)
{
    /* Each array alone would fit; together they claim more than may follow. */
    static const char bytes[] = "\x94\x00\x01\xa1m\xdc\x00\x28\xdc\x00\x28\xdc\x00\x28";
    frame_limits limits = {.bytes = 100, .depth = 32};
    frame_scanner s;
    size_t length;
    sem_error error;
    ck_fails(scan(bytes, sizeof bytes - 1, &limits, &s, &length, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(frame_of_the_limit_passes_and_one_byte_more_does_not)
{
    sem_error error;
    frame_limits limits = {.bytes = 50, .depth = 32};
    for (size_t size = 30; size <= 60; size++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        request_begin(&p, 3, "m");
        char text[64] = {0};
        pack_bin(&p, text, size - 7); /* 5 bytes before and 2 of the head */
        ck_assert_uint_eq(b.size, size);
        frame_scanner s;
        size_t length;
        sem_status status = scan(b.data, b.size, &limits, &s, &length, &error);
        ck_assert_int_eq(status == SEM_OK, size <= limits.bytes);
        ck_assert_uint_eq(s.msgid, 3);
        buffer_free(&b);
    }
}
END_TEST

START_TEST(cut_head_at_the_limit_is_refused_without_waiting)
{
    /* The limit leaves one byte, and a two-byte integer begins there. */
    frame_limits limits = {.bytes = 7, .depth = 32};
    frame_scanner s;
    size_t length;
    sem_error error;
    ck_fails(scan("\x94\x00\x01\xa1m\x91\xcd", 7, &limits, &s, &length, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(nesting_ends_at_the_limit)
{
    for (size_t depth = 1; depth <= 40; depth++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        request_begin(&p, 9, "m");
        for (size_t i = 2; i < depth; i++)
            pack_array(&p, 1);
        if (depth >= 2)
            pack_array(&p, 0);
        else
            pack_nil(&p);
        frame_scanner s;
        size_t length;
        sem_error error;
        sem_status status = scan(b.data, b.size, &LIMITS, &s, &length, &error);
        ck_assert_int_eq(status == SEM_OK, depth <= 32);
        if (depth <= 32) { /* what passes, msgpack-c takes */
            msgpack_unpacked u;
            msgpack_unpacked_init(&u);
            ck_assert_int_eq(msgpack_unpack_next(&u, (const char *)b.data, b.size, NULL), MSGPACK_UNPACK_SUCCESS);
            msgpack_unpacked_destroy(&u);
        }
        buffer_free(&b);
    }
}
END_TEST

START_TEST(scanner_of_answers_takes_answers_and_notifications_only)
{
    frame_limits limits = LIMITS;
    limits.replies = true;
    frame_scanner s;
    size_t length;
    sem_error error;
    ck_ok(scan("\x94\x01\x05\xc0\xc3", 5, &limits, &s, &length, &error));
    ck_assert_uint_eq(length, 5);
    ck_assert_uint_eq(s.msgid, 5);
    ck_fails(scan("\x94\x00\x05\xa1m\x90", 6, &limits, &s, &length, &error), SEM_INVALID_ARGUMENT);
    ck_assert(!s.is_notification);
    ck_ok(scan("\x93\x02\xa1m\x90", 5, &limits, &s, &length, &error));
    ck_assert(length == 5 && s.is_notification);
    ck_fails(scan("\x94\x02\xa1m\x90\xc0", 6, &limits, &s, &length, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(pieces_lead_to_the_same_end_as_the_whole)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (int round = 0; round < 50000; round++) {
        unsigned char bytes[48] = {0x94, 0x00, 0x01, 0xa1, 'm'};
        for (size_t i = 5; i < sizeof bytes; i++)
            bytes[i] = random_below(&r, 3) == 0 ? (unsigned char)random_next(&r)
                                                : (unsigned char)(0x80 + random_below(&r, 0x60));
        frame_limits limits = {.bytes = 8 + random_below(&r, 50), .depth = 1 + random_below(&r, 6)};
        frame_scanner s;
        size_t whole, length = 0;
        sem_error error;
        sem_status at_once = scan(bytes, sizeof bytes, &limits, &s, &whole, &error), status = SEM_OK;
        frame_scanner_init(&s, &limits);
        for (size_t given = 1; given <= sizeof bytes && status == SEM_OK && length == 0; given++)
            status = frame_scan(&s, bytes, given, &length, &error);
        ck_assert_int_eq(status, at_once);
        if (status == SEM_OK) {
            ck_assert_uint_eq(length, whole);
            ck_assert_uint_le(length, limits.bytes);
        }
    }
}
END_TEST

START_TEST(random_bytes_agree_with_msgpack_c)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (int round = 0; round < 100000; round++) {
        unsigned char bytes[64] = {0x94, 0x00, 0x01, 0xa1, 'm'};
        size_t size = 6 + random_below(&r, 40);
        for (size_t i = 5; i < size; i++) /* many heads of containers, few long payloads */
            bytes[i] = random_below(&r, 3) == 0 ? (unsigned char)random_next(&r)
                                                : (unsigned char)(0x80 + random_below(&r, 0x60));
        frame_limits limits = {.bytes = sizeof bytes, .depth = 32};
        frame_scanner s;
        size_t length;
        sem_error error;
        if (scan(bytes, size, &limits, &s, &length, &error) != SEM_OK || length == 0)
            continue;
        ck_assert_uint_le(length, size);
        msgpack_unpacked u;
        msgpack_unpacked_init(&u);
        size_t offset = 0;
        ck_assert_int_eq(msgpack_unpack_next(&u, (const char *)bytes, size, &offset), MSGPACK_UNPACK_SUCCESS);
        ck_assert_uint_eq(offset, length);
        msgpack_unpacked_destroy(&u);
        value_cursor c = {bytes, bytes + size};
        ck_assert(value_skip(&c));
        ck_assert_uint_eq((size_t)(c.at - bytes), length);
    }
}
END_TEST

START_TEST(cursor_never_leaves_its_bytes)
{
    buffer b = {0};
    pack_everything(&b);
    for (size_t size = 0; size < 400 && size < b.size; size++) {
        unsigned char *exact = malloc(size + 1); /* so that a sanitizer sees a read too far */
        memcpy(exact, b.data, size);
        value_cursor c = {exact, exact + size};
        ck_assert(!value_skip(&c));
        free(exact);
    }
    buffer_free(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("frame");
    TCase *c = tcase_create("frame");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, frame_is_found_however_it_is_split);
    tcase_add_test(c, large_frame_in_single_bytes_costs_linear_work);
    tcase_add_test(c, msgid_is_taken_in_any_integer_encoding);
    tcase_add_test(c, bad_msgid_breaks_the_stream);
    tcase_add_test(c, what_is_no_rpc_array_breaks_the_stream);
    tcase_add_test(c, what_is_only_a_bad_request_keeps_the_stream);
    tcase_add_test(c, invalid_byte_is_found_at_every_place);
    tcase_add_test(c, claimed_counts_are_refused_at_once);
    tcase_add_test(c, counts_of_many_levels_are_summed);
    tcase_add_test(c, frame_of_the_limit_passes_and_one_byte_more_does_not);
    tcase_add_test(c, cut_head_at_the_limit_is_refused_without_waiting);
    tcase_add_test(c, nesting_ends_at_the_limit);
    tcase_add_test(c, scanner_of_answers_takes_answers_and_notifications_only);
    tcase_add_test(c, pieces_lead_to_the_same_end_as_the_whole);
    tcase_add_test(c, random_bytes_agree_with_msgpack_c);
    tcase_add_test(c, cursor_never_leaves_its_bytes);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
