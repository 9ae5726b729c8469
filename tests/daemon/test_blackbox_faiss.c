/* A daemon whose lists are FAISS's: the same answers, through the same requests. */
#include "tests/daemon/blackbox.h"
#include "tests/index/clustered.h"

#include "base/random.h"

#include <unistd.h>

enum { DIM = 32, DOCS = 3000, TOPICS = 40, K = 10, BATCH = 500, PATIENCE_S = 120 };

typedef struct world {
    box b;
    float *vectors; /* [DOCS, DIM] by id */
    bool live[DOCS];
} world;

static void pack_vector(packer *p, const float *vector)
{
    pack_str(p, "vector");
    pack_bin(p, vector, DIM * sizeof *vector);
}

static const msgpack_object *call_packed(box *b, const char *method, buffer *params)
{
    sem_error error;
    box_forget_reply(b);
    ck_ok(client_call(b->client, method, params->data, params->size, BOX_TIMEOUT_MS, &b->reply, &error));
    b->has_reply = true;
    ck_assert_msg(!b->reply.is_error, "%s: %s", method, b->reply.code);
    buffer_free(params);
    return &b->reply.value;
}

static void upsert(world *w, unsigned first, unsigned count)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, "ext");
    pack_str(&p, "docs");
    pack_array(&p, count);
    for (unsigned i = first; i < first + count; i++) {
        pack_map(&p, 4);
        pack_str(&p, "id");
        pack_uint(&p, i);
        pack_str(&p, "text");
        pack_str(&p, "");
        pack_str(&p, "meta");
        pack_map(&p, 1);
        pack_str(&p, "third");
        pack_bool(&p, i % 3 == 0);
        pack_vector(&p, w->vectors + (size_t)i * DIM);
        w->live[i] = true;
    }
    call_packed(&w->b, "upsert", &params);
}

/* extra: one more parameter with a whole number, or NULL. */
static const msgpack_object *search(world *w, const char *method, const float *vector, const char *extra,
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
    return call_packed(&w->b, method, &params);
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += (double)(a[i] * b[i]);
    return sum;
}

/* How many of the hits are among the K best of those that match, which is checked of all. */
static size_t right_hits(const world *w, const msgpack_object *result, const float *query, bool filtered)
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

static void wait_for_lists(world *w)
{
    for (int i = 0; i < PATIENCE_S * 10; i++) {
        const msgpack_object *list = box_call(&w->b, "collection.list", "{}");
        for (size_t c = 0; c < box_count(list); c++) {
            const msgpack_object *index = object_get(box_at(list, c), "index");
            if (!object_is(object_get(index, "kind"), "faiss"))
                continue;
            ck_assert(object_is(object_get(index, "codes"), "IVF,SQ8"));
            ck_assert_uint_gt(box_count(object_get(index, "recall")), 3);
            return;
        }
        usleep(100000);
    }
    ck_abort_msg("no lists of FAISS within %d seconds", PATIENCE_S);
}

/* Mean recall of searches near documents. */
static double recall_of(world *w, const char *extra, uint64_t value, bool filtered)
{
    enum { QUERIES = 60 };
    size_t right = 0;
    for (unsigned i = 0; i < QUERIES; i++) {
        const float *query = w->vectors + (size_t)i * 47 * DIM;
        right += right_hits(w, search(w, "search", query, extra, value, filtered), query, filtered);
    }
    return (double)right / (QUERIES * K);
}

static void expect_all_promises(world *w)
{
    ck_assert_double_ge(recall_of(w, NULL, 0, false), 0.94); /* 0.95 is asked where nothing is */
    ck_assert_double_eq(recall_of(w, NULL, 0, true), 1.0);
    ck_assert_double_ge(recall_of(w, "nprobe", 100000, false), 0.95); /* what SQ8 leaves */
    const msgpack_object *plan = object_get(search(w, "explain", w->vectors, "nprobe", 7, false), "plan");
    ck_assert(object_is(object_get(plan, "kind"), "faiss"));
    ck_assert(object_is(object_get(plan, "codes"), "IVF,SQ8"));
    plan = object_get(search(w, "explain", w->vectors, "nprobe", 7, true), "plan");
    ck_assert(object_is(object_get(plan, "kind"), "exact"));
}

START_TEST(the_same_requests_are_answered_by_faiss)
{
    world w = {0};
    random_state random;
    if (!box_create(&w.b, "golden/tiny-bert"))
        return;
    w.b.options[0] = "index.engine=faiss";
    w.b.options[1] = "index.exact_below=500";
    box_start(&w.b);
    random_seed(&random, testing_seed());
    w.vectors = clustered_points(&random, DOCS, DIM, TOPICS, 1.2f);
    ck_assert_ptr_nonnull(w.vectors);
    box_call(&w.b, "collection.create", "{'name': 'ext', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    for (unsigned i = 0; i < DOCS / 2; i += BATCH)
        upsert(&w, i, BATCH);
    wait_for_lists(&w);
    for (unsigned i = DOCS / 2; i < DOCS; i += BATCH)
        upsert(&w, i, BATCH);
    expect_all_promises(&w);
    for (unsigned i = 0; i < DOCS; i++)
        if (i % 7 == 3) {
            box_call(&w.b, "delete", "{'collection': 'ext', 'ids': [%u]}", i);
            w.live[i] = false;
        }
    expect_all_promises(&w);
    box_stop(&w.b);
    box_start(&w.b);
    ck_assert_double_ge(recall_of(&w, NULL, 0, false), 0.94);
    wait_for_lists(&w);
    expect_all_promises(&w);
    box_stop(&w.b);
    free(w.vectors);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_faiss");
    TCase *tc = tcase_create("blackbox_faiss");
    tcase_set_timeout(tc, 280);
    tcase_add_test(tc, the_same_requests_are_answered_by_faiss);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
