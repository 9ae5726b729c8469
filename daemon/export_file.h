/* A file that an export writes: beside its place first, in its place when it is whole and
 * on disk, never over another. */
#ifndef SEM_DAEMON_EXPORT_FILE_H
#define SEM_DAEMON_EXPORT_FILE_H

#include "base/files.h"
#include "base/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct export_file {
    char final[FILES_PATH_MAX], temporary[FILES_PATH_MAX]; /* temporary: "" when there is none */
    char folder[FILES_PATH_MAX];
    FILE *to;
} export_file;

/* path, and what is appended to it: relative to `directory`, or absolute and in it. The
 * folder that it lies in must exist; what lies in storage is refused. SEM_ALREADY_EXISTS
 * where a file is. *f is to be closed in any case; it begins as {0}. */
sem_status export_file_open(export_file *f, const char *directory, const char *storage, const char *path,
                            size_t path_length, const char *appended, sem_error *err);
/* SEM_RESOURCE_EXHAUSTED where its disk has no room for so many bytes. */
sem_status export_file_check_room(const export_file *f, uint64_t bytes, sem_error *err);
/* Everything is on disk; *bytes how much. */
sem_status export_file_finish(export_file *f, uint64_t *bytes, sem_error *err);
/* Gives it its name. */
sem_status export_file_publish(export_file *f, sem_error *err);
/* Takes it away again. */
void export_file_withdraw(const export_file *f);
/* Removes what got no name. */
void export_file_close(export_file *f);

/* What errno says of a write: SEM_RESOURCE_EXHAUSTED where there is no room. */
sem_status export_file_fail(const export_file *f, sem_error *err);

#endif
