/* What a crash, or an end that came first, has left below a store. */
#include "index/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What main names. */
typedef struct named_things {
    store_generation *list; /* [count], owned */
    size_t count;
    store_collection *collections; /* [collection_count], owned */
    size_t collection_count;
} named_things;

static bool number_is_named(uint32_t number, const named_things *n)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->list[i].state != GENERATION_RETIRED && n->list[i].space == number)
            return true;
    return number == STORE_SPACE_EXTERNAL;
}

static bool space_is_named(const char *name, const named_things *n)
{
    char wanted[24];
    if (strncmp(name, "space-", 6) != 0)
        return true;
    /* Nothing is removed that this store would not have made. */
    unsigned long long number = strtoull(name + 6, NULL, 10);
    space_name(wanted, (uint32_t)number);
    if (number > UINT32_MAX || strcmp(wanted, name) != 0)
        return true;
    return number_is_named((uint32_t)number, n);
}

/* The first space from *number on that has counters of slots. */
static sem_status next_counted(store *s, MDB_txn *txn, uint32_t *number, bool *found, sem_error *err)
{
    unsigned char from[4];
    MDB_cursor *cursor;
    put_u32(from, *number);
    MDB_val key = as_value(from, sizeof from), value;
    int rc = mdb_cursor_open(txn, s->slots, &cursor);
    if (rc != 0)
        return environment_fail(&s->main, "look for left-over places", rc, err);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    *found = rc == 0;
    bool damaged = rc == 0 && key.mv_size != 8;
    if (rc == 0 && !damaged)
        *number = get_u32(key.mv_data);
    mdb_cursor_close(cursor);
    if (damaged)
        return environment_damaged(&s->main, "the key of a counter of slots", err);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&s->main, "look for left-over places", rc, err);
}

/* What main still knows of spaces that no generation names: a crash came between
 * the end of their generation and their removal. */
static sem_status clean_places(store *s, const named_things *n, sem_error *err)
{
    MDB_txn *txn;
    uint32_t number = STORE_SPACE_EXTERNAL;
    bool found = true, any = false;
    int rc = mdb_txn_begin(s->main.env, NULL, 0, &txn);
    if (rc != 0)
        return environment_fail(&s->main, "remove left-over places", rc, err);
    sem_status status = next_counted(s, txn, &number, &found, err);
    while (status == SEM_OK && found) {
        if (!number_is_named(number, n)) {
            status = space_forget_places(s, txn, number, err);
            any = true;
        }
        found = number++ != UINT32_MAX;
        if (status == SEM_OK && found)
            status = next_counted(s, txn, &number, &found, err);
    }
    if (status != SEM_OK || !any) {
        mdb_txn_abort(txn);
        return status;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SEM_OK : environment_fail(&s->main, "remove left-over places", rc, err);
}

/* They do no harm: a full disk keeps them, but does not keep the store from being opened. */
static sem_status try_clean_places(store *s, const named_things *n, sem_error *err)
{
    sem_status status = clean_places(s, n, err);
    if (status != SEM_RESOURCE_EXHAUSTED)
        return status;
    log_event(s->log, LOG_LEVEL_WARNING, "leftover_places", "message=\"%s\"", err->message);
    return SEM_OK;
}

static bool collection_is_named(const named_things *n, uint32_t number)
{
    for (size_t i = 0; i < n->collection_count; i++)
        if (n->collections[i].number == number)
            return true;
    return false;
}

/* Saved lists, "space-N-M.lists"; of the external space too, which stays. */
static bool cache_is_named(const char *name, const named_things *n)
{
    unsigned number, collection;
    char wanted[64];
    if (sscanf(name, "space-%u-%u.lists", &number, &collection) != 2)
        return true;
    snprintf(wanted, sizeof wanted, "space-%u-%u.lists", number, collection);
    return number_is_named(number, n) && collection_is_named(n, collection) && strcmp(wanted, name) == 0;
}

/* The files' names begin with the space's, and a dash. */
static bool is_of_another_space(const char *name, const named_things *n)
{
    char prefix[32];
    space_name(prefix, n->list[0].space);
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) != 0 || name[length] != '-';
}

static bool model_is_named(const char *name, const named_things *n)
{
    for (size_t i = 0; i < n->count; i++)
        if (n->list[i].state != GENERATION_RETIRED && store_generation_names(&n->list[i], name))
            return true;
    return false;
}

typedef bool is_named(const char *name, const named_things *n);

static sem_status remove_leftover(store *s, const char *path, sem_error *err)
{
    char quoted[FILES_PATH_MAX];
    sem_status status = files_remove_folder(path, err);
    if (status == SEM_OK)
        log_event(s->log, LOG_LEVEL_INFO, "leftover_removed", "path=%s", log_value(quoted, sizeof quoted, path));
    return status;
}

static sem_status clean_folder(store *s, const char *path, is_named *named, const named_things *n, sem_error *err)
{
    char entry[FILES_PATH_MAX];
    DIR *folder = opendir(path);
    if (folder == NULL)
        return errno == ENOENT ? SEM_OK : sem_fail(err, SEM_INTERNAL, "cannot open %s: %s", path, strerror(errno));
    sem_status status = SEM_OK;
    for (struct dirent *e; status == SEM_OK && (e = readdir(folder)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || named(e->d_name, n))
            continue;
        status = files_join(entry, err, "%s/%s", path, e->d_name);
        if (status == SEM_OK)
            status = remove_leftover(s, entry, err);
    }
    closedir(folder);
    return status;
}

/* What lies in the place of the caches' folder is worth no more than caches. */
static sem_status clean_caches(store *s, const char *path, const named_things *n, sem_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return remove_leftover(s, path, err);
    return clean_folder(s, path, cache_is_named, n, err);
}

static sem_status read_names(store *s, named_things *n, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(s, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_generation_list(r, &n->list, &n->count, err);
    if (status == SEM_OK)
        status = store_collection_list(r, &n->collections, &n->collection_count, err);
    store_read_end(r);
    return status;
}

sem_status space_forget_caches(store *s, uint32_t number, sem_error *err)
{
    char cache[FILES_PATH_MAX];
    store_generation gone = {.space = number};
    const named_things n = {.list = &gone, .count = 1};
    sem_status status = files_join(cache, err, "%s/cache", s->path);
    return status == SEM_OK ? clean_folder(s, cache, is_of_another_space, &n, err) : status;
}

sem_status folders_clean(store *s, sem_error *err)
{
    char models[FILES_PATH_MAX], cache[FILES_PATH_MAX];
    named_things n = {0};
    sem_status status = files_join(models, err, "%s/models", s->path);
    if (status == SEM_OK)
        status = files_join(cache, err, "%s/cache", s->path);
    if (status == SEM_OK)
        status = read_names(s, &n, err);
    if (status == SEM_OK)
        status = clean_folder(s, s->path, space_is_named, &n, err);
    if (status == SEM_OK)
        status = clean_folder(s, models, model_is_named, &n, err);
    if (status == SEM_OK)
        status = clean_caches(s, cache, &n, err);
    if (status == SEM_OK)
        status = try_clean_places(s, &n, err);
    store_generations_free(n.list, n.count);
    free(n.collections);
    return status;
}
