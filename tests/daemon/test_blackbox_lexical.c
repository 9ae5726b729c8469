/* Modes lexical and hybrid, against the real daemon. */
#include "tests/daemon/blackbox.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    return true;
}

static bool hit_is(const msgpack_object *hits, size_t i, uint64_t id)
{
    return object_uint(object_get(box_at(hits, i), "id"), UINT64_MAX) == id;
}

START_TEST(a_word_is_found_and_nothing_else)
{
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 1, 'text': 'The quick brown fox'}, {'id': 2, 'text': 'A lazy dog'},"
             "{'id': 3, 'text': 'Fox hunting, with the fox as the prey', 'meta': {'a': 1}}]}");
    const msgpack_object *hits = object_get(
        box_call(&b, "search", "{'query': 'FÓX?', 'mode': 'lexical', 'with': ['text', 'meta', 'vector']}"), "hits");
    ck_assert_uint_eq(box_count(hits), 2);
    ck_assert(hit_is(hits, 0, 3) && hit_is(hits, 1, 1));
    ck_assert(object_get(box_at(hits, 0), "vector") != NULL);
    hits = object_get(box_call(&b, "search", "{'query': 'fox', 'mode': 'lexical', 'filter': {'field': 'a', 'eq': 1}}"),
                      "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert(hit_is(hits, 0, 3));
    box_stop(&b);
}
END_TEST

/* FTS5 cuts words at 32,768 bytes: behind a letter, or inside one. */
START_TEST(a_word_that_is_cut_is_found)
{
    static const char *const letters[] = {"b", "\xce\xb1", "\xe6\xbc\xa2"};
    enum { BYTES = 39000 };
    if (!start())
        return;
    for (unsigned i = 0; i < 6; i++) {
        static char word[BYTES + 4];
        const char *letter = letters[i / 2];
        size_t used = i % 2;
        word[0] = 'a'; /* of each second one, which shifts the others by a byte */
        for (; used + strlen(letter) <= BYTES; used += strlen(letter))
            memcpy(word + used, letter, strlen(letter));
        word[used] = '\0';
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': '%s'}]}", i, word);
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': '%s', 'mode': 'lexical'}", word), "hits");
        ck_assert_uint_eq(box_count(hits), 1);
        ck_assert(hit_is(hits, 0, i));
    }
    box_stop(&b);
}
END_TEST

/* Every write that was answered is seen by the next search, on any connection. */
START_TEST(lexical_sees_acknowledged_writes)
{
    if (!start())
        return;
    client *other = box_connect(&b);
    for (unsigned i = 0; i < 120; i++) {
        client *mine = b.client;
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'common word%u'}]}", i % 40, i);
        b.client = other;
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical', 'with': ['text']}", i), "hits");
        ck_assert_uint_eq(box_count(hits), 1);
        ck_assert(hit_is(hits, 0, i % 40));
        if (i >= 40) {
            hits = object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical'}", i - 40), "hits");
            ck_assert_uint_eq(box_count(hits), 0);
        }
        if (i % 7 == 0) {
            box_call(&b, "delete", "{'ids': [%u]}", i % 40);
            hits = object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical'}", i), "hits");
            ck_assert_uint_eq(box_count(hits), 0);
            box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'common word%u'}]}", i % 40, i);
        }
        b.client = mine;
    }
    box_forget_reply(&b);
    client_close(other);
    box_stop(&b);
}
END_TEST

/* Only the words of a query count, never a query language. */
START_TEST(hostile_queries_are_words)
{
    static const char *const queries[] = {"\\\"",         "\\\"\\\"\\\"",
                                          "NEAR(a b, 5)", "* ^ - + ( ) { } : AND OR NOT",
                                          "text:fox",     "fox*",
                                          "^fox",         "fox\\\\",
                                          "-fox",         "😀",
                                          "猫 好き",      "the of and",
                                          "NOT",          "; DROP TABLE meta; --",
                                          "\\u0001",      "\\ufeff fox"};
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 1, 'text': 'a fox near the den, of and not'}, {'id': 2, 'text': '猫 好き 😀'}]}");
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        box_forget_reply(&b);
        size_t count = box_count(
            object_get(box_call(&b, "search", "{\"query\": \"%s\", \"mode\": \"lexical\"}", queries[i]), "hits"));
        ck_assert_uint_le(count, 2);
        if (strstr(queries[i], "fox") != NULL)
            ck_assert_uint_eq(count, 1);
    }
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'query': '猫', 'mode': 'lexical'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert(hit_is(hits, 0, 2));
    box_stop(&b);
}
END_TEST

enum { DOCS = 150, DEPTH = 100 };

static void fill(void)
{
    for (unsigned i = 0; i < DOCS; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'card %s %s number %u', 'meta': {'n': %u}}]}", i,
                 i % 3 == 0 ? "refund" : "payment", i % 7 == 0 ? "abroad refund" : "at home", i, i);
}

typedef struct ranking {
    uint64_t ids[DEPTH];
    double scores[DEPTH];
    size_t count;
} ranking;

static ranking rank(const char *mode, const char *collection, size_t k)
{
    ranking r = {0};
    const msgpack_object *hits = object_get(box_call(&b, "search",
                                                     "{'query': 'refund abroad', 'mode': '%s', 'k': %zu,"
                                                     "'collection': '%s'}",
                                                     mode, k, collection),
                                            "hits");
    r.count = box_count(hits);
    for (size_t i = 0; i < r.count; i++) {
        r.ids[i] = object_uint(object_get(box_at(hits, i), "id"), UINT64_MAX);
        r.scores[i] = object_double(object_get(box_at(hits, i), "score"), -9);
    }
    return r;
}

/* 0 where the document is not in it; *score: its score there. */
static size_t rank_in(const ranking *r, uint64_t id, double *score)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->ids[i] == id) {
            *score = r->scores[i];
            return i + 1;
        }
    return 0;
}

static void check_hybrid(const char *collection, double dense_weight, double lexical_weight)
{
    ranking dense = rank("dense", collection, DEPTH), lexical = rank("lexical", collection, DEPTH);
    double fused[DOCS] = {0}, before = 9, score = 0;
    for (uint64_t id = 0; id < DOCS; id++) {
        size_t d = rank_in(&dense, id, &score), l = rank_in(&lexical, id, &score);
        fused[id] = (d > 0 ? dense_weight / (60 + (double)d) : 0) + (l > 0 ? lexical_weight / (60 + (double)l) : 0);
    }
    const msgpack_object *hits = object_get(
        box_call(&b, "search", "{'query': 'refund abroad', 'mode': 'hybrid', 'k': 20, 'collection': '%s'}", collection),
        "hits");
    ck_assert_uint_eq(box_count(hits), 20);
    for (size_t i = 0; i < 20; i++) {
        const msgpack_object *hit = box_at(hits, i);
        uint64_t id = object_uint(object_get(hit, "id"), UINT64_MAX);
        double found = object_double(object_get(hit, "score"), -9);
        ck_assert_uint_lt(id, DOCS);
        ck_assert_double_eq_tol(found, fused[id], 1e-6);
        ck_assert_double_le(found, before);
        before = found;
        fused[id] = 0;
        ck_assert((object_get(hit, "dense") != NULL) == (rank_in(&dense, id, &score) > 0));
        if (rank_in(&dense, id, &score) > 0)
            ck_assert_double_eq_tol(object_double(object_get(hit, "dense"), -9), score, 1e-6);
        ck_assert((object_get(hit, "lexical") != NULL) == (rank_in(&lexical, id, &score) > 0));
        if (rank_in(&lexical, id, &score) > 0)
            ck_assert_double_eq_tol(object_double(object_get(hit, "lexical"), -9), score, 1e-6);
    }
    for (uint64_t id = 0; id < DOCS; id++) /* nothing better was left out */
        ck_assert_double_le(fused[id], before + 1e-9);
}

START_TEST(hybrid_is_the_fusion_of_both_rankings)
{
    if (!start())
        return;
    fill();
    check_hybrid("default", 1, 1);
    box_call(&b, "collection.create", "{'name': 'words', 'options': {'weight_dense': 0.25, 'weight_lexical': 3}}");
    for (unsigned i = 0; i < DOCS; i++)
        box_call(&b, "upsert", "{'collection': 'words', 'docs': [{'id': %u, 'text': 'card %u %s'}]}", i, i / 10,
                 i % 9 == 0   ? "refund"
                 : i % 4 == 0 ? "abroad"
                              : "home");
    check_hybrid("words", 0.25, 3);
    box_fails(&b, "ALREADY_EXISTS", "collection.create", "{'name': 'words'}");
    box_fails(&b, "INVALID_ARGUMENT", "collection.create",
              "{'name': 'none', 'options': {'weight_dense': 0, 'weight_lexical': 0}}");
    box_stop(&b);
}
END_TEST

START_TEST(what_cannot_be_searched_for_words_says_why)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'plain', 'options': {'lexical': false}}");
    ck_assert_ptr_nonnull(strstr(
        box_fails(&b, "FAILED_PRECONDITION", "search", "{'query': 'x', 'mode': 'lexical', 'collection': 'plain'}"),
        "options.lexical"));
    box_call(&b, "collection.create", "{'name': 'brought', 'options': {'vectors': 'external', 'dim': 2}}");
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'mode': 'hybrid', 'collection': 'brought'}");
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'query': 'x', 'mode': 'lexical', 'collection': 'brought'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 0);
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'like': 1, 'mode': 'hybrid'}");
    box_fails(&b, "NOT_FOUND", "search", "{'query': 'x', 'mode': 'lexical', 'collection': 'nope'}");
    box_fails(&b, "DEADLINE_EXCEEDED", "search", "{'query': 'x', 'mode': 'lexical', 'deadline_ms': 0}");
    box_stop(&b);
}
END_TEST

static size_t matches(const char *query)
{
    return box_count(
        object_get(box_call(&b, "search", "{'query': '%s', 'mode': 'lexical', 'k': 1000}", query), "hits"));
}

START_TEST(a_dropped_collection_is_forgotten_and_its_name_starts_empty)
{
    if (!start())
        return;
    fill();
    ck_assert_uint_eq(matches("refund"), 64);
    box_call(&b, "collection.drop", "{'name': 'default'}");
    box_call(&b, "collection.create", "{'name': 'default'}");
    ck_assert_uint_eq(matches("refund"), 0);
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'refund'}]}");
    ck_assert_uint_eq(matches("refund"), 1);
    box_stop(&b);
}
END_TEST

/* The path of something below the store. */
static const char *below(const char *name)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(path, &error, "%s/%s", b.storage + strlen("storage.path="), name));
    return path;
}

static const char *index_file(void)
{
    return below("lexical/index.db");
}

/* The file is a cache: killed, missing, cut or full of something else, the index
 * is what the store says. */
START_TEST(the_index_comes_back_after_a_kill_without_its_file_and_from_a_damaged_one)
{
    if (!start())
        return;
    fill();
    for (int round = 0; round < 4; round++) {
        sem_error error;
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'refund round%d'}]}", 1000 + round, round);
        box_kill(&b);
        if (round == 1)
            ck_assert_int_eq(unlink(index_file()), 0);
        if (round == 2)
            ck_ok(files_write(index_file(), "this is no database, is it", 26, &error));
        if (round == 3)
            ck_assert_int_eq(truncate(index_file(), 6000), 0);
        box_start(&b);
        char word[32];
        snprintf(word, sizeof word, "round%d", round);
        ck_assert_uint_eq(matches(word), 1);
        ck_assert_uint_eq(matches("refund"), 65u + (unsigned)round);
        box_call(&b, "delete", "{'ids': [0]}");
        ck_assert_uint_eq(matches("refund"), 64u + (unsigned)round);
        box_call(&b, "upsert", "{'docs': [{'id': 0, 'text': 'refund'}]}");
    }
    box_stop(&b);
}
END_TEST

static void replace(const char *name, bool by_folder)
{
    sem_error error;
    ck_ok(files_remove_folder(below(name), &error));
    if (by_folder)
        ck_assert_int_eq(mkdir(below(name), 0700), 0);
    else
        ck_ok(files_write(below(name), "not what it should be", 21, &error));
}

static bool is_folder(const char *name)
{
    struct stat st;
    return stat(below(name), &st) == 0 && S_ISDIR(st.st_mode);
}

/* Caches are made anew whatever lies in their place; the store is sound without them. */
START_TEST(files_and_folders_in_the_place_of_caches_are_replaced)
{
    static const struct {
        const char *name;
        bool by_folder;
    } wrong[] = {{"lexical/index.db", true}, {"lexical", false}, {"cache", false}};
    enum { COUNT = sizeof wrong / sizeof *wrong };
    if (!start())
        return;
    fill();
    for (unsigned i = 0; i <= COUNT; i++) {
        box_stop(&b);
        for (unsigned k = 0; k < COUNT; k++)
            if (i == COUNT ? k > 0 : k == i)
                replace(wrong[k].name, wrong[k].by_folder);
        ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
        if (i == COUNT)
            ck_assert_int_eq(box_semctl("verify --rebuild %s/data", testing_folder()), 0);
        box_start(&b);
        ck_assert_uint_eq(matches("refund"), 64);
        ck_assert(is_folder("cache") && is_folder("lexical") && !is_folder("lexical/index.db"));
    }
    box_stop(&b);
}
END_TEST

/* Under the daemon that has it open: a worker that has not looked yet finds it out. */
START_TEST(a_file_that_goes_bad_meanwhile_is_made_anew)
{
    enum { SEARCHES = 8 /* more than there are workers */ };
    if (!start())
        return;
    fill();
    for (int gone = 0; gone < 2; gone++) {
        static const char nothing[3 * 4096];
        if (gone) {
            ck_assert_int_eq(unlink(index_file()), 0);
        } else {
            FILE *f = fopen(index_file(), "r+b");
            ck_assert_ptr_nonnull(f);
            ck_assert_uint_eq(fwrite(nothing, sizeof nothing, 1, f), 1);
            ck_assert_int_eq(fclose(f), 0);
        }
        for (int i = 0; i < SEARCHES; i++)
            ck_assert_uint_eq(matches("refund"), 64);
        box_call(&b, "upsert", "{'docs': [{'id': 2000, 'text': 'again%d'}]}", gone);
        for (int i = 0; i < SEARCHES; i++)
            ck_assert_uint_eq(matches(gone ? "again1" : "again0"), 1);
    }
    box_stop(&b);
}
END_TEST

START_TEST(a_filter_leaves_all_hits_that_match_it)
{
    if (!start())
        return;
    fill();
    for (unsigned from = 0; from < DOCS; from += 10) {
        size_t expected = 0;
        for (unsigned i = from; i < DOCS; i++)
            expected += i % 3 == 0 || i % 7 == 0;
        const msgpack_object *hits = object_get(box_call(&b, "search",
                                                         "{'query': 'refund', 'mode': 'lexical', 'k': 1000, 'filter':"
                                                         "{'field': 'n', 'gte': %u}}",
                                                         from),
                                                "hits");
        ck_assert_uint_eq(box_count(hits), expected);
        for (size_t i = 0; i < expected; i++)
            ck_assert_uint_ge(object_uint(object_get(box_at(hits, i), "id"), 0), from);
    }
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lexical");
    TCase *tests = tcase_create("lexical");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_word_is_found_and_nothing_else);
    tcase_add_test(tests, a_word_that_is_cut_is_found);
    tcase_add_test(tests, lexical_sees_acknowledged_writes);
    tcase_add_test(tests, hostile_queries_are_words);
    tcase_add_test(tests, hybrid_is_the_fusion_of_both_rankings);
    tcase_add_test(tests, what_cannot_be_searched_for_words_says_why);
    tcase_add_test(tests, a_dropped_collection_is_forgotten_and_its_name_starts_empty);
    tcase_add_test(tests, the_index_comes_back_after_a_kill_without_its_file_and_from_a_damaged_one);
    tcase_add_test(tests, files_and_folders_in_the_place_of_caches_are_replaced);
    tcase_add_test(tests, a_file_that_goes_bad_meanwhile_is_made_anew);
    tcase_add_test(tests, a_filter_leaves_all_hits_that_match_it);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
