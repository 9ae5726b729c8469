#include "daemon/query_cache.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BYTES_PER_BUCKET = 1024, /* about a short query's entry at 200 dimensions: chains stay short */
    LARGEST_SHARE = 8,       /* an entry of more than this part of the memory is not kept */
    ALLOCATOR_BYTES = 16     /* what malloc adds to an entry */
};

typedef struct entry {
    struct entry *chain;         /* next in its bucket */
    struct entry *newer, *older; /* by use */
    uint64_t hash;
    size_t bytes; /* that it counts for */
    size_t prompt_size, text_size;
    uint32_t dim, tokens;
    bool truncated;
    float data[]; /* vector [dim], then the bytes of prompt and text */
} entry;

struct query_cache {
    pthread_mutex_t lock; /* guards all below; rank 4, a leaf; held for a look-up and a copy */
    unsigned char key[16];
    uint32_t generation;
    size_t most; /* bytes; 0: off */
    entry **buckets;
    size_t bucket_mask;
    entry *newest, *oldest;
    query_cache_stats stats;
};

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
    c->stats.bytes = bytes > 0 ? buckets * sizeof(entry *) : 0;
    c->buckets = calloc(buckets, sizeof(entry *));
    sem_status status = SEM_OK;
    if (c->buckets == NULL)
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

static void free_list(entry *newest)
{
    for (entry *e = newest, *next; e != NULL; e = next) {
        next = e->older;
        free(e);
    }
}

void query_cache_destroy(query_cache *c)
{
    if (c == NULL)
        return;
    free_list(c->newest);
    free(c->buckets);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void query_cache_set_generation(query_cache *c, uint32_t generation)
{
    pthread_mutex_lock(&c->lock);
    entry *all = c->newest;
    c->generation = generation;
    c->newest = c->oldest = NULL;
    memset(c->buckets, 0, (c->bucket_mask + 1) * sizeof(entry *));
    c->stats.bytes = c->most > 0 ? (c->bucket_mask + 1) * sizeof(entry *) : 0;
    c->stats.entries = 0;
    pthread_mutex_unlock(&c->lock);
    free_list(all);
}

/* --- under the lock */

static entry **bucket_of(query_cache *c, uint64_t hash)
{
    return &c->buckets[hash & c->bucket_mask];
}

static bool is_of(const entry *e, uint64_t hash, const cached_query *q)
{
    const char *bytes = (const char *)(e->data + e->dim);
    return e->hash == hash && e->dim == q->dim && e->text_size == q->size && e->prompt_size == strlen(q->prompt) &&
           memcmp(bytes, q->prompt, e->prompt_size) == 0 && memcmp(bytes + e->prompt_size, q->text, q->size) == 0;
}

static entry *find(query_cache *c, uint64_t hash, const cached_query *q)
{
    entry *e = *bucket_of(c, hash);
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

static void evict_oldest(query_cache *c)
{
    entry *e = c->oldest, **link = bucket_of(c, e->hash);
    while (*link != e)
        link = &(*link)->chain;
    *link = e->chain;
    leave_order(c, e);
    c->stats.bytes -= e->bytes;
    c->stats.entries--;
    c->stats.evictions++;
    free(e);
}

static void insert(query_cache *c, entry *e)
{
    while (c->stats.bytes + e->bytes > c->most && c->oldest != NULL)
        evict_oldest(c);
    entry **bucket = bucket_of(c, e->hash);
    e->chain = *bucket;
    *bucket = e;
    become_newest(c, e);
    c->stats.bytes += e->bytes;
    c->stats.entries++;
}

/* --- for all */

static uint64_t hash_of(const query_cache *c, const cached_query *q)
{
    const uint64_t parts[2] = {hash_keyed(c->key, q->prompt, strlen(q->prompt)), hash_keyed(c->key, q->text, q->size)};
    return hash_keyed(c->key, parts, sizeof parts);
}

bool query_cache_get(query_cache *c, cached_query *q)
{
    if (c->most == 0)
        return false;
    uint64_t hash = hash_of(c, q);
    pthread_mutex_lock(&c->lock);
    entry *e = q->generation == c->generation ? find(c, hash, q) : NULL;
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

/* A copy of q; NULL when it is too large, or when memory is out: then it is not kept. */
static entry *make_entry(const query_cache *c, uint64_t hash, const cached_query *q)
{
    size_t prompt_size = strlen(q->prompt), bytes;
    if (!checked_mul(q->dim, sizeof(float), &bytes) || !checked_add(bytes, q->size, &bytes) ||
        !checked_add(bytes, prompt_size + sizeof(entry) + ALLOCATOR_BYTES, &bytes) || bytes > c->most / LARGEST_SHARE ||
        q->dim > UINT32_MAX)
        return NULL;
    entry *e = malloc(bytes - ALLOCATOR_BYTES);
    if (e == NULL)
        return NULL;
    *e = (entry){.hash = hash,
                 .bytes = bytes,
                 .prompt_size = prompt_size,
                 .text_size = q->size,
                 .dim = (uint32_t)q->dim,
                 .tokens = q->tokens,
                 .truncated = q->truncated};
    memcpy(e->data, q->vector, q->dim * sizeof(float));
    memcpy(e->data + q->dim, q->prompt, prompt_size);
    memcpy((char *)(e->data + q->dim) + prompt_size, q->text, q->size);
    return e;
}

void query_cache_put(query_cache *c, const cached_query *q)
{
    if (c->most == 0)
        return;
    uint64_t hash = hash_of(c, q);
    entry *e = make_entry(c, hash, q);
    if (e == NULL)
        return;
    pthread_mutex_lock(&c->lock);
    bool wanted = q->generation == c->generation && find(c, hash, q) == NULL;
    if (wanted)
        insert(c, e);
    pthread_mutex_unlock(&c->lock);
    if (!wanted)
        free(e);
}

void query_cache_get_stats(query_cache *c, query_cache_stats *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->stats;
    pthread_mutex_unlock(&c->lock);
}
