#include "tests/daemon/one_reader.h"

#include "base/files.h"
#include "base/random.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

START_TEST(a_frame_may_come_byte_by_byte)
{
    rig_init(&r);
    start();
    buffer out = {0};
    rig_pack(&out, 7, "ping");
    rig_pack(&out, 4000000000u, "ping");
    for (size_t i = 0; i < out.size; i++)
        rig_send(reader.fd, out.data + i, 1);
    expect_answer(7, "");
    expect_answer(4000000000u, "");
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(a_pipeline_is_answered_whole)
{
    enum { COUNT = 20000 };
    rig_init(&r);
    r.config.server.max_in_flight = COUNT;
    start();
    buffer out = {0};
    for (uint32_t i = 0; i < COUNT; i++)
        rig_pack(&out, i, "ping");
    rig_send(reader.fd, out.data, out.size);
    for (uint32_t i = 0; i < COUNT; i++)
        expect_answer(i, "");
    ck_assert_uint_eq(rig_stats(&r)->requests, COUNT);
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(answers_come_as_they_are_ready)
{
    rig_init(&r);
    start();
    rig_ask(reader.fd, 1, "count");
    rig_ask(reader.fd, 2, "count");
    rig_ask(reader.fd, 3, "ping");
    expect_answer(3, "");
    rig_release(&r);
    expect_answer(2, "");
    expect_answer(1, "");
    stop();
}
END_TEST

/* An encode of `texts` texts of a MiB each. */
static void pack_large(buffer *out, uint32_t msgid, size_t texts)
{
    packer p;
    char *text = malloc(1 << 20);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', 1 << 20);
    pack_init(&p, out);
    request_begin(&p, msgid, "encode");
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "texts");
    pack_array(&p, texts);
    for (size_t i = 0; i < texts; i++)
        pack_strn(&p, text, 1 << 20);
    ck_assert(!p.failed);
    free(text);
}

START_TEST(a_large_frame_is_taken_whole_and_what_follows_too)
{
    rig_init(&r);
    start();
    buffer out = {0};
    rig_pack(&out, 1, "ping");
    pack_large(&out, 2, 60);
    rig_pack(&out, 3, "ping");
    rig_send(reader.fd, out.data, out.size);
    expect_answer(1, "");
    expect_answer(2, "");
    expect_answer(3, "");
    ck_assert_uint_eq(r.texts, 60);
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(a_frame_beyond_the_limit_ends_the_connection)
{
    rig_init(&r);
    r.config.limits.frame_bytes = 1 << 20;
    start();
    buffer out = {0};
    pack_large(&out, 9, 2);
    rig_send(reader.fd, out.data, 64); /* the claim alone is enough */
    expect_answer(9, "INVALID_ARGUMENT");
    ck_assert_ptr_nonnull(strstr(reader.message, "frame_bytes"));
    expect_end();
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(a_broken_frame_gets_one_error_after_the_answers_before_it)
{
    rig_init(&r);
    start();
    buffer out = {0};
    rig_pack(&out, 5, "count");
    rig_send(reader.fd, out.data, out.size);
    static const unsigned char broken[] = {0x94, 0x00, 0x06, 0xC1};
    rig_send(reader.fd, broken, sizeof broken);
    rig_ask(reader.fd, 8, "ping"); /* thrown away */
    expect_answer(6, "INVALID_ARGUMENT");
    rig_release(&r);
    expect_answer(5, "");
    expect_end();
    ck_assert_uint_eq(rig_stats(&r)->protocol_errors, 1);
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(text_that_is_no_frame_gets_an_error_with_msgid_0)
{
    rig_init(&r);
    start();
    rig_send(reader.fd, "GET / HTTP/1.1\r\n\r\n", 18);
    expect_answer(0, "INVALID_ARGUMENT");
    expect_end();
    stop();
}
END_TEST

START_TEST(a_wrong_request_does_not_cost_the_connection)
{
    rig_init(&r);
    start();
    rig_ask(reader.fd, 1, "no.such.method");
    rig_ask(reader.fd, 2, "ping");
    expect_answer(1, "INVALID_ARGUMENT");
    expect_answer(2, "");
    stop();
}
END_TEST

START_TEST(notifications_are_executed_and_never_answered)
{
    rig_init(&r);
    start();
    buffer out = {0};
    packer p;
    pack_init(&p, &out);
    notification_begin(&p, "ping");
    pack_array(&p, 0);
    notification_begin(&p, "no.such.method");
    pack_array(&p, 0);
    rig_pack(&out, 1, "ping");
    rig_send(reader.fd, out.data, out.size);
    expect_answer(1, "");
    ck_assert_uint_eq(r.notifications, 1);
    buffer_free(&out);
    stop();
}
END_TEST

START_TEST(a_client_that_has_finished_sending_gets_its_answers)
{
    rig_init(&r);
    start();
    rig_ask(reader.fd, 1, "count");
    rig_ask(reader.fd, 2, "ping");
    shutdown(reader.fd, SHUT_WR);
    expect_answer(2, "");
    rig_release(&r);
    expect_answer(1, "");
    expect_end();
    stop();
}
END_TEST

START_TEST(an_answer_to_a_gone_client_is_dropped)
{
    rig_init(&r);
    start();
    rig_ask(reader.fd, 1, "count");
    rig_until(rig_held(&r) == 1);
    struct linger reset = {.l_onoff = 1};
    setsockopt(reader.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(reader.fd);
    rig_until(rig_stats(&r)->connections == 0);
    reader.fd = rig_connect(&r); /* takes the same slot under another number */
    rig_release(&r);
    rig_ask(reader.fd, 2, "ping");
    expect_answer(2, "");
    stop();
}
END_TEST

START_TEST(an_empty_reply_closes_the_connection)
{
    rig_init(&r);
    start();
    rig_ask(reader.fd, 1, "count");
    rig_until(rig_held(&r) == 1);
    buffer nothing = {0};
    server_reply(r.server, r.held[0].connection, &nothing);
    expect_end();
    stop();
}
END_TEST

START_TEST(a_drain_answers_what_is_in_flight_and_ends)
{
    rig_init(&r);
    start();
    rig_reader bystander;
    rig_reader_init(&bystander, rig_connect(&r));
    rig_until(rig_stats(&r)->connections == 2);
    rig_ask(reader.fd, 1, "count");
    rig_until(rig_held(&r) == 1);
    char address[300];
    snprintf(address, sizeof address, "%s", server_address(r.server, 0));
    rig_do(&r, rig_drain);
    ck_assert_int_lt(rig_dial(address), 0);
    ck_assert(!rig_next(&bystander));
    ck_assert(!r.idle);
    rig_ask(reader.fd, 2, "ping"); /* too late: neither executed nor answered */
    rig_release(&r);
    expect_answer(1, "");
    expect_end();
    rig_reader_free(&bystander);
    rig_reader_free(&reader);
    rig_until(r.idle);
    rig_stop(&r);
}
END_TEST

START_TEST(a_drain_without_connections_is_idle_at_once)
{
    rig_init(&r);
    rig_start(&r);
    rig_do(&r, rig_drain);
    ck_assert(r.idle);
    rig_stop(&r);
}
END_TEST

START_TEST(a_unix_socket_is_private_and_removed_at_the_end)
{
    struct stat found;
    const char *path = r.config.server.listen[0] + 5;
    rig_init(&r);
    snprintf(r.config.server.listen[0], CONFIG_ADDRESS_MAX, "unix:%s/s", testing_folder());
    start();
    ck_assert_int_eq(stat(path, &found), 0);
    ck_assert_uint_eq(found.st_mode & 07777, 0660);
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    stop();
    ck_assert_int_ne(lstat(path, &found), 0);
}
END_TEST

START_TEST(a_stale_unix_socket_is_replaced_and_a_live_one_is_not)
{
    sem_error error;
    server *second = NULL;
    server_hooks hooks = {.context = &r, .request = rig_request};
    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    rig_init(&r);
    snprintf(r.config.server.listen[0], CONFIG_ADDRESS_MAX, "unix:%s/s", testing_folder());
    strcpy(stale.sun_path, r.config.server.listen[0] + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&stale, sizeof stale), 0);
    close(fd);
    start();
    struct event_base *base = event_base_new();
    ck_fails(server_create(&second, base, &r.config, NULL, 0, &hooks, NULL, &error), SEM_ALREADY_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, stale.sun_path));
    event_base_free(base);
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    stop();
    ck_ok(files_write(stale.sun_path, "x", 1, &error));
    base = event_base_new();
    ck_fails(server_create(&second, base, &r.config, NULL, 0, &hooks, NULL, &error), SEM_ALREADY_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, "no socket"));
    event_base_free(base);
}
END_TEST

START_TEST(several_addresses_are_served_and_a_taken_one_is_named)
{
    sem_error error;
    server *second = NULL;
    server_hooks hooks = {.context = &r, .request = rig_request};
    rig_init(&r);
    snprintf(r.config.server.listen[1], CONFIG_ADDRESS_MAX, "unix:%s/s", testing_folder());
    r.config.server.listen_count = 2;
    start();
    int fd = rig_dial(server_address(r.server, 1));
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_str_ne(server_address(r.server, 0), "tcp://127.0.0.1:0");
    struct event_base *base = event_base_new();
    config taken;
    config_defaults(&taken);
    strcpy(taken.server.listen[0], server_address(r.server, 0));
    ck_fails(server_create(&second, base, &taken, NULL, 0, &hooks, NULL, &error), SEM_ALREADY_EXISTS);
    ck_assert_ptr_nonnull(strstr(error.message, taken.server.listen[0]));
    event_base_free(base);
    stop();
}
END_TEST

START_TEST(hundreds_of_clients_are_served_side_by_side)
{
    enum { CLIENTS = 300, ROUNDS = 10 };
    static rig_reader all[CLIENTS];
    rig_init(&r);
    rig_start(&r);
    for (int i = 0; i < CLIENTS; i++)
        rig_reader_init(&all[i], rig_connect(&r));
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            rig_ask(all[i].fd, round, "ping");
        for (int i = 0; i < CLIENTS; i++) {
            ck_assert(rig_next(&all[i]));
            ck_assert_uint_eq(all[i].msgid, round);
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        rig_reader_free(&all[i]);
    rig_until(rig_stats(&r)->connections == 0);
    ck_assert_uint_eq(r.stats.requests, CLIENTS * ROUNDS);
    rig_stop(&r);
}
END_TEST

START_TEST(hostile_bytes_never_stop_the_server)
{
    random_state random;
    unsigned char bytes[512];
    random_seed(&random, testing_seed());
    rig_init(&r);
    rig_start(&r);
    buffer good = {0};
    rig_pack(&good, 1, "delete");
    for (int i = 0; i < 2000; i++) {
        int fd = rig_connect(&r);
        size_t size = 1 + random_below(&random, sizeof bytes);
        for (size_t j = 0; j < size; j++)
            bytes[j] = i % 2 == 0 ? (unsigned char)random_next(&random) : good.data[j % good.size];
        bytes[random_below(&random, size)] = (unsigned char)random_next(&random);
        (void)!send(fd, bytes, size, MSG_NOSIGNAL);
        close(fd);
    }
    rig_reader_init(&reader, rig_connect(&r));
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    buffer_free(&good);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server");
    TCase *tests = tcase_create("server");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_frame_may_come_byte_by_byte);
    tcase_add_test(tests, a_pipeline_is_answered_whole);
    tcase_add_test(tests, answers_come_as_they_are_ready);
    tcase_add_test(tests, a_large_frame_is_taken_whole_and_what_follows_too);
    tcase_add_test(tests, a_frame_beyond_the_limit_ends_the_connection);
    tcase_add_test(tests, a_broken_frame_gets_one_error_after_the_answers_before_it);
    tcase_add_test(tests, text_that_is_no_frame_gets_an_error_with_msgid_0);
    tcase_add_test(tests, a_wrong_request_does_not_cost_the_connection);
    tcase_add_test(tests, notifications_are_executed_and_never_answered);
    tcase_add_test(tests, a_client_that_has_finished_sending_gets_its_answers);
    tcase_add_test(tests, an_answer_to_a_gone_client_is_dropped);
    tcase_add_test(tests, an_empty_reply_closes_the_connection);
    tcase_add_test(tests, a_drain_answers_what_is_in_flight_and_ends);
    tcase_add_test(tests, a_drain_without_connections_is_idle_at_once);
    tcase_add_test(tests, a_unix_socket_is_private_and_removed_at_the_end);
    tcase_add_test(tests, a_stale_unix_socket_is_replaced_and_a_live_one_is_not);
    tcase_add_test(tests, several_addresses_are_served_and_a_taken_one_is_named);
    tcase_add_test(tests, hundreds_of_clients_are_served_side_by_side);
    tcase_add_test(tests, hostile_bytes_never_stop_the_server);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
