/* A document that is put again with the text that it has keeps its vector, and nothing
 * is encoded for it, whatever happens to it between the look at its text and the write:
 * the linker puts __wrap_writer_submit in the place of where a prepared write is handed
 * over, and it waits there when it is told to (mk/tests.mk). */
#include "tests/common/testing.h"
#include "tests/daemon/blackbox.h"
#include "tests/daemon/daemon_here.h"

#include "daemon/writer.h"

#include <semaphore.h>
#include <stdatomic.h>

enum { DOCS = 60, WORKERS = 2 };

static sem_error error;
static daemon_here here;
static box b; /* only its client, and what it remembers of answers */
static core *engine_core;
static sem_t arrived, go;
static atomic_int pauses; /* writes that are to wait */

sem_status __real_writer_create(writer **out, core *c, sem_error *err);
sem_status __wrap_writer_create(writer **out, core *c, sem_error *err);
void __real_writer_submit(writer *w, task *t);
void __wrap_writer_submit(writer *w, task *t);

sem_status __wrap_writer_create(writer **out, core *c, sem_error *err)
{
    engine_core = c;
    return __real_writer_create(out, c, err);
}

void __wrap_writer_submit(writer *w, task *t)
{
    if (t->request->method == METHOD_UPSERT && atomic_exchange(&pauses, 0) > 0) {
        sem_post(&arrived);
        sem_wait(&go);
    }
    __real_writer_submit(w, t);
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
    return true;
}

static void stop(void)
{
    box_forget_reply(&b);
    here_stop(&here);
}

static uint64_t texts_encoded(void)
{
    return atomic_load(&engine_core->stats.texts_encoded);
}

enum { FLOATS_MAX = 1024 };

typedef struct vector {
    unsigned char bytes[FLOATS_MAX * sizeof(float)];
    size_t size;
} vector;

static void copy_vector(const msgpack_object *from, vector *out)
{
    ck_assert_ptr_nonnull(from);
    ck_assert_int_eq(from->type, MSGPACK_OBJECT_BIN);
    ck_assert_uint_le(from->via.bin.size, sizeof out->bytes);
    out->size = from->via.bin.size;
    memcpy(out->bytes, from->via.bin.ptr, out->size);
}

static void vector_of(int id, vector *out)
{
    const msgpack_object *docs = box_call(&b, "get", "{'ids': [%d], 'with': ['vector']}", id);
    copy_vector(object_get(box_at(docs, 0), "vector"), out);
}

/* As it is encoded now. */
static void encoding_of(const char *text, vector *out)
{
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['%s']}", text);
    copy_vector(box_at(object_get(r, "embeddings"), 0), out);
}

static bool same_bits(const vector *a, const vector *other)
{
    return a->size == other->size && memcmp(a->bytes, other->bytes, a->size) == 0;
}

static double cosine(const vector *a, const vector *other)
{
    double sum = 0;
    ck_assert_uint_eq(a->size, other->size);
    for (size_t i = 0; i < a->size; i += sizeof(float)) {
        float x, y;
        memcpy(&x, a->bytes + i, sizeof x);
        memcpy(&y, other->bytes + i, sizeof y);
        sum += (double)x * y;
    }
    return sum;
}

static void put_all(int round)
{
    char docs[DOCS * 96];
    size_t size = 0;
    for (int i = 0; i < DOCS; i++)
        size += (size_t)snprintf(docs + size, sizeof docs - size, "%s{'id': %d, 'text': 'card %d', 'meta': {'n': %d}}",
                                 i > 0 ? ", " : "", i, i, round * i);
    const msgpack_object *r = box_call(&b, "upsert", "{'docs': [%s]}", docs);
    ck_assert_uint_eq(object_uint(object_get(r, "upserted"), 0), DOCS);
}

static uint64_t count_of(const char *filter)
{
    return object_uint(object_get(box_call(&b, "count", "{'filter': %s}", filter), "count"), UINT64_MAX);
}

START_TEST(meta_change_encodes_nothing)
{
    vector before, after;
    if (!start())
        return;
    put_all(1);
    vector_of(7, &before);
    uint64_t encoded = texts_encoded();
    ck_assert_uint_ge(encoded, DOCS);
    put_all(2);
    ck_assert_uint_eq(texts_encoded(), encoded);
    vector_of(7, &after);
    ck_assert(same_bits(&before, &after));
    ck_assert_uint_eq(count_of("{'field': 'n', 'eq': 14}"), 1);
    ck_assert_uint_eq(count_of("{'field': 'n', 'eq': 118}"), 1);
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'query': 'card 7', 'k': %d, 'mode': 'lexical'}", DOCS), "hits");
    ck_assert_uint_eq(box_count(hits), DOCS);
    hits =
        object_get(box_call(&b, "search", "{'query': 'x', 'k': %d, 'filter': {'field': 'n', 'eq': 14}}", DOCS), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert_uint_eq(object_uint(object_get(box_at(hits, 0), "id"), 0), 7);
    stop();
}
END_TEST

/* All of a document's passages, one vector behind the other; how many there are. */
static size_t passages_of(int id, vector *out)
{
    const msgpack_object *docs = box_call(&b, "get", "{'collection': 'long', 'ids': [%d], 'with': ['vector']}", id);
    const msgpack_object *all = object_get(box_at(docs, 0), "passages");
    vector one;
    out->size = 0;
    for (size_t i = 0; i < box_count(all); i++) {
        copy_vector(object_get(box_at(all, i), "vector"), &one);
        ck_assert_uint_le(out->size + one.size, sizeof out->bytes);
        memcpy(out->bytes + out->size, one.bytes, one.size);
        out->size += one.size;
    }
    return box_count(all);
}

START_TEST(meta_change_encodes_no_passage)
{
    static const char text[] = "the bank has a card. snow and water. a king in a tree. my fee is a limit.";
    vector before, after;
    if (!start())
        return;
    box_call(&b, "collection.create", "{'name': 'long', 'options': {'passage_tokens': 8, 'passage_overlap': 2}}");
    box_call(&b, "upsert",
             "{'collection': 'long', 'docs': [{'id': 1, 'text': '%s', 'meta': {'n': 1}}, {'id': 2, 'text': 'snow'}]}",
             text);
    size_t passages = passages_of(1, &before);
    ck_assert_uint_gt(passages, 2);
    uint64_t encoded = texts_encoded();
    ck_assert_uint_eq(encoded, passages + 1);
    box_call(&b, "upsert", "{'collection': 'long', 'docs': [{'id': 1, 'text': '%s', 'meta': {'n': 2}}]}", text);
    ck_assert_uint_eq(texts_encoded(), encoded);
    ck_assert_uint_eq(passages_of(1, &after), passages);
    ck_assert(same_bits(&before, &after));
    for (int n = 1; n <= 2; n++) {
        const msgpack_object *hits = object_get(
            box_call(&b, "search", "{'collection': 'long', 'query': 'snow', 'filter': {'field': 'n', 'eq': %d}}", n),
            "hits");
        ck_assert_uint_eq(box_count(hits), n == 2);
    }
    stop();
}
END_TEST

START_TEST(update_of_same_text_keeps_the_vector)
{
    vector given, after;
    packer p;
    buffer params = {0};
    if (!start())
        return;
    /* One that no model made of this text: what keeps it did not encode. */
    encoding_of("quite another text", &given);
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "generation");
    pack_uint(&p, 1);
    pack_str(&p, "docs");
    pack_array(&p, 1);
    pack_map(&p, 3);
    pack_str(&p, "id");
    pack_uint(&p, 1);
    pack_str(&p, "text");
    pack_str(&p, "a card");
    pack_str(&p, "vector");
    pack_bin(&p, given.bytes, given.size);
    box_call_packed(&b, "upsert", &params);
    vector_of(1, &given);
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'a card', 'meta': {'a': 1}}]}");
    vector_of(1, &after);
    ck_assert(same_bits(&given, &after));
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'a carD'}]}");
    vector_of(1, &after);
    ck_assert(!same_bits(&given, &after));
    stop();
}
END_TEST

/* Rows of the encoder's answer go to those that were encoded. */
START_TEST(same_new_and_changed_texts_may_come_together)
{
    static const char *const texts[] = {"one", "two", "three changed", "four", "five", "six is new"};
    vector found, expected;
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 0, 'text': 'one'}, {'id': 1, 'text': 'two'}, {'id': 2, 'text': 'three'}, {'id': 3, "
             "'text': 'four'}, {'id': 4, 'text': 'five'}]}");
    uint64_t encoded = texts_encoded();
    box_call(&b, "upsert",
             "{'docs': [{'id': 0, 'text': 'one'}, {'id': 5, 'text': 'six is new'}, {'id': 1, 'text': 'two'}, {'id': "
             "2, 'text': 'three changed'}, {'id': 4, 'text': 'five'}, {'id': 3, 'text': 'four'}]}");
    ck_assert_uint_eq(texts_encoded(), encoded + 2);
    for (int i = 0; i < 6; i++) {
        vector_of(i, &found);
        encoding_of(texts[i], &expected);
        ck_assert_double_gt(cosine(&found, &expected), 0.99999);
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': '%s', 'k': 1, 'exact': true}", texts[i]), "hits");
        ck_assert_int_eq((int)object_uint(object_get(box_at(hits, 0), "id"), 99), i);
    }
    stop();
}
END_TEST

START_TEST(texts_beyond_the_models_length_are_counted_all_the_same)
{
    static char text[40000];
    if (!start())
        return;
    for (size_t i = 0; i + 5 < sizeof text; i += 5)
        memcpy(text + i, "card ", 5);
    for (int i = 0; i < 2; i++) {
        const msgpack_object *r =
            box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': '%s'}, {'id': 2, 'text': 'short'}]}", text);
        ck_assert_uint_eq(object_uint(object_get(r, "truncated"), 9), 1);
    }
    stop();
}
END_TEST

/* Begins the second write of document 1 with the text that it has, and has it wait
 * where it is handed to the writer. */
static client *write_same_and_wait(void)
{
    client *asker;
    ck_ok(client_connect(&asker, server_address(here.server, 0), HERE_PATIENCE_MS, &error));
    atomic_store(&pauses, 1);
    box_send(asker, "upsert", "{'docs': [{'id': 2, 'text': 'two'}, {'id': 1, 'text': 'first', 'meta': {'mine': 1}}]}");
    sem_wait(&arrived);
    return asker;
}

START_TEST(a_text_that_changes_in_between_is_encoded)
{
    static const char *const between[] = {
        "{'docs': [{'id': 1, 'text': 'second'}]}",
        "{'ids': [1]}",
    };
    if (!start())
        return;
    for (int i = 0; i < 2; i++) {
        vector found, expected;
        client_reply reply;
        box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'first'}]}");
        client *asker = write_same_and_wait();
        if (i == 0)
            box_call(&b, "upsert", "%s", between[i]);
        else
            box_call(&b, "delete", "%s", between[i]);
        sem_post(&go);
        ck_ok(client_receive(asker, HERE_PATIENCE_MS, &reply, &error));
        ck_ok(client_reply_status(&reply, &error));
        client_reply_free(&reply);
        client_close(asker);
        const msgpack_object *doc = box_at(box_call(&b, "get", "{'ids': [1]}"), 0);
        ck_assert(object_is(object_get(doc, "text"), "first"));
        ck_assert_uint_eq(object_uint(object_get(object_get(doc, "meta"), "mine"), 0), 1);
        vector_of(1, &found);
        encoding_of("first", &expected);
        ck_assert_double_gt(cosine(&found, &expected), 0.99999);
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': 'first', 'k': 5, 'exact': true}"), "hits");
        ck_assert_uint_eq(box_count(hits), 2);
        ck_assert_uint_eq(object_uint(object_get(box_at(hits, 0), "id"), 0), 1);
    }
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("same text");
    TCase *t = tcase_create("same text");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, meta_change_encodes_nothing);
    tcase_add_test(t, meta_change_encodes_no_passage);
    tcase_add_test(t, update_of_same_text_keeps_the_vector);
    tcase_add_test(t, same_new_and_changed_texts_may_come_together);
    tcase_add_test(t, texts_beyond_the_models_length_are_counted_all_the_same);
    tcase_add_test(t, a_text_that_changes_in_between_is_encoded);
    suite_add_tcase(s, t);
    return testing_run(s);
}
