#include "daemon/space.h"

#include "base/checked.h"
#include "base/files.h"
#include "index/chunk_table.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct space {
    atomic_int references;
    space_options options;
    pthread_rwlock_t lock; /* guards entries; rank 3, nothing is locked under it */
    space_index **entries; /* in order of collection number */
    size_t count, capacity;
};

sem_status space_create(space **out, const space_options *options, sem_error *err)
{
    space *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a space");
    s->references = 1;
    s->options = *options;
    pthread_rwlock_init(&s->lock, NULL);
    *out = s;
    return SEM_OK;
}

space *space_retain(space *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void space_release(space *s)
{
    if (s == NULL || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    for (size_t i = 0; i < s->count; i++)
        space_index_release(s->entries[i]);
    free(s->entries);
    pthread_rwlock_destroy(&s->lock);
    free(s);
}

void space_retire(space *s)
{
    pthread_rwlock_rdlock(&s->lock);
    for (size_t i = 0; i < s->count; i++)
        atomic_store(&s->entries[i]->dropped, true);
    pthread_rwlock_unlock(&s->lock);
}

void space_queries_changed(space *s)
{
    pthread_rwlock_rdlock(&s->lock);
    for (size_t i = 0; i < s->count; i++)
        vector_index_queries_changed(s->entries[i]->index);
    pthread_rwlock_unlock(&s->lock);
}

uint32_t space_number(const space *s)
{
    return s->options.number;
}

size_t space_dim(const space *s)
{
    return s->options.dim;
}

/* Position of the collection, or of the first one above it. */
static size_t position(const space *s, uint32_t collection)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->entries[middle]->collection < collection)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const space *s, size_t i, uint32_t collection)
{
    return i < s->count && s->entries[i]->collection == collection;
}

/* Where the lists of an index are saved: numbers of spaces and collections are
 * never used again. The store removes what no generation names. */
static sem_status cache_path(const space *s, uint32_t collection, char path[FILES_PATH_MAX], sem_error *err)
{
    sem_status status = files_join(path, err, "%s/cache", store_path(s->options.store));
    if (status == SEM_OK)
        status = files_make_folder(path, err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/cache/space-%u-%u.lists", store_path(s->options.store), s->options.number,
                            collection);
    return status;
}

static sem_status index_create(const space *s, const store_collection *c, space_index **out, sem_error *err)
{
    char cache[FILES_PATH_MAX];
    sem_status status = cache_path(s, c->number, cache, err);
    if (status != SEM_OK)
        return status;
    space_index *entry = calloc(1, sizeof *entry);
    if (entry == NULL)
        return sem_fail_memory(err, "an index");
    vector_index_options options = {
        .dim = c->external ? c->dim : s->options.dim,
        .store = s->options.store,
        .space = s->options.number,
        .collection = c->number,
        .cache = cache,
        .metric = c->metric,
        .exact_below = s->options.exact_below,
        .threads = s->options.threads,
        .engine = s->options.engine,
        .faiss_type = s->options.faiss_type,
    };
    status = vector_index_create(&entry->index, &options, err);
    if (status != SEM_OK) {
        free(entry);
        return status;
    }
    entry->collection = c->number;
    entry->cache = strdup(cache);
    entry->references = 1;
    if (entry->cache == NULL) {
        space_index_release(entry);
        return sem_fail_memory(err, "an index");
    }
    *out = entry;
    return SEM_OK;
}

sem_status space_add(space *s, const store_collection *c, sem_error *err)
{
    size_t at = position(s, c->number);
    if (is_at(s, at, c->number))
        return SEM_OK;
    space_index *entry = NULL;
    sem_status status = index_create(s, c, &entry, err);
    if (status != SEM_OK)
        return status;
    pthread_rwlock_wrlock(&s->lock);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity == 0 ? 8 : s->capacity * 2;
        space_index **grown = checked_realloc(s->entries, capacity, sizeof(space_index *));
        if (grown == NULL) {
            pthread_rwlock_unlock(&s->lock);
            space_index_release(entry);
            return sem_fail_memory(err, "the list of indices");
        }
        s->entries = grown;
        s->capacity = capacity;
    }
    memmove(s->entries + at + 1, s->entries + at, (s->count - at) * sizeof(space_index *));
    s->entries[at] = entry;
    s->count++;
    pthread_rwlock_unlock(&s->lock);
    return SEM_OK;
}

void space_drop(space *s, uint32_t collection)
{
    space_index *gone = NULL;
    pthread_rwlock_wrlock(&s->lock);
    size_t at = position(s, collection);
    if (is_at(s, at, collection)) {
        gone = s->entries[at];
        s->count--;
        memmove(s->entries + at, s->entries + at + 1, (s->count - at) * sizeof(space_index *));
    }
    pthread_rwlock_unlock(&s->lock);
    if (gone != NULL)
        atomic_store(&gone->dropped, true);
    space_index_release(gone);
}

space_index *space_acquire(space *s, uint32_t collection)
{
    space_index *entry = NULL;
    pthread_rwlock_rdlock(&s->lock);
    size_t at = position(s, collection);
    if (is_at(s, at, collection)) {
        entry = s->entries[at];
        atomic_fetch_add(&entry->references, 1);
    }
    pthread_rwlock_unlock(&s->lock);
    return entry;
}

void space_index_release(space_index *entry)
{
    if (entry == NULL || atomic_fetch_sub(&entry->references, 1) != 1)
        return;
    if (atomic_load(&entry->dropped))
        unlink(entry->cache);
    vector_index_destroy(entry->index);
    free(entry->cache);
    free(entry);
}

sem_status space_acquire_all(space *s, space_index ***out, size_t *count, sem_error *err)
{
    pthread_rwlock_rdlock(&s->lock);
    space_index **all = checked_realloc(NULL, s->count + 1, sizeof(space_index *));
    for (size_t i = 0; all != NULL && i < s->count; i++) {
        all[i] = s->entries[i];
        atomic_fetch_add(&all[i]->references, 1);
    }
    *count = s->count;
    pthread_rwlock_unlock(&s->lock);
    *out = all;
    return all != NULL ? SEM_OK : sem_fail_memory(err, "a list of indices");
}

enum { VERSIONS_CHUNK = 1024 };

typedef struct fill {
    vector_index *index;
    float *vector; /* [dim] a copy that is aligned */
    size_t dim;
    chunk_table versions; /* of VERSIONS_CHUNK uint64_t: docno to text version, 0 where there is no document */
    sem_status status;
    sem_error *err;
} fill;

/* Documents are looked at in their own order, once, and their versions kept:
 * to look each up by its number would take ten times as long. */
static bool note_version(void *context, const store_document *doc)
{
    fill *f = context;
    uint64_t *chunk = chunk_table_get(&f->versions, doc->docno / VERSIONS_CHUNK);
    if (chunk == NULL) {
        chunk = calloc(VERSIONS_CHUNK, sizeof *chunk);
        if (chunk == NULL || !chunk_table_set(&f->versions, doc->docno / VERSIONS_CHUNK, chunk)) {
            free(chunk);
            f->status = sem_fail_memory(f->err, "the versions of documents");
            return false;
        }
    }
    chunk[doc->docno % VERSIONS_CHUNK] = doc->text_version;
    return true;
}

static bool fill_one(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot, const void *vector)
{
    fill *f = context;
    const uint64_t *chunk = chunk_table_get(&f->versions, docno / VERSIONS_CHUNK);
    if (chunk == NULL || chunk[docno % VERSIONS_CHUNK] != version)
        return true;
    if (vector != NULL)
        memcpy(f->vector, vector, f->dim * sizeof(float));
    const float *given = vector != NULL ? f->vector : NULL;
    f->status = ordinal == 0 ? vector_index_put_slot(f->index, docno, slot, given, f->err)
                             : vector_index_extend(f->index, docno, slot, given, f->err);
    return f->status == SEM_OK;
}

static sem_status fill_index(fill *f, space *s, store_read *r, uint32_t collection, sem_error *err)
{
    f->err = err;
    f->vector = checked_alloc_aligned(f->dim, sizeof(float));
    if (f->vector == NULL)
        return sem_fail_memory(err, "a vector");
    sem_status status = store_document_walk(r, collection, NULL, 0, note_version, f, err);
    if (status == SEM_OK && f->status == SEM_OK)
        status = store_slot_walk(r, s->options.number, collection, fill_one, f, err);
    return status != SEM_OK ? status : f->status;
}

static sem_status fill_collection(space *s, store_read *r, const store_collection *c, sem_error *err)
{
    sem_status status = space_add(s, c, err);
    if (status != SEM_OK)
        return status;
    fill f = {.dim = c->external ? c->dim : s->options.dim};
    f.index = s->entries[position(s, c->number)]->index;
    status = fill_index(&f, s, r, c->number, err);
    free(f.vector);
    chunk_table_clear(&f.versions);
    return status;
}

sem_status space_fill(space *s, store_read *r, sem_error *err)
{
    store_collection *collections;
    size_t count;
    sem_status status = store_collection_list(r, &collections, &count, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (collections[i].external == (s->options.number == STORE_SPACE_EXTERNAL))
            status = fill_collection(s, r, &collections[i], err);
    free(collections);
    return status;
}
