/* Requests about documents, and searches with what is said of their hits. */
#include "tests/proto/requests.h"

/* --- documents */

START_TEST(upsert_reads_documents)
{
    request *r = ck_accepts("upsert", "[{'collection': 'c', 'generation': 3, 'docs': ["
                                      "{'id': 7, 'text': ''},"
                                      "{'id': '7', 'text': 'b', 'meta': {'x': [ 'u', 'v' ], 'y': 1.5, 'z': null}},"
                                      "{'text': 'c', 'id': 'd', 'vector': 'bin:0000803f00000000'}]}]");
    ck_assert_uint_eq(r->u.upsert.count, 3);
    ck_assert(r->u.upsert.docs[0].id.is_integer && r->u.upsert.docs[0].id.integer == 7);
    ck_assert(r->u.upsert.docs[0].text.data != NULL && r->u.upsert.docs[0].text.size == 0);
    ck_assert_ptr_null(r->u.upsert.docs[0].meta.data);
    ck_assert(!r->u.upsert.docs[1].id.is_integer && r->u.upsert.docs[1].id.length == 1);
    ck_assert_int_eq((unsigned char)r->u.upsert.docs[1].meta.data[0], 0x83);
    ck_assert_uint_eq(r->u.upsert.docs[1].meta.size, 1 + 2 + 5 + 2 + 9 + 2 + 1);
    ck_assert_uint_eq(r->u.upsert.docs[2].vector.size, 8);
    ck_assert(r->u.upsert.has_generation && r->u.upsert.generation == 3);
    request_free(r);
    ck_takes("upsert", "[{'docs': []}]");
}
END_TEST

START_TEST(upsert_refuses_bad_documents)
{
    ck_refuses("upsert", "[{}]", "docs: required");
    ck_refuses("upsert", "[{'docs': {}}]", "docs: must be an array");
    ck_refuses("upsert", "[{'docs': [3]}]", "docs[0]: must be a map");
    ck_refuses("upsert", "[{'docs': [{'id': 1}]}]", "docs[0]: text: required");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a'}, {'text': 'a'}]}]", "docs[1]: id: required");
    ck_refuses("upsert", "[{'docs': [{'id': -1, 'text': 'a'}]}]", "docs[0]: id: must be a str or an unsigned integer");
    ck_refuses("upsert", "[{'docs': [{'id': 1.0, 'text': 'a'}]}]", "id");
    ck_refuses("upsert", "[{'docs': [{'id': '', 'text': 'a'}]}]", "1 to 480 bytes");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a'}], 'generation': 0}]", "generation");
    ck_refuses_raw("upsert",
                   RAW("\x91\x81\xa4"
                       "docs\x91\x82\xa2"
                       "id\x01\xa4text\xa3"
                       "a\0b"),
                   "docs[0]: text: must not hold a NUL character, found one at byte 1");
}
END_TEST

START_TEST(id_has_at_most_480_bytes)
{
    char id[500], json[600];
    memset(id, 'i', sizeof id);
    id[480] = '\0';
    snprintf(json, sizeof json, "[{'ids': ['%s']}]", id);
    ck_takes("get", json);
    id[480] = 'i';
    id[481] = '\0';
    snprintf(json, sizeof json, "[{'ids': [1, '%s']}]", id);
    ck_refuses("get", json, "ids[1]: must have 1 to 480 bytes, found 481");
}
END_TEST

START_TEST(broken_limits_are_named)
{
    limits.upsert_docs = 1;
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': ''}, {'id': 2, 'text': ''}]}]",
               "docs: 2 documents, at most 1 (limits.upsert_docs)");
    limits.text_bytes = 3;
    ck_refuses("search", "[{'query': 'four'}]", "query: 4 bytes, at most 3 (limits.text_bytes)");
    ck_refuses("encode", "[{'texts': ['abc', 'four']}]", "texts[1]: 4 bytes");
    limits.max_batch = 1;
    ck_refuses("encode", "[{'texts': ['a', 'b']}]", "texts: 2 texts, at most 1 (limits.max_batch)");
    limits.ids = 2;
    ck_refuses("get", "[{'ids': [1, 2, 3]}]", "ids: 3 ids, at most 2 (limits.ids)");
    ck_refuses("delete", "[{'ids': [1, 2, 3]}]", "ids: 3 ids, at most 2 (limits.ids)");
    limits.k = 5;
    ck_refuses("search", "[{'query': 'a', 'k': 6}]", "k: limits.k: must be from 1 to 5, found 6");
    limits.scroll = 5;
    ck_refuses("scroll", "[{'limit': 6}]", "limit: limits.scroll");
    limits.meta_fields = 1;
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': 1, 'b': 2}}]}]",
               "docs[0]: meta: 2 fields, at most 1 (limits.meta_fields)");
    limits.upsert_docs = 2;
    limits.meta_bytes = 4;
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'abc': 1}}]}]",
               "docs[0]: meta: 6 bytes, at most 4 (limits.meta_bytes)");
    limits.filter_values = 2;
    ck_refuses("count", "[{'filter': {'field': 'a', 'in': [1, 2, 3]}}]",
               "filter: in: 3 values, at most 2 (limits.filter_values)");
    limits.upsert_docs = 1001;
    request_limits_defaults(&limits);
    char *params = calloc(1, 9 + 1001);
    memcpy(params,
           "\x91\x81\xa4"
           "docs\xdc\x03\xe9",
           10);
    char *all = realloc(params, 10 + 1001);
    memset(all + 10, 0x80, 1001);
    ck_refuses_raw("upsert", all, 10 + 1001, "docs: 1,001 documents, at most 1,000");
    free(all);
}
END_TEST

START_TEST(defaults_follow_lower_limits)
{
    limits.k = 5;
    limits.scroll = 7;
    request *r = ck_accepts("search", "[{'query': 'a'}]");
    ck_assert_uint_eq(r->u.search.k, 5);
    request_free(r);
    r = ck_accepts("scroll", "[]");
    ck_assert_uint_eq(r->u.scroll.limit, 7);
    request_free(r);
}
END_TEST

START_TEST(meta_is_flat)
{
    ck_takes("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {}}]}]");
    ck_takes("upsert",
             "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': null, 'b': true, 'c': -3, 'd': 'x', 'e': []}}]}]");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': []}]}]", "meta: must be a map");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': {}}}]}]", "meta: a: must be nil, bool");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': [1]}}]}]", "meta: a: [0]: must be a str");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': '', 'meta': {'a': 'bin:00'}}]}]", "found a bin");
    ck_refuses_raw("upsert",
                   RAW("\x91\x81\xa4"
                       "docs\x91\x83\xa2"
                       "id\x01\xa4text\xa0\xa4meta\x81\xa1"
                       "a\xca\x7f\xc0\x00\x00"),
                   "meta: a: must not be NaN");
}
END_TEST

START_TEST(many_keys_are_checked_without_quadratic_work)
{
    /* 100,000 distinct keys, then one of them again; the limit is raised to let them in. */
    limits.meta_fields = 200000;
    limits.meta_bytes = 64 << 20;
    for (int twice = 0; twice < 2; twice++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        pack_array(&p, 1);
        pack_map(&p, 1);
        pack_str(&p, "docs");
        pack_array(&p, 1);
        pack_map(&p, 3);
        pack_str(&p, "id");
        pack_uint(&p, 1);
        pack_str(&p, "text");
        pack_str(&p, "");
        pack_str(&p, "meta");
        pack_map(&p, 100001);
        for (int i = 0; i < 100001; i++) {
            char key[32];
            snprintf(key, sizeof key, "key%06d", i == 100000 && twice == 1 ? 50000 : i);
            pack_str(&p, key);
            pack_nil(&p);
        }
        request *r;
        ck_assert_int_eq(parse_raw("upsert", b.data, b.size, &r), twice == 0 ? SEM_OK : SEM_INVALID_ARGUMENT);
        request_free(r);
        buffer_free(&b);
    }
    ck_assert_ptr_nonnull(strstr(error.message, "key050000"));
}
END_TEST

START_TEST(vector_is_finite_and_not_zero)
{
    ck_takes("search", "[{'vector': 'bin:0000803f'}]");
    ck_takes("search", "[{'vector': 'bin:00000000010000000000008000000000'}]");
    ck_refuses("search", "[{'vector': 'bin:'}]", "vector: must have 4 bytes a dimension, found 0");
    ck_refuses("search", "[{'vector': 'bin:000080'}]", "found 3 bytes");
    ck_refuses("search", "[{'vector': 'bin:0000000000000080'}]", "vector: must not be zero");
    ck_refuses("search", "[{'vector': 'bin:0000803f0000807f'}]", "dimension 1");
    ck_refuses("search", "[{'vector': 'bin:0000c0ff'}]", "must be finite");
    ck_refuses("search", "[{'vector': [1.0]}]", "vector: must be a bin, found an array");
}
END_TEST

START_TEST(delete_takes_ids_or_a_filter)
{
    request *r = ck_accepts("delete", "[{'ids': [1, 'a']}]");
    ck_assert_uint_eq(r->u.erase.count, 2);
    request_free(r);
    r = ck_accepts("delete", "[{'ids': []}]");
    ck_assert(r->u.erase.ids != NULL && r->u.erase.count == 0);
    request_free(r);
    r = ck_accepts("delete", "[{'filter': {'field': 'a', 'eq': 1}}]");
    ck_assert(r->u.erase.ids == NULL && r->u.erase.filter.data != NULL);
    request_free(r);
    ck_refuses("delete", "[{}]", "exactly one");
    ck_refuses("delete", "[{'ids': [], 'filter': {}}]", "exactly one");
}
END_TEST

START_TEST(get_and_scroll_take_a_subset_of_parts)
{
    request *r = ck_accepts("get", "[{'ids': [1]}]");
    ck_assert_uint_eq(r->u.get.with, WITH_TEXT | WITH_META);
    request_free(r);
    r = ck_accepts("get", "[{'ids': [1], 'with': []}]");
    ck_assert_uint_eq(r->u.get.with, 0);
    request_free(r);
    r = ck_accepts("scroll", "[{'with': ['vector', 'text'], 'after': 'xyz', 'limit': 1000}]");
    ck_assert_uint_eq(r->u.scroll.with, WITH_TEXT | WITH_VECTOR);
    ck_assert(is(r->u.scroll.after, "xyz") && r->u.scroll.limit == 1000);
    request_free(r);
    r = ck_accepts("scroll", "[]");
    ck_assert(r->u.scroll.after.data == NULL && r->u.scroll.limit == 100);
    request_free(r);
    ck_refuses("get", "[{'ids': [1], 'with': ['score']}]", "with: must be one of \"text\", \"meta\", \"vector\"");
    ck_refuses("get", "[{'ids': [1], 'with': ['text', 'text']}]", "twice");
    ck_refuses("get", "[{'ids': [1], 'with': 'text'}]", "with: must be an array");
    ck_refuses("scroll", "[{'after': null}]", "after");
    ck_refuses("scroll", "[{'limit': 0}]", "limit");
}
END_TEST

START_TEST(filter_keeps_its_bytes)
{
    request *r =
        ck_accepts("count", "[{'filter': {'all': [{'field': 'a', 'in': [1, 'b', null]}, {'not': {'any': []}}]}}]");
    ck_assert_int_eq((unsigned char)r->u.count.filter.data[0], 0x81);
    const char *end = r->u.count.filter.data + r->u.count.filter.size;
    ck_assert_ptr_eq(end, (const char *)r->frame.data + r->frame.size);
    request_free(r);
    ck_refuses("count", "[{'filter': []}]", "filter: must be a map");
    ck_refuses("count",
               "[{'filter': {'a':1,'b':1,'c':1,'d':1,'e':1,'f':1,'g':1,'h':1,'i':1,'j':1,'k':1,'l':1,'m':1,"
               "'n':1,'o':1,'p':1,'q':1}}]",
               "filter: a map of 17 keys");
}
END_TEST

/* --- searching */

START_TEST(explain_takes_what_search_takes)
{
    request *r = ck_accepts("explain", "[{'query': 'a', 'k': 3, 'recall': 0.5, 'log': true, 'user': 'u'}]");
    ck_assert_int_eq(r->method, METHOD_EXPLAIN);
    ck_assert_uint_eq(r->u.search.k, 3);
    ck_assert_double_eq(r->u.search.recall, 0.5);
    request_free(r);
    ck_refuses("explain", "[{}]", "query, vector, like: exactly one of the three must be given");
    ck_refuses("explain", "[{'query': 'a', 'kk': 3}]", "unknown key \"kk\"");
}
END_TEST

START_TEST(evaluate_takes_queries_with_the_ids_that_they_should_find)
{
    request *r = ck_accepts("evaluate", "[{'queries': [{'query': 'a', 'relevant': [7, '7', 300]}, {'query': '', "
                                        "'relevant': []}], 'k': 3, 'mode': 'hybrid'}]");
    ck_assert(r->u.evaluate.count == 2 && r->u.evaluate.k == 3 && r->u.evaluate.mode == SEARCH_HYBRID);
    span left = r->u.evaluate.queries[0].relevant;
    docid id;
    ck_assert_uint_eq(r->u.evaluate.queries[0].relevant_count, 3);
    ck_assert(request_next_id(&left, &id) && id.is_integer && id.integer == 7);
    ck_assert(request_next_id(&left, &id) && !id.is_integer && id.length == 1 && id.string[0] == '7');
    ck_assert(request_next_id(&left, &id) && id.is_integer && id.integer == 300);
    ck_assert(!request_next_id(&left, &id));
    ck_assert_uint_eq(r->u.evaluate.queries[1].relevant_count, 0);
    left = r->u.evaluate.queries[1].relevant;
    ck_assert(!request_next_id(&left, &id));
    request_free(r);
    r = ck_accepts("evaluate", "[{'queries': []}]");
    ck_assert(r->u.evaluate.count == 0 && r->u.evaluate.k == 10 && r->u.evaluate.mode == SEARCH_DENSE);
    request_free(r);
    ck_refuses("evaluate", "[{}]", "queries: required but missing");
    ck_refuses("evaluate", "[{'queries': [{'query': 'a'}]}]", "queries[0]");
    ck_refuses("evaluate", "[{'queries': [{'query': 'a', 'relevant': [1, -1]}]}]", "queries[0]: relevant[1]: must be");
    ck_refuses("evaluate", "[{'queries': [], 'k': 0}]", "limits.k: must be from 1");
    ck_refuses("evaluate", "[{'queries': [], 'recall': 0.9}]", "unknown key \"recall\"");
    limits.upsert_docs = 1;
    ck_refuses("evaluate", "[{'queries': [{'query': 'a', 'relevant': []}, {'query': 'a', 'relevant': []}]}]",
               "limits.upsert_docs");
    limits.ids = 1;
    ck_refuses("evaluate", "[{'queries': [{'query': 'a', 'relevant': [1, 2]}]}]", "limits.ids");
}
END_TEST

START_TEST(search_takes_one_subject)
{
    request *r = ck_accepts("search", "[{'query': 'x'}]");
    ck_assert(is(r->u.search.query, "x") && r->u.search.k == 10 && r->u.search.log && r->u.search.with == 0);
    ck_assert(r->u.search.mode == SEARCH_DENSE && !r->u.search.exact && !r->u.search.has_recall);
    request_free(r);
    r = ck_accepts("search", "[{'like': 0}]");
    ck_assert(r->u.search.has_like && r->u.search.like.is_integer);
    request_free(r);
    ck_takes("search", "[{'vector': 'bin:0000803f', 'generation': 2}]");
    ck_refuses("search", "[{}]", "exactly one of the three");
    ck_refuses("search", "[{'query': 'x', 'like': 1}]", "exactly one of the three");
    ck_refuses("search", "[{'query': 'x', 'vector': 'bin:0000803f'}]", "exactly one of the three");
    ck_refuses("search", "[{'query': 'x', 'generation': 2}]", "generation: goes only with vector");
}
END_TEST

START_TEST(search_options_exclude_each_other)
{
    ck_refuses("search", "[{'query': 'x', 'recall': 0.9, 'nprobe': 3}]", "exclude each other");
    ck_refuses("search", "[{'query': 'x', 'recall': 0.9, 'exact': true}]", "exclude each other");
    ck_refuses("search", "[{'query': 'x', 'nprobe': 3, 'exact': true}]", "exclude each other");
    ck_takes("search", "[{'query': 'x', 'nprobe': 3, 'exact': false}]");
}
END_TEST

START_TEST(search_options_have_their_ranges)
{
    request *r = ck_accepts("search",
                            "[{'query': 'x', 'recall': 1, 'k': 10000, 'mode': 'hybrid', 'log': false, 'user': 'u',"
                            "'with': ['text','meta','vector'], 'filter': {}}]");
    ck_assert(r->u.search.has_recall && r->u.search.recall == 1.0 && r->u.search.mode == SEARCH_HYBRID);
    ck_assert(is(r->u.search.user, "u") && !r->u.search.log && r->u.search.with == 7);
    request_free(r);
    ck_takes("search", "[{'query': 'x', 'mode': 'lexical'}]");
    ck_refuses("search", "[{'query': 'x', 'recall': 0}]", "recall: must be above 0");
    ck_refuses("search", "[{'query': 'x', 'recall': 1.01}]", "recall: must be from 0 to 1");
    ck_refuses("search", "[{'query': 'x', 'recall': -0.5}]", "recall");
    ck_refuses("search", "[{'query': 'x', 'recall': '1'}]", "recall: must be a number, found a str");
    ck_refuses("search", "[{'query': 'x', 'nprobe': 0}]", "nprobe");
    ck_refuses("search", "[{'query': 'x', 'k': 0}]", "k");
    ck_refuses("search", "[{'query': 'x', 'k': 10001}]", "10,001");
    ck_refuses("search", "[{'query': 'x', 'k': 10.0}]", "k: limits.k: must be an integer");
    ck_refuses("search", "[{'query': 'x', 'mode': 'fuzzy'}]",
               "mode: must be one of \"dense\", \"lexical\", \"hybrid\"");
    ck_refuses("search", "[{'query': 'x', 'exact': 1}]", "exact: must be a bool");
    ck_refuses_raw("search", RAW("\x91\x82\xa5query\xa1x\xa6recall\xcb\x7f\xf8\0\0\0\0\0\0"), "recall");
    char user[300], json[400];
    memset(user, 'u', sizeof user);
    user[257] = '\0';
    snprintf(json, sizeof json, "[{'query': 'x', 'user': '%s'}]", user);
    ck_refuses("search", json, "user: 257 bytes, at most 256");
    snprintf(json, sizeof json, "[{'query': 'x', 'user': '%s'}]", user + 1);
    ck_takes("search", json);
}
END_TEST

START_TEST(click_reads_its_weight)
{
    request *r = ck_accepts("click", "[{'query_id': 'q', 'id': 'a'}]");
    ck_assert(is(r->u.click.query_id, "q") && r->u.click.weight == 1.0);
    request_free(r);
    r = ck_accepts("click", "[{'query_id': 'q', 'id': 3, 'weight': 10}]");
    ck_assert(r->u.click.weight == 10.0 && r->u.click.id.integer == 3);
    request_free(r);
    ck_takes("click", "[{'query_id': 'q', 'id': 3, 'weight': 0}]");
    ck_refuses("click", "[{'query_id': 'q', 'id': 3, 'weight': 10.5}]", "weight: must be from 0 to 10");
    ck_refuses("click", "[{'query_id': 'q', 'id': 3, 'weight': -1}]", "weight");
    ck_refuses("click", "[{'query_id': '', 'id': 3}]", "query_id: must not be empty");
    ck_refuses("click", "[{'query_id': 'q'}]", "id: required");
    ck_refuses("click", "[{'query_id': 'q', 'id': 1, 'collection': 'c'}]", "unknown key \"collection\"");
    ck_refuses("click", "[{'query_id': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'id': 3}]",
               "query_id: 65 bytes");
}
END_TEST

START_TEST(feedback_pairs_name_a_document_or_a_text)
{
    request *r = ck_accepts("feedback", "[{'collection': 'c', 'pairs': [{'query': 'q', 'id': 0, 'label': 1},"
                                        "{'query': 'q', 'text': 't', 'label': -1}]}]");
    ck_assert(r->u.feedback.pairs[0].by_id && r->u.feedback.pairs[0].label == 1);
    ck_assert(!r->u.feedback.pairs[1].by_id && is(r->u.feedback.pairs[1].text, "t"));
    ck_assert_int_eq(r->u.feedback.pairs[1].label, -1);
    request_free(r);
    ck_refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0}]}]", "pairs[0]: label: required");
    ck_refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 0}]}]",
               "pairs[0]: label: must be the integer 1");
    ck_refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 1.0}]}]", "label");
    ck_refuses("feedback", "[{'pairs': [{'query': 'q', 'label': 1}]}]", "exactly one of the two");
    ck_refuses("feedback", "[{'pairs': [{'query': 'q', 'id': 1, 'text': '', 'label': 1}]}]", "exactly one of the two");
    ck_refuses("feedback", "[{}]", "pairs: required");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request_documents");
    TCase *c = tcase_create("request_documents");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, upsert_reads_documents);
    tcase_add_test(c, upsert_refuses_bad_documents);
    tcase_add_test(c, id_has_at_most_480_bytes);
    tcase_add_test(c, broken_limits_are_named);
    tcase_add_test(c, defaults_follow_lower_limits);
    tcase_add_test(c, meta_is_flat);
    tcase_add_test(c, many_keys_are_checked_without_quadratic_work);
    tcase_add_test(c, vector_is_finite_and_not_zero);
    tcase_add_test(c, delete_takes_ids_or_a_filter);
    tcase_add_test(c, get_and_scroll_take_a_subset_of_parts);
    tcase_add_test(c, filter_keeps_its_bytes);
    tcase_add_test(c, explain_takes_what_search_takes);
    tcase_add_test(c, evaluate_takes_queries_with_the_ids_that_they_should_find);
    tcase_add_test(c, search_takes_one_subject);
    tcase_add_test(c, search_options_exclude_each_other);
    tcase_add_test(c, search_options_have_their_ranges);
    tcase_add_test(c, click_reads_its_weight);
    tcase_add_test(c, feedback_pairs_name_a_document_or_a_text);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
