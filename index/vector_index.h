/* Nearest documents of one collection in one space: float32 rows, exact search below
 * a threshold, above it inverted lists over k-means cells that are searched in three
 * stages: one bit a dimension, four bits, float32 (docs/index.md); or those of FAISS.
 *
 * Who owns what:
 * - The writer, one thread at a time, puts and removes. It owns the newest end
 *   of the rows and of the lists in use, and the map from documents to rows.
 * - The index thread, one at a time, trains. It owns the lists that it is
 *   making and, when it compacts, the copy of the rows; both are nobody else's
 *   until they are swapped in.
 * - Any number of threads search. A search takes the rows and lists of the
 *   moment and keeps them alive by a reference count until it ends.
 * Writer and index thread meet in one lock (rank 1), which the writer holds for
 * each put or remove, and the index thread for the swap: one pointer, and after
 * a compaction also the few rows that came since it last looked and one pass
 * over the row numbers. Searches take only the lock on the pointer (rank 2,
 * under rank 1), for a few instructions. */
#ifndef SEM_INDEX_VECTOR_INDEX_H
#define SEM_INDEX_VECTOR_INDEX_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct vector_index vector_index;

/* Who searches above exact_below: our lists, or FAISS (faiss_cells.h). */
typedef enum vector_engine { VECTOR_ENGINE_SEMD, VECTOR_ENGINE_FAISS } vector_engine;
/* How FAISS keeps rows: IVF,SQ8 or IVF,Flat. */
typedef enum vector_faiss_type { VECTOR_FAISS_SQ8, VECTOR_FAISS_FLAT } vector_faiss_type;

typedef struct vector_index_options {
    size_t dim;
    store *store;               /* that has the vectors, and stays open longer; NULL: they are copied to memory */
    uint32_t space, collection; /* of these, with a store */
    const char *cache;          /* the file that lists are saved in and loaded from (copied), with a store; or NULL */
    store_metric metric;
    size_t exact_below; /* live rows under which search is exact */
    unsigned threads;   /* OpenMP threads that training may use */
    vector_engine engine;
    vector_faiss_type faiss_type; /* of that engine, and of what is exported */
} vector_index_options;

sem_status vector_index_create(vector_index **out, const vector_index_options *options, sem_error *err);
void vector_index_destroy(vector_index *v); /* accepts NULL; nothing may be under way */

/* Without a store: the document's vector (dim floats, copied); an older one of the same
 * docno is replaced in one step. Writer only. */
sem_status vector_index_put(vector_index *v, uint32_t docno, const float *vector, sem_error *err);
/* The same with a store, where it lies under a slot. It is copied only until it is
 * packed; NULL: it is. */
sem_status vector_index_put_slot(vector_index *v, uint32_t docno, uint32_t slot, const float *vector, sem_error *err);
/* The same for a document of several passages: vectors [count, dim] and their slots
 * (NULL without a store). Searches see all of the old ones or all of the new. */
sem_status vector_index_put_passages(vector_index *v, uint32_t docno, const uint32_t *slots, const float *vectors,
                                     size_t count, sem_error *err);
/* One more passage of the document that was put last, while the index is filled and
 * nobody searches; slot and vector as in vector_index_put_slot. */
sem_status vector_index_extend(vector_index *v, uint32_t docno, uint32_t slot, const float *vector, sem_error *err);
/* No effect if there is none. Writer only. */
void vector_index_remove(vector_index *v, uint32_t docno);
size_t vector_index_count(const vector_index *v); /* live documents */
/* Their passages: as many, where none was put with several. Any thread. */
size_t vector_index_passages(vector_index *v);
size_t vector_index_dim(const vector_index *v);

/* A document by its best passage. */
typedef struct vector_hit {
    uint32_t docno;
    uint32_t row;  /* within the index: means nothing once the search is over */
    uint32_t slot; /* where the vector of that passage lies, if some document has several */
    float score;
} vector_hit;

/* Documents that a filter leaves: so few are compared one by one, whatever the lists are. */
enum { VECTOR_LISTED_MAX = 2048 };

typedef struct vector_query {
    const float *vector; /* dim floats; unit length for cosine */
    size_t k;
    bool exact;
    size_t nprobe;    /* 0: chosen from recall */
    double recall;    /* target, e.g. 0.95; used when nprobe is 0 and not exact */
    bool has_exclude; /* leave this document out */
    uint32_t exclude;
    store_read *read;        /* of the store that has the vectors; NULL for an index in memory */
    const uint64_t *allowed; /* bitmap over docnos, or NULL: all */
    size_t allowed_bits;     /* docnos at or above it are not allowed */
    size_t allowed_count;    /* bits of it that are set; 0: to be counted */
    const uint32_t *listed;  /* instead of it: few documents, ascending, which are all compared */
    size_t listed_count;
    /* Orders documents of equal score by their ids: <0 if a comes first. */
    int (*tie)(void *context, uint32_t a, uint32_t b);
    void *tie_context;
} vector_query;

/* How a search was done, for people who wonder at it. */
typedef struct vector_plan {
    const char *kind;   /* "exact", "ivf" or "faiss"; static */
    const char *codes;  /* as vector_index_stats has it; static */
    const char *reason; /* why that one; a few words, static */
    size_t lists;       /* cells in the index; 0 when exact */
    size_t probed;
    size_t scanned;                      /* rows compared in the first stage */
    size_t candidates;                   /* of these, those that were compared again, more exactly */
    size_t by_bits, by_codes, by_floats; /* rows compared by one bit a dimension, by four (FAISS: eight), and exactly */
    size_t documents;                    /* live ones */
    size_t allowed;                      /* of these, what the filter leaves; the same without one */
    uint64_t coarse_ns, scan_ns, rank_ns; /* comparing with the cells, with the rows, and the rest */
    uint64_t nibbles_ns, floats_ns;       /* parts of rank_ns: the second and the third stage */
} vector_plan;

/* hits[k] gets the best documents, best first, ties by `tie`; *count how many.
 * plan may be NULL. With a filter recall is not lowered: rare conditions are
 * searched exactly. */
sem_status vector_index_search(vector_index *v, const vector_query *query, vector_hit *hits, size_t *count,
                               vector_plan *plan, sem_error *err);

typedef struct vector_index_stats {
    const char *kind; /* "exact", "ivf" or "faiss" */
    size_t nlist;
    const char *codes;     /* "float32", with lists "1-bit, 4-bit, float32", with FAISS "IVF,SQ8" or "IVF,Flat" */
    int64_t trained_at_ms; /* 0: never */
    size_t queries;        /* that recall was measured with */
    size_t logged;         /* of these, queries that were asked; the others are documents */
    size_t splits, merges; /* cells that were split or given up between trainings, since the index was created */
    size_t curve_points;
    struct {
        size_t nprobe;
        double recall;
    } curve[16]; /* measured recall@10 */
} vector_index_stats;

void vector_index_describe(vector_index *v, vector_index_stats *out);

/* Queries that were asked, for recall to be measured with them too: called only when it is about
 * to be measured, on the thread that trains. Puts [count, dim] floats, malloc'd and the caller's,
 * into *out and returns count, 0 where there are none. Those behind the first VECTOR_QUERIES_MAX
 * do not count, nor one that is not finite. */
enum { VECTOR_QUERIES_MAX = 1000 };
typedef size_t vector_queries(void *context, float **out);

typedef struct vector_training {
    const atomic_bool *cancel; /* may be NULL */
    sem_log *log;              /* may be NULL */
    vector_queries *queries;   /* may be NULL: documents alone are queries */
    void *context;             /* of queries */
} vector_training;

/* Frees memory of vectors that the store has packed. Index thread only. */
void vector_index_settle(vector_index *v);

/* Queries are made in another way from now on: recall, where it was measured, is measured anew. Any thread. */
void vector_index_queries_changed(vector_index *v);

/* Whether training would pay: enough rows and no lists, growth or drift since
 * k-means, many rows behind the lists, many dead rows, or cells that are far too
 * full or empty. Any thread. */
bool vector_index_wants_training(vector_index *v);
/* Loads saved lists where that was not tried yet and there are documents enough: what training would
 * begin with, so that an index need not wait for the training of another. Index thread only. */
sem_status vector_index_load(vector_index *v, sem_log *log, sem_error *err);
/* Does what is due, at once: loads saved lists, the first time; leaves dead rows
 * behind; trains k-means (spherical, FAISS), packs the cells there are anew, or
 * splits and merges some of them; measures the recall curve where it may have
 * moved; swaps the result in. Nothing due: nothing done. One call may leave
 * something due (ask again), no call changes what a search finds exactly. Index
 * thread only. *how->cancel set: returns SEM_CANCELLED and the index is as before.
 * how NULL: all of it is. */
sem_status vector_index_train(vector_index *v, const vector_training *how, sem_error *err);

#endif
