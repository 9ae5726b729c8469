/* Limits of the server, and clients that send or read slowly or not at all. */
#include "tests/daemon/one_reader.h"

#include <sys/resource.h>

START_TEST(requests_beyond_the_limit_in_flight_are_refused_and_the_others_kept)
{
    rig_init(&r);
    r.config.server.max_in_flight = 2;
    start();
    for (uint32_t i = 1; i <= 4; i++)
        rig_ask(reader.fd, i, "count");
    expect_answer(3, "RESOURCE_EXHAUSTED");
    ck_assert(reader.retry);
    expect_answer(4, "RESOURCE_EXHAUSTED");
    rig_until(rig_held(&r) == 2);
    rig_release(&r);
    expect_answer(2, "");
    expect_answer(1, "");
    rig_ask(reader.fd, 5, "ping");
    expect_answer(5, "");
    stop();
}
END_TEST

/* A Unix socket takes little, so that answers pile up in the server. */
START_TEST(a_client_that_does_not_read_is_not_read_from)
{
    enum { COUNT = 200 };
    rig_init(&r);
    r.config.server.output_buffer = 2 << 20;
    listen_unix();
    start();
    /* One at a time, so that the answers to come are not asked for already. */
    for (uint32_t i = 0; i < COUNT; i++) {
        rig_ask(reader.fd, i, "get");
        poll(NULL, 0, 1);
    }
    rig_until(rig_stats(&r)->requests >= 2);
    poll(NULL, 0, 100);
    ck_assert_uint_lt(rig_stats(&r)->requests, COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++)
        expect_answer(i, "");
    ck_assert_uint_eq(rig_stats(&r)->requests, COUNT);
    stop();
}
END_TEST

START_TEST(answers_beyond_the_output_limit_close_the_connection)
{
    rig_init(&r);
    r.config.server.output_buffer = 1 << 20;
    r.config.server.output_limit = 8 << 20;
    listen_unix();
    start();
    buffer out = {0};
    for (uint32_t i = 0; i < 100; i++)
        rig_pack(&out, i, "get"); /* all are asked for before the first answer is out */
    rig_send(reader.fd, out.data, out.size);
    rig_until(rig_stats(&r)->connections == 0);
    size_t answered = 0;
    while (rig_next(&reader))
        answered++;
    ck_assert_uint_lt(answered, 100);
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(large_requests_in_flight_stop_the_reading)
{
    enum { TEXTS = 3, COUNT = 6 };
    rig_init(&r);
    r.config.limits.frame_bytes = 4 << 20;
    start();
    buffer doc = {0};
    packer p;
    char *text = calloc(1 << 20, 1);
    memset(text, 'x', 1 << 20);
    pack_init(&p, &doc);
    request_begin(&p, 300, "upsert"); /* its msgid takes three bytes */
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "docs");
    pack_array(&p, TEXTS);
    for (uint64_t i = 0; i < TEXTS; i++) {
        pack_map(&p, 2);
        pack_str(&p, "id");
        pack_uint(&p, i);
        pack_str(&p, "text");
        pack_strn(&p, text, 1 << 20);
    }
    pid_t sender = fork(); /* its sends block */
    if (sender == 0) {
        for (int i = 0; i < COUNT; i++)
            for (size_t sent = 0; sent < doc.size;) {
                ssize_t n = send(reader.fd, doc.data + sent, doc.size - sent, MSG_NOSIGNAL);
                if (n <= 0)
                    _exit(1);
                sent += (size_t)n;
            }
        _exit(0);
    }
    rig_until(rig_held(&r) == 2);
    poll(NULL, 0, 100);
    ck_assert_uint_eq(rig_held(&r), 2);
    for (size_t answered = 0, now; answered < COUNT; answered += now) {
        rig_until((now = rig_release(&r)) > 0);
        for (size_t i = 0; i < now; i++)
            expect_answer(300, "");
    }
    free(text);
    buffer_free(&doc);
    stop();
}
END_TEST

START_TEST(a_client_that_takes_nothing_is_closed_in_time)
{
    rig_init(&r);
    r.config.server.write_timeout_ms = 100;
    listen_unix();
    start();
    for (uint32_t i = 0; i < 32; i++)
        rig_ask(reader.fd, i, "get");
    rig_until(rig_stats(&r)->connections == 0);
    size_t answered = 0;
    while (rig_next(&reader))
        answered++;
    ck_assert_uint_lt(answered, 32);
    stop();
}
END_TEST

START_TEST(a_frame_that_does_not_end_is_refused_in_time)
{
    rig_init(&r);
    r.config.server.frame_timeout_ms = 50;
    start();
    static const unsigned char half[] = {0x94, 0x00, 0x2A, 0xA4, 'p', 'i'};
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    rig_send(reader.fd, half, sizeof half);
    expect_answer(42, "DEADLINE_EXCEEDED");
    ck_assert_ptr_nonnull(strstr(reader.message, "frame_timeout"));
    expect_end();
    stop();
}
END_TEST

START_TEST(an_idle_connection_is_closed_but_not_one_that_waits)
{
    rig_init(&r);
    r.config.server.idle_timeout_ms = 50;
    start();
    rig_ask(reader.fd, 1, "count");
    rig_until(rig_held(&r) == 1);
    poll(NULL, 0, 150);
    rig_release(&r);
    expect_answer(1, "");
    expect_end();
    stop();
}
END_TEST

START_TEST(connections_beyond_the_limit_are_told_so)
{
    rig_init(&r);
    r.config.server.max_connections = 1;
    start();
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    rig_reader second;
    rig_reader_init(&second, rig_connect(&r));
    ck_assert(rig_next(&second));
    ck_assert_str_eq(second.code, "RESOURCE_EXHAUSTED");
    ck_assert(!rig_next(&second));
    rig_reader_free(&second);
    rig_ask(reader.fd, 2, "ping");
    expect_answer(2, "");
    stop();
}
END_TEST

START_TEST(running_out_of_descriptors_is_survived)
{
    enum { CLIENTS = 60 };
    int fds[CLIENTS];
    struct rlimit limit, low;
    rig_init(&r);
    start();
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    low = (struct rlimit){.rlim_cur = (rlim_t)fds[CLIENTS - 1] + 10, .rlim_max = limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    where.sin_port = htons((uint16_t)atoi(strrchr(server_address(r.server, 0), ':') + 1));
    for (int i = 0; i < CLIENTS; i++)
        ck_assert_int_eq(connect(fds[i], (struct sockaddr *)&where, sizeof where), 0);
    rig_ask(reader.fd, 1, "ping"); /* the loop turns */
    expect_answer(1, "");
    rig_until(rig_stats(&r)->connections >= 5);
    for (int i = 0; i < CLIENTS; i++)
        close(fds[i]);
    rig_until(rig_stats(&r)->connections == 1);
    rig_reader again;
    rig_reader_init(&again, rig_connect(&r));
    rig_ask(again.fd, 2, "ping");
    ck_assert(rig_next(&again));
    rig_reader_free(&again);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server_limits");
    TCase *tests = tcase_create("server");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, requests_beyond_the_limit_in_flight_are_refused_and_the_others_kept);
    tcase_add_test(tests, a_client_that_does_not_read_is_not_read_from);
    tcase_add_test(tests, answers_beyond_the_output_limit_close_the_connection);
    tcase_add_test(tests, large_requests_in_flight_stop_the_reading);
    tcase_add_test(tests, a_client_that_takes_nothing_is_closed_in_time);
    tcase_add_test(tests, a_frame_that_does_not_end_is_refused_in_time);
    tcase_add_test(tests, an_idle_connection_is_closed_but_not_one_that_waits);
    tcase_add_test(tests, connections_beyond_the_limit_are_told_so);
    tcase_add_test(tests, running_out_of_descriptors_is_survived);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
