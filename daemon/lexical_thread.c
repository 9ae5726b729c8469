#include "daemon/lexical_thread.h"

#include "base/checked.h"
#include "base/clock.h"
#include "index/lexical_index.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RETRY_MS = 2000,        /* after an error */
    DURABLE_MS = 1000,      /* between two checkpoints at least: each is an fsync */
    BUILDING_MS = 1000,     /* a search waits so long for a collection that is being built, then says so */
    ROOM_LEAST = 256 << 10, /* bytes that the store itself must be able to take, or it gets those of the index */
    LOOK_MS = 100           /* a waiting search looks so often whether the daemon ends */
};

struct lexical_thread {
    core *core;
    pthread_t thread;
    lexical_index *index;                 /* the thread's; NULL: not open */
    uint64_t made_durable, durable_at_ms; /* the thread's */
    bool given_up;                        /* the thread's: the file was removed to make room */
    pthread_mutex_t lock;                 /* guards all below; rank 4, a leaf */
    pthread_cond_t wake;                  /* of the thread */
    pthread_cond_t done;                  /* of searches: a step is done, or failed */
    bool stop, notified, dropped, damaged;
    bool ready;                         /* the file is there and was worked on */
    unsigned file;                      /* number of the file: another after each time it was made anew */
    uint64_t seq, durable;              /* the log is applied up to here */
    char reason[SEM_ERROR_MESSAGE_MAX]; /* why the index does not go on; empty: it does */
    uint32_t *building;                 /* [building_count], owned: collections */
    size_t building_count;
};

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(condition, lock, &until);
}

/* --- the thread */

static void publish(lexical_thread *l)
{
    uint32_t *building = NULL;
    size_t count = 0;
    lexical_index_building(l->index, &building, &count);
    pthread_mutex_lock(&l->lock);
    l->ready = true;
    l->seq = lexical_index_seq(l->index);
    l->durable = l->made_durable;
    free(l->building);
    l->building = building;
    l->building_count = count;
    l->reason[0] = '\0';
    pthread_cond_broadcast(&l->done);
    pthread_mutex_unlock(&l->lock);
}

/* Says once what is wrong, and once that it is over. */
static void tell(lexical_thread *l, const sem_error *err)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    pthread_mutex_lock(&l->lock);
    bool first = l->reason[0] == '\0', paused = err != NULL;
    if (paused) {
        memcpy(l->reason, err->message, sizeof l->reason);
        pthread_cond_broadcast(&l->done);
    }
    pthread_mutex_unlock(&l->lock);
    if (paused && first)
        log_event(l->core->log, LOG_LEVEL_ERROR, "lexical_paused", "retry_ms=%d message=%s", RETRY_MS,
                  log_value(text, sizeof text, err->message));
    else if (!paused && !first)
        log_event(l->core->log, LOG_LEVEL_INFO, "lexical_resumed", "seq=%llu",
                  (unsigned long long)lexical_index_seq(l->index));
}

static void close_file(lexical_thread *l, bool discard)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    pthread_mutex_lock(&l->lock);
    l->ready = false;
    pthread_mutex_unlock(&l->lock);
    lexical_index_close(l->index);
    l->index = NULL;
    if (discard && lexical_index_remove(l->core->store, &err) != SEM_OK)
        log_event(l->core->log, LOG_LEVEL_ERROR, "lexical_remove", "message=%s",
                  log_value(text, sizeof text, err.message));
}

static void set_durable(lexical_thread *l, uint64_t seq)
{
    pthread_mutex_lock(&l->lock);
    l->durable = seq;
    pthread_mutex_unlock(&l->lock);
}

/* A file that was given up is made anew only where all of it will fit. */
static sem_status check_room(lexical_thread *l, sem_error *err)
{
    store_read *r;
    store_collection *list = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    if (!l->given_up)
        return SEM_OK;
    sem_status status = store_read_begin(l->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_collection_list(r, &list, &count, err);
    for (size_t i = 0; status == SEM_OK && i < count; i++)
        bytes += list[i].lexical ? list[i].bytes : 0;
    free(list);
    store_read_end(r);
    return status == SEM_OK ? store_room(l->core->store, 3, 2 * bytes + ROOM_LEAST, err) : status;
}

/* The truth needs the room that its cache takes: without the file neither log nor
 * old texts have to be kept for it. At once, while there is twice what the store keeps
 * for deletes (lexical_index.c): a file that waited for room would be in the way of the
 * deletes that are to make it. */
static void give_up_file(lexical_thread *l)
{
    close_file(l, true);
    l->given_up = true;
    set_durable(l, UINT64_MAX);
    log_event(l->core->log, LOG_LEVEL_WARNING, "lexical_given_up", "reason=\"the store needs its room\"");
}

static sem_status open_file(lexical_thread *l, sem_error *err)
{
    if (l->index != NULL)
        return SEM_OK;
    sem_status status = check_room(l, err);
    if (status != SEM_OK)
        return status;
    /* Before the new file takes its number: what comes behind it in the log is kept from now on. */
    set_durable(l, 0);
    status = lexical_index_open(&l->index, l->core->store, l->core->log, err);
    if (status != SEM_OK)
        return status;
    l->made_durable = 0;
    l->given_up = false;
    pthread_mutex_lock(&l->lock);
    l->file++;
    pthread_mutex_unlock(&l->lock);
    return SEM_OK;
}

static sem_status step(lexical_thread *l, bool dropped, bool *more, sem_error *err)
{
    store_read *r;
    *more = false;
    sem_status status = store_read_begin(l->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    if (dropped)
        status = lexical_index_forget(l->index, r, err);
    if (status == SEM_OK)
        status = lexical_index_step(l->index, r, more, err);
    store_read_end(r);
    return status;
}

static bool checkpoint_is_due(const lexical_thread *l)
{
    return l->made_durable != lexical_index_seq(l->index) && clock_monotonic_ms() >= l->durable_at_ms;
}

static sem_status checkpoint(lexical_thread *l, sem_error *err)
{
    if (!checkpoint_is_due(l))
        return SEM_OK;
    l->durable_at_ms = clock_monotonic_ms() + DURABLE_MS;
    return lexical_index_checkpoint(l->index, &l->made_durable, err);
}

/* What was asked for since the last time; waits for it if there is nothing to do. */
static bool take_orders(lexical_thread *l, bool more, bool *dropped, bool *damaged)
{
    pthread_mutex_lock(&l->lock);
    while (!more && !l->stop && !l->notified && !l->dropped && !l->damaged) {
        if (l->index == NULL || l->made_durable != lexical_index_seq(l->index)) {
            wait_until(&l->wake, &l->lock, l->index == NULL ? RETRY_MS : DURABLE_MS);
            break;
        }
        pthread_cond_wait(&l->wake, &l->lock);
    }
    *dropped = *dropped || l->dropped;
    *damaged = l->damaged;
    l->notified = l->dropped = l->damaged = false;
    bool stop = l->stop;
    pthread_mutex_unlock(&l->lock);
    return !stop;
}

static void rest(lexical_thread *l)
{
    uint64_t until = clock_monotonic_ms() + RETRY_MS;
    pthread_mutex_lock(&l->lock);
    for (uint64_t now; !l->stop && (now = clock_monotonic_ms()) < until;)
        wait_until(&l->wake, &l->lock, until - now);
    pthread_mutex_unlock(&l->lock);
}

/* It is made anew at once: searches wait for that. */
static void discard_damaged(lexical_thread *l, const sem_error *err)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(l->core->log, LOG_LEVEL_WARNING, "lexical_rebuild", "reason=%s",
              log_value(text, sizeof text, err->message));
    close_file(l, true);
}

static void *lexical_main(void *argument)
{
    lexical_thread *l = argument;
    bool more = true, dropped = true, damaged;
    while (take_orders(l, more, &dropped, &damaged)) {
        sem_error err;
        if (damaged)
            close_file(l, true);
        sem_status status = open_file(l, &err);
        if (status == SEM_OK)
            status = step(l, dropped, &more, &err);
        if (status == SEM_OK) {
            dropped = false;
            status = checkpoint(l, &err);
        }
        if (status == SEM_OK) {
            tell(l, NULL);
            publish(l);
            continue;
        }
        more = true;
        if (l->index != NULL && lexical_index_damaged(l->index)) {
            discard_damaged(l, &err);
            continue;
        }
        tell(l, &err);
        if (l->index != NULL && status == SEM_RESOURCE_EXHAUSTED)
            give_up_file(l);
        else
            rest(l);
    }
    return NULL;
}

/* --- life */

sem_status lexical_thread_create(lexical_thread **out, core *c, sem_error *err)
{
    lexical_thread *l = calloc(1, sizeof *l);
    if (l == NULL)
        return sem_fail_memory(err, "the lexical thread");
    l->core = c;
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &attributes);
    pthread_cond_init(&l->done, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&l->thread, NULL, lexical_main, l) != 0) {
        pthread_cond_destroy(&l->wake);
        pthread_cond_destroy(&l->done);
        pthread_mutex_destroy(&l->lock);
        free(l);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the lexical thread");
    }
    *out = l;
    return SEM_OK;
}

void lexical_thread_destroy(lexical_thread *l)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    close_file(l, false);
    free(l->building);
    pthread_cond_destroy(&l->wake);
    pthread_cond_destroy(&l->done);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* --- what others ask */

void lexical_thread_notify(lexical_thread *l)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    l->notified = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

void lexical_thread_dropped(lexical_thread *l)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    l->dropped = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
}

static bool is_building(const lexical_thread *l, uint32_t collection)
{
    for (size_t i = 0; i < l->building_count; i++)
        if (l->building[i] == collection)
            return true;
    return false;
}

sem_status lexical_thread_wait(lexical_thread *l, uint32_t collection, uint64_t seq, const task *t, sem_error *err)
{
    sem_status status = SEM_OK;
    uint64_t patient_until = clock_monotonic_ms() + BUILDING_MS;
    pthread_mutex_lock(&l->lock);
    while (!l->ready || l->seq < seq ||
           (is_building(l, collection) && l->reason[0] == '\0' && clock_monotonic_ms() < patient_until)) {
        if (l->reason[0] != '\0')
            status = sem_fail(err, SEM_UNAVAILABLE, "the lexical index is behind and does not go on: %s", l->reason);
        else
            status = task_check_deadline(t, err);
        if (status != SEM_OK)
            break;
        uint64_t now = clock_monotonic_ns(), ms = LOOK_MS;
        if (t->deadline_ns != 0 && t->deadline_ns < now + ms * 1000000u)
            ms = t->deadline_ns > now ? (t->deadline_ns - now) / 1000000u + 1 : 0;
        wait_until(&l->done, &l->lock, ms);
    }
    pthread_mutex_unlock(&l->lock);
    return status;
}

uint64_t lexical_thread_durable(lexical_thread *l)
{
    if (l == NULL)
        return 0;
    pthread_mutex_lock(&l->lock);
    uint64_t durable = l->durable;
    pthread_mutex_unlock(&l->lock);
    return durable;
}

lexical_state lexical_thread_state(lexical_thread *l, uint32_t collection, uint64_t *seq)
{
    lexical_state state = LEXICAL_READY;
    pthread_mutex_lock(&l->lock);
    *seq = l->seq;
    if (is_building(l, collection))
        state = LEXICAL_BUILDING;
    if (l->reason[0] != '\0')
        state = LEXICAL_PAUSED;
    pthread_mutex_unlock(&l->lock);
    return state;
}

sem_status lexical_thread_reader(lexical_thread *l, lexical_cache *cached, sem_error *err)
{
    pthread_mutex_lock(&l->lock);
    unsigned now = l->file;
    pthread_mutex_unlock(&l->lock);
    if (cached->reader != NULL && cached->file == now)
        return SEM_OK;
    lexical_cache_close(cached);
    cached->file = now;
    return lexical_reader_open(&cached->reader, l->core->store, &cached->bad, err);
}

bool lexical_thread_report(lexical_thread *l, lexical_cache *cached)
{
    if (!cached->bad && (cached->reader == NULL || !lexical_reader_damaged(cached->reader)))
        return false;
    cached->bad = false;
    pthread_mutex_lock(&l->lock);
    if (cached->file == l->file && l->ready) { /* else it is made anew already */
        l->damaged = true;
        l->ready = false;
        pthread_cond_signal(&l->wake);
    }
    pthread_mutex_unlock(&l->lock);
    lexical_cache_close(cached);
    return true;
}

void lexical_cache_close(lexical_cache *cached)
{
    lexical_reader_close(cached->reader);
    cached->reader = NULL;
}
