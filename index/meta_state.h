/* What the columns of a collection hold at one moment; for index/meta_*.c only. */
#ifndef SEM_INDEX_META_STATE_H
#define SEM_INDEX_META_STATE_H

#include "index/meta_columns.h"
#include "index/meta_segment.h"

#include <pthread.h>

/* Meta of a document that is in no segment yet. */
typedef struct meta_copy {
    atomic_size_t references;
    bool removed;
    size_t length;
    unsigned char bytes[];
} meta_copy;

typedef struct meta_newer {
    uint16_t low;
    meta_copy *copy; /* one of its owners */
} meta_newer;

/* 65,536 document numbers. Never changed. */
typedef struct meta_block {
    atomic_size_t references;
    meta_segment *segment; /* one of its owners; NULL: none */
    size_t count;
    meta_newer newer[]; /* ascending; each counts instead of what the segment has */
} meta_block;

/* Never changed. */
typedef struct meta_state {
    atomic_size_t references;
    bool complete; /* every document is there: not while a fill is under way */
    size_t count;
    meta_block *blocks[]; /* one of the owners of each; NULL: no document was ever there */
} meta_state;

typedef enum meta_phase {
    META_WAITING, /* for a fill; changes are not taken over */
    META_FILLING, /* changes are kept apart until the fill is adopted */
    META_READY
} meta_phase;

struct meta_columns {
    atomic_size_t references;
    pthread_mutex_t write; /* rank 3: who makes the next state; guards phase */
    pthread_mutex_t lock;  /* rank 4: the pointer to the state */
    meta_state *state;
    meta_phase phase;
    atomic_bool ready; /* phase == META_READY, for those who hold no lock */
};

/* The state of now, to be released. */
meta_state *meta_state_acquire(meta_columns *c);
void meta_state_release(meta_state *s); /* accepts NULL */
/* A state with the blocks of `old` (NULL: none), shared, and at least count of
 * them; as complete as old. NULL when memory is out. */
meta_state *meta_state_copy(const meta_state *old, size_t count);
/* Makes s the state of now and takes it over. With c->write held. */
void meta_state_publish(meta_columns *c, meta_state *s);

/* A block with the segment, shared, and room for `room` newer ones; count is 0. */
meta_block *meta_block_create(meta_segment *segment, size_t room);
void meta_block_release(meta_block *b); /* accepts NULL */
/* Puts an entry behind the last; shares the copy. */
void meta_block_append(meta_block *b, const meta_newer *newer);
/* The segment that the block's newer documents make of its own. */
sem_status meta_block_merge(const meta_block *b, meta_segment **out, sem_error *err);

#endif
