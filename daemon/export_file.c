#include "daemon/export_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sem_status export_file_fail(const export_file *f, sem_error *err)
{
    files_fail(err, "write", f->final);
    return sem_error_prefix(err, "path");
}

static sem_status exists(const export_file *f, sem_error *err)
{
    return sem_fail(err, SEM_ALREADY_EXISTS, "path: there is a file %s already; choose another name", f->final);
}

/* Splits off the name, which must be one. */
static sem_status split(export_file *f, const char **name, sem_error *err)
{
    const char *slash = strrchr(f->final, '/');
    if (slash == NULL || slash[1] == '\0' || slash[1] == '~' || strcmp(slash + 1, ".") == 0 ||
        strcmp(slash + 1, "..") == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "path: must end with the name of a file that does not begin with '~', found %s", f->final);
    *name = slash + 1;
    size_t length = slash == f->final ? 1 : (size_t)(slash - f->final);
    memcpy(f->folder, f->final, length);
    f->folder[length] = '\0';
    return SEM_OK;
}

static sem_status check_place(const export_file *f, const char *directory, const char *storage, sem_error *err)
{
    bool inside = false;
    struct stat st;
    if (stat(f->folder, &st) != 0 || !S_ISDIR(st.st_mode))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "path: there is no folder %s", f->folder);
    sem_status status = files_lies_in(f->folder, directory, &inside, err);
    if (status == SEM_OK && !inside)
        status =
            sem_fail(err, SEM_INVALID_ARGUMENT, "path: %s does not lie in storage.export_dir, %s", f->final, directory);
    if (status == SEM_OK)
        status = files_lies_in(f->folder, storage, &inside, err);
    if (status == SEM_OK && inside)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "path: %s lies in storage.path", f->final);
    return status;
}

sem_status export_file_open(export_file *f, const char *directory, const char *storage, const char *path,
                            size_t path_length, const char *appended, sem_error *err)
{
    struct stat st;
    const char *name = NULL, *before = path[0] == '/' ? "" : directory;
    sem_status status =
        files_join(f->final, err, "%s%s%.*s%s", before, path[0] == '/' ? "" : "/", (int)path_length, path, appended);
    if (status == SEM_OK)
        status = split(f, &name, err);
    if (status == SEM_OK)
        status = check_place(f, directory, storage, err);
    if (status == SEM_OK && lstat(f->final, &st) == 0)
        status = exists(f, err);
    if (status == SEM_OK)
        status = files_join(f->temporary, err, "%s/~%s", f->folder, name);
    if (status != SEM_OK) {
        f->temporary[0] = '\0';
        return status;
    }
    /* One export runs at a time: what has this name was left behind by a crash. */
    (void)unlink(f->temporary);
    int fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    f->to = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f->to != NULL)
        return SEM_OK;
    status = export_file_fail(f, err);
    if (fd >= 0)
        close(fd);
    else
        f->temporary[0] = '\0';
    return status;
}

sem_status export_file_check_room(const export_file *f, uint64_t bytes, sem_error *err)
{
    uint64_t size, left;
    sem_status status = files_room(f->folder, &size, &left, err);
    if (status != SEM_OK || bytes <= left)
        return status;
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "path: about %llu bytes are needed for %s, %llu are left on its disk",
                    (unsigned long long)bytes, f->final, (unsigned long long)left);
}

sem_status export_file_finish(export_file *f, uint64_t *bytes, sem_error *err)
{
    struct stat st;
    errno = 0;
    if (fflush(f->to) != 0 || ferror(f->to) != 0 || fsync(fileno(f->to)) != 0 || fstat(fileno(f->to), &st) != 0)
        return export_file_fail(f, err);
    *bytes = (uint64_t)st.st_size;
    FILE *to = f->to;
    f->to = NULL;
    return fclose(to) == 0 ? SEM_OK : export_file_fail(f, err);
}

sem_status export_file_publish(export_file *f, sem_error *err)
{
    struct stat st;
    int failed = renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->final, RENAME_NOREPLACE);
    /* A file system that does not know the flag. */
    if (failed != 0 && errno == EINVAL)
        failed = lstat(f->final, &st) == 0 ? (errno = EEXIST, -1) : rename(f->temporary, f->final);
    if (failed != 0)
        return errno == EEXIST ? exists(f, err) : export_file_fail(f, err);
    f->temporary[0] = '\0';
    return files_sync_folder(f->folder, err);
}

void export_file_withdraw(const export_file *f)
{
    (void)unlink(f->final);
}

void export_file_close(export_file *f)
{
    if (f->to != NULL)
        fclose(f->to);
    if (f->temporary[0] != '\0')
        (void)unlink(f->temporary);
    f->to = NULL;
    f->temporary[0] = '\0';
}
