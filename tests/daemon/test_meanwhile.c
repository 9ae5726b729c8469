/* A search has as many hits as it asked for, whatever is written between its snapshot, its look into an index,
 * and its answer: the linker puts functions of this file in the place of the looks into the vector index and the
 * lexical one (mk/tests.mk), which write before or after them. */
#include "tests/common/testing.h"
#include "tests/daemon/blackbox.h"
#include "tests/daemon/daemon_here.h"
#include "tests/daemon/external_docs.h"

#include "index/lexical_search.h"
#include "index/vector_index.h"

#include <stdatomic.h>

enum {
    WORKERS = 3,
    DIM = 8,
    K = 10,
    FIRST = 20,    /* documents that there are when a search comes */
    PIECE = 300,   /* that come, or go, at each look: more than a search has spare hits */
    PIECES = 6,    /* as long as that goes on, which is longer than a search takes newer snapshots */
    COMMON = 5200, /* documents with the same word: more than a frequent word is in */
    REQUEST = 1000
};

static sem_error error;
static daemon_here here;
static box b, other;                          /* only their clients; the other one's is for what is done meanwhile */
static _Atomic(void (*)(void)) before, after; /* a look; NULL: nothing is done */
static _Atomic(void (*)(void)) after_gathering;
static unsigned pieces, next_id;

static void call_one(_Atomic(void (*)(void)) *what)
{
    void (*function)(void) = atomic_load(what);
    if (function != NULL)
        function();
}

sem_status __real_vector_index_search(vector_index *v, const vector_query *query, vector_hit *hits, size_t *count,
                                      vector_plan *plan, sem_error *err);
sem_status __wrap_vector_index_search(vector_index *v, const vector_query *query, vector_hit *hits, size_t *count,
                                      vector_plan *plan, sem_error *err);
sem_status __real_lexical_gather(lexical_reader *r, const lexical_query *query, lexical_candidates **out,
                                 sem_error *err);
sem_status __wrap_lexical_gather(lexical_reader *r, const lexical_query *query, lexical_candidates **out,
                                 sem_error *err);

sem_status __wrap_vector_index_search(vector_index *v, const vector_query *query, vector_hit *hits, size_t *count,
                                      vector_plan *plan, sem_error *err)
{
    call_one(&before);
    sem_status status = __real_vector_index_search(v, query, hits, count, plan, err);
    call_one(&after);
    return status;
}

sem_status __wrap_lexical_gather(lexical_reader *r, const lexical_query *query, lexical_candidates **out,
                                 sem_error *err)
{
    sem_status status = __real_lexical_gather(r, query, out, err);
    call_one(&after_gathering);
    return status;
}

static void nothing_meanwhile(void)
{
    atomic_store(&before, NULL);
    atomic_store(&after, NULL);
    atomic_store(&after_gathering, NULL);
    pieces = 0;
}

static bool start(void)
{
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return false;
    here_start(&here, dir, WORKERS, 0);
    b.client = here.client;
    ck_ok(client_connect(&other.client, server_address(here.server, 0), HERE_PATIENCE_MS, &error));
    nothing_meanwhile();
    next_id = 0;
    return true;
}

static void stop(void)
{
    box_forget_reply(&b);
    box_forget_reply(&other);
    client_close(other.client);
    here_stop(&here);
}

/* --- external documents: near the query or far from it */

static const float NEAR[DIM] = {1}, FAR[DIM] = {0.5f, 1};

static void put_vectors(box *by, const char *collection, unsigned first, unsigned count, const float *vector,
                        const char *text)
{
    for (unsigned i = 0; i < count; i += REQUEST) {
        unsigned n = count - i < REQUEST ? count - i : REQUEST;
        buffer params = external_docs_pack(&(external_docs){
            .collection = collection, .text = text, .first = first + i, .count = n, .dim = DIM, .vectors = vector});
        box_call_packed(by, "upsert", &params);
    }
}

static size_t count_hits(const char *method, unsigned k)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 3);
    pack_str(&p, "collection");
    pack_str(&p, "vectors");
    pack_str(&p, "k");
    pack_uint(&p, k);
    pack_str(&p, "vector");
    pack_bin(&p, NEAR, sizeof NEAR);
    return box_count(object_get(box_call_packed(&b, method, &params), "hits"));
}

/* Than all before. */
static void nearer_come(void)
{
    if (pieces++ >= PIECES)
        return;
    const float vector[DIM] = {1, 0.5f / (float)pieces};
    put_vectors(&other, "vectors", next_id, PIECE, vector, NULL);
    next_id += PIECE;
}

START_TEST(search_has_k_hits_while_nearer_documents_come)
{
    static const char *const methods[] = {"search", "explain"};
    static const unsigned wanted[] = {1, K, FIRST, 2 * PIECE};
    if (!start())
        return;
    for (size_t i = 0; i < 2 * sizeof wanted / sizeof *wanted; i++) {
        box_call(&b, "collection.create", "{'name': 'vectors', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
        put_vectors(&b, "vectors", 0, FIRST, FAR, NULL);
        next_id = FIRST;
        atomic_store(&before, nearer_come);
        size_t count = count_hits(methods[i % 2], wanted[i / 2]);
        ck_assert_uint_gt(pieces, 1);
        nothing_meanwhile();
        ck_assert_uint_ge(count, wanted[i / 2] < FIRST ? wanted[i / 2] : FIRST);
        ck_assert_uint_eq(count, wanted[i / 2]); /* by then there are so many */
        box_call(&b, "collection.drop", "{'name': 'vectors'}");
    }
    stop();
}
END_TEST

static void some_go(const char *collection, unsigned count)
{
    if (pieces++ >= PIECES)
        return;
    box_delete_range(&other, collection, next_id, count);
    next_id += count;
}

static void nearest_go(void)
{
    some_go("vectors", PIECE);
}

START_TEST(search_has_k_hits_while_the_nearest_documents_go)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'vectors', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    put_vectors(&b, "vectors", 0, PIECES * PIECE, NEAR, NULL);
    put_vectors(&b, "vectors", PIECES * PIECE, FIRST, FAR, NULL);
    atomic_store(&after, nearest_go);
    ck_assert_uint_eq(count_hits("search", K), K);
    ck_assert_uint_gt(pieces, 1);
    nothing_meanwhile();
    stop();
}
END_TEST

/* --- texts */

static void same_text_comes(void)
{
    char docs[PIECE * 40];
    size_t size = 0;
    if (pieces++ >= PIECES)
        return;
    for (int i = 0; i < PIECE; i++)
        size += (size_t)snprintf(docs + size, sizeof docs - size, "%s{'id': %u, 'text': 'refund'}", i > 0 ? ", " : "",
                                 next_id++);
    box_call(&other, "upsert", "{'collection': 'notes', 'docs': [%s]}", docs);
}

/* In one snapshot, which knows none of what has come. */
START_TEST(evaluate_finds_its_documents_while_nearer_ones_come)
{
    static const char *const modes[] = {"dense", "hybrid"};
    if (!start())
        return;
    for (size_t i = 0; i < 2; i++) {
        char docs[FIRST * 64], ids[FIRST * 8];
        size_t size = 0, ids_size = 0;
        box_call(&b, "collection.create", "{'name': 'notes'}");
        for (int n = 0; n < FIRST; n++) {
            size += (size_t)snprintf(docs + size, sizeof docs - size, "%s{'id': %d, 'text': 'my card %d is lost'}",
                                     n > 0 ? ", " : "", n, n);
            ids_size += (size_t)snprintf(ids + ids_size, sizeof ids - ids_size, "%s%d", n > 0 ? ", " : "", n);
        }
        box_call(&b, "upsert", "{'collection': 'notes', 'docs': [%s]}", docs);
        next_id = FIRST;
        atomic_store(&before, same_text_comes);
        const msgpack_object *r = box_call(&b, "evaluate",
                                           "{'collection': 'notes', 'k': %d, 'mode': '%s', 'queries': [{'query': "
                                           "'refund', 'relevant': [%s]}]}",
                                           K, modes[i], ids);
        ck_assert_uint_gt(pieces, 0);
        nothing_meanwhile();
        ck_assert_double_eq(object_double(object_get(r, "ndcg"), -1), 1.0);
        box_call(&b, "collection.drop", "{'name': 'notes'}");
    }
    stop();
}
END_TEST

static void rare_go(void)
{
    some_go("vectors", K / 2);
}

/* Rare words lead to enough of them, so that the frequent one's are not looked at: until some are gone. */
START_TEST(words_find_k_documents_while_those_with_rare_ones_go)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'vectors', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    put_vectors(&b, "vectors", 0, PIECES * K / 2, FAR, "a zebra");
    put_vectors(&b, "vectors", REQUEST, COMMON, FAR, "a refund");
    atomic_store(&after_gathering, rare_go);
    const msgpack_object *r =
        box_call(&b, "search", "{'collection': 'vectors', 'mode': 'lexical', 'query': 'zebra refund', 'k': %d}", 3 * K);
    ck_assert_uint_gt(pieces, 0);
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 3 * K);
    nothing_meanwhile();
    stop();
}
END_TEST

static void texts_go(void)
{
    some_go("notes", PIECE);
}

/* The words are in none: all are found by their vectors. */
START_TEST(hybrid_search_has_k_hits_while_the_nearest_documents_go)
{
    char docs[K * 64];
    size_t size = 0;
    if (!start())
        return;
    for (int n = 0; n < K; n++)
        size += (size_t)snprintf(docs + size, sizeof docs - size, "%s{'id': %d, 'text': 'refund'}", n > 0 ? ", " : "",
                                 PIECES * PIECE + n);
    box_call(&b, "collection.create", "{'name': 'notes'}");
    while (pieces < PIECES)
        same_text_comes();
    pieces = next_id = 0;
    box_call(&b, "upsert", "{'collection': 'notes', 'docs': [%s]}", docs);
    atomic_store(&after, texts_go);
    const msgpack_object *r =
        box_call(&b, "search", "{'collection': 'notes', 'mode': 'hybrid', 'query': 'zebra', 'k': %d}", K);
    ck_assert_uint_gt(pieces, 0);
    nothing_meanwhile();
    ck_assert_uint_eq(box_count(object_get(r, "hits")), K);
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("meanwhile");
    TCase *t = tcase_create("meanwhile");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, search_has_k_hits_while_nearer_documents_come);
    tcase_add_test(t, search_has_k_hits_while_the_nearest_documents_go);
    tcase_add_test(t, evaluate_finds_its_documents_while_nearer_ones_come);
    tcase_add_test(t, words_find_k_documents_while_those_with_rare_ones_go);
    tcase_add_test(t, hybrid_search_has_k_hits_while_the_nearest_documents_go);
    suite_add_tcase(s, t);
    return testing_run(s);
}
