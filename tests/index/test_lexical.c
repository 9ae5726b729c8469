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

/* The last search found what the reference finds. */
static void expect_equal_hits(reference *r, const char *query, size_t k)
{
    double *scores = malloc(r->count * sizeof *scores);
    size_t best[HITS_MAX], found = 0;
    ck_assert_ptr_nonnull(scores);
    reference_score(r, query, scores);
    for (size_t next; found < k && (next = reference_next(r, scores, best, found)) < r->count;)
        best[found++] = next;
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
    tcase_add_test(tests, an_id_twice_in_one_request_leaves_the_last_text);
    tcase_add_test(tests, a_log_that_was_forgotten_too_early_makes_the_file_count_as_damaged);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
