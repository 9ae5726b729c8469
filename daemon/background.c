#include "daemon/background.h"

#include "base/clock.h"
#include "base/niceness.h"
#include "daemon/jobs.h"
#include "daemon/logged_queries.h"
#include "daemon/meta_catalog.h"
#include "daemon/space.h"
#include "daemon/watchdog.h"
#include "daemon/writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum {
    INDEX_INTERVAL_MS = 500,
    COLUMNS_INTERVAL_MS = 200,
    TICK_INTERVAL_MS = 250,
    PACK_BLOCKS = 16,      /* in one group of writes: some 20 ms that others wait */
    PACK_RETRY_MS = 60000, /* after there was no room for it */
    INDEX_NICE = 10, /* a tenth of a core that searches and writes want: what it does takes seconds, and nobody waits */
    SLOW_TICKS = 40  /* the size on disk is asked of every file: not at each tick, nor by the loop thread */
};

struct background {
    core *core;
    pthread_t index_thread, columns_thread, ticker;
    bool index_started, columns_started, ticker_started;
    atomic_bool stop;
    uint64_t pack_after_ms; /* monotonic; index thread only */
    encoding *encoding;     /* owned, or NULL; index thread only, for logged queries */
    pthread_mutex_t lock;   /* guards nothing but the sleep */
    pthread_cond_t wake;
};

/* Sleeps; false when it is time to stop. */
static bool rest(background *b, int ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&b->lock);
    int waited = 0;
    while (!atomic_load(&b->stop) && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait(&b->wake, &b->lock, &until);
    pthread_mutex_unlock(&b->lock);
    return !atomic_load(&b->stop);
}

/* Whose index is trained. */
typedef struct asking {
    background *b;
    serving *s;
    uint32_t collection;
} asking;

/* Without them the index measures itself with its own documents. */
static size_t ask_queries(void *context, float **out)
{
    const asking *a = context;
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    size_t count;
    sem_status status =
        logged_queries_encode(a->b->core, a->s, a->collection, &a->b->encoding, &a->b->stop, out, &count, &err);
    if (status != SEM_OK && status != SEM_CANCELLED)
        log_event(a->b->core->log, LOG_LEVEL_WARNING, "logged_queries", "collection=%u message=%s", a->collection,
                  log_value(text, sizeof text, err.message));
    return count;
}

/* Whether the generation is neither served nor made any more: its space may be removed under the training. */
static bool is_left(const background *b, const serving *s)
{
    serving *now = serving_slot_acquire(&b->core->current), *next = serving_slot_acquire(&b->core->candidate);
    const bool left = s != NULL && s != now && s != next;
    serving_release(now);
    serving_release(next);
    return left;
}

static void log_failure(const background *b, const space_index *i, const sem_error *err)
{
    log_event(b->core->log, LOG_LEVEL_ERROR, "index_training", "collection=%u message=\"%s\"", i->collection,
              err->message);
}

/* s: whose index it is; NULL in the external space, where queries are vectors, which
 * are not logged. */
static void train_index(background *b, serving *s, space_index *i)
{
    sem_error err;
    if (atomic_load(&b->stop) || !vector_index_wants_training(i->index))
        return;
    asking a = {.b = b, .s = s, .collection = i->collection};
    const vector_training how = {
        .cancel = &b->stop, .log = b->core->log, .queries = s != NULL ? ask_queries : NULL, .context = &a};
    sem_status status = vector_index_train(i->index, &how, &err);
    if (status != SEM_OK && status != SEM_CANCELLED && !is_left(b, s))
        log_failure(b, i, &err);
}

/* Training takes as long as it takes, and indices behind it would be searched exactly meanwhile. */
static void load_space(const background *b, space *s)
{
    sem_error err;
    space_index **all;
    size_t count;
    if (space_acquire_all(s, &all, &count, NULL) != SEM_OK)
        return; /* each is loaded when its turn to be trained comes */
    for (size_t i = 0; i < count; i++) {
        if (!atomic_load(&b->stop) && vector_index_load(all[i]->index, b->core->log, &err) != SEM_OK)
            log_failure(b, all[i], &err);
        space_index_release(all[i]);
    }
    free(all);
}

static void load_saved(background *b)
{
    serving *s = serving_slot_acquire(&b->core->current);
    if (s != NULL)
        load_space(b, s->space);
    serving_release(s);
    load_space(b, b->core->external);
}

static void train_space(background *b, serving *of, space *s)
{
    space_index **all;
    size_t count;
    if (space_acquire_all(s, &all, &count, NULL) != SEM_OK)
        return; /* tried again at the next round */
    for (size_t i = 0; i < count; i++) {
        vector_index_settle(all[i]->index);
        train_index(b, of, all[i]);
        space_index_release(all[i]);
    }
    free(all);
}

static void train_serving(background *b, serving_slot *slot)
{
    serving *s = serving_slot_acquire(slot);
    if (s != NULL)
        train_space(b, s, s->space);
    serving_release(s);
}

typedef struct packing {
    size_t blocks;
} packing;

static sem_status pack_some(void *context, store_write *w, sem_error *err)
{
    packing *p = context;
    return store_pack(w, PACK_BLOCKS, &p->blocks, err);
}

/* Packs what a store of an older format has, or what found no room, a little at
 * a time. */
static void pack_vectors(background *b)
{
    sem_error err;
    packing p = {.blocks = 1};
    write_call call = {.apply = pack_some, .context = &p};
    size_t total = 0;
    bool due = false;
    if (clock_monotonic_ms() < b->pack_after_ms)
        return;
    sem_status status = store_pack_due(b->core->store, &due, &err);
    while (due && status == SEM_OK && p.blocks > 0 && !atomic_load(&b->stop)) {
        status = writer_run(b->core->writer, &call, &err);
        total += p.blocks;
    }
    if (total > 0)
        log_event(b->core->log, LOG_LEVEL_INFO, "vectors_packed", "blocks=%zu", total);
    if (status == SEM_OK)
        return;
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(b->core->log, LOG_LEVEL_WARNING, "pack_failed", "message=%s", log_value(text, sizeof text, err.message));
    b->pack_after_ms = clock_monotonic_ms() + PACK_RETRY_MS;
}

static void *index_main(void *argument)
{
    background *b = argument;
    (void)niceness_add(INDEX_NICE, NULL); /* without the right to, the work is done all the same */
    load_saved(b);
    do {
        pack_vectors(b);
        train_serving(b, &b->core->current);
        train_serving(b, &b->core->candidate);
        train_space(b, NULL, b->core->external);
        watchdog_work(b->core->watchdog, &b->stop);
        encoding_destroy(b->encoding); /* it has memory that is seldom needed */
        b->encoding = NULL;
    } while (rest(b, INDEX_INTERVAL_MS));
    return NULL;
}

static void slow_tick(core *c)
{
    atomic_store(&c->stats.store_bytes, store_bytes(c->store));
    if (c->hooks.memory != NULL)
        pool_trim(c->hooks.memory);
    store_check_readers(c->store);
}

static void *columns_main(void *argument)
{
    background *b = argument;
    do
        meta_catalog_work(b->core->columns, b->core->store, &b->stop, b->core->log);
    while (rest(b, COLUMNS_INTERVAL_MS));
    return NULL;
}

static void *ticker_main(void *argument)
{
    background *b = argument;
    unsigned ticks = 0;
    do {
        if (ticks++ % SLOW_TICKS == 0)
            slow_tick(b->core);
        jobs_tick(b->core);
    } while (rest(b, TICK_INTERVAL_MS));
    return NULL;
}

sem_status background_create(background **out, core *c, sem_error *err)
{
    background *b = calloc(1, sizeof *b);
    if (b == NULL)
        return sem_fail_memory(err, "the background threads");
    b->core = c;
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&b->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    b->index_started = pthread_create(&b->index_thread, NULL, index_main, b) == 0;
    b->columns_started = b->index_started && pthread_create(&b->columns_thread, NULL, columns_main, b) == 0;
    b->ticker_started = b->columns_started && pthread_create(&b->ticker, NULL, ticker_main, b) == 0;
    if (!b->ticker_started) {
        background_destroy(b);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the background threads");
    }
    *out = b;
    return SEM_OK;
}

void background_destroy(background *b)
{
    if (b == NULL)
        return;
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->stop, true);
    pthread_cond_broadcast(&b->wake);
    pthread_mutex_unlock(&b->lock);
    if (b->index_started)
        pthread_join(b->index_thread, NULL);
    if (b->columns_started)
        pthread_join(b->columns_thread, NULL);
    if (b->ticker_started)
        pthread_join(b->ticker, NULL);
    pthread_cond_destroy(&b->wake);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
