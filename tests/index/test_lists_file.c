/* Saved lists: a start goes on with them, and what has changed since is right. */
#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "base/files.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 4000, MORE = 300, DIM = 32, TOPICS = 40, K = 10, QUERIES = 100, MOST = 4 };

typedef struct place_here {
    store *store;
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

static sem_error error;

static float *vector_of(place_here *p, uint64_t n, size_t i)
{
    return p->vectors + (n * MOST + i) * DIM;
}

static void put(place_here *p, uint64_t from, uint64_t to)
{
    static const store_range ranges[MOST] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
    uint32_t slots[MOST];
    store_write *w;
    uint64_t seq;
    ck_ok(store_write_begin(p->store, &w, &error));
    for (uint64_t n = from; n < to; n++) {
        p->counts[n] = p->passages > 0 ? 1 + (size_t)random_below(&p->random, p->passages) : 1;
        for (size_t i = 0; i < p->counts[n]; i++) {
            const float *topic = p->centres + random_below(&p->random, TOPICS) * DIM;
            clustered_point(&p->random, p->crowded ? vector_of(p, 0, 0) : topic, DIM, p->crowded ? 0.1f : 0.5f,
                            vector_of(p, n, i));
        }
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

static void erase(place_here *p, uint64_t n)
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

static void setup(place_here *p, size_t passages)
{
    char path[FILES_PATH_MAX];
    store_write *w;
    bool created;
    store_collection c = {.name = "outside", .external = true, .dim = DIM};
    memset(p, 0, sizeof *p);
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

static void teardown(place_here *p)
{
    store_close(p->store);
    free(p->centres);
    free(p->vectors);
}

static bool fill_one(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot, const void *vector)
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
static vector_index *start(place_here *p)
{
    vector_index *v;
    store_read *r;
    vector_index_options options = {.dim = DIM,
                                    .store = p->store,
                                    .space = STORE_SPACE_EXTERNAL,
                                    .collection = p->collection,
                                    .cache = p->cache,
                                    .exact_below = 1000,
                                    .threads = 1};
    ck_ok(vector_index_create(&v, &options, &error));
    ck_ok(store_read_begin(p->store, &r, &error));
    ck_ok(store_slot_walk(r, STORE_SPACE_EXTERNAL, p->collection, fill_one, v, &error));
    store_read_end(r);
    return v;
}

static vector_index_stats stats_of(vector_index *v)
{
    vector_index_stats stats;
    vector_index_describe(v, &stats);
    ck_assert_str_eq(stats.kind, "ivf");
    return stats;
}

static void train(vector_index *v)
{
    for (int i = 0; i < 4 && vector_index_wants_training(v); i++)
        ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert(!vector_index_wants_training(v));
}

static int64_t trained_at(vector_index *v)
{
    return stats_of(v).trained_at_ms;
}

static double best_score(place_here *p, const float *query, uint32_t docno)
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

static void check_passages(place_here *p, vector_index *v)
{
    size_t passages = 0;
    for (size_t n = 0; n < N + MORE; n++)
        passages += p->live[n] ? p->counts[n] : 0;
    ck_assert_uint_eq(vector_index_passages(v), passages);
}

/* Every hit lives and has the score of its vector; what is missed of the nearest is little. */
static void check_search(place_here *p, vector_index *v)
{
    store_read *r;
    size_t found = 0;
    ck_ok(store_read_begin(p->store, &r, &error));
    for (int i = 0; i < QUERIES; i++) {
        float query[DIM];
        vector_hit exact[K], hits[K];
        size_t exact_count, count;
        clustered_point(&p->random, p->centres + random_below(&p->random, TOPICS) * DIM, DIM, 0.5f, query);
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

static void check_start(size_t passages)
{
    place_here p;
    setup(&p, passages);
    vector_index *v = start(&p);
    train(v);
    int64_t at = trained_at(v);
    vector_index_destroy(v);
    v = start(&p);
    usleep(2000);
    ck_assert(vector_index_wants_training(v));
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(v), at);
    ck_assert(!vector_index_wants_training(v));
    ck_assert_uint_eq(vector_index_count(v), N);
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

static void check_changed_start(size_t passages)
{
    place_here p;
    setup(&p, passages);
    vector_index *v = start(&p);
    train(v);
    int64_t at = trained_at(v);
    vector_index_destroy(v);
    for (uint64_t n = 0; n < 200; n += 2)
        erase(&p, n);
    put(&p, 1000, 1200); /* again, with other vectors */
    put(&p, N, N + MORE);
    erase(&p, N + 1);
    v = start(&p);
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(v), at);
    ck_assert_uint_eq(vector_index_count(v), N - 100 + MORE - 1);
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_remove(v, 3);
    p.live[3] = false;
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

START_TEST(a_start_goes_on_with_saved_lists)
{
    check_start(0);
}
END_TEST

START_TEST(a_start_goes_on_with_saved_lists_of_passages)
{
    check_start(MOST);
}
END_TEST

START_TEST(what_changed_since_lists_were_saved_is_right)
{
    check_changed_start(0);
}
END_TEST

START_TEST(passages_that_changed_since_lists_were_saved_are_right)
{
    check_changed_start(MOST);
}
END_TEST

START_TEST(cells_that_were_split_are_saved)
{
    place_here p;
    setup(&p, 0);
    vector_index *v = start(&p);
    train(v);
    vector_index_stats before = stats_of(v);
    vector_index_destroy(v);
    p.crowded = true;
    put(&p, N, N + MORE);
    erase(&p, 5);
    v = start(&p);
    train(v);
    vector_index_stats split = stats_of(v);
    ck_assert_int_eq(split.trained_at_ms, before.trained_at_ms);
    ck_assert_uint_ge(split.splits, 1);
    ck_assert_uint_gt(split.nlist, before.nlist);
    check_search(&p, v);
    vector_index_destroy(v);
    erase(&p, N + 1);
    v = start(&p);
    train(v);
    vector_index_stats again = stats_of(v);
    ck_assert_int_eq(again.trained_at_ms, before.trained_at_ms);
    ck_assert_uint_eq(again.splits, 0);
    ck_assert_uint_eq(again.nlist, split.nlist);
    ck_assert_uint_eq(vector_index_count(v), N + MORE - 2);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

static void flip_byte(const char *path, long offset)
{
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    ck_assert_int_ne(fputc(c ^ 0x10, f), EOF);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(damaged_lists_are_made_anew)
{
    place_here p;
    struct stat st;
    setup(&p, 0);
    vector_index *v = start(&p);
    train(v);
    int64_t at = trained_at(v);
    vector_index_destroy(v);
    ck_assert_int_eq(stat(p.cache, &st), 0);
    for (int i = 0; i < 12; i++) {
        /* Pads between parts say nothing: offsets that lie in parts, and the end cut off. */
        long offset = i == 0 ? 0 : i == 1 ? 9 : (long)(st.st_size / 12 * i + 64);
        if (i == 11)
            ck_assert_int_eq(truncate(p.cache, st.st_size - 5000), 0);
        else
            flip_byte(p.cache, offset);
        usleep(2000);
        v = start(&p);
        ck_assert(vector_index_wants_training(v));
        ck_ok(vector_index_train(v, NULL, NULL, &error));
        int64_t again = trained_at(v);
        ck_assert_msg(again > at, "a file that was damaged at %ld was used", offset);
        at = again;
        check_search(&p, v);
        vector_index_destroy(v);
    }
    teardown(&p);
}
END_TEST

START_TEST(lists_that_cannot_be_saved_are_used_all_the_same)
{
    place_here p;
    setup(&p, 0);
    ck_ok(files_join(p.cache, &error, "%s/no/such/folder.lists", testing_folder()));
    vector_index *v = start(&p);
    train(v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("saved lists");
    TCase *tests = tcase_create("saved lists");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, a_start_goes_on_with_saved_lists);
    tcase_add_test(tests, a_start_goes_on_with_saved_lists_of_passages);
    tcase_add_test(tests, what_changed_since_lists_were_saved_is_right);
    tcase_add_test(tests, passages_that_changed_since_lists_were_saved_are_right);
    tcase_add_test(tests, cells_that_were_split_are_saved);
    tcase_add_test(tests, damaged_lists_are_made_anew);
    tcase_add_test(tests, lists_that_cannot_be_saved_are_used_all_the_same);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
