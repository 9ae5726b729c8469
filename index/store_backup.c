/* Taking a backup. The order is what makes it whole:
 *
 * 1. a snapshot of events, then one of main: what an event names is in main;
 * 2. the spaces that main names are pinned, so that none is removed;
 * 3. everything is copied, each environment from one snapshot. Main's is let go once
 *    it is copied; that it was taken stays known until the end, and with it every
 *    vector that it names stays in the spaces. A space may be newer than main: what
 *    it has more is named by nobody and removed when the copy is opened. */
#include "base/checksum.h"
#include "base/clock.h"
#include "index/backup.h"
#include "index/backup_manifest.h"
#include "index/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SPACE_ATTEMPTS = 5, /* a generation may be retired between the snapshot and the pin */
    MANIFEST_ROOM = 1 << 20
};

/* Pages of an environment when the backup began. */
typedef struct growth_base {
    environment *e;
    uint64_t used, unused; /* bytes of pages, and of those that LMDB would use again */
} growth_base;

typedef struct backup_run {
    store *s;
    const backup_options *options;
    char final[FILES_PATH_MAX], temporary[FILES_PATH_MAX];
    int lock_fd;              /* of the temporary folder: it is being written */
    events_file *events_file; /* pinned */
    environment events_now;   /* of that file */
    MDB_txn *events;
    store_read *read;
    store_generation *list;
    size_t count;
    space *pinned[STORE_SPACES_MAX];
    size_t pinned_count;
    growth_base bases[STORE_SPACES_MAX + 2];
    size_t base_count;
    uint64_t freed;               /* entries of `freed` when it began */
    uint64_t vector_bytes;        /* of the widest vector */
    uint64_t done, total;         /* bytes */
    unsigned char key[FREED_KEY]; /* of the record that is being copied */
    backup_manifest manifest;
} backup_run;

/* --- growth */

static uint64_t freed_entries(const store *s)
{
    MDB_txn *txn;
    MDB_stat stat = {0};
    if (mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &txn) != 0)
        return 0;
    (void)mdb_stat(txn, s->freed, &stat);
    mdb_txn_abort(txn);
    return stat.ms_entries;
}

static void add_base(backup_run *b, environment *e)
{
    uint64_t used = environment_used(e, false);
    b->bases[b->base_count++] = (growth_base){e, used, used - environment_used(e, true)};
}

/* What the files grew by and LMDB does not use: without the backup it would
 * have used those pages. Beside it the vectors that were replaced and must stay. */
static uint64_t growth(const backup_run *b)
{
    uint64_t freed = freed_entries(b->s), bytes = 0;
    for (size_t i = 0; i < b->base_count; i++) {
        const growth_base *base = &b->bases[i];
        uint64_t used = environment_used(base->e, false), unused = used - environment_used(base->e, true);
        uint64_t grown = used > base->used ? used - base->used : 0;
        uint64_t idle = unused > base->unused ? unused - base->unused : 0;
        bytes += grown < idle ? grown : idle;
    }
    return bytes + (freed > b->freed ? (freed - b->freed) * b->vector_bytes : 0);
}

static sem_status step(void *context, uint64_t bytes, sem_error *err)
{
    backup_run *b = context;
    b->done += bytes;
    uint64_t grown = growth(b);
    if (grown > b->options->growth)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "the store's files have grown by %llu bytes because of this backup, storage.backup_growth is "
                        "%llu; take it when less is written, or raise that",
                        (unsigned long long)grown, (unsigned long long)b->options->growth);
    return b->options->progress(b->options->context, b->done, b->done > b->total ? b->done : b->total, err);
}

/* While checksums are read nothing more is written. */
static sem_status step_reading(void *context, uint64_t bytes, sem_error *err)
{
    (void)bytes;
    backup_run *b = context;
    return b->options->progress(b->options->context, b->done, b->done > b->total ? b->done : b->total, err);
}

/* --- snapshots and pins */

static bool is_kept(const store_generation *g)
{
    return g->state != GENERATION_RETIRED && g->state != GENERATION_CANDIDATE;
}

static bool is_pinned(const backup_run *b, uint32_t number)
{
    for (size_t i = 0; i < b->pinned_count; i++)
        if (b->pinned[i]->number == number)
            return true;
    return false;
}

/* Counts as a read in the space, so that it is not removed. */
static bool pin(backup_run *b, uint32_t number)
{
    store *s = b->s;
    pthread_mutex_lock(&s->lock);
    space *sp = space_at(s, number);
    bool there = sp != NULL && !sp->shut;
    if (there) {
        sp->readers++;
        b->pinned[b->pinned_count++] = sp;
    }
    pthread_mutex_unlock(&s->lock);
    return there;
}

static void unpin_all(backup_run *b)
{
    pthread_mutex_lock(&b->s->lock);
    for (size_t i = 0; i < b->pinned_count; i++)
        b->pinned[i]->readers--;
    pthread_mutex_unlock(&b->s->lock);
    b->pinned_count = 0;
}

static void free_generations(backup_run *b)
{
    store_generations_free(b->list, b->count);
    b->list = NULL;
    b->count = 0;
}

static void let_go(backup_run *b)
{
    unpin_all(b);
    free_generations(b);
    store_read_end(b->read);
    b->read = NULL;
    if (b->events != NULL)
        mdb_txn_abort(b->events);
    b->events = NULL;
    events_unpin(b->s, b->events_file);
    b->events_file = NULL;
}

/* *whole false: a space went away since the snapshot of main. */
static sem_status take_snapshots(backup_run *b, bool *whole, sem_error *err)
{
    b->events_file = events_pin(b->s);
    b->events_now = events_of(b->s, b->events_file);
    int rc = mdb_txn_begin(b->events_now.env, NULL, MDB_RDONLY, &b->events);
    if (rc != 0) {
        b->events = NULL;
        return environment_fail(&b->s->events, "begin a backup", rc, err);
    }
    sem_status status = store_read_begin(b->s, &b->read, err);
    if (status == SEM_OK)
        status = store_generation_list(b->read, &b->list, &b->count, err);
    if (status != SEM_OK)
        return status;
    *whole = pin(b, STORE_SPACE_EXTERNAL);
    for (size_t i = 0; i < b->count && *whole; i++)
        if (is_kept(&b->list[i]) && !is_pinned(b, b->list[i].space))
            *whole = pin(b, b->list[i].space);
    return SEM_OK;
}

static sem_status widest_vector(backup_run *b, sem_error *err)
{
    store_collection *all;
    size_t count;
    sem_status status = store_collection_list(b->read, &all, &count, err);
    if (status != SEM_OK)
        return status;
    size_t dim = 0;
    for (size_t i = 0; i < count; i++)
        dim = all[i].external && all[i].dim > dim ? all[i].dim : dim;
    for (size_t i = 0; i < b->pinned_count; i++)
        dim = b->pinned[i]->dim > dim ? b->pinned[i]->dim : dim;
    free(all);
    b->vector_bytes = dim * sizeof(float);
    return SEM_OK;
}

static sem_status settle_snapshots(backup_run *b, sem_error *err)
{
    bool whole = false;
    sem_status status = SEM_OK;
    for (int i = 0; i < SPACE_ATTEMPTS && !whole && status == SEM_OK; i++) {
        let_go(b);
        status = take_snapshots(b, &whole, err);
    }
    if (status == SEM_OK && !whole)
        status = sem_fail(err, SEM_UNAVAILABLE, "generations come and go too quickly for a backup; try again");
    if (status == SEM_OK)
        status = widest_vector(b, err);
    if (status != SEM_OK)
        return status;
    b->freed = freed_entries(b->s);
    add_base(b, &b->s->main);
    add_base(b, &b->events_now);
    for (size_t i = 0; i < b->pinned_count; i++)
        add_base(b, &b->pinned[i]->in);
    MDB_txn *txn;
    status = read_txn(b->read, &b->s->main, &txn, err);
    uint64_t generation = 0;
    if (status == SEM_OK)
        status = meta_get(&b->s->main, txn, "format", &b->manifest.format, err);
    if (status == SEM_OK)
        status = meta_get(&b->s->main, txn, "generation", &generation, err);
    b->manifest.generation = (uint32_t)generation;
    b->manifest.seq = store_last_seq(b->read);
    return status;
}

/* --- models */

/* Among the folders that generations before number i name. */
static bool model_came_before(const backup_run *b, size_t i, const char *model)
{
    for (size_t k = 0; k < i; k++)
        if (is_kept(&b->list[k]) && store_generation_names(&b->list[k], model))
            return true;
    return false;
}

/* Calls `each` once with every folder that a generation of the copy names. */
static sem_status each_model(backup_run *b, sem_status (*each)(backup_run *b, const char *model, sem_error *err),
                             sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->count && status == SEM_OK; i++) {
        const char *names[STORE_GENERATION_MODELS];
        size_t count = is_kept(&b->list[i]) ? store_generation_models(&b->list[i], names) : 0;
        for (size_t k = 0; k < count && status == SEM_OK; k++)
            if (!model_came_before(b, i, names[k]))
                status = each(b, names[k], err);
    }
    return status;
}

static sem_status count_model(backup_run *b, const char *model, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/models/%s", b->s->path, model);
    b->total += status == SEM_OK ? files_folder_bytes(path) : 0;
    return status;
}

/* --- room */

static sem_status check_room(backup_run *b, sem_error *err)
{
    uint64_t size, left;
    for (size_t i = 0; i < b->base_count; i++)
        b->total += b->bases[i].used - b->bases[i].unused;
    sem_status status = each_model(b, count_model, err);
    if (status == SEM_OK)
        status = files_room(b->temporary, &size, &left, err);
    if (status != SEM_OK)
        return status;
    uint64_t need = b->total + environment_reserve(size) + MANIFEST_ROOM;
    if (need <= left)
        return SEM_OK;
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                    "storage.backup_dir: about %llu bytes are needed for a backup, %llu are left on its disk",
                    (unsigned long long)need, (unsigned long long)left);
}

/* --- environments */

static bool space_is_copied(const backup_run *b, const MDB_val *key, size_t at)
{
    return key->mv_size >= at + 4 && is_pinned(b, get_u32((const unsigned char *)key->mv_data + at));
}

static bool keep_generation(const backup_run *b, const MDB_val *key)
{
    for (size_t i = 0; i < b->count; i++)
        if (key->mv_size == 4 && b->list[i].number == get_u32(key->mv_data))
            return b->list[i].state != GENERATION_CANDIDATE;
    return true;
}

/* What main holds of spaces that are not copied is left out, as is the key that hides
 * user names. Numbers of transactions begin anew in the copy, where no read is. */
static bool filter_main(void *context, const char *table, MDB_val *key, const MDB_val *value, bool *in_order)
{
    backup_run *b = context;
    (void)value;
    if (strcmp(table, "meta") == 0)
        return key->mv_size != strlen(STORE_USER_KEY_NAME) ||
               memcmp(key->mv_data, STORE_USER_KEY_NAME, key->mv_size) != 0;
    if (strcmp(table, "generations") == 0)
        return keep_generation(b, key);
    if (strcmp(table, "places") == 0 || strcmp(table, "slots") == 0)
        return space_is_copied(b, key, 0);
    if (strcmp(table, "freed") != 0 || key->mv_size != FREED_KEY)
        return true;
    memcpy(b->key, key->mv_data, FREED_KEY);
    put_u64(b->key, 0);
    *in_order = false;
    bool copied = space_is_copied(b, key, 8);
    *key = as_value(b->key, FREED_KEY);
    return copied;
}

static sem_status add_file(backup_run *b, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    uint64_t sum, bytes;
    sem_status status = files_join(path, err, "%s/%s", b->temporary, name);
    if (status == SEM_OK)
        status = checksum_file(path, -1, &sum, &bytes, step_reading, b, err);
    return status != SEM_OK ? status : manifest_add_file(&b->manifest, name, bytes, sum, err);
}

static sem_status copy_environment(backup_run *b, const environment *e, MDB_txn *txn, copy_filter *filter,
                                   sem_error *err)
{
    char folder[FILES_PATH_MAX], file[64];
    sem_status status = files_join(folder, err, "%s/%s", b->temporary, e->name);
    if (status == SEM_OK)
        status = files_make_folder(folder, err);
    if (status == SEM_OK)
        status = environment_copy(e, txn, folder, filter, step, b, err);
    if (status == SEM_OK)
        status = manifest_add_folder(&b->manifest, e->name, err);
    snprintf(file, sizeof file, "%s/data.mdb", e->name);
    return status != SEM_OK ? status : add_file(b, file, err);
}

static sem_status copy_events(backup_run *b, sem_error *err)
{
    sem_status status = copy_environment(b, &b->s->events, b->events, NULL, err);
    mdb_txn_abort(b->events);
    b->events = NULL;
    return status;
}

static sem_status copy_main(backup_run *b, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(b->read, &b->s->main, &txn, err);
    if (status == SEM_OK)
        status = copy_environment(b, &b->s->main, txn, filter_main, err);
    /* Its pages may be used again; b->read->snapshot still keeps the vectors. */
    if (status == SEM_OK)
        mdb_txn_reset(txn);
    return status;
}

static sem_status copy_spaces(backup_run *b, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->pinned_count && status == SEM_OK; i++) {
        const environment *e = &b->pinned[i]->in;
        MDB_txn *txn;
        int rc = mdb_txn_begin(e->env, NULL, MDB_RDONLY, &txn);
        if (rc != 0)
            return environment_fail(e, "copy its vectors", rc, err);
        status = copy_environment(b, e, txn, NULL, err);
        mdb_txn_abort(txn);
    }
    return status;
}

/* --- models */

/* Names a folder that was copied, and all below it. */
static sem_status add_folder(backup_run *b, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX], entry[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", b->temporary, name);
    if (status == SEM_OK)
        status = manifest_add_folder(&b->manifest, name, err);
    DIR *folder = status == SEM_OK ? opendir(path) : NULL;
    if (folder == NULL)
        return status != SEM_OK ? status
                                : sem_fail(err, SEM_INTERNAL, "cannot open folder %s: %s", path, strerror(errno));
    for (struct dirent *e; status == SEM_OK && (e = readdir(folder)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        status = files_join(entry, err, "%s/%s", name, e->d_name);
        if (status == SEM_OK && fstatat(dirfd(folder), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            status = sem_fail(err, SEM_INTERNAL, "cannot stat %s/%s: %s", path, e->d_name, strerror(errno));
        if (status == SEM_OK)
            status = S_ISDIR(st.st_mode) ? add_folder(b, entry, err) : add_file(b, entry, err);
    }
    closedir(folder);
    return status;
}

static sem_status copy_model(backup_run *b, const char *model, sem_error *err)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX], name[FILES_PATH_MAX];
    sem_status status = files_join(name, err, "models/%s", model);
    if (status == SEM_OK)
        status = files_join(from, err, "%s/%s", b->s->path, name);
    if (status == SEM_OK)
        status = files_join(to, err, "%s/%s", b->temporary, name);
    if (status == SEM_OK)
        status = files_copy_folder(from, to, err);
    if (status == SEM_OK)
        status = step(b, files_folder_bytes(to), err);
    return status != SEM_OK ? status : add_folder(b, name, err);
}

/* First of all, since a model's folder is the one thing that nothing pins: it goes
 * with its generation, which was there a moment ago. */
static sem_status copy_models(backup_run *b, sem_error *err)
{
    char folder[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/models", b->temporary);
    if (status == SEM_OK)
        status = files_make_folder(folder, err);
    if (status == SEM_OK)
        status = manifest_add_folder(&b->manifest, "models", err);
    if (status == SEM_OK)
        status = each_model(b, copy_model, err);
    return status != SEM_OK ? status : files_sync_folder(folder, err);
}

/* --- the whole */

static sem_status check_name(const char *name, sem_error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(name);
    if (length == 0 || length > BACKUP_NAME_MAX || strspn(name, letters) != length || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "name: must be 1 to %d letters, digits, '.', '_' and '-', and neither \".\" nor \"..\"",
                        BACKUP_NAME_MAX);
    return SEM_OK;
}

/* A copy inside the store would be counted as the store's, and copied by whoever copies that. */
static sem_status check_outside(const store *s, const char *folder, sem_error *err)
{
    bool inside = false;
    sem_status status = files_lies_in(folder, s->path, &inside, err);
    if (status == SEM_OK && inside)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "storage.backup_dir: %s lies inside storage.path", folder);
    return status;
}

static sem_status exists(const char *name, sem_error *err)
{
    return sem_fail(err, SEM_ALREADY_EXISTS, "name: there is a backup \"%s\" already", name);
}

static sem_status make_temporary(backup_run *b, sem_error *err)
{
    const backup_options *o = b->options;
    struct stat st;
    sem_status status = files_join(b->final, err, "%s/%s", o->folder, o->name);
    if (status == SEM_OK)
        status = files_join(b->temporary, err, "%s/~%s", o->folder, o->name);
    if (status != SEM_OK)
        return status;
    if (lstat(b->final, &st) == 0)
        return exists(o->name, err);
    if (mkdir(b->temporary, 0700) != 0) {
        int cause = errno;
        b->temporary[0] = '\0';
        return cause == EEXIST ? exists(o->name, err)
                               : sem_fail(err, SEM_INTERNAL, "storage.backup_dir: cannot create %s/~%s: %s", o->folder,
                                          o->name, strerror(cause));
    }
    b->lock_fd = open(b->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (b->lock_fd < 0 || flock(b->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot lock %s: %s", b->temporary, strerror(errno));
    return SEM_OK;
}

static sem_status publish(backup_run *b, sem_error *err)
{
    struct stat st;
    sem_status status = manifest_write(&b->manifest, b->temporary, err);
    if (status == SEM_OK && lstat(b->final, &st) == 0)
        status = exists(b->options->name, err);
    if (status == SEM_OK && rename(b->temporary, b->final) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot rename %s: %s", b->temporary, strerror(errno));
    if (status != SEM_OK)
        return status;
    b->temporary[0] = '\0';
    return files_sync_folder(b->options->folder, err);
}

static sem_status run(backup_run *b, sem_error *err)
{
    sem_status status = settle_snapshots(b, err);
    if (status == SEM_OK)
        status = check_room(b, err);
    if (status == SEM_OK)
        status = copy_models(b, err);
    if (status == SEM_OK)
        status = copy_events(b, err);
    if (status == SEM_OK)
        status = copy_main(b, err);
    if (status == SEM_OK)
        status = copy_spaces(b, err);
    return status == SEM_OK ? publish(b, err) : status;
}

sem_status backup_take(store *s, const backup_options *options, backup_result *out, sem_error *err)
{
    backup_run *b = calloc(1, sizeof *b);
    if (b == NULL)
        return sem_fail_memory(err, "a backup");
    b->s = s;
    b->options = options;
    b->lock_fd = -1;
    b->manifest.created_ms = clock_wall_ms();
    sem_status status = check_name(options->name, err);
    if (status == SEM_OK)
        status = files_make_folder(options->folder, err);
    if (status == SEM_OK)
        status = check_outside(s, options->folder, err);
    if (status == SEM_OK)
        status = backup_sweep(options->folder, s->log, err);
    if (status == SEM_OK)
        status = make_temporary(b, err);
    if (status == SEM_OK)
        status = run(b, err);
    let_go(b);
    if (status == SEM_OK)
        *out = (backup_result){b->manifest.bytes, b->manifest.seq, b->manifest.generation};
    else if (b->temporary[0] != '\0')
        (void)files_remove_folder(b->temporary, NULL);
    if (b->lock_fd >= 0)
        close(b->lock_fd);
    manifest_free(&b->manifest);
    free(b);
    return status;
}

/* --- what was cut off */

/* Of what a backup is made of. */
static bool is_part(const char *name)
{
    static const char *const parts[] = {".",      "..",   "manifest.json", "manifest.json.new",
                                        "models", "main", "events",        "external"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(name, parts[i]) == 0)
            return true;
    return strncmp(name, "space-", strlen("space-")) == 0;
}

/* A folder of somebody else may have such a name too: only what has nothing else in it is removed. */
static bool is_leftover(const char *path)
{
    DIR *dir = opendir(path);
    bool leftover = dir != NULL;
    for (struct dirent *e; leftover && (e = readdir(dir)) != NULL;)
        leftover = is_part(e->d_name);
    if (dir != NULL)
        closedir(dir);
    return leftover;
}

static sem_status sweep_entry(const char *folder, const char *name, sem_log *log, sem_error *err)
{
    char path[FILES_PATH_MAX], quoted[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", folder, name);
    if (status != SEM_OK)
        return status;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return SEM_OK;
    /* Whoever writes it holds the lock. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && is_leftover(path)) {
        status = files_remove_folder(path, err);
        if (status == SEM_OK)
            log_event(log, LOG_LEVEL_INFO, "leftover_removed", "path=%s", log_value(quoted, sizeof quoted, path));
    }
    close(fd);
    return status;
}

sem_status backup_sweep(const char *folder, sem_log *log, sem_error *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT ? SEM_OK
                               : sem_fail(err, SEM_INTERNAL, "cannot open folder %s: %s", folder, strerror(errno));
    sem_status status = SEM_OK;
    for (struct dirent *e; status == SEM_OK && (e = readdir(dir)) != NULL;)
        if (e->d_name[0] == '~')
            status = sweep_entry(folder, e->d_name, log, err);
    closedir(dir);
    return status;
}
