#include "model/model_print.h"

#include "base/checksum.h"
#include "base/files.h"
#include "base/hash.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_of_model(const char *name)
{
    static const char *const ENDS[] = {".safetensors", ".json", ".txt", ".model"};
    const size_t length = strlen(name);
    bool known = false;
    for (size_t i = 0; i < sizeof ENDS / sizeof *ENDS; i++)
        known = known || (length > strlen(ENDS[i]) && strcmp(name + length - strlen(ENDS[i]), ENDS[i]) == 0);
    return known && name[0] != '.' && strncmp(name, "semd_", 5) != 0;
}

/* A sum, since a folder's entries come in any order. */
static sem_status add_file(uint64_t *sum, const char *path, const char *name, sem_error *err)
{
    char line[512];
    uint64_t content, bytes;
    sem_status status = checksum_file(path, -1, &content, &bytes, NULL, NULL, err);
    if (status != SEM_OK)
        return status;
    int n = snprintf(line, sizeof line, "%.255s %016" PRIx64 " %" PRIu64, name, content, bytes);
    *sum += hash_text(line, (size_t)n);
    return SEM_OK;
}

static sem_status add_folder(uint64_t *sum, const char *dir, bool modules, sem_error *err)
{
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return files_fail(err, "open folder", dir);
    sem_status status = SEM_OK;
    for (struct dirent *entry; status == SEM_OK && (entry = readdir(folder)) != NULL;) {
        char path[FILES_PATH_MAX];
        struct stat st;
        status = files_join(path, err, "%s/%s", dir, entry->d_name);
        if (status != SEM_OK || entry->d_name[0] == '.' || stat(path, &st) != 0)
            continue;
        if (S_ISREG(st.st_mode) && is_of_model(entry->d_name))
            status = add_file(sum, path, entry->d_name, err);
        if (!S_ISDIR(st.st_mode) || !modules)
            continue;
        uint64_t inner = 0;
        status = add_folder(&inner, path, false, err);
        if (inner != 0)
            *sum += hash_text(entry->d_name, strlen(entry->d_name)) ^ inner;
    }
    closedir(folder);
    return status;
}

sem_status model_print(const char *dir, uint64_t *out, sem_error *err)
{
    *out = 0;
    return add_folder(out, dir, true, err);
}
