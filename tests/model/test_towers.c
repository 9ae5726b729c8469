/* Directories of two models: as sentence-transformers writes and opens them. */
#include "tests/common/python.h"
#include "tests/common/testing.h"

#include "model/model.h"
#include "model/towers.h"

#include <jansson.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const TEXTS[] = {"a house", "my card and a transfer", "ein Haus an der Straße", "x"};
enum { TEXT_COUNT = sizeof TEXTS / sizeof *TEXTS, DIM = 48 };

static sem_error error;

static void write_text(const char *name, const char *text)
{
    ck_ok(files_write(testing_path(name), text, strlen(text), &error));
}

/* prompt: its text. */
static void embed(const char *dir, const char *prompt, float out[TEXT_COUNT][DIM])
{
    model *m;
    encoder_scratch *scratch;
    token_batch batch = {0};
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_assert_uint_eq(model_get_config(m)->dim, DIM);
    for (size_t i = 0; i < TEXT_COUNT; i++)
        ck_ok(model_tokenize(m, prompt, TEXTS[i], strlen(TEXTS[i]), &batch, NULL, &error));
    ck_ok(encoder_scratch_create(&scratch, model_get_encoder(m), batch.tokens, &error));
    ck_ok(encoder_forward(model_get_encoder(m), scratch, batch.ids, batch.lengths, batch.texts, out[0], &error));
    encoder_scratch_destroy(scratch);
    token_batch_free(&batch);
    model_close(m);
}

/* Whether two directories are the same model. */
static bool are_alike(const char *a, const char *b)
{
    float x[TEXT_COUNT][DIM], y[TEXT_COUNT][DIM];
    float most = 0;
    embed(a, "", x);
    embed(b, "", y);
    for (size_t i = 0; i < TEXT_COUNT; i++)
        for (size_t d = 0; d < DIM; d++)
            most = fmaxf(most, fabsf(x[i][d] - y[i][d]));
    return most < 1e-6f;
}

/* The two models that all tests are about; false where they are missing. */
static bool copy_models(void)
{
    const char *query = testing_shared("golden/tiny-bert-cls");
    if (query == NULL)
        return false;
    ck_ok(files_copy_folder(query, testing_path("query"), &error));
    ck_ok(files_copy_folder(testing_shared("golden/tiny-bert"), testing_path("document"), &error));
    return true;
}

START_TEST(a_query_model_and_a_document_model_become_one_directory)
{
    char path[FILES_PATH_MAX];
    struct stat a, b;
    if (!copy_models())
        return;
    ck_ok(files_copy_folder(testing_path("query"), testing_path("both"), &error));
    ck_assert(!towers_are(testing_path("both")));
    ck_ok(towers_folder(path, testing_path("both"), TOWER_DOCUMENT, &error));
    ck_assert_str_eq(path, testing_path("both")); /* one model for both */
    ck_ok(unlink(testing_path("document/modules.json")) == 0 ? SEM_OK : SEM_INTERNAL);
    ck_ok(towers_join(testing_path("both"), testing_path("document"), &error));
    ck_assert(towers_are(testing_path("both")));
    ck_ok(towers_check(testing_path("both"), &error));
    ck_assert(are_alike(testing_path("both/query"), testing_path("query")));
    ck_ok(towers_folder(path, testing_path("both"), TOWER_DOCUMENT, &error));
    ck_assert(are_alike(path, testing_path("document")));
    ck_assert(!are_alike(path, testing_path("query")));
    ck_assert_int_eq(stat(testing_path("both/document/model.safetensors"), &a), 0);
    ck_assert_int_eq(stat(testing_path("document/model.safetensors"), &b), 0);
    ck_assert(a.st_ino == b.st_ino); /* on disk once */
    ck_assert_int_ne(access(testing_path("both-towers"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("document/modules.json"), F_OK), 0); /* the other's is as it was */
    ck_ok(towers_copy(testing_path("both"), testing_path("again"), NULL, &error));
    ck_assert(are_alike(testing_path("again/query"), testing_path("query")));
    ck_assert(are_alike(testing_path("again/document"), testing_path("document")));
}
END_TEST

/* A directory as sentence-transformers saves it: each module has a folder of its own. */
static bool make_router(void)
{
    if (!copy_models())
        return false;
    ck_ok(files_make_folder(testing_path("router"), &error));
    ck_ok(files_copy_folder(testing_path("query"), testing_path("router/query_0_Transformer"), &error));
    ck_ok(files_copy_folder(testing_path("document"), testing_path("router/document_0_Transformer"), &error));
    static const char *const towers[] = {"query", "document"};
    for (size_t i = 0; i < 2; i++) {
        char from[128], to[128];
        snprintf(from, sizeof from, "router/%s_0_Transformer/1_Pooling", towers[i]);
        snprintf(to, sizeof to, "router/%s_1_Pooling", towers[i]);
        ck_assert_int_eq(rename(testing_path(from), testing_path(to)), 0);
        snprintf(from, sizeof from, "router/%s_0_Transformer/modules.json", towers[i]);
        ck_assert_int_eq(unlink(testing_path(from)), 0);
        snprintf(from, sizeof from, "router/%s_0_Transformer/config_sentence_transformers.json", towers[i]);
        unlink(testing_path(from));
    }
    write_text("router/modules.json",
               "[{\"idx\": 0, \"name\": \"0\", \"path\": \"\", \"type\": \"sentence_transformers.models.Router\"},"
               " {\"idx\": 1, \"name\": \"1\", \"path\": \"1_Normalize\", \"type\": "
               "\"sentence_transformers.models.Normalize\"}]");
    write_text("router/config_sentence_transformers.json",
               "{\"prompts\": {\"query\": \"ask: \", \"document\": \"\"}, \"default_prompt_name\": null}");
    write_text("router/router_config.json",
               "{\"types\": {\"query_0_Transformer\": \"sentence_transformers.base.modules.transformer.Transformer\","
               " \"query_1_Pooling\": \"sentence_transformers.sentence_transformer.modules.pooling.Pooling\","
               " \"document_0_Transformer\": \"sentence_transformers.models.Transformer\","
               " \"document_1_Pooling\": \"sentence_transformers.models.Pooling\"},"
               " \"structure\": {\"query\": [\"query_0_Transformer\", \"query_1_Pooling\"],"
               " \"document\": [\"document_0_Transformer\", \"document_1_Pooling\"]},"
               " \"parameters\": {\"default_route\": \"document\", \"allow_empty_key\": true}}");
    return true;
}

START_TEST(what_others_have_saved_becomes_two_models)
{
    model_config config;
    if (!make_router())
        return;
    ck_assert(towers_are(testing_path("router")));
    ck_ok(towers_check(testing_path("router"), &error));
    ck_ok(towers_copy(testing_path("router"), testing_path("taken"), NULL, &error));
    ck_assert(are_alike(testing_path("taken/query"), testing_path("query")));
    ck_assert(are_alike(testing_path("taken/document"), testing_path("document")));
    ck_ok(model_config_read(&config, testing_path("taken/query"), &error));
    ck_assert_str_eq(model_config_query_prompt(&config), "ask: ");
    ck_assert(config.normalize);
    model_config_free(&config);
}
END_TEST

/* What a router_config.json is refused for: the text that is changed, into what, and part of what is said. */
static const struct {
    const char *from, *to, *said;
} WRONG[] = {
    {"\"document\": [", "\"passage\": [", "structure has no \"document\""},
    {"[\"query_0_Transformer\", ", "[\"../query_0_Transformer\", ", "module 0 of structure.query"},
    {"[\"query_0_Transformer\", ", "[", "begins with a Pooling"},
    {"[\"query_0_Transformer\", ", "[\"query_0_Transformer\", 7, ", "module 1 of structure.query"},
};

START_TEST(a_directory_that_is_no_two_models_is_refused_by_what_is_wrong)
{
    char *text, changed[4096];
    size_t size;
    if (!make_router())
        return;
    ck_ok(files_read(testing_path("router/router_config.json"), sizeof changed / 2, &text, &size, &error));
    const char *at = strstr(text, WRONG[_i].from);
    ck_assert_ptr_nonnull(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, WRONG[_i].to, at + strlen(WRONG[_i].from));
    write_text("router/router_config.json", changed);
    ck_assert_int_eq(towers_check(testing_path("router"), &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, WRONG[_i].said) != NULL, "%s", error.message);
    ck_assert_int_eq(towers_copy(testing_path("router"), testing_path("taken"), NULL, &error), SEM_INVALID_ARGUMENT);
    free(text);
}
END_TEST

static void write_vectors(const char *dir, const char *name)
{
    float vectors[TEXT_COUNT][DIM];
    embed(dir, "", vectors);
    ck_ok(files_write(testing_path(name), vectors, sizeof vectors, &error));
}

START_TEST(python_opens_what_was_joined)
{
    char python[FILES_PATH_MAX], line[6 * FILES_PATH_MAX], texts[1024] = "";
    const char *root = getenv("SEMD_ROOT");
    if (!copy_models() || !find_python(python, "sentence_transformers"))
        return;
    for (size_t i = 0; i < TEXT_COUNT; i++)
        snprintf(texts + strlen(texts), sizeof texts - strlen(texts), "%s\n", TEXTS[i]);
    write_text("texts", texts);
    write_vectors(testing_path("query"), "of-queries");
    write_vectors(testing_path("document"), "of-documents");
    ck_ok(files_copy_folder(testing_path("query"), testing_path("both"), &error));
    ck_ok(towers_join(testing_path("both"), testing_path("document"), &error));
    const char *folder = testing_folder();
    snprintf(line, sizeof line,
             "'%s' '%s/tests/python/check_model.py' 2e-5 '%s/both#query' '%s/texts' '%s/of-queries' '%s/both#document' "
             "'%s/texts' '%s/of-documents' '%s/both/query' '%s/texts' '%s/of-queries'",
             python, root != NULL && *root != '\0' ? root : ".", folder, folder, folder, folder, folder, folder, folder,
             folder, folder);
    ck_assert_int_eq(system(line), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("two models in a directory");
    TCase *t = tcase_create("towers");
    tcase_set_timeout(t, 200);
    tcase_add_test(t, a_query_model_and_a_document_model_become_one_directory);
    tcase_add_test(t, what_others_have_saved_becomes_two_models);
    tcase_add_loop_test(t, a_directory_that_is_no_two_models_is_refused_by_what_is_wrong, 0,
                        (int)(sizeof WRONG / sizeof *WRONG));
    tcase_add_test(t, python_opens_what_was_joined);
    suite_add_tcase(s, t);
    return testing_run(s);
}
