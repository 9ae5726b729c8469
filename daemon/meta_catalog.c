#include "daemon/meta_catalog.h"

#include "base/checked.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    uint32_t collection;
    meta_columns *columns; /* one of its owners */
} entry;

struct meta_catalog {
    pthread_mutex_t lock; /* guards entries; rank 4, a leaf */
    entry *entries;       /* in no order: collections are few */
    size_t count, capacity;
};

/* --- the list */

static entry *find(meta_catalog *c, uint32_t collection)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i].collection == collection)
            return &c->entries[i];
    return NULL;
}

/* Takes the columns over. */
static sem_status add(meta_catalog *c, uint32_t collection, meta_columns *columns, sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&c->lock);
    if (c->count == c->capacity) {
        size_t capacity = c->capacity == 0 ? 8 : c->capacity * 2;
        entry *grown = checked_realloc(c->entries, capacity, sizeof *grown);
        if (grown != NULL) {
            c->entries = grown;
            c->capacity = capacity;
        }
    }
    if (c->count < c->capacity && find(c, collection) == NULL) {
        c->entries[c->count++] = (entry){.collection = collection, .columns = columns};
        columns = NULL;
    } else if (c->count == c->capacity) {
        status = sem_fail_memory(err, "the list of columns");
    }
    pthread_mutex_unlock(&c->lock);
    meta_columns_release(columns);
    return status;
}

static sem_status create_columns(meta_catalog *c, uint32_t collection, bool ready, sem_error *err)
{
    meta_columns *columns;
    sem_status status = meta_columns_create(&columns, ready, err);
    return status == SEM_OK ? add(c, collection, columns, err) : status;
}

sem_status meta_catalog_create(meta_catalog **out, store_read *r, sem_error *err)
{
    store_collection *collections = NULL;
    size_t count = 0;
    meta_catalog *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "the list of columns");
    pthread_mutex_init(&c->lock, NULL);
    sem_status status = store_collection_list(r, &collections, &count, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = create_columns(c, collections[i].number, collections[i].documents == 0, err);
    free(collections);
    if (status != SEM_OK)
        meta_catalog_destroy(c);
    else
        *out = c;
    return status;
}

void meta_catalog_destroy(meta_catalog *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->count; i++)
        meta_columns_release(c->entries[i].columns);
    free(c->entries);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

sem_status meta_catalog_add(meta_catalog *c, uint32_t collection, sem_error *err)
{
    return create_columns(c, collection, true, err);
}

void meta_catalog_drop(meta_catalog *c, uint32_t collection)
{
    meta_columns *gone = NULL;
    pthread_mutex_lock(&c->lock);
    entry *e = find(c, collection);
    if (e != NULL) {
        gone = e->columns;
        *e = c->entries[--c->count];
    }
    pthread_mutex_unlock(&c->lock);
    meta_columns_release(gone);
}

meta_columns *meta_catalog_acquire(meta_catalog *c, uint32_t collection)
{
    meta_columns *columns = NULL;
    if (c == NULL)
        return NULL;
    pthread_mutex_lock(&c->lock);
    const entry *e = find(c, collection);
    if (e != NULL)
        columns = meta_columns_share(e->columns);
    pthread_mutex_unlock(&c->lock);
    return columns;
}

/* --- filling and merging */

typedef struct filling {
    meta_fill *fill;
    const atomic_bool *stop;
    size_t documents;
    sem_status status;
    sem_error *err;
} filling;

static bool fill_one(void *context, const store_document *doc)
{
    filling *f = context;
    f->documents++;
    f->status = meta_fill_add(f->fill, doc->docno, doc->meta, doc->meta_length, f->err);
    if (f->status == SEM_OK && atomic_load(f->stop))
        f->status = sem_fail(f->err, SEM_CANCELLED, "the daemon is shutting down");
    return f->status == SEM_OK;
}

static sem_status fill(meta_columns *columns, uint32_t collection, store *s, filling *f, sem_error *err)
{
    store_read *r = NULL;
    sem_status status = meta_fill_begin(&f->fill, columns, err);
    /* After the begin: what is committed later is applied to the columns. */
    if (status == SEM_OK)
        status = store_read_begin(s, &r, err);
    if (status == SEM_OK)
        status = store_document_walk(r, collection, NULL, 0, fill_one, f, err);
    store_read_end(r);
    if (status == SEM_OK)
        status = f->status;
    if (status == SEM_OK)
        status = meta_fill_finish(f->fill, err);
    meta_fill_free(f->fill);
    return status;
}

static void fill_and_log(meta_columns *columns, uint32_t collection, store *s, const atomic_bool *stop, sem_log *log)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    meta_columns_stats stats;
    filling f = {.stop = stop, .err = &err};
    uint64_t began = clock_monotonic_ms();
    sem_status status = fill(columns, collection, s, &f, &err);
    if (status == SEM_OK) {
        meta_columns_describe(columns, &stats);
        log_event(log, LOG_LEVEL_INFO, "columns_ready", "collection=%u documents=%zu bytes=%zu ms=%llu", collection,
                  f.documents, stats.bytes, (unsigned long long)(clock_monotonic_ms() - began));
    } else if (status != SEM_CANCELLED) {
        log_event(log, LOG_LEVEL_ERROR, "columns_not_filled", "collection=%u message=%s", collection,
                  log_value(text, sizeof text, err.message));
    }
}

/* The columns of the collection with the lowest number from *collection on, which
 * becomes that number; NULL: there is none. Takes no memory, as an idle round must not. */
static meta_columns *next(meta_catalog *c, uint32_t *collection)
{
    const entry *best = NULL;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++)
        if (c->entries[i].collection >= *collection && (best == NULL || c->entries[i].collection < best->collection))
            best = &c->entries[i];
    meta_columns *columns = best != NULL ? meta_columns_share(best->columns) : NULL;
    if (best != NULL)
        *collection = best->collection;
    pthread_mutex_unlock(&c->lock);
    return columns;
}

void meta_catalog_work(meta_catalog *c, store *s, const atomic_bool *stop, sem_log *log)
{
    uint32_t collection = 0;
    for (meta_columns *columns; !atomic_load(stop) && (columns = next(c, &collection)) != NULL;) {
        sem_error err;
        char text[SEM_ERROR_MESSAGE_MAX];
        if (!meta_columns_ready(columns))
            fill_and_log(columns, collection, s, stop, log);
        else if (meta_columns_merge(columns, &err) != SEM_OK)
            log_event(log, LOG_LEVEL_WARNING, "columns_not_merged", "collection=%u message=%s", collection,
                      log_value(text, sizeof text, err.message));
        meta_columns_release(columns);
        if (collection++ == UINT32_MAX)
            return;
    }
}
