/* The lexical index against BM25 as it is written down, and against a store that
 * changes under it. */
#include "tests/index/bm25_reference.h"
#include "tests/index/lexical_fixture.h"

#include "base/random.h"

static words w;

/* --- helpers */

static json_t *read_line(FILE *file)
{
    static char line[1 << 16];
    return fgets(line, sizeof line, file) != NULL ? json_loads(line, 0, NULL) : NULL;
}

static size_t load_lines(const char *name, json_t **lines, size_t max)
{
    const char *path = testing_shared(name);
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    size_t count = 0;
    if (file == NULL)
        return 0;
    while (count < max && (lines[count] = read_line(file)) != NULL)
        count++;
    fclose(file);
    return count;
}

static void free_lines(json_t **lines, size_t count)
{
    for (size_t i = 0; i < count; i++)
        json_decref(lines[i]);
}

static const char *text_of(const json_t *line)
{
    return json_string_value(json_object_get(line, "text"));
}

/* The last search found the k best of these scores, 0: no hit. */
static void expect_best(const reference *r, const double *scores, const char *query, size_t k)
{
    size_t best[HITS_MAX], found = reference_best(r, scores, k, best);
    ck_assert_msg(w.count == found, "%zu hits, not %zu: %s", w.count, found, query);
    for (size_t i = 0; i < found; i++) {
        /* Sums in another order differ in the last bit: neighbours may change places then. */
        double expected = scores[best[i]], real = scores[w.ids[i]];
        ck_assert_msg(fabs(expected - real) <= 1e-6 * expected,
                      "hit %zu of %s: document %llu with %.9g, not %zu with "
                      "%.9g",
                      i, query, (unsigned long long)w.ids[i], real, best[i], expected);
        ck_assert_double_le(fabs(w.hits[i].score - real), 1e-6 * real);
    }
}

/* The last search found what the reference finds. */
static void expect_equal_hits(reference *r, const char *query, size_t k)
{
    double *scores = malloc(r->count * sizeof *scores);
    ck_assert_ptr_nonnull(scores);
    reference_score(r, query, scores);
    expect_best(r, scores, query, k);
    free(scores);
}

/* --- tests */

START_TEST(scores_are_those_of_plain_bm25_on_cranfield)
{
    static json_t *docs[1400], *queries[225];
    size_t count = load_lines("data/cranfield/docs.jsonl", docs, 1400);
    size_t asked = load_lines("data/cranfield/queries.jsonl", queries, 225);
    if (count == 0 || asked == 0)
        return;
    reference r = reference_create(count);
    words_start(&w, MAP);
    for (size_t i = 0; i < count; i++) {
        words_write(&w, i, text_of(docs[i]));
        reference_set(&r, i, text_of(docs[i]));
    }
    words_commit(&w);
    words_catch_up(&w);
    for (size_t i = 0; i < asked; i++) {
        words_search(&w, text_of(queries[i]), 10);
        expect_equal_hits(&r, text_of(queries[i]), 10);
    }
    reference_free(&r);
    free_lines(docs, count);
    free_lines(queries, asked);
    words_end(&w);
}
END_TEST

static void random_text(random_state *random, char out[256])
{
    size_t words_in = random_below(random, 12), used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < words_in; i++)
        used += (size_t)snprintf(out + used, 256 - used, "w%llu ",
                                 (unsigned long long)(random_below(random, 40) * random_below(random, 40) / 20));
}

/* Puts, updates, deletes, steps and new connections in any order leave what an
 * index made at once would have. */
START_TEST(changes_in_any_order_leave_what_building_at_once_would)
{
    enum { DOCS = 60, STEPS = 2000 };
    random_state random;
    char text[256];
    random_seed(&random, testing_seed());
    reference r = reference_create(DOCS);
    words_start(&w, MAP);
    for (size_t i = 0; i < STEPS; i++) {
        size_t id = random_below(&random, DOCS);
        random_text(&random, text);
        bool gone = random_below(&random, 4) == 0;
        words_write(&w, id, gone ? NULL : text);
        reference_set(&r, id, gone ? NULL : text);
        if (random_below(&random, 8) == 0)
            words_commit(&w);
        if (random_below(&random, 20) == 0)
            words_catch_up(&w);
        if (random_below(&random, 200) == 0) {
            words_close(&w);
            words_open(&w);
        }
        if (i % 30 != 0)
            continue;
        words_commit(&w);
        words_catch_up(&w);
        random_text(&random, text);
        words_search(&w, text, 10);
        expect_equal_hits(&r, text, 10);
    }
    reference_free(&r);
    words_end(&w);
}
END_TEST

/* --- frequent terms */

/* Terms that are in these numbers of the documents, spread evenly. */
static const struct {
    const char *word;
    size_t documents;
} SPREAD[] = {{"one", 1},      {"few", 7},       {"some", 120},    {"rare", 300},     {"tenth", 6000},
              {"above", 6001}, {"fifth", 12000}, {"third", 20000}, {"common", 36000}, {"everywhere", 60000}};
enum { SPREAD_DOCS = 60000, SPREAD_WORDS = sizeof SPREAD / sizeof *SPREAD };

static bool holds(size_t word, size_t doc)
{
    /* As Bresenham's line steps: exactly so many of all. The offset keeps words from going together. */
    size_t at = (doc + 7919 * word) % SPREAD_DOCS, n = SPREAD[word].documents;
    return at * n / SPREAD_DOCS != (at + 1) * n / SPREAD_DOCS;
}

static void spread_text(size_t doc, random_state *random, char out[256])
{
    size_t used = 0;
    for (size_t i = 0; i < SPREAD_WORDS; i++)
        for (size_t times = holds(i, doc) ? 1 + random_below(random, 3) : 0; times > 0; times--)
            used += (size_t)snprintf(out + used, 256 - used, "%s ", SPREAD[i].word);
    for (size_t pad = random_below(random, 7); pad > 0; pad--)
        used += (size_t)snprintf(out + used, 256 - used, "everywhere ");
}

/* A word that stands there more often weighs more, but is no rarer. Returns which are asked
 * for, as bits. */
static unsigned spread_query(size_t number, random_state *random, char out[256])
{
    static const size_t first[SPREAD_WORDS] = {0, 0, 0, 1, 0, 3, 3, 3, 0, 0};
    unsigned asked = 1 + (unsigned)random_below(random, (1 << SPREAD_WORDS) - 1), some = 0;
    if (number < SPREAD_WORDS) /* two words next to each other */
        asked = number == 0 ? 0 : 3u << (number - 1);
    size_t used = 0;
    for (size_t i = 0; i < SPREAD_WORDS; i++) {
        size_t times = (asked >> i & 1) != 0 ? 1 + random_below(random, 3) : 0;
        if (number == 0) /* in which the frequent ones weigh most */
            times = first[i];
        some |= times > 0 ? 1u << i : 0;
        for (; times > 0; times--)
            used += (size_t)snprintf(out + used, 256 - used, "%s ", SPREAD[i].word);
    }
    return some;
}

/* docs/lexical.md, "Which documents are scored", 1: sets the scores of those that are not
 * to 0 and returns how many are left; *postings: of the terms that drive. asked: bits of words. */
static size_t leave_candidates(double *scores, unsigned asked, size_t k, size_t *postings)
{
    static bool is_candidate[SPREAD_DOCS];
    const size_t limit = SPREAD_DOCS / 10; /* more than the 5,000 that always drive */
    size_t count = 0;
    memset(is_candidate, 0, sizeof is_candidate);
    *postings = 0;
    for (size_t i = 0; i < SPREAD_WORDS; i++) { /* they are in order of rarity */
        if ((asked >> i & 1) == 0 || (SPREAD[i].documents > limit && count >= k))
            continue;
        *postings += SPREAD[i].documents;
        for (size_t d = 0; d < SPREAD_DOCS; d++) {
            count += holds(i, d) && !is_candidate[d];
            is_candidate[d] = is_candidate[d] || holds(i, d);
        }
    }
    for (size_t d = 0; d < SPREAD_DOCS; d++)
        scores[d] = is_candidate[d] ? scores[d] : 0;
    return count;
}

/* How many of the k best of all were left out. */
static size_t count_lost(const reference *r, const double *all, const double *left, size_t k)
{
    size_t best[HITS_MAX], found = reference_best(r, all, k, best), lost = 0;
    for (size_t i = 0; i < found; i++)
        lost += left[best[i]] <= 0;
    return lost;
}

START_TEST(terms_in_more_than_a_tenth_of_the_documents_only_add_to_scores)
{
    enum { K = 50, QUERIES = 60, DEPTH = 512 };
    static double scores[SPREAD_DOCS], all[SPREAD_DOCS];
    random_state random;
    char text[256];
    size_t compared = 0, lost = 0;
    random_seed(&random, testing_seed());
    reference r = reference_create(SPREAD_DOCS);
    words_start(&w, MAP);
    for (size_t i = 0; i < SPREAD_DOCS; i++) {
        spread_text(i, &random, text);
        words_write(&w, i, text);
        reference_set(&r, i, text);
    }
    words_commit(&w);
    words_catch_up(&w);
    for (size_t i = 0; i < QUERIES; i++) {
        size_t postings;
        unsigned asked = spread_query(i, &random, text);
        reference_score(&r, text, scores);
        memcpy(all, scores, sizeof all);
        size_t candidates = leave_candidates(scores, asked, K, &postings);
        words_search(&w, text, K);
        ck_assert_msg(w.plan.postings == postings, "%zu postings of %zu: %s", w.plan.postings, postings, text);
        ck_assert_uint_eq(w.plan.candidates, candidates);
        if (candidates > DEPTH) /* not all of them are scored then */
            continue;
        expect_best(&r, scores, text, K);
        compared++;
        lost += count_lost(&r, all, scores, K);
    }
    ck_assert_uint_gt(compared, 5);
    ck_assert_uint_gt(lost, 0); /* or this would be plain BM25 */
    reference_free(&r);
    words_end(&w);
}
END_TEST

/* One request names a document twice: the last entry counts, whatever the first did. */
START_TEST(an_id_twice_in_one_request_leaves_the_last_text)
{
    static const char *const first[] = {"old text", "old text", "another", "another"};
    static const float vectors[] = {1, 2, 2, 1}; /* 1 is the old text's */
    sem_error error;
    words_start(&w, MAP);
    for (size_t i = 0; i < 4; i++)
        words_write(&w, i, "old text");
    words_commit(&w);
    words_catch_up(&w);
    for (size_t i = 0; i < 4; i++) {
        const float one[DIM] = {vectors[i], 1, 2, 3}, other[DIM] = {3, 1, 2, 3};
        store_put puts[2] = {{.id = number_id(i), .text = first[i], .text_length = strlen(first[i]), .vector = one},
                             {.id = number_id(i), .text = "new words", .text_length = 9, .vector = other}};
        uint64_t seq;
        ck_ok(store_write_begin(w.store, &w.group, &error));
        ck_ok(store_documents_put(w.group, w.collection, SPACE, DIM, 0, 0, puts, 2, &seq, &error));
        words_commit(&w);
        words_catch_up(&w);
        words_search(&w, "old another text", 10);
        ck_assert_uint_eq(w.count, 3 - i);
        words_search(&w, "words", 10);
        ck_assert_uint_eq(w.count, i + 1);
        ck_assert_uint_eq(w.plan.documents, 4);
    }
    words_end(&w);
}
END_TEST

/* As where a file was given up, so that nothing kept the log for it, and made anew. */
START_TEST(a_log_that_was_forgotten_too_early_makes_the_file_count_as_damaged)
{
    sem_error error;
    store_read *r;
    bool more;
    words_start(&w, MAP);
    words_catch_up(&w);
    words_write(&w, 0, "a text that the log no longer tells of");
    words_commit(&w);
    ck_ok(store_write_begin(w.store, &w.group, &error));
    ck_ok(store_log_trim(w.group, UINT64_MAX, &error));
    words_commit(&w);
    ck_ok(store_read_begin(w.store, &r, &error));
    ck_assert_int_eq(lexical_index_step(w.index, r, &more, &error), SEM_INTERNAL);
    ck_assert(lexical_index_damaged(w.index));
    store_read_end(r);
    words_close(&w);
    ck_ok(lexical_index_remove(w.store, &error));
    words_open(&w);
    words_catch_up(&w);
    words_search(&w, "longer", 10);
    ck_assert_uint_eq(w.count, 1);
    words_end(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lexical index");
    TCase *tests = tcase_create("lexical index");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, scores_are_those_of_plain_bm25_on_cranfield);
    tcase_add_test(tests, changes_in_any_order_leave_what_building_at_once_would);
    tcase_add_test(tests, terms_in_more_than_a_tenth_of_the_documents_only_add_to_scores);
    tcase_add_test(tests, an_id_twice_in_one_request_leaves_the_last_text);
    tcase_add_test(tests, a_log_that_was_forgotten_too_early_makes_the_file_count_as_damaged);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
