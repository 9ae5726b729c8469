#include "daemon/query_cache.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/pages.h"
#include "base/random.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BYTES_PER_BUCKET = 1024, /* less than an entry at most widths: chains stay short */
    KEY_BYTES = 512          /* room for prompt and text; a query of more is not kept */
};

typedef struct entry {
    struct entry *chain;         /* next in its bucket */
    struct entry *newer, *older; /* by use */
    uint64_t hash;
    uint32_t prompt_size, text_size, tokens;
    bool truncated, as_document;
    float data[]; /* vector [dim], then the bytes of prompt and text */
} entry;

struct query_cache {
    pthread_mutex_t lock; /* guards all below; rank 4, a leaf; held for a look-up and a copy */
    unsigned char key[16];
    uint32_t generation;
    size_t most; /* bytes; 0: off */
    entry **buckets;
    size_t bucket_mask;
    /* One block cut into entries of one size, which its first vector tells. Entries
     * that were never used take no memory. */
    unsigned char *slab;
    size_t slab_bytes, dim, entry_bytes, capacity;
    entry *newest, *oldest;
    query_cache_stats stats;
};

static size_t table_bytes(const query_cache *c)
{
    return c->most > 0 ? (c->bucket_mask + 1) * sizeof(entry *) : 0;
}

sem_status query_cache_create(query_cache **out, size_t bytes, sem_error *err)
{
    query_cache *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "the cache of queries");
    pthread_mutex_init(&c->lock, NULL);
    size_t buckets = 1;
    while (buckets < bytes / BYTES_PER_BUCKET)
        buckets *= 2;
    c->most = bytes;
    c->bucket_mask = buckets - 1;
    c->stats.bytes = table_bytes(c);
    c->buckets = calloc(buckets, sizeof(entry *));
    c->slab_bytes = bytes > c->stats.bytes ? bytes - c->stats.bytes : 0;
    c->slab = c->slab_bytes > 0 ? pages_alloc(c->slab_bytes) : NULL;
    sem_status status = SEM_OK;
    if (c->buckets == NULL || (c->slab_bytes > 0 && c->slab == NULL))
        status = sem_fail_memory(err, "the cache of queries");
    else if (!random_bytes(c->key, sizeof c->key))
        status = sem_fail(err, SEM_INTERNAL, "no random numbers for the cache of queries");
    if (status != SEM_OK) {
        query_cache_destroy(c);
        return status;
    }
    *out = c;
    return SEM_OK;
}

void query_cache_destroy(query_cache *c)
{
    if (c == NULL)
        return;
    pages_free(c->slab, c->slab_bytes);
    free(c->buckets);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void query_cache_set_generation(query_cache *c, uint32_t generation)
{
    /* A new slab gives the old one's memory back; without one the old serves on. */
    unsigned char *fresh = c->slab_bytes > 0 ? pages_alloc(c->slab_bytes) : NULL;
    pthread_mutex_lock(&c->lock);
    unsigned char *old = fresh != NULL ? c->slab : NULL;
    if (fresh != NULL)
        c->slab = fresh;
    c->generation = generation;
    c->newest = c->oldest = NULL;
    c->dim = 0;
    memset(c->buckets, 0, (c->bucket_mask + 1) * sizeof(entry *));
    c->stats.bytes = table_bytes(c);
    c->stats.entries = 0;
    pthread_mutex_unlock(&c->lock);
    pages_free(old, c->slab_bytes);
}

/* --- under the lock */

static entry **bucket_of(query_cache *c, uint64_t hash)
{
    return &c->buckets[hash & c->bucket_mask];
}

static bool is_of(const entry *e, uint64_t hash, const cached_query *q)
{
    const char *bytes = (const char *)(e->data + q->dim);
    return e->hash == hash && e->as_document == q->as_document && e->text_size == q->size &&
           e->prompt_size == strlen(q->prompt) && memcmp(bytes, q->prompt, e->prompt_size) == 0 &&
           memcmp(bytes + e->prompt_size, q->text, q->size) == 0;
}

static entry *find(query_cache *c, uint64_t hash, const cached_query *q)
{
    entry *e = q->generation == c->generation && q->dim == c->dim ? *bucket_of(c, hash) : NULL;
    while (e != NULL && !is_of(e, hash, q))
        e = e->chain;
    return e;
}

static void leave_order(query_cache *c, const entry *e)
{
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
}

static void become_newest(query_cache *c, entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static entry *evict_oldest(query_cache *c)
{
    entry *e = c->oldest, **link = bucket_of(c, e->hash);
    while (*link != e)
        link = &(*link)->chain;
    *link = e->chain;
    leave_order(c, e);
    c->stats.bytes -= c->entry_bytes;
    c->stats.entries--;
    c->stats.evictions++;
    return e;
}

/* Cuts the slab for vectors of dim elements. */
static void cut(query_cache *c, size_t dim)
{
    size_t bytes;
    if (!checked_mul(dim, sizeof(float), &bytes) || !checked_add(bytes, sizeof(entry) + KEY_BYTES, &bytes) ||
        !checked_add(bytes, _Alignof(entry) - 1, &bytes))
        return;
    c->dim = dim;
    c->entry_bytes = bytes & ~(_Alignof(entry) - 1);
    c->capacity = c->slab_bytes / c->entry_bytes;
}

/* Entries leave only for others, so that those in use lie at the slab's start. */
static entry *next_entry(query_cache *c)
{
    if (c->stats.entries < c->capacity)
        return (entry *)(void *)(c->slab + c->stats.entries * c->entry_bytes);
    return c->capacity > 0 ? evict_oldest(c) : NULL;
}

static void insert(query_cache *c, uint64_t hash, const cached_query *q)
{
    const size_t prompt_size = strlen(q->prompt);
    entry *e = next_entry(c);
    if (e == NULL)
        return;
    *e = (entry){.hash = hash,
                 .prompt_size = (uint32_t)prompt_size,
                 .text_size = (uint32_t)q->size,
                 .tokens = q->tokens,
                 .truncated = q->truncated,
                 .as_document = q->as_document};
    memcpy(e->data, q->vector, q->dim * sizeof(float));
    memcpy(e->data + q->dim, q->prompt, prompt_size);
    memcpy((char *)(e->data + q->dim) + prompt_size, q->text, q->size);
    entry **bucket = bucket_of(c, hash);
    e->chain = *bucket;
    *bucket = e;
    become_newest(c, e);
    c->stats.bytes += c->entry_bytes;
    c->stats.entries++;
}

/* --- for all */

static uint64_t hash_of(const query_cache *c, const cached_query *q)
{
    const uint64_t parts[3] = {hash_keyed(c->key, q->prompt, strlen(q->prompt)), hash_keyed(c->key, q->text, q->size),
                               q->as_document};
    return hash_keyed(c->key, parts, sizeof parts);
}

bool query_cache_get(query_cache *c, cached_query *q)
{
    if (c->most == 0)
        return false;
    uint64_t hash = hash_of(c, q);
    pthread_mutex_lock(&c->lock);
    entry *e = find(c, hash, q);
    if (e != NULL) {
        memcpy(q->vector, e->data, q->dim * sizeof(float));
        q->tokens = e->tokens;
        q->truncated = e->truncated;
        leave_order(c, e);
        become_newest(c, e);
        c->stats.hits++;
    } else {
        c->stats.misses++;
    }
    pthread_mutex_unlock(&c->lock);
    return e != NULL;
}

void query_cache_put(query_cache *c, const cached_query *q)
{
    size_t bytes;
    if (c->most == 0 || !checked_add(q->size, strlen(q->prompt), &bytes) || bytes > KEY_BYTES)
        return;
    uint64_t hash = hash_of(c, q);
    pthread_mutex_lock(&c->lock);
    if (q->generation == c->generation && c->dim == 0)
        cut(c, q->dim);
    if (q->generation == c->generation && q->dim == c->dim && find(c, hash, q) == NULL)
        insert(c, hash, q);
    pthread_mutex_unlock(&c->lock);
}

void query_cache_get_stats(query_cache *c, query_cache_stats *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->stats;
    pthread_mutex_unlock(&c->lock);
}
