/* Notifications to connections that watch. */
#include "tests/daemon/one_reader.h"

/* [2, method, [bytes]] to all who watch the topics. */
static void tell(unsigned topics, const char *method, size_t size)
{
    buffer bytes = {0};
    packer p;
    unsigned char *data = calloc(size + 1, 1);
    pack_init(&p, &bytes);
    notification_begin(&p, method);
    pack_array(&p, 1);
    pack_bin(&p, data, size);
    free(data);
    ck_assert(!p.failed);
    server_notify(r.server, topics, &bytes);
    ck_assert_ptr_null(bytes.data);
}

static void expect_notification(rig_reader *of, const char *method)
{
    ck_assert_msg(rig_next(of), "the connection ended instead of notification %s", method);
    ck_assert_str_eq(of->method, method);
}

START_TEST(only_who_watches_a_topic_is_told)
{
    rig_reader other;
    rig_init(&r);
    start();
    rig_reader_init(&other, rig_connect(&r));
    tell(TOPIC_JOB, "before", 1);
    rig_ask(reader.fd, 1, "watch");
    expect_answer(1, "");
    tell(TOPIC_GENERATION, "another", 1);
    tell(TOPIC_JOB, "first", 1);
    tell(TOPIC_JOB | TOPIC_GENERATION, "second", 1);
    expect_notification(&reader, "first");
    expect_notification(&reader, "second");
    /* Requests and answers go on beside them. */
    rig_ask(reader.fd, 2, "ping");
    expect_answer(2, "");
    ck_assert_str_eq(reader.method, "");
    rig_ask(other.fd, 3, "ping");
    ck_assert(rig_next(&other) && other.msgid == 3);
    ck_assert_uint_eq(rig_stats(&r)->notifications, 2);
    rig_reader_free(&other);
    stop();
}
END_TEST

START_TEST(any_number_of_watchers_is_told_and_one_that_leaves_costs_nothing)
{
    enum { WATCHERS = 50 };
    rig_reader all[WATCHERS];
    rig_init(&r);
    start();
    for (uint32_t i = 0; i < WATCHERS; i++) {
        rig_reader_init(&all[i], rig_connect(&r));
        rig_ask(all[i].fd, i, "watch");
        ck_assert(rig_next(&all[i]) && all[i].msgid == i);
    }
    tell(TOPIC_JOB, "job", 1000);
    for (uint32_t i = 0; i < WATCHERS; i++)
        expect_notification(&all[i], "job");
    for (uint32_t i = 0; i < WATCHERS; i++)
        rig_reader_free(&all[i]);
    rig_until(rig_stats(&r)->connections == 1);
    tell(TOPIC_JOB, "job", 1000);
    rig_ask(reader.fd, 1, "ping");
    expect_answer(1, "");
    ck_assert_uint_eq(rig_stats(&r)->notifications, WATCHERS);
    stop();
}
END_TEST

START_TEST(a_watcher_that_does_not_read_is_closed_at_the_output_limit)
{
    enum { SIZE = 64 << 10, MOST = 1000 };
    rig_init(&r);
    r.config.server.output_buffer = 64 << 10;
    r.config.server.output_limit = 1 << 20;
    listen_unix();
    start();
    rig_ask(reader.fd, 1, "watch");
    rig_until(rig_stats(&r)->replies == 1);
    uint64_t sent = 0;
    while (rig_stats(&r)->connections > 0) {
        ck_assert_uint_lt(sent++, MOST);
        tell(TOPIC_JOB, "job", SIZE);
    }
    /* What was kept for it is bounded by the limit, and by what the socket holds. */
    ck_assert_uint_lt(rig_stats(&r)->notifications, (4 << 20) / SIZE);
    size_t read = 0;
    while (rig_next(&reader))
        read++;
    ck_assert_uint_le(read, sent + 1);
    stop();
}
END_TEST

START_TEST(who_watches_is_not_idle)
{
    rig_reader idle;
    rig_init(&r);
    r.config.server.idle_timeout_ms = 100;
    start();
    rig_ask(reader.fd, 1, "watch");
    expect_answer(1, "");
    rig_reader_init(&idle, rig_connect(&r));
    ck_assert(!rig_next(&idle)); /* it was closed, and the watcher, which came before it, was not */
    tell(TOPIC_JOB, "job", 1);
    expect_notification(&reader, "job");
    rig_reader_free(&idle);
    stop();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server_watch");
    TCase *tests = tcase_create("watch");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, only_who_watches_a_topic_is_told);
    tcase_add_test(tests, any_number_of_watchers_is_told_and_one_that_leaves_costs_nothing);
    tcase_add_test(tests, a_watcher_that_does_not_read_is_closed_at_the_output_limit);
    tcase_add_test(tests, who_watches_is_not_idle);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
