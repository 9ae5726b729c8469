/* Saved lists: a start goes on with them, and what has changed since is right. */
#include "tests/common/testing.h"
#include "tests/index/clustered.h"

#include "base/files.h"
#include "index/recall_curve.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static sem_error error;

static float *vector_of(place_here *p, uint64_t n, size_t i)
{
    return p->vectors + (n * MOST + i) * DIM;
}

/* Of unit length, or for metric dot of half to one and a half. */
static void make_vector(place_here *p, bool crowded, float *out)
{
    const float *topic = p->centres + random_below(&p->random, TOPICS) * DIM;
    clustered_point(&p->random, crowded ? vector_of(p, 0, 0) : topic, DIM, crowded ? 0.1f : 0.5f, out);
    float length = p->metric == METRIC_DOT ? 0.5f + (float)random_unit(&p->random) : 1;
    for (size_t i = 0; i < DIM; i++)
        out[i] *= length;
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

/* Whose lists, and of which vectors: what a loop test's number means. */
enum { OURS, FAISS, OURS_DOT, FAISS_DOT, KINDS };

static void setup(place_here *p, int kind, size_t passages)
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

static vector_index_stats stats_of(const place_here *p, vector_index *v)
{
    vector_index_stats stats;
    vector_index_describe(v, &stats);
    ck_assert_str_eq(stats.kind, p->engine == VECTOR_ENGINE_FAISS ? "faiss" : "ivf");
    return stats;
}

static void train(vector_index *v)
{
    for (int i = 0; i < 4 && vector_index_wants_training(v); i++)
        ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert(!vector_index_wants_training(v));
}

static int64_t trained_at(const place_here *p, vector_index *v)
{
    return stats_of(p, v).trained_at_ms;
}

/* Has the place's lists trained and saved; when. The next ones are younger by the clock of
 * trained_at, which has milliseconds. */
static int64_t save_lists(place_here *p)
{
    vector_index *v = start(p);
    train(v);
    int64_t at = trained_at(p, v);
    vector_index_destroy(v);
    usleep(2000);
    return at;
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

static void check_start(int kind, size_t passages)
{
    place_here p;
    setup(&p, kind, passages);
    int64_t at = save_lists(&p);
    vector_index *v = start(&p);
    ck_assert(vector_index_wants_training(v));
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at);
    ck_assert(!vector_index_wants_training(v));
    ck_assert_uint_eq(vector_index_count(v), N);
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

static void check_changed_start(int kind, size_t passages)
{
    place_here p;
    setup(&p, kind, passages);
    int64_t at = save_lists(&p);
    for (uint64_t n = 0; n < 200; n += 2)
        erase(&p, n);
    put(&p, 1000, 1200); /* again, with other vectors */
    put(&p, N, N + MORE);
    erase(&p, N + 1);
    vector_index *v = start(&p);
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at);
    ck_assert_uint_eq(vector_index_count(v), N - 100 + MORE - 1);
    check_passages(&p, v);
    check_search(&p, v);
    for (uint32_t n = 2000; n < 3500; n++) {
        vector_index_remove(v, n);
        p.live[n] = false;
    }
    check_passages(&p, v);
    check_search(&p, v);
    train(v); /* leaves the dead behind, in the cells that were read */
    check_passages(&p, v);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}

START_TEST(a_start_goes_on_with_saved_lists)
{
    check_start(_i, 0);
}
END_TEST

START_TEST(a_start_goes_on_with_saved_lists_of_passages)
{
    check_start(_i, MOST);
}
END_TEST

START_TEST(what_changed_since_lists_were_saved_is_right)
{
    check_changed_start(_i, 0);
}
END_TEST

START_TEST(passages_that_changed_since_lists_were_saved_are_right)
{
    check_changed_start(_i, MOST);
}
END_TEST

START_TEST(cells_that_were_split_are_saved)
{
    place_here p;
    setup(&p, OURS, 0);
    vector_index *v = start(&p);
    train(v);
    vector_index_stats before = stats_of(&p, v);
    vector_index_destroy(v);
    p.crowded = true;
    put(&p, N, N + MORE);
    erase(&p, 5);
    v = start(&p);
    train(v);
    vector_index_stats split = stats_of(&p, v);
    ck_assert_int_eq(split.trained_at_ms, before.trained_at_ms);
    ck_assert_uint_ge(split.splits, 1);
    ck_assert_uint_gt(split.nlist, before.nlist);
    check_search(&p, v);
    vector_index_destroy(v);
    erase(&p, N + 1);
    v = start(&p);
    train(v);
    vector_index_stats again = stats_of(&p, v);
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

/* Not used, but made anew, at which it is written again; returns when. */
static int64_t expect_unused(place_here *p, int64_t before)
{
    usleep(2000); /* the clock of trained_at has milliseconds */
    vector_index *v = start(p);
    ck_assert(vector_index_wants_training(v));
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    int64_t at = trained_at(p, v);
    ck_assert_msg(at > before, "a file was used that should not be");
    check_search(p, v);
    vector_index_destroy(v);
    return at;
}

static long file_bytes(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (long)st.st_size;
}

/* Nibbles are last in the file, the blocks of bits before them. */
static long in_nibbles(const char *path)
{
    return file_bytes(path) - 4096 - 8192;
}

static long in_blocks(const char *path)
{
    enum { NIBBLES_BYTES = (N * 64 + 4095) / 4096 * 4096 };
    return file_bytes(path) - NIBBLES_BYTES - 8192;
}

static void check_damaged_section(long (*where)(const char *path))
{
    place_here p;
    vector_index_stats stats;
    setup(&p, OURS, 0);
    int64_t at = save_lists(&p);
    flip_byte(p.cache, where(p.cache));
    vector_index *v = start(&p);
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at); /* nobody has looked yet */
    check_search(&p, v);
    vector_index_describe(v, &stats);
    ck_assert_str_eq(stats.kind, "exact");
    ck_assert(vector_index_wants_training(v));
    train(v);
    ck_assert_int_gt(trained_at(&p, v), at);
    check_search(&p, v);
    vector_index_destroy(v);
    v = start(&p); /* what was made anew was saved */
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    check_search(&p, v);
    ck_assert_int_gt(trained_at(&p, v), at);
    ck_assert(!vector_index_wants_training(v));
    vector_index_destroy(v);
    teardown(&p);
}

START_TEST(damaged_bits_are_found_at_their_first_use)
{
    check_damaged_section(in_blocks);
}
END_TEST

START_TEST(damaged_nibbles_are_found_at_their_first_use)
{
    check_damaged_section(in_nibbles);
}
END_TEST

START_TEST(lists_that_are_made_go_on_from_nothing_damaged)
{
    place_here p;
    setup(&p, OURS, 0);
    int64_t at = save_lists(&p);
    flip_byte(p.cache, in_blocks(p.cache));
    vector_index *v = start(&p);
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_int_eq(trained_at(&p, v), at);
    for (uint64_t n = 0; n < N / 2; n++) { /* so many that lists are due before anybody searches */
        erase(&p, n);
        vector_index_remove(v, (uint32_t)n);
    }
    ck_assert(vector_index_wants_training(v));
    train(v);
    ck_assert_int_gt(trained_at(&p, v), at);
    check_search(&p, v);
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

START_TEST(damaged_lists_are_made_anew)
{
    enum { PLACES = 10 };
    place_here p;
    struct stat st;
    setup(&p, _i, 0);
    int64_t at = save_lists(&p);
    ck_assert_int_eq(stat(p.cache, &st), 0);
    flip_byte(p.cache, 0);
    at = expect_unused(&p, at);
    flip_byte(p.cache, 9);
    at = expect_unused(&p, at);
    /* Pads between parts say nothing: offsets that lie in parts. FAISS's have one checksum for all, ours
     * are read up to the blocks. */
    long head = 4096L * (1 + (long)sizeof(recall_curve) / 4096);
    for (int i = 1; i < PLACES; i += _i == FAISS ? 5 : 2) {
        flip_byte(p.cache, _i == FAISS ? (long)(st.st_size / PLACES * i + 64) : head + 4000L * i);
        at = expect_unused(&p, at);
    }
    ck_assert_int_eq(truncate(p.cache, st.st_size - 5000), 0);
    at = expect_unused(&p, at);
    ck_assert_int_eq(unlink(p.cache), 0);
    ck_assert_int_eq(mkdir(p.cache, 0700), 0);
    expect_unused(&p, at);
    teardown(&p);
}
END_TEST

static void *train_in_thread(void *index)
{
    static sem_error failed;
    return vector_index_train(index, NULL, NULL, &failed) == SEM_OK ? index : NULL;
}

static bool fill_more(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot,
                      const void *vector)
{
    return docno < N || fill_one(context, docno, version, ordinal, slot, vector);
}

/* Saves what comes out of a pipe. */
static void drain(int from, const char *path)
{
    char buffer[65536];
    FILE *to = fopen(path, "wb");
    ck_assert_ptr_nonnull(to);
    for (ssize_t n; (n = read(from, buffer, sizeof buffer)) != 0;) {
        ck_assert_int_gt(n, 0);
        ck_assert_uint_eq(fwrite(buffer, 1, (size_t)n, to), (size_t)n);
    }
    ck_assert_int_eq(fclose(to), 0);
}

/* A pipe in the place of the file holds the saving up until somebody reads. */
START_TEST(lists_are_used_and_grow_while_they_are_saved)
{
    place_here p;
    char beside[FILES_PATH_MAX];
    pthread_t thread;
    store_read *r;
    void *trained;
    setup(&p, OURS, 0);
    ck_ok(files_join(beside, &error, "%s.new", p.cache));
    ck_assert_int_eq(mkfifo(beside, 0600), 0);
    vector_index *v = start(&p);
    ck_assert_int_eq(pthread_create(&thread, NULL, train_in_thread, v), 0);
    int fd = open(beside, O_RDONLY);
    ck_assert_int_ge(fd, 0);
    int64_t at = trained_at(&p, v); /* which asks whether searches go through lists */
    check_search(&p, v);
    put(&p, N, N + MORE);
    ck_ok(store_read_begin(p.store, &r, &error));
    ck_ok(store_slot_walk(r, STORE_SPACE_EXTERNAL, p.collection, fill_more, v, &error));
    store_read_end(r);
    check_search(&p, v);
    drain(fd, p.cache);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(pthread_join(thread, &trained), 0);
    ck_assert_ptr_eq(trained, v);
    vector_index_destroy(v);
    erase(&p, N + 1);
    v = start(&p);
    ck_ok(vector_index_train(v, NULL, NULL, &error));
    ck_assert_uint_eq(vector_index_count(v), N + MORE - 1);
    check_search(&p, v);
    ck_assert_int_eq(trained_at(&p, v), at); /* no section was found damaged */
    vector_index_destroy(v);
    teardown(&p);
}
END_TEST

START_TEST(lists_of_another_engine_or_type_are_made_anew)
{
    place_here p;
    setup(&p, OURS, 0);
    int64_t at = save_lists(&p);
    p.engine = VECTOR_ENGINE_FAISS;
    at = expect_unused(&p, at);
    p.type = VECTOR_FAISS_FLAT;
    at = expect_unused(&p, at);
    p.engine = VECTOR_ENGINE_SEMD;
    expect_unused(&p, at);
    teardown(&p);
}
END_TEST

START_TEST(lists_that_cannot_be_saved_are_used_all_the_same)
{
    place_here p;
    setup(&p, _i, 0);
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
    tcase_add_loop_test(tests, a_start_goes_on_with_saved_lists, 0, KINDS);
    tcase_add_loop_test(tests, a_start_goes_on_with_saved_lists_of_passages, OURS, FAISS + 1);
    tcase_add_loop_test(tests, what_changed_since_lists_were_saved_is_right, OURS, FAISS + 1);
    tcase_add_loop_test(tests, passages_that_changed_since_lists_were_saved_are_right, OURS, FAISS + 1);
    tcase_add_test(tests, cells_that_were_split_are_saved);
    tcase_add_loop_test(tests, damaged_lists_are_made_anew, OURS, FAISS + 1);
    tcase_add_test(tests, lists_of_another_engine_or_type_are_made_anew);
    tcase_add_test(tests, lists_are_used_and_grow_while_they_are_saved);
    tcase_add_test(tests, damaged_bits_are_found_at_their_first_use);
    tcase_add_test(tests, damaged_nibbles_are_found_at_their_first_use);
    tcase_add_test(tests, lists_that_are_made_go_on_from_nothing_damaged);
    tcase_add_loop_test(tests, lists_that_cannot_be_saved_are_used_all_the_same, OURS, FAISS + 1);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
