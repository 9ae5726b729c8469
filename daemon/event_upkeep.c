#include "daemon/event_upkeep.h"

#include "base/clock.h"
#include "base/crash.h"
#include "index/events_upkeep.h"
#include "daemon/writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum {
    ROUND_MS = 1000,        /* between two looks at time and size, each of some microseconds */
    KEPT_MS = 3600 * 1000,  /* between two looks at old searches that were kept for their clicks, at most */
    KEPT_SHARE = 24,        /* of events.keep, at most */
    SIZE_SHARE = 16,        /* a log that is too large loses this part of its limit, so as not to be at it */
    WASTE_BYTES = 64 << 20, /* unused in the file, and half of it, before it is written anew for that alone */
    FOLLOW_ROUNDS = 8,      /* from snapshots, before the writer copies the rest while it holds up writes: */
    FOLLOW_EVENTS = 500,    /* unless so few were left */
    RETRY_MS = 60 * 1000    /* after a failure */
};

typedef struct waiting {
    struct waiting *next;
    task *task;
} waiting;

struct event_upkeep {
    core *core;
    pthread_t thread;
    pthread_mutex_t lock; /* guards the list; rank 4, a leaf */
    pthread_cond_t wake;
    waiting *first, **end;
    atomic_bool stop;
    atomic_uint_fast64_t keep_ms, max_size;
    /* the thread's own: */
    uint64_t looked;        /* seq up to which old events were looked at, and kept for clicks on them */
    uint64_t kept_again_ms; /* monotonic: when those are looked at again */
    uint64_t not_before_ms; /* monotonic: of the next round, after a failure */
};

/* --- removing what a rule names */

typedef struct removing {
    const events_rule *rule;
    events_due due;
    uint64_t removed;
} removing;

static sem_status apply_removal(void *context, store_write *w, sem_error *err)
{
    removing *r = context;
    return events_remove_due(w, r->rule, &r->due, &r->removed, err);
}

static sem_status check_stop(void *context, sem_error *err)
{
    const event_upkeep *u = context;
    if (atomic_load(&u->stop))
        return sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    return SEM_OK;
}

static sem_status find_due(event_upkeep *u, const events_rule *rule, uint64_t after, events_due *out, sem_error *err)
{
    store_read *r;
    sem_status status = check_stop(u, err);
    if (status == SEM_OK)
        status = store_read_begin(u->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = events_find_due(r, rule, after, out, err);
    store_read_end(r);
    return status;
}

/* One snapshot's worth. *removed grows. */
static sem_status remove_some(event_upkeep *u, removing *r, uint64_t after, uint64_t *removed, sem_error *err)
{
    const write_call call = {.apply = apply_removal, .context = r};
    sem_status status = find_due(u, r->rule, after, &r->due, err);
    if (status == SEM_OK && r->due.count > 0)
        status = writer_run(u->core->writer, &call, err);
    if (status == SEM_OK && r->due.count > 0)
        *removed += r->removed;
    return status;
}

/* Behind *after, which gets as far as was looked. */
static sem_status remove_all(event_upkeep *u, const events_rule *rule, uint64_t *after, uint64_t *removed,
                             sem_error *err)
{
    removing r = {.rule = rule};
    sem_status status;
    do {
        status = remove_some(u, &r, *after, removed, err);
        if (status == SEM_OK)
            *after = r.due.last;
    } while (status == SEM_OK && r.due.more);
    return status;
}

/* --- the file, written anew */

typedef struct rewriting {
    event_upkeep *upkeep;
    events_rewrite *rewrite;
    sem_status finished;
    sem_error *err;
} rewriting;

static sem_status copy_the_rest(void *context, store_write *w, sem_error *err)
{
    rewriting *r = context;
    uint64_t copied;
    sem_status status = events_rewrite_follow(r->rewrite, store_write_view(w), &copied, err);
    crash_point("erase.rest_copied");
    return status;
}

static void change_files(void *context)
{
    rewriting *r = context;
    crash_point("erase.committed");
    r->finished = events_rewrite_finish(r->rewrite, r->err);
}

static sem_status follow(rewriting *r, sem_error *err)
{
    uint64_t copied = UINT64_MAX;
    sem_status status = SEM_OK;
    for (int round = 0; round < FOLLOW_ROUNDS && copied > FOLLOW_EVENTS && status == SEM_OK; round++) {
        store_read *read;
        status = check_stop(r->upkeep, err);
        if (status == SEM_OK)
            status = store_read_begin(r->upkeep->core->store, &read, err);
        if (status != SEM_OK)
            return status;
        status = events_rewrite_follow(r->rewrite, read, &copied, err);
        store_read_end(read);
    }
    return status;
}

static sem_status rewrite_file(event_upkeep *u, sem_error *err)
{
    events_size before, after;
    uint64_t began = clock_monotonic_ms();
    rewriting r = {.upkeep = u, .finished = SEM_UNAVAILABLE, .err = err};
    const write_call call = {.apply = copy_the_rest, .committed = change_files, .context = &r};
    events_measure(u->core->store, &before);
    sem_status status = events_rewrite_begin(&r.rewrite, u->core->store, check_stop, u, err);
    if (status == SEM_OK)
        status = follow(&r, err);
    if (status == SEM_OK)
        status = writer_run(u->core->writer, &call, err);
    if (status == SEM_OK)
        status = r.finished;
    sem_status ended = events_rewrite_end(r.rewrite, status == SEM_OK ? err : NULL);
    if (status != SEM_OK || ended != SEM_OK)
        return status != SEM_OK ? status : ended;
    events_measure(u->core->store, &after);
    log_event(u->core->log, LOG_LEVEL_INFO, "events_rewritten", "bytes_before=%llu bytes=%llu duration_ms=%llu",
              (unsigned long long)before.file, (unsigned long long)after.file,
              (unsigned long long)(clock_monotonic_ms() - began));
    return SEM_OK;
}

/* --- time and size */

static sem_status remove_old(event_upkeep *u, uint64_t *removed, sem_error *err)
{
    uint64_t keep = atomic_load(&u->keep_ms), now = clock_monotonic_ms();
    const events_rule rule = {.kind = EVENTS_OLDER, .before_ms = clock_wall_ms() - (int64_t)keep};
    if (keep == 0)
        return SEM_OK;
    if (now >= u->kept_again_ms) {
        u->looked = 0;
        u->kept_again_ms = now + (keep / KEPT_SHARE < KEPT_MS ? keep / KEPT_SHARE : KEPT_MS);
    }
    removing r = {.rule = &rule};
    uint64_t after = u->looked;
    sem_status status;
    do {
        status = remove_some(u, &r, after, removed, err);
        after = r.due.last;
        if (status == SEM_OK)
            u->looked = r.due.old;
    } while (status == SEM_OK && r.due.more);
    return status;
}

static sem_status remove_for_room(event_upkeep *u, uint64_t *removed, sem_error *err)
{
    events_size size;
    uint64_t most = atomic_load(&u->max_size), aim = most;
    events_rule rule = {.kind = EVENTS_OLDEST};
    removing r = {.rule = &rule, .due = {.count = 1}};
    sem_status status = SEM_OK;
    if (most == 0)
        return SEM_OK;
    for (events_measure(u->core->store, &size); size.used > aim && r.due.count > 0 && status == SEM_OK;
         events_measure(u->core->store, &size)) {
        aim = most - most / SIZE_SHARE;
        rule.bytes = size.used > aim ? size.used - aim : 0;
        status = remove_some(u, &r, 0, removed, err);
    }
    return status;
}

/* Whether something was erased from it and is still in its pages, or in a file that could not be removed, or
 * it is mostly empty. */
static sem_status rewriting_is_due(event_upkeep *u, bool *due, sem_error *err)
{
    events_size size;
    store_read *r;
    sem_status status = store_read_begin(u->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = events_erased_noted(r, due, err);
    store_read_end(r);
    events_measure(u->core->store, &size);
    uint64_t waste = size.file > size.used ? size.file - size.used : 0;
    *due = *due || (waste > WASTE_BYTES && waste > size.used) || events_rewrite_left(u->core->store);
    return status;
}

static void upkeep_round(event_upkeep *u)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    uint64_t old = 0, large = 0;
    bool due = false;
    if (clock_monotonic_ms() < u->not_before_ms)
        return;
    sem_status status = remove_old(u, &old, &err);
    if (status == SEM_OK)
        status = remove_for_room(u, &large, &err);
    if (old + large > 0)
        log_event(u->core->log, LOG_LEVEL_INFO, "events_removed", "by_age=%llu by_size=%llu", (unsigned long long)old,
                  (unsigned long long)large);
    if (status == SEM_OK)
        status = rewriting_is_due(u, &due, &err);
    if (status == SEM_OK && due)
        status = rewrite_file(u, &err);
    if (status == SEM_OK || status == SEM_UNAVAILABLE)
        return;
    u->not_before_ms = clock_monotonic_ms() + RETRY_MS;
    log_event(u->core->log, LOG_LEVEL_WARNING, "event_upkeep", "message=%s", log_value(text, sizeof text, err.message));
}

/* --- erasing */

static sem_status apply_note(void *context, store_write *w, sem_error *err)
{
    (void)context;
    return events_note_erased(w, err);
}

static events_rule rule_of(const event_upkeep *u, const request *q)
{
    const span *user = &q->u.events_erase.user;
    if (user->data != NULL)
        return (events_rule){.kind = EVENTS_OF_USER,
                             .user_hash = event_user_hash(u->core->store, user->data, user->size)};
    if (q->u.events_erase.has_id)
        return (events_rule){.kind = EVENTS_OF_DOCUMENT, .id = q->u.events_erase.id};
    return (events_rule){.kind = EVENTS_BEFORE, .before_ms = (int64_t)q->u.events_erase.before};
}

/* The note first: it is in a group that takes all searches that were answered before, and from then on
 * a crash does not leave the file with what is gone from the log. */
static sem_status erase(event_upkeep *u, const task *t, uint64_t *erased, sem_error *err)
{
    const events_rule rule = rule_of(u, t->request);
    const write_call note = {.apply = apply_note};
    uint64_t after = 0;
    *erased = 0;
    sem_status status = task_check_deadline(t, err);
    if (status == SEM_OK)
        status = check_stop(u, err);
    if (status == SEM_OK)
        status = writer_run(u->core->writer, &note, err);
    crash_point("erase.noted");
    if (status == SEM_OK)
        status = remove_all(u, &rule, &after, erased, err);
    atomic_fetch_add(&u->core->erasures, 1); /* some of it may be gone in any case */
    if (status != SEM_OK)
        return status;
    crash_point("erase.removed");
    status = rewrite_file(u, err);
    crash_point("erase.rewritten");
    if (status != SEM_OK)
        sem_error_prefix(err, "the events are erased from the log and their text not yet from its file, which is tried "
                              "again by itself");
    return status;
}

static void answer_erase(event_upkeep *u, task *t)
{
    sem_error err;
    uint64_t erased;
    sem_status status = erase(u, t, &erased, &err);
    if (status != SEM_OK) {
        task_fail(u->core, t, &err);
        return;
    }
    log_event(u->core->log, LOG_LEVEL_INFO, "events_erased", "events=%llu", (unsigned long long)erased);
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, "erased");
    pack_uint(&a.pack, erased);
    answer_send(u->core, t, &a);
}

/* --- the thread */

/* The next request; NULL after a round's time without one, and when it is time to stop and none is left. */
static task *next_request(event_upkeep *u)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ROUND_MS / 1000;
    int waited = 0;
    pthread_mutex_lock(&u->lock);
    while (u->first == NULL && !atomic_load(&u->stop) && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&u->wake, &u->lock, &until);
    waiting *w = u->first;
    if (w != NULL)
        u->first = w->next;
    if (u->first == NULL)
        u->end = &u->first;
    pthread_mutex_unlock(&u->lock);
    task *t = w != NULL ? w->task : NULL;
    free(w);
    return t;
}

static void *upkeep_main(void *argument)
{
    event_upkeep *u = argument;
    for (;;) {
        task *t = next_request(u);
        if (t != NULL)
            answer_erase(u, t);
        else if (atomic_load(&u->stop))
            return NULL;
        else
            upkeep_round(u);
    }
}

void event_upkeep_erase(event_upkeep *u, task *t)
{
    sem_error err;
    waiting *w = malloc(sizeof *w);
    sem_status status = w != NULL ? SEM_OK : sem_fail_memory(&err, "a waiting request");
    pthread_mutex_lock(&u->lock);
    if (status == SEM_OK)
        status = check_stop(u, &err);
    if (status == SEM_OK) {
        *w = (waiting){.task = t};
        *u->end = w;
        u->end = &w->next;
        pthread_cond_signal(&u->wake);
    }
    pthread_mutex_unlock(&u->lock);
    if (status != SEM_OK) {
        free(w);
        task_fail(u->core, t, &err);
    }
}

void event_upkeep_drain(event_upkeep *u)
{
    if (u == NULL)
        return;
    pthread_mutex_lock(&u->lock);
    atomic_store(&u->stop, true);
    pthread_cond_signal(&u->wake);
    pthread_mutex_unlock(&u->lock);
}

void event_upkeep_reload(event_upkeep *u, const config *c)
{
    atomic_store(&u->keep_ms, c->events.keep_ms);
    atomic_store(&u->max_size, c->events.max_size);
}

sem_status event_upkeep_create(event_upkeep **out, core *c, sem_error *err)
{
    event_upkeep *u = calloc(1, sizeof *u);
    if (u == NULL)
        return sem_fail_memory(err, "the upkeep of the event log");
    u->core = c;
    u->end = &u->first;
    event_upkeep_reload(u, &c->settings);
    pthread_mutex_init(&u->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&u->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&u->thread, NULL, upkeep_main, u) != 0) {
        pthread_cond_destroy(&u->wake);
        pthread_mutex_destroy(&u->lock);
        free(u);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the thread of the event log");
    }
    *out = u;
    return SEM_OK;
}

void event_upkeep_destroy(event_upkeep *u)
{
    if (u == NULL)
        return;
    event_upkeep_drain(u);
    pthread_join(u->thread, NULL);
    pthread_cond_destroy(&u->wake);
    pthread_mutex_destroy(&u->lock);
    free(u);
}
