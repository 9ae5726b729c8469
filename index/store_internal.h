/* What the store's files share. Nothing outside index/store*.c and
 * index/event*.c includes it. docs/format.md describes keys and values. */
#ifndef SEM_INDEX_STORE_INTERNAL_H
#define SEM_INDEX_STORE_INTERNAL_H

#include "base/files.h"
#include "index/store.h"
#include "index/store_blocks.h"

#include <lmdb.h>

#include <pthread.h>
#include <string.h>

/* Vectors lie on disk as the processor has them. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "vectors on disk are little-endian");
_Static_assert(sizeof(float) == 4, "vectors on disk are float32");

enum {
    STORE_FORMAT = 5,      /* version of the format that is written, and the newest that is read */
    STORE_SPACES_MAX = 64, /* spaces open at a time; generations share them and few are kept */
    SPACE_IDLE_MAX = 16,   /* transactions kept for the next reads of a space */
    STORE_DIM_MAX = 65536,
    STORE_READERS_MAX = 512, /* reader slots of each environment */
    STORE_USER_KEY = 16      /* bytes */
};

/* In main's meta. It is in no backup; a store without one makes another. */
#define STORE_USER_KEY_NAME "user_key"

enum { ENVIRONMENT_TABLES_MAX = 16 };

/* A database of an environment. */
typedef struct environment_table {
    const char *name; /* static */
    MDB_dbi dbi;
} environment_table;

typedef struct environment {
    MDB_env *env;     /* of events: the writer's thread only, others pin it */
    const char *disk; /* a folder on its disk: the store's, borrowed; NULL: its own */
    char name[24];    /* its folder: "main", "events", "external", "space-7" */
    uint64_t map_size;
    /* Of its file, from the start: what has blocks on disk. Ahead of the last page by a
     * tail that only deletes use. Changed by the writer, read by others. */
    _Atomic uint64_t allocated;
    uint64_t tail_least; /* bytes */
    bool no_tail;        /* the file system cannot allocate ahead; writer only */
    MDB_dbi meta;
    environment_table tables[ENVIRONMENT_TABLES_MAX]; /* all of them, `meta` too; fixed once it is open */
    size_t table_count;
    bool refused; /* whoever asked last for room in it found none; writer only */
} environment;

/* Vectors. Number 0 is external: its vectors are as wide as their collection says. */
typedef struct space {
    environment in;
    MDB_dbi vectors; /* one by one */
    MDB_dbi blocks;  /* packed */
    MDB_dbi dead;    /* which slots of a block are named no more */
    uint32_t number;
    uint32_t dim;                  /* 0: external */
    unsigned readers;              /* reads that have a transaction in it; guarded by store.lock */
    MDB_txn *idle[SPACE_IDLE_MAX]; /* transactions of reads that rest; guarded by store.lock */
    size_t idle_count;
    bool shut; /* being removed; guarded by store.lock */
} space;

/* Where the blocks of a collection in a space lie. */
struct store_vectors {
    store *s;
    uint32_t space, collection;
    size_t width;      /* floats of a row */
    size_t stays_from; /* bytes from which on a value stays where it was written */
    block_table blocks;
    pthread_mutex_t looking; /* a view may be shared by threads, a transaction may not; a leaf */
    size_t references;       /* guarded by store.blocks_lock */
    store_vectors *next;
};

/* The log's file, which another takes the place of when it is written anew. */
typedef struct events_file {
    MDB_env *env;   /* owned */
    unsigned users; /* who pinned it; guarded by store.lock */
    bool left;      /* another is in its place: closed with its last user; guarded by store.lock */
} events_file;

struct store {
    char path[FILES_PATH_MAX];
    uint64_t map_size, max_size;
    sem_log *log;
    int lock_fd;
    unsigned char user_key[STORE_USER_KEY];
    environment main;
    MDB_dbi collections, names, docs, docnos, places, slots, freed, changes, old_texts, generations, jobs, deletes;
    environment events;
    events_file *events_file; /* owned, of events.env; guarded by lock */
    MDB_dbi event_log, queries, clicks;
    pthread_mutex_t lock; /* guards spaces[], space.readers, space.shut, events_file and the list of reads; inside it
                           * only LMDB's own */
    space *spaces[STORE_SPACES_MAX];
    store_read *reads;
    store_write *group; /* owned: the memory of the one group that there is at a time; writer only */
    /* Guards the list of tables and what is in them; held while a group that wrote
     * blocks commits. Taken before store.lock, by no reader. */
    pthread_mutex_t blocks_lock;
    store_vectors *tables;
    bool unnamed; /* a commit failed behind one that had succeeded; writer only */
};

/* A read's transaction in an environment that is not main. */
typedef struct read_part {
    environment *e;
    space *sp;         /* NULL: events */
    events_file *file; /* of events: pinned */
    MDB_txn *txn;
} read_part;

struct store_read {
    store *s;
    store_write *write; /* not NULL: the view of a group */
    MDB_txn *main;      /* NULL after a renewal that failed */
    uint64_t snapshot;  /* transaction number of main that it sees */
    read_part parts[STORE_SPACES_MAX + 1];
    size_t part_count;
    store_read *next, *previous;
};

/* A group's transaction in one environment. */
typedef struct write_part {
    environment *e;
    MDB_txn *group;
    MDB_txn *operation; /* nested in group while an operation is under way */
    uint64_t pending;   /* bytes that the group may have added, an upper guess */
} write_part;

/* Vectors of a group that are not written yet: where there are enough of them
 * they go into blocks at once. */
typedef struct pending_run {
    space *sp;
    uint32_t collection;
    size_t dim;
    uint64_t next;   /* counter of slots behind the last */
    uint32_t *slots; /* [count], ascending but for where the counter came round */
    float *vectors;  /* [count, dim] */
    size_t count, capacity;
    size_t mark; /* count and next when the operation under way began */
    uint64_t mark_next;
} pending_run;

/* A block that a group wrote or deleted. */
typedef struct block_change {
    uint32_t space, collection, block;
} block_change;

typedef struct block_changes {
    block_change *items;
    size_t count, capacity;
} block_changes;

/* A block while it is put together. */
typedef struct block_build {
    float *rows; /* owned: [BLOCK_ROWS, width], each row in its slot's place */
    size_t width;
    block_bits has;
} block_build;

struct store_write {
    store *s;
    pending_run *runs;
    size_t run_count, run_capacity;
    block_changes changed;
    block_build build;
    store_read view;
    write_part parts[STORE_SPACES_MAX + 2]; /* main first; committed from the last to the first */
    size_t part_count;
    bool in_operation;
    sem_status broken;                            /* why nothing of it may be written; SEM_OK: it may */
    bool bytes_known, reusable_known, disk_known; /* what was measured in this group, of the following */
    uint64_t bytes;                               /* on disk, without tails */
    uint64_t reusable;                            /* of them, pages that LMDB uses again */
    uint64_t disk_left;                           /* free on the disk */
    uint64_t disk_reserve;                        /* of that, what puts leave */
};

/* --- bytes: all numbers in keys and values are big-endian, vectors excepted */

static inline void put_u32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (24 - 8 * i));
}

static inline void put_u64(unsigned char *p, uint64_t v)
{
    put_u32(p, (uint32_t)(v >> 32));
    put_u32(p + 4, (uint32_t)v);
}

static inline uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t get_u64(const unsigned char *p)
{
    return (uint64_t)get_u32(p) << 32 | get_u32(p + 4);
}

/* LMDB's value type takes no const; it does not write through keys and values. */
static inline MDB_val as_value(const void *data, size_t size)
{
    union {
        const void *in;
        void *out;
    } u = {.in = data};
    return (MDB_val){.mv_size = size, .mv_data = u.out};
}

/* --- store_env.c */

/* The error of an LMDB call: full maps and disks are SEM_RESOURCE_EXHAUSTED with the limit. */
sem_status environment_fail(const environment *e, const char *what, int rc, sem_error *err);
/* A value that is not of the form that docs/format.md describes. */
sem_status environment_damaged(const environment *e, const char *what, sem_error *err);
/* Opens or creates the environment below the store's folder and refuses a newer format. */
sem_status environment_open(environment *e, store *s, const char *name, sem_error *err);
void environment_close(environment *e); /* accepts a closed one */
/* Whether it has no table: nothing of ours was ever committed to its file. */
sem_status environment_is_new(const environment *e, bool *is_new, sem_error *err);
/* Creates named databases in one transaction, `meta` with the format version among them. */
typedef struct named_database {
    const char *name;
    MDB_dbi *dbi;
} named_database;
sem_status environment_databases(environment *e, const named_database *list, size_t count, sem_error *err);
/* mdb_get: *found says whether. */
sem_status table_get(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size, MDB_val *value,
                     bool *found, sem_error *err);
sem_status table_put(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size,
                     const void *value, size_t value_size, sem_error *err);
/* No error if there is none. */
sem_status table_delete(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size,
                        sem_error *err);
/* Opens a cursor at the first number (8 bytes) above `after`; *cursor is NULL where there is
 * none, else the caller's to close. what: what it is for, in an error. */
sem_status table_after(const environment *e, MDB_txn *txn, MDB_dbi dbi, uint64_t after, const char *what,
                       MDB_cursor **cursor, MDB_val *key, MDB_val *value, sem_error *err);
/* Deletes keys from `first` up to and including `last` (compared as bytes, a
 * longer key with the same start as last is inside), at most limit (0: all). */
sem_status table_delete_range(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *first, const void *last,
                              size_t key_size, uint64_t limit, uint64_t *deleted, sem_error *err);
/* Numbers below a name in an environment's `meta`; 0 when missing. */
sem_status meta_get(const environment *e, MDB_txn *txn, const char *name, uint64_t *value, sem_error *err);
sem_status meta_put(const environment *e, MDB_txn *txn, const char *name, uint64_t value, sem_error *err);
/* Adds 1 to the number and returns the new one. */
sem_status meta_next(const environment *e, MDB_txn *txn, const char *name, uint64_t max, uint64_t *value,
                     sem_error *err);

/* --- store_room.c */

/* Bytes in use of the map; with exact, pages that LMDB can use again are not counted. */
uint64_t environment_used(const environment *e, bool exact);
/* Bytes of a map or of a disk of this size that only deletes may use, so that a
 * full store can be emptied. */
uint64_t environment_reserve(uint64_t size);
/* Bytes that the disk has left for us, UINT64_MAX when that is unknown; *size: all of it. */
uint64_t environment_disk_free(const environment *e, uint64_t *size);
/* Of an environment that is being opened: gives its file a tail, as far as the disk has
 * room, so that deletes find some whatever takes the rest of the disk. */
void environment_hold_tail(environment *e, bool is_main);
/* Refuses when `bytes` more would pass the limits of the store or of the environment, or
 * leave less than deletes need. largest: bytes of the longest value among them, which
 * LMDB puts on pages that follow each other. */
sem_status operation_room(store_write *w, environment *e, uint64_t bytes, uint64_t largest, sem_error *err);

/* Whether the last commit gave pages up that no snapshot has. LMDB uses them from the commit after the next on. */
bool environment_waits(const environment *e);

/* Before a group: while the disk is full and most of what deletes have is held back by
 * snapshots, waits for those to end, some seconds at most. */
void store_await_pages(store *s);

/* --- store_copy.c */

/* Says whether a record belongs into a copy; may point *key to another key of its
 * own, *in_order is then to become false. */
typedef bool copy_filter(void *context, const char *table, MDB_val *key, const MDB_val *value, bool *in_order);
/* Called now and then with the bytes that were copied since the last call; what is
 * not SEM_OK ends the copy with that error. */
typedef sem_status copy_step(void *context, uint64_t bytes, sem_error *err);
/* Writes what txn sees of an environment into a new one in an empty folder, record by
 * record: without free pages, and without what once stood in them. Durable when it
 * returns. filter may be NULL. Any thread. */
sem_status environment_copy(const environment *e, MDB_txn *txn, const char *folder, copy_filter *filter,
                            copy_step *step, void *context, sem_error *err);

/* --- store_transactions.c */

/* The transaction of a read, or of a group when r is its view, in main or events. */
sem_status read_txn(store_read *r, environment *e, MDB_txn **out, sem_error *err);
/* The same for a space. SEM_NOT_FOUND when it is not open. */
sem_status read_space(store_read *r, uint32_t number, space **sp, MDB_txn **out, sem_error *err);
/* Puts a read (no group's view) into the space as it is now. */
sem_status read_enter(store_read *r, uint32_t number, sem_error *err);
/* An operation: nested transactions in every environment that it touches. */
sem_status operation_begin(store_write *w, sem_error *err);
/* With SEM_OK commits them, else rolls all of them back; returns the outcome. */
sem_status operation_end(store_write *w, sem_status status, sem_error *err);
/* A failure that cannot be undone alone: further operations of the group and its commit
 * fail with the same status. */
void group_break(store_write *w, sem_status status);
/* Transaction number of the oldest snapshot that a read has; UINT64_MAX: no read. */
uint64_t oldest_snapshot(store *s);

/* --- store_collections.c */

enum {
    COLLECTION_FIXED = 45,
    COLLECTION_WEIGHTS = 16 /* bytes of a record before the name; of weights, if it has some */
};

typedef struct collection_record {
    store_collection c;
    uint64_t next_docno;
} collection_record;

sem_status collection_load(store_read *r, uint32_t number, collection_record *out, sem_error *err);
sem_status collection_save(store_read *r, const collection_record *record, sem_error *err);

/* --- store_vectors.c */

enum {
    PLACE_KEY = 12,
    SLOT_KEY = 8,
    PLACE_FIXED = 8,
    PLACE_SLOT = 4,
    PLACE_PASSAGE = 12 /* slot, from, to */
};

static inline void place_key(unsigned char key[PLACE_KEY], uint32_t space_number, uint32_t collection, uint32_t docno)
{
    put_u32(key, space_number);
    put_u32(key + 4, collection);
    put_u32(key + 8, docno);
}

/* Of a vector, or with a space and a collection of their counter of slots. */
static inline void slot_key(unsigned char key[SLOT_KEY], uint32_t collection, uint32_t slot)
{
    put_u32(key, collection);
    put_u32(key + 4, slot);
}

typedef struct place {
    uint64_t version;
    const unsigned char *slots; /* borrowed: count times a number of 4 bytes, at every `step` bytes */
    size_t count, step;         /* step: PLACE_SLOT for one vector, PLACE_PASSAGE where ranges follow */
} place;

static inline uint32_t place_slot(const place *p, size_t i)
{
    return get_u32(p->slots + i * p->step);
}

/* No range where the document was not cut. */
static inline store_range place_range(const place *p, size_t i)
{
    const unsigned char *at = p->slots + i * p->step;
    return p->step == PLACE_PASSAGE ? (store_range){get_u32(at + 4), get_u32(at + 8)} : (store_range){0, 0};
}

/* False: the value is none. */
bool place_decode(const MDB_val *value, place *out);
/* Puts the vector (with a cut: its count of them) under slots of their own and names
 * them; older ones are freed later. *slot is the first one's. */
sem_status place_set(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno, uint64_t version,
                     const float *vector, size_t dim, const store_cut *cut, uint32_t *slot, sem_error *err);
/* Forgets the document's places in every space and frees their slots later. */
sem_status places_forget(store_write *w, uint32_t collection, uint32_t docno, sem_error *err);
/* The same for a whole collection, in every space. */
sem_status places_drop(store_write *w, uint32_t collection, sem_error *err);
/* Whether the stored vectors have exactly these bits and ranges (vector NULL: whether
 * there are any); *slot and cut->slots tell where they lie. */
sem_status place_equals(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno, const float *vector,
                        size_t dim, const store_cut *cut, uint64_t *version, uint32_t *slot, bool *equal,
                        sem_error *err);

/* A slot's vector where it lies. */
typedef struct slot_vector {
    const void *data; /* perhaps unaligned */
    size_t floats;
    bool padded; /* zeros up to whole lanes count in floats */
} slot_vector;

/* *found false if it is not there. */
sem_status slot_find(store_read *r, uint32_t space_number, uint32_t collection, uint32_t slot, slot_vector *out,
                     bool *found, sem_error *err);

/* --- store_freed.c */

enum { FREED_KEY = 20 /* transaction, space, collection, first slot; the value is the last one */ };

/* Deletes vectors that were freed before the oldest snapshot. An operation of its own. */
sem_status freed_apply(store_write *w, sem_error *err);

/* --- store_blocks.c */

enum { BLOCK_KEY = 8 };

/* Memory for blocks of this width; what was in it is forgotten. */
sem_status block_build_start(block_build *b, size_t width, sem_error *err);
void block_build_free(block_build *b);
void block_build_add(block_build *b, uint32_t slot, const void *vector, size_t dim);
/* Adds what the store has of the block: what is packed and named, and single vectors. */
sem_status block_build_load(block_build *b, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block,
                            sem_error *err);
/* Writes it in the place of all that. */
sem_status block_build_put(const block_build *b, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block,
                           block_changes *changed, sem_error *err);

/* The value that holds the slot, or *found false; *row its vector, *width floats. */
sem_status block_find(space *sp, MDB_txn *txn, uint32_t collection, uint32_t slot, const void **row, size_t *width,
                      bool *found, sem_error *err);
/* Notes that slot is named no more; *found false if it is in no block. Blocks of
 * which little is left are written anew, empty ones deleted. */
sem_status block_forget(store_write *w, space *sp, MDB_txn *txn, uint32_t collection, uint32_t slot, bool *found,
                        sem_error *err);
/* Deletes the blocks of a collection, at most limit; *deleted how many. */
sem_status blocks_delete(space *sp, MDB_txn *txn, uint32_t collection, uint64_t limit, uint64_t *deleted,
                         block_changes *changed, sem_error *err);
/* Deletes what blocks hold of slots that no counter has reached; *count how many. */
sem_status blocks_clean(space *sp, const store *s, MDB_txn *main_txn, MDB_txn *txn, block_changes *changed,
                        uint64_t *count, sem_error *err);

/* --- store_tables.c */

/* A commit that changes blocks is between the two: in between there are no
 * entries for them, after it there are the new ones, whatever came of it. */
void blocks_begin_commit(store *s, const block_changes *changed);
void blocks_end_commit(store *s, const block_changes *changed);

/* --- store_pending.c */

/* Takes a vector of the group: the next slot, and a place in memory until the group is flushed. */
sem_status pending_add(store_write *w, MDB_txn *txn, space *sp, MDB_txn *vectors, uint32_t collection,
                       const float *vector, size_t dim, uint32_t *slot, sem_error *err);
/* NULL: the slot's vector is none of those that wait. */
const float *pending_find(const store_write *w, const space *sp, uint32_t collection, uint32_t slot, size_t *dim);
void pending_begin_operation(store_write *w);
/* Forgets what the operation added, or writes blocks if much has come together. */
sem_status pending_end_operation(store_write *w, sem_status status, sem_error *err);
/* Writes all that waits: before the commit, outside any operation. */
sem_status pending_flush(store_write *w, sem_error *err);
void pending_free(store_write *w);

/* --- store_spaces.c */

/* With store.lock held. NULL: not open. */
space *space_at(store *s, uint32_t number);
/* Counts as a read, so that the space is not removed meanwhile. NULL: not open. */
space *space_pin(store *s, uint32_t number);
void space_unpin(store *s, space *sp); /* accepts NULL */
sem_status spaces_open_all(store *s, sem_error *err);
void spaces_close_all(store *s);
/* Deletes vectors that main names nowhere since its commit failed. Outside any group. */
sem_status spaces_clean(store *s, sem_error *err);
void space_name(char name[24], uint32_t number); /* of its folder */
/* Deletes the places and the counters of a space. */
sem_status space_forget_places(store *s, MDB_txn *txn, uint32_t number, sem_error *err);

/* --- store_leftovers.c */

/* Removes folders below the store that no generation names, lists that were saved of
 * collections that are no more, and what main knows of spaces that no generation names. */
sem_status folders_clean(store *s, sem_error *err);
/* Removes the lists that were saved for the space. */
sem_status space_forget_caches(store *s, uint32_t number, sem_error *err);

/* --- store_events.c */

/* Brings the folder of the log into its place, if a crash came while one took that of another, and
 * removes what else is left. Before it is opened. */
sem_status events_settle(const char *path, sem_log *log, sem_error *err);
/* Whether there is something that it would remove. */
bool events_left(const char *path);
/* The name of the folder below the store's that is the log, wherever a crash came. */
const char *events_folder(const char *path);
/* Opens an environment with the log's tables, of which *e gets all but the name; tables: their numbers. */
sem_status events_open(store *s, const char *name, environment *e, MDB_dbi tables[3], sem_error *err);
/* Whether the store has been opened before, so that its log is there or was lost. */
sem_status store_was_begun(const store *s, MDB_txn *main_txn, bool *begun, sem_error *err);
/* Opens the log. SEM_FAILED_PRECONDITION where its file was lost and nobody has given it up. */
sem_status events_open_first(store *s, sem_error *err);
void events_close(store *s);
/* The log's file of now, which stays open until it is unpinned. Any thread. */
events_file *events_pin(store *s);
void events_unpin(store *s, events_file *f); /* accepts NULL */
/* Puts another file, which is then the store's, into the place of the one that there is. */
void events_replace(store *s, events_file *f);
/* The environment of a pinned file, for measuring it. */
environment events_of(const store *s, const events_file *f);

/* --- store_log.c */

sem_status log_add(store_write *w, uint64_t seq, bool removed, uint32_t collection, const uint32_t *docnos,
                   size_t count, sem_error *err);
/* Notes that log or old texts up to seq are gone. */
sem_status log_note_trimmed(store_write *w, uint64_t seq, sem_error *err);

/* --- store_old_texts.c */

/* Keeps what `old` was before request seq replaced (same: by the same text) or
 * deleted it. A replaced text needs room like any that is put; a deleted one is
 * kept only where there is some. */
sem_status old_text_replaced(store_write *w, uint64_t seq, uint32_t collection, const store_document *old, bool same,
                             sem_error *err);
sem_status old_text_deleted(store_write *w, uint64_t seq, uint32_t collection, const store_document *old,
                            sem_error *err);

#endif
