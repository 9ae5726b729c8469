#include "daemon/writer.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/queue.h"
#include "daemon/lexical_thread.h"
#include "daemon/write_ops.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_MAX = 256,             /* writes that share a commit: their answers wait for it */
    TRIM_MAX = 4096,             /* old texts that are forgotten with one commit */
    FLUSH_INTERVAL_MS = 500,     /* a search is in the log at the latest then */
    SEARCH_BYTES_MAX = 64 << 20, /* of searches that wait for it; more are dropped and counted */
    COMPLAIN_INTERVAL_MS = 10000 /* between two lines in the daemon's log about dropped searches */
};

typedef enum item_kind { ITEM_TASK, ITEM_CALL, ITEM_SEARCH } item_kind;

typedef struct pending_call {
    const write_call *call;
    sem_error *err;
    sem_status status;
    sem_t done;
} pending_call;

typedef struct item {
    item_kind kind;
    task *task;
    pending_call *call;
    search_record *search;
    struct item *next; /* of waiting searches */
    sem_status status; /* of the operation in this group */
    sem_error error;
    write_result result;
} item;

struct writer {
    core *core;
    queue *queue;
    pthread_t thread;
    item *searches, **searches_tail; /* waiting for the next commit; writer thread only */
    size_t search_count;
    uint64_t flush_at_ms;       /* monotonic; 0: nothing waits */
    atomic_size_t search_bytes; /* of all searches handed over and not yet forgotten */
    uint64_t old_texts_trimmed; /* up to this number of the log; writer thread only */
    atomic_bool closing;
    uint64_t complain_after_ms; /* monotonic: dropped searches are in the daemon's log once in a while */
    atomic_uint_fast64_t busy_since_ns;
};

void writer_free_record(search_record *record)
{
    if (record == NULL)
        return;
    pool_give(record->memory);
    pool_give(record);
}

static size_t search_size(const search_record *r)
{
    return sizeof(item) + sizeof *r + r->memory_bytes;
}

static void forget_search(writer *w, item *i)
{
    atomic_fetch_sub(&w->search_bytes, search_size(i->search));
    writer_free_record(i->search);
    pool_give(i);
}

/* --- one group */

static void apply_item(writer *w, item *i, store_write *group)
{
    if (i->kind == ITEM_CALL) {
        i->status = i->call->call->apply(i->call->call->context, group, &i->error);
        return;
    }
    i->status = write_op_apply(w->core, i->task, group, &i->result, &i->error);
}

static void forget_searches(writer *w)
{
    for (item *i = w->searches, *next; i != NULL; i = next) {
        next = i->next;
        forget_search(w, i);
    }
    w->searches = NULL;
    w->searches_tail = &w->searches;
    w->search_count = 0;
    w->flush_at_ms = 0;
}

static void searches_dropped(writer *w, size_t count, const sem_error *reason)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    uint64_t now = clock_monotonic_ms();
    atomic_fetch_add(&w->core->stats.events_dropped, count);
    if (w->complain_after_ms > now)
        return;
    w->complain_after_ms = now + COMPLAIN_INTERVAL_MS;
    log_event(w->core->log, LOG_LEVEL_WARNING, "searches_dropped", "count=%zu message=%s", count,
              log_value(text, sizeof text, reason->message));
}

/* A full store has no room for its log: those searches are lost (their query_id
 * is then NOT_FOUND), but never a write that shares their group, least of all a
 * delete, which is what makes room again. */
static sem_status apply_searches(writer *w, store_write *group, sem_error *err)
{
    if (w->search_count == 0)
        return SEM_OK;
    const event_search **searches = pool_take_array(w->core->hooks.memory, w->search_count, sizeof *searches);
    sem_status status = searches != NULL ? SEM_OK : sem_fail_memory(err, "the event log");
    size_t count = 0;
    for (item *i = w->searches; i != NULL && searches != NULL; i = i->next)
        searches[count++] = &i->search->event;
    if (status == SEM_OK)
        status = events_put_searches(group, searches, count, err);
    pool_give(searches);
    if (status == SEM_OK || status == SEM_INTERNAL)
        return status;
    searches_dropped(w, w->search_count, err);
    forget_searches(w);
    return SEM_OK;
}

static void finish_call(item *i)
{
    pending_call *p = i->call;
    if (i->status == SEM_OK && p->call->committed != NULL)
        p->call->committed(p->call->context);
    if (i->status != SEM_OK && p->err != NULL)
        *p->err = i->error;
    p->status = i->status;
    sem_post(&p->done);
    pool_give(i);
}

static void finish_item(writer *w, item *i)
{
    if (i->kind == ITEM_CALL) {
        finish_call(i);
        return;
    }
    if (i->status == SEM_OK)
        write_op_finish(w->core, i->task, &i->result);
    else if (i->status == SEM_CANCELLED) /* a model is no longer current, or a text as it was */
        write_op_again(w->core, i->task);
    else
        task_fail(w->core, i->task, &i->error);
    write_result_free(&i->result);
    pool_give(i);
}

/* What a group shares is its fate: if the commit fails, everything in it failed. */
static void fail_all(item **items, size_t count, sem_status status, const sem_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (items[i]->status == SEM_OK) {
            items[i]->status = status;
            items[i]->error = *err;
        }
}

/* Of what shares a group, each failure is undone alone. */
static sem_status apply_items(writer *w, item **items, size_t count, store_write *group, sem_error *err)
{
    for (size_t i = 0; i < count; i++) {
        apply_item(w, items[i], group);
        if (items[i]->status == SEM_INTERNAL) { /* the group may be unusable */
            *err = items[i]->error;
            return SEM_INTERNAL;
        }
    }
    return SEM_OK;
}

/* A little with each group, so that nobody waits long for it. */
static sem_status trim_old_texts(writer *w, store_write *group, sem_error *err)
{
    uint64_t durable = lexical_thread_durable(w->core->lexical), trimmed;
    if (durable == w->old_texts_trimmed && durable != UINT64_MAX) /* then there is no index, and new ones go as well */
        return SEM_OK;
    sem_status status = store_old_texts_trim(group, durable, TRIM_MAX, &trimmed, err);
    if (status == SEM_OK && trimmed < TRIM_MAX)
        w->old_texts_trimmed = durable;
    /* A later group tries again; the writes of this one, deletes among them, are not to fail for it. */
    return status == SEM_INTERNAL ? status : SEM_OK;
}

/* As if nothing of them had been applied, which is so after a commit that failed. */
static void reset_items(item **items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        write_result_free(&items[i]->result);
        items[i]->status = SEM_OK;
    }
}

static void commit_failed(writer *w, size_t count, const sem_error *err)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(w->core->log, LOG_LEVEL_ERROR, "commit_failed", "writes=%zu searches=%zu message=%s", count,
              w->search_count, log_value(text, sizeof text, err->message));
    atomic_fetch_add(&w->core->stats.events_dropped, w->search_count);
}

/* Returns how many of the items are finished: all, or none where there was no room for
 * so many at once. Those are to be tried in smaller groups, without the searches, which
 * are lost: a delete does not fail for what shares its group. */
static size_t run_group(writer *w, item **items, size_t count)
{
    sem_error err;
    store_write *group;
    bool together = count > 0 && items[0]->kind == ITEM_TASK && (count > 1 || w->search_count > 0);
    sem_status status = store_write_begin(w->core->store, &group, &err);
    bool begun = status == SEM_OK;
    if (begun)
        status = trim_old_texts(w, group, &err);
    if (status == SEM_OK)
        status = apply_searches(w, group, &err);
    if (status == SEM_OK)
        status = apply_items(w, items, count, group, &err);
    if (status == SEM_OK && count == 1 && items[0]->kind == ITEM_CALL && items[0]->status != SEM_OK) {
        /* A call is made of several operations, of which none may stay without the
         * others. The searches, which had no part in it, wait for the next group. */
        store_write_abort(group);
        finish_item(w, items[0]);
        return count;
    }
    if (status == SEM_OK)
        status = store_write_commit(group, &err);
    else if (begun)
        store_write_abort(group);
    if (status != SEM_OK) {
        commit_failed(w, count, &err);
        if (status == SEM_RESOURCE_EXHAUSTED && together) {
            reset_items(items, count);
            forget_searches(w);
            return 0;
        }
        fail_all(items, count, status, &err);
    } else {
        atomic_fetch_add(&w->core->stats.commits, 1);
        if (count > 0)
            lexical_thread_notify(w->core->lexical);
    }
    for (size_t i = 0; i < count; i++)
        finish_item(w, items[i]);
    forget_searches(w);
    return count;
}

/* --- the thread */

static void keep_search(writer *w, item *i)
{
    if (w->flush_at_ms == 0)
        w->flush_at_ms = clock_monotonic_ms() + FLUSH_INTERVAL_MS;
    i->next = NULL;
    *w->searches_tail = i;
    w->searches_tail = &i->next;
    w->search_count++;
}

static bool any_item(const void *candidate, void *context)
{
    (void)candidate, (void)context;
    return true;
}

/* Waits for the first item, then takes what else is there. Returns false when
 * the queue is closed and empty. */
static bool gather(writer *w, item **items, size_t *count)
{
    *count = 0;
    int timeout = -1;
    if (w->flush_at_ms != 0) {
        uint64_t now = clock_monotonic_ms();
        timeout = now >= w->flush_at_ms ? 0 : (int)(w->flush_at_ms - now);
    }
    item *i = queue_pop(w->queue, timeout);
    bool open = i != NULL || (timeout >= 0 && !atomic_load(&w->closing));
    atomic_store(&w->busy_since_ns, clock_monotonic_ns());
    while (i != NULL) {
        if (i->kind == ITEM_SEARCH)
            keep_search(w, i);
        else
            items[(*count)++] = i;
        i = *count < GROUP_MAX ? queue_try_pop(w->queue, true) : NULL;
    }
    /* A click must find its search: whatever was logged before it is taken too. */
    void *more[64];
    for (size_t n; (n = queue_take_matching(w->queue, QUEUE_SLOW, any_item, NULL, more, 64)) > 0;)
        for (size_t k = 0; k < n; k++)
            keep_search(w, more[k]);
    return open;
}

static bool flush_is_due(const writer *w)
{
    return w->flush_at_ms != 0 && clock_monotonic_ms() >= w->flush_at_ms;
}

/* A call may change what is current, so it has a group of its own: whatever is
 * applied after it must see what it committed. */
static void run_groups(writer *w, item **items, size_t count)
{
    size_t most = GROUP_MAX; /* what had no room once has none for the next either */
    for (size_t i = 0; i < count;) {
        size_t n = 1;
        if (items[i]->kind == ITEM_TASK)
            while (n < most && i + n < count && items[i + n]->kind == ITEM_TASK)
                n++;
        atomic_store(&w->busy_since_ns, clock_monotonic_ns()); /* each may wait for room */
        size_t done = run_group(w, items + i, n);
        if (done == 0)
            most = (n + 1) / 2;
        i += done;
    }
}

static void *writer_main(void *argument)
{
    writer *w = argument;
    item *items[GROUP_MAX];
    size_t count;
    bool open;
    do {
        open = gather(w, items, &count);
        run_groups(w, items, count);
        if (flush_is_due(w) || (!open && w->search_count > 0))
            run_group(w, NULL, 0);
        atomic_store(&w->busy_since_ns, 0);
    } while (open);
    return NULL;
}

sem_status writer_create(writer **out, core *c, sem_error *err)
{
    writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "the writer");
    w->core = c;
    w->searches_tail = &w->searches;
    /* No limit of its own: requests count in core.held_bytes, searches in search_bytes. */
    sem_status status = queue_create(&w->queue, 0, err);
    if (status == SEM_OK && pthread_create(&w->thread, NULL, writer_main, w) != 0)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the writer thread");
    if (status != SEM_OK) {
        queue_destroy(w->queue);
        free(w);
        return status;
    }
    *out = w;
    return SEM_OK;
}

void writer_destroy(writer *w)
{
    if (w == NULL)
        return;
    atomic_store(&w->closing, true);
    queue_close(w->queue);
    pthread_join(w->thread, NULL);
    queue_destroy(w->queue);
    free(w);
}

uint64_t writer_busy_since(const writer *w)
{
    return atomic_load(&w->busy_since_ns);
}

/* --- handing over */

static sem_status push(writer *w, item_kind kind, item *i, queue_lane lane, sem_error *err)
{
    i->kind = kind;
    sem_status status = queue_push(w->queue, lane, i);
    if (status == SEM_UNAVAILABLE)
        return sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    return status == SEM_OK ? SEM_OK : sem_fail_memory(err, "a write");
}

void writer_submit(writer *w, task *t)
{
    sem_error err;
    item *i = pool_take_cleared(w->core->hooks.memory, 1, sizeof *i);
    sem_status status = SEM_OK;
    if (i == NULL) {
        status = sem_fail_memory(&err, "a write");
    } else {
        i->task = t;
        status = push(w, ITEM_TASK, i, QUEUE_FAST, &err);
    }
    if (status != SEM_OK) {
        pool_give(i);
        task_fail(w->core, t, &err);
    }
}

void writer_log_search(writer *w, search_record *record)
{
    size_t size = search_size(record);
    bool room = atomic_fetch_add(&w->search_bytes, size) + size <= SEARCH_BYTES_MAX;
    item *i = room ? pool_take_cleared(w->core->hooks.memory, 1, sizeof *i) : NULL;
    if (i != NULL) {
        i->search = record;
        if (push(w, ITEM_SEARCH, i, QUEUE_SLOW, NULL) == SEM_OK)
            return;
        pool_give(i);
    }
    atomic_fetch_sub(&w->search_bytes, size);
    writer_free_record(record);
    atomic_fetch_add(&w->core->stats.events_dropped, 1);
}

sem_status writer_run(writer *w, const write_call *call, sem_error *err)
{
    item *i = pool_take_cleared(w->core->hooks.memory, 1, sizeof *i);
    if (i == NULL)
        return sem_fail_memory(err, "a write");
    pending_call pending = {.call = call, .err = err};
    i->call = &pending;
    sem_init(&pending.done, 0, 0);
    sem_status status = push(w, ITEM_CALL, i, QUEUE_FAST, err);
    if (status == SEM_OK) {
        while (sem_wait(&pending.done) != 0)
            ; /* EINTR */
        status = pending.status;
    } else {
        pool_give(i);
    }
    sem_destroy(&pending.done);
    return status;
}
