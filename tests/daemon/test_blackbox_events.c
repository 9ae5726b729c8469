/* The log of searches, clicks and feedback, through the socket. */
#include "tests/daemon/blackbox.h"

#include <unistd.h>

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    box_call(&b, "upsert", "{'docs': [{'id': 7, 'text': 'a card'}, {'id': 'b', 'text': 'an account in the bank'}]}");
    return true;
}

/* A search's query_id. params: of a map, in JSON. */
static const char *ask(const char *params)
{
    static char ids[8][80];
    static unsigned next;
    char *id = ids[next++ % 8];
    const msgpack_object *found = object_get(box_call(&b, "search", "{%s}", params), "query_id");
    snprintf(id, sizeof ids[0], "%.*s", (int)found->via.str.size, found->via.str.ptr);
    return id;
}

static bool is_text(const msgpack_object *event, const char *key, const char *text)
{
    return object_is(object_get(event, key), text);
}

static bool is_nil(const msgpack_object *event, const char *key)
{
    const msgpack_object *o = object_get(event, key);
    return o != NULL && o->type == MSGPACK_OBJECT_NIL;
}

static uint64_t number(const msgpack_object *event, const char *key)
{
    return object_uint(object_get(event, key), UINT64_MAX);
}

static void check_search(const msgpack_object *e, const char *query_id)
{
    ck_assert(is_text(e, "kind", "search") && is_text(e, "query_id", query_id) && is_text(e, "query", "card"));
    ck_assert(is_text(e, "collection", "default") && is_text(e, "mode", "hybrid") && is_text(e, "by", "query"));
    ck_assert(number(e, "generation") == 1 && is_nil(e, "like"));
    ck_assert_uint_gt(number(e, "time_ms"), UINT64_C(1700000000000));
    ck_assert_uint_eq(object_get(e, "user")->via.str.size, 16);
    const msgpack_object *hits = object_get(e, "hits");
    ck_assert_uint_eq(box_count(hits), 2);
    ck_assert(object_uint(object_get(box_at(hits, 0), "id"), 0) == 7 && is_text(box_at(hits, 1), "id", "b"));
    double first = object_double(object_get(box_at(hits, 0), "score"), -1);
    ck_assert_double_gt(first, object_double(object_get(box_at(hits, 1), "score"), 2));
}

START_TEST(events_tell_what_was_searched_clicked_and_judged)
{
    if (!start())
        return;
    const char *first = ask("'query': 'card', 'mode': 'hybrid', 'user': 'ann'");
    const char *like = ask("'like': 'b'");
    box_call(&b, "search", "{'query': 'not logged', 'log': false}");
    box_call(&b, "click", "{'query_id': '%s', 'id': 'b', 'weight': 0.5}", first);
    box_call(&b, "feedback",
             "{'pairs': [{'query': 'q', 'id': 7, 'label': 1}, {'query': 'q', 'text': 't', 'label': -1}]}");
    const msgpack_object *page = box_call(&b, "events", NULL), *all = object_get(page, "events");
    ck_assert(box_count(all) == 5 && is_nil(page, "next"));
    check_search(box_at(all, 0), first);
    const msgpack_object *e = box_at(all, 1);
    ck_assert(is_text(e, "by", "like") && is_text(e, "like", "b") && is_nil(e, "query") && is_nil(e, "user"));
    ck_assert(is_text(e, "query_id", like) && is_text(e, "mode", "dense"));
    e = box_at(all, 2);
    ck_assert(is_text(e, "kind", "click") && is_text(e, "query_id", first) && is_text(e, "id", "b"));
    ck_assert(number(e, "rank") == 2 && object_double(object_get(e, "weight"), 0) == 0.5);
    e = box_at(all, 3);
    ck_assert(is_text(e, "kind", "feedback") && number(e, "id") == 7 && number(e, "label") == 1);
    e = box_at(all, 4);
    ck_assert(is_text(e, "query", "q") && is_text(e, "text", "t") && object_get(e, "id") == NULL);
    ck_assert_int_eq((int)object_double(object_get(e, "label"), 0), -1);
    box_stop(&b);
}
END_TEST

static bool is_true(const msgpack_object *o)
{
    return o != NULL && o->type == MSGPACK_OBJECT_BOOLEAN && o->via.boolean;
}

/* A filter of so many strings of 15 bytes. */
static char *long_filter(size_t count)
{
    char *text = malloc(count * 24 + 256), *p = text;
    ck_assert_ptr_nonnull(text);
    p += sprintf(p, "{'query': 'card', 'filter': {'not': {'field': 'f', 'in': [");
    for (size_t i = 0; i < count; i++)
        p += sprintf(p, "%s'%015zu'", i > 0 ? ", " : "", i);
    sprintf(p, "]}}}");
    return text;
}

START_TEST(a_search_tells_all_that_its_request_asked_for)
{
    enum { KEPT = 1000, TOO_MANY = 1100 /* strings: of 16 bytes each, of 16 KiB that are kept */ };
    if (!start())
        return;
    ask("'query': 'card', 'k': 1, 'filter': {'any': [{'field': 'n', 'gte': 2.5, 'lt': 7}, {'field': 'f', 'exists': "
        "false}]}, 'recall': 0.9, 'with': ['meta', 'text']");
    ask("'like': 'b', 'nprobe': 3");
    ask("'query': 'card', 'exact': true");
    char *kept = long_filter(KEPT), *left_out = long_filter(TOO_MANY);
    box_call(&b, "search", "%s", kept);
    box_call(&b, "search", "%s", left_out);
    box_call(&b, "click", "{'query_id': '%s', 'id': 7}", ask("'query': 'card'"));
    free(kept);
    free(left_out);
    const msgpack_object *all = object_get(box_call(&b, "events", NULL), "events"), *e = box_at(all, 0);
    const msgpack_object *any = object_get(object_get(e, "filter"), "any");
    ck_assert(number(e, "k") == 1 && object_double(object_get(e, "recall"), 0) == 0.9);
    ck_assert(box_count(any) == 2 && is_text(box_at(any, 0), "field", "n") && number(box_at(any, 0), "lt") == 7);
    ck_assert(object_double(object_get(box_at(any, 0), "gte"), 0) == 2.5);
    ck_assert(box_count(object_get(e, "with")) == 2 && object_is(box_at(object_get(e, "with"), 0), "text"));
    ck_assert(object_get(e, "exact") == NULL && object_get(e, "filter_bytes") == NULL);
    e = box_at(all, 1);
    ck_assert(number(e, "k") == 10 && number(e, "nprobe") == 3 && is_nil(e, "filter"));
    ck_assert(object_get(e, "recall") == NULL && object_get(e, "with") == NULL);
    e = box_at(all, 2);
    ck_assert(is_true(object_get(e, "exact")));
    e = box_at(all, 3);
    ck_assert_uint_eq(box_count(object_get(object_get(object_get(e, "filter"), "not"), "in")), KEPT);
    ck_assert_ptr_null(object_get(e, "filter_bytes"));
    e = box_at(all, 4);
    ck_assert(is_nil(e, "filter") && number(e, "filter_bytes") > TOO_MANY * 16);
    box_stop(&b);
}
END_TEST

START_TEST(events_come_in_pages_and_go_on_after_a_restart)
{
    if (!start())
        return;
    enum { SEARCHES = 25 };
    for (int i = 0; i < SEARCHES; i++)
        ask("'query': 'card'");
    box_stop(&b);
    box_start(&b);
    char after[32] = "0";
    uint64_t seq = 0;
    for (int found = 0; after[0] != '\0';) {
        const msgpack_object *page = box_call(&b, "events", "{'after': '%s', 'limit': 10}", after);
        const msgpack_object *all = object_get(page, "events"), *next = object_get(page, "next");
        for (size_t i = 0; i < box_count(all); i++, found++) {
            ck_assert_uint_gt(number(box_at(all, i), "seq"), seq);
            seq = number(box_at(all, i), "seq");
        }
        bool is_end = next->type == MSGPACK_OBJECT_NIL;
        ck_assert_int_eq(is_end, found == SEARCHES);
        snprintf(after, sizeof after, "%.*s", is_end ? 0 : (int)next->via.str.size, is_end ? "" : next->via.str.ptr);
    }
    /* The seq of an event is a position too, of those that come later. */
    box_call(&b, "feedback", "{'pairs': [{'query': 'q', 'text': 't', 'label': 1}]}");
    const msgpack_object *all = object_get(box_call(&b, "events", "{'after': %d}", (int)seq), "events");
    ck_assert(box_count(all) == 1 && is_text(box_at(all, 0), "kind", "feedback"));
    all = object_get(box_call(&b, "events", "{'kinds': ['click', 'feedback']}"), "events");
    ck_assert_uint_eq(box_count(all), 1);
    box_fails(&b, "INVALID_ARGUMENT", "events", "{'after': 'nonsense'}");
    box_fails(&b, "INVALID_ARGUMENT", "events", "{'after': ''}");
    box_stop(&b);
}
END_TEST

START_TEST(events_of_a_dropped_collection_name_none)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'gone'}");
    ask("'query': 'card', 'collection': 'gone'");
    box_call(&b, "collection.drop", "{'name': 'gone'}");
    const msgpack_object *all = object_get(box_call(&b, "events", NULL), "events");
    ck_assert(box_count(all) == 1 && is_nil(box_at(all, 0), "collection") && is_text(box_at(all, 0), "query", "card"));
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_events");
    TCase *tests = tcase_create("events");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, events_tell_what_was_searched_clicked_and_judged);
    tcase_add_test(tests, a_search_tells_all_that_its_request_asked_for);
    tcase_add_test(tests, events_come_in_pages_and_go_on_after_a_restart);
    tcase_add_test(tests, events_of_a_dropped_collection_name_none);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
