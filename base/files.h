/* Small file jobs that must survive a crash. */
#ifndef SEM_BASE_FILES_H
#define SEM_BASE_FILES_H

#include "base/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILES_PATH_MAX = 4096 }; /* bytes, NUL included */

/* Reads a whole regular file of at most limit bytes into *data (malloc'd, a NUL
 * follows the content), *size bytes. The error names the file. */
sem_status files_read(const char *path, size_t limit, char **data, size_t *size, sem_error *err);

/* Replaces path by size bytes: a temporary file beside it, fsync, rename, fsync
 * of the folder. */
sem_status files_write(const char *path, const void *data, size_t size, sem_error *err);

/* Creates the folder and its missing parents, mode 0700. */
sem_status files_make_folder(const char *path, sem_error *err);

/* Removes a folder with all that it holds; does not follow links. No error if it is missing. */
sem_status files_remove_folder(const char *path, sem_error *err);

/* Whether path is the folder or lies in it, links resolved; both must exist. */
sem_status files_lies_in(const char *path, const char *folder, bool *inside, sem_error *err);

/* Copies a folder of regular files (and folders of them) to a new path and
 * fsyncs everything; links are followed, one
 * that leads back to a folder around it and other kinds are refused, and so is
 * a new path that lies in the folder. */
sem_status files_copy_folder(const char *from, const char *to, sem_error *err);
/* The same, and SEM_CANCELLED soon after *cancel (which may be NULL) was set: what was copied until then stays. */
sem_status files_copy_folder_unless(const char *from, const char *to, const atomic_bool *cancel, sem_error *err);

/* The same with links to the files instead of copies, where the disk can do that: for files that
 * are replaced and never changed. */
sem_status files_link_folder(const char *from, const char *to, sem_error *err);

/* Copies a regular file to a new path and fsyncs it. */
sem_status files_copy_file(const char *from, const char *to, sem_error *err);

/* The folder that path, which may end in slashes, lies in: "." for a name alone. */
sem_status files_parent(const char *path, char parent[FILES_PATH_MAX], sem_error *err);

/* fsync of a folder, so that a rename in it lasts; the second of the folder that path lies in. */
sem_status files_sync_folder(const char *path, sem_error *err);
sem_status files_sync_parent(const char *path, sem_error *err);

/* Writes all bytes to an open file; path is for the error. */
sem_status files_write_all(int fd, const char *path, const void *data, size_t size, sem_error *err);

/* Bytes of the disk that path lies on: all, and those that are left to us. */
sem_status files_room(const char *path, uint64_t *size, uint64_t *left, sem_error *err);

/* "cannot WHAT PATH", by errno: SEM_NOT_FOUND, SEM_RESOURCE_EXHAUSTED where there is no
 * room, SEM_INVALID_ARGUMENT where a name is too long, else SEM_INTERNAL. */
sem_status files_fail(sem_error *err, const char *what, const char *path);

/* Bytes that the folder takes on disk (st_blocks), links not followed; 0 if it is missing. */
uint64_t files_folder_bytes(const char *path);

/* path = printf(...) into FILES_PATH_MAX bytes; an error if it does not fit. */
sem_status files_join(char path[FILES_PATH_MAX], sem_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
