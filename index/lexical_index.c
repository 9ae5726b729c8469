#include "index/lexical_index.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/hash.h"
#include "index/lexical_batch.h"
#include "index/lexical_tables.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CACHE_KIB = 32 << 10,
    ROOM_FACTOR = 4,        /* bytes that a byte of text may take, SQLite's log included */
    ROOM_LEAST = 256 << 10, /* bytes that a step may take in any case */
    PROGRESS_MS = 10000     /* between two lines in the log about a collection that is being built */
};

struct lexical_index {
    lexical_db db;
    store *store;
    sem_log *log;
    uint64_t seq;
    lexical_tables **all; /* [count], in order of number; owned */
    size_t count, capacity;
    uint64_t progress_ms; /* monotonic: when the next line about progress is due */
};

uint64_t lexical_index_seq(const lexical_index *x)
{
    return x->seq;
}

bool lexical_index_damaged(const lexical_index *x)
{
    return x->db.damaged;
}

void lexical_index_building(const lexical_index *x, uint32_t **out, size_t *count)
{
    *out = NULL;
    *count = 0;
    for (size_t i = 0; i < x->count; i++) {
        if (!x->all[i]->building)
            continue;
        if (*out == NULL && (*out = checked_realloc(NULL, x->count, sizeof **out)) == NULL)
            return;
        (*out)[(*count)++] = x->all[i]->number;
    }
}

/* --- collections */

static size_t position(const lexical_index *x, uint32_t number)
{
    size_t low = 0, high = x->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (x->all[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static lexical_tables *find(const lexical_index *x, uint32_t number)
{
    size_t at = position(x, number);
    return at < x->count && x->all[at]->number == number ? x->all[at] : NULL;
}

static sem_status add(lexical_index *x, uint32_t number, lexical_tables **out, sem_error *err)
{
    if (x->count == x->capacity) {
        size_t capacity = x->capacity == 0 ? 8 : x->capacity * 2;
        lexical_tables **grown = checked_realloc(x->all, capacity, sizeof(lexical_tables *));
        if (grown == NULL)
            return sem_fail_memory(err, "the list of lexical tables");
        x->all = grown;
        x->capacity = capacity;
    }
    lexical_tables *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "lexical tables");
    t->number = number;
    size_t at = position(x, number);
    memmove(x->all + at + 1, x->all + at, (x->count - at) * sizeof(lexical_tables *));
    x->all[at] = t;
    x->count++;
    *out = t;
    return SEM_OK;
}

static void clear(lexical_index *x)
{
    for (size_t i = 0; i < x->count; i++)
        lexical_tables_free(x->all[i]);
    x->count = 0;
}

/* What the file says, after opening it and after a step that was rolled back. */
static sem_status load(lexical_index *x, sem_error *err)
{
    sqlite3_stmt *s;
    bool row = true;
    clear(x);
    sem_status status = lexical_db_prepare(
        &x->db, "SELECT number, documents, tokens, built FROM collections ORDER BY number", 0, &s, err);
    if (status != SEM_OK)
        return status;
    while (status == SEM_OK && (status = lexical_db_step(&x->db, s, &row, err)) == SEM_OK && row) {
        lexical_tables *t;
        if ((status = add(x, (uint32_t)sqlite3_column_int64(s, 0), &t, err)) != SEM_OK)
            break;
        t->documents = (uint64_t)sqlite3_column_int64(s, 1);
        t->tokens = (uint64_t)sqlite3_column_int64(s, 2);
        t->building = sqlite3_column_type(s, 3) != SQLITE_NULL;
        size_t length = (size_t)sqlite3_column_bytes(s, 3);
        if (length > 0 && length <= sizeof t->built) {
            memcpy(t->built, sqlite3_column_blob(s, 3), length);
            t->built_length = length;
        }
    }
    sqlite3_finalize(s);
    return status;
}

/* --- transactions */

static sem_status begin(lexical_index *x, sem_error *err)
{
    return lexical_db_run(&x->db, "BEGIN IMMEDIATE", 0, err);
}

static sem_status set_number(lexical_index *x, const char *key, uint64_t value, sem_error *err)
{
    sqlite3_stmt *s;
    bool row;
    sem_status status = lexical_db_prepare(&x->db, "INSERT OR REPLACE INTO meta VALUES(?1, ?2)", 0, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 2, (sqlite3_int64)value);
    status = rc == SQLITE_OK ? lexical_db_step(&x->db, s, &row, err) : lexical_db_fail(&x->db, "bind a value", rc, err);
    sqlite3_finalize(s);
    return status;
}

/* Ends a transaction that went as status says: commits it with the log's number, or rolls it back. */
static sem_status end(lexical_index *x, sem_status status, uint64_t seq, sem_error *err)
{
    for (size_t i = 0; i < x->count && status == SEM_OK; i++)
        status = lexical_tables_flush(&x->db, x->all[i], err);
    if (status == SEM_OK && seq != x->seq)
        status = set_number(x, "seq", seq, err);
    for (size_t i = 0; i < x->count; i++)
        lexical_tables_rest(x->all[i]);
    if (status == SEM_OK)
        status = lexical_db_run(&x->db, "COMMIT", 0, err);
    if (status == SEM_OK) {
        x->seq = seq;
        return SEM_OK;
    }
    /* A full disk may have rolled it back already; what the file holds counts. */
    if (sqlite3_get_autocommit(x->db.handle) == 0)
        sqlite3_exec(x->db.handle, "ROLLBACK", NULL, NULL, NULL);
    if (!x->db.damaged)
        load(x, NULL);
    return status;
}

/* --- opening */

static uint64_t identity(const store *s)
{
    static const char purpose[] = "lexical";
    return hash_keyed(store_user_key(s), purpose, sizeof purpose) >> 1; /* SQLite's integers are signed */
}

static sem_status get_number(lexical_index *x, const char *key, uint64_t *value, sem_error *err)
{
    sqlite3_stmt *s;
    bool row = false;
    *value = UINT64_MAX;
    sem_status status = lexical_db_prepare(&x->db, "SELECT value FROM meta WHERE key = ?1", 0, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
    status = rc == SQLITE_OK ? lexical_db_step(&x->db, s, &row, err) : lexical_db_fail(&x->db, "bind a value", rc, err);
    if (row)
        *value = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return status;
}

/* Tables of a collection, all of whose documents are to be put in. */
static sem_status start_building(lexical_index *x, uint32_t number, sem_error *err)
{
    lexical_tables *t = find(x, number);
    sem_status status = t != NULL ? lexical_tables_drop(&x->db, t, err) : add(x, number, &t, err);
    if (status != SEM_OK)
        return status;
    *t = (lexical_tables){.number = number, .building = true};
    return lexical_tables_create(&x->db, t, err);
}

static sem_status make(lexical_index *x, store_read *r, sem_error *err)
{
    store_collection *list = NULL;
    size_t count = 0;
    uint64_t seq = store_last_seq(r);
    sem_status status = begin(x, err);
    if (status == SEM_OK)
        status = lexical_db_run(&x->db,
                                "CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL); "
                                "CREATE TABLE collections(number INTEGER PRIMARY KEY, documents INTEGER NOT NULL, "
                                "tokens INTEGER NOT NULL, built BLOB); INSERT INTO meta VALUES('seq', 0)",
                                0, err);
    if (status == SEM_OK)
        status = set_number(x, "format", LEXICAL_FORMAT, err);
    if (status == SEM_OK)
        status = set_number(x, "store", identity(x->store), err);
    if (status == SEM_OK)
        status = store_collection_list(r, &list, &count, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (list[i].lexical && list[i].documents > 0)
            status = start_building(x, list[i].number, err);
    free(list);
    return end(x, status, seq, err);
}

/* NULL: the file is this store's and has not missed anything. */
static const char *misfit(lexical_index *x, store_read *r)
{
    uint64_t format, belongs, seq;
    if (get_number(x, "format", &format, NULL) != SEM_OK || get_number(x, "store", &belongs, NULL) != SEM_OK ||
        get_number(x, "seq", &seq, NULL) != SEM_OK)
        return "it cannot be read";
    if (format != LEXICAL_FORMAT)
        return "it has another format";
    if (belongs != identity(x->store))
        return "it belongs to another store";
    if (seq > store_last_seq(r))
        return "it is newer than the store";
    if (seq < store_trimmed_seq(r))
        return "it is older than the write log";
    x->seq = seq;
    return load(x, NULL) == SEM_OK ? NULL : "it cannot be read";
}

/* SQLite would only say that it cannot open what is no file, and go on saying so. */
static sem_status check_kind(lexical_index *x, const char *path, bool folder, sem_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || (folder ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)))
        return SEM_OK;
    x->db.damaged = true;
    return sem_fail(err, SEM_INTERNAL, "%s is no %s", path, folder ? "folder" : "regular file");
}

static sem_status open_file(lexical_index *x, sem_error *err)
{
    char path[FILES_PATH_MAX], folder[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/lexical", store_path(x->store));
    if (status == SEM_OK)
        status = check_kind(x, folder, true, err);
    if (status == SEM_OK)
        status = files_make_folder(folder, err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/%s", store_path(x->store), LEXICAL_FILE);
    if (status == SEM_OK)
        status = check_kind(x, path, false, err);
    return status == SEM_OK ? lexical_db_open(&x->db, path, true, CACHE_KIB, err) : status;
}

static sem_status is_empty(lexical_index *x, bool *empty, sem_error *err)
{
    sqlite3_stmt *s;
    bool row = false;
    sem_status status = lexical_db_prepare(&x->db, "SELECT 1 FROM sqlite_schema LIMIT 1", 0, &s, err);
    if (status == SEM_OK)
        status = lexical_db_step(&x->db, s, &row, err);
    sqlite3_finalize(s);
    *empty = !row;
    return status;
}

/* Opens the file as it is, or says why it cannot be used (in *reason). */
static sem_status try_open(lexical_index *x, store_read *r, const char **reason, sem_error *err)
{
    bool empty = false;
    *reason = NULL;
    sem_status status = open_file(x, err);
    if (status == SEM_OK)
        status = is_empty(x, &empty, err);
    if (status == SEM_OK && !empty)
        *reason = misfit(x, r);
    else if (status == SEM_OK)
        return make(x, r, err);
    if (status != SEM_OK && x->db.damaged)
        *reason = "it is damaged";
    return status;
}

sem_status lexical_index_open(lexical_index **out, store *s, sem_log *log, sem_error *err)
{
    store_read *r;
    const char *reason;
    lexical_index *x = calloc(1, sizeof *x);
    if (x == NULL)
        return sem_fail_memory(err, "the lexical index");
    x->store = s;
    x->log = log;
    sem_status status = store_read_begin(s, &r, err);
    if (status != SEM_OK) {
        free(x);
        return status;
    }
    status = try_open(x, r, &reason, err);
    if (reason != NULL) {
        log_event(log, LOG_LEVEL_WARNING, "lexical_rebuild", "reason=\"%s\"", reason);
        lexical_db_close(&x->db);
        status = lexical_index_remove(s, err);
        if (status == SEM_OK)
            status = try_open(x, r, &reason, err);
    }
    store_read_end(r);
    if (status != SEM_OK) {
        lexical_index_close(x);
        return status;
    }
    *out = x;
    return SEM_OK;
}

void lexical_index_close(lexical_index *x)
{
    if (x == NULL)
        return;
    clear(x);
    free(x->all);
    lexical_db_close(&x->db);
    free(x);
}

sem_status lexical_index_remove(const store *s, sem_error *err)
{
    char folder[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/lexical", store_path(s));
    return status == SEM_OK ? files_remove_folder(folder, err) : status;
}

/* --- the log */

/* A document whose row cannot be what the log says: some change never came. */
static sem_status start_anew(lexical_index *x, lexical_tables *t, uint32_t docno, sem_error *err)
{
    log_event(x->log, LOG_LEVEL_WARNING, "lexical_rebuild",
              "collection=%u document=%u reason=\"it does not fit the write log\"", t->number, docno);
    return start_building(x, t->number, err);
}

static sem_status forget_old(lexical_index *x, const lexical_batch *b, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->old_count && status == SEM_OK; i++) {
        const store_old_text *o = &b->old[i];
        lexical_tables *t = find(x, o->collection);
        uint64_t version;
        if (t == NULL)
            continue;
        status = lexical_tables_version(&x->db, t, o->docno, &version, err);
        if (status != SEM_OK || version != o->version)
            continue;
        if (o->kind == OLD_TEXT_SAME)
            status = lexical_tables_set_version(&x->db, t, o->docno, o->seq, err);
        else
            status =
                lexical_tables_delete(&x->db, t, o->docno, o->kind == OLD_TEXT_KEPT ? o->text : NULL, o->length, err);
    }
    return status;
}

static sem_status put_new(lexical_index *x, const lexical_batch *b, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->count && status == SEM_OK; i++) {
        const lexical_change *c = &b->changes[i];
        lexical_tables *t = find(x, c->collection);
        uint64_t version;
        if (t == NULL && (status = add(x, c->collection, &t, err)) == SEM_OK)
            status = lexical_tables_create(&x->db, t, err);
        if (status == SEM_OK)
            status = lexical_tables_version(&x->db, t, c->docno, &version, err);
        if (status != SEM_OK)
            break;
        if (c->exists && version == 0)
            status = lexical_tables_insert(&x->db, t, c->docno, c->version, c->text, c->length, err);
        /* A version that this batch does not reach is a later one's business. */
        else if (version != 0 && (c->removed || (c->exists && version != c->version && c->version <= b->upto)))
            status = start_anew(x, t, c->docno, err);
    }
    return status;
}

/* Room that deletes in the store may need must not go to a cache. */
static sem_status check_room(const lexical_index *x, const lexical_batch *b, sem_error *err)
{
    return store_room(x->store, 2, b->bytes * ROOM_FACTOR + ROOM_LEAST, err);
}

static sem_status apply_log(lexical_index *x, store_read *r, lexical_batch *b, sem_error *err)
{
    sem_status status = lexical_batch_add_old(b, r, x->seq, err);
    if (status == SEM_OK && b->count + b->old_count > 0)
        status = check_room(x, b, err);
    if (status == SEM_OK)
        status = begin(x, err);
    if (status != SEM_OK)
        return status;
    status = forget_old(x, b, err);
    if (status == SEM_OK)
        status = put_new(x, b, err);
    return end(x, status, b->upto, err);
}

/* --- building */

static lexical_tables *next_to_build(const lexical_index *x)
{
    for (size_t i = 0; i < x->count; i++)
        if (x->all[i]->building)
            return x->all[i];
    return NULL;
}

static void tell_progress(lexical_index *x, store_read *r, const lexical_tables *t)
{
    store_collection c;
    uint64_t now = clock_monotonic_ms();
    bool done = !t->building;
    if ((!done && now < x->progress_ms) || store_collection_at(r, t->number, &c, NULL) != SEM_OK)
        return;
    x->progress_ms = now + PROGRESS_MS;
    if (c.documents > 0)
        log_event(x->log, LOG_LEVEL_INFO, done ? "lexical_built" : "lexical_building",
                  "collection=%s documents=%llu of=%llu", c.name, (unsigned long long)t->documents,
                  (unsigned long long)c.documents);
}

static sem_status build(lexical_index *x, store_read *r, lexical_tables *t, lexical_batch *b, sem_error *err)
{
    sem_status status = lexical_batch_walk(b, r, t->number, t->built, t->built_length, err);
    if (status == SEM_OK)
        status = check_room(x, b, err);
    if (status == SEM_OK)
        status = begin(x, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < b->count && status == SEM_OK; i++) {
        const lexical_change *c = &b->changes[i];
        uint64_t version;
        status = lexical_tables_version(&x->db, t, c->docno, &version, err);
        if (status == SEM_OK && version == 0)
            status = lexical_tables_insert(&x->db, t, c->docno, c->version, c->text, c->length, err);
    }
    t->building = b->more;
    memcpy(t->built, b->last, b->last_length);
    t->built_length = b->last_length;
    t->changed = true;
    status = end(x, status, x->seq, err);
    if (status == SEM_OK)
        tell_progress(x, r, t);
    return status;
}

sem_status lexical_index_step(lexical_index *x, store_read *r, bool *more, sem_error *err)
{
    lexical_batch b = {0};
    uint64_t trimmed = store_trimmed_seq(r);
    *more = false;
    if (x->seq < trimmed) {
        x->db.damaged = true;
        return sem_fail(err, SEM_INTERNAL, "the write log is forgotten up to %llu, and was applied up to %llu",
                        (unsigned long long)trimmed, (unsigned long long)x->seq);
    }
    sem_status status = lexical_batch_read(&b, r, x->seq, err);
    if (status == SEM_OK && b.upto > x->seq) {
        *more = b.more;
        status = apply_log(x, r, &b, err);
    } else if (status == SEM_OK) {
        lexical_tables *t = next_to_build(x);
        if (t != NULL)
            status = build(x, r, t, &b, err);
    }
    lexical_batch_free(&b);
    *more = *more || next_to_build(x) != NULL;
    return status;
}

sem_status lexical_index_forget(lexical_index *x, store_read *r, sem_error *err)
{
    sem_status status = begin(x, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < x->count && status == SEM_OK;) {
        store_collection c;
        if (store_collection_at(r, x->all[i]->number, &c, NULL) == SEM_OK) {
            i++;
            continue;
        }
        status = lexical_tables_drop(&x->db, x->all[i], err);
        lexical_tables_free(x->all[i]);
        memmove(x->all + i, x->all + i + 1, (--x->count - i) * sizeof(lexical_tables *));
    }
    return end(x, status, x->seq, err);
}

sem_status lexical_index_checkpoint(lexical_index *x, uint64_t *durable, sem_error *err)
{
    int frames, moved;
    int rc = sqlite3_wal_checkpoint_v2(x->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
    if (rc != SQLITE_OK)
        return lexical_db_fail(&x->db, "make rows durable", rc, err);
    if (frames == moved) /* else a reader is in the way of the newest; the next checkpoint gets them */
        *durable = x->seq;
    return SEM_OK;
}
