/* Writing the log anew. LMDB keeps in its free pages, and in the unused rest of others, what was in them;
 * only a file that never held it is free of it. So records are copied, not pages. */
#include "base/crash.h"
#include "index/event_record.h"
#include "index/events_upkeep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const char NOTE[] = "erased"; /* in meta: something was, since the file was written */

struct events_rewrite {
    store *s;
    environment next;
    events_file *file; /* owned until it is finished: next's */
    uint64_t copied;   /* seq up to which it has the log */
    bool finished;
    char folder[FILES_PATH_MAX], live[FILES_PATH_MAX], left[FILES_PATH_MAX];
    events_step *step;
    void *context;
};

/* --- the note */

sem_status events_note_erased(store_write *w, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->events, &txn, err);
    if (status == SEM_OK)
        status = meta_put(&w->s->events, txn, NOTE, 1, err);
    return operation_end(w, status, err);
}

sem_status events_erased_noted(store_read *r, bool *noted, sem_error *err)
{
    MDB_txn *txn;
    uint64_t value = 0;
    sem_status status = read_txn(r, &r->s->events, &txn, err);
    if (status == SEM_OK)
        status = meta_get(&r->s->events, txn, NOTE, &value, err);
    *noted = value != 0;
    return status;
}

static bool is_note(const MDB_val *key)
{
    return key->mv_size == strlen(NOTE) && memcmp(key->mv_data, NOTE, key->mv_size) == 0;
}

void events_measure(store *s, events_size *out)
{
    events_file *file = events_pin(s);
    const environment now = events_of(s, file);
    out->file = environment_used(&now, false);
    out->used = environment_used(&now, true);
    events_unpin(s, file);
}

/* --- the copy of a snapshot */

static bool without_note(void *context, const char *table, MDB_val *key, const MDB_val *value, bool *in_order)
{
    (void)context, (void)value, (void)in_order;
    return strcmp(table, "meta") != 0 || !is_note(key);
}

static sem_status on_bytes(void *context, uint64_t bytes, sem_error *err)
{
    const events_rewrite *e = context;
    (void)bytes;
    return e->step(e->context, err);
}

static sem_status copy_snapshot(events_rewrite *e, sem_error *err)
{
    store *s = e->s;
    MDB_txn *txn;
    events_file *file = events_pin(s);
    int rc = mdb_txn_begin(file->env, NULL, MDB_RDONLY, &txn);
    sem_status status = rc == 0 ? SEM_OK : environment_fail(&s->events, "copy the log", rc, err);
    if (status == SEM_OK) {
        status = meta_get(&s->events, txn, "seq", &e->copied, err);
        if (status == SEM_OK)
            status = environment_copy(&s->events, txn, e->folder, without_note, on_bytes, e, err);
        mdb_txn_abort(txn);
    }
    events_unpin(s, file);
    return status;
}

/* The tables of a file have the same numbers in each: they are opened in the same order, and readers go by the
 * store's numbers in whichever file they are. */
static sem_status open_next(events_rewrite *e, sem_error *err)
{
    const store *s = e->s;
    MDB_dbi tables[3];
    sem_status status = events_open(e->s, "events.new", &e->next, tables, err);
    if (status == SEM_OK && (tables[0] != s->event_log || tables[1] != s->queries || tables[2] != s->clicks ||
                             e->next.meta != s->events.meta))
        status = sem_fail(err, SEM_INTERNAL, "the new file of the event log has its tables in another order");
    if (status != SEM_OK)
        environment_close(&e->next);
    return status;
}

static sem_status begin(events_rewrite *e, sem_error *err)
{
    events_size size;
    const char *path = e->s->path;
    sem_status status = files_join(e->folder, err, "%s/events.new", path);
    if (status == SEM_OK)
        status = files_join(e->live, err, "%s/events", path);
    if (status == SEM_OK)
        status = files_join(e->left, err, "%s/events.old", path);
    events_measure(e->s, &size);
    if (status == SEM_OK)
        status = store_room(e->s, 1, size.used, err);
    if (status == SEM_OK)
        status = events_settle(path, e->s->log, err);
    if (status == SEM_OK)
        status = files_make_folder(e->folder, err);
    crash_point("erase.begun");
    if (status == SEM_OK)
        status = copy_snapshot(e, err);
    crash_point("erase.copied");
    if (status == SEM_OK)
        status = open_next(e, err);
    crash_point("erase.opened");
    return status;
}

sem_status events_rewrite_begin(events_rewrite **out, store *s, events_step *step, void *context, sem_error *err)
{
    events_rewrite *e = calloc(1, sizeof *e);
    events_file *file = calloc(1, sizeof *file);
    if (e == NULL || file == NULL) {
        free(e);
        free(file);
        return sem_fail_memory(err, "rewriting the event log");
    }
    e->s = s;
    e->file = file;
    e->step = step;
    e->context = context;
    sem_status status = begin(e, err);
    if (status != SEM_OK) {
        (void)events_rewrite_end(e, NULL); /* the next one, or the next start, removes what is left */
        return status;
    }
    e->file->env = e->next.env;
    *out = e;
    return SEM_OK;
}

/* --- what came since */

static sem_status put(const events_rewrite *e, MDB_txn *to, MDB_dbi dbi, MDB_val key, MDB_val value, sem_error *err)
{
    int rc = mdb_put(to, dbi, &key, &value, 0);
    return rc == 0 ? SEM_OK : environment_fail(&e->next, "copy an event", rc, err);
}

static sem_status follow_search(const events_rewrite *e, MDB_txn *to, const MDB_val *seq, const MDB_val *value,
                                sem_error *err)
{
    event_search_view v;
    if (!event_record_search(value, &v))
        return environment_damaged(&e->s->events, "the record of a search", err);
    return put(e, to, e->s->queries, as_value(v.query_id, v.query_id_length), *seq, err);
}

/* A repeated click has replaced the one before, which the copy may still have. */
static sem_status follow_click(const events_rewrite *e, MDB_txn *to, const MDB_val *seq, const MDB_val *value,
                               sem_error *err)
{
    unsigned char bytes[EVENT_SEQ + DOCID_KEY_MAX], before[EVENT_SEQ];
    event_click_view v;
    MDB_val old;
    bool found;
    if (!event_record_click(value, &v) || v.key_length > DOCID_KEY_MAX)
        return environment_damaged(&e->s->events, "the record of a click", err);
    put_u64(bytes, v.search);
    memcpy(bytes + EVENT_SEQ, v.key, v.key_length);
    const size_t size = EVENT_SEQ + v.key_length;
    sem_status status = table_get(&e->next, to, e->s->clicks, bytes, size, &old, &found, err);
    if (status == SEM_OK && found && old.mv_size != EVENT_SEQ)
        status = environment_damaged(&e->next, "a click's number", err);
    if (status == SEM_OK && found) {
        memcpy(before, old.mv_data, EVENT_SEQ);
        status = table_delete(&e->next, to, e->s->event_log, before, sizeof before, err);
    }
    return status == SEM_OK ? put(e, to, e->s->clicks, as_value(bytes, size), *seq, err) : status;
}

static sem_status follow_event(events_rewrite *e, MDB_txn *to, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    if (key->mv_size != EVENT_SEQ || value->mv_size < EVENT_HEAD)
        return environment_damaged(&e->s->events, "the record of an event", err);
    sem_status status = SEM_OK;
    const int kind = *(const unsigned char *)value->mv_data;
    if (kind == EVENT_SEARCH)
        status = follow_search(e, to, key, value, err);
    else if (kind == EVENT_CLICK)
        status = follow_click(e, to, key, value, err);
    return status == SEM_OK ? put(e, to, e->s->event_log, *key, *value, err) : status;
}

static sem_status follow_meta(const events_rewrite *e, MDB_txn *from, MDB_txn *to, sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    sem_status status = SEM_OK;
    int rc = mdb_cursor_open(from, e->s->events.meta, &cursor);
    if (rc != 0)
        return environment_fail(&e->s->events, "copy the log", rc, err);
    while (status == SEM_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        if (!is_note(&key))
            status = put(e, to, e->next.meta, key, value, err);
    mdb_cursor_close(cursor);
    return status != SEM_OK || rc == MDB_NOTFOUND ? status : environment_fail(&e->s->events, "copy the log", rc, err);
}

static sem_status follow(events_rewrite *e, MDB_txn *from, MDB_txn *to, uint64_t *last, uint64_t *copied,
                         sem_error *err)
{
    static const char WHAT[] = "copy events";
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = 0;
    sem_status status = meta_get(&e->s->events, from, "seq", last, err);
    if (status == SEM_OK)
        status = table_after(&e->s->events, from, e->s->event_log, e->copied, WHAT, &cursor, &key, &value, err);
    while (status == SEM_OK && cursor != NULL && rc == 0) {
        status = follow_event(e, to, &key, &value, err);
        ++*copied;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&e->s->events, WHAT, rc, err);
    mdb_cursor_close(cursor);
    return status == SEM_OK ? follow_meta(e, from, to, err) : status;
}

sem_status events_rewrite_follow(events_rewrite *e, store_read *r, uint64_t *copied, sem_error *err)
{
    MDB_txn *from, *to;
    uint64_t last = 0;
    *copied = 0;
    sem_status status = read_txn(r, &e->s->events, &from, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_txn_begin(e->next.env, NULL, 0, &to);
    if (rc != 0)
        return environment_fail(&e->next, "copy events", rc, err);
    status = follow(e, from, to, &last, copied, err);
    if (status != SEM_OK) {
        mdb_txn_abort(to);
        return status;
    }
    crash_point("erase.following");
    rc = mdb_txn_commit(to);
    if (rc != 0)
        return environment_fail(&e->next, "copy events", rc, err);
    e->copied = last;
    return SEM_OK;
}

/* --- the change of places */

static sem_status move(const char *from, const char *to, sem_error *err)
{
    if (rename(from, to) == 0)
        return SEM_OK;
    return sem_fail(err, SEM_INTERNAL, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

/* With the new one whole on disk. A crash between the two leaves the place empty, which events_settle() mends. */
static sem_status change_places(const events_rewrite *e, sem_error *err)
{
    sem_error ignored;
    sem_status status = move(e->live, e->left, err);
    if (status != SEM_OK)
        return status;
    crash_point("erase.left");
    status = files_sync_folder(e->s->path, err);
    crash_point("erase.left_synced");
    if (status == SEM_OK)
        status = move(e->folder, e->live, err);
    crash_point("erase.moved");
    if (status != SEM_OK) {
        /* Where it cannot be brought back, the next start does it. */
        (void)move(e->left, e->live, &ignored);
        return status;
    }
    /* From here on the new one is the log, whether or not the disk knows: both are whole, and a power
     * cut that brings the old one back brings the note back with it. */
    if (files_sync_folder(e->s->path, &ignored) != SEM_OK)
        log_event(e->s->log, LOG_LEVEL_WARNING, "event_log", "message=\"%s\"", ignored.message);
    return SEM_OK;
}

sem_status events_rewrite_finish(events_rewrite *e, sem_error *err)
{
    store *s = e->s;
    int rc = mdb_env_sync(e->next.env, 1);
    crash_point("erase.synced");
    sem_status status = rc == 0 ? change_places(e, err) : environment_fail(&e->next, "sync", rc, err);
    if (status != SEM_OK)
        return status;
    s->events.env = e->next.env;
    s->events.allocated = e->next.allocated;
    s->events.no_tail = e->next.no_tail;
    events_replace(s, e->file);
    e->file = NULL;
    e->next.env = NULL;
    e->finished = true;
    crash_point("erase.replaced");
    return SEM_OK;
}

sem_status events_rewrite_end(events_rewrite *e, sem_error *err)
{
    if (e == NULL)
        return SEM_OK;
    environment_close(&e->next);
    free(e->file);
    const sem_status status = files_remove_folder(e->finished ? e->left : e->folder, err);
    crash_point("erase.old_removed");
    free(e);
    return status;
}

bool events_rewrite_left(const store *s)
{
    return events_left(s->path);
}
