/* A small disk (tmpfs) that only this test's process and its children see, and others
 * that write to it. */
#ifndef SEM_TESTS_COMMON_SMALL_DISK_H
#define SEM_TESTS_COMMON_SMALL_DISK_H

#include "tests/common/testing.h"

#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Makes the folder; size: "16m". False, with a line, where that is not allowed. */
static inline bool small_disk_mount(const char *folder, const char *size)
{
    char options[32];
    snprintf(options, sizeof options, "size=%s", size);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("semd-test", folder, "tmpfs", 0, options) == 0)
        return true;
    printf("skipped: mounting a small disk needs privileges\n");
    return false;
}

/* Another program's file, which takes all that is left, to the last byte. */
static inline void small_disk_take(const char *folder, char path[FILES_PATH_MAX])
{
    sem_error error;
    char page[4096];
    memset(page, 1, sizeof page);
    ck_ok(files_join(path, &error, "%s/other", folder));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    ck_assert_int_ge(fd, 0);
    while (write(fd, page, sizeof page) > 0)
        ;
    ck_assert_int_eq(errno, ENOSPC);
    ck_assert_int_eq(close(fd), 0);
}

#endif
