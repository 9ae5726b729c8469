#include "base/checksum.h"
#include "base/files.h"
#include "index/backup.h"
#include "index/backup_manifest.h"
#include "index/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct restoring {
    const char *backup;
    char target[FILES_PATH_MAX], temporary[FILES_PATH_MAX], parent[FILES_PATH_MAX];
    backup_manifest manifest;
    backup_progress *progress;
    void *context;
    uint64_t done; /* bytes read; every file is read twice */
} restoring;

static sem_status step(void *context, uint64_t bytes, sem_error *err)
{
    restoring *r = context;
    r->done += bytes;
    return r->progress == NULL ? SEM_OK : r->progress(r->context, r->done, 2 * r->manifest.bytes, err);
}

/* --- before anything is written */

static sem_status check_target(const restoring *r, sem_error *err)
{
    DIR *folder = opendir(r->target);
    if (folder == NULL && errno == ENOENT)
        return SEM_OK;
    if (folder == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "cannot restore to %s: %s", r->target, strerror(errno));
    size_t entries = 0;
    for (struct dirent *e; (e = readdir(folder)) != NULL;)
        entries += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(folder);
    return entries == 0
               ? SEM_OK
               : sem_fail(err, SEM_ALREADY_EXISTS,
                          "%s is not empty; a backup is restored into a new folder or an empty one", r->target);
}

/* What is restored into the backup would be no part of it, and in the way of the next look at it. */
static sem_status check_apart(const restoring *r, sem_error *err)
{
    bool inside = false;
    if (access(r->parent, F_OK) != 0) /* it is made later */
        return SEM_OK;
    sem_status status = files_lies_in(r->parent, r->backup, &inside, err);
    if (status == SEM_OK && inside)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s lies in the backup, %s; choose another folder", r->target,
                        r->backup);
    return status;
}

static sem_status compare(const char *path, const manifest_entry *e, uint64_t sum, uint64_t bytes, sem_error *err)
{
    if (bytes != e->bytes)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s is damaged: it has %" PRIu64 " bytes, %" PRIu64 " were written; take another backup", path,
                        bytes, e->bytes);
    if (sum != e->checksum)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s is damaged: its checksum is %016" PRIx64 ", what was written had %016" PRIx64
                        "; take another backup",
                        path, sum, e->checksum);
    return SEM_OK;
}

static sem_status check_files(restoring *r, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = SEM_OK;
    for (size_t i = 0; i < r->manifest.count && status == SEM_OK; i++) {
        const manifest_entry *e = &r->manifest.entries[i];
        uint64_t sum, bytes;
        if (e->folder)
            continue;
        status = files_join(path, err, "%s/%s", r->backup, e->path);
        if (status == SEM_OK)
            status = checksum_file(path, -1, &sum, &bytes, step, r, err);
        if (status == SEM_OK)
            status = compare(path, e, sum, bytes, err);
    }
    return status;
}

static sem_status check_room(const restoring *r, sem_error *err)
{
    uint64_t size, left;
    sem_status status = files_room(r->parent, &size, &left, err);
    if (status != SEM_OK)
        return status;
    return r->manifest.bytes <= left
               ? SEM_OK
               : sem_fail(err, SEM_RESOURCE_EXHAUSTED, "%s has %" PRIu64 " bytes of room, the backup takes %" PRIu64,
                          r->parent, left, r->manifest.bytes);
}

/* --- copying */

static sem_status copy_file(restoring *r, const manifest_entry *e, sem_error *err)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    uint64_t sum = 0, bytes = 0;
    sem_status status = files_join(from, err, "%s/%s", r->backup, e->path);
    if (status == SEM_OK)
        status = files_join(to, err, "%s/%s", r->temporary, e->path);
    if (status != SEM_OK)
        return status;
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return sem_fail(err, SEM_INTERNAL, "cannot create %s: %s", to, strerror(errno));
    status = checksum_file(from, fd, &sum, &bytes, step, r, err);
    if (status == SEM_OK)
        status = compare(from, e, sum, bytes, err);
    if (status == SEM_OK && fsync(fd) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot fsync %s: %s", to, strerror(errno));
    if (close(fd) != 0 && status == SEM_OK)
        status = sem_fail(err, SEM_INTERNAL, "cannot close %s: %s", to, strerror(errno));
    return status;
}

static sem_status make_folder(const restoring *r, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", r->temporary, name);
    if (status == SEM_OK && mkdir(path, 0700) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot create folder %s: %s", path, strerror(errno));
    return status;
}

static sem_status sync_folders(const restoring *r, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_sync_folder(r->temporary, err);
    for (size_t i = 0; i < r->manifest.count && status == SEM_OK; i++) {
        if (!r->manifest.entries[i].folder)
            continue;
        status = files_join(path, err, "%s/%s", r->temporary, r->manifest.entries[i].path);
        if (status == SEM_OK)
            status = files_sync_folder(path, err);
    }
    return status;
}

static sem_status copy_all(restoring *r, sem_error *err)
{
    sem_status status = files_remove_folder(r->temporary, err);
    if (status == SEM_OK && mkdir(r->temporary, 0700) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot create folder %s: %s", r->temporary, strerror(errno));
    for (size_t i = 0; i < r->manifest.count && status == SEM_OK; i++) {
        const manifest_entry *e = &r->manifest.entries[i];
        status = e->folder ? make_folder(r, e->path, err) : copy_file(r, e, err);
    }
    return status == SEM_OK ? sync_folders(r, err) : status;
}

static sem_status publish(const restoring *r, sem_error *err)
{
    /* An empty folder is replaced. */
    if (rename(r->temporary, r->target) != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot rename %s to %s: %s", r->temporary, r->target, strerror(errno));
    return files_sync_folder(r->parent, err);
}

/* --- the whole */

static sem_status name_paths(restoring *r, const char *target, sem_error *err)
{
    sem_status status = files_join(r->target, err, "%s", target);
    if (status != SEM_OK)
        return status;
    for (size_t n = strlen(r->target); n > 1 && r->target[n - 1] == '/'; n--)
        r->target[n - 1] = '\0';
    if (r->target[0] == '\0' || strcmp(r->target, "/") == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" is no folder that could be made", target);
    status = files_join(r->temporary, err, "%s~restoring", r->target);
    const char *slash = strrchr(r->target, '/');
    if (status == SEM_OK && slash == NULL)
        status = files_join(r->parent, err, ".");
    else if (status == SEM_OK)
        status = files_join(r->parent, err, "%.*s", slash == r->target ? 1 : (int)(slash - r->target), r->target);
    return status;
}

static sem_status run(restoring *r, sem_error *err)
{
    sem_status status = check_target(r, err);
    if (status == SEM_OK)
        status = check_apart(r, err);
    if (status == SEM_OK)
        status = check_files(r, err);
    if (status == SEM_OK)
        status = files_make_folder(r->parent, err);
    if (status == SEM_OK)
        status = check_room(r, err);
    if (status != SEM_OK)
        return status;
    status = copy_all(r, err);
    if (status == SEM_OK)
        status = publish(r, err);
    if (status != SEM_OK)
        (void)files_remove_folder(r->temporary, NULL);
    return status;
}

sem_status backup_restore(const char *backup, const char *target, backup_progress *progress, void *context,
                          backup_result *out, sem_error *err)
{
    restoring *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, "restoring");
    r->backup = backup;
    r->progress = progress;
    r->context = context;
    sem_status status = name_paths(r, target, err);
    if (status == SEM_OK)
        status = manifest_read(&r->manifest, backup, err);
    if (status == SEM_OK && r->manifest.format > STORE_FORMAT)
        status = sem_fail(err, SEM_FAILED_PRECONDITION,
                          "%s holds a store of format %" PRIu64 ", this semctl knows up to %d; use a newer one", backup,
                          r->manifest.format, STORE_FORMAT);
    if (status == SEM_OK)
        status = run(r, err);
    *out = (backup_result){r->manifest.bytes, r->manifest.seq, r->manifest.generation};
    manifest_free(&r->manifest);
    free(r);
    return status;
}
