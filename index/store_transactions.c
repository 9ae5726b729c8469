/* Reads and groups of writes. A read takes its snapshot of main at once and a
 * transaction in another environment when it first needs one. Vectors are
 * committed before main names them, and deleted only when no read is left whose
 * snapshot of main names them: so what a place names is there. */
#include "base/crash.h"
#include "index/store_internal.h"

#include <stdlib.h>

enum { TIDY_ROUNDS = 4 /* vectors of one request are deleted in one or two, and one more commit follows */ };

/* --- reads */

static void reads_add(store *s, store_read *r)
{
    r->previous = NULL;
    r->next = s->reads;
    if (s->reads != NULL)
        s->reads->previous = r;
    s->reads = r;
}

static void reads_remove(store *s, store_read *r)
{
    if (r->next != NULL)
        r->next->previous = r->previous;
    if (r->previous != NULL)
        r->previous->next = r->next;
    else
        s->reads = r->next;
}

uint64_t oldest_snapshot(store *s)
{
    uint64_t oldest = UINT64_MAX;
    pthread_mutex_lock(&s->lock);
    for (const store_read *r = s->reads; r != NULL; r = r->next)
        if (r->snapshot < oldest)
            oldest = r->snapshot;
    pthread_mutex_unlock(&s->lock);
    return oldest;
}

sem_status store_read_begin(store *s, store_read **out, sem_error *err)
{
    store_read *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, "a read");
    r->s = s;
    /* Under the lock, or the writer could miss a snapshot that is just being taken. */
    pthread_mutex_lock(&s->lock);
    int rc = mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &r->main);
    if (rc == 0) {
        r->snapshot = mdb_txn_id(r->main);
        reads_add(s, r);
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != 0) {
        free(r);
        return environment_fail(&s->main, "begin a read", rc, err);
    }
    *out = r;
    return SEM_OK;
}

/* Transactions of spaces rest with their space, so that the next search begins
 * one without memory and without LMDB's lock on readers. */
static void drop_parts(store_read *r)
{
    if (r->part_count == 0)
        return;
    for (size_t i = 0; i < r->part_count; i++)
        mdb_txn_reset(r->parts[i].txn);
    pthread_mutex_lock(&r->s->lock);
    for (size_t i = 0; i < r->part_count; i++) {
        space *sp = r->parts[i].sp;
        if (sp != NULL && sp->idle_count < SPACE_IDLE_MAX)
            sp->idle[sp->idle_count++] = r->parts[i].txn;
        else
            mdb_txn_abort(r->parts[i].txn);
        if (sp != NULL)
            sp->readers--;
    }
    pthread_mutex_unlock(&r->s->lock);
    for (size_t i = 0; i < r->part_count; i++)
        events_unpin(r->s, r->parts[i].file);
    r->part_count = 0;
}

void store_read_end(store_read *r)
{
    if (r == NULL)
        return;
    drop_parts(r);
    if (r->main != NULL)
        mdb_txn_abort(r->main);
    pthread_mutex_lock(&r->s->lock);
    reads_remove(r->s, r);
    pthread_mutex_unlock(&r->s->lock);
    free(r);
}

void store_read_rest(store_read *r)
{
    drop_parts(r);
    pthread_mutex_lock(&r->s->lock);
    if (r->main != NULL)
        mdb_txn_reset(r->main);
    r->snapshot = UINT64_MAX;
    pthread_mutex_unlock(&r->s->lock);
}

sem_status store_read_renew(store_read *r, sem_error *err)
{
    if (r->write != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the view of a group of writes cannot be renewed");
    drop_parts(r);
    int rc;
    pthread_mutex_lock(&r->s->lock);
    if (r->main != NULL) {
        mdb_txn_reset(r->main);
        rc = mdb_txn_renew(r->main);
    } else {
        rc = mdb_txn_begin(r->s->main.env, NULL, MDB_RDONLY, &r->main);
    }
    if (rc == 0) {
        r->snapshot = mdb_txn_id(r->main);
    } else {
        if (r->main != NULL)
            mdb_txn_abort(r->main);
        r->main = NULL;
    }
    pthread_mutex_unlock(&r->s->lock);
    return rc == 0 ? SEM_OK : environment_fail(&r->s->main, "renew a read", rc, err);
}

/* --- transactions of a group */

static sem_status write_txn(store_write *w, environment *e, MDB_txn **out, sem_error *err)
{
    size_t i = 0;
    while (i < w->part_count && w->parts[i].e != e)
        i++;
    write_part *part = &w->parts[i];
    if (i == w->part_count) {
        *part = (write_part){.e = e};
        int rc = mdb_txn_begin(e->env, NULL, 0, &part->group);
        if (rc != 0)
            return environment_fail(e, "begin a write", rc, err);
        w->part_count++;
    }
    if (w->in_operation && part->operation == NULL) {
        int rc = mdb_txn_begin(e->env, part->group, 0, &part->operation);
        if (rc != 0) {
            part->operation = NULL;
            return environment_fail(e, "begin an operation", rc, err);
        }
    }
    *out = part->operation != NULL ? part->operation : part->group;
    return SEM_OK;
}

/* In the log's file of now. */
static sem_status new_events_part(store_read *r, environment *e, MDB_txn **out, sem_error *err)
{
    events_file *file = events_pin(r->s);
    int rc = mdb_txn_begin(file->env, NULL, MDB_RDONLY, out);
    if (rc != 0) {
        events_unpin(r->s, file);
        return environment_fail(e, "begin a read", rc, err);
    }
    r->parts[r->part_count++] = (read_part){.e = e, .file = file, .txn = *out};
    return SEM_OK;
}

/* idle: a transaction that rested, or NULL. */
static sem_status new_part(store_read *r, environment *e, space *sp, MDB_txn *idle, MDB_txn **out, sem_error *err)
{
    int rc = idle != NULL ? mdb_txn_renew(idle) : mdb_txn_begin(e->env, NULL, MDB_RDONLY, out);
    if (idle != NULL && rc != 0)
        mdb_txn_abort(idle);
    if (idle != NULL)
        *out = idle;
    if (rc != 0)
        return environment_fail(e, "begin a read", rc, err);
    r->parts[r->part_count++] = (read_part){.e = e, .sp = sp, .txn = *out};
    return SEM_OK;
}

sem_status read_txn(store_read *r, environment *e, MDB_txn **out, sem_error *err)
{
    if (r->write != NULL)
        return write_txn(r->write, e, out, err);
    if (r->main == NULL)
        return sem_fail(err, SEM_UNAVAILABLE, "this read lost its snapshot when it was renewed; begin a new one");
    if (e == &r->s->main) {
        *out = r->main;
        return SEM_OK;
    }
    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].e == e) {
            *out = r->parts[i].txn;
            return SEM_OK;
        }
    return new_events_part(r, e, out, err);
}

sem_status read_space(store_read *r, uint32_t number, space **sp, MDB_txn **out, sem_error *err)
{
    store *s = r->s;
    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].sp != NULL && r->parts[i].sp->number == number) {
            *sp = r->parts[i].sp;
            *out = r->parts[i].txn;
            return SEM_OK;
        }
    pthread_mutex_lock(&s->lock);
    *sp = space_at(s, number);
    if (*sp != NULL && (*sp)->shut)
        *sp = NULL;
    bool counts = *sp != NULL && r->write == NULL;
    MDB_txn *idle = NULL;
    if (counts) {
        (*sp)->readers++;
        if ((*sp)->idle_count > 0)
            idle = (*sp)->idle[--(*sp)->idle_count];
    }
    pthread_mutex_unlock(&s->lock);
    if (*sp == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "space %u is not open", number);
    if (!counts)
        return write_txn(r->write, &(*sp)->in, out, err);
    sem_status status = new_part(r, &(*sp)->in, *sp, idle, out, err);
    if (status != SEM_OK) {
        pthread_mutex_lock(&s->lock);
        (*sp)->readers--;
        pthread_mutex_unlock(&s->lock);
    }
    return status;
}

sem_status read_enter(store_read *r, uint32_t number, sem_error *err)
{
    space *sp;
    MDB_txn *txn;
    if (r->write != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the view of a group of writes cannot look at vectors in place");
    for (size_t i = 0; i < r->part_count; i++)
        if (r->parts[i].sp != NULL && r->parts[i].sp->number == number) {
            mdb_txn_reset(r->parts[i].txn);
            int rc = mdb_txn_renew(r->parts[i].txn);
            return rc == 0 ? SEM_OK : environment_fail(r->parts[i].e, "renew a read", rc, err);
        }
    return read_space(r, number, &sp, &txn, err);
}

/* --- groups */

/* Vectors whose group was lost in main: their slots must be free before new ones are given out. */
static sem_status clean_unnamed(store *s, sem_error *err)
{
    if (!s->unnamed)
        return SEM_OK;
    sem_status status = spaces_clean(s, err);
    s->unnamed = status != SEM_OK;
    return status == SEM_RESOURCE_EXHAUSTED ? SEM_OK : status;
}

static sem_status begin_group(store *s, store_write **out, sem_error *err)
{
    store_write *w = s->group;
    *w = (store_write){.s = s};
    w->view.s = s;
    w->view.write = w;
    MDB_txn *txn;
    sem_status status = write_txn(w, &s->main, &txn, err);
    if (status == SEM_OK)
        status = freed_apply(w, err);
    if (status != SEM_OK) {
        store_write_abort(w);
        return status;
    }
    *out = w;
    return SEM_OK;
}

/* The environments that are open, which stay so while a group has main's write lock: how many. */
static size_t list_environments(store *s, environment *out[STORE_SPACES_MAX + 2])
{
    size_t count = 0;
    out[count++] = &s->main;
    out[count++] = &s->events;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STORE_SPACES_MAX; i++)
        if (s->spaces[i] != NULL && !s->spaces[i]->shut)
            out[count++] = &s->spaces[i]->in;
    pthread_mutex_unlock(&s->lock);
    return count;
}

static bool any_refused(store *s)
{
    bool any = s->main.refused || s->events.refused;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STORE_SPACES_MAX && !any; i++)
        any = s->spaces[i] != NULL && s->spaces[i]->in.refused;
    pthread_mutex_unlock(&s->lock);
    return any;
}

/* Commits where the last commit gave pages up, whose use was refused. */
static sem_status commit_once_more(store_write *w, bool *any, sem_error *err)
{
    environment *list[STORE_SPACES_MAX + 2];
    const size_t count = list_environments(w->s, list);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        MDB_txn *txn;
        if (!list[i]->refused || !environment_waits(list[i]))
            continue;
        *any = true;
        status = write_txn(w, list[i], &txn, err);
        if (status == SEM_OK)
            status = meta_put(list[i], txn, "format", STORE_FORMAT, err); /* as it is */
    }
    return status;
}

/* On a full disk a put finds no room but what deletes have made: pages that LMDB uses from the commit
 * after the next on. Where only puts come, and are refused, there would never be another. */
static sem_status tidy(store *s, sem_error *err)
{
    sem_status status = SEM_OK;
    bool more = any_refused(s);
    for (int i = 0; i < TIDY_ROUNDS && more && status == SEM_OK; i++) {
        store_write *w;
        status = begin_group(s, &w, err);
        if (status != SEM_OK)
            break;
        more = w->part_count > 1; /* it has deleted vectors */
        status = commit_once_more(w, &more, err);
        if (status == SEM_OK && more)
            status = store_write_commit(w, err);
        else
            store_write_abort(w);
    }
    return status == SEM_RESOURCE_EXHAUSTED ? SEM_OK : status; /* the group itself may find it */
}

sem_status store_write_begin(store *s, store_write **out, sem_error *err)
{
    sem_status status = clean_unnamed(s, err);
    if (status != SEM_OK)
        return status;
    store_await_pages(s);
    status = tidy(s, err);
    return status == SEM_OK ? begin_group(s, out, err) : status;
}

store_read *store_write_view(store_write *w)
{
    return &w->view;
}

void store_write_abort(store_write *w)
{
    if (w == NULL)
        return;
    for (size_t i = w->part_count; i-- > 0;)
        if (w->parts[i].group != NULL)
            mdb_txn_abort(w->parts[i].group);
    pending_free(w);
}

void group_break(store_write *w, sem_status status)
{
    if (w->broken == SEM_OK)
        w->broken = status;
}

static sem_status fail_broken(const store_write *w, sem_error *err)
{
    return sem_fail(err, w->broken,
                    "an earlier operation of this group %s and could not be undone alone; nothing of "
                    "the group is written",
                    w->broken == SEM_RESOURCE_EXHAUSTED ? "found no room" : "failed inside the store");
}

sem_status store_write_commit(store_write *w, sem_error *err)
{
    sem_status status = w->broken == SEM_OK ? pending_flush(w, err) : fail_broken(w, err);
    block_changes changed = w->changed;
    if (status != SEM_OK)
        changed.count = 0;
    bool committed = false;
    blocks_begin_commit(w->s, &changed);
    /* Spaces, then events, then main: whatever main names must be there. */
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = w->part_count; i-- > 0 && status == SEM_OK;) {
            write_part *part = &w->parts[i];
            int turn = part->e == &w->s->main ? 2 : part->e == &w->s->events ? 1 : 0;
            if (turn != pass)
                continue;
            if (turn == 2 && committed)
                crash_point("commit.before_main");
            int rc = mdb_txn_commit(part->group);
            part->group = NULL;
            if (turn == 2 && committed)
                crash_point("commit.after_main");
            if (rc != 0)
                status = environment_fail(part->e, "commit", rc, err);
            else
                committed = true;
            w->s->unnamed = w->s->unnamed || (rc != 0 && committed);
        }
    blocks_end_commit(w->s, &changed);
    store_write_abort(w);
    return status;
}

/* --- operations */

sem_status operation_begin(store_write *w, sem_error *err)
{
    if (w->broken != SEM_OK)
        return fail_broken(w, err);
    w->in_operation = true;
    pending_begin_operation(w);
    return SEM_OK;
}

sem_status operation_end(store_write *w, sem_status status, sem_error *err)
{
    /* Main is part 0 and therefore last. */
    for (size_t i = w->part_count; i-- > 0;) {
        write_part *part = &w->parts[i];
        if (part->operation == NULL)
            continue;
        if (status != SEM_OK) {
            mdb_txn_abort(part->operation);
        } else {
            int rc = mdb_txn_commit(part->operation);
            if (rc != 0) {
                status = environment_fail(part->e, "finish an operation", rc, err);
                group_break(w, status); /* another environment may have taken its part */
            }
        }
        part->operation = NULL;
    }
    w->in_operation = false;
    status = pending_end_operation(w, status, err);
    if (status == SEM_INTERNAL)
        group_break(w, status);
    return status;
}
