/* Documents with several vectors, one for each passage: in the index and in the store. */
#include "tests/index/clustered.h"
#include "tests/index/store_fixture.h"

#include "base/random.h"
#include "index/vector_index.h"

#include <math.h>

static sem_error error;

enum { WIDTH = 32, DOCUMENTS = 3000, MOST = 12, K = 20 };

typedef struct world {
    random_state random;
    bool dot; /* the metric: then vectors have any length */
    vector_index *index;
    float *vectors; /* [DOCUMENTS, MOST, WIDTH] */
    size_t counts[DOCUMENTS];
} world;

static float *vector_of(world *w, uint32_t docno, size_t i)
{
    return w->vectors + ((size_t)docno * MOST + i) * WIDTH;
}

/* Of unit length, or for metric dot of half to one and a half. */
static void set_length(world *w, float *v)
{
    const float length = w->dot ? 0.5f + (float)random_unit(&w->random) : 1;
    clustered_normalise(v, WIDTH);
    for (size_t i = 0; i < WIDTH; i++)
        v[i] *= length;
}

static void make_vector(world *w, float *out)
{
    for (size_t i = 0; i < WIDTH; i++)
        out[i] = (float)random_unit(&w->random) - 0.5f;
    set_length(w, out);
}

/* A document's passages are near each other, so that they crowd the best rows. */
static void put(world *w, uint32_t docno, size_t count)
{
    make_vector(w, vector_of(w, docno, 0));
    for (size_t i = 1; i < count; i++) {
        float *v = vector_of(w, docno, i);
        for (size_t k = 0; k < WIDTH; k++)
            v[k] = vector_of(w, docno, 0)[k] + 0.05f * ((float)random_unit(&w->random) - 0.5f);
        set_length(w, v);
    }
    w->counts[docno] = count;
    ck_ok(vector_index_put_passages(w->index, docno, NULL, vector_of(w, docno, 0), count, &error));
}

/* Every engine with every metric. */
enum { KINDS = 4 };

static world make_world(int kind)
{
    world w = {.dot = kind / 2 == 1, .vectors = calloc((size_t)DOCUMENTS * MOST, WIDTH * sizeof(float))};
    ck_assert_ptr_nonnull(w.vectors);
    random_seed(&w.random, testing_seed());
    vector_index_options options = {.dim = WIDTH,
                                    .metric = w.dot ? METRIC_DOT : METRIC_COSINE,
                                    .exact_below = 1000,
                                    .threads = 1,
                                    .engine = kind % 2 == 1 ? VECTOR_ENGINE_FAISS : VECTOR_ENGINE_SEMD};
    ck_ok(vector_index_create(&w.index, &options, &error));
    for (uint32_t d = 0; d < DOCUMENTS; d++)
        put(&w, d, 1 + (size_t)random_below(&w.random, MOST));
    return w;
}

static void end_world(world *w)
{
    vector_index_destroy(w->index);
    free(w->vectors);
}

static float best_score(world *w, uint32_t docno, const float *query)
{
    float best = -2;
    for (size_t i = 0; i < w->counts[docno]; i++) {
        float dot = 0;
        for (size_t k = 0; k < WIDTH; k++)
            dot += query[k] * vector_of(w, docno, i)[k];
        best = dot > best ? dot : best;
    }
    return best;
}

/* Documents that score higher than the last hit and are no hit. */
static size_t missed(world *w, const float *query, const vector_hit *hits, size_t count, const uint64_t *allowed)
{
    size_t missed = 0;
    for (uint32_t d = 0; d < DOCUMENTS; d++) {
        bool hit = false;
        for (size_t i = 0; i < count; i++)
            hit = hit || hits[i].docno == d;
        if (!hit && w->counts[d] > 0 && (allowed == NULL || (allowed[d / 64] >> d % 64 & 1) != 0))
            missed += best_score(w, d, query) > hits[count - 1].score + 1e-5f;
    }
    return missed;
}

static size_t search(world *w, vector_query *q, vector_hit *hits)
{
    float query[WIDTH];
    size_t count;
    make_vector(w, query);
    q->vector = query;
    q->k = K;
    ck_ok(vector_index_search(w->index, q, hits, &count, NULL, &error));
    ck_assert_uint_eq(count, K);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(hits[i].docno, hits[j].docno);
        ck_assert_float_eq_tol(hits[i].score, best_score(w, hits[i].docno, query), 1e-5f);
        ck_assert(i == 0 || hits[i].score <= hits[i - 1].score);
    }
    return missed(w, query, hits, count, q->allowed);
}

static void expect_right(world *w)
{
    vector_hit hits[K];
    size_t lost = 0;
    ck_assert_uint_eq(search(w, &(vector_query){.exact = true}, hits), 0);
    for (int i = 0; i < 20; i++)
        lost += search(w, &(vector_query){.recall = 0.99}, hits);
    ck_assert_uint_le(lost, 20 * K / 20);
    uint64_t allowed[DOCUMENTS / 64 + 1] = {0};
    for (uint32_t d = 0; d < DOCUMENTS; d += 17)
        allowed[d / 64] |= UINT64_C(1) << d % 64;
    ck_assert_uint_eq(search(w, &(vector_query){.exact = true, .allowed = allowed, .allowed_bits = DOCUMENTS}, hits),
                      0);
    for (size_t i = 0; i < K; i++)
        ck_assert_uint_eq(hits[i].docno % 17, 0);
    vector_query without = {.exact = true, .has_exclude = true, .exclude = hits[0].docno};
    ck_assert_uint_le(search(w, &without, hits), 1);
}

START_TEST(hits_are_documents_by_their_best_passage)
{
    world w = make_world(_i);
    size_t passages = 0;
    for (uint32_t d = 0; d < DOCUMENTS; d++)
        passages += w.counts[d];
    ck_assert_uint_eq(vector_index_count(w.index), DOCUMENTS);
    ck_assert_uint_eq(vector_index_passages(w.index), passages);
    expect_right(&w);
    ck_ok(vector_index_train(w.index, NULL, &error));
    expect_right(&w);
    end_world(&w);
}
END_TEST

START_TEST(replaced_and_removed_documents_lose_all_their_passages)
{
    world w = make_world(_i);
    ck_ok(vector_index_train(w.index, NULL, &error));
    size_t passages = 0, documents = 0;
    for (uint32_t d = 0; d < DOCUMENTS; d++) {
        if (d % 3 == 0) {
            vector_index_remove(w.index, d);
            w.counts[d] = 0;
        } else {
            put(&w, d, 1 + (size_t)random_below(&w.random, MOST));
        }
        passages += w.counts[d];
        documents += w.counts[d] > 0;
    }
    /* What is filtered below is there again. */
    for (uint32_t d = 0; d < DOCUMENTS; d += 51) {
        put(&w, d, 3);
        passages += 3;
        documents++;
    }
    expect_right(&w);
    for (int i = 0; i < 3 && vector_index_wants_training(w.index); i++)
        ck_ok(vector_index_train(w.index, NULL, &error)); /* leaves dead rows behind */
    ck_assert_uint_eq(vector_index_count(w.index), documents);
    ck_assert_uint_eq(vector_index_passages(w.index), passages);
    expect_right(&w);
    end_world(&w);
}
END_TEST

START_TEST(few_long_documents_are_all_found)
{
    world w = make_world(_i);
    for (uint32_t d = 0; d < DOCUMENTS; d++) {
        vector_index_remove(w.index, d);
        w.counts[d] = 0;
    }
    for (uint32_t d = 0; d < K; d++)
        put(&w, d, d == 0 ? MOST : 1); /* asking for K rows would find one document many times */
    vector_hit hits[K];
    ck_assert_uint_eq(search(&w, &(vector_query){.recall = 0.9}, hits), 0);
    end_world(&w);
}
END_TEST

/* --- in the store */

static store *s;

static uint32_t make_cut_collection(void)
{
    store_write *w;
    bool created;
    store_collection c = {.name = "long", .passage_tokens = 64, .passage_overlap = 8};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_collection_create(w, &c, &created, &error));
    ck_ok(store_write_commit(w, &error));
    return c.number;
}

static store_put put_cut(uint32_t c, const char *text, const float *vectors, const store_range *ranges, size_t count,
                         uint32_t *slots)
{
    store_write *w;
    uint64_t seq;
    store_put put = {.id = {.is_integer = true, .integer = 7},
                     .text = text,
                     .text_length = strlen(text),
                     .vector = vectors,
                     .cut = {.ranges = ranges, .slots = slots, .count = count}};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    return put;
}

static size_t count_passages(uint32_t c, uint32_t docno, const float *vectors, const store_range *ranges)
{
    store_read *r;
    bool found = true;
    size_t count = 0;
    ck_ok(store_read_begin(s, &r, &error));
    for (; found; count++) {
        float v[DIM];
        store_passage p;
        ck_ok(store_passage_get(r, SPACE, c, docno, count, v, DIM, &p, &found, &error));
        if (!found)
            break;
        ck_assert(memcmp(v, vectors + count * DIM, sizeof v) == 0);
        ck_assert(p.range.from == ranges[count].from && p.range.to == ranges[count].to);
    }
    store_read_end(r);
    return count;
}

START_TEST(passages_are_kept_replaced_and_deleted_with_their_document)
{
    static const float vectors[] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
    static const store_range ranges[] = {{0, 10}, {8, 20}, {21, 30}}, other[] = {{0, 10}, {8, 20}, {22, 30}};
    uint32_t slots[3], again[3];
    s = open_with(MAP, 0);
    name_spaces(s);
    uint32_t c = make_cut_collection();
    store_put first = put_cut(c, "a text", vectors, ranges, 3, slots);
    ck_assert(slots[0] != slots[1] && slots[1] != slots[2]);
    ck_assert_uint_eq(count_passages(c, first.docno, vectors, ranges), 3);
    store_put same = put_cut(c, "a text", vectors, ranges, 3, again);
    ck_assert(same.kept && memcmp(slots, again, sizeof slots) == 0);
    ck_assert(!put_cut(c, "a text", vectors, other, 3, again).kept);
    ck_assert(!put_cut(c, "a text", vectors, ranges, 2, again).kept);
    ck_assert_uint_eq(count_passages(c, first.docno, vectors, ranges), 2);
    store_close(s);
    s = open_with(MAP, 0);
    ck_assert_uint_eq(count_passages(c, first.docno, vectors, ranges), 2);
    store_write *w;
    uint32_t docno;
    size_t deleted;
    uint64_t seq;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_delete(w, c, &first.id, 1, &docno, &deleted, &seq, &error));
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(deleted, 1);
    ck_assert_uint_eq(count_passages(c, first.docno, vectors, ranges), 0);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("passages");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, hits_are_documents_by_their_best_passage, 0, KINDS);
    tcase_add_loop_test(c, replaced_and_removed_documents_lose_all_their_passages, 0, KINDS);
    tcase_add_loop_test(c, few_long_documents_are_all_found, 0, KINDS);
    tcase_add_test(c, passages_are_kept_replaced_and_deleted_with_their_document);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
