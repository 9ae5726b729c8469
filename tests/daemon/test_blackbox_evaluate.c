/* evaluate, against the real daemon. */
#include "tests/daemon/blackbox.h"

#include <math.h>
#include <string.h>

enum { DOCS = 1400, QUERIES = 225, RELEVANT_MAX = 64, K = 10, BATCH = 200, LINE_BYTES_MAX = 1 << 16 };

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    return true;
}

static double metric(const msgpack_object *answer, const char *name)
{
    return object_double(object_get(answer, name), -1);
}

START_TEST(metrics_are_those_of_their_definitions)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'words'}");
    box_call(&b, "upsert",
             "{'collection': 'words', 'docs': [{'id': 1, 'text': 'fox fox fox'}, {'id': 2, 'text': 'fox fox hen'},"
             "{'id': '2', 'text': 'fox hen hen'}, {'id': 4, 'text': 'dog'}, {'id': 5, 'text': 'cat'}]}");
    /* The order for fox is 1, 2, "2": the second and third are relevant, of three that are
     * known as such, one of which does not exist; 2 is given twice. dog is found first. */
    const msgpack_object *r =
        box_call(&b, "evaluate",
                 "{'collection': 'words', 'mode': 'lexical', 'queries': [{'query': 'fox', 'relevant': [2, '2', 2, "
                 "99]}, {'query': 'dog', 'relevant': [4]}, {'query': 'cat', 'relevant': []}]}");
    const double second = 1 / log2(3), third = 1 / log2(4);
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 1);
    ck_assert_uint_eq(object_uint(object_get(r, "queries"), 0), 2);
    ck_assert_double_eq_tol(metric(r, "ndcg"), ((second + third) / (1 + second + third) + 1) / 2, 1e-12);
    ck_assert_double_eq_tol(metric(r, "mrr"), (0.5 + 1) / 2, 1e-12);
    ck_assert_double_eq_tol(metric(r, "recall"), (2.0 / 3 + 1) / 2, 1e-12);
    ck_assert_double_eq_tol(metric(r, "map"), ((1.0 / 2 + 2.0 / 3) / 3 + 1) / 2, 1e-12);
    r = box_call(&b, "evaluate",
                 "{'collection': 'words', 'mode': 'lexical', 'k': 2, 'queries': [{'query': 'fox', 'relevant': [2, "
                 "'2', 99]}]}");
    ck_assert_double_eq_tol(metric(r, "recall"), 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(metric(r, "map"), 0.5 / 2, 1e-12);
    r = box_call(&b, "evaluate", "{'queries': []}");
    ck_assert_uint_eq(object_uint(object_get(r, "queries"), 9), 0);
    ck_assert_double_eq(metric(r, "ndcg"), 0);
    box_stop(&b);
}
END_TEST

START_TEST(what_cannot_be_evaluated_is_refused)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'outside', 'options': {'vectors': 'external', 'dim': 4}}");
    box_call(&b, "collection.create", "{'name': 'plain', 'options': {'lexical': false}}");
    box_fails(&b, "NOT_FOUND", "evaluate", "{'collection': 'none', 'queries': []}");
    const char *message = box_fails(&b, "INVALID_ARGUMENT", "evaluate",
                                    "{'collection': 'outside', 'queries': [{'query': 'a', 'relevant': [1]}]}");
    ck_assert_ptr_nonnull(strstr(message, "external"));
    box_call(&b, "evaluate",
             "{'collection': 'outside', 'mode': 'lexical', 'queries': [{'query': 'a', 'relevant': [1]}]}");
    box_fails(&b, "FAILED_PRECONDITION", "evaluate",
              "{'collection': 'plain', 'mode': 'lexical', 'queries': [{'query': 'a', 'relevant': [1]}]}");
    box_fails(&b, "DEADLINE_EXCEEDED", "evaluate", "{'queries': [], 'deadline_ms': 0}");
    box_stop(&b);
}
END_TEST

/* --- Cranfield */

typedef struct judged {
    json_t *line;
    json_int_t relevant[RELEVANT_MAX];
    size_t count;
    json_int_t hits[K];
    size_t found;
} judged;

static judged queries[QUERIES];

static void read_lines(const char *path, json_t **lines, size_t count)
{
    static char text[LINE_BYTES_MAX];
    FILE *in = fopen(path, "re");
    ck_assert_ptr_nonnull(in);
    for (size_t i = 0; i < count; i++) {
        ck_assert_ptr_nonnull(fgets(text, sizeof text, in));
        lines[i] = json_loads(text, 0, NULL);
        ck_assert_ptr_nonnull(lines[i]);
    }
    fclose(in);
}

static json_int_t number_of(const json_t *line)
{
    return strtoll(json_string_value(json_object_get(line, "id")), NULL, 10);
}

static const msgpack_object *call(const char *method, json_t *params)
{
    buffer bytes = {0};
    box_pack_json(&bytes, params);
    return box_call_packed(&b, method, &bytes);
}

static void load_documents(const char *path)
{
    static json_t *lines[DOCS];
    read_lines(path, lines, DOCS);
    for (size_t at = 0; at < DOCS; at += BATCH) {
        json_t *batch = json_array();
        for (size_t i = at; i < at + BATCH; i++)
            json_array_append_new(
                batch, json_pack("{s:I,s:O}", "id", number_of(lines[i]), "text", json_object_get(lines[i], "text")));
        call("upsert", json_pack("{s:o}", "docs", batch));
    }
    for (size_t i = 0; i < DOCS; i++)
        json_decref(lines[i]);
}

static void load_queries(const char *path, const char *judgements)
{
    static json_t *lines[QUERIES];
    static char text[LINE_BYTES_MAX];
    read_lines(path, lines, QUERIES);
    for (size_t i = 0; i < QUERIES; i++)
        queries[i].line = lines[i];
    FILE *in = fopen(judgements, "re");
    ck_assert_ptr_nonnull(in);
    while (fgets(text, sizeof text, in) != NULL) {
        char *at;
        long query = strtol(text, &at, 10), doc = strtol(at, &at, 10), grade = strtol(at, NULL, 10);
        for (size_t i = 0; i < QUERIES && grade > 0; i++)
            if (number_of(queries[i].line) == query && queries[i].count < RELEVANT_MAX)
                queries[i].relevant[queries[i].count++] = doc;
    }
    fclose(in);
}

static void search_all(const char *mode)
{
    for (size_t i = 0; i < QUERIES; i++) {
        const msgpack_object *hits =
            object_get(call("search", json_pack("{s:O,s:s,s:i,s:b}", "query", json_object_get(queries[i].line, "text"),
                                                "mode", mode, "k", K, "log", 0)),
                       "hits");
        queries[i].found = box_count(hits);
        ck_assert_uint_le(queries[i].found, K);
        for (size_t h = 0; h < queries[i].found; h++)
            queries[i].hits[h] = (json_int_t)object_uint(object_get(box_at(hits, h), "id"), 0);
    }
}

static bool is_relevant(const judged *q, json_int_t id)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->relevant[i] == id)
            return true;
    return false;
}

/* The definitions, as plainly as they can be written. Returns the number of queries that count. */
static size_t reference(double *ndcg, double *mrr, double *recall, double *map)
{
    size_t counted = 0;
    *ndcg = *mrr = *recall = *map = 0;
    for (size_t i = 0; i < QUERIES; i++) {
        const judged *q = &queries[i];
        double dcg = 0, best = 0, precisions = 0, reciprocal = 0;
        size_t right = 0;
        if (q->count == 0)
            continue;
        counted++;
        for (size_t rank = 1; rank <= q->found; rank++) {
            if (!is_relevant(q, q->hits[rank - 1]))
                continue;
            right++;
            dcg += 1 / log2((double)rank + 1);
            precisions += (double)right / (double)rank;
            reciprocal = right == 1 ? 1 / (double)rank : reciprocal;
        }
        for (size_t rank = 1; rank <= K && rank <= q->count; rank++)
            best += 1 / log2((double)rank + 1);
        *ndcg += dcg / best;
        *mrr += reciprocal;
        *recall += (double)right / (double)q->count;
        *map += precisions / (double)(q->count < K ? q->count : K);
    }
    double n = (double)counted;
    *ndcg /= n, *mrr /= n, *recall /= n, *map /= n;
    return counted;
}

/* A query that is encoded beside others may differ from itself alone in the last bits,
 * which can turn the order of two documents that are as near. */
static void compare(const char *mode, double tolerance)
{
    double ndcg, mrr, recall, map;
    json_t *list = json_array();
    search_all(mode);
    size_t counted = reference(&ndcg, &mrr, &recall, &map);
    for (size_t i = 0; i < QUERIES; i++) {
        json_t *ids = json_array();
        for (size_t n = 0; n < queries[i].count; n++)
            json_array_append_new(ids, json_integer(queries[i].relevant[n]));
        json_array_append_new(
            list, json_pack("{s:O,s:o}", "query", json_object_get(queries[i].line, "text"), "relevant", ids));
    }
    const msgpack_object *r = call("evaluate", json_pack("{s:o,s:s,s:i}", "queries", list, "mode", mode, "k", K));
    ck_assert_uint_eq(object_uint(object_get(r, "queries"), 0), counted);
    ck_assert_double_gt(ndcg, 0);
    ck_assert_double_eq_tol(metric(r, "ndcg"), ndcg, tolerance);
    ck_assert_double_eq_tol(metric(r, "mrr"), mrr, tolerance);
    ck_assert_double_eq_tol(metric(r, "recall"), recall, tolerance);
    ck_assert_double_eq_tol(metric(r, "map"), map, tolerance);
    printf("%s: ndcg %.4f mrr %.4f recall %.4f map %.4f\n", mode, ndcg, mrr, recall, map);
}

START_TEST(cranfield_is_judged_as_its_searches_are)
{
    char docs[FILES_PATH_MAX], asked[FILES_PATH_MAX], judgements[FILES_PATH_MAX];
    const char *folder = testing_shared("data/cranfield");
    if (folder == NULL)
        return;
    sem_error error;
    ck_ok(files_join(docs, &error, "%s/docs.jsonl", folder));
    ck_ok(files_join(asked, &error, "%s/queries.jsonl", folder));
    ck_ok(files_join(judgements, &error, "%s/qrels.tsv", folder));
    if (!start())
        return;
    load_documents(docs);
    load_queries(asked, judgements);
    compare("lexical", 1e-9);
    compare("dense", 0.003);
    compare("hybrid", 0.003);
    for (size_t i = 0; i < QUERIES; i++)
        json_decref(queries[i].line);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 250);
    tcase_add_test(tests, metrics_are_those_of_their_definitions);
    tcase_add_test(tests, what_cannot_be_evaluated_is_refused);
    tcase_add_test(tests, cranfield_is_judged_as_its_searches_are);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
