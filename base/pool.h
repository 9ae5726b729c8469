/* Memory of what comes and goes with every request: blocks of a few sizes that are
 * kept when they are given back, so that a steady load takes nothing from the
 * allocator. A block may be given back by another thread than the one that took it.
 *
 * What is kept has a limit, and pool_trim, called now and then, frees what was not
 * needed since the call before: an idle pool holds nothing. Any thread. */
#ifndef SEM_BASE_POOL_H
#define SEM_BASE_POOL_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct pool pool;

enum { POOL_LARGEST = 256 << 10 /* bytes; larger blocks are not kept */ };

/* Keeps at most so many bytes of blocks that nobody uses. */
sem_status pool_create(pool **out, size_t most, sem_error *err);
/* Accepts NULL. Every block must have been given back. */
void pool_destroy(pool *p);

/* A block of at least so many bytes, not cleared, aligned to 64 bytes (beyond
 * POOL_LARGEST as malloc does); NULL when memory is out. p may be NULL: then it comes
 * from the allocator and goes back there. */
void *pool_take(pool *p, size_t bytes);
/* The same for count elements of size bytes; NULL also where that is no size. */
void *pool_take_array(pool *p, size_t count, size_t size);
/* The same, cleared. */
void *pool_take_cleared(pool *p, size_t count, size_t size);
/* A block of that many bytes with the content of block (may be NULL), which is no
 * longer the caller's; NULL when memory is out, and then block is as it was. */
void *pool_resize(pool *p, void *block, size_t bytes);
/* To the pool that it came from. Accepts NULL. */
void pool_give(void *block);

/* Frees what lay unused ever since the last call. */
void pool_trim(pool *p);

typedef struct pool_stats {
    uint64_t taken;     /* blocks, ever */
    uint64_t allocated; /* of them, those that the allocator had to be asked for */
    size_t kept;        /* bytes of blocks that nobody uses, now */
} pool_stats;

void pool_get_stats(pool *p, pool_stats *out);

#endif
