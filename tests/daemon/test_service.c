#include "tests/daemon/daemon_process.h"
#include "tests/daemon/fake_engine.h"
#include "tests/daemon/rig.h"

#include "base/files.h"
#include "daemon/service.h"

typedef struct launch {
    const char *path; /* of a configuration file, or NULL */
    const char *overrides[8];
    size_t count;
} launch;

static daemon_process d;
static char address[256], http[256];

static int run_service(void *context)
{
    launch *l = context;
    sem_error error;
    sem_log log;
    config c;
    bool abandoned;
    log_init(&log, STDERR_FILENO, LOG_LEVEL_INFO);
    config_defaults(&c);
    if (config_load(&c, l->path, l->overrides, l->count, &error) != SEM_OK)
        return 2;
    service_source source = {.path = l->path, .overrides = l->overrides, .count = l->count};
    sem_status status = service_run(&c, &source, &log, &abandoned, &error);
    log_event(&log, LOG_LEVEL_INFO, "end", "abandoned=%d", abandoned);
    return status == SEM_OK ? 0 : 1;
}

static void launch_with(launch *l, const char *start)
{
    static char path[512];
    snprintf(path, sizeof path, "model.path=%s", start);
    l->overrides[l->count++] = "server.listen=tcp://127.0.0.1:0";
    l->overrides[l->count++] = "server.http=127.0.0.1:0";
    l->overrides[l->count++] = path;
    daemon_fork(&d, run_service, l);
    daemon_log_expect(&d, "event=http ");
    snprintf(http, sizeof http, "%s", daemon_address(&d));
}

static void serving(void)
{
    daemon_log_expect(&d, "event=listening ");
    snprintf(address, sizeof address, "%s", daemon_address(&d));
}

/* Sends a request line and returns the whole answer. Static buffer. */
static const char *fetch(const char *request_line)
{
    static char answer[65536];
    size_t used = 0;
    ssize_t n;
    int fd = rig_dial(http);
    char text[4096];
    ck_assert_int_ge(fd, 0);
    snprintf(text, sizeof text, "%s\r\nHost: x\r\nConnection: close\r\n\r\n", request_line);
    rig_send(fd, text, strlen(text));
    while ((n = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0)
        used += (size_t)n;
    answer[used] = '\0';
    close(fd);
    return answer;
}

static void fetched(const char *request_line, const char *status, const char *body)
{
    const char *answer = fetch(request_line);
    ck_assert_msg(strncmp(answer, status, strlen(status)) == 0, "%s: %s", request_line, answer);
    ck_assert_msg(strstr(answer, body) != NULL, "%s lacks %s: %s", request_line, body, answer);
}

static void ask(rig_reader *r, uint32_t msgid, const char *method, const char *code)
{
    rig_ask(r->fd, msgid, method);
    ck_assert(rig_next(r));
    ck_assert_uint_eq(r->msgid, msgid);
    ck_assert_str_eq(r->code, code);
}

START_TEST(ready_is_said_when_requests_are_answered_and_sigterm_ends_with_0)
{
    launch l = {0};
    rig_reader r;
    d = (daemon_process){.notify_fd = -1};
    daemon_notify_open(&d);
    launch_with(&l, "x");
    daemon_notify_expect(&d, "STATUS=Opening the store");
    serving();
    daemon_notify_expect(&d, "READY=1");
    rig_reader_init(&r, rig_dial(address));
    ask(&r, 1, "ping", "");
    fetched("GET /readyz HTTP/1.1", "HTTP/1.1 200", "ready");
    kill(d.pid, SIGTERM);
    daemon_notify_expect(&d, "STOPPING=1");
    ck_assert(!rig_next(&r));
    ck_assert_int_eq(daemon_wait(&d), 0);
    rig_reader_free(&r);
}
END_TEST

START_TEST(while_starting_only_ping_is_answered)
{
    launch l = {0};
    sem_error error;
    char gate[300], start[310];
    rig_reader r;
    snprintf(gate, sizeof gate, "%s/go", testing_folder());
    snprintf(start, sizeof start, "wait:%s", gate);
    static char listen[300];
    snprintf(listen, sizeof listen, "server.listen=unix:%s/s", testing_folder());
    l.overrides[l.count++] = listen;
    launch_with(&l, start);
    daemon_log_expect(&d, "event=starting");
    rig_reader_init(&r, rig_dial(listen + strlen("server.listen=")));
    ask(&r, 1, "ping", "");
    ask(&r, 2, "info", "UNAVAILABLE");
    ck_assert_ptr_nonnull(strstr(r.message, "starting"));
    fetched("GET /livez HTTP/1.1", "HTTP/1.1 200", "alive");
    fetched("GET /readyz HTTP/1.1", "HTTP/1.1 503", "starting");
    fetched("GET /metrics HTTP/1.1", "HTTP/1.1 200", "semd_ready 0");
    ck_ok(files_write(gate, "", 0, &error));
    serving();
    fetched("GET /metrics HTTP/1.1", "HTTP/1.1 200", "semd_ready 1");
    fetched("GET /metrics HTTP/1.1", "HTTP/1.1 200", "fake_engine 1");
    rig_reader_free(&r);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(a_failed_start_ends_with_its_reason)
{
    launch l = {0};
    launch_with(&l, "fail");
    ck_assert_int_eq(daemon_wait(&d), 1);
}
END_TEST

START_TEST(sigterm_while_starting_ends_in_time)
{
    launch l = {.overrides = {"server.drain_timeout=50ms"}, .count = 1};
    launch_with(&l, "wait:/nonexistent");
    daemon_log_expect(&d, "event=starting");
    kill(d.pid, SIGTERM);
    daemon_log_expect(&d, "event=end abandoned=1");
    ck_assert_int_eq(daemon_wait(&d), 0);
}
END_TEST

START_TEST(a_drain_waits_for_requests_in_flight_but_not_for_ever)
{
    launch l = {.overrides = {"server.drain_timeout=100ms"}, .count = 1};
    rig_reader r;
    launch_with(&l, "x");
    serving();
    rig_reader_init(&r, rig_dial(address));
    rig_ask(r.fd, 1, "info");
    daemon_log_expect(&d, "event=held");
    kill(d.pid, SIGTERM);
    daemon_log_expect(&d, "event=drain_timeout");
    ck_assert(!rig_next(&r));
    daemon_log_expect(&d, "event=end abandoned=0");
    ck_assert_int_eq(daemon_wait(&d), 0);
    rig_reader_free(&r);
}
END_TEST

START_TEST(a_second_sigterm_ends_at_once_with_1)
{
    launch l = {0};
    rig_reader r;
    launch_with(&l, "x");
    serving();
    rig_reader_init(&r, rig_dial(address));
    rig_ask(r.fd, 1, "info");
    daemon_log_expect(&d, "event=held");
    kill(d.pid, SIGTERM);
    daemon_log_expect(&d, "event=draining");
    fetched("GET /readyz HTTP/1.1", "HTTP/1.1 503", "draining");
    kill(d.pid, SIGTERM);
    daemon_log_expect(&d, "event=end abandoned=1");
    ck_assert_int_eq(daemon_wait(&d), 1);
    rig_reader_free(&r);
}
END_TEST

START_TEST(sighup_reloads_what_can_be_and_names_the_rest)
{
    sem_error error;
    char path[300];
    rig_reader r;
    static const char first[] = "[limits]\nids = 5\n[encode]\nworkers = 1\n";
    static const char second[] = "[limits]\nk = 77\n[encode]\nworkers = 2\n";
    static const char broken[] = "[limits]\nk = many\n";
    snprintf(path, sizeof path, "%s/semd.conf", testing_folder());
    launch l = {.path = path};
    ck_ok(files_write(path, first, sizeof first - 1, &error));
    d = (daemon_process){.notify_fd = -1};
    daemon_notify_open(&d);
    launch_with(&l, "x");
    serving();
    daemon_notify_expect(&d, "READY=1");
    rig_reader_init(&r, rig_dial(address));
    rig_ask(r.fd, 1, "info");
    daemon_log_expect(&d, "event=held");

    ck_ok(files_write(path, second, sizeof second - 1, &error));
    kill(d.pid, SIGHUP);
    daemon_log_expect(&d, "event=engine_reload k=77");
    daemon_log_expect(&d, "event=restart_needed keys=\"encode.workers\"");
    daemon_notify_expect(&d, "RELOADING=1");
    daemon_notify_expect(&d, "READY=1");
    ck_assert(rig_next(&r));

    ck_ok(files_write(path, broken, sizeof broken - 1, &error));
    kill(d.pid, SIGHUP);
    daemon_log_expect(&d, "event=reload_failed");
    ck_assert_ptr_nonnull(strstr(d.line, "semd.conf:2"));
    daemon_notify_expect(&d, "READY=1");
    ask(&r, 2, "ping", "");
    rig_reader_free(&r);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(sighup_while_starting_waits_for_the_start)
{
    launch l = {0};
    sem_error error;
    char gate[300], start[310];
    snprintf(gate, sizeof gate, "%s/go", testing_folder());
    snprintf(start, sizeof start, "wait:%s", gate);
    launch_with(&l, start);
    daemon_log_expect(&d, "event=starting");
    kill(d.pid, SIGHUP);
    poll(NULL, 0, 50);
    ck_ok(files_write(gate, "", 0, &error));
    daemon_log_expect(&d, "event=listening");
    daemon_log_expect(&d, "event=reloaded");
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(http_answers_three_paths_by_get_and_head_and_nothing_else)
{
    launch l = {0};
    launch_with(&l, "x");
    serving();
    fetched("GET /livez HTTP/1.1", "HTTP/1.1 200", "alive");
    const char *head = fetch("HEAD /livez HTTP/1.1");
    ck_assert_msg(strstr(head, "\r\n\r\n") != NULL && strstr(head, "\r\n\r\n")[4] == '\0', "%s", head);
    fetched("HEAD /livez HTTP/1.1", "HTTP/1.1 200", "Content-Type: text/plain");
    fetched("GET /metrics HTTP/1.1", "HTTP/1.1 200", "# TYPE semd_server_requests_total counter");
    fetched("GET / HTTP/1.1", "HTTP/1.1 404", "not found");
    fetched("GET /livez/../metrics HTTP/1.1", "HTTP/1.1 404", "not found");
    fetched("POST /livez HTTP/1.1", "HTTP/1.1 501", "");
    fetched("DELETE /livez HTTP/1.1", "HTTP/1.1 501", "");
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(http_bounds_what_a_client_sends)
{
    launch l = {0};
    static char line[20000];
    launch_with(&l, "x");
    serving();
    memset(line, 'a', sizeof line - 1);
    memcpy(line, "GET /livez?", 11);
    int fd = rig_dial(http);
    (void)!send(fd, line, sizeof line - 1, MSG_NOSIGNAL);
    ssize_t n = recv(fd, line, sizeof line - 1, 0);
    ck_assert_msg(n <= 0 || strncmp(line, "HTTP/1.1 4", 10) == 0, "an endless line was taken");
    close(fd);
    fetched("GET /livez HTTP/1.1", "HTTP/1.1 200", "alive");
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(the_watchdog_is_told_that_all_turns)
{
    launch l = {0};
    d = (daemon_process){.notify_fd = -1};
    daemon_notify_open(&d);
    setenv("WATCHDOG_USEC", "100000", 1);
    launch_with(&l, "x");
    unsetenv("WATCHDOG_USEC");
    serving();
    daemon_notify_expect(&d, "READY=1");
    daemon_notify_expect(&d, "WATCHDOG=1");
    daemon_notify_expect(&d, "WATCHDOG=1");
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(an_address_in_use_ends_the_start)
{
    launch first = {0}, second = {0};
    static char listen[300];
    daemon_process other;
    launch_with(&first, "x");
    serving();
    snprintf(listen, sizeof listen, "server.listen=%s", address);
    second.overrides[second.count++] = listen;
    other = d;
    daemon_fork(&d, run_service, &second);
    ck_assert_int_eq(daemon_wait(&d), 1);
    ck_assert_int_eq(daemon_stop(&other), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("service");
    TCase *tests = tcase_create("service");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, ready_is_said_when_requests_are_answered_and_sigterm_ends_with_0);
    tcase_add_test(tests, while_starting_only_ping_is_answered);
    tcase_add_test(tests, a_failed_start_ends_with_its_reason);
    tcase_add_test(tests, sigterm_while_starting_ends_in_time);
    tcase_add_test(tests, a_drain_waits_for_requests_in_flight_but_not_for_ever);
    tcase_add_test(tests, a_second_sigterm_ends_at_once_with_1);
    tcase_add_test(tests, sighup_reloads_what_can_be_and_names_the_rest);
    tcase_add_test(tests, sighup_while_starting_waits_for_the_start);
    tcase_add_test(tests, http_answers_three_paths_by_get_and_head_and_nothing_else);
    tcase_add_test(tests, http_bounds_what_a_client_sends);
    tcase_add_test(tests, the_watchdog_is_told_that_all_turns);
    tcase_add_test(tests, an_address_in_use_ends_the_start);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
