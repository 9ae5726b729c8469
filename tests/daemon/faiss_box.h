/* A daemon with a collection of vectors that a test made up, and what is true of it. */
#ifndef SEM_TESTS_DAEMON_FAISS_BOX_H
#define SEM_TESTS_DAEMON_FAISS_BOX_H

#include "tests/daemon/blackbox.h"
#include "tests/daemon/external_docs.h"
#include "tests/index/clustered.h"

#include <unistd.h>

enum { DIM = 32, DOCS = 3000, TOPICS = 40, K = 10, BATCH = 500, PATIENCE_S = 120 };

typedef struct faiss_box {
    box b;
    float *vectors; /* [DOCS, DIM] by id */
    bool live[DOCS];
} faiss_box;

static inline void pack_vector(packer *p, const float *vector)
{
    pack_str(p, "vector");
    pack_bin(p, vector, DIM * sizeof *vector);
}

static inline void third_of(packer *p, unsigned id)
{
    pack_str(p, "third");
    pack_bool(p, id % 3 == 0);
}

static inline void upsert(faiss_box *w, unsigned first, unsigned count)
{
    buffer params = external_docs_pack(&(external_docs){.collection = "ext",
                                                        .first = first,
                                                        .count = count,
                                                        .dim = DIM,
                                                        .vectors = w->vectors + (size_t)first * DIM,
                                                        .stride = DIM,
                                                        .meta = third_of});
    box_call_packed(&w->b, "upsert", &params);
    for (unsigned i = first; i < first + count; i++)
        w->live[i] = true;
}

/* extra: one more parameter, exact or one with a whole number; or NULL. */
static inline const msgpack_object *search(faiss_box *w, const char *method, const float *vector, const char *extra,
                                           uint64_t value, bool filtered)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 3u + (extra != NULL) + filtered);
    pack_str(&p, "collection");
    pack_str(&p, "ext");
    pack_str(&p, "k");
    pack_uint(&p, K);
    pack_vector(&p, vector);
    if (extra != NULL) {
        pack_str(&p, extra);
        if (strcmp(extra, "exact") == 0)
            pack_bool(&p, true);
        else
            pack_uint(&p, value);
    }
    if (filtered) {
        pack_str(&p, "filter");
        pack_map(&p, 2);
        pack_str(&p, "field");
        pack_str(&p, "third");
        pack_str(&p, "eq");
        pack_bool(&p, true);
    }
    return box_call_packed(&w->b, method, &params);
}

static inline double dot(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += (double)(a[i] * b[i]);
    return sum;
}

/* How many of the hits are among the K best of those that match, which is checked of all. */
static inline size_t right_hits(const faiss_box *w, const msgpack_object *result, const float *query, bool filtered)
{
    const msgpack_object *hits = object_get(result, "hits");
    size_t right = 0;
    ck_assert_uint_eq(box_count(hits), K);
    for (size_t i = 0; i < K; i++) {
        uint64_t id = object_uint(object_get(box_at(hits, i), "id"), DOCS);
        double score = object_double(object_get(box_at(hits, i), "score"), 0);
        ck_assert_uint_lt(id, DOCS);
        ck_assert(w->live[id]);
        ck_assert(!filtered || id % 3 == 0);
        ck_assert_double_eq_tol(score, dot(w->vectors + id * DIM, query), 1e-5);
        size_t nearer = 0;
        for (size_t d = 0; d < DOCS; d++)
            nearer += w->live[d] && (!filtered || d % 3 == 0) && dot(w->vectors + d * DIM, query) > score + 1e-6;
        right += nearer < K;
    }
    return right;
}

static inline void delete_some(faiss_box *w)
{
    for (unsigned i = 3; i < DOCS; i += 7) {
        box_call(&w->b, "delete", "{'collection': 'ext', 'ids': [%u]}", i);
        w->live[i] = false;
    }
}

/* Starts it with these options besides and makes the collection, empty. False: skipped. */
static inline bool faiss_box_start(faiss_box *w, const char *const *options, size_t count)
{
    random_state random;
    memset(w, 0, sizeof *w);
    if (!box_create(&w->b, "golden/tiny-bert"))
        return false;
    w->b.options[0] = "index.exact_below=500";
    for (size_t i = 0; i < count; i++)
        w->b.options[1 + i] = options[i];
    box_start(&w->b);
    random_seed(&random, testing_seed());
    w->vectors = clustered_points(&random, DOCS, DIM, TOPICS, 1.2f);
    ck_assert_ptr_nonnull(w->vectors);
    box_call(&w->b, "collection.create", "{'name': 'ext', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    return true;
}

static inline void wait_for_lists(faiss_box *w, const char *kind, const char *codes)
{
    for (int i = 0; i < PATIENCE_S * 10; i++) {
        const msgpack_object *index = object_get(box_collection(&w->b, "ext"), "index");
        if (object_is(object_get(index, "kind"), kind)) {
            ck_assert(object_is(object_get(index, "codes"), codes));
            ck_assert_uint_gt(box_count(object_get(index, "recall")), 3);
            return;
        }
        usleep(100000);
    }
    ck_abort_msg("no lists within %d seconds", PATIENCE_S);
}

#endif
