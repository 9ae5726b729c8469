/* make install: what the units start and read lies where they look for it. */
#include "tests/common/testing.h"

#include "base/files.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEST_TIMEOUT_S = 60 };

/* Runs a shell command and returns all that it prints. Static buffer. */
static const char *run(int *status, const char *format, ...) __attribute__((format(printf, 2, 3)));

static const char *run(int *status, const char *format, ...)
{
    static char text[65536];
    char command[4 * FILES_PATH_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(command, sizeof command, format, args);
    va_end(args);
    ck_assert_int_lt(n, (int)sizeof command);
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t size = fread(text, 1, sizeof text - 1, pipe);
    text[size] = '\0';
    int ended = pclose(pipe);
    *status = ended != -1 && WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
    return text;
}

static const char *environment(const char *name, const char *otherwise)
{
    const char *given = getenv(name);
    return given != NULL && *given != '\0' ? given : otherwise;
}

/* Without what an outer make hands on, its variables among it. */
static const char *install(const char *prefix)
{
    static char root[FILES_PATH_MAX];
    sem_error error;
    int status;
    ck_ok(files_join(root, &error, "%s/root", testing_folder()));
    const char *printed = run(&status,
                              "cd '%s' && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES make install-files "
                              "BUILD='%s' PREFIX=%s DESTDIR='%s' 2>&1",
                              environment("SEMD_ROOT", "."), environment("SEMD_BUILD", "build"), prefix, root);
    ck_assert_msg(status == 0, "%s", printed);
    return root;
}

/* Whether there is a file at this path of the installation. */
static void expect_file(const char *root, const char *path, int mode)
{
    char whole[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(whole, &error, "%s%s", root, path));
    ck_assert_msg(access(whole, mode) == 0, "%s is not installed", path);
}

/* The program that the unit starts, and the one after " -c " on that line ("" if none). */
static void read_unit(const char *root, const char *units, const char *unit, char program[256], char file[256])
{
    char path[FILES_PATH_MAX];
    char *text = NULL;
    size_t size;
    sem_error error;
    ck_ok(files_join(path, &error, "%s%s/%s", root, units, unit));
    ck_ok(files_read(path, 65536, &text, &size, &error));
    const char *line = strstr(text, "\nExecStart=");
    ck_assert_msg(line != NULL, "%s starts nothing", unit);
    line += strlen("\nExecStart=");
    size_t length = strcspn(line, "\n");
    ck_assert_uint_lt(length, 256);
    snprintf(program, 256, "%.*s", (int)strcspn(line, " \n"), line);
    const char *option = strstr(line, " -c ");
    *file = '\0';
    if (option != NULL && option < line + length)
        snprintf(file, 256, "%.*s", (int)strcspn(option + 4, " \n"), option + 4);
    free(text);
}

static void check_installation(const char *prefix, const char *configuration)
{
    char units[64], program[256], file[256], expected[64];
    int status;
    const char *root = install(prefix);
    snprintf(units, sizeof units, "%s/lib/systemd/system", prefix);

    read_unit(root, units, "semd.service", program, file);
    snprintf(expected, sizeof expected, "%s/bin/semd", prefix);
    ck_assert_str_eq(program, expected);
    ck_assert_str_eq(file, configuration);
    expect_file(root, program, X_OK);
    expect_file(root, file, R_OK);
    const char *printed = run(&status, "'%s%s' -c '%s%s' --check-config 2>&1", root, program, root, file);
    ck_assert_msg(status == 0, "%s", printed);

    read_unit(root, units, "semd-finetune.service", program, file);
    expect_file(root, program, X_OK);
    static const char *const pages[] = {"man1/semctl.1", "man8/semd.8", "man5/semd.conf.5"};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        char page[128];
        snprintf(page, sizeof page, "%s/share/man/%s", prefix, pages[i]);
        expect_file(root, page, R_OK);
    }
}

START_TEST(the_units_find_what_the_default_prefix_installs)
{
    check_installation("/usr/local", "/usr/local/etc/semd/semd.conf");
}
END_TEST

START_TEST(the_units_find_what_another_prefix_installs)
{
    check_installation("/usr", "/etc/semd/semd.conf");
}
END_TEST

START_TEST(a_changed_configuration_survives_an_installation)
{
    char path[FILES_PATH_MAX];
    char *text = NULL;
    size_t size;
    sem_error error;
    const char *root = install("/usr");
    ck_ok(files_join(path, &error, "%s/etc/semd/semd.conf", root));
    ck_ok(files_write(path, "[log]\nlevel = debug\n", 20, &error));
    root = install("/usr");
    ck_ok(files_read(path, 65536, &text, &size, &error));
    ck_assert_str_eq(text, "[log]\nlevel = debug\n");
    expect_file(root, "/etc/semd/semd.conf.new", R_OK);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_install");
    TCase *tests = tcase_create("installation");
    tcase_set_timeout(tests, TEST_TIMEOUT_S);
    tcase_add_test(tests, the_units_find_what_the_default_prefix_installs);
    tcase_add_test(tests, the_units_find_what_another_prefix_installs);
    tcase_add_test(tests, a_changed_configuration_survives_an_installation);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
