/* Measuring a model on judged data. */
#include "tests/finetune/data_files.h"

#include "finetune/suite.h"

#include <math.h>

static sem_error error;

static data_options options_of(data_form form, const char *const *files, size_t count)
{
    data_options o = data_options_defaults();
    o.name = "judged";
    o.form = form;
    o.files = files;
    o.file_count = count;
    return o;
}

/* The tiny model, or NULL. */
static model *open_tiny(void)
{
    const char *dir = testing_shared("golden/tiny-bert");
    model *m = NULL;
    if (dir != NULL)
        ck_ok(model_open(&m, dir, NULL, NULL, &error));
    return m;
}

START_TEST(spearman_shares_the_ranks_of_ties)
{
    const double x[] = {1, 2, 2, 3, 5}, y[] = {10, 30, 20, 40, 40}, flat[] = {1, 1, 1, 1, 1};
    double rho;
    ck_ok(suite_spearman(x, y, 5, &rho, &error));
    /* Ranks 1, 2.5, 2.5, 4, 5 and 1, 3, 2, 4.5, 4.5, both with a mean of 3. */
    ck_assert_double_eq_tol(rho, 9 / 9.5, 1e-12);
    ck_ok(suite_spearman(x, x, 5, &rho, &error));
    ck_assert_double_eq_tol(rho, 1, 1e-12);
    ck_ok(suite_spearman(x, flat, 5, &rho, &error));
    ck_assert(isnan(rho));
    ck_assert_double_eq_tol(suite_pearson(x, y, 5), 66 / sqrt(9.2 * 680), 1e-12);
}
END_TEST

START_TEST(a_text_finds_itself_whatever_the_model)
{
    model *m = open_tiny();
    if (m == NULL)
        return;
    const suite_options o = {.model = m, .threads = 2, .k = 10};
    const char *const files[] = {data_file("own.jsonl", "[\"a red house\", \"a red house\"]\n"
                                                        "[\"many green trees\", \"many green trees\"]\n"
                                                        "[\"one blue sky\", \"one blue sky\"]\n")};
    const data_options pairs = options_of(DATA_PAIRS, files, 1);
    rank_metrics ranks;
    suite_translation both;
    ck_ok(suite_retrieval_pairs(&o, &pairs, &ranks, &error));
    ck_assert_uint_eq(ranks.queries, 3);
    ck_assert_double_eq_tol(ranks.mrr, 1, 1e-12);
    ck_assert_double_eq_tol(ranks.ndcg, 1, 1e-12);
    ck_ok(suite_translation_of(&o, &pairs, &both, &error));
    ck_assert_uint_eq(both.pairs, 3);
    ck_assert_double_eq_tol(both.forward, 1, 1e-12);
    ck_assert_double_eq_tol(both.backward, 1, 1e-12);
    model_close(m);
}
END_TEST

START_TEST(translations_that_are_another_lines_are_wrong_and_equal_ones_right)
{
    model *m = open_tiny();
    if (m == NULL)
        return;
    const suite_options o = {.model = m, .threads = 1, .k = 10};
    /* Two lines are swapped; two read the same. */
    const char *const files[] = {data_file("t.a", "a red house\nmany green trees\none blue sky\none blue sky\n"),
                                 data_file("t.b", "many green trees\na red house\none blue sky\none blue sky\n")};
    const data_options parallel = options_of(DATA_PARALLEL, files, 2);
    suite_translation both;
    ck_ok(suite_translation_of(&o, &parallel, &both, &error));
    ck_assert_double_eq_tol(both.forward, 0.5, 1e-12);
    ck_assert_double_eq_tol(both.backward, 0.5, 1e-12);
    model_close(m);
}
END_TEST

START_TEST(alike_texts_correlate_with_their_scores)
{
    model *m = open_tiny();
    if (m == NULL)
        return;
    const suite_options o = {.model = m, .threads = 1, .k = 10};
    const char *const files[] = {data_file("s.tsv", "a red house\ta red house\t5\nb c d e f\tmany trees\t1\n")};
    const data_options graded = options_of(DATA_STS, files, 1);
    suite_similarity s;
    ck_ok(suite_sts(&o, &graded, &s, &error));
    ck_assert_uint_eq(s.pairs, 2);
    ck_assert_double_eq_tol(s.spearman, 1, 1e-12);
    const data_options wrong = options_of(DATA_PAIRS, files, 1);
    ck_fails(suite_sts(&o, &wrong, &s, &error), SEM_INVALID_ARGUMENT);
    model_close(m);
}
END_TEST

static const char CORPUS[] = "{\"_id\": \"d1\", \"title\": \"a red\", \"text\": \"house\"}\n"
                             "{\"_id\": \"d2\", \"title\": \"\", \"text\": \"many green trees\"}\n"
                             "{\"id\": 3, \"text\": \"one blue sky\"}\n";
static const char QUERIES[] =
    "{\"_id\": \"q1\", \"text\": \"a red house\"}\n{\"_id\": \"q2\", \"text\": \"one blue sky\"}\n"
    "{\"_id\": \"q3\", \"text\": \"nothing judged\"}\n";

START_TEST(files_as_the_beir_benchmark_has_them_are_read)
{
    model *m = open_tiny();
    if (m == NULL)
        return;
    const suite_options o = {.model = m, .threads = 1, .k = 10};
    suite_beir files = {.name = "beir",
                        .corpus = data_file("corpus.jsonl", CORPUS),
                        .queries = data_file("queries.jsonl.gz", QUERIES),
                        .qrels = data_file("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\t3\t1\nq2\td2\t0\n"
                                                        "q3\tunknown\t1\n"),
                        .longest = 4096};
    rank_metrics ranks;
    ck_ok(suite_retrieval_beir(&o, &files, &ranks, &error));
    ck_assert_uint_eq(ranks.queries, 2);
    ck_assert_double_eq_tol(ranks.mrr, 1, 1e-12);
    ck_assert_double_eq_tol(ranks.recall, 1, 1e-12);

    files.qrels = data_file("bad1.tsv", "q1\td1\t1\nq9\td1\t1\n");
    ck_fails(suite_retrieval_beir(&o, &files, &ranks, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "bad1.tsv:2: query q9"));
    files.qrels = data_file("bad2.tsv", "q1\td1\t1\nq1\td1\n");
    ck_fails(suite_retrieval_beir(&o, &files, &ranks, &error), SEM_INVALID_ARGUMENT);
    files.corpus = data_file("twice.jsonl", "{\"id\": \"a\", \"text\": \"x\"}\n{\"id\": \"a\", \"text\": \"y\"}\n");
    ck_fails(suite_retrieval_beir(&o, &files, &ranks, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "same id"));
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("suite");
    TCase *tests = tcase_create("measures");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, spearman_shares_the_ranks_of_ties);
    tcase_add_test(tests, a_text_finds_itself_whatever_the_model);
    tcase_add_test(tests, translations_that_are_another_lines_are_wrong_and_equal_ones_right);
    tcase_add_test(tests, alike_texts_correlate_with_their_scores);
    tcase_add_test(tests, files_as_the_beir_benchmark_has_them_are_read);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
