/* Runs build/semtrain and reads what it prints. */
#ifndef SEM_TESTS_TOOLS_SEMTRAIN_RUN_H
#define SEM_TESTS_TOOLS_SEMTRAIN_RUN_H

#include "tests/common/testing.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_error error;

enum { OUTPUT = 1 << 16, PATH = 1024 };

/* What the last run printed, both streams. */
static char output[OUTPUT];

/* Runs build/semtrain with the arguments, for the shell; its exit status. */
static inline int run(const char *arguments)
{
    const char *build = getenv("SEMD_BUILD");
    char line[4 * PATH];
    snprintf(line, sizeof line, "%s/semtrain %s 2>&1", build != NULL ? build : "build", arguments);
    FILE *pipe = popen(line, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t used = fread(output, 1, sizeof output - 1, pipe);
    output[used] = '\0';
    int status = pclose(pipe);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The same, killed after so many milliseconds; false where it had ended before. */
static inline bool run_killed(const char *arguments, unsigned milliseconds)
{
    const char *build = getenv("SEMD_BUILD");
    char line[4 * PATH];
    snprintf(line, sizeof line, "exec %s/semtrain %s >/dev/null 2>&1", build != NULL ? build : "build", arguments);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    int status;
    usleep(1000 * milliseconds);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "semtrain %s: exit status %d", arguments,
                  WEXITSTATUS(status));
    return WIFSIGNALED(status);
}

static inline void ck_prints(const char *text)
{
    ck_assert_msg(strstr(output, text) != NULL, "no \"%s\" in: %s", text, output);
}

static inline const char *in_folder(const char *name)
{
    static char paths[8][PATH];
    static size_t next;
    char *path = paths[next++ % 8];
    ck_assert_int_lt(snprintf(path, PATH, "%s/%s", testing_folder(), name), PATH);
    return path;
}

static inline const char *write_file(const char *name, const char *content)
{
    const char *path = in_folder(name);
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(content, out), 0);
    ck_assert_int_eq(fclose(out), 0);
    return path;
}

#endif
