#include "tests/common/testing.h"

#include "base/utf8.h"
#include "proto/client.h"
#include "proto/frame.h"
#include "proto/number.h"
#include "proto/pack.h"

#include <string.h>

static buffer out;
static packer p;
static msgpack_unpacked unpacked;

static void setup(void)
{
    out = (buffer){0};
    pack_init(&p, &out);
    msgpack_unpacked_init(&unpacked);
}

static void teardown(void)
{
    msgpack_unpacked_destroy(&unpacked);
    buffer_free(&out);
}

static const msgpack_object *unpack(void)
{
    size_t offset = 0;
    ck_assert(!p.failed);
    ck_assert_int_eq(msgpack_unpack_next(&unpacked, (const char *)out.data, out.size, &offset), MSGPACK_UNPACK_SUCCESS);
    ck_assert_uint_eq(offset, out.size);
    return &unpacked.data;
}

START_TEST(integers_take_the_smallest_form)
{
    pack_uint(&p, 127);
    ck_assert_uint_eq(out.size, 1);
    pack_uint(&p, 128);
    ck_assert_uint_eq(out.size, 3);
    pack_int(&p, -1);
    ck_assert_uint_eq(out.size, 4);
    pack_uint(&p, UINT64_MAX);
    ck_assert_uint_eq(out.size, 13);
}
END_TEST

START_TEST(ids_keep_their_kind)
{
    docid seven = {.is_integer = true, .integer = 7}, text = {.string = "7", .length = 1};
    pack_array(&p, 2);
    pack_id(&p, &seven);
    pack_id(&p, &text);
    ck_assert_mem_eq(out.data,
                     "\x92\x07\xa1"
                     "7",
                     4);
}
END_TEST

START_TEST(empty_str_and_bin_are_whole_values)
{
    pack_array(&p, 2);
    pack_strn(&p, NULL, 0);
    pack_bin(&p, NULL, 0);
    ck_assert_uint_eq(unpack()->via.array.size, 2);
}
END_TEST

START_TEST(reply_error_holds_code_and_message)
{
    sem_error e;
    sem_fail(&e, SEM_NOT_FOUND, "no %s", "x");
    reply_error(&p, 4000000000U, &e);
    const msgpack_object *o = unpack();
    ck_assert_uint_eq(o->via.array.size, 4);
    ck_assert_uint_eq(o->via.array.ptr[0].via.u64, 1);
    ck_assert_uint_eq(o->via.array.ptr[1].via.u64, 4000000000U);
    const msgpack_object *error = &o->via.array.ptr[2];
    ck_assert_uint_eq(error->via.map.size, 2);
    ck_assert(object_is(object_get(error, "code"), "NOT_FOUND"));
    ck_assert(object_is(object_get(error, "message"), "no x"));
    ck_assert_int_eq(o->via.array.ptr[3].type, MSGPACK_OBJECT_NIL);
}
END_TEST

START_TEST(exhausted_resources_say_when_to_come_back)
{
    sem_error e;
    sem_fail(&e, SEM_RESOURCE_EXHAUSTED, "full");
    e.retry_after_ms = 250;
    reply_error(&p, 1, &e);
    const msgpack_object *error = &unpack()->via.array.ptr[2];
    ck_assert_uint_eq(object_uint(object_get(error, "retry_after_ms"), 0), 250);
    teardown();
    setup();
    sem_fail(&e, SEM_RESOURCE_EXHAUSTED, "full");
    reply_error(&p, 1, &e);
    ck_assert_uint_gt(object_uint(object_get(&unpack()->via.array.ptr[2], "retry_after_ms"), 0), 0);
}
END_TEST

START_TEST(codes_that_never_leave_the_process_become_internal)
{
    sem_error e;
    sem_fail(&e, SEM_CANCELLED, "x");
    reply_error(&p, 1, &e);
    ck_assert(object_is(object_get(&unpack()->via.array.ptr[2], "code"), "INTERNAL"));
}
END_TEST

START_TEST(message_on_the_wire_is_always_utf8)
{
    sem_error e;
    sem_fail(&e, SEM_INTERNAL, "file \xff\xfe gone");
    reply_error(&p, 1, &e);
    const msgpack_object *message = object_get(&unpack()->via.array.ptr[2], "message");
    ck_assert(utf8_valid(message->via.str.ptr, message->via.str.size));
    ck_assert(object_is(message, "file ?? gone"));
}
END_TEST

START_TEST(heads_are_what_the_scanner_takes)
{
    frame_scanner s;
    frame_limits limits = {.bytes = 1000, .depth = 32};
    size_t length;
    sem_error error;
    request_begin(&p, UINT32_MAX, "m");
    pack_array(&p, 0);
    frame_scanner_init(&s, &limits);
    ck_ok(frame_scan(&s, out.data, out.size, &length, &error));
    ck_assert_uint_eq(length, out.size);
    ck_assert_uint_eq(s.msgid, UINT32_MAX);
    out.size = 0;
    notification_begin(&p, "generation");
    pack_array(&p, 0);
    frame_scanner_init(&s, &limits);
    ck_ok(frame_scan(&s, out.data, out.size, &length, &error));
    out.size = 0;
    limits.replies = true;
    reply_begin(&p, 3);
    pack_str(&p, "pong");
    frame_scanner_init(&s, &limits);
    ck_ok(frame_scan(&s, out.data, out.size, &length, &error));
    ck_assert_uint_eq(length, out.size);
}
END_TEST

START_TEST(what_does_not_fit_the_wire_fails_once_and_for_all)
{
    pack_array(&p, (size_t)UINT32_MAX + 1);
    ck_assert(p.failed);
    pack_nil(&p);
    ck_assert(p.failed);
    ck_assert_uint_eq(out.size, 0);
}
END_TEST

START_TEST(numbers_are_grouped_by_thousands)
{
    char text[NUMBER_TEXT_MAX];
    ck_assert_str_eq(number_text(text, 0), "0");
    ck_assert_str_eq(number_text(text, 999), "999");
    ck_assert_str_eq(number_text(text, 1000), "1,000");
    ck_assert_str_eq(number_text(text, UINT64_MAX), "18,446,744,073,709,551,615");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pack");
    TCase *c = tcase_create("pack");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, integers_take_the_smallest_form);
    tcase_add_test(c, ids_keep_their_kind);
    tcase_add_test(c, empty_str_and_bin_are_whole_values);
    tcase_add_test(c, reply_error_holds_code_and_message);
    tcase_add_test(c, exhausted_resources_say_when_to_come_back);
    tcase_add_test(c, codes_that_never_leave_the_process_become_internal);
    tcase_add_test(c, message_on_the_wire_is_always_utf8);
    tcase_add_test(c, heads_are_what_the_scanner_takes);
    tcase_add_test(c, what_does_not_fit_the_wire_fails_once_and_for_all);
    tcase_add_test(c, numbers_are_grouped_by_thousands);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
