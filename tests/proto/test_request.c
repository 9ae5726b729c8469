/* What holds for the requests of every method, and those about the model and the server. */
#include "tests/proto/requests.h"

#include "base/random.h"

/* --- what holds for every method */

START_TEST(every_method_has_its_name_back)
{
    static const char *const names[] = {"ping",
                                        "auth",
                                        "info",
                                        "encode",
                                        "collection.create",
                                        "collection.drop",
                                        "collection.list",
                                        "upsert",
                                        "delete",
                                        "get",
                                        "count",
                                        "scroll",
                                        "search",
                                        "explain",
                                        "click",
                                        "feedback",
                                        "events",
                                        "events.erase",
                                        "evaluate",
                                        "finetune",
                                        "job",
                                        "generations",
                                        "rollback",
                                        "model.load",
                                        "backup",
                                        "index.export",
                                        "watch"};
    ck_assert_uint_eq(sizeof names / sizeof *names, METHOD_COUNT_OF);
    for (unsigned i = 0; i < METHOD_COUNT_OF; i++)
        ck_assert_str_eq(rpc_method_name((rpc_method)i), names[i]);
}
END_TEST

START_TEST(unknown_method_is_named)
{
    ck_refuses("watches", "[]", "unknown method: watches");
    ck_assert_str_eq(error.message, "unknown method: watches");
    ck_refuses("", "[]", "unknown method: ");
    ck_refuses("Ping", "[]", "unknown method: Ping");
    char endless[2000];
    memset(endless, 'm', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    ck_refuses(endless, "[]", "unknown method: mmm");
    ck_refuses("a\nb", "[]", "unknown method: a?b");
}
END_TEST

START_TEST(params_is_an_array_that_holds_one_map)
{
    ck_takes("ping", "[]");
    ck_takes("ping", "[{}]");
    ck_takes("ping", "[{'deadline_ms': 100}]");
    ck_takes("search", "[{'query': 'x'}]");
    ck_refuses_raw("ping", RAW("\xc0"), "params");
    ck_refuses_raw("ping", RAW("\x80"), "params");
    ck_refuses_raw("ping", RAW("\x91\xc0"), "params");
    ck_refuses_raw("ping", RAW("\x92\x80\x80"), "params");
    ck_refuses("encode", "[]", "texts: required");
    ck_refuses("search", "[['query', 'x']]", "params[0]");
}
END_TEST

START_TEST(method_of_another_type_is_refused)
{
    static const unsigned char frame[] = {0x94, 0x00, 0x05, 0x07, 0x90};
    request *r;
    unsigned char *copy = malloc(sizeof frame);
    memcpy(copy, frame, sizeof frame);
    ck_fails(request_parse(&r, &(buffer){.data = copy, .size = sizeof frame}, &limits, &msgid, &notification, &error),
             SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(msgid, 5);
}
END_TEST

START_TEST(notification_is_told_apart)
{
    static const unsigned char frame[] = {0x93, 0x02, 0xa4, 'p', 'i', 'n', 'g', 0x90};
    request *r;
    unsigned char *copy = malloc(sizeof frame);
    memcpy(copy, frame, sizeof frame);
    ck_ok(request_parse(&r, &(buffer){.data = copy, .size = sizeof frame}, &limits, &msgid, &notification, &error));
    ck_assert(notification && r->notification);
    ck_assert_int_eq(r->method, METHOD_PING);
    request_free(r);
}
END_TEST

START_TEST(unknown_key_is_named_with_those_allowed)
{
    ck_refuses("search", "[{'query': 'x', 'limit': 3}]", "unknown key \"limit\"");
    ck_assert_ptr_nonnull(strstr(error.message, "nprobe"));
    ck_assert_ptr_nonnull(strstr(error.message, "deadline_ms"));
    ck_refuses("ping", "[{'x': 1}]", "unknown key \"x\"; allowed here: deadline_ms");
    ck_refuses("upsert", "[{'docs': [{'id': 1, 'text': 'a', 'txt': 'b'}]}]", "docs[0]: unknown key \"txt\"");
    ck_refuses("collection.create", "[{'name': 'a', 'options': {'dims': 3}}]", "unknown key \"dims\"");
}
END_TEST

START_TEST(key_twice_is_refused_at_every_level)
{
    ck_refuses_raw("ping",
                   RAW("\x91\x82\xab"
                       "deadline_ms\x01\xab"
                       "deadline_ms\x01"),
                   "deadline_ms: given twice");
    ck_refuses_raw("upsert",
                   RAW("\x91\x81\xa4"
                       "docs\x91\x83\xa2"
                       "id\x01\xa2"
                       "id\x01\xa4text\xa0"),
                   "docs[0]: id: given twice");
    ck_refuses_raw("upsert",
                   RAW("\x91\x81\xa4"
                       "docs\x91\x83\xa2"
                       "id\x01\xa4text\xa0\xa4meta\x82\xa1"
                       "a\x01\xa1"
                       "a\x02"),
                   "docs[0]: meta: key \"a\" given twice");
    ck_refuses_raw("count",
                   RAW("\x91\x81\xa6"
                       "filter\x81\xa3"
                       "all\x91\x82\xa1"
                       "a\x01\xa1"
                       "a\x02"),
                   "filter: key \"a\" given twice");
}
END_TEST

START_TEST(key_that_is_no_str_is_refused_at_every_level)
{
    ck_refuses_raw("ping", RAW("\x91\x81\x01\x01"), "a str as every key");
    ck_refuses_raw("count",
                   RAW("\x91\x81\xa6"
                       "filter\x81\xc4\x01"
                       "a\x01"),
                   "a str as every key");
    ck_refuses_raw("upsert",
                   RAW("\x91\x81\xa4"
                       "docs\x91\x83\xa2"
                       "id\x01\xa4text\xa0\xa4meta\x81\x01\x01"),
                   "docs[0]: meta: must be a str as every key");
}
END_TEST

START_TEST(ext_and_bad_utf8_are_refused_and_keep_the_connection)
{
    ck_refuses_raw("search", RAW("\x91\x81\xa5query\xd4\x01\x00"), "query: must be a str, found an ext");
    ck_refuses_raw("search", RAW("\x91\x81\xa5query\xa2\xc3\x28"), "query: is not valid UTF-8");
    ck_refuses_raw("search", RAW("\x91\x81\xa2\xff\xfe\xa1x"), "unknown key \"(not UTF-8)\"");
    ck_refuses_raw("count",
                   RAW("\x91\x81\xa6"
                       "filter\x82\xa5"
                       "field\xa1"
                       "a\xa2"
                       "eq\xd4\x01\x00"),
                   "filter: eq: ");
    ck_refuses_raw("count",
                   RAW("\x91\x81\xa6"
                       "filter\x82\xa5"
                       "field\xa1"
                       "a\xa2"
                       "eq\xa1\xff"),
                   "filter: eq: is not valid UTF-8");
    ck_refuses_raw("count",
                   RAW("\x91\x81\xa6"
                       "filter\x81\xa1\xff\x01"),
                   "key is not valid UTF-8");
}
END_TEST

START_TEST(deadline_is_taken_by_every_method)
{
    request *r = ck_accepts("count", "[{'deadline_ms': 0}]");
    ck_assert(r->has_deadline);
    ck_assert_uint_eq(r->deadline_ms, 0);
    request_free(r);
    ck_takes("generations", "[{'deadline_ms': 4294967295}]");
    ck_refuses("count", "[{'deadline_ms': 4294967296}]", "deadline_ms: must be from 0 to 4,294,967,295");
    ck_refuses("count", "[{'deadline_ms': -1}]", "deadline_ms");
    ck_refuses("count", "[{'deadline_ms': 1.5}]", "deadline_ms: must be an integer, found a float");
    ck_refuses("count", "[{'deadline_ms': null}]", "deadline_ms");
}
END_TEST

START_TEST(collection_names_have_their_form)
{
    request *r = ck_accepts("count", "[]");
    ck_assert(is(r->collection, "default") && !r->has_collection);
    request_free(r);
    r = ck_accepts("count", "[{'collection': 'a-b_9'}]");
    ck_assert(is(r->collection, "a-b_9") && r->has_collection);
    request_free(r);
    ck_refuses("count", "[{'collection': ''}]", "collection");
    ck_refuses("count", "[{'collection': 'A'}]", "found \"A\"");
    ck_refuses("count", "[{'collection': '../x'}]", "collection");
    ck_refuses("count", "[{'collection': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]", "64");
    ck_takes("count", "[{'collection': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'}]");
}
END_TEST

/* --- the model and the house */

START_TEST(encode_reads_its_options)
{
    request *r = ck_accepts("encode", "[{'texts': ['a', 'b']}]");
    ck_assert(r->u.encode.count == 2 && r->u.encode.truncate && !r->u.encode.as_array);
    ck_assert(is(r->u.encode.texts[1], "b") && r->u.encode.precision == PRECISION_FLOAT32);
    request_free(r);
    r = ck_accepts("encode", "[{'texts': [''], 'prompt': 'query', 'truncate': false, 'encoding': 'array',"
                             "'precision': 'binary'}]");
    ck_assert(!r->u.encode.truncate && r->u.encode.as_array && r->u.encode.precision == PRECISION_BINARY);
    ck_assert(is(r->u.encode.prompt, "query"));
    request_free(r);
    ck_refuses("encode", "[{'texts': []}]", "texts: must hold one text at least");
    ck_refuses("encode", "[{'texts': 'a'}]", "texts: must be an array");
    ck_refuses("encode", "[{'texts': ['a', 3]}]", "texts[1]: must be a str");
    ck_refuses("encode", "[{'texts': ['a'], 'precision': 'float16'}]", "precision");
    ck_refuses("encode", "[{'texts': ['a'], 'collection': 'c'}]", "unknown key");
}
END_TEST

START_TEST(collection_options_fit_together)
{
    request *r = ck_accepts("collection.create", "[{'name': 'n'}]");
    ck_assert(is(r->collection, "n") && r->u.create.lexical && !r->u.create.external && !r->u.create.dot);
    request_free(r);
    r = ck_accepts("collection.create", "[{'name': 'n', 'options': {'vectors': 'external', 'dim': 8, 'metric': 'dot',"
                                        "'lexical': false}}]");
    ck_assert(!r->u.create.lexical && r->u.create.external && r->u.create.dot && r->u.create.dim == 8);
    request_free(r);
    ck_refuses("collection.create", "[{}]", "name: required");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'vectors': 'external'}}]", "options.dim: required");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'dim': 8}}]", "options.dim: goes only with");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'dim': 0, 'vectors': 'external'}}]",
               "options.dim: must be");
    ck_refuses("collection.create", "[{'name': 'n', 'options': 3}]", "options: must be a map");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'metric': 'l2'}}]", "options.metric: must be one of");
    ck_takes("collection.drop", "[{'name': 'n'}]");
    ck_refuses("collection.drop", "[{'name': 'n', 'options': {}}]", "unknown key");
    ck_refuses("collection.drop", "[]", "name: required");
}
END_TEST

START_TEST(passages_overlap_by_less_than_they_are_long)
{
    request *r =
        ck_accepts("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 64, 'passage_overlap': 63}}]");
    ck_assert(r->u.create.passage_tokens == 64 && r->u.create.passage_overlap == 63);
    request_free(r);
    r = ck_accepts("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 1, 'passage_overlap': 0}}]");
    ck_assert(r->u.create.passage_tokens == 1 && r->u.create.passage_overlap == 0);
    request_free(r);
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 0}}]",
               "options.passage_tokens: must be");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'passage_tokens': -1}}]",
               "options.passage_tokens: must be");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 'a'}}]",
               "options.passage_tokens: must be");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'passage_tokens': 64, 'passage_overlap': 64}}]",
               "options.passage_overlap: must be below options.passage_tokens, 64, found 64");
    ck_refuses("collection.create", "[{'name': 'n', 'options': {'passage_overlap': 8}}]",
               "options.passage_overlap: goes only with options.passage_tokens");
    ck_refuses("collection.create",
               "[{'name': 'n', 'options': {'passage_tokens': 64, 'vectors': 'external', 'dim': 4}}]",
               "options.passage_tokens: goes only with options.vectors \"model\"");
}
END_TEST

START_TEST(jobs_and_generations_are_numbered_from_one)
{
    request *r = ck_accepts("finetune", "[{'mode': 'auto', 'wait': true, 'collection': 'c'}]");
    ck_assert(is(r->u.finetune.mode, "auto") && r->u.finetune.wait);
    request_free(r);
    ck_takes("finetune", "[]");
    ck_refuses("finetune", "[{'mode': 'half'}]", "mode");
    r = ck_accepts("job", "[{'job': 3, 'cancel': true}]");
    ck_assert(r->u.job.has_job && r->u.job.job == 3 && r->u.job.cancel);
    request_free(r);
    ck_refuses("job", "[{'job': 0}]", "job");
    r = ck_accepts("rollback", "[]");
    ck_assert(!r->u.rollback.has_generation);
    request_free(r);
    ck_refuses("rollback", "[{'generation': 4294967296}]", "generation");
    r = ck_accepts("model.load", "[{'path': '/m'}]");
    ck_assert(is(r->u.model_load.path, "/m") && r->u.model_load.gate);
    request_free(r);
    ck_refuses("model.load", "[{'path': ''}]", "path");
    ck_refuses_raw("model.load",
                   RAW("\x91\x81\xa4path\xa3"
                       "a\0b"),
                   "path: must not hold a NUL");
}
END_TEST

START_TEST(backup_takes_the_name_of_a_folder_and_nothing_else)
{
    request *r = ck_accepts("backup", "[{'name': 'Night.2026-11-28_1'}]");
    ck_assert(is(r->u.backup.name, "Night.2026-11-28_1"));
    request_free(r);
    r = ck_accepts("backup", "[{'name': '..a'}]");
    request_free(r);
    static const char *const wrong[] = {"", ".", "..", "a/b", "/a", "a b", "~a", "\u00e4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[64];
        snprintf(text, sizeof text, "[{'name': '%s'}]", wrong[i]);
        ck_refuses("backup", text, "name: must be 1 to 128 characters");
    }
    ck_refuses("backup", "[]", "name");
    ck_refuses("backup", "[{'name': 'a', 'path': '/b'}]", "path");
    ck_refuses_raw("backup",
                   RAW("\x91\x81\xa4name\xa3"
                       "a\0b"),
                   "name: must be");
}
END_TEST

START_TEST(events_takes_a_position_a_limit_and_kinds)
{
    request *r = ck_accepts("events", "[]");
    ck_assert(r->u.events.after.data == NULL && !r->u.events.has_seq && r->u.events.limit == 100);
    ck_assert_uint_eq(r->u.events.kinds, KIND_ALL);
    request_free(r);
    r = ck_accepts("events", "[{'after': '17', 'limit': 1000, 'kinds': ['feedback', 'search']}]");
    ck_assert(is(r->u.events.after, "17") && !r->u.events.has_seq && r->u.events.limit == 1000);
    ck_assert_uint_eq(r->u.events.kinds, KIND_SEARCH | KIND_FEEDBACK);
    request_free(r);
    r = ck_accepts("events", "[{'after': 17}]");
    ck_assert(r->u.events.has_seq && r->u.events.seq == 17 && r->u.events.after.data == NULL);
    request_free(r);
    ck_refuses("events", "[{'limit': 0}]", "limit");
    ck_refuses("events", "[{'limit': 1001}]", "limits.scroll");
    ck_refuses("events", "[{'after': -1}]", "after");
    ck_refuses("events", "[{'kinds': []}]", "kinds");
    ck_refuses("events", "[{'kinds': ['click', 'click']}]", "twice");
    ck_refuses("events", "[{'kinds': ['clicks']}]", "kinds");
    ck_refuses("events", "[{'collection': 'c'}]", "collection");
}
END_TEST

START_TEST(events_are_erased_by_one_of_user_id_and_time)
{
    request *r = ck_accepts("events.erase", "[{'user': 'ann'}]");
    ck_assert(is(r->u.events_erase.user, "ann") && !r->u.events_erase.has_id && !r->u.events_erase.has_before);
    request_free(r);
    r = ck_accepts("events.erase", "[{'id': 7}]");
    ck_assert(r->u.events_erase.has_id && r->u.events_erase.id.integer == 7 && r->u.events_erase.user.data == NULL);
    request_free(r);
    r = ck_accepts("events.erase", "[{'before': 1790000000000}]");
    ck_assert(r->u.events_erase.has_before && r->u.events_erase.before == UINT64_C(1790000000000));
    request_free(r);
    ck_refuses("events.erase", "[]", "exactly one");
    ck_refuses("events.erase", "[{'user': 'ann', 'id': 7}]", "exactly one");
    ck_refuses("events.erase", "[{'id': 7, 'before': 1}]", "exactly one");
    ck_refuses("events.erase", "[{'before': -1}]", "before");
    ck_refuses("events.erase", "[{'id': ''}]", "id");
    ck_refuses("events.erase", "[{'user': 7}]", "user");
    ck_refuses("events.erase", "[{'id': 7, 'collection': 'c'}]", "collection");
}
END_TEST

START_TEST(watch_takes_topics)
{
    request *r = ck_accepts("watch", "[{'topics': ['job']}]");
    ck_assert_uint_eq(r->u.watch.topics, TOPIC_JOB);
    request_free(r);
    r = ck_accepts("watch", "[{'topics': ['job', 'generation']}]");
    ck_assert_uint_eq(r->u.watch.topics, TOPIC_JOB | TOPIC_GENERATION);
    request_free(r);
    r = ck_accepts("watch", "[{'topics': []}]");
    ck_assert_uint_eq(r->u.watch.topics, 0);
    request_free(r);
    ck_refuses("watch", "[]", "topics: required");
    ck_refuses("watch", "[{'topics': ['jobs']}]", "topics");
    ck_refuses("watch", "[{'topics': ['job', 'job']}]", "twice");
}
END_TEST

START_TEST(index_export_takes_a_path)
{
    request *r = ck_accepts("index.export", "[{'path': 'a/b.faiss', 'collection': 'c'}]");
    ck_assert(is(r->u.index_export.path, "a/b.faiss") && is(r->collection, "c"));
    request_free(r);
    r = ck_accepts("index.export", "[{'path': '/b'}]");
    ck_assert(is(r->collection, "default"));
    request_free(r);
    ck_refuses("index.export", "[{}]", "path: required");
    ck_refuses("index.export", "[{'path': ''}]", "path");
    ck_refuses("index.export", "[{'path': '/b', 'type': 'Flat'}]", "type");
}
END_TEST

START_TEST(mutated_requests_never_break_the_parser)
{
    static const char *const seeds[][2] = {
        {"upsert", "[{'collection': 'c', 'docs': [{'id': 7, 'text': 'abc', 'meta': {'x': ['u'], 'y': 1},"
                   "'vector': 'bin:0000803f'}]}]"},
        {"search", "[{'query': 'x', 'k': 3, 'filter': {'all': [{'field': 'a', 'in': [1, 'b']}]}, 'with': ['text']}]"},
        {"feedback", "[{'pairs': [{'query': 'q', 'id': 0, 'label': 1}]}]"},
        {"collection.create", "[{'name': 'n', 'options': {'vectors': 'external', 'dim': 8}}]"},
    };
    random_state random;
    random_seed(&random, testing_seed());
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        request *r = ck_accepts(seeds[i][0], seeds[i][1]);
        size_t size = r->frame.size, parsed = 0;
        for (int round = 0; round < 20000; round++) {
            unsigned char *copy = malloc(size);
            memcpy(copy, r->frame.data, size);
            for (uint64_t n = 1 + random_below(&random, 3); n > 0; n--)
                copy[random_below(&random, size)] = (unsigned char)random_next(&random);
            size_t cut = random_below(&random, 8) == 0 ? 1 + random_below(&random, size) : size;
            request *mutant; /* not scanned on purpose: the parser stays inside its bytes by itself */
            if (request_parse(&mutant, &(buffer){.data = copy, .size = cut}, &limits, &msgid, &notification, &error) ==
                SEM_OK)
                parsed++;
            request_free(mutant);
        }
        ck_assert_uint_gt(parsed, 0);
        request_free(r);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("request");
    TCase *c = tcase_create("request");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, every_method_has_its_name_back);
    tcase_add_test(c, unknown_method_is_named);
    tcase_add_test(c, params_is_an_array_that_holds_one_map);
    tcase_add_test(c, method_of_another_type_is_refused);
    tcase_add_test(c, notification_is_told_apart);
    tcase_add_test(c, unknown_key_is_named_with_those_allowed);
    tcase_add_test(c, key_twice_is_refused_at_every_level);
    tcase_add_test(c, key_that_is_no_str_is_refused_at_every_level);
    tcase_add_test(c, ext_and_bad_utf8_are_refused_and_keep_the_connection);
    tcase_add_test(c, deadline_is_taken_by_every_method);
    tcase_add_test(c, collection_names_have_their_form);
    tcase_add_test(c, encode_reads_its_options);
    tcase_add_test(c, collection_options_fit_together);
    tcase_add_test(c, passages_overlap_by_less_than_they_are_long);
    tcase_add_test(c, jobs_and_generations_are_numbered_from_one);
    tcase_add_test(c, backup_takes_the_name_of_a_folder_and_nothing_else);
    tcase_add_test(c, events_takes_a_position_a_limit_and_kinds);
    tcase_add_test(c, events_are_erased_by_one_of_user_id_and_time);
    tcase_add_test(c, watch_takes_topics);
    tcase_add_test(c, index_export_takes_a_path);
    tcase_add_test(c, mutated_requests_never_break_the_parser);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
