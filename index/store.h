/* The store: LMDB is the truth, everything else is a cache of it.
 *
 * Below the storage path lie one LMDB environment each for
 *   main/       collections, documents, places, write log, generations, jobs
 *   events/     searches, clicks, feedback
 *   external/   vectors that clients brought themselves (space 0)
 *   space-N/    the vectors of space N, removed as a folder when N is retired
 * and models/, which holds a directory for each generation that brought weights.
 * docs/format.md describes every key and value.
 *
 * One thread writes (a store_write); any thread reads (a store_read), and no
 * read outlives one request or one batch. Vectors are committed before the main
 * environment names them, so a crash leaves at worst vectors that nobody names. */
#ifndef SEM_INDEX_STORE_H
#define SEM_INDEX_STORE_H

#include "base/docid.h"
#include "base/log.h"
#include "base/status.h"
#include "index/block_table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store store;
typedef struct store_read store_read;
typedef struct store_write store_write;

enum {
    STORE_SPACE_EXTERNAL = 0,
    STORE_NAME_MAX = 64, /* bytes of a collection's name */
    STORE_MODEL_MAX = 64 /* bytes of a model folder's name */
};

typedef struct store_options {
    const char *path;  /* the folder; created if missing */
    uint64_t map_size; /* bytes of address space for each environment */
    uint64_t max_size; /* bytes on disk at which writes are refused; 0: no limit */
} store_options;

/* Opens or creates the store; takes an exclusive lock on the folder (a second
 * daemon is refused), refuses a newer format, clears stale readers, removes
 * folders of spaces and models that nothing names, and opens the spaces that a
 * generation names. */
sem_status store_open(store **out, const store_options *options, sem_log *log, sem_error *err);
void store_close(store *s);           /* accepts NULL */
uint64_t store_bytes(const store *s); /* on disk now */
/* SEM_RESOURCE_EXHAUSTED unless the disk and storage.max_size leave so many bytes
 * beside `reserves` times what the store keeps free for deletes: for what lies
 * beside LMDB. Any thread. */
sem_status store_room(store *s, unsigned reserves, uint64_t bytes, sem_error *err);
/* Gives up the snapshots of other programs that died while they looked at the
 * store: LMDB keeps pages for them. Now and then, any thread. */
void store_check_readers(store *s);
const char *store_path(const store *s);
/* 16 secret random bytes, made when the store was: the key for hashing user names. */
const unsigned char *store_user_key(const store *s);

/* --- reading */

sem_status store_read_begin(store *s, store_read **out, sem_error *err);
void store_read_end(store_read *r); /* accepts NULL */
/* Lets go of the snapshot until the next store_read_renew. What was borrowed is gone. */
void store_read_rest(store_read *r);
/* Lets go of the old snapshot and takes the newest. What was borrowed is gone. */
sem_status store_read_renew(store_read *r, sem_error *err);

/* --- collections */

typedef enum store_metric { METRIC_COSINE, METRIC_DOT } store_metric;

typedef struct store_collection {
    uint32_t number; /* never used again after a drop */
    char name[STORE_NAME_MAX + 1];
    uint32_t passage_tokens; /* 0: a document is one passage */
    uint32_t passage_overlap;
    bool lexical;
    double weight_dense, weight_lexical; /* of the two rankings in a hybrid search; both 0 at a creation: 1 each */
    store_metric metric;
    bool external;      /* vectors are the client's */
    uint32_t dim;       /* external only */
    uint64_t documents; /* count */
    uint64_t placed;    /* documents that have vectors: all */
    uint64_t bytes;     /* of texts and meta */
} store_collection;

/* SEM_NOT_FOUND names the collection. */
sem_status store_collection_find(store_read *r, const char *name, size_t length, store_collection *out, sem_error *err);
sem_status store_collection_at(store_read *r, uint32_t number, store_collection *out, sem_error *err);
/* malloc'd array in order of name. */
sem_status store_collection_list(store_read *r, store_collection **out, size_t *count, sem_error *err);
/* Fills options->number. Equal options on an existing name: *created = false;
 * other options: SEM_ALREADY_EXISTS. */
sem_status store_collection_create(store_write *w, store_collection *options, bool *created, sem_error *err);
/* Removes the collection with its documents and its vectors in every space. */
sem_status store_collection_drop(store_write *w, uint32_t number, sem_error *err);

/* --- documents */

typedef struct store_document {
    uint32_t docno;        /* the document's number in its collection, stable while it exists */
    uint64_t seq;          /* of the write that made it as it is */
    uint64_t text_version; /* seq of the write that last changed its text or its vector */
    docid id;              /* borrowed, as all below, until the read ends or is renewed */
    const char *text;
    size_t text_length;
    const unsigned char *meta; /* a MessagePack map; meta_length 0: none */
    size_t meta_length;
} store_document;

/* *found says whether it exists. */
sem_status store_document_get(store_read *r, uint32_t collection, const docid *id, store_document *out, bool *found,
                              sem_error *err);
sem_status store_document_by_number(store_read *r, uint32_t collection, uint32_t docno, store_document *out,
                                    bool *found, sem_error *err);
/* Only the id's key form: cheaper than the document. Borrowed. */
sem_status store_document_key(store_read *r, uint32_t collection, uint32_t docno, const unsigned char **key,
                              size_t *length, bool *found, sem_error *err);

/* Walks documents in id order, from the first id whose key form is above
 * after (NULL: from the start). each() returns false to stop. */
typedef bool store_each_document(void *context, const store_document *doc);
sem_status store_document_walk(store_read *r, uint32_t collection, const unsigned char *after, size_t after_length,
                               store_each_document *each, void *context, sem_error *err);

/* Bytes from <= i < to of a document's text that one of its vectors was made of. */
typedef struct store_range {
    uint32_t from, to;
} store_range;

/* How a document is cut into passages; zeroed: it is not, and has one vector. */
typedef struct store_cut {
    const store_range *ranges; /* [count] */
    uint32_t *slots;           /* [count] the caller's: where the vectors lie, a result */
    size_t count;
} store_cut;

/* A passage of a document in a space: its vector, dim floats copied to out, and its
 * bytes. ordinal counts from 0; *found false when that space has no such passage (yet). */
typedef struct store_passage {
    uint64_t version; /* text_version that it was made from */
    store_range range;
    size_t count; /* passages of the document; 0: it was not cut, and has one vector */
} store_passage;
sem_status store_passage_get(store_read *r, uint32_t space, uint32_t collection, uint32_t docno, size_t ordinal,
                             float *out, size_t dim, store_passage *passage, bool *found, sem_error *err);

/* The same without the vector. slot: that of the passage, whose number goes to *ordinal;
 * NULL: *ordinal is given. */
sem_status store_passage_find(store_read *r, uint32_t space, uint32_t collection, uint32_t docno, const uint32_t *slot,
                              size_t *ordinal, store_passage *passage, bool *found, sem_error *err);

/* The document's vector (its first passage's) in a space, dim floats copied to out; *found false when
 * that space has none (yet). version: text_version that it was made from. */
sem_status store_vector_get(store_read *r, uint32_t space, uint32_t collection, uint32_t docno, float *out, size_t dim,
                            uint64_t *version, bool *found, sem_error *err);

/* Every vector of a collection in a space: to fill an index at start. The
 * vector is borrowed for the call and may be unaligned: memcpy it. */
typedef bool store_each_vector(void *context, uint32_t docno, uint64_t version, const void *vector);
sem_status store_vector_walk(store_read *r, uint32_t space, uint32_t collection, store_each_vector *each, void *context,
                             sem_error *err);

/* --- writing: one thread, one group of requests, one commit */

/* Begins a group. Each operation below is all or nothing on its own; one that
 * fails leaves the group usable (except after SEM_INTERNAL). */
sem_status store_write_begin(store *s, store_write **out, sem_error *err);
/* Durable when it returns SEM_OK: spaces first, then events, then main. On an
 * error nothing of the group in main has happened. Frees w either way. */
sem_status store_write_commit(store_write *w, sem_error *err);
void store_write_abort(store_write *w); /* accepts NULL */
/* The group's own view, with the store_* reading functions; ended with the
 * group. What is borrowed from it lasts until the group's next operation. */
store_read *store_write_view(store_write *w);

typedef struct store_put {
    docid id;
    const char *text;
    size_t text_length;
    const unsigned char *meta; /* as stored: a MessagePack map, or length 0 */
    size_t meta_length;
    const float *vector; /* dim floats in `space`, unit length unless the metric is dot. NULL: the document has this
                          * text and keeps its vectors; SEM_CANCELLED if that is not so (or no more) */
    const float *second; /* in `second_space`, or NULL: embedded with a second model as well */
    store_cut cut;       /* of a document with passages: then vector is [cut.count, dim] */
    store_cut second_cut;
    /* results */
    uint32_t docno;
    uint32_t slot, second_slot; /* under which the vectors lie, new or as before */
    bool existed;
    bool repeated; /* an earlier entry of this request has the same id: not counted again */
    bool kept;     /* text and vector are as before, so is text_version: vectors in other spaces still hold */
} store_put;

/* Puts documents; an id twice: the last counts. dim and second_dim are the
 * widths of the vectors. *seq is the request's number, also the new version. */
sem_status store_documents_put(store_write *w, uint32_t collection, uint32_t space, size_t dim, uint32_t second_space,
                               size_t second_dim, store_put *docs, size_t count, uint64_t *seq, sem_error *err);

/* Deletes; docnos[count] gets the number of each document that existed (malloc'd
 * by the caller, at least count long), *deleted how many. */
sem_status store_documents_delete(store_write *w, uint32_t collection, const docid *ids, size_t count, uint32_t *docnos,
                                  size_t *deleted, uint64_t *seq, sem_error *err);

/* A delete by filter that takes several groups is noted with the first and
 * forgotten with the last; what is still noted at start was cut off by a crash. */
typedef struct store_delete {
    uint64_t number; /* given by store_delete_begin; 0: not noted */
    uint32_t collection;
    uint64_t seq;                /* documents written after it are not meant; not 0 when it is noted */
    const unsigned char *filter; /* a MessagePack map; borrowed */
    size_t filter_size;
} store_delete;
sem_status store_delete_begin(store_write *w, const store_delete *d, uint64_t *number, sem_error *err);
sem_status store_delete_end(store_write *w, uint64_t number, sem_error *err); /* no error if it is not there */
/* The first with a number above `after`; its filter lasts until the read ends. */
sem_status store_delete_next(store_read *r, uint64_t after, store_delete *out, bool *found, sem_error *err);

/* Re-embedding: sets a document's vector in a space if its text_version is
 * still `version`; *stored says whether, *slot where. */
sem_status store_vector_put(store_write *w, uint32_t space, uint32_t collection, uint32_t docno, uint64_t version,
                            const float *vector, size_t dim, bool *stored, uint32_t *slot, sem_error *err);

/* The same for a document that is cut: vectors [cut->count, dim]. */
sem_status store_passages_put(store_write *w, uint32_t space, uint32_t collection, uint32_t docno, uint64_t version,
                              const float *vectors, size_t dim, const store_cut *cut, bool *stored, sem_error *err);

/* --- vectors in place */

/* Where the packed vectors of a collection in a space lie in the map. */
typedef struct store_vectors store_vectors;

/* Any thread, outside any group of the calling thread; each to be released. The
 * store must stay open as long, the space need not. */
sem_status store_vectors_acquire(store *s, uint32_t space, uint32_t collection, size_t dim, store_vectors **out,
                                 sem_error *err);
void store_vectors_release(store_vectors *v); /* accepts NULL */
/* Block number to block_entry_row()'s entry; 0: not packed yet, or just being
 * written anew. What an entry points to stays while a read is in the space that
 * entered it before it looked. */
const block_table *store_vectors_blocks(const store_vectors *v);
store *store_vectors_store(const store_vectors *v);
/* Puts the read into the space as it is now: what is committed by now is there.
 * SEM_NOT_FOUND when the space was removed. */
sem_status store_vectors_enter(store_read *r, const store_vectors *v, sem_error *err);
/* A slot's vector as the read sees it, for one whose block has no entry: dim
 * floats and zeros up to whole lanes, not aligned. NULL: not packed, or not there.
 * Lasts until the read ends, is renewed or enters again. */
const void *store_vectors_find(store_read *r, store_vectors *v, uint32_t slot);

/* Every slot that a place names, in order of docno and of passages (ordinal counts them). vector: dim floats, borrowed
 * for the call and perhaps unaligned; NULL where it is packed. */
typedef bool store_each_slot(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot,
                             const void *vector);
sem_status store_slot_walk(store_read *r, uint32_t space, uint32_t collection, store_each_slot *each, void *context,
                           sem_error *err);

/* Packs blocks that were left unpacked, by an older format or for want of room:
 * at most `limit`; *packed how many, 0: there is none left. */
sem_status store_pack(store_write *w, size_t limit, size_t *packed, sem_error *err);
/* Whether store_pack would find something. Any thread. */
sem_status store_pack_due(store *s, bool *due, sem_error *err);

/* --- the write log */

/* The last sequence number given out. */
uint64_t store_last_seq(store_read *r);
/* Documents touched by requests after `after`, in order. */
typedef bool store_each_change(void *context, uint64_t seq, uint32_t collection, uint32_t docno, bool removed);
sem_status store_log_walk(store_read *r, uint64_t after, store_each_change *each, void *context, sem_error *err);
/* Forgets entries up to and including seq. */
sem_status store_log_trim(store_write *w, uint64_t seq, sem_error *err);

/* --- texts that are no more, for the lexical index: its rows can only be deleted
 * with the text that they were made from. Kept for collections with lexical on
 * until store_old_texts_trim. */

typedef enum old_text_kind {
    OLD_TEXT_KEPT,
    OLD_TEXT_SAME, /* the vector changed and the text did not: there is a new version of the same text */
    OLD_TEXT_LOST  /* there was no room to keep the text of a deleted document */
} old_text_kind;

typedef struct store_old_text {
    uint64_t seq; /* of the request that replaced or deleted it */
    uint32_t collection, docno;
    uint64_t version; /* text_version that the document had before */
    old_text_kind kind;
    const char *text; /* OLD_TEXT_KEPT; borrowed until the read ends or is renewed */
    size_t length;
} store_old_text;

/* Those of requests after `after` up to and including `upto`, in order of seq. */
typedef bool store_each_old_text(void *context, const store_old_text *old);
sem_status store_old_texts_walk(store_read *r, uint64_t after, uint64_t upto, store_each_old_text *each, void *context,
                                sem_error *err);
/* Forgets those of requests up to and including seq, `limit` at most; *trimmed how many. */
sem_status store_old_texts_trim(store_write *w, uint64_t seq, uint64_t limit, uint64_t *trimmed, sem_error *err);
/* Up to here log or old texts may have been forgotten: who has read less must begin anew. */
uint64_t store_trimmed_seq(store_read *r);

/* --- spaces */

/* Makes (or opens) the environment of a space outside any group. */
sem_status store_space_open(store *s, uint32_t space, size_t dim, sem_error *err);
/* Removes it with its folder, its places and the lists saved for it, outside any group of the calling
 * thread. SEM_FAILED_PRECONDITION while a read is in it. */
sem_status store_space_remove(store *s, uint32_t space, sem_error *err);
uint64_t store_space_bytes(const store *s, uint32_t space);

/* --- generations */

typedef enum generation_state {
    GENERATION_CANDIDATE, /* being embedded; not shown to clients */
    GENERATION_CURRENT,
    GENERATION_PREVIOUS,
    GENERATION_ROLLED_BACK,
    GENERATION_RETIRED
} generation_state;

typedef struct store_generation {
    uint32_t number; /* from 1 */
    uint32_t parent; /* 0: none */
    int64_t created_ms;
    generation_state state;
    char mode[8]; /* "seed", "full", "query", "load" */
    uint64_t pairs;
    uint32_t space;
    uint32_t dim;
    uint32_t job;                          /* that made it; 0: none */
    char model[STORE_MODEL_MAX + 1];       /* folder below models/ of what embeds documents, and queries where */
    char query_model[STORE_MODEL_MAX + 1]; /* is empty; else the folder of what embeds queries */
    char *metrics;                         /* JSON text or NULL; malloc'd: store_generation_free */
} store_generation;

/* The folder of what embeds queries. Borrowed. */
const char *store_generation_query_model(const store_generation *g);
/* The folders below models/ that it names, none twice: how many. Borrowed. */
enum { STORE_GENERATION_MODELS = 2 };
size_t store_generation_models(const store_generation *g, const char *names[STORE_GENERATION_MODELS]);
/* Whether it names the folder. */
bool store_generation_names(const store_generation *g, const char *model);

void store_generation_free(store_generation *g);
void store_generations_free(store_generation *list, size_t count); /* the array too */
sem_status store_generation_get(store_read *r, uint32_t number, store_generation *out, bool *found, sem_error *err);
/* The current one; *found false on a new store. */
sem_status store_generation_current(store_read *r, store_generation *out, bool *found, sem_error *err);
/* malloc'd array, ascending; to be freed by store_generations_free. */
sem_status store_generation_list(store_read *r, store_generation **out, size_t *count, sem_error *err);
sem_status store_generation_put(store_write *w, const store_generation *g, sem_error *err);
sem_status store_generation_remove(store_write *w, uint32_t number, sem_error *err);
/* Numbers for a new generation and a new space: above all ever used. space NULL: it shares another's. */
sem_status store_generation_next(store_write *w, uint32_t *generation, uint32_t *space, sem_error *err);
/* Makes `number` current; the one that was current gets `old_state`. */
sem_status store_generation_flip(store_write *w, uint32_t number, generation_state old_state, sem_error *err);

/* --- jobs: JSON texts by number */

sem_status store_job_next(store_write *w, uint32_t *number, sem_error *err);
sem_status store_job_put(store_write *w, uint32_t number, const char *json, sem_error *err);
/* malloc'd text; number 0: the latest. *found false when there is none. */
sem_status store_job_get(store_read *r, uint32_t number, uint32_t *found_number, char **json, bool *found,
                         sem_error *err);

#endif
