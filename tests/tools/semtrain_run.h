/* What the tests of semtrain's command line share: running it, in a folder of their own, on a small
 * recipe, to its end or to a kill. */
#ifndef SEM_TESTS_TOOLS_SEMTRAIN_RUN_H
#define SEM_TESTS_TOOLS_SEMTRAIN_RUN_H

#include "tests/common/python.h"
#include "tests/common/testing.h"

#include "base/random.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_error error __attribute__((unused));

enum { OUTPUT = 1 << 16, PATH = 1024 };

/* What the last run printed, both streams. */
static char output[OUTPUT];

/* Runs build/semtrain with the arguments, for the shell; its exit status. */
static inline int run(const char *arguments)
{
    const char *build = getenv("SEMD_BUILD");
    char line[5 * PATH];
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
    char line[5 * PATH];
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

static inline const char *write_file(const char *name, const char *content)
{
    const char *path = testing_path(name);
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(content, out), 0);
    ck_assert_int_eq(fclose(out), 0);
    return path;
}

/* A recipe over two small sets and the tiny model, and a line to run it; false: the model is missing. */
static inline bool small_recipe(char command[PATH], const char *name)
{
    char text[6 * PATH];
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return false;
    write_file("faq.jsonl", "[\"where is my card\", \"your card is in the post\"]\n"
                            "[\"how do I pay\", \"pay with your card\"]\nbroken\n"
                            "[\"who are you\", \"your bank is your friend\"]\n"
                            "[\"what is a bank\", \"a bank is a house\"]\n");
    write_file("talk.en", "one house\ntwo trees\nthree birds\n");
    write_file("talk.de", "ein Haus\nzwei Baeume\ndrei Voegel\n");
    snprintf(text, sizeof text,
             "[train]\nmodel = %s\noutput = %s\nbatch_size = 2\nepochs = 3\nthreads = 1\n"
             "[mix]\nsampling = temperature\ntemperature = 2\n"
             "[data faq]\nfile = %s\n"
             "[data talk]\nform = parallel\nfile = %s\nfile = %s\n"
             "[mine]\noutput = %s\nnegatives = 2\n"
             "[eval own]\nfile = %s\nk = 5\n"
             "[eval talk]\nkind = translation\nform = parallel\nfile = %s\nfile = %s\n",
             dir, testing_path("trained"), testing_path("faq.jsonl"), testing_path("talk.en"), testing_path("talk.de"),
             testing_path("mined"), testing_path("faq.jsonl"), testing_path("talk.en"), testing_path("talk.de"));
    snprintf(command, PATH, "%s %s", name, write_file("recipe.ini", text));
    return true;
}

/* Runs the line and kills it, at random moments and later each time, until the file or folder `out` is there,
 * which is whole whenever it dies: the same run each time, which goes on from its checkpoint. */
static inline void run_through_kills(const char *command, const char *out)
{
    random_state r;
    size_t killed = 0;
    uint64_t window_ms = 150; /* grows, so that a slow build comes to its checkpoints too */
    random_seed(&r, testing_seed());
    while (access(testing_path(out), F_OK) != 0 && run_killed(command, (unsigned)(20 + random_below(&r, window_ms)))) {
        ck_assert_uint_lt(++killed, 60);
        window_ms += window_ms / 5;
    }
    ck_assert_uint_gt(killed, 0);
}

static inline void ck_same_files(const char *a, const char *b)
{
    FILE *x = fopen(a, "r"), *y = fopen(b, "r");
    ck_assert_msg(x != NULL && y != NULL, "%s or %s is missing", a, b);
    int c, d;
    size_t at = 0;
    do {
        c = getc(x);
        d = getc(y);
        ck_assert_msg(c == d, "%s and %s differ at byte %zu", a, b, at);
        at++;
    } while (c != EOF);
    fclose(x);
    fclose(y);
}

#endif
