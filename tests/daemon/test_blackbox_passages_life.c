/* Passages live as long as their documents: across restarts, kills, generations, backups. */
#include "tests/daemon/passages_box.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { DOCUMENTS = 30, WRITTEN_LATER = 1000, MODEL_TOKENS = 80 };

static box b;
static char backups[FILES_PATH_MAX + 64];
static buffer texts[DOCUMENTS];

static void put(unsigned id, unsigned seed, unsigned sentences)
{
    passages_text(&texts[id], seed, sentences);
    passages_upsert(&b, "long", id, (const char *)texts[id].data, texts[id].size);
}

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    snprintf(backups, sizeof backups, "storage.backup_dir=%s/backups", testing_folder());
    b.options[0] = backups;
    b.options[1] = "finetune.max_probe_loss=1"; /* the models here know nothing that one could lose */
    box_start(&b);
    box_call(&b, "collection.create", "{'name': 'long', 'options': {'passage_tokens': %d, 'passage_overlap': %d}}",
             TOKENS, OVERLAP);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        put(i, i, 1 + i);
    return true;
}

static void end(void)
{
    for (unsigned i = 0; i < DOCUMENTS; i++)
        buffer_free(&texts[i]);
    box_stop(&b);
}

/* Every document is cut and embedded as the current model does it; returns how many passages. */
static size_t expect_all_right(size_t tokens)
{
    size_t passages = 0;
    for (unsigned i = 0; i < DOCUMENTS; i++)
        passages += passages_expect_right(&b, "long", i, (const char *)texts[i].data, tokens);
    ck_assert_uint_eq(passages_count(&b, "long"), passages);
    const msgpack_object *hits =
        object_get(box_call(&b, "search", "{'collection': 'long', 'query': 'snow', 'k': 100}"), "hits");
    ck_assert_uint_eq(box_count(hits), DOCUMENTS);
    return passages;
}

START_TEST(a_restart_and_a_kill_lose_no_passage)
{
    if (!start())
        return;
    size_t passages = expect_all_right(TOKENS + SPECIAL);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
    box_start(&b);
    ck_assert_uint_eq(expect_all_right(TOKENS + SPECIAL), passages);
    put(3, 1000, 50);
    put(DOCUMENTS - 1, 1001, 1);
    passages = expect_all_right(TOKENS + SPECIAL);
    box_kill(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
    box_start(&b);
    ck_assert_uint_eq(expect_all_right(TOKENS + SPECIAL), passages);
    end();
}
END_TEST

START_TEST(a_backup_holds_all_passages)
{
    if (!start())
        return;
    size_t passages = expect_all_right(TOKENS + SPECIAL);
    box_call(&b, "backup", "{'name': 'one'}");
    put(0, 2000, 40);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("restore %s/backups/one %s/again", testing_folder(), testing_folder()), 0);
    ck_assert_int_eq(box_semctl("verify %s/again", testing_folder()), 0);
    passages_text(&texts[0], 0, 1);
    snprintf(b.storage, sizeof b.storage, "storage.path=%s/again", testing_folder());
    box_start(&b);
    ck_assert_uint_eq(expect_all_right(TOKENS + SPECIAL), passages);
    end();
}
END_TEST

/* --- generations */

typedef struct traffic {
    client *client;
    unsigned searches, failed, wrong;
    atomic_uint writes;
    atomic_bool stop;
    pthread_t thread;
} traffic;

/* A hit's passage lies in the text that it came with, whatever generation it is of. */
static bool is_right(const msgpack_object *hit)
{
    const msgpack_object *text = object_get(hit, "text"), *range = object_get(hit, "passage");
    if (text == NULL || range == NULL || box_count(range) != 2)
        return false;
    size_t from = object_uint(box_at(range, 0), SIZE_MAX), to = object_uint(box_at(range, 1), 0);
    return from < to && to <= text->via.str.size && passages_boundary(text->via.str.ptr, text->via.str.size, from) &&
           passages_boundary(text->via.str.ptr, text->via.str.size, to);
}

static void call(traffic *t, const char *method, const char *format, ...)
{
    va_list args;
    buffer params = {0};
    client_reply reply;
    sem_error error;
    va_start(args, format);
    box_params(&params, format, args);
    va_end(args);
    ck_ok(client_call(t->client, method, params.data, params.size, BOX_TIMEOUT_MS, &reply, &error));
    buffer_free(&params);
    t->failed += reply.is_error;
    const msgpack_object *hits = reply.is_error ? NULL : object_get(&reply.value, "hits");
    for (size_t i = 0; hits != NULL && i < box_count(hits); i++)
        t->wrong += !is_right(box_at(hits, i));
    client_reply_free(&reply);
}

static void *traffic_main(void *argument)
{
    traffic *t = argument;
    static const char *const modes[] = {"dense", "hybrid", "lexical"};
    for (unsigned i = 0; !atomic_load(&t->stop); i++) {
        call(t, "search", "{'collection': 'long', 'query': 'snow and money', 'k': 50, 'mode': '%s', 'with': ['text']}",
             modes[i % 3]);
        t->searches++;
        /* In turns a short text and a long one under the same ids. */
        call(t, "upsert", "{'collection': 'long', 'docs': [{'id': %u, 'text': 'snow %u. %s'}]}", WRITTEN_LATER + i % 8,
             i,
             i % 2 == 0 ? ""
                        : "money in the bank and a card! the king has a fee. cash or water, a limit for the tree. "
                          "bread and snow. the card of the king. a fee for money. water.");
        t->writes++;
        usleep(1000);
    }
    return NULL;
}

static uint64_t generation(void)
{
    return object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0);
}

START_TEST(a_new_generation_cuts_with_its_own_tokenizer_while_it_is_written_and_searched)
{
    if (!start())
        return;
    traffic t = {.client = box_connect(&b)};
    size_t passages = expect_all_right(TOKENS + SPECIAL);
    char path[FILES_PATH_MAX];
    ck_assert_ptr_nonnull(realpath(testing_shared("golden/family-bert-cased-sqrt-f16-prompts"), path));
    ck_assert_int_eq(pthread_create(&t.thread, NULL, traffic_main, &t), 0);
    box_call(&b, "model.load", "{'path': '%s'}", path);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(generation(), 2);
    for (unsigned until = atomic_load(&t.writes) + 8; atomic_load(&t.writes) < until;)
        usleep(1000); /* every document is written once more */
    atomic_store(&t.stop, true);
    pthread_join(t.thread, NULL);
    ck_assert_uint_eq(t.failed, 0);
    ck_assert_uint_eq(t.wrong, 0);
    ck_assert_uint_gt(t.writes, 0);
    for (unsigned id = WRITTEN_LATER; id < WRITTEN_LATER + 8 && id < WRITTEN_LATER + t.writes; id++) {
        cut_document d = passages_get(&b, "long", id);
        passages_expect_whole(&d);
        passages_expect_vectors(&b, &d, MODEL_TOKENS);
        cut_document_free(&d);
        box_call(&b, "delete", "{'collection': 'long', 'ids': [%u]}", id);
    }
    size_t others = expect_all_right(MODEL_TOKENS);
    ck_assert_uint_ne(others, passages); /* or the tokenizers would be no different */
    put(5, 3000, 30);
    box_call(&b, "rollback", "{}");
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(generation(), 1);
    expect_all_right(TOKENS + SPECIAL);
    client_close(t.client);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
    box_start(&b);
    expect_all_right(TOKENS + SPECIAL);
    end();
}
END_TEST

START_TEST(a_generation_is_made_in_spite_of_a_kill)
{
    if (!start())
        return;
    char path[FILES_PATH_MAX];
    expect_all_right(TOKENS + SPECIAL);
    ck_assert_ptr_nonnull(realpath(testing_shared("golden/tiny-roberta"), path));
    for (unsigned i = 0; i < 4; i++) {
        box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
        usleep(20000 * i);
        box_kill(&b);
        ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
        box_start(&b);
        box_wait_for_job(&b, "done"); /* it goes on */
        ck_assert_uint_eq(generation(), i + 2);
        expect_all_right(MODEL_TOKENS);
    }
    end();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_passages_life");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, a_restart_and_a_kill_lose_no_passage);
    tcase_add_test(c, a_backup_holds_all_passages);
    tcase_add_test(c, a_new_generation_cuts_with_its_own_tokenizer_while_it_is_written_and_searched);
    tcase_add_test(c, a_generation_is_made_in_spite_of_a_kill);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
