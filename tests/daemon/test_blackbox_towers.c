/* Generations whose queries have a model of their own: documents are not touched, the space is
 * shared, and each text goes to the model that it is for. */
#include "tests/daemon/lessons.h"

#include "model/towers.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DOCUMENTS = 200, DIM = 48, LOOKED_AT = 20 };

static box b;

/* mode: of all jobs that say nothing else. */
static bool start(const char *mode, const char *more)
{
    static char option[64];
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    snprintf(option, sizeof option, "finetune.mode=%s", mode);
    size_t n = lesson_options(&b, true);
    b.options[n++] = option;
    b.options[n++] = more;
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

static size_t folders(const char *below, const char *prefix)
{
    char path[FILES_PATH_MAX];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/data/%s", testing_folder(), below);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        count += e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return count;
}

/* What `generations` says of one. */
static const msgpack_object *generation(unsigned number)
{
    const msgpack_object *all = box_call(&b, "generations", NULL);
    for (size_t i = 0; i < box_count(all); i++)
        if (object_uint(object_get(box_at(all, i), "generation"), 0) == number)
            return box_at(all, i);
    ck_abort_msg("no generation %u", number);
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
    if (!start("full", NULL))
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
    if (!start("full", NULL))
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

/* --- query models that were learned here */

static void upsert_with_vector(unsigned id, const float vector[DIM], unsigned of)
{
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "generation");
    pack_uint(&p, of);
    pack_str(&p, "docs");
    pack_array(&p, 1);
    pack_map(&p, 3);
    pack_str(&p, "id");
    pack_uint(&p, id);
    pack_str(&p, "text");
    pack_str(&p, "a card");
    pack_str(&p, "vector");
    pack_bin(&p, vector, DIM * sizeof(float));
    box_call_packed(&b, "upsert", &params);
}

/* Whether the last job looked up where documents are, for holding them there. */
static bool documents_were_held(void)
{
    char *log = NULL, line[64];
    size_t size;
    sem_error error;
    const uint64_t job = object_uint(object_get(box_call(&b, "job", "{}"), "job"), 0);
    snprintf(line, sizeof line, "event=documents job=%llu ", (unsigned long long)job);
    ck_ok(files_read(b.log, (size_t)64 << 20, &log, &size, &error));
    const bool held = strstr(log, line) != NULL;
    free(log);
    return held;
}

START_TEST(a_query_model_is_swapped_under_vectors_that_stay)
{
    float before[LOOKED_AT][DIM], after[LOOKED_AT][DIM], query[DIM], again[DIM];
    char text[LESSON_TEXT_MAX];
    if (!start("query", NULL))
        return;
    lesson_feedback(&b, DOCUMENTS);
    all_vectors(before);
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    ck_assert_uint_eq(object_uint(object_get(&b.reply.value, "generation"), 0), 2);
    ck_assert_ptr_null(object_get(object_get(&b.reply.value, "seconds"), "embedding"));
    ck_assert(object_is(object_get(generation(2), "mode"), "query"));
    ck_assert_uint_eq(folders("", "space-"), 1);
    all_vectors(after);
    ck_assert_mem_eq(before, after, sizeof before);
    expect_towers(true);
    /* Vectors of either generation are of one space. */
    upsert_with_vector(900, before[0], 1);
    box_call(&b, "delete", "{'ids': [900]}");
    lesson_query(3, text);
    encode(text, "query", query);
    for (int i = 0; i < 4; i++) {
        lesson_upsert(&b, 300 + (unsigned)i); /* a write between two flips is right for both */
        const msgpack_object *r = box_call(&b, "rollback", "{'generation': %d}", i % 2 == 0 ? 1 : 2);
        ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), i % 2 == 0 ? 1 : 2);
        r = box_call(&b, "job", "{}");
        ck_assert_ptr_null(object_get(object_get(r, "seconds"), "embedding"));
        expect_towers(i % 2 == 1);
        all_vectors(after);
        ck_assert_mem_eq(before, after, sizeof before);
    }
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
    box_start(&b); /* the same after a restart */
    expect_towers(true);
    encode(text, "query", again);
    ck_assert_mem_eq(query, again, sizeof query);
    all_vectors(after);
    ck_assert_mem_eq(before, after, sizeof before);
    /* A model for both begins with the query model; whether it is better is the gate's to say. */
    const msgpack_object *job = box_call(&b, "finetune", "{'wait': true, 'mode': 'full'}");
    ck_assert(object_is(object_get(job, "state"), "done"));
    ck_assert(documents_were_held()); /* that model was no longer theirs */
    expect_towers(!object_is(object_get(box_call(&b, "job", "{}"), "decision"), "promoted"));
    box_stop(&b);
}
END_TEST

static void expect_states(const char *first, const char *second, const char *third)
{
    const char *const states[] = {first, second, third};
    for (unsigned i = 0; i < 3; i++)
        ck_assert_msg(object_is(object_get(generation(i + 1), "state"), states[i]), "generation %u is not %s", i + 1,
                      states[i]);
}

/* Another document model, which shares nothing. */
static void load_again(void)
{
    char path[FILES_PATH_MAX];
    ck_assert_ptr_nonnull(realpath(b.model + strlen("model.path="), path));
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
    box_wait_for_job(&b, "done");
}

/* A query model again, from the first generation. */
static void learn_again(void)
{
    box_call(&b, "rollback", "{'generation': 1}");
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    ck_assert_uint_eq(object_uint(object_get(&b.reply.value, "generation"), 0), 3);
}

START_TEST(only_what_no_generation_names_is_removed)
{
    static char option[FILES_PATH_MAX + 32];
    float before[LOOKED_AT][DIM], after[LOOKED_AT][DIM];
    sem_error error;
    snprintf(option, sizeof option, "storage.backup_dir=%s/backups", testing_folder());
    ck_ok(files_make_folder(option + strlen("storage.backup_dir="), &error));
    if (!start("query", option))
        return;
    lesson_feedback(&b, DOCUMENTS);
    all_vectors(before);
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    ck_assert_uint_eq(folders("models", "tiny-bert"), 2);
    learn_again(); /* one old generation is kept, the one that was just left */
    expect_states("previous", "retired", "current");
    ck_assert_uint_eq(folders("models", "tiny-bert"), 2);
    ck_assert_uint_eq(folders("", "space-"), 1);
    all_vectors(after);
    ck_assert_mem_eq(before, after, sizeof before);
    box_call(&b, "backup", "{'name': 'one'}");
    load_again(); /* the first generation goes, but not what the third has of it */
    expect_states("retired", "retired", "previous");
    expect_towers(false);
    ck_assert_uint_eq(folders("models", "tiny-bert"), 3);
    ck_assert_uint_eq(folders("", "space-"), 2);
    load_again();
    expect_states("retired", "retired", "retired");
    ck_assert_uint_eq(folders("models", "tiny-bert"), 2);
    ck_assert_uint_eq(folders("", "space-"), 2);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
    /* The backup is of before: with both models and the one space. */
    ck_assert_int_eq(box_semctl("restore %s/backups/one %s/again", testing_folder(), testing_folder()), 0);
    ck_assert_int_eq(box_semctl("verify %s/again", testing_folder()), 0);
    snprintf(b.storage, sizeof b.storage, "storage.path=%s/again", testing_folder());
    box_start(&b);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0), 3);
    expect_towers(true);
    all_vectors(after);
    ck_assert_mem_eq(before, after, sizeof before);
    box_stop(&b);
}
END_TEST

/* --- both, and the better */

static void expect_told(const char *part)
{
    char text[1024];
    const msgpack_object *reason = object_get(&b.reply.value, "reason");
    snprintf(text, sizeof text, "%.*s", (int)reason->via.str.size, reason->via.str.ptr);
    ck_assert_msg(strstr(text, part) != NULL, "no \"%s\" in: %s", part, text);
}

START_TEST(auto_tells_what_either_model_would_bring_and_takes_one)
{
    if (!start("auto", NULL))
        return;
    lesson_feedback(&b, DOCUMENTS);
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    expect_told("with another query model");
    expect_told("with all embedded anew");
    const bool query = object_get(object_get(&b.reply.value, "seconds"), "embedding") == NULL;
    expect_told(query ? "): query; " : "): full; ");
    ck_assert(object_is(object_get(generation(2), "mode"), query ? "query" : "full"));
    ck_assert_uint_eq(folders("models", "tiny-bert"), 2); /* nothing is left of the other */
    expect_towers(query);
    box_fails(&b, "INVALID_ARGUMENT", "finetune", "{'mode': 'both'}");
    box_stop(&b);
}
END_TEST

START_TEST(auto_embeds_nothing_anew_that_takes_too_long)
{
    if (!start("auto", "finetune.max_embed=1ms"))
        return;
    lesson_feedback(&b, DOCUMENTS);
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    expect_told("finetune.max_embed is 0.001 s: query; ");
    ck_assert(object_is(object_get(generation(2), "mode"), "query"));
    expect_towers(true);
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
    tcase_add_test(t, a_query_model_is_swapped_under_vectors_that_stay);
    tcase_add_test(t, only_what_no_generation_names_is_removed);
    tcase_add_test(t, auto_tells_what_either_model_would_bring_and_takes_one);
    tcase_add_test(t, auto_embeds_nothing_anew_that_takes_too_long);
    suite_add_tcase(s, t);
    return testing_run(s);
}
