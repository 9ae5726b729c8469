/* A document whose delete was answered is in no answer that is written later, also in
 * those that were nearly done: the linker puts __wrap_deletes_enter in the place of
 * where an answer is about to be sent (mk/tests.mk), and it waits there until the delete
 * was answered. */
#include "tests/common/testing.h"
#include "tests/daemon/blackbox.h"
#include "tests/daemon/daemon_here.h"
#include "tests/daemon/external_docs.h"

#include "daemon/deletes.h"

#include <semaphore.h>
#include <stdatomic.h>

enum { DOCS = 40, K = 10, WORKERS = 3, MANY = 17000, REQUEST = 1000, DIM = 8 };

static sem_error error;
static daemon_here here;
static box b; /* only its client, and what it remembers of answers */
static sem_t arrived, go;
static atomic_int pauses; /* answers that are to wait */

deletes_verdict __real_deletes_enter(deletes *d, uint64_t seen, uint32_t collection, const uint32_t *docnos,
                                     size_t count);
deletes_verdict __wrap_deletes_enter(deletes *d, uint64_t seen, uint32_t collection, const uint32_t *docnos,
                                     size_t count);

deletes_verdict __wrap_deletes_enter(deletes *d, uint64_t seen, uint32_t collection, const uint32_t *docnos,
                                     size_t count)
{
    if (atomic_load(&pauses) > 0) {
        atomic_fetch_sub(&pauses, 1);
        sem_post(&arrived);
        sem_wait(&go);
    }
    return __real_deletes_enter(d, seen, collection, docnos, count);
}

static bool start(void)
{
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return false;
    sem_init(&arrived, 0, 0);
    sem_init(&go, 0, 0);
    here_start(&here, dir, WORKERS, 0);
    b.client = here.client;
    box_call(&b, "collection.create", "{'name': 'notes'}");
    return true;
}

static void stop(void)
{
    box_forget_reply(&b);
    here_stop(&here);
}

/* The same word in all: everything is found by it. */
static void fill(void)
{
    char docs[DOCS * 96];
    size_t size = 0;
    for (int i = 0; i < DOCS; i++)
        size += (size_t)snprintf(docs + size, sizeof docs - size,
                                 "%s{'id': %d, 'text': 'refund of card %d', 'meta': {'n': %d}}", i > 0 ? ", " : "", i,
                                 i, i);
    box_call(&b, "upsert", "{'collection': 'notes', 'docs': [%s]}", docs);
}

/* Sends a request on a connection of its own and waits until its answer is ready. */
__attribute__((format(printf, 3, 4))) static void ask_and_wait(client **asker, const char *method, const char *format,
                                                               ...)
{
    va_list args;
    ck_ok(client_connect(asker, server_address(here.server, 0), HERE_PATIENCE_MS, &error));
    atomic_store(&pauses, 1);
    va_start(args, format);
    box_vsend(*asker, method, format, args);
    va_end(args);
    sem_wait(&arrived);
}

/* Lets the answer go out. */
static const msgpack_object *receive(client *asker)
{
    box_forget_reply(&b);
    sem_post(&go);
    ck_ok(client_receive(asker, HERE_PATIENCE_MS, &b.reply, &error));
    b.has_reply = true;
    client_close(asker);
    return &b.reply.value;
}

/* The ids 0 to `gone` - 1 were deleted: they are in no list of hits or documents. */
static void expect_without(const msgpack_object *list, size_t count, unsigned gone)
{
    ck_assert_uint_eq(box_count(list), count);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_ge(object_uint(object_get(box_at(list, i), "id"), 0), gone);
}

static void delete_some(bool by_filter, unsigned from, unsigned count)
{
    if (by_filter)
        box_call(&b, "delete", "{'collection': 'notes', 'filter': {'field': 'n', 'gte': %u, 'lt': %u}}", from,
                 from + count);
    else
        box_delete_range(&b, "notes", from, count);
}

/* How a search is asked: what is deleted is among its hits. */
static const char *const SEARCHES[] = {
    "'query': 'refund', 'exact': true",
    "'query': 'refund', 'recall': 0.9",
    "'query': 'refund', 'nprobe': 1, 'with': ['text', 'meta', 'vector']",
    "'query': 'refund', 'mode': 'lexical'",
    "'query': 'refund', 'mode': 'hybrid'",
    "'like': 39",
    "'query': 'refund', 'filter': {'field': 'n', 'gte': 0}",
    "'query': 'refund', 'filter': {'field': 'n', 'gte': 0}, 'mode': 'lexical'",
};

START_TEST(search_never_returns_deleted)
{
    if (!start())
        return;
    for (size_t i = 0; i < 2 * sizeof SEARCHES / sizeof *SEARCHES; i++)
        for (int explained = 0; explained < 2; explained++) {
            client *asker;
            fill();
            ask_and_wait(&asker, explained ? "explain" : "search", "{'collection': 'notes', 'k': %d, %s}", DOCS,
                         SEARCHES[i / 2]);
            delete_some(i % 2 == 1, 0, K);
            /* `like` leaves the document itself out. */
            expect_without(object_get(receive(asker), "hits"), DOCS - K - (strstr(SEARCHES[i / 2], "like") != NULL), K);
        }
    stop();
}
END_TEST

START_TEST(search_has_k_hits_though_some_are_deleted)
{
    client *asker;
    if (!start())
        return;
    fill();
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'collection': 'notes', 'query': 'refund', 'k': 1}"), "hits");
    unsigned best = (unsigned)object_uint(object_get(box_at(hits, 0), "id"), 0);
    ask_and_wait(&asker, "search", "{'collection': 'notes', 'query': 'refund', 'k': %d}", K);
    box_delete_range(&b, "notes", best, 1);
    hits = object_get(receive(asker), "hits");
    ck_assert_uint_eq(box_count(hits), K);
    for (size_t i = 0; i < K; i++)
        ck_assert_uint_ne(object_uint(object_get(box_at(hits, i), "id"), 0), best);
    stop();
}
END_TEST

START_TEST(like_of_a_deleted_document_finds_nothing)
{
    client *asker;
    if (!start())
        return;
    fill();
    ask_and_wait(&asker, "search", "{'collection': 'notes', 'like': 3, 'k': 5}");
    box_delete_range(&b, "notes", 3, 1);
    receive(asker);
    ck_assert(b.reply.is_error);
    ck_assert_str_eq(b.reply.code, "NOT_FOUND");
    stop();
}
END_TEST

START_TEST(get_and_scroll_never_return_deleted)
{
    if (!start())
        return;
    for (int by_filter = 0; by_filter < 2; by_filter++) {
        client *asker;
        fill();
        ask_and_wait(&asker, "get", "{'collection': 'notes', 'ids': [1, 20, 2], 'with': ['text', 'vector']}");
        delete_some(by_filter, 0, K);
        const msgpack_object *docs = receive(asker);
        ck_assert_int_eq(box_at(docs, 0)->type, MSGPACK_OBJECT_NIL);
        ck_assert_uint_eq(object_uint(object_get(box_at(docs, 1), "id"), 0), 20);
        ck_assert_int_eq(box_at(docs, 2)->type, MSGPACK_OBJECT_NIL);
        fill();
        ask_and_wait(&asker, "scroll", "{'collection': 'notes'}");
        delete_some(by_filter, 0, K);
        expect_without(object_get(receive(asker), "docs"), DOCS - K, K);
    }
    stop();
}
END_TEST

START_TEST(a_dropped_collection_is_not_answered_from)
{
    static const char *const methods[] = {"search", "get", "scroll"};
    static const char *const params[] = {", 'query': 'refund'", ", 'ids': [1]", ""};
    if (!start())
        return;
    for (int i = 0; i < 6; i++) {
        client *asker;
        fill();
        ask_and_wait(&asker, methods[i / 2], "{'collection': 'notes'%s}", params[i / 2]);
        box_call(&b, "collection.drop", "{'name': 'notes'}");
        if (i % 2 == 1) /* of the same name, and another one */
            box_call(&b, "collection.create", "{'name': 'notes'}");
        const msgpack_object *result = receive(asker);
        ck_assert(b.reply.is_error == (i % 2 == 0));
        if (b.reply.is_error)
            ck_assert_str_eq(b.reply.code, "NOT_FOUND");
        else if (i / 2 == 1)
            ck_assert_int_eq(box_at(result, 0)->type, MSGPACK_OBJECT_NIL);
        else
            ck_assert_uint_eq(box_count(object_get(result, i / 2 == 0 ? "hits" : "docs")), 0);
        box_call(&b, "collection.create", "{'name': 'notes'}");
    }
    stop();
}
END_TEST

/* What was deleted meanwhile, and what it was when it was not, is told apart: an id
 * that was deleted and put again is another document. */
START_TEST(a_document_put_again_is_the_new_one)
{
    client *asker;
    if (!start())
        return;
    fill();
    ask_and_wait(&asker, "get", "{'collection': 'notes', 'ids': [5]}");
    box_delete_range(&b, "notes", 5, 1);
    box_call(&b, "upsert", "{'collection': 'notes', 'docs': [{'id': 5, 'text': 'new'}]}");
    const msgpack_object *doc = box_at(receive(asker), 0);
    ck_assert(object_is(object_get(doc, "text"), "new"));
    stop();
}
END_TEST

static void number_of(packer *p, unsigned id)
{
    pack_str(p, "n");
    pack_uint(p, id);
}

static void fill_external(void)
{
    const float vector[DIM] = {1};
    box_call(&b, "collection.create", "{'name': 'many', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    for (unsigned i = 0; i < MANY; i += REQUEST) {
        buffer params = external_docs_pack(&(external_docs){
            .collection = "many", .first = i, .count = REQUEST, .dim = DIM, .vectors = vector, .meta = number_of});
        box_call_packed(&b, "upsert", &params);
    }
}

/* More than are remembered: what still exists is then looked up. */
START_TEST(deletes_beyond_those_remembered_are_looked_up)
{
    client *asker;
    if (!start())
        return;
    for (unsigned gone = 0; gone < 2; gone++) {
        fill_external();
        ask_and_wait(&asker, "get", "{'collection': 'many', 'ids': [0, %d]}", MANY - 1);
        box_call(&b, "delete", "{'collection': 'many', 'filter': {'field': 'n', 'gte': %u, 'lt': %d}}", 1 - gone,
                 MANY - 1);
        const msgpack_object *docs = receive(asker);
        ck_assert_int_eq(box_at(docs, 0)->type, gone == 0 ? MSGPACK_OBJECT_MAP : MSGPACK_OBJECT_NIL);
        ck_assert_int_eq(box_at(docs, 1)->type, MSGPACK_OBJECT_MAP);
    }
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("deleted");
    TCase *t = tcase_create("deleted");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, search_never_returns_deleted);
    tcase_add_test(t, search_has_k_hits_though_some_are_deleted);
    tcase_add_test(t, like_of_a_deleted_document_finds_nothing);
    tcase_add_test(t, get_and_scroll_never_return_deleted);
    tcase_add_test(t, a_dropped_collection_is_not_answered_from);
    tcase_add_test(t, a_document_put_again_is_the_new_one);
    tcase_add_test(t, deletes_beyond_those_remembered_are_looked_up);
    suite_add_tcase(s, t);
    return testing_run(s);
}
