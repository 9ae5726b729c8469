/* A daemon that is cut off, or has no room left, in the middle of something. */
#include "tests/common/small_disk.h"
#include "tests/daemon/blackbox.h"
#include "tests/daemon/external_docs.h"

enum { MANY = 45000, A_REQUEST = 1000 };

static box b;

static uint64_t count_of(const char *collection)
{
    return object_uint(object_get(box_call(&b, "count", "{'collection': '%s'}", collection), "count"), UINT64_MAX);
}

static void whether_gone(packer *p, unsigned id)
{
    pack_str(p, "gone");
    pack_bool(p, id % 10 != 0);
}

/* `count` documents with a vector given, so that nothing is encoded; every tenth is to
 * be kept. */
static void fill_external(unsigned count)
{
    const float vector[4] = {1, 0.5f, 0.25f, 0.125f};
    box_call(&b, "collection.create", "{'name': 'many', 'options': {'vectors': 'external', 'dim': 4}}");
    for (unsigned from = 0; from < count; from += A_REQUEST) {
        buffer params = external_docs_pack(&(external_docs){.collection = "many",
                                                            .first = from,
                                                            .count = A_REQUEST,
                                                            .dim = 4,
                                                            .vectors = vector,
                                                            .meta = whether_gone});
        box_call_packed(&b, "upsert", &params);
    }
}

START_TEST(a_delete_by_filter_that_a_crash_cut_off_is_finished_by_the_next_start)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    fill_external(MANY);
    client *other = box_connect(&b);
    box_send(other, "delete", "{'collection': 'many', 'filter': {'field': 'gone', 'eq': true}}");
    uint64_t left = MANY;
    while (left == MANY)
        left = count_of("many");
    ck_assert_uint_ge(left, MANY / 10);
    client_close(other);
    bool cut = left > MANY / 10;
    box_kill(&b);
    printf("killed with %llu of %d documents left\n", (unsigned long long)left, MANY);
    box_start(&b);
    ck_assert_uint_eq(count_of("many"), MANY / 10);
    const msgpack_object *docs = box_call(&b, "get", "{'collection': 'many', 'ids': [0, 1, %d]}", MANY - 10);
    ck_assert_int_eq(box_at(docs, 0)->type, MSGPACK_OBJECT_MAP);
    ck_assert_int_eq(box_at(docs, 1)->type, MSGPACK_OBJECT_NIL);
    ck_assert_int_eq(box_at(docs, 2)->type, MSGPACK_OBJECT_MAP);
    /* It is over: a document like those it deleted stays through the next start. */
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'a refund', 'meta': {'gone': true}}]}");
    box_stop(&b);
    box_start(&b);
    ck_assert_uint_eq(count_of("default"), 1);
    ck_assert_uint_eq(count_of("many"), MANY / 10);
    ck_assert_msg(cut, "the delete was faster than the kill: nothing was tested");
    box_stop(&b);
}
END_TEST

/* Upserts until the store refuses; returns how many documents it took. */
static unsigned fill_up(void)
{
    static char text[20001];
    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0;; i++) {
        ck_assert_uint_lt(i, 5000);
        buffer params = {0};
        box_document(&params, i, text);
        box_send_on(&b, b.client, "upsert", &params);
        if (!b.reply.is_error)
            continue;
        ck_assert_str_eq(b.reply.code, "RESOURCE_EXHAUSTED");
        return i;
    }
}

/* folder: of the storage, where another program takes what is left of the disk; or NULL. */
static unsigned expect_full_then_emptied(const char *folder)
{
    char other[FILES_PATH_MAX];
    unsigned count = fill_up();
    ck_assert_uint_gt(count, 10);
    if (folder != NULL)
        small_disk_take(folder, other);
    for (unsigned i = 0; i < count; i++) {
        /* Logged, and there is no room for the log: that must not cost the delete. */
        box_call(&b, "search", "{'query': 'a refund', 'k': 100}");
        const msgpack_object *r = box_call(&b, "delete", "{'ids': [%u]}", i);
        ck_assert_uint_eq(object_uint(object_get(r, "deleted"), 0), 1);
    }
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'a refund'}]}");
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'query': 'a refund'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    return count;
}

START_TEST(a_full_store_still_searches_and_is_emptied_while_searches_are_logged)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "storage.max_size=6MiB";
    box_start(&b);
    expect_full_then_emptied(NULL);
    box_stop(&b);
}
END_TEST

START_TEST(full_disk_is_refused_and_recovers)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    const char *folder = b.storage + strlen("storage.path=");
    if (!small_disk_mount(folder, "16m"))
        return;
    box_start(&b);
    unsigned count = expect_full_then_emptied(folder);
    box_stop(&b);
    /* There is still no byte left: neither for a start nor for what is put after it. */
    box_start(&b);
    ck_assert_uint_eq(count_of("default"), 1);
    ck_assert_uint_ge(fill_up(), count / 2);
    box_stop(&b);
}
END_TEST

static void load(const char *path)
{
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
    box_wait_for_job(&b, "done");
}

static bool start_with_documents(char model[FILES_PATH_MAX])
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    ck_assert_ptr_nonnull(realpath(b.model + strlen("model.path="), model));
    box_start(&b);
    for (int i = 0; i < 20; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'my refund and a card or %d'}]}", i, i);
    return true;
}

START_TEST(the_generation_that_was_just_left_is_kept_after_a_rollback_too)
{
    char model[FILES_PATH_MAX];
    if (!start_with_documents(model))
        return;
    load(model);                    /* 2 */
    box_call(&b, "rollback", "{}"); /* 1, and 2 is rolled back */
    load(model);                    /* 3; 1 is its parent and was current a moment ago */
    const msgpack_object *list = box_call(&b, "generations", NULL);
    ck_assert_uint_eq(box_count(list), 3);
    ck_assert(object_is(object_get(box_at(list, 0), "state"), "previous"));
    ck_assert(object_is(object_get(box_at(list, 1), "state"), "retired"));
    ck_assert(object_is(object_get(box_at(list, 2), "state"), "current"));
    const msgpack_object *r = box_call(&b, "rollback", "{}");
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 1);
    box_stop(&b);
}
END_TEST

START_TEST(a_loaded_model_is_called_by_a_plain_name_whatever_its_folder_is_called)
{
    sem_error error;
    char model[FILES_PATH_MAX], odd[FILES_PATH_MAX];
    if (!start_with_documents(model))
        return;
    /* 41 bytes and more, cut inside of a character if cut by bytes. */
    ck_ok(files_join(odd, &error,
                     "%s/a\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                     "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9 b",
                     testing_folder()));
    ck_ok(files_copy_folder(model, odd, &error));
    load(odd);
    const msgpack_object *name = object_get(object_get(box_call(&b, "info", NULL), "model"), "name");
    ck_assert_uint_gt(name->via.str.size, 0);
    for (uint32_t i = 0; i < name->via.str.size; i++)
        ck_assert_ptr_nonnull(memchr("abcdefghijklmnopqrstuvwxyz0123456789-_", name->via.str.ptr[i], 38));
    box_stop(&b);
    box_start(&b);
    box_stop(&b);
}
END_TEST

START_TEST(a_job_can_be_cancelled_from_its_very_beginning)
{
    char model[FILES_PATH_MAX];
    if (!start_with_documents(model))
        return;
    int cancelled = 0;
    for (int round = 0; round < 20; round++) {
        const msgpack_object *r = box_call(&b, "model.load", "{'path': '%s', 'gate': false}", model);
        unsigned number = (unsigned)object_uint(object_get(r, "job"), 0);
        /* Acknowledged, so it is not lost: it ends as cancelled, or had ended already. */
        buffer params = {0};
        box_pack_json(&params, json_pack("{s:i, s:b}", "job", (int)number, "cancel", 1));
        box_send_on(&b, b.client, "job", &params);
        for (;;) {
            const msgpack_object *state = object_get(box_call(&b, "job", "{'job': %u}", number), "state");
            cancelled += object_is(state, "cancelled");
            if (!object_is(state, "queued") && !object_is(state, "running"))
                break;
        }
        /* Another number's cancel does not reach the next job. */
        box_fails(&b, "FAILED_PRECONDITION", "job", "{'job': %u, 'cancel': true}", number);
    }
    ck_assert_int_gt(cancelled, 0);
    box_stop(&b);
}
END_TEST

START_TEST(a_store_that_was_cut_short_is_refused_with_the_reason)
{
    char path[FILES_PATH_MAX], model[FILES_PATH_MAX], *text;
    sem_error error;
    size_t size;
    if (!start_with_documents(model))
        return;
    box_stop(&b);
    ck_ok(files_join(path, &error, "%s/main/data.mdb", b.storage + strlen("storage.path=")));
    ck_assert_int_eq(truncate(path, 2 * 4096), 0);
    char *argv[] = {b.binary, (char *)"-o", (char *)"server.listen=tcp://127.0.0.1:0", (char *)"-o", b.storage, NULL};
    ck_assert_int_ne(process_start(&b.daemon, argv, b.log, false, NULL, &error), SEM_OK);
    ck_ok(files_read(b.log, 1 << 20, &text, &size, &error));
    ck_assert_ptr_nonnull(strstr(text, "event=store_unreadable"));
    free(text);
}
END_TEST

/* A copy of the model with all weights 0: each a number, and no embedding together. */
static void copy_without_weights(const char *from, const char *to)
{
    sem_error error;
    char path[FILES_PATH_MAX], *bytes;
    size_t size;
    uint64_t header;
    ck_ok(files_copy_folder(from, to, &error));
    ck_ok(files_join(path, &error, "%s/model.safetensors", to));
    ck_ok(files_read(path, 64 << 20, &bytes, &size, &error));
    memcpy(&header, bytes, sizeof header);
    memset(bytes + sizeof header + header, 0, size - sizeof header - header);
    ck_ok(files_write(path, bytes, size, &error));
    free(bytes);
}

START_TEST(a_model_that_embeds_nothing_seeds_nothing)
{
    char model[FILES_PATH_MAX], option[FILES_PATH_MAX + 16], *text;
    sem_error error;
    size_t size;
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    ck_ok(files_join(model, &error, "%s/model", testing_folder()));
    copy_without_weights(b.model + strlen("model.path="), model);
    snprintf(option, sizeof option, "model.path=%s", model);
    char *argv[] = {b.binary,     (char *)"-o", (char *)"server.listen=tcp://127.0.0.1:0",
                    (char *)"-o", b.storage,    (char *)"-o",
                    option,       NULL};
    ck_assert_int_ne(process_start(&b.daemon, argv, b.log, false, NULL, &error), SEM_OK);
    ck_ok(files_read(b.log, 1 << 20, &text, &size, &error));
    ck_assert_ptr_nonnull(strstr(text, "model.path: the embedding of text 0"));
    free(text);
    box_start(&b);
    box_call(&b, "encode", "{'texts': ['one']}");
    /* Nor is it served by a job that no gate holds up. */
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", model);
    box_wait_for_job(&b, "failed");
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("faults");
    TCase *t = tcase_create("faults");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_delete_by_filter_that_a_crash_cut_off_is_finished_by_the_next_start);
    tcase_add_test(t, a_full_store_still_searches_and_is_emptied_while_searches_are_logged);
    tcase_add_test(t, full_disk_is_refused_and_recovers);
    tcase_add_test(t, the_generation_that_was_just_left_is_kept_after_a_rollback_too);
    tcase_add_test(t, a_loaded_model_is_called_by_a_plain_name_whatever_its_folder_is_called);
    tcase_add_test(t, a_job_can_be_cancelled_from_its_very_beginning);
    tcase_add_test(t, a_model_that_embeds_nothing_seeds_nothing);
    tcase_add_test(t, a_store_that_was_cut_short_is_refused_with_the_reason);
    suite_add_tcase(s, t);
    return testing_run(s);
}
