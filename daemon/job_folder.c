#include "daemon/job_folder.h"

#include "base/crash.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char FOLDER[] = "finetune";
static const char PART[] = ".part"; /* what a model is called while it is made */

static sem_status folder_of(const store *s, uint32_t number, char path[FILES_PATH_MAX], sem_error *err)
{
    return files_join(path, err, "%s/%s/job-%u", store_path(s), FOLDER, number);
}

static sem_status path_in(const store *s, uint32_t number, const char *name, const char *ending,
                          char path[FILES_PATH_MAX], sem_error *err)
{
    return files_join(path, err, "%s/%s/job-%u/%s%s", store_path(s), FOLDER, number, name, ending);
}

sem_status job_folder_path(const store *s, uint32_t number, const char *name, char path[FILES_PATH_MAX], sem_error *err)
{
    sem_status status = folder_of(s, number, path, err);
    if (status == SEM_OK)
        status = files_make_folder(path, err);
    return status == SEM_OK ? path_in(s, number, name, "", path, err) : status;
}

bool job_folder_has(const store *s, uint32_t number, const char *name)
{
    char path[FILES_PATH_MAX];
    struct stat st;
    return path_in(s, number, name, "", path, NULL) == SEM_OK && stat(path, &st) == 0;
}

sem_status job_folder_begin(const store *s, uint32_t number, const char *name, char path[FILES_PATH_MAX],
                            sem_error *err)
{
    sem_status status = job_folder_path(s, number, name, path, err);
    if (status == SEM_OK)
        status = path_in(s, number, name, PART, path, err);
    return status == SEM_OK ? files_remove_folder(path, err) : status;
}

/* Both on one disk. */
static sem_status move(const char *from, const char *to, sem_error *err)
{
    if (rename(from, to) != 0)
        return files_fail(err, "rename", from);
    sem_status status = files_sync_parent(to, err);
    return status == SEM_OK ? files_sync_parent(from, err) : status;
}

sem_status job_folder_keep(const store *s, uint32_t number, const char *name, sem_error *err)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    sem_status status = path_in(s, number, name, PART, from, err);
    if (status == SEM_OK)
        status = path_in(s, number, name, "", to, err);
    crash_point("model.naming");
    if (status == SEM_OK)
        status = move(from, to, err);
    crash_point("model.named");
    return status;
}

sem_status job_folder_promote(const store *s, uint32_t number, const char *name, sem_error *err)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    sem_status status = path_in(s, number, name, "", from, err);
    if (status == SEM_OK)
        status = files_join(to, err, "%s/models/%s", store_path(s), name);
    crash_point("candidate.moving");
    if (status == SEM_OK)
        status = move(from, to, err);
    crash_point("candidate.moved");
    return status;
}

void job_folder_demote(const store *s, const char *name)
{
    char path[FILES_PATH_MAX];
    if (files_join(path, NULL, "%s/models/%s", store_path(s), name) == SEM_OK)
        (void)files_remove_folder(path, NULL); /* else the next start does */
}

sem_status job_folder_remove(const store *s, uint32_t number, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = folder_of(s, number, path, err);
    return status == SEM_OK ? files_remove_folder(path, err) : status;
}

sem_status job_folders_clean(const store *s, uint32_t number, sem_error *err)
{
    char folder[FILES_PATH_MAX], path[FILES_PATH_MAX], kept[32];
    snprintf(kept, sizeof kept, "job-%u", number);
    sem_status status = files_join(folder, err, "%s/%s", store_path(s), FOLDER);
    if (status != SEM_OK)
        return status;
    DIR *all = opendir(folder);
    if (all == NULL)
        return errno == ENOENT ? SEM_OK : files_fail(err, "open folder", folder);
    for (struct dirent *e; status == SEM_OK && (e = readdir(all)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (number != 0 && strcmp(e->d_name, kept) == 0))
            continue;
        status = files_join(path, err, "%s/%s", folder, e->d_name);
        if (status == SEM_OK)
            status = files_remove_folder(path, err);
    }
    closedir(all);
    return status;
}
