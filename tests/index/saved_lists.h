/* Lists that are saved and found again: documents in a store, an index over them as a start
 * makes it, and what must be true of its answers. */
#ifndef SEM_TESTS_INDEX_SAVED_LISTS_H
#define SEM_TESTS_INDEX_SAVED_LISTS_H

#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "base/files.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_error error;

enum { N = 4000, MORE = 300, DIM = 32, TOPICS = 40, K = 10, QUERIES = 100, MOST = 4 };

typedef struct place_here {
    store *store;
    vector_engine engine;
    vector_faiss_type type;
    store_metric metric;
    uint32_t collection;
    float *vectors; /* [N + MORE, MOST, DIM] by id, which is the docno too */
    bool live[N + MORE];
    size_t passages; /* of a document, at most; 0: documents are not cut */
    size_t counts[N + MORE];
    bool crowded; /* what is put lies near document 0 */
    random_state random;
    float *centres;
    char cache[FILES_PATH_MAX];
} place_here;

static inline float *vector_of(place_here *p, uint64_t n, size_t i)
{
    return p->vectors + (n * MOST + i) * DIM;
}

/* Of unit length, or for metric dot of half to one and a half. */
static inline void make_vector(place_here *p, bool crowded, float *out)
{
    const float *topic = p->centres + random_below(&p->random, TOPICS) * DIM;
    clustered_point(&p->random, crowded ? vector_of(p, 0, 0) : topic, DIM, crowded ? 0.1f : 0.5f, out);
    float length = p->metric == METRIC_DOT ? 0.5f + (float)random_unit(&p->random) : 1;
    for (size_t i = 0; i < DIM; i++)
        out[i] *= length;
}

static inline void put(place_here *p, uint64_t from, uint64_t to)
{
    static const store_range ranges[MOST] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
    uint32_t slots[MOST];
    store_write *w;
    uint64_t seq;
    ck_ok(store_write_begin(p->store, &w, &error));
    for (uint64_t n = from; n < to; n++) {
        p->counts[n] = p->passages > 0 ? 1 + (size_t)random_below(&p->random, p->passages) : 1;
        for (size_t i = 0; i < p->counts[n]; i++)
            make_vector(p, p->crowded, vector_of(p, n, i));
        store_put put = {
            .id = {.is_integer = true, .integer = n}, .text = "text", .text_length = 4, .vector = vector_of(p, n, 0)};
        if (p->passages > 0)
            put.cut = (store_cut){.ranges = ranges, .slots = slots, .count = p->counts[n]};
        ck_ok(store_documents_put(w, p->collection, STORE_SPACE_EXTERNAL, DIM, 0, 0, &put, 1, &seq, &error));
        ck_assert_uint_eq(put.docno, n);
        p->live[n] = true;
    }
    ck_ok(store_write_commit(w, &error));
}

static inline void erase(place_here *p, uint64_t n)
{
    store_write *w;
    docid id = {.is_integer = true, .integer = n};
    uint32_t docno;
    size_t deleted;
    uint64_t seq;
    ck_ok(store_write_begin(p->store, &w, &error));
    ck_ok(store_documents_delete(w, p->collection, &id, 1, &docno, &deleted, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    p->live[n] = false;
}

/* Whose lists, and of which vectors: what a loop test's number means. */
enum { OURS, FAISS, OURS_DOT, FAISS_DOT, KINDS };

static inline void setup(place_here *p, int kind, size_t passages)
{
    char path[FILES_PATH_MAX];
    store_write *w;
    bool created;
    memset(p, 0, sizeof *p);
    p->engine = kind == FAISS || kind == FAISS_DOT ? VECTOR_ENGINE_FAISS : VECTOR_ENGINE_SEMD;
    p->metric = kind == OURS_DOT || kind == FAISS_DOT ? METRIC_DOT : METRIC_COSINE;
    store_collection c = {.name = "outside", .external = true, .dim = DIM, .metric = p->metric};
    p->passages = passages;
    random_seed(&p->random, testing_seed());
    p->centres = clustered_centres(&p->random, TOPICS, DIM);
    p->vectors = calloc((N + MORE) * MOST * DIM, sizeof *p->vectors);
    ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    ck_ok(files_join(p->cache, &error, "%s/saved.lists", testing_folder()));
    store_options options = {.path = path, .map_size = 256 << 20};
    ck_ok(store_open(&p->store, &options, NULL, &error));
    ck_ok(store_write_begin(p->store, &w, &error));
    ck_ok(store_collection_create(w, &c, &created, &error));
    ck_ok(store_write_commit(w, &error));
    p->collection = c.number;
    put(p, 0, N);
}

static inline void teardown(place_here *p)
{
    store_close(p->store);
    free(p->centres);
    free(p->vectors);
}

static inline bool fill_one(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot,
                            const void *vector)
{
    float copy[DIM];
    (void)version;
    if (vector != NULL)
        memcpy(copy, vector, sizeof copy);
    const float *given = vector != NULL ? copy : NULL;
    return (ordinal == 0 ? vector_index_put_slot(context, docno, slot, given, &error)
                         : vector_index_extend(context, docno, slot, given, &error)) == SEM_OK;
}

/* An index as a start makes it. */
static inline vector_index *start(place_here *p)
{
    vector_index *v;
    store_read *r;
    vector_index_options options = {.dim = DIM,
                                    .store = p->store,
                                    .space = STORE_SPACE_EXTERNAL,
                                    .collection = p->collection,
                                    .cache = p->cache,
                                    .metric = p->metric,
                                    .engine = p->engine,
                                    .faiss_type = p->type,
                                    .exact_below = 1000,
                                    .threads = 1};
    ck_ok(vector_index_create(&v, &options, &error));
    ck_ok(store_read_begin(p->store, &r, &error));
    ck_ok(store_slot_walk(r, STORE_SPACE_EXTERNAL, p->collection, fill_one, v, &error));
    store_read_end(r);
    return v;
}

static inline vector_index_stats stats_of(const place_here *p, vector_index *v)
{
    vector_index_stats stats;
    vector_index_describe(v, &stats);
    ck_assert_str_eq(stats.kind, p->engine == VECTOR_ENGINE_FAISS ? "faiss" : "ivf");
    return stats;
}

static inline void train(vector_index *v)
{
    for (int i = 0; i < 4 && vector_index_wants_training(v); i++)
        ck_ok(vector_index_train(v, NULL, &error));
    ck_assert(!vector_index_wants_training(v));
}

static inline int64_t trained_at(const place_here *p, vector_index *v)
{
    return stats_of(p, v).trained_at_ms;
}

/* Has the place's lists trained and saved; when. The next ones are younger by the clock of
 * trained_at, which has milliseconds. */
static inline int64_t save_lists(place_here *p)
{
    vector_index *v = start(p);
    train(v);
    int64_t at = trained_at(p, v);
    vector_index_destroy(v);
    usleep(2000);
    return at;
}

static inline double best_score(place_here *p, const float *query, uint32_t docno)
{
    double best = -2;
    for (size_t i = 0; i < p->counts[docno]; i++) {
        double score = 0;
        for (size_t d = 0; d < DIM; d++)
            score += (double)(query[d] * vector_of(p, docno, i)[d]);
        best = score > best ? score : best;
    }
    return best;
}

static inline void check_passages(place_here *p, vector_index *v)
{
    size_t passages = 0;
    for (size_t n = 0; n < N + MORE; n++)
        passages += p->live[n] ? p->counts[n] : 0;
    ck_assert_uint_eq(vector_index_passages(v), passages);
}

/* Every hit lives and has the score of its vector; what is missed of the nearest is little. */
static inline void check_search(place_here *p, vector_index *v)
{
    store_read *r;
    size_t found = 0;
    ck_ok(store_read_begin(p->store, &r, &error));
    for (int i = 0; i < QUERIES; i++) {
        float query[DIM];
        vector_hit exact[K], hits[K];
        size_t exact_count, count;
        make_vector(p, false, query);
        vector_query q = {.vector = query, .k = K, .recall = 0.95, .read = r};
        ck_ok(vector_index_search(v, &q, hits, &count, NULL, &error));
        q.exact = true;
        ck_ok(vector_index_search(v, &q, exact, &exact_count, NULL, &error));
        ck_assert_uint_eq(count, K);
        for (size_t h = 0; h < K; h++) {
            ck_assert(p->live[hits[h].docno] && p->live[exact[h].docno]);
            ck_assert_double_eq_tol(best_score(p, query, hits[h].docno), (double)hits[h].score, 1e-5);
            for (size_t e = 0; e < K; e++)
                found += exact[e].docno == hits[h].docno;
        }
    }
    store_read_end(r);
    ck_assert_uint_ge(found, QUERIES * K * 9 / 10);
}

/* Not used, but made anew, at which it is written again; returns when. */
static inline int64_t expect_unused(place_here *p, int64_t before)
{
    usleep(2000); /* the clock of trained_at has milliseconds */
    vector_index *v = start(p);
    ck_assert(vector_index_wants_training(v));
    ck_ok(vector_index_train(v, NULL, &error));
    int64_t at = trained_at(p, v);
    ck_assert_msg(at > before, "a file was used that should not be");
    check_search(p, v);
    vector_index_destroy(v);
    return at;
}

#endif
