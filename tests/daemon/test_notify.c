/* The real daemon under a service manager: notifications, watchdog, socket
 * activation, and its command line. */
#include "tests/daemon/daemon_process.h"
#include "tests/daemon/rig.h"

#include "base/files.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

enum { ARGUMENTS_MAX = 16 };

/* Another daemon of this machine may have the usual ones. */
#define NO_PORT "-o", "server.listen=tcp://127.0.0.1:0", "-o", "server.http="

static daemon_process d;

typedef struct command {
    const char *arguments[ARGUMENTS_MAX];
    size_t count;
    int listen_fd;             /* handed over as descriptor 3; 0: none */
    const char *watchdog_usec; /* NULL: none */
} command;

/* semd of the build that this test program belongs to. Static buffer. */
static const char *semd_program(void)
{
    static char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof "semd");
    ck_assert_int_gt(n, 0);
    path[n] = '\0';
    for (int i = 0; i < 3; i++)
        *strrchr(path, '/') = '\0'; /* BUILD/tests/daemon/test_notify */
    strcat(path, "/semd");
    if (access(path, X_OK) == 0)
        return path;
    fprintf(stderr, "skipped: %s is missing (make)\n", path);
    return NULL;
}

static int run_command(void *context)
{
    command *c = context;
    char pid[16];
    const char *arguments[ARGUMENTS_MAX + 2] = {semd_program()};
    memcpy(arguments + 1, c->arguments, c->count * sizeof *arguments);
    if (c->watchdog_usec != NULL)
        setenv("WATCHDOG_USEC", c->watchdog_usec, 1);
    if (c->listen_fd > 0) {
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        setenv("LISTEN_PID", pid, 1);
        setenv("LISTEN_FDS", "1", 1);
        if (c->listen_fd != 3)
            dup2(c->listen_fd, 3);
        else
            fcntl(3, F_SETFD, 0);
    }
    execv(arguments[0], (char *const *)(void *)arguments);
    return 127;
}

/* Adds the keys of a small daemon; false (with a line) when something is missing. */
static bool prepare(command *c)
{
    static char storage[FILES_PATH_MAX + 32], weights[FILES_PATH_MAX + 32];
    const char *tiny = testing_shared("golden/tiny-bert");
    if (tiny == NULL || semd_program() == NULL)
        return false;
    snprintf(storage, sizeof storage, "storage.path=%s/data", testing_folder());
    snprintf(weights, sizeof weights, "model.path=%s", tiny);
    const char *keys[] = {storage, weights, "server.listen=tcp://127.0.0.1:0", "server.http=", "encode.workers=1"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        c->arguments[c->count++] = "-o";
        c->arguments[c->count++] = keys[i];
    }
    return true;
}

START_TEST(the_manager_hears_of_start_watchdog_and_end)
{
    command c = {.watchdog_usec = "400000"};
    if (!prepare(&c))
        return;
    d = (daemon_process){.notify_fd = -1};
    daemon_notify_open(&d);
    daemon_fork(&d, run_command, &c);
    daemon_notify_expect(&d, "STATUS=");
    daemon_notify_expect(&d, "READY=1");
    daemon_log_expect(&d, "event=listening address=tcp://127.0.0.1:");
    daemon_notify_expect(&d, "WATCHDOG=1");
    daemon_notify_expect(&d, "WATCHDOG=1");
    kill(d.pid, SIGTERM);
    daemon_notify_expect(&d, "STOPPING=1");
    ck_assert_int_eq(daemon_wait(&d), 0);
}
END_TEST

START_TEST(a_reload_is_announced_and_ended)
{
    command c = {0};
    if (!prepare(&c))
        return;
    d = (daemon_process){.notify_fd = -1};
    daemon_notify_open(&d);
    daemon_fork(&d, run_command, &c);
    daemon_notify_expect(&d, "READY=1");
    kill(d.pid, SIGHUP);
    daemon_notify_expect(&d, "RELOADING=1");
    daemon_notify_expect(&d, "READY=1");
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

START_TEST(a_socket_of_the_manager_replaces_server_listen)
{
    command c = {0};
    rig_reader r;
    char address[64];
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof where;
    if (!prepare(&c))
        return;
    d = (daemon_process){.notify_fd = -1};
    c.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(c.listen_fd, (struct sockaddr *)&where, sizeof where), 0);
    ck_assert_int_eq(listen(c.listen_fd, 16), 0);
    ck_assert_int_eq(getsockname(c.listen_fd, (struct sockaddr *)&where, &length), 0);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", ntohs(where.sin_port));
    rig_reader_init(&r, rig_dial(address)); /* before the daemon exists: the client waits */
    rig_ask(r.fd, 1, "ping");
    daemon_fork(&d, run_command, &c);
    daemon_log_expect(&d, "event=listening");
    ck_assert_str_eq(daemon_address(&d), address);
    ck_assert(rig_next(&r));
    ck_assert_str_eq(r.code, "");
    rig_reader_free(&r);
    close(c.listen_fd);
    ck_assert_int_eq(daemon_stop(&d), 0);
}
END_TEST

static void expect_end(int status, const char *text, command c)
{
    if (semd_program() == NULL)
        return;
    d = (daemon_process){.notify_fd = -1};
    daemon_fork(&d, run_command, &c);
    if (text != NULL)
        daemon_log_expect(&d, text);
    ck_assert_int_eq(daemon_wait(&d), status);
}

START_TEST(the_exit_status_says_what_was_wrong)
{
    expect_end(0, NULL, (command){.arguments = {"--version"}, .count = 1});
    expect_end(0, NULL, (command){.arguments = {"--help"}, .count = 1});
    expect_end(0, NULL, (command){.arguments = {"--check-config"}, .count = 1});
    expect_end(2, "usage", (command){.arguments = {"--no-such"}, .count = 1});
    expect_end(2, "unexpected argument", (command){.arguments = {"extra"}, .count = 1});
    expect_end(2, "usage", (command){.arguments = {"-c"}, .count = 1});
    expect_end(2, "server.x", (command){.arguments = {"--check-config", "-o", "server.x=1"}, .count = 3});
    expect_end(2, "/nonexistent", (command){.arguments = {"-c", "/nonexistent"}, .count = 2});
    expect_end(1, "event=failed", (command){.arguments = {"-o", "server.listen=unix:/nonexistent/s"}, .count = 2});
}
END_TEST

START_TEST(a_first_start_that_fails_leaves_no_part_of_a_model)
{
    const char *tiny = testing_shared("golden/tiny-bert"), *dir = testing_folder();
    char source[FILES_PATH_MAX], path[FILES_PATH_MAX], from[FILES_PATH_MAX + 32], to[FILES_PATH_MAX + 32];
    sem_error error;
    if (tiny == NULL || semd_program() == NULL)
        return;
    ck_ok(files_join(source, &error, "%s/model", dir));
    ck_ok(files_copy_folder(tiny, source, &error));
    snprintf(from, sizeof from, "model.path=%s", source);
    snprintf(to, sizeof to, "storage.path=%s/state", source);
    expect_end(1, "lies around", (command){.arguments = {"-o", from, "-o", to, NO_PORT}, .count = 8});
    ck_ok(files_join(path, &error, "%s/state", source));
    ck_ok(files_remove_folder(path, &error));

    ck_ok(files_join(path, &error, "%s/pipe", source));
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    snprintf(to, sizeof to, "storage.path=%s/state", dir);
    expect_end(1, "neither a file nor a folder", (command){.arguments = {"-o", from, "-o", to, NO_PORT}, .count = 8});
    ck_ok(files_join(path, &error, "%s/state/models/model", dir));
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("notify");
    TCase *tests = tcase_create("notify");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, the_manager_hears_of_start_watchdog_and_end);
    tcase_add_test(tests, a_reload_is_announced_and_ended);
    tcase_add_test(tests, a_socket_of_the_manager_replaces_server_listen);
    tcase_add_test(tests, the_exit_status_says_what_was_wrong);
    tcase_add_test(tests, a_first_start_that_fails_leaves_no_part_of_a_model);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
