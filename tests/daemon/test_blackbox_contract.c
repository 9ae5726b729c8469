/* The wire contract, method by method, against the real daemon. */
#include "tests/daemon/blackbox.h"
#include "tests/daemon/external_docs.h"

#include <math.h>

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    return true;
}

START_TEST(ping_and_info_answer)
{
    if (!start())
        return;
    ck_assert(object_is(box_call(&b, "ping", NULL), "pong"));
    const msgpack_object *info = box_call(&b, "info", NULL);
    ck_assert_uint_eq(object_uint(object_get(info, "generation"), 0), 1);
    ck_assert_uint_eq(object_uint(object_get(object_get(info, "model"), "dim"), 0), 48);
    ck_assert_uint_eq(object_uint(object_get(object_get(info, "limits"), "max_batch"), 0), 1024);
    box_stop(&b);
}
END_TEST

START_TEST(encode_gives_unit_vectors_in_each_form)
{
    if (!start())
        return;
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['hello world', 'refund my money']}");
    const msgpack_object *bin = box_at(object_get(r, "embeddings"), 1);
    ck_assert_int_eq(bin->type, MSGPACK_OBJECT_BIN);
    ck_assert_uint_eq(bin->via.bin.size, 4 * 48);
    float vector[48];
    memcpy(vector, bin->via.bin.ptr, sizeof vector);
    double norm = 0;
    for (int i = 0; i < 48; i++)
        norm += (double)vector[i] * vector[i];
    ck_assert_double_eq_tol(norm, 1.0, 1e-5);

    r = box_call(&b, "encode", "{'texts': ['hello world', 'refund my money'], 'encoding': 'array'}");
    for (int i = 0; i < 48; i++)
        ck_assert_double_eq_tol(object_double(box_at(box_at(object_get(r, "embeddings"), 1), i), 9), vector[i], 1e-7);
    r = box_call(&b, "encode", "{'texts': ['hello world', 'refund my money'], 'precision': 'int8'}");
    bin = box_at(object_get(r, "embeddings"), 1);
    ck_assert_uint_eq(bin->via.bin.size, 48);
    for (int i = 0; i < 48; i++)
        ck_assert_int_eq((signed char)bin->via.bin.ptr[i], (int)lrintf(127 * vector[i]));
    r = box_call(&b, "encode", "{'texts': ['hello world', 'refund my money'], 'precision': 'binary'}");
    bin = box_at(object_get(r, "embeddings"), 1);
    ck_assert_uint_eq(bin->via.bin.size, 6);
    for (int i = 0; i < 48; i++)
        ck_assert_int_eq((bin->via.bin.ptr[i / 8] >> (7 - i % 8)) & 1, vector[i] > 0);
    box_stop(&b);
}
END_TEST

START_TEST(an_over_long_text_is_cut_or_refused_as_asked)
{
    if (!start())
        return;
    char text[2001];
    for (int i = 0; i < 2000; i++)
        text[i] = i % 5 == 4 ? ' ' : 'a';
    text[2000] = '\0';
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['%s', 'a']}", text);
    ck_assert(box_at(object_get(r, "truncated"), 0)->via.boolean);
    ck_assert(!box_at(object_get(r, "truncated"), 1)->via.boolean);
    ck_assert_uint_eq(object_uint(box_at(object_get(r, "tokens"), 0), 0), 64);
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['%s'], 'truncate': false}", text);
    box_stop(&b);
}
END_TEST

START_TEST(documents_are_put_found_changed_and_deleted)
{
    if (!start())
        return;
    const msgpack_object *r =
        box_call(&b, "upsert",
                 "{'docs': [{'id': 7, 'text': 'where is my refund', 'meta': {'n': 1}}, {'id': '7', 'text': 'open an "
                 "account'}, {'id': 'z', 'text': 'first'}, {'id': 'z', 'text': 'activate my card'}]}");
    ck_assert_uint_eq(object_uint(object_get(r, "upserted"), 0), 3);
    uint64_t seq = object_uint(object_get(r, "seq"), 0);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{}"), "count"), 0), 3);

    r = box_call(&b, "get", "{'ids': ['z', 'none', 7], 'with': ['text', 'meta', 'vector']}");
    ck_assert(object_is(object_get(box_at(r, 0), "text"), "activate my card"));
    ck_assert_int_eq(box_at(r, 1)->type, MSGPACK_OBJECT_NIL);
    ck_assert_uint_eq(object_get(box_at(r, 2), "vector")->via.bin.size, 192);
    ck_assert_uint_eq(object_uint(object_get(object_get(box_at(r, 2), "meta"), "n"), 0), 1);

    r = box_call(&b, "search", "{'query': 'where is my refund', 'k': 2, 'with': ['text']}");
    ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "hits"), 0), "id"), 0), 7);
    ck_assert_double_eq_tol(object_double(object_get(box_at(object_get(r, "hits"), 0), "score"), 0), 1.0, 1e-5);
    r = box_call(&b, "search", "{'like': 7, 'k': 10}");
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 2);

    r = box_call(&b, "delete", "{'ids': [7, 8]}");
    ck_assert_uint_eq(object_uint(object_get(r, "deleted"), 9), 1);
    ck_assert_uint_eq(object_uint(object_get(r, "seq"), 0), seq + 1);
    r = box_call(&b, "search", "{'query': 'where is my refund', 'k': 10}");
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 2);
    box_stop(&b);
}
END_TEST

/* Also when it is asked for on another connection, and while lists are made and grow. */
START_TEST(insert_is_found_by_the_next_search)
{
    static const char *const ways[] = {"'exact': true", "'recall': 0.99", "'mode': 'lexical'", "'mode': 'hybrid'",
                                       "'filter': {'field': 'n', 'gte': 0}"};
    enum { INSERTS = 150, WAYS = 5 };
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "index.exact_below=50";
    box_start(&b);
    client *mine = b.client, *other = box_connect(&b);
    for (unsigned i = 0; i < INSERTS; i++) {
        b.client = mine;
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'account w%ux of card v%uy', 'meta': {'n': %u}}]}", i, i,
                 i * 7 % 1000, i);
        b.client = other;
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': 'account w%ux of card v%uy', 'k': %u, %s}", i, i * 7 % 1000,
                                INSERTS, ways[i % WAYS]),
                       "hits");
        bool found = false;
        for (size_t n = 0; n < box_count(hits) && !found; n++)
            found = object_uint(object_get(box_at(hits, n), "id"), INSERTS) == i;
        ck_assert_msg(found, "document %u is not among %zu hits of a search with %s", i, box_count(hits),
                      ways[i % WAYS]);
    }
    b.client = mine;
    client_close(other);
    box_stop(&b);
}
END_TEST

START_TEST(scroll_walks_in_id_order_and_resumes)
{
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 'b', 'text': 'x'}, {'id': 10, 'text': 'x'}, {'id': 9, 'text': 'x'}, {'id': 'a', "
             "'text': 'x'}]}");
    const msgpack_object *r = box_call(&b, "scroll", "{'limit': 3, 'with': []}");
    ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "docs"), 0), "id"), 0), 9);
    ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "docs"), 1), "id"), 0), 10);
    ck_assert(object_is(object_get(box_at(object_get(r, "docs"), 2), "id"), "a"));
    const msgpack_object *next = object_get(r, "next");
    ck_assert_int_eq(next->type, MSGPACK_OBJECT_STR);
    r = box_call(&b, "scroll", "{'limit': 3, 'after': '%.*s'}", (int)next->via.str.size, next->via.str.ptr);
    ck_assert_uint_eq(box_count(object_get(r, "docs")), 1);
    ck_assert_int_eq(object_get(r, "next")->type, MSGPACK_OBJECT_NIL);
    box_fails(&b, "INVALID_ARGUMENT", "scroll", "{'after': 'zz'}");
    box_stop(&b);
}
END_TEST

START_TEST(filters_choose_in_count_scroll_search_and_delete)
{
    if (!start())
        return;
    for (int i = 0; i < 50; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'text %d', 'meta': {'n': %d, 'even': %s}}]}", i, i, i,
                 i % 2 == 0 ? "true" : "false");
    ck_assert_uint_eq(
        object_uint(object_get(box_call(&b, "count", "{'filter': {'field': 'n', 'lt': 10}}"), "count"), 0), 10);
    const msgpack_object *r =
        box_call(&b, "search", "{'query': 'text 3', 'k': 50, 'filter': {'field': 'even', 'eq': true}}");
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 25);
    for (size_t i = 0; i < 25; i++)
        ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "hits"), i), "id"), 1) % 2, 0);
    r = box_call(&b, "scroll", "{'filter': {'field': 'n', 'in': [3, 4, 99]}}");
    ck_assert_uint_eq(box_count(object_get(r, "docs")), 2);
    r = box_call(&b, "delete",
                 "{'filter': {'all': [{'field': 'n', 'gte': 10}, {'not': {'field': 'even', 'eq': true}}]}}");
    ck_assert_uint_eq(object_uint(object_get(r, "deleted"), 0), 20);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{}"), "count"), 0), 30);
    box_fails(&b, "INVALID_ARGUMENT", "count", "{'filter': {'field': 'n', 'between': 3}}");
    box_stop(&b);
}
END_TEST

START_TEST(collections_are_made_listed_and_dropped)
{
    if (!start())
        return;
    ck_assert(object_get(box_call(&b, "collection.create", "{'name': 'notes'}"), "created")->via.boolean);
    ck_assert(!object_get(box_call(&b, "collection.create", "{'name': 'notes'}"), "created")->via.boolean);
    box_fails(&b, "ALREADY_EXISTS", "collection.create", "{'name': 'notes', 'options': {'metric': 'dot'}}");
    box_fails(&b, "INVALID_ARGUMENT", "collection.create", "{'name': 'No!'}");
    box_call(&b, "upsert", "{'collection': 'notes', 'docs': [{'id': 1, 'text': 'hello'}]}");
    const msgpack_object *list = box_call(&b, "collection.list", NULL);
    ck_assert_uint_eq(box_count(list), 2);
    ck_assert(object_is(object_get(box_at(list, 1), "name"), "notes"));
    ck_assert_uint_eq(object_uint(object_get(box_at(list, 1), "count"), 0), 1);
    ck_assert(object_get(box_call(&b, "collection.drop", "{'name': 'notes'}"), "dropped")->via.boolean);
    box_fails(&b, "NOT_FOUND", "search", "{'collection': 'notes', 'query': 'x'}");
    box_fails(&b, "NOT_FOUND", "collection.drop", "{'name': 'notes'}");
    box_call(&b, "collection.create", "{'name': 'notes'}");
    ck_assert_uint_eq(
        box_count(object_get(box_call(&b, "search", "{'collection': 'notes', 'query': 'hello'}"), "hits")), 0);
    box_stop(&b);
}
END_TEST

START_TEST(clicks_and_feedback_follow_their_rules)
{
    if (!start())
        return;
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'refund'}, {'id': 2, 'text': 'card'}]}");
    const msgpack_object *r = box_call(&b, "search", "{'query': 'money back', 'k': 1, 'user': 'eve'}");
    char id[65];
    const msgpack_object *query_id = object_get(r, "query_id");
    snprintf(id, sizeof id, "%.*s", (int)query_id->via.str.size, query_id->via.str.ptr);
    uint64_t shown = object_uint(object_get(box_at(object_get(r, "hits"), 0), "id"), 0);
    ck_assert(object_get(box_call(&b, "click", "{'query_id': '%s', 'id': %d}", id, (int)shown), "logged")->via.boolean);
    box_call(&b, "click", "{'query_id': '%s', 'id': %d, 'weight': 0.5}", id, (int)shown);
    box_fails(&b, "INVALID_ARGUMENT", "click", "{'query_id': '%s', 'id': %d}", id, 3 - (int)shown);
    box_fails(&b, "NOT_FOUND", "click", "{'query_id': 'nobody', 'id': 1}");
    box_fails(&b, "INVALID_ARGUMENT", "click", "{'query_id': '%s', 'id': %d, 'weight': 11}", id, (int)shown);
    r = box_call(&b, "search", "{'query': 'money back', 'log': false}");
    ck_assert_int_eq(object_get(r, "query_id")->type, MSGPACK_OBJECT_NIL);
    r = box_call(&b, "feedback",
                 "{'pairs': [{'query': 'q', 'id': 1, 'label': 1}, {'query': 'q', 'text': 't', 'label': -1}]}");
    ck_assert_uint_eq(object_uint(object_get(r, "logged"), 0), 2);
    box_fails(&b, "NOT_FOUND", "feedback", "{'pairs': [{'query': 'q', 'id': 99, 'label': 1}]}");
    box_stop(&b);
    box_start(&b); /* a query id outlives a restart */
    box_call(&b, "click", "{'query_id': '%s', 'id': %d}", id, (int)shown);
    box_stop(&b);
}
END_TEST

START_TEST(wrong_requests_name_what_is_wrong_and_keep_the_connection)
{
    if (!start())
        return;
    ck_assert_str_eq(box_fails(&b, "INVALID_ARGUMENT", "nonesuch", "{}"), "unknown method: nonesuch");
    ck_assert_ptr_nonnull(strstr(box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'kk': 3}"), "kk"));
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'k': 0}");
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'like': 1}");
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'recall': 0.9, 'exact': true}");
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'like': 1, 'mode': 'lexical'}");
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'mode': 'lexical', 'exact': true}");
    box_fails(&b, "NOT_FOUND", "search", "{'collection': 'nope', 'query': 'x'}");
    box_fails(&b, "NOT_FOUND", "search", "{'like': 5}");
    box_fails(&b, "INVALID_ARGUMENT", "upsert", "{'docs': [{'id': '', 'text': 'x'}]}");
    box_fails(&b, "INVALID_ARGUMENT", "upsert", "{'docs': [{'id': 1}]}");
    box_fails(&b, "INVALID_ARGUMENT", "upsert", "{'docs': [{'id': 1, 'text': 'x', 'meta': {'a': {'b': 1}}}]}");
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['x'], 'prompt': 'nonesuch'}");
    box_fails(&b, "FAILED_PRECONDITION", "finetune", "{}");
    box_fails(&b, "FAILED_PRECONDITION", "rollback", "{}");
    box_fails(&b, "NOT_FOUND", "rollback", "{'generation': 12}");
    box_fails(&b, "NOT_FOUND", "job", "{}");
    ck_assert(object_is(box_call(&b, "ping", NULL), "pong"));
    box_stop(&b);
}
END_TEST

START_TEST(a_deadline_that_is_over_is_said)
{
    if (!start())
        return;
    box_fails(&b, "DEADLINE_EXCEEDED", "search", "{'query': 'x', 'deadline_ms': 0}");
    box_call(&b, "search", "{'query': 'x', 'deadline_ms': 60000}");
    box_stop(&b);
}
END_TEST

START_TEST(external_collections_hold_the_clients_vectors)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'ext', 'options': {'vectors': 'external', 'dim': 2}}");
    const float vectors[3][2] = {{2, 0}, {0, 3}, {1, 1}};
    buffer params = external_docs_pack(
        &(external_docs){.collection = "ext", .count = 3, .dim = 2, .vectors = vectors[0], .stride = 2});
    box_call_packed(&b, "upsert", &params);
    const msgpack_object *r = box_call(&b, "search", "{'collection': 'ext', 'like': 0}");
    ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "hits"), 0), "id"), 9), 2);
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'collection': 'ext', 'query': 'x'}");
    box_fails(&b, "INVALID_ARGUMENT", "upsert", "{'collection': 'ext', 'docs': [{'id': 1, 'text': 'x'}]}");
    box_stop(&b);
    box_start(&b);
    r = box_call(&b, "search", "{'collection': 'ext', 'like': 1}");
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 2);
    box_stop(&b);
}
END_TEST

/* What came of it is in b.reply. */
static void external_upsert(const char *name, unsigned id, const char *text, const float *vector, size_t dim)
{
    buffer params = external_docs_pack(
        &(external_docs){.collection = name, .text = text, .first = id, .count = 1, .dim = dim, .vectors = vector});
    box_send_on(&b, b.client, "upsert", &params);
}

START_TEST(external_collections_rank_by_dot_where_asked_and_find_words)
{
    const float vectors[3][2] = {{1, 0}, {3, 3}, {0.5f, 0}};
    if (!start())
        return;
    box_call(&b, "collection.create",
             "{'name': 'dots', 'options': {'vectors': 'external', 'dim': 2, 'metric': 'dot'}}");
    external_upsert("dots", 1, "one fox", vectors[0], 2);
    external_upsert("dots", 2, "two hens", vectors[1], 2);
    external_upsert("dots", 3, "", vectors[2], 2);
    ck_assert(!b.reply.is_error);
    external_upsert("dots", 4, "", vectors[1], 1);
    ck_assert(b.reply.is_error);
    ck_assert_str_eq(b.reply.code, "INVALID_ARGUMENT");
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{'collection': 'dots'}"), "count"), 9), 3);
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'collection': 'dots', 'like': 1}"), "hits");
    ck_assert_uint_eq(object_uint(object_get(box_at(hits, 0), "id"), 9), 2);
    ck_assert_double_eq_tol(object_double(object_get(box_at(hits, 0), "score"), 0), 3, 1e-6);
    ck_assert_double_eq_tol(object_double(object_get(box_at(hits, 1), "score"), 0), 0.5, 1e-6);
    /* The vector comes back as it was given. */
    const msgpack_object *vector =
        object_get(box_at(box_call(&b, "get", "{'collection': 'dots', 'ids': [2], 'with': ['vector']}"), 0), "vector");
    ck_assert(vector->via.bin.size == sizeof vectors[1] &&
              memcmp(vector->via.bin.ptr, vectors[1], sizeof vectors[1]) == 0);
    hits = object_get(box_call(&b, "search", "{'collection': 'dots', 'query': 'fox', 'mode': 'lexical'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'collection': 'dots', 'query': 'fox', 'mode': 'hybrid'}");
    box_fails(&b, "FAILED_PRECONDITION", "finetune", "{'collection': 'dots'}");
    box_stop(&b);
}
END_TEST

/* Also where others of the request are left out because their id comes again. */
START_TEST(a_refused_document_is_named_by_its_place_in_the_request)
{
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'ext', 'options': {'vectors': 'external', 'dim': 2}}");
    buffer params = {0};
    packer p = box_begin_upsert(&params, "ext", 4);
    const float vector[2] = {1, 0};
    for (unsigned i = 0; i < 4; i++) {
        pack_map(&p, i < 3 ? 3 : 2);
        pack_str(&p, "id");
        pack_uint(&p, i / 3);
        pack_str(&p, "text");
        pack_str(&p, "x");
        if (i < 3) {
            pack_str(&p, "vector");
            pack_bin(&p, vector, sizeof vector);
        }
    }
    box_send_on(&b, b.client, "upsert", &params);
    ck_assert(b.reply.is_error);
    const msgpack_object *message = object_get(&b.reply.value, "message");
    ck_assert_msg(strncmp(message->via.str.ptr, "docs[3].vector: ", 16) == 0, "%.*s", (int)message->via.str.size,
                  message->via.str.ptr);
    box_stop(&b);
}
END_TEST

START_TEST(nothing_is_learnt_from_external_collections)
{
    const float vector[2] = {1, 0};
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'ext', 'options': {'vectors': 'external', 'dim': 2}}");
    external_upsert("ext", 1, "a fox", vector, 2);
    box_call(&b, "feedback",
             "{'collection': 'ext', 'pairs': [{'query': 'fox', 'id': 1, 'label': 1},"
             "{'query': 'hen', 'text': 'a hen', 'label': 1}]}");
    const char *message = box_fails(&b, "FAILED_PRECONDITION", "finetune", "{}");
    ck_assert_ptr_eq(strstr(message, "0 usable pairs"), message);
    ck_assert_ptr_nonnull(strstr(message, " 0 held-out"));
    box_call(&b, "feedback", "{'pairs': [{'query': 'hen', 'text': 'a hen', 'label': 1}]}");
    message = box_fails(&b, "FAILED_PRECONDITION", "finetune", "{}");
    ck_assert(strstr(message, "1 usable pairs") == message || strstr(message, " 1 held-out") != NULL);
    box_stop(&b);
}
END_TEST

START_TEST(equal_scores_are_ordered_by_id)
{
    if (!start())
        return;
    for (int i = 40; i > 0; i--)
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'the same'}, {'id': 's%d', 'text': 'the same'}]}", i, i);
    const msgpack_object *r = box_call(&b, "search", "{'query': 'the same', 'k': 5}");
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "hits"), i), "id"), 0), i + 1);
    box_stop(&b);
}
END_TEST

START_TEST(semctl_tells_not_yet_from_a_failure)
{
    if (!start())
        return;
    ck_assert_int_eq(box_semctl("-s %s finetune", b.daemon.address), 3);
    ck_assert_int_eq(box_semctl("-s %s rollback 12", b.daemon.address), 1);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wire contract");
    TCase *t = tcase_create("methods");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, ping_and_info_answer);
    tcase_add_test(t, encode_gives_unit_vectors_in_each_form);
    tcase_add_test(t, an_over_long_text_is_cut_or_refused_as_asked);
    tcase_add_test(t, documents_are_put_found_changed_and_deleted);
    tcase_add_test(t, insert_is_found_by_the_next_search);
    tcase_add_test(t, scroll_walks_in_id_order_and_resumes);
    tcase_add_test(t, filters_choose_in_count_scroll_search_and_delete);
    tcase_add_test(t, collections_are_made_listed_and_dropped);
    tcase_add_test(t, clicks_and_feedback_follow_their_rules);
    tcase_add_test(t, wrong_requests_name_what_is_wrong_and_keep_the_connection);
    tcase_add_test(t, a_deadline_that_is_over_is_said);
    tcase_add_test(t, external_collections_hold_the_clients_vectors);
    tcase_add_test(t, external_collections_rank_by_dot_where_asked_and_find_words);
    tcase_add_test(t, a_refused_document_is_named_by_its_place_in_the_request);
    tcase_add_test(t, nothing_is_learnt_from_external_collections);
    tcase_add_test(t, equal_scores_are_ordered_by_id);
    tcase_add_test(t, semctl_tells_not_yet_from_a_failure);
    suite_add_tcase(s, t);
    return testing_run(s);
}
