/* Generations whose queries have a model of their own: documents are not touched, the space is
 * shared, and each text goes to the model that it is for. */
#include "tests/daemon/lessons.h"

#include "model/towers.h"

enum { DOCUMENTS = 200, DIM = 48, LOOKED_AT = 20 };

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        lesson_upsert(&b, i);
    return true;
}

/* Of document `id`, bit for bit. */
static void stored_vector(unsigned id, float out[DIM])
{
    const msgpack_object *r = box_call(&b, "get", "{'ids': [%u], 'with': ['vector']}", id);
    const msgpack_object *vector = object_get(box_at(r, 0), "vector");
    ck_assert(vector != NULL && vector->type == MSGPACK_OBJECT_BIN);
    ck_assert_uint_eq(vector->via.bin.size, DIM * sizeof(float));
    memcpy(out, vector->via.bin.ptr, DIM * sizeof(float));
}

static void all_vectors(float out[LOOKED_AT][DIM])
{
    for (unsigned i = 0; i < LOOKED_AT; i++)
        stored_vector(i, out[i]);
}

/* prompt NULL: none. */
static void encode(const char *text, const char *prompt, float out[DIM])
{
    char given[64] = "";
    if (prompt != NULL)
        snprintf(given, sizeof given, ", 'prompt': '%s'", prompt);
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['%s']%s}", text, given);
    const msgpack_object *vector = box_at(object_get(r, "embeddings"), 0);
    ck_assert_uint_eq(vector->via.bin.size, DIM * sizeof(float));
    memcpy(out, vector->via.bin.ptr, DIM * sizeof(float));
}

static double cosine(const float x[DIM], const float y[DIM])
{
    double sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* Whether queries go through another model than documents, everywhere where a text is encoded. */
static void expect_towers(bool two)
{
    char text[LESSON_TEXT_MAX];
    float query[DIM], document[DIM], bare[DIM], stored[DIM];
    lesson_document(7, text);
    stored_vector(7, stored);
    for (int again = 0; again < 2; again++) { /* the second time from the cache */
        encode(text, "query", query);
        encode(text, "document", document);
        encode(text, NULL, bare);
        ck_assert_double_gt(cosine(document, stored), 0.9999);
        ck_assert_double_gt(cosine(bare, stored), 0.9999);
        ck_assert_msg((cosine(query, stored) < 0.9999) == two, "the query's cosine is %f", cosine(query, stored));
        const msgpack_object *r = box_call(&b, "search", "{'query': '%s', 'k': %d, 'exact': true}", text, DOCUMENTS);
        const msgpack_object *hits = object_get(r, "hits");
        size_t i = 0;
        while (object_uint(object_get(box_at(hits, i), "id"), UINT64_MAX) != 7)
            i++;
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, i), "score"), 0), cosine(query, stored), 1e-4);
        r = box_call(&b, "explain", "{'query': '%s', 'k': 1, 'exact': true}", text);
        const double best = object_double(object_get(box_at(object_get(r, "hits"), 0), "score"), 0);
        ck_assert_double_ge(best + 1e-4, cosine(query, stored));
    }
    const msgpack_object *info = box_call(&b, "info", NULL), *model = object_get(info, "query_model");
    ck_assert_int_eq(model->type == MSGPACK_OBJECT_MAP, two);
}

/* --- models that others made */

/* A directory of two models as clients may load it: tiny-bert-cls for queries, tiny-bert for documents. */
static const char *make_router(void)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    snprintf(path, sizeof path, "%s/router", testing_folder());
    const char *model = testing_shared("golden/tiny-bert-cls");
    if (model == NULL)
        return NULL;
    ck_ok(files_copy_folder(model, path, &error));
    model = testing_shared("golden/tiny-bert");
    if (model == NULL)
        return NULL;
    ck_ok(towers_join(path, model, &error));
    return path;
}

/* Encodes that wait together, for either model. */
static void expect_each_its_own(const char *text, const float query[DIM], const float document[DIM])
{
    enum { MANY = 60 };
    uint32_t first = 0;
    for (int i = 0; i < MANY; i++) {
        uint32_t id = box_send(b.client, "encode", "{'texts': ['%s', '%s'], 'prompt': '%s'}", text, text,
                               i % 2 == 0 ? "query" : "document");
        first = i == 0 ? id : first;
    }
    for (int i = 0; i < MANY; i++) {
        sem_error error;
        client_reply reply;
        float vector[DIM];
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        ck_assert(!reply.is_error);
        memcpy(vector, box_at(object_get(&reply.value, "embeddings"), 1)->via.bin.ptr, sizeof vector);
        ck_assert_double_gt(cosine(vector, (reply.msgid - first) % 2 == 0 ? query : document), 0.9999);
        client_reply_free(&reply);
    }
}

START_TEST(each_text_goes_to_the_model_that_it_is_for)
{
    if (!start())
        return;
    const char *router = make_router();
    if (router == NULL)
        return;
    float before[LOOKED_AT][DIM], after[LOOKED_AT][DIM];
    expect_towers(false);
    all_vectors(before);
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", router);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0), 2);
    expect_towers(true);
    all_vectors(after); /* of the same document model */
    for (int i = 0; i < LOOKED_AT; i++)
        ck_assert_double_gt(cosine(before[i], after[i]), 0.9999);
    /* Together in the queue, and each by its own model. */
    char text[LESSON_TEXT_MAX];
    float query[DIM], document[DIM];
    lesson_document(7, text);
    encode(text, "query", query);
    encode(text, "document", document);
    expect_each_its_own(text, query, document);
    box_stop(&b);
    box_start(&b);
    expect_towers(true);
    box_call(&b, "rollback", "{}");
    expect_towers(false);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
}
END_TEST

START_TEST(what_is_no_pair_of_models_is_refused_by_name)
{
    char path[FILES_PATH_MAX];
    sem_error error;
    if (!start())
        return;
    const char *router = make_router();
    if (router == NULL)
        return;
    snprintf(path, sizeof path, "%s/router_config.json", router);
    static const char text[] = "{\"types\": {\"query\": \"sentence_transformers.models.Transformer\"}, "
                               "\"structure\": {\"query\": [\"query\"]}, \"parameters\": {}}";
    ck_ok(files_write(path, text, sizeof text - 1, &error));
    const char *message = box_fails(&b, "INVALID_ARGUMENT", "model.load", "{'path': '%s'}", router);
    ck_assert_ptr_nonnull(strstr(message, "\"document\""));
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("query models");
    TCase *t = tcase_create("towers");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, each_text_goes_to_the_model_that_it_is_for);
    tcase_add_test(t, what_is_no_pair_of_models_is_refused_by_name);
    suite_add_tcase(s, t);
    return testing_run(s);
}
