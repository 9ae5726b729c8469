#include "tools/semctl_files.h"

#include "base/checked.h"

#include <errno.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), size = strlen(end);
    return length >= size && strcmp(text + length - size, end) == 0;
}

/* id_start: where the id begins in path. */
static sem_status add_file(input_list *list, const char *path, size_t id_start, uint64_t bytes, sem_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        input_file *files = checked_realloc(list->files, capacity, sizeof *files);
        if (files == NULL)
            return sem_fail_memory(err, "the list of files");
        list->files = files;
        list->capacity = capacity;
    }
    char *own = strdup(path);
    if (own == NULL)
        return sem_fail_memory(err, "the list of files");
    list->files[list->count++] = (input_file){own, own + id_start, bytes, ends_with(path, ".jsonl")};
    list->bytes += bytes;
    return SEM_OK;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* What of the path is not the document's name. */
static size_t id_start_of(const FTSENT *entry, const char *root)
{
    size_t start = 0;
    const char *path = entry->fts_path;
    if (entry->fts_level > 0) {
        start = strlen(root);
        while (path[start] == '/')
            start++;
    }
    while (entry->fts_level == 0 && path[start] == '.' && path[start + 1] == '/')
        start += 2;
    return start;
}

static sem_status take_entry(input_list *list, FTS *walk, FTSENT *entry, const char *root, sem_error *err)
{
    bool hidden = entry->fts_level > 0 && entry->fts_name[0] == '.';
    switch (entry->fts_info) {
    case FTS_D:
        if (hidden)
            fts_set(walk, entry, FTS_SKIP);
        return SEM_OK;
    case FTS_F:
        return hidden ? SEM_OK
                      : add_file(list, entry->fts_path, id_start_of(entry, root), (uint64_t)entry->fts_statp->st_size,
                                 err);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS: return sem_fail(err, SEM_NOT_FOUND, "cannot read %s: %s", entry->fts_path, strerror(entry->fts_errno));
    default: return SEM_OK; /* links and devices */
    }
}

static sem_status walk_one(input_list *list, char *path, sem_error *err)
{
    char *const roots[] = {path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    if (walk == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot read %s: %s", path, strerror(errno));
    sem_status status = SEM_OK;
    FTSENT *entry;
    while (status == SEM_OK && (entry = fts_read(walk)) != NULL)
        status = take_entry(list, walk, entry, path, err);
    fts_close(walk);
    return status;
}

sem_status input_list_find(input_list *list, char *const *paths, size_t count, sem_error *err)
{
    for (size_t i = 0; i < count; i++) {
        sem_status status = walk_one(list, paths[i], err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

void input_list_free(input_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->files[i].path);
    free(list->files);
    *list = (input_list){0};
}
