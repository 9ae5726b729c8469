#include "base/random.h"
#include "index/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { MAP_SIZE_MIN = 1 << 20 /* bytes: below it the reserve for deletes would be most of it */ };

static sem_status lock_folder(store *s, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/semd.lock", s->path);
    if (status != SEM_OK)
        return status;
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return sem_fail(err, SEM_INTERNAL, "cannot open %s: %s", path, strerror(errno));
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return SEM_OK;
    if (errno == EWOULDBLOCK)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s is in use by another semd; give each its own storage.path",
                        s->path);
    return sem_fail(err, SEM_INTERNAL, "cannot lock %s: %s", path, strerror(errno));
}

/* Main comes first in a new store, whose other environments lie beside it. */
static bool is_of_a_store(const char *name)
{
    return strcmp(name, "events") == 0 || strcmp(name, "external") == 0 || strncmp(name, "space-", 6) == 0;
}

/* A file that was lost must not pass for a store that is new: the start would remove, as
 * left over, all vectors and models that main does not name. */
static sem_status check_main_not_lost(store *s, sem_error *err)
{
    struct dirent *beside = NULL;
    bool is_new;
    sem_status status = environment_is_new(&s->main, &is_new, err);
    if (status != SEM_OK || !is_new)
        return status;
    DIR *folder = opendir(s->path);
    if (folder == NULL)
        return files_fail(err, "open", s->path);
    while ((beside = readdir(folder)) != NULL && !is_of_a_store(beside->d_name))
        ;
    if (beside != NULL)
        status = sem_fail(err, SEM_FAILED_PRECONDITION,
                          "%s/main/data.mdb is empty or was lost, but there is %s beside it; put the file back or "
                          "restore a backup",
                          s->path, beside->d_name);
    closedir(folder);
    return status;
}

static sem_status open_main(store *s, sem_error *err)
{
    const named_database list[] = {
        {"collections", &s->collections}, {"names", &s->names}, {"docs", &s->docs},       {"docnos", &s->docnos},
        {"places", &s->places},           {"slots", &s->slots}, {"freed", &s->freed},     {"log", &s->changes},
        {"generations", &s->generations}, {"jobs", &s->jobs},   {"deletes", &s->deletes}, {"old_texts", &s->old_texts},
    };
    sem_status status = environment_open(&s->main, s, "main", err);
    if (status == SEM_OK)
        status = check_main_not_lost(s, err);
    return status != SEM_OK ? status : environment_databases(&s->main, list, sizeof list / sizeof list[0], err);
}

/* The key that hides user names is made with the store and never changes. */
static sem_status settle_user_key(store *s, sem_error *err)
{
    MDB_txn *txn;
    MDB_val value;
    bool found;
    int rc = mdb_txn_begin(s->main.env, NULL, 0, &txn);
    if (rc != 0)
        return environment_fail(&s->main, "read the user key", rc, err);
    const char *name = STORE_USER_KEY_NAME;
    sem_status status = table_get(&s->main, txn, s->main.meta, name, strlen(name), &value, &found, err);
    if (status == SEM_OK && found) {
        if (value.mv_size == STORE_USER_KEY)
            memcpy(s->user_key, value.mv_data, STORE_USER_KEY);
        else
            status = environment_damaged(&s->main, "the user key", err);
        mdb_txn_abort(txn);
        return status;
    }
    if (status == SEM_OK && !random_bytes(s->user_key, STORE_USER_KEY))
        status = sem_fail(err, SEM_INTERNAL, "the kernel gave no random bytes for the user key");
    if (status == SEM_OK)
        status = table_put(&s->main, txn, s->main.meta, name, strlen(name), s->user_key, STORE_USER_KEY, err);
    if (status != SEM_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SEM_OK : environment_fail(&s->main, "write the user key", rc, err);
}

sem_status store_open(store **out, const store_options *options, sem_log *log, sem_error *err)
{
    if (options->map_size < MAP_SIZE_MIN)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "map size is %llu bytes, at least %d are needed",
                        (unsigned long long)options->map_size, MAP_SIZE_MIN);
    store *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "the store");
    s->lock_fd = -1;
    s->log = log;
    s->map_size = options->map_size;
    s->max_size = options->max_size;
    if (pthread_mutex_init(&s->lock, NULL) != 0) {
        free(s);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot create a mutex for the store");
    }
    pthread_mutex_init(&s->blocks_lock, NULL);
    s->group = calloc(1, sizeof *s->group);
    sem_status status = s->group != NULL ? files_join(s->path, err, "%s", options->path)
                                         : sem_fail_memory(err, "the store");
    if (status == SEM_OK)
        status = files_make_folder(s->path, err);
    if (status == SEM_OK)
        status = lock_folder(s, err);
    if (status == SEM_OK)
        status = open_main(s, err);
    if (status == SEM_OK)
        status = events_open_first(s, err);
    if (status == SEM_OK)
        status = settle_user_key(s, err);
    if (status == SEM_OK)
        status = folders_clean(s, err);
    if (status == SEM_OK)
        status = spaces_open_all(s, err);
    if (status != SEM_OK) {
        store_close(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

void store_close(store *s)
{
    if (s == NULL)
        return;
    spaces_close_all(s);
    events_close(s);
    environment_close(&s->main);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_mutex_destroy(&s->blocks_lock);
    pthread_mutex_destroy(&s->lock);
    free(s->group);
    free(s);
}

uint64_t store_bytes(const store *s)
{
    return files_folder_bytes(s->path);
}

const char *store_path(const store *s)
{
    return s->path;
}

const unsigned char *store_user_key(const store *s)
{
    return s->user_key;
}
