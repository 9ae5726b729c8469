#include "tests/common/testing.h"

#include "tools/demo/traffic.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static sem_error error;

static void same_query(const void *context, size_t number, char out[TRAFFIC_QUERY_MAX])
{
    (void)context;
    (void)number;
    snprintf(out, TRAFFIC_QUERY_MAX, "warm");
}

/* A port of this machine that takes connections; its socket. */
static int listen_somewhere(char address[64])
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof where;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&where, sizeof where), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&where, &size), 0);
    snprintf(address, 64, "tcp://127.0.0.1:%d", ntohs(where.sin_port));
    return fd;
}

START_TEST(a_lost_connection_ends_the_searches_and_is_told)
{
    enum { MOST = 1000000 };
    char address[64];
    const int fd = listen_somewhere(address);
    const traffic_options options = {
        .address = address, .per_second = 100, .most = MOST, .phases = 1, .query = same_query};
    const struct timespec pause = {.tv_nsec = 1000000};
    traffic *t;
    traffic_report report;
    ck_ok(traffic_start(&t, &options, &error));
    const int peer = accept(fd, NULL, NULL);
    ck_assert_int_ge(peer, 0);
    ck_assert(!traffic_is_over(t));
    close(peer);
    while (!traffic_is_over(t)) /* or the test's time is over */
        nanosleep(&pause, NULL);
    ck_assert_uint_lt(traffic_sent(t), MOST);
    traffic_stop(t, &report);
    ck_assert_str_ne(report.first_failure, "");
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("traffic");
    TCase *tests = tcase_create("traffic");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_lost_connection_ends_the_searches_and_is_told);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
