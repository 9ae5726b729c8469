/* Spaces: an environment each for the vectors of one vector space. */
#include "base/crash.h"
#include "index/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

space *space_at(store *s, uint32_t number)
{
    for (size_t i = 0; i < STORE_SPACES_MAX; i++)
        if (s->spaces[i] != NULL && s->spaces[i]->number == number)
            return s->spaces[i];
    return NULL;
}

space *space_pin(store *s, uint32_t number)
{
    pthread_mutex_lock(&s->lock);
    space *sp = space_at(s, number);
    if (sp != NULL && sp->shut)
        sp = NULL;
    if (sp != NULL)
        sp->readers++;
    pthread_mutex_unlock(&s->lock);
    return sp;
}

void space_unpin(store *s, space *sp)
{
    if (sp == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    sp->readers--;
    pthread_mutex_unlock(&s->lock);
}

void space_name(char name[24], uint32_t number)
{
    if (number == STORE_SPACE_EXTERNAL)
        snprintf(name, 24, "external");
    else
        snprintf(name, 24, "space-%u", number);
}

/* The width of the vectors is written down when a space is made. */
static sem_status settle_dim(space *sp, uint32_t dim, sem_error *err)
{
    MDB_txn *txn;
    uint64_t stored;
    int rc = mdb_txn_begin(sp->in.env, NULL, 0, &txn);
    if (rc != 0)
        return environment_fail(&sp->in, "read the width of its vectors", rc, err);
    sem_status status = meta_get(&sp->in, txn, "dim", &stored, err);
    if (status == SEM_OK && stored == 0 && dim != 0) {
        stored = dim;
        status = meta_put(&sp->in, txn, "dim", dim, err);
    }
    if (status == SEM_OK && stored != dim)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "space %u has vectors of %llu floats, %u were asked for",
                          sp->number, (unsigned long long)stored, dim);
    if (status != SEM_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    sp->dim = dim;
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SEM_OK : environment_fail(&sp->in, "write the width of its vectors", rc, err);
}

/* --- vectors that no place names: those of a group whose commit of main was cut off */

static bool is_orphan(const store *s, MDB_txn *main_txn, uint32_t number, const MDB_val *key, bool *damaged)
{
    unsigned char counter_key[8];
    MDB_val value;
    *damaged = key->mv_size != 8;
    if (*damaged)
        return false;
    put_u32(counter_key, number);
    memcpy(counter_key + 4, key->mv_data, 4);
    MDB_val k = as_value(counter_key, sizeof counter_key);
    if (mdb_get(main_txn, s->slots, &k, &value) != 0 || value.mv_size != 8)
        return true;
    return get_u32((const unsigned char *)key->mv_data + 4) >= get_u64(value.mv_data);
}

/* Looks at the last slot of each collection only: orphans lie at the end. Sets
 * *found and *key to the first collection, from key on, that ends with one. */
static sem_status find_orphan(space *sp, const store *s, MDB_txn *main_txn, MDB_txn *txn, unsigned char key[8],
                              bool *found, sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val k = as_value(key, 8), v;
    *found = false;
    int rc = mdb_cursor_open(txn, sp->vectors, &cursor);
    if (rc != 0)
        return environment_fail(&sp->in, "look for unnamed vectors", rc, err);
    bool damaged = false;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == 0 && !damaged) {
        unsigned char last[8];
        put_u32(last, get_u32(k.mv_data));
        put_u32(last + 4, UINT32_MAX);
        k = as_value(last, sizeof last);
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        bool exact = rc == 0 && memcmp(k.mv_data, last, 8) == 0;
        if (!exact)
            rc = mdb_cursor_get(cursor, &k, &v, rc == 0 ? MDB_PREV : MDB_LAST);
        if (rc == 0 && is_orphan(s, main_txn, sp->number, &k, &damaged)) {
            memcpy(key, k.mv_data, 8);
            *found = true;
            break;
        }
        if (rc == 0)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (damaged)
        return environment_damaged(&sp->in, "the key of a vector", err);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&sp->in, "look for unnamed vectors", rc, err);
}

static sem_status delete_orphans(space *sp, store *s, MDB_txn *main_txn, MDB_txn *txn, uint64_t *count, sem_error *err)
{
    unsigned char key[8] = {0};
    for (;;) {
        bool found;
        uint64_t deleted;
        sem_status status = find_orphan(sp, s, main_txn, txn, key, &found, err);
        if (status != SEM_OK || !found)
            return status;
        status = table_delete_range(&sp->in, txn, sp->vectors, key, key, sizeof key, 0, &deleted, err);
        if (status != SEM_OK)
            return status;
        *count += deleted;
        put_u32(key + 4, 0);
    }
}

static sem_status clean_space(space *sp, store *s, sem_error *err)
{
    MDB_txn *main_txn, *txn;
    block_changes changed = {0};
    uint64_t count = 0;
    int rc = mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &main_txn);
    if (rc != 0)
        return environment_fail(&s->main, "look for unnamed vectors", rc, err);
    rc = mdb_txn_begin(sp->in.env, NULL, 0, &txn);
    if (rc != 0) {
        mdb_txn_abort(main_txn);
        return environment_fail(&sp->in, "look for unnamed vectors", rc, err);
    }
    sem_status status = delete_orphans(sp, s, main_txn, txn, &count, err);
    if (status == SEM_OK)
        status = blocks_clean(sp, s, main_txn, txn, &changed, &count, err);
    mdb_txn_abort(main_txn);
    if (status != SEM_OK || count == 0) {
        mdb_txn_abort(txn);
        free(changed.items);
        return status;
    }
    log_event(s->log, LOG_LEVEL_INFO, "unnamed_vectors_removed", "environment=%s count=%llu", sp->in.name,
              (unsigned long long)count);
    blocks_begin_commit(s, &changed);
    rc = mdb_txn_commit(txn);
    blocks_end_commit(s, &changed);
    free(changed.items);
    return rc == 0 ? SEM_OK : environment_fail(&sp->in, "remove unnamed vectors", rc, err);
}

sem_status spaces_clean(store *s, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < STORE_SPACES_MAX && status == SEM_OK; i++) {
        pthread_mutex_lock(&s->lock);
        bool open = s->spaces[i] != NULL;
        uint32_t number = open ? s->spaces[i]->number : 0;
        pthread_mutex_unlock(&s->lock);
        space *sp = open ? space_pin(s, number) : NULL;
        if (sp != NULL)
            status = clean_space(sp, s, err);
        space_unpin(s, sp);
    }
    return status;
}

/* A folder that was lost must not pass for a space that is still empty. */
static sem_status check_not_lost(space *sp, store *s, sem_error *err)
{
    unsigned char prefix[4];
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_stat stat = {0}, blocks = {0};
    put_u32(prefix, sp->number);
    int rc = mdb_txn_begin(sp->in.env, NULL, MDB_RDONLY, &txn);
    if (rc == 0) {
        rc = mdb_stat(txn, sp->vectors, &stat);
        if (rc == 0)
            rc = mdb_stat(txn, sp->blocks, &blocks);
        mdb_txn_abort(txn);
    }
    if (rc != 0)
        return environment_fail(&sp->in, "count its vectors", rc, err);
    if (stat.ms_entries + blocks.ms_entries > 0)
        return SEM_OK;
    rc = mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return environment_fail(&s->main, "look for places", rc, err);
    MDB_val key = as_value(prefix, sizeof prefix), value;
    if ((rc = mdb_cursor_open(txn, s->places, &cursor)) == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        mdb_cursor_close(cursor);
    }
    bool named = rc == 0 && key.mv_size == PLACE_KEY && memcmp(key.mv_data, prefix, sizeof prefix) == 0;
    mdb_txn_abort(txn);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return environment_fail(&s->main, "look for places", rc, err);
    return !named ? SEM_OK
                  : sem_fail(err, SEM_FAILED_PRECONDITION,
                             "documents have vectors in %s, but it is empty; put the folder back or restore a backup",
                             sp->in.name);
}

/* --- open and close */

static sem_status open_space(store *s, uint32_t number, uint32_t dim, space **out, sem_error *err)
{
    char name[24];
    space *sp = calloc(1, sizeof *sp);
    if (sp == NULL)
        return sem_fail_memory(err, "a space");
    sp->number = number;
    space_name(name, number);
    sem_status status = environment_open(&sp->in, s, name, err);
    crash_point("space.environment");
    const named_database list[] = {{"vectors", &sp->vectors}, {"blocks", &sp->blocks}, {"dead", &sp->dead}};
    if (status == SEM_OK)
        status = environment_databases(&sp->in, list, sizeof list / sizeof list[0], err);
    if (status == SEM_OK)
        status = settle_dim(sp, dim, err);
    if (status == SEM_OK)
        status = clean_space(sp, s, err);
    if (status == SEM_OK)
        status = check_not_lost(sp, s, err);
    if (status != SEM_OK) {
        environment_close(&sp->in);
        free(sp);
        return status;
    }
    *out = sp;
    return SEM_OK;
}

static sem_status add_space(store *s, uint32_t number, uint32_t dim, sem_error *err)
{
    space *sp = NULL;
    size_t at = 0;
    while (at < STORE_SPACES_MAX && s->spaces[at] != NULL)
        at++;
    if (at == STORE_SPACES_MAX)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "%d spaces are open already; retire a generation",
                        STORE_SPACES_MAX);
    sem_status status = open_space(s, number, dim, &sp, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&s->lock);
    s->spaces[at] = sp;
    pthread_mutex_unlock(&s->lock);
    return SEM_OK;
}

sem_status store_space_open(store *s, uint32_t number, size_t dim, sem_error *err)
{
    if (number == STORE_SPACE_EXTERNAL || dim == 0 || dim > STORE_DIM_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "space %u with vectors of %zu floats: numbers start at 1, floats are 1 to %d", number, dim,
                        STORE_DIM_MAX);
    pthread_mutex_lock(&s->lock);
    const space *sp = space_at(s, number);
    bool shut = sp != NULL && sp->shut;
    pthread_mutex_unlock(&s->lock);
    if (sp == NULL)
        return add_space(s, number, (uint32_t)dim, err);
    if (shut)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "space %u is being removed", number);
    if (sp->dim != dim)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "space %u has vectors of %u floats, %zu were asked for", number,
                        sp->dim, dim);
    return SEM_OK;
}

static sem_status names_space(store *s, store_generation *list, size_t count, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (list[i].state != GENERATION_RETIRED && list[i].space != STORE_SPACE_EXTERNAL)
            status = store_space_open(s, list[i].space, list[i].dim, err);
    return status;
}

sem_status spaces_open_all(store *s, sem_error *err)
{
    store_generation *list = NULL;
    size_t count = 0;
    store_read *r = NULL;
    sem_status status = add_space(s, STORE_SPACE_EXTERNAL, 0, err);
    if (status == SEM_OK)
        status = store_read_begin(s, &r, err);
    if (status == SEM_OK)
        status = store_generation_list(r, &list, &count, err);
    store_read_end(r);
    if (status == SEM_OK)
        status = names_space(s, list, count, err);
    store_generations_free(list, count);
    return status;
}

/* Nobody reads in it, and nobody can any more. */
static void free_space(space *sp)
{
    for (size_t i = 0; i < sp->idle_count; i++)
        mdb_txn_abort(sp->idle[i]);
    environment_close(&sp->in);
    free(sp);
}

void store_check_readers(store *s)
{
    int dead;
    mdb_reader_check(s->main.env, &dead);
    events_file *file = events_pin(s);
    mdb_reader_check(file->env, &dead);
    events_unpin(s, file);
    for (size_t i = 0; i < STORE_SPACES_MAX; i++) {
        pthread_mutex_lock(&s->lock);
        bool open = s->spaces[i] != NULL;
        uint32_t number = open ? s->spaces[i]->number : 0;
        pthread_mutex_unlock(&s->lock);
        space *sp = open ? space_pin(s, number) : NULL;
        if (sp != NULL)
            mdb_reader_check(sp->in.env, &dead);
        space_unpin(s, sp);
    }
}

void spaces_close_all(store *s)
{
    for (size_t i = 0; i < STORE_SPACES_MAX; i++) {
        if (s->spaces[i] == NULL)
            continue;
        free_space(s->spaces[i]);
        s->spaces[i] = NULL;
    }
}

uint64_t store_space_bytes(const store *s, uint32_t number)
{
    char name[24], path[FILES_PATH_MAX];
    space_name(name, number);
    if (files_join(path, NULL, "%s/%s", s->path, name) != SEM_OK)
        return 0;
    return files_folder_bytes(path);
}

/* --- removal */

/* Keeps new reads out of a space; SEM_FAILED_PRECONDITION while some are in it. */
static sem_status shut_space(store *s, uint32_t number, space **out, sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&s->lock);
    space *sp = space_at(s, number);
    if (sp != NULL && sp->readers > 0)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "%u reads are in space %u; remove it when they have ended",
                          sp->readers, number);
    else if (sp != NULL)
        sp->shut = true;
    pthread_mutex_unlock(&s->lock);
    *out = status == SEM_OK ? sp : NULL;
    return status;
}

static void close_space(store *s, space *sp)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STORE_SPACES_MAX; i++)
        if (s->spaces[i] == sp)
            s->spaces[i] = NULL;
    pthread_mutex_unlock(&s->lock);
    free_space(sp);
}

static void reopen_space(store *s, space *sp)
{
    pthread_mutex_lock(&s->lock);
    sp->shut = false;
    pthread_mutex_unlock(&s->lock);
}

sem_status space_forget_places(store *s, MDB_txn *txn, uint32_t number, sem_error *err)
{
    unsigned char prefix[4];
    put_u32(prefix, number);
    sem_status status = table_delete_range(&s->main, txn, s->places, prefix, prefix, sizeof prefix, 0, NULL, err);
    if (status == SEM_OK)
        status = table_delete_range(&s->main, txn, s->slots, prefix, prefix, sizeof prefix, 0, NULL, err);
    return status;
}

/* Main's write lock is held while the space is shut, so that no group of writes is in it. */
static sem_status forget_space(store *s, uint32_t number, space **out, sem_error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(s->main.env, NULL, 0, &txn);
    if (rc != 0)
        return environment_fail(&s->main, "remove a space", rc, err);
    sem_status status = space_forget_places(s, txn, number, err);
    if (status == SEM_OK)
        status = shut_space(s, number, out, err);
    if (status != SEM_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    crash_point("space.forgetting");
    rc = mdb_txn_commit(txn);
    crash_point("space.forgotten");
    if (rc == 0)
        return SEM_OK;
    if (*out != NULL)
        reopen_space(s, *out);
    return environment_fail(&s->main, "remove a space", rc, err);
}

sem_status store_space_remove(store *s, uint32_t number, sem_error *err)
{
    char name[24], path[FILES_PATH_MAX];
    space *sp = NULL;
    if (number == STORE_SPACE_EXTERNAL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the space of external vectors is never removed");
    space_name(name, number);
    sem_status status = files_join(path, err, "%s/%s", s->path, name);
    if (status == SEM_OK)
        status = forget_space(s, number, &sp, err);
    if (status != SEM_OK)
        return status;
    if (sp != NULL)
        close_space(s, sp);
    /* Should a crash come first, the next start removes the folder. */
    status = files_remove_folder(path, err);
    crash_point("space.removed");
    if (status == SEM_OK)
        status = space_forget_caches(s, number, err);
    return status != SEM_OK ? status : files_sync_folder(s->path, err);
}
