#include "tests/common/testing.h"

#include "base/files.h"
#include "bench/clicksim/sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

/* A folder with a file of this content below it. */
static void write_file(const char *name, const char *content)
{
    const char *path = testing_path(name);
    char parent[FILES_PATH_MAX];
    ck_ok(files_parent(path, parent, &error));
    ck_ok(files_make_folder(parent, &error));
    ck_ok(files_write(path, content, strlen(content), &error));
}

static const world_query *find(const world_queries *q, const char *text)
{
    for (size_t i = 0; i < q->count; i++)
        if (strcmp(q->items[i].text, text) == 0)
            return &q->items[i];
    return NULL;
}

static void ck_apart(const world_queries *a, const world_queries *b)
{
    for (size_t i = 0; i < a->count; i++)
        ck_assert_msg(find(b, a->items[i].text) == NULL, "\"%s\" is in both", a->items[i].text);
}

START_TEST(what_is_held_out_is_never_asked)
{
    world w = {0};
    ck_ok(sets_load(&w, "words", &(sets_places){0}, &error));
    ck_assert_uint_eq(w.document_count, 512);
    ck_assert_uint_eq(w.asked.count + w.heldout.count, 512);
    ck_assert_uint_gt(w.heldout.count, 100);
    ck_apart(&w.asked, &w.heldout);
    world_free(&w);
}
END_TEST

START_TEST(medquad_takes_equal_answers_and_questions_together_and_splits_by_disease)
{
    static const char lines[] =
        "{\"question\":\"what is a ?\",\"answer\":\"a is\",\"focus\":\"a\",\"source\":\"GARD\"}\n"
        "{\"question\":\"who gets b ?\",\"answer\":\"both\",\"focus\":\"b\",\"source\":\"GHR\"}\n"
        "{\"question\":\"who gets a ?\",\"answer\":\"both\",\"focus\":\"a\",\"source\":\"GHR\"}\n"
        "{\"question\":\"what is a ?\",\"answer\":\"a, elsewhere\",\"focus\":\"a\",\"source\":\"GHR\"}\n";
    const sets_places places = {.data = testing_folder()};
    world w = {0};
    write_file("medquad/pairs.jsonl", lines);
    ck_ok(sets_load(&w, "medquad", &places, &error));
    ck_assert_uint_eq(w.document_count, 3);
    ck_assert_uint_eq(w.asked.count + w.heldout.count, 1);
    ck_assert_uint_eq(w.kept.count, 2);
    const world_query *a = find(w.asked.count > 0 ? &w.asked : &w.heldout, "what is a ?");
    ck_assert_ptr_nonnull(a);
    ck_assert_uint_eq(a->count, 2);
    ck_assert(world_is_relevant(a, 0)); /* GARD's own is the first document */
    ck_assert_uint_eq(find(&w.kept, "who gets a ?")->relevant[0], find(&w.kept, "who gets b ?")->relevant[0]);
    world_free(&w);

    const sets_places first = {.data = testing_folder(), .documents = 1};
    ck_ok(sets_load(&w, "medquad", &first, &error));
    ck_assert_uint_eq(w.document_count, 1);
    ck_assert_str_eq(w.documents[0], "a is");
    ck_assert_uint_eq(w.kept.count, 0); /* their answers are left out */
    ck_assert_ptr_null(w.kept_is);
    world_free(&w);
}
END_TEST

START_TEST(cranfield_takes_what_was_judged_relevant)
{
    const sets_places places = {.data = testing_folder()};
    world w = {0};
    write_file("cranfield/docs.jsonl", "{\"id\":\"1\",\"text\":\"one\"}\n{\"id\":\"2\",\"text\":\"\"}\n{\"id\":\"3\","
                                       "\"text\":\"three\"}\n");
    write_file("cranfield/queries.jsonl", "{\"id\":\"1\",\"text\":\"wings\"}\n{\"id\":\"2\",\"text\":\"flow\"}\n");
    write_file("cranfield/qrels.tsv", "1\t3\t1\n1\t2\t1\n1\t1\t0\n2\t1\t1\n");
    ck_ok(sets_load(&w, "cranfield", &places, &error));
    const world_query *wings = find(&w.asked, "wings");
    if (wings == NULL)
        wings = find(&w.heldout, "wings");
    ck_assert_ptr_nonnull(wings);
    ck_assert_uint_eq(wings->count, 2);
    ck_assert(world_is_relevant(wings, 2) && world_is_relevant(wings, 1) && !world_is_relevant(wings, 0));
    world_free(&w);

    write_file("cranfield/qrels.tsv", "1\t4\t1\n");
    ck_fails(sets_load(&w, "cranfield", &places, &error), SEM_INVALID_ARGUMENT);
    world_free(&w);
}
END_TEST

START_TEST(the_real_sets_hold_no_query_twice)
{
    static const char *const names[] = {"medquad", "cranfield"};
    const char *data = testing_shared("data");
    if (data == NULL)
        return;
    const sets_places places = {.data = data};
    for (size_t i = 0; i < 2; i++) {
        world w = {0};
        ck_ok(sets_load(&w, names[i], &places, &error));
        ck_assert_uint_gt(w.asked.count, 90);
        ck_assert_uint_gt(w.heldout.count, 90);
        ck_apart(&w.asked, &w.heldout);
        ck_apart(&w.kept, &w.heldout);
        ck_apart(&w.kept, &w.asked);
        world_free(&w);
    }
}
END_TEST

START_TEST(a_set_that_is_none_is_refused_by_name)
{
    world w = {0};
    ck_fails(sets_load(&w, "french", &(sets_places){0}, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "french"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clicksim sets");
    TCase *tests = tcase_create("sets");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_is_held_out_is_never_asked);
    tcase_add_test(tests, medquad_takes_equal_answers_and_questions_together_and_splits_by_disease);
    tcase_add_test(tests, cranfield_takes_what_was_judged_relevant);
    tcase_add_test(tests, the_real_sets_hold_no_query_twice);
    tcase_add_test(tests, a_set_that_is_none_is_refused_by_name);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
