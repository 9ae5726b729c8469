#include "base/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { COPY_CHUNK = 1 << 20, OPEN_FOLDERS = 16, FOLDER_DEPTH_MAX = 16 };

sem_status files_fail(sem_error *err, const char *what, const char *path)
{
    bool full = errno == ENOSPC || errno == EDQUOT || errno == EFBIG, bad = errno == ENAMETOOLONG;
    sem_status code = errno == ENOENT ? SEM_NOT_FOUND
                      : full          ? SEM_RESOURCE_EXHAUSTED
                      : bad           ? SEM_INVALID_ARGUMENT
                                      : SEM_INTERNAL;
    return sem_fail(err, code, "cannot %s %s: %s", what, path, strerror(errno));
}

sem_status files_join(char path[FILES_PATH_MAX], sem_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, FILES_PATH_MAX, format, args);
    va_end(args);
    if (n < 0 || n >= FILES_PATH_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "path is longer than %d bytes: %.64s...", FILES_PATH_MAX - 1, path);
    return SEM_OK;
}

static sem_status read_all(int fd, const char *path, char *data, size_t size, sem_error *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return files_fail(err, "read", path);
        if (n == 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: ended after %zu of %zu bytes", path, done, size);
        done += (size_t)n;
    }
    return SEM_OK;
}

sem_status files_write_all(int fd, const char *path, const void *data, size_t size, sem_error *err)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return files_fail(err, "write", path);
        p += n;
        size -= (size_t)n;
    }
    return SEM_OK;
}

sem_status files_read(const char *path, size_t limit, char **data, size_t *size, sem_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return files_fail(err, "open", path);
    struct stat st;
    sem_status status = SEM_OK;
    char *content = NULL;
    if (fstat(fd, &st) != 0)
        status = files_fail(err, "stat", path);
    else if (!S_ISREG(st.st_mode))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: not a regular file", path);
    else if ((uint64_t)st.st_size > limit)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %lld bytes, at most %zu are read", path,
                          (long long)st.st_size, limit);
    else if ((content = malloc((size_t)st.st_size + 1)) == NULL)
        status = sem_fail_memory(err, path);
    else
        status = read_all(fd, path, content, (size_t)st.st_size, err);
    close(fd);
    if (status != SEM_OK) {
        free(content);
        return status;
    }
    content[st.st_size] = '\0';
    *data = content;
    *size = (size_t)st.st_size;
    return SEM_OK;
}

sem_status files_sync_folder(const char *path, sem_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return files_fail(err, "open folder", path);
    sem_status status = fsync(fd) == 0 ? SEM_OK : files_fail(err, "fsync folder", path);
    close(fd);
    return status;
}

sem_status files_parent(const char *path, char parent[FILES_PATH_MAX], sem_error *err)
{
    sem_status status = files_join(parent, err, "%s", path);
    if (status != SEM_OK)
        return status;
    for (size_t n = strlen(parent); n > 1 && parent[n - 1] == '/'; n--)
        parent[n - 1] = '\0';
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return files_join(parent, err, ".");
    *(slash == parent ? slash + 1 : slash) = '\0';
    return SEM_OK;
}

sem_status files_sync_parent(const char *path, sem_error *err)
{
    char parent[FILES_PATH_MAX];
    sem_status status = files_parent(path, parent, err);
    return status == SEM_OK ? files_sync_folder(parent, err) : status;
}

sem_status files_write(const char *path, const void *data, size_t size, sem_error *err)
{
    char temporary[FILES_PATH_MAX];
    sem_status status = files_join(temporary, err, "%s.new", path);
    if (status != SEM_OK)
        return status;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return files_fail(err, "create", temporary);
    status = files_write_all(fd, temporary, data, size, err);
    if (status == SEM_OK && fsync(fd) != 0)
        status = files_fail(err, "fsync", temporary);
    if (close(fd) != 0 && status == SEM_OK)
        status = files_fail(err, "close", temporary);
    if (status == SEM_OK && rename(temporary, path) != 0)
        status = files_fail(err, "rename", temporary);
    if (status != SEM_OK) {
        unlink(temporary);
        return status;
    }
    return files_sync_parent(path, err);
}

sem_status files_make_folder(const char *path, sem_error *err)
{
    char part[FILES_PATH_MAX];
    sem_status status = files_join(part, err, "%s", path);
    if (status != SEM_OK)
        return status;
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char end = *p;
        *p = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return files_fail(err, "create folder", part);
        *p = end;
        if (end == '\0')
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0)
        return files_fail(err, "stat", path);
    if (!S_ISDIR(st.st_mode))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s exists and is not a folder", path);
    return SEM_OK;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st, (void)kind, (void)where;
    return remove(path);
}

sem_status files_remove_folder(const char *path, sem_error *err)
{
    if (nftw(path, remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return files_fail(err, "remove", path);
    return SEM_OK;
}

static bool cancelled(const atomic_bool *cancel)
{
    return cancel != NULL && atomic_load(cancel);
}

/* cancel may be NULL. */
static sem_status copy_file(const char *from, const char *to, const atomic_bool *cancel, sem_error *err)
{
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return files_fail(err, "open", from);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char *chunk = malloc(COPY_CHUNK);
    sem_status status = out < 0 ? files_fail(err, "create", to) : chunk == NULL ? sem_fail_memory(err, to) : SEM_OK;
    while (status == SEM_OK) {
        ssize_t n = read(in, chunk, COPY_CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (cancelled(cancel))
            status = sem_fail(err, SEM_CANCELLED, "cancelled while %s was copied", from);
        else if (n < 0)
            status = files_fail(err, "read", from);
        else if (n == 0)
            break;
        else
            status = files_write_all(out, to, chunk, (size_t)n, err);
    }
    if (status == SEM_OK && fsync(out) != 0)
        status = files_fail(err, "fsync", to);
    free(chunk);
    close(in);
    if (out >= 0 && close(out) != 0 && status == SEM_OK)
        status = files_fail(err, "close", to);
    return status;
}

sem_status files_copy_file(const char *from, const char *to, sem_error *err)
{
    return copy_file(from, to, NULL, err);
}

static sem_status link_file(const char *from, const char *to, const atomic_bool *cancel, sem_error *err)
{
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
        return SEM_OK;
    const bool other_disk = errno == EXDEV || errno == EPERM || errno == EMLINK || errno == EOPNOTSUPP;
    return other_disk ? copy_file(from, to, cancel, err) : files_fail(err, "create", to);
}

typedef sem_status file_copier(const char *from, const char *to, const atomic_bool *cancel, sem_error *err);

/* A folder that is being copied, and those that it lies in. */
typedef struct copied {
    const struct copied *outer;
    file_copier *file;
    const atomic_bool *cancel; /* or NULL */
    dev_t device;
    ino_t number;
    int depth;
} copied;

static sem_status copy_folder(const char *from, const char *to, const copied *outer, sem_error *err);

static sem_status copy_entry(const char *from, const char *to, const char *name, const copied *outer, sem_error *err)
{
    char source[FILES_PATH_MAX], target[FILES_PATH_MAX];
    sem_status status = files_join(source, err, "%s/%s", from, name);
    if (status == SEM_OK)
        status = files_join(target, err, "%s/%s", to, name);
    if (status != SEM_OK)
        return status;
    struct stat st;
    if (stat(source, &st) != 0)
        return files_fail(err, "stat", source);
    if (S_ISREG(st.st_mode))
        return outer->file(source, target, outer->cancel, err);
    if (S_ISDIR(st.st_mode))
        return copy_folder(source, target, outer, err);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: neither a file nor a folder", source);
}

/* A link that leads back would have all copied once for each depth. */
static sem_status enter_folder(copied *now, DIR *folder, const char *from, const copied *outer, sem_error *err)
{
    struct stat st;
    if (fstat(dirfd(folder), &st) != 0)
        return files_fail(err, "stat", from);
    *now = (copied){outer, outer->file, outer->cancel, st.st_dev, st.st_ino, outer->depth + 1};
    if (now->depth > FOLDER_DEPTH_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: folders nested deeper than %d", from, FOLDER_DEPTH_MAX);
    for (const copied *o = outer; o->outer != NULL; o = o->outer)
        if (o->device == now->device && o->number == now->number)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: a link back to a folder that it lies in", from);
    return SEM_OK;
}

static sem_status copy_folder(const char *from, const char *to, const copied *outer, sem_error *err)
{
    copied now;
    DIR *folder = opendir(from);
    if (folder == NULL)
        return files_fail(err, "open folder", from);
    sem_status status = enter_folder(&now, folder, from, outer, err);
    if (status == SEM_OK && mkdir(to, 0700) != 0)
        status = files_fail(err, "create folder", to);
    while (status == SEM_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            if (errno != 0)
                status = files_fail(err, "read folder", from);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = copy_entry(from, to, entry->d_name, &now, err);
    }
    closedir(folder);
    return status != SEM_OK ? status : files_sync_folder(to, err);
}

sem_status files_lies_in(const char *path, const char *folder, bool *inside, sem_error *err)
{
    char *inner = realpath(path, NULL), *outer = inner != NULL ? realpath(folder, NULL) : NULL;
    sem_status status = outer != NULL ? SEM_OK : files_fail(err, "find", inner != NULL ? folder : path);
    if (status == SEM_OK) {
        size_t length = strlen(outer);
        *inside = strncmp(inner, outer, length) == 0 &&
                  (inner[length] == '\0' || inner[length] == '/' || outer[length - 1] == '/');
    }
    free(inner);
    free(outer);
    return status;
}

static sem_status copy_new(const char *from, const char *to, file_copier *how, const atomic_bool *cancel,
                           sem_error *err)
{
    const copied nothing = {.file = how, .cancel = cancel, .depth = -1};
    char parent[FILES_PATH_MAX];
    bool inside = false;
    sem_status status = files_parent(to, parent, err);
    if (status == SEM_OK)
        status = files_lies_in(parent, from, &inside, err);
    if (status == SEM_OK && inside)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s is to be copied to %s, which lies in it; choose another place",
                          from, to);
    if (status == SEM_OK)
        status = copy_folder(from, to, &nothing, err);
    return status != SEM_OK ? status : files_sync_parent(to, err);
}

sem_status files_copy_folder(const char *from, const char *to, sem_error *err)
{
    return copy_new(from, to, copy_file, NULL, err);
}

sem_status files_copy_folder_unless(const char *from, const char *to, const atomic_bool *cancel, sem_error *err)
{
    return copy_new(from, to, copy_file, cancel, err);
}

sem_status files_link_folder(const char *from, const char *to, sem_error *err)
{
    return copy_new(from, to, link_file, NULL, err);
}

static uint64_t folder_bytes(int parent, const char *name, int depth)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    uint64_t total = 0;
    for (struct dirent *e; (e = readdir(folder)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        total += (uint64_t)st.st_blocks * 512;
        if (S_ISDIR(st.st_mode) && depth < FOLDER_DEPTH_MAX)
            total += folder_bytes(fd, e->d_name, depth + 1);
    }
    closedir(folder);
    return total;
}

uint64_t files_folder_bytes(const char *path)
{
    return folder_bytes(AT_FDCWD, path, 0);
}

sem_status files_room(const char *path, uint64_t *size, uint64_t *left, sem_error *err)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return files_fail(err, "ask for the room of", path);
    *size = (uint64_t)st.f_blocks * st.f_frsize;
    *left = (uint64_t)st.f_bavail * st.f_frsize;
    return SEM_OK;
}
