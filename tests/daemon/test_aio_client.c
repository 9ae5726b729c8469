/* A MessagePack-RPC client that semd has nothing to do with works unchanged: the
 * Python package aio-msgpack-rpc, as the index serves it. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "base/process.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { TEST_TIMEOUT_S = 250 };

static const char *environment(const char *name, const char *otherwise)
{
    const char *given = getenv(name);
    return given != NULL && *given != '\0' ? given : otherwise;
}

/* True if the shell command ended with 0; its output is in the test's log. */
static bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool run(const char *format, ...)
{
    char command[4 * FILES_PATH_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(command, sizeof command, format, args);
    va_end(args);
    ck_assert_int_lt(n, (int)sizeof command);
    fflush(NULL);
    int status = system(command);
    return status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A virtual environment with the package, made once; false where pip reaches no index. */
static bool have_client(const char *root, char python[FILES_PATH_MAX])
{
    sem_error error = {0};
    ck_ok(files_join(python, &error, "%s/build/venv/clients/bin/python", root));
    if (run("'%s' -c 'import aio_msgpack_rpc' 2>/dev/null", python))
        return true;
    return run("'%s' -m venv '%s/build/venv/clients'", environment("PYTHON", "python3"), root) &&
           run("timeout 120 '%s' -m pip install -q --disable-pip-version-check --retries 1 aio-msgpack-rpc", python);
}

START_TEST(aio_msgpack_rpc_calls_ping_encode_upsert_and_search)
{
    sem_error error = {0};
    const char *root = environment("SEMD_ROOT", ".");
    char python[FILES_PATH_MAX], semd[FILES_PATH_MAX], log[FILES_PATH_MAX];
    char storage[FILES_PATH_MAX + 32], model[FILES_PATH_MAX + 32];
    const char *weights = testing_shared("golden/tiny-bert");
    if (weights == NULL)
        weights = testing_minilm();
    if (weights == NULL)
        return;
    snprintf(model, sizeof model, "model.path=%s", weights);
    if (!have_client(root, python)) {
        fprintf(stderr, "skipped: pip could not install aio-msgpack-rpc\n");
        return;
    }
    ck_ok(files_join(semd, &error, "%s/%s/semd", root, environment("SEMD_BUILD", "build")));
    ck_ok(files_join(log, &error, "%s/semd.log", testing_folder()));
    snprintf(storage, sizeof storage, "storage.path=%s/data", testing_folder());
    const char *argv[] = {semd,  "-o", "server.listen=tcp://127.0.0.1:0", "-o", "server.http=", "-o", storage, "-o",
                          model, NULL};
    process daemon;
    sigset_t mask;
    sigemptyset(&mask);
    ck_ok(process_start(&daemon, (char *const *)argv, log, false, &mask, &error));

    const char *port = strrchr(daemon.address, ':');
    ck_assert_ptr_nonnull(port);
    bool answered = run("timeout 100 '%s' '%s/tests/python/aio_client.py' 127.0.0.1 %s 2>&1", python, root, port + 1);
    bool ended = process_stop(&daemon);

    ck_assert_msg(answered, "aio_client.py: see above, and %s", log);
    ck_assert_msg(ended, "semd did not end with 0 after SIGTERM");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("aio_client");
    TCase *tests = tcase_create("python");
    tcase_set_timeout(tests, TEST_TIMEOUT_S);
    tcase_add_test(tests, aio_msgpack_rpc_calls_ping_encode_upsert_and_search);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
