#include "tests/common/testing.h"

#include "base/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[FILES_PATH_MAX];
static pid_t folder_owner;

static void remove_folder(void)
{
    if (folder[0] != '\0' && folder_owner == getpid())
        files_remove_folder(folder, NULL);
}

const char *testing_folder(void)
{
    if (folder[0] != '\0' && folder_owner == getpid())
        return folder;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/semd-test-XXXXXX", base != NULL ? base : "/tmp");
    ck_assert_msg(mkdtemp(folder) != NULL, "cannot create %s", folder);
    folder_owner = getpid();
    atexit(remove_folder);
    return folder;
}

const char *testing_path(const char *name)
{
    enum { AT_A_TIME = 8 };
    static char paths[AT_A_TIME][FILES_PATH_MAX];
    static size_t next;
    sem_error error;
    char *path = paths[next++ % AT_A_TIME];
    ck_ok(files_join(path, &error, "%s/%s", testing_folder(), name));
    return path;
}

/* Tests run from the project's root; $SEMD_ROOT overrides it. */
static const char *root(void)
{
    const char *given = getenv("SEMD_ROOT");
    return given != NULL ? given : ".";
}

const char *testing_shared(const char *name)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/../shared/%s", root(), name);
    if (access(path, R_OK) == 0)
        return path;
    fprintf(stderr, "skipped: %s is missing\n", path);
    return NULL;
}

const char *testing_minilm(void)
{
    static char path[FILES_PATH_MAX];
    const char *given = getenv("SEMD_MODEL");
    snprintf(path, sizeof path, "%s%s", given != NULL ? given : root(),
             given != NULL ? "" : "/build/models/all-MiniLM-L6-v2");
    if (access(path, R_OK) == 0)
        return path;
    fprintf(stderr, "skipped: %s is missing (make model)\n", path);
    return NULL;
}

uint64_t testing_seed(void)
{
    return testing_seed_or((uint64_t)time(NULL));
}

uint64_t testing_seed_or(uint64_t usual)
{
    static uint64_t seed;
    if (seed == 0) {
        const char *given = getenv("SEMD_TEST_SEED");
        seed = given != NULL ? strtoull(given, NULL, 10) : usual;
        printf("seed %llu (SEMD_TEST_SEED repeats it)\n", (unsigned long long)seed);
    }
    return seed;
}

int testing_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
