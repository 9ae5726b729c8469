#include "base/pool.h"

#include "base/checked.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

enum {
    SMALLEST = 256, /* bytes of a block of the first class; each class doubles it */
    CLASSES = 11,   /* up to POOL_LARGEST */
    UNKEPT = CLASSES,
    HEADER = 64 /* bytes, so that what follows is aligned like the header */
};
_Static_assert((size_t)SMALLEST << (CLASSES - 1) == POOL_LARGEST, "the last class is the largest block");

/* Lies before each block. */
typedef struct header {
    pool *owner;         /* NULL: none */
    struct header *next; /* while it is kept */
    size_t size;         /* bytes behind the header */
    unsigned class;      /* UNKEPT: it goes back to the allocator */
} header;
_Static_assert(sizeof(header) <= HEADER, "the header has room");

typedef struct size_class {
    header *first;
    size_t count;
    size_t least; /* the least that count was since the last trim */
} size_class;

struct pool {
    pthread_mutex_t lock; /* guards all below; a leaf */
    size_class classes[CLASSES];
    size_t most;
    pool_stats stats;
};

sem_status pool_create(pool **out, size_t most, sem_error *err)
{
    pool *p = calloc(1, sizeof *p);
    if (p == NULL)
        return sem_fail_memory(err, "a pool of memory");
    pthread_mutex_init(&p->lock, NULL);
    p->most = most;
    *out = p;
    return SEM_OK;
}

static void *payload(header *h)
{
    return (unsigned char *)h + HEADER;
}

static header *header_of(void *block)
{
    return (header *)(void *)((unsigned char *)block - HEADER);
}

static unsigned class_of(size_t bytes)
{
    unsigned class = 0;
    while (class < CLASSES && (size_t)SMALLEST << class < bytes)
        class ++;
    return class;
}

static size_t class_size(unsigned class)
{
    return (size_t)SMALLEST << class;
}

static void free_list(header *h)
{
    while (h != NULL) {
        header *next = h->next;
        ASAN_UNPOISON_MEMORY_REGION(payload(h), h->size);
        free(h);
        h = next;
    }
}

void pool_destroy(pool *p)
{
    if (p == NULL)
        return;
    for (unsigned i = 0; i < CLASSES; i++)
        free_list(p->classes[i].first);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* --- taking */

static header *take_kept(pool *p, unsigned class)
{
    header *h = NULL;
    pthread_mutex_lock(&p->lock);
    p->stats.taken++;
    size_class *of = class < CLASSES ? &p->classes[class] : NULL;
    if (of != NULL && of->count > 0) {
        h = of->first;
        of->first = h->next;
        if (--of->count < of->least)
            of->least = of->count;
        p->stats.kept -= h->size;
    } else {
        p->stats.allocated++;
    }
    pthread_mutex_unlock(&p->lock);
    return h;
}

void *pool_take(pool *p, size_t bytes)
{
    unsigned class = p != NULL ? class_of(bytes) : UNKEPT;
    size_t size = class < CLASSES ? class_size(class) : bytes, whole;
    header *h = p != NULL ? take_kept(p, class) : NULL;
    if (h != NULL) {
        ASAN_UNPOISON_MEMORY_REGION(payload(h), h->size);
        return payload(h);
    }
    if (!checked_add(size, HEADER, &whole))
        return NULL;
    h = size <= POOL_LARGEST ? checked_alloc_aligned(1, whole) : malloc(whole);
    if (h == NULL)
        return NULL;
    *h = (header){.owner = p, .size = size, .class = class};
    return payload(h);
}

void *pool_take_array(pool *p, size_t count, size_t size)
{
    size_t bytes;
    return checked_mul(count, size, &bytes) ? pool_take(p, bytes) : NULL;
}

void *pool_take_cleared(pool *p, size_t count, size_t size)
{
    void *block = pool_take_array(p, count, size);
    if (block != NULL)
        memset(block, 0, count * size);
    return block;
}

void *pool_resize(pool *p, void *block, size_t bytes)
{
    header *h = block != NULL ? header_of(block) : NULL;
    size_t whole;
    if (h != NULL && h->class < CLASSES && bytes <= h->size)
        return block;
    /* Large ones are the allocator's to move, which can do so without a copy. */
    if (h != NULL && h->class == UNKEPT && h->size > POOL_LARGEST && bytes > POOL_LARGEST) {
        h = checked_add(bytes, HEADER, &whole) ? realloc(h, whole) : NULL;
        if (h == NULL)
            return NULL;
        h->size = bytes;
        return payload(h);
    }
    void *moved = pool_take(p, bytes);
    if (moved == NULL || h == NULL)
        return moved;
    memcpy(moved, block, h->size < bytes ? h->size : bytes);
    pool_give(block);
    return moved;
}

/* --- giving back */

void pool_give(void *block)
{
    if (block == NULL)
        return;
    header *h = header_of(block);
    pool *p = h->owner;
    if (h->class < CLASSES) {
        pthread_mutex_lock(&p->lock);
        bool keep = h->size <= p->most - p->stats.kept;
        if (keep) {
            size_class *of = &p->classes[h->class];
            ASAN_POISON_MEMORY_REGION(block, h->size);
            h->next = of->first;
            of->first = h;
            of->count++;
            p->stats.kept += h->size;
        }
        pthread_mutex_unlock(&p->lock);
        if (keep)
            return;
    }
    free(h);
}

void pool_trim(pool *p)
{
    header *unused = NULL;
    pthread_mutex_lock(&p->lock);
    for (unsigned i = 0; i < CLASSES; i++) {
        size_class *of = &p->classes[i];
        for (; of->least > 0; of->least--) {
            header *h = of->first;
            of->first = h->next;
            of->count--;
            p->stats.kept -= h->size;
            h->next = unused;
            unused = h;
        }
        of->least = of->count;
    }
    pthread_mutex_unlock(&p->lock);
    free_list(unused);
}

void pool_get_stats(pool *p, pool_stats *out)
{
    pthread_mutex_lock(&p->lock);
    *out = p->stats;
    pthread_mutex_unlock(&p->lock);
}
