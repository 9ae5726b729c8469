#include "tests/common/testing.h"

#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char UNITS[] = "/usr/lib/systemd/system";
static const char OURS[] = "semd.service semd.socket semd-finetune.service semd-finetune.timer";
static const double EXPOSURE_MAX = 2.0;

static bool have_systemd_analyze(void)
{
    if (access("/usr/bin/systemd-analyze", X_OK) == 0 && access(UNITS, R_OK) == 0)
        return true;
    fprintf(stderr, "skipped: systemd-analyze is missing (apt-get install systemd)\n");
    return false;
}

/* Runs a command and returns what it prints, standard error included. Static buffer. */
static const char *run(int *status, const char *command)
{
    static char text[65536];
    FILE *pipe = popen(command, "r");
    ck_assert_ptr_nonnull(pipe);
    size_t size = fread(text, 1, sizeof text - 1, pipe);
    text[size] = '\0';
    *status = pclose(pipe);
    return text;
}

static void make_program(const char *root, const char *path)
{
    char whole[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(whole, &error, "%s%s", root, path));
    ck_ok(files_write(whole, "#!/bin/sh\n", 10, &error));
    ck_assert_int_eq(chmod(whole, 0755), 0);
}

/* An installation below a folder: our units, the system's, and programs of the
 * names that the units start. */
static const char *make_root(void)
{
    static char root[FILES_PATH_MAX];
    static const char *const folders[] = {"/usr/local/bin", "/bin", "/etc/systemd/system", "/usr/lib/systemd"};
    char command[3 * FILES_PATH_MAX], folder[FILES_PATH_MAX];
    const char *source = getenv("SEMD_ROOT");
    int status;
    sem_error error;
    ck_ok(files_join(root, &error, "%s/root", testing_folder()));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        ck_ok(files_join(folder, &error, "%s%s", root, folders[i]));
        ck_ok(files_make_folder(folder, &error));
    }
    make_program(root, "/usr/local/bin/semd");
    make_program(root, "/usr/local/bin/semctl");
    make_program(root, "/bin/kill");
    snprintf(command, sizeof command,
             "cp -r %s '%s/usr/lib/systemd/' && cp '%s'/systemd/semd* '%s/etc/systemd/system/' 2>&1", UNITS, root,
             source != NULL ? source : ".", root);
    const char *printed = run(&status, command);
    ck_assert_msg(status == 0, "%s", printed);
    return root;
}

START_TEST(the_units_are_clean)
{
    char command[FILES_PATH_MAX + 256];
    int status;
    if (!have_systemd_analyze())
        return;
    snprintf(command, sizeof command, "systemd-analyze verify --man=no --root='%s' %s 2>&1", make_root(), OURS);
    const char *printed = run(&status, command);
    ck_assert_msg(status == 0 && printed[0] == '\0', "%s", printed);
}
END_TEST

START_TEST(the_services_are_confined)
{
    static const char *const services[] = {"semd.service", "semd-finetune.service"};
    char command[FILES_PATH_MAX + 256];
    int status;
    if (!have_systemd_analyze())
        return;
    const char *root = make_root();
    for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
        snprintf(command, sizeof command, "systemd-analyze security --no-pager --offline=true --root='%s' %s 2>&1",
                 root, services[i]);
        const char *printed = run(&status, command);
        const char *level = strstr(printed, "Overall exposure level for ");
        ck_assert_msg(level != NULL && strchr(level, ':') != NULL, "%s", printed);
        double exposure = atof(strchr(level, ':') + 1);
        ck_assert_msg(exposure > 0 && exposure <= EXPOSURE_MAX, "%s: %.1f", services[i], exposure);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("units");
    TCase *tests = tcase_create("units");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_units_are_clean);
    tcase_add_test(tests, the_services_are_confined);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
