/* Saved lists that were damaged: searches are right all the same, and the lists are made anew. */
#include "tests/index/saved_lists.h"

#include "base/checksum.h"
#include "base/files.h"
#include "index/recall_curve.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

/* Of damage while searches run; in the first of them, MAKING, lists are made beside searches: for
 * each kind of damage once, where no sanitizer takes its time. STEP: between two offsets that are
 * damaged. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { ROUNDS = 8, MAKING = 2, STEP = 5 };
#else
enum { ROUNDS = 16, MAKING = 4, STEP = 2 };
#endif

static void change_byte(const char *path, long offset, int difference)
{
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    ck_assert_int_ne(fputc(c ^ difference, f), EOF);
    ck_assert_int_eq(fclose(f), 0);
}

static void flip_byte(const char *path, long offset)
{
    change_byte(path, offset, 0x10);
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

/* Starts with saved lists of which one byte is another; at: when they were trained. */
static vector_index *start_damaged(place_here *p, long (*where)(const char *path), int64_t *at)
{
    setup(p, OURS, 0);
    *at = save_lists(p);
    flip_byte(p->cache, where(p->cache));
    vector_index *v = start(p);
    ck_ok(vector_index_train(v, NULL, &error));
    ck_assert_int_eq(trained_at(p, v), *at); /* nobody has looked yet */
    return v;
}

static void check_damaged_section(long (*where)(const char *path))
{
    place_here p;
    vector_index_stats stats;
    int64_t at;
    vector_index *v = start_damaged(&p, where, &at);
    check_search(&p, v);
    vector_index_describe(v, &stats);
    ck_assert_str_eq(stats.kind, "exact");
    ck_assert(vector_index_wants_training(v));
    train(v);
    ck_assert_int_gt(trained_at(&p, v), at);
    check_search(&p, v);
    vector_index_destroy(v);
    v = start(&p); /* what was made anew was saved */
    ck_ok(vector_index_train(v, NULL, &error));
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
    int64_t at;
    vector_index *v = start_damaged(&p, in_blocks, &at);
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
    for (int i = 1; i < PLACES; i += _i == FAISS ? 5 : STEP) {
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

/* Where the head's own checksum stands: behind what it is of. */
static size_t checksum_place(const unsigned char *head, size_t size)
{
    for (size_t at = 128; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t sum = checksum_of(head, at);
        if (memcmp(head + at, &sum, sizeof sum) == 0)
            return at;
    }
    ck_abort_msg("no checksum in the head");
}

/* Changes a number of the head, and its checksum to fit. */
static void craft_head(const char *path, size_t offset, uint64_t difference)
{
    static unsigned char head[16 * 4096];
    uint64_t number, sum;
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(head, 1, sizeof head, f), sizeof head);
    size_t place = checksum_place(head, sizeof head);
    memcpy(&number, head + offset, sizeof number);
    number += difference;
    memcpy(head + offset, &number, sizeof number);
    sum = checksum_of(head, place);
    memcpy(head + place, &sum, sizeof sum);
    ck_assert_int_eq(fseek(f, 0, SEEK_SET), 0);
    ck_assert_uint_eq(fwrite(head, 1, place + sizeof sum, f), place + sizeof sum);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(numbers_of_a_head_that_disagree_are_refused)
{
    enum { ENTRIES = 56, SECONDS = 64 }; /* where they stand */
    place_here p;
    setup(&p, OURS, 0);
    int64_t at = save_lists(&p);
    craft_head(p.cache, SECONDS, 1u << 30);
    at = expect_unused(&p, at);
    craft_head(p.cache, ENTRIES, 1);
    at = expect_unused(&p, at);
    craft_head(p.cache, ENTRIES, UINT64_MAX);
    expect_unused(&p, at);
    teardown(&p);
}
END_TEST

enum { SEARCHERS = 3, ASKED = 200 };

/* A query, what exact search finds, and what the lists found before they were damaged. */
typedef struct known {
    const float *query;
    vector_hit exact[K], intact[K];
} known;

typedef struct searcher {
    place_here *p;
    vector_index *index;
    const known *all; /* [ASKED] */
    size_t first;     /* to begin with */
    bool trains;      /* lists come meanwhile that were not known */
    size_t wrong, by_lists, found;
    pthread_t thread;
} searcher;

static bool are_equal(const vector_hit *a, const vector_hit *b)
{
    bool equal = true;
    for (size_t h = 0; h < K; h++)
        equal = equal && a[h].docno == b[h].docno && fabs((double)a[h].score - (double)b[h].score) < 1e-5;
    return equal;
}

/* Whether every hit lives and has the score of its vector; found: how many of the nearest there are. */
static bool are_true(place_here *p, const known *q, const vector_hit *hits, size_t *found)
{
    bool fine = true;
    for (size_t h = 0; h < K; h++) {
        fine = fine && p->live[hits[h].docno] &&
               fabs(best_score(p, q->query, hits[h].docno) - (double)hits[h].score) < 1e-5;
        for (size_t e = 0; e < K; e++)
            *found += hits[h].docno == q->exact[e].docno;
    }
    return fine;
}

/* An answer is what intact lists find, or that of exact search. */
static void *search_all(void *context)
{
    searcher *s = context;
    sem_error own;
    for (size_t i = 0; i < ASKED; i++) {
        const known *q = &s->all[(s->first + i) % ASKED];
        store_read *r;
        vector_hit hits[K];
        vector_plan plan;
        size_t count = 0;
        if (store_read_begin(s->p->store, &r, &own) != SEM_OK) {
            s->wrong++;
            continue;
        }
        vector_query query = {.vector = q->query, .k = K, .recall = 0.95, .read = r};
        bool fine = vector_index_search(s->index, &query, hits, &count, &plan, &own) == SEM_OK && count == K &&
                    are_true(s->p, q, hits, &s->found);
        bool exact = fine && strcmp(plan.kind, "exact") == 0;
        s->by_lists += fine && !exact;
        fine = fine && (exact ? are_equal(hits, q->exact) : s->trains || are_equal(hits, q->intact));
        s->wrong += !fine;
        store_read_end(r);
    }
    return NULL;
}

static void start_searchers(searcher *all, place_here *p, vector_index *v, const known *queries, bool trains)
{
    for (size_t i = 0; i < SEARCHERS; i++) {
        all[i] = (searcher){.p = p, .index = v, .all = queries, .first = i * ASKED / (2 * SEARCHERS), .trains = trains};
        ck_assert_int_eq(pthread_create(&all[i].thread, NULL, search_all, &all[i]), 0);
    }
}

static void end_searchers(searcher *all)
{
    for (size_t i = 0; i < SEARCHERS; i++) {
        ck_assert_int_eq(pthread_join(all[i].thread, NULL), 0);
        ck_assert_uint_eq(all[i].wrong, 0);
        ck_assert_uint_ge(all[i].found, ASKED * K * 9 / 10);
    }
}

/* Of documents' own vectors, from all over the index, with the lists that were saved. */
static known *know(place_here *p)
{
    known *all = calloc(ASKED, sizeof *all);
    store_read *r;
    size_t count;
    ck_assert_ptr_nonnull(all);
    vector_index *v = start(p);
    ck_ok(vector_index_train(v, NULL, &error));
    ck_assert(!vector_index_wants_training(v));
    ck_ok(store_read_begin(p->store, &r, &error));
    for (size_t i = 0; i < ASKED; i++) {
        all[i].query = vector_of(p, i * N / ASKED, 0);
        vector_plan plan;
        vector_query q = {.vector = all[i].query, .k = K, .recall = 0.95, .read = r};
        ck_ok(vector_index_search(v, &q, all[i].intact, &count, &plan, &error));
        ck_assert_str_eq(plan.kind, "ivf");
        q.exact = true;
        ck_ok(vector_index_search(v, &q, all[i].exact, &count, NULL, &error));
        ck_assert_uint_eq(count, K);
    }
    store_read_end(r);
    vector_index_destroy(v);
    return all;
}

/* Some bytes of the blocks, of the nibbles, or of everything, or a missing end. True: of what is
 * compared only when it is used. */
static bool damage(place_here *p, int round)
{
    enum { NEAR = 4096 }; /* around an offset that lies in the section */
    long bytes = file_bytes(p->cache);
    if (round % 4 == 3) {
        ck_assert_int_eq(truncate(p->cache, (off_t)random_below(&p->random, (uint64_t)bytes)), 0);
        return false;
    }
    for (uint64_t flips = 1 + random_below(&p->random, 3); flips > 0; flips--) {
        long offset = (long)random_below(&p->random, (uint64_t)bytes);
        if (round % 4 < 2)
            offset = (round % 4 == 0 ? in_blocks : in_nibbles)(p->cache) - (long)random_below(&p->random, 16 * NEAR);
        change_byte(p->cache, offset, 1 + (int)random_below(&p->random, 255));
    }
    return round % 4 < 2;
}

/* Lists are made anew beside searches. */
static void check_making(place_here *p, vector_index *v, const known *queries, int64_t at)
{
    searcher searchers[SEARCHERS];
    bool damaged = vector_index_wants_training(v);
    start_searchers(searchers, p, v, queries, true);
    train(v);
    end_searchers(searchers);
    ck_assert(!damaged || trained_at(p, v) > at);
    start_searchers(searchers, p, v, queries, true);
    end_searchers(searchers);
    for (size_t i = 0; i < SEARCHERS; i++)
        ck_assert_uint_gt(searchers[i].by_lists, 0);
}

/* Searches in several threads meet the damage at once. */
static void check_damage(place_here *p, const known *queries, int64_t at, bool late, bool makes)
{
    searcher searchers[SEARCHERS];
    vector_index_stats stats;
    vector_index *v = start(p);
    ck_ok(vector_index_train(v, NULL, &error));
    bool used = trained_at(p, v) == at;
    ck_assert(used || !late);
    start_searchers(searchers, p, v, queries, !used);
    end_searchers(searchers);
    vector_index_describe(v, &stats);
    if (late) {
        ck_assert_str_eq(stats.kind, "exact");
        ck_assert(vector_index_wants_training(v));
    }
    ck_assert((strcmp(stats.kind, "exact") == 0) == vector_index_wants_training(v));
    if (makes)
        check_making(p, v, queries, at);
    vector_index_destroy(v);
}

START_TEST(damage_is_met_by_many_searches_and_shows_in_none)
{
    static const int kinds[] = {OURS, OURS_DOT};
    place_here p;
    char *whole;
    size_t bytes;
    setup(&p, kinds[_i], 0);
    int64_t at = save_lists(&p);
    known *queries = know(&p);
    ck_ok(files_read(p.cache, 64 << 20, &whole, &bytes, &error));
    for (int round = 0; round < ROUNDS; round++) {
        ck_ok(files_write(p.cache, whole, bytes, &error));
        bool late = damage(&p, round);
        check_damage(&p, queries, at, late, round < MAKING);
    }
    free(whole);
    free(queries);
    teardown(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("damaged lists");
    TCase *tests = tcase_create("damaged lists");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, damaged_lists_are_made_anew, OURS, FAISS + 1);
    tcase_add_test(tests, numbers_of_a_head_that_disagree_are_refused);
    tcase_add_test(tests, damaged_bits_are_found_at_their_first_use);
    tcase_add_test(tests, damaged_nibbles_are_found_at_their_first_use);
    tcase_add_test(tests, lists_that_are_made_go_on_from_nothing_damaged);
    suite_add_tcase(suite, tests);
    TCase *searches = tcase_create("damage and searches"); /* CK_RUN_CASE picks it */
    tcase_set_timeout(searches, 300);
    tcase_add_loop_test(searches, damage_is_met_by_many_searches_and_shows_in_none, 0, 2);
    suite_add_tcase(suite, searches);
    return testing_run(suite);
}
