/* semctl's commands against a small server that parses every request as semd does. */
#include "tests/tools/fake_server.h"

#include "tools/semctl_bulk.h"
#include "tools/semctl_convert.h"
#include "tools/semctl_files.h"

START_TEST(wrong_usage_is_told_from_failure)
{
    fake f;
    bool usage;
    static char *const wrong[][6] = {
        {"semctl", "nonsense"},
        {"semctl", "collection"},
        {"semctl", "search", "--nope", "x"},
        {"semctl", "search", "-k"},
        {"semctl", "click", "a"},
        {"semctl", "search", "a", "b"},
        {"semctl", "search", "-k", "ten", "x"},
        {"semctl", "search"},
        {"semctl", "search", "x", "--filter", "{"},
        {"semctl", "count", "--filter", "[]"},
        {"semctl", "delete"},
        {"semctl", "upsert", "a"},
        {"semctl", "rollback", "-1x"},
        {"semctl", "job", "x"},
        {"semctl", "search", "x", "--recall", "nan"},
        {"semctl", "encode"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *words[6];
        int count = 0;
        while (count < 6 && wrong[i][count] != NULL) {
            words[count] = wrong[i][count];
            count++;
        }
        ck_assert_int_ne(run_words(&f, false, words, count, &usage), SEM_OK);
        ck_assert_msg(usage, "%s %s", words[1], error.message);
    }
}
END_TEST

START_TEST(bulk_upsert_names_the_line_and_goes_on)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX], text[8192] = "";
    for (int i = 1; i <= 35; i++) {
        char line[200];
        snprintf(line, sizeof line, "{\"id\": %d, \"text\": \"%s\", \"meta\": {\"n\": %d}}\n", i,
                 i == 7 ? "bad" : "good", i);
        strcat(text, i == 20 ? "{broken\n" : i == 21 ? "\n" : i == 22 ? "{\"id\": 1, \"txt\": \"a\"}\n" : line);
    }
    write_file("docs.jsonl", text, path);
    ck_fails(RUN(&f, true, &usage, "upsert", "-c", "notes", "-f", path), SEM_INVALID_ARGUMENT);
    ck_assert(!usage);
    ck_assert_str_eq(f.bad_message, "");
    ck_assert_uint_eq(f.stored, 31);
    ck_assert(f.saw_meta);
    ck_assert_ptr_nonnull(strstr(output, "\"upserted\":31,"));
    ck_assert_ptr_nonnull(strstr(output, "\"failed\":3,"));
}
END_TEST

START_TEST(text_above_the_servers_limit_costs_only_itself)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX], text[1000];
    snprintf(text, sizeof text, "{\"id\": 1, \"text\": \"%0101d\"}\n{\"id\": 2, \"text\": \"%0100d\"}", 0, 0);
    write_file("docs.jsonl", text, path);
    ck_fails(RUN(&f, false, &usage, "upsert", "-f", path), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(f.stored, 1);
}
END_TEST

START_TEST(load_takes_folders_and_skips_what_is_no_text)
{
    fake f;
    bool usage;
    char folder[FILES_PATH_MAX], path[FILES_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/in/deep", testing_folder());
    ck_ok(files_make_folder(folder, &error));
    write_file("in/a.txt", "one", path);
    write_file("in/deep/b.txt", "two", path);
    write_file("in/.hidden", "no", path);
    write_file("in/lines.jsonl", "{\"id\":\"x\",\"text\":\"y\"}\n{\"id\":\"z\",\"text\":\"w\"}\n", path);
    snprintf(folder, sizeof folder, "%s/in/", testing_folder());
    input_list list = {0};
    ck_ok(input_list_find(&list, (char *[]){folder}, 1, &error));
    ck_assert_uint_eq(list.count, 3);
    ck_assert_str_eq(list.files[0].id, "a.txt");
    ck_assert_str_eq(list.files[1].id, "deep/b.txt");
    ck_assert(list.files[2].is_lines);
    input_list_free(&list);
    ck_ok(RUN(&f, false, &usage, "load", folder));
    ck_assert_uint_eq(f.stored, 4);
    write_file("in/binary", "\xff\xfe", path);
    ck_fails(RUN(&f, false, &usage, "load", folder), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(f.stored, 4);
    ck_fails(RUN(&f, false, &usage, "load", "/nonexistent"), SEM_NOT_FOUND);
}
END_TEST

START_TEST(batch_is_sent_again_when_the_server_is_full)
{
    fake f;
    start(&f);
    f.full = 3;
    semctl ctl = {.address = f.address, .json = true, .timeout_ms = 10000};
    bulk *b;
    ck_ok(bulk_create(&b, &ctl, NULL, "3", 0, &error));
    buffer doc = {0};
    packer p;
    size_t text_bytes;
    static const char line[] = "{\"id\": 1, \"text\": \"a\", \"vector\": [0.5, 1]}";
    pack_init(&p, &doc);
    ck_ok(convert_document(&p, line, strlen(line), &text_bytes, &error));
    for (int i = 0; i < 25; i++)
        ck_ok(bulk_add(b, doc.data, doc.size, text_bytes, "x", (size_t)i, 1, &error));
    ck_ok(bulk_finish(b, &error));
    ck_assert_uint_eq(f.stored, 25);
    ck_assert_uint_eq(f.upserts, 6);
    ck_assert(f.saw_vector && f.saw_generation);
    buffer_free(&doc);
    bulk_destroy(b);
    client_close(ctl.client);
    pthread_join(f.thread, NULL);
    close(f.listener);
}
END_TEST

/* An export has all that a document may hold, and what reads it is the same document. */
START_TEST(a_line_holds_the_largest_integers_and_nul_characters)
{
    static const char line[] =
        "{\"id\":18446744073709551615,\"text\":\"9223372036854775808 \\\" 18446744073709551615\","
        "\"meta\":{\"large\":9223372036854775808,\"least\":-9223372036854775808,"
        "\"nul\":\"a\\u0000b\",\"real\":1.5,\"tags\":[\"18446744073709551615\",\"\"]}}";
    buffer doc = {0};
    packer p;
    size_t text_bytes, size;
    char *written;
    pack_init(&p, &doc);
    ck_ok(convert_document(&p, line, sizeof line - 1, &text_bytes, &error));
    ck_assert(!p.failed);
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    ck_assert_int_eq(msgpack_unpack_next(&u, (const char *)doc.data, doc.size, NULL), MSGPACK_UNPACK_SUCCESS);
    FILE *out = open_memstream(&written, &size);
    convert_write(out, &u.data, BIN_FLOAT32);
    fclose(out);
    ck_assert_str_eq(written, line);
    free(written);
    msgpack_unpacked_destroy(&u);
    static const char *const wrong[] = {
        "{\"id\":18446744073709551616,\"text\":\"\"}", "{\"id\":-9223372036854775809,\"text\":\"\"}",
        "{\"id\":1,\"text\":18446744073709551615}", "18446744073709551615", "{\"id\":1844"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        /* An exact copy, so that a sanitizer sees a read beyond the end. */
        char *copy = malloc(strlen(wrong[i]));
        memcpy(copy, wrong[i], strlen(wrong[i]));
        doc.size = 0;
        pack_init(&p, &doc);
        ck_fails(convert_document(&p, copy, strlen(wrong[i]), &text_bytes, &error), SEM_INVALID_ARGUMENT);
        free(copy);
    }
    buffer_free(&doc);
}
END_TEST

START_TEST(scroll_all_exports_every_page)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "scroll", "--all", "--with", "text,vector"));
    ck_assert_uint_eq(f.pages, 2);
    ck_assert_uint_eq(f.with, WITH_TEXT | WITH_VECTOR);
    ck_assert_str_eq(output, "{\"id\":0,\"text\":\"a \\\"quoted\\\"\\nline\"}\n"
                             "{\"id\":1,\"text\":\"a \\\"quoted\\\"\\nline\"}\n"
                             "{\"id\":2,\"text\":\"a \\\"quoted\\\"\\nline\"}\n"
                             "{\"id\":3,\"text\":\"a \\\"quoted\\\"\\nline\"}\n");
}
END_TEST

START_TEST(events_are_lines_and_all_of_them_with_all)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "events", "--all", "--kinds", "click,search"));
    ck_assert_uint_eq(f.pages, 2);
    ck_assert_uint_eq(f.with, KIND_SEARCH | KIND_CLICK);
    ck_assert_str_eq(output, "{\"seq\":1}\n{\"seq\":2}\n");
    ck_ok(RUN(&f, false, &usage, "events", "-n", "1"));
    ck_assert_uint_eq(f.pages, 1);
    ck_assert_str_eq(output, "{\"seq\":1}\n");
    ck_ok(RUN(&f, true, &usage, "events", "--after", "1"));
    ck_assert_str_eq(output, "{\"events\":[{\"seq\":2}],\"next\":null}\n");
}
END_TEST

START_TEST(events_are_erased_by_one_thing_at_a_time)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "events", "erase", "--user", "ann"));
    ck_assert_str_eq(output, "1,200 events erased\n");
    ck_ok(RUN(&f, false, &usage, "events", "erase", "--id", "7"));
    ck_assert_str_eq(output, "1 event erased\n");
    ck_ok(RUN(&f, true, &usage, "events", "erase", "--before", "1790000000000"));
    ck_assert_str_eq(output, "{\"erased\":1200}\n");
    ck_fails(RUN(&f, false, &usage, "events", "erase"), SEM_INVALID_ARGUMENT);
    ck_assert(usage);
    ck_fails(RUN(&f, false, &usage, "events", "erase", "-u", "ann", "-b", "1"), SEM_INVALID_ARGUMENT);
    ck_assert(usage);
}
END_TEST

START_TEST(watch_shows_what_comes_until_it_has_enough)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "watch", "-n", "2"));
    ck_assert_uint_eq(f.with, TOPIC_GENERATION | TOPIC_JOB);
    ck_assert_str_eq(output, "job 4: training\ngeneration 3 is current: finetune\n");
    ck_ok(RUN(&f, true, &usage, "watch", "--topics", "generation", "-n", "2"));
    ck_assert_uint_eq(f.with, TOPIC_GENERATION);
    ck_assert_str_eq(output, "{\"job\":{\"job\":4,\"state\":\"running\",\"phase\":\"training\",\"decision\":null}}\n"
                             "{\"generation\":{\"generation\":3,\"reason\":\"finetune\"}}\n");
    ck_fails(RUN(&f, false, &usage, "watch", "-n", "many"), SEM_INVALID_ARGUMENT);
    ck_assert(usage);
    ck_fails(RUN(&f, false, &usage, "watch", "--topics", "jobs"), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(search_shows_hits_without_terminal_codes)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "search", "-k", "3", "a query", "-f", "{\"field\": \"a\", \"gte\": 1.5}"));
    ck_assert_ptr_nonnull(strstr(output, "0.7500  first  clear [2J the screen"));
    ck_assert_ptr_nonnull(strstr(output, "query abc"));
    ck_assert(f.saw_filter);
    ck_assert_uint_eq(f.with, WITH_TEXT);
    ck_ok(RUN(&f, true, &usage, "search", "--like", "7", "--exact", "--no-log", "-u", "someone"));
    ck_assert(f.saw_like);
    ck_assert_uint_eq(f.with, 0);
    ck_ok(RUN(&f, true, &usage, "search", "--vector", "[1, 0.5]", "-g", "2", "--recall", "0.9"));
    ck_assert(f.saw_vector);
    ck_fails(RUN(&f, true, &usage, "search", "x", "--recall", "2"), SEM_INVALID_ARGUMENT);
    ck_assert(!usage);
}
END_TEST

START_TEST(explain_shows_tokens_plan_and_times)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "explain", "hi", "-k", "3"));
    ck_assert_ptr_nonnull(strstr(output, "[CLS] hi [2J [SEP]"));
    ck_assert_ptr_nonnull(strstr(output, "lists for the recall asked"));
    ck_assert_ptr_nonnull(strstr(output, "of 128"));
    ck_assert_ptr_nonnull(strstr(output, "4,321  of 50,000"));
    ck_assert_ptr_nonnull(strstr(output, "750.0   75.0%"));
    ck_assert_ptr_nonnull(strstr(output, "0 hits in"));
    ck_assert_ptr_null(strchr(output, '\x1b'));
    ck_ok(RUN(&f, true, &usage, "explain", "hi"));
    ck_assert_ptr_nonnull(strstr(output, "\"candidates\":10"));
    ck_fails(RUN(&f, false, &usage, "explain"), SEM_INVALID_ARGUMENT);
    ck_assert(usage);
}
END_TEST

START_TEST(search_shows_what_was_asked_for_and_ids_as_click_takes_them)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "search", "x", "--with", "text,meta"));
    ck_assert_ptr_nonnull(strstr(output, "{\"lang\":\"en\"}"));
    ck_assert_ptr_nonnull(strstr(output, "0.7500  \"7\"    clear"));
    ck_assert_ptr_nonnull(strstr(output, "2 hits in"));
}
END_TEST

START_TEST(lists_show_what_was_measured_and_a_dash_for_what_was_not)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "generations"));
    ck_assert_msg(strstr(output, "0.6250          -") != NULL, "%s", output);
    ck_ok(RUN(&f, false, &usage, "collection", "list"));
    ck_assert_msg(strstr(output, "exact      0       -") != NULL, "%s", output);
    ck_assert_msg(strstr(output, "ivf        0   0.980") != NULL, "%s", output);
}
END_TEST

/* Reads only from what can be sought would refuse `-f -` behind a pipe. */
START_TEST(files_may_be_pipes)
{
    fake f;
    bool usage;
    char name[64];
    static const char pair[] = "{\"query\":\"q\",\"id\":3,\"label\":-1}\n";
    static char *const commands[] = {"feedback", "encode"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int ends[2];
        ck_assert_int_eq(pipe(ends), 0);
        ck_assert_int_eq(write(ends[1], pair, strlen(pair)), (ssize_t)strlen(pair));
        close(ends[1]);
        snprintf(name, sizeof name, "/dev/fd/%d", ends[0]);
        ck_ok(RUN(&f, true, &usage, commands[i], "-f", name));
        close(ends[0]);
    }
    ck_assert_int_eq(f.last, METHOD_ENCODE);
}
END_TEST

/* Which some editors put there. */
START_TEST(a_mark_of_utf8_before_a_file_is_passed_over)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX];
    write_file("marked.jsonl", "\xef\xbb\xbf{\"id\": 1, \"text\": \"good\"}\n{\"id\": 2, \"text\": \"good\"}\n", path);
    ck_ok(RUN(&f, true, &usage, "upsert", "-f", path));
    ck_assert_uint_eq(f.stored, 2);
    write_file("marked.jsonl", "\xef\xbb\xbf{\"query\":\"q\",\"id\":3,\"label\":-1}\n", path);
    ck_ok(RUN(&f, true, &usage, "feedback", "-f", path));
    ck_assert_str_eq(f.bad_message, "");
}
END_TEST

START_TEST(a_folder_is_no_file_of_documents)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s", testing_folder());
    ck_fails(RUN(&f, true, &usage, "upsert", "-f", path), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "Is a directory"));
    ck_fails(RUN(&f, true, &usage, "feedback", "-f", path), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "Is a directory"));
}
END_TEST

/* Two requests, of 200 queries with 0.5 each and of one with 0. */
START_TEST(evaluate_weighs_the_parts_of_a_file_by_their_queries)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX], lines[201 * 48] = "";
    for (size_t i = 0, used = 0; i < 201; i++)
        used += (size_t)snprintf(lines + used, sizeof lines - used, "{\"query\":\"q\",\"relevant\":[7,\"b\"]}\n\n");
    write_file("judged.jsonl", lines, path);
    ck_ok(RUN(&f, true, &usage, "evaluate", "-f", path, "-k", "5", "-m", "hybrid", "-c", "x"));
    ck_assert_int_eq(f.last, METHOD_EVALUATE);
    ck_assert_str_eq(f.bad_message, "");
    ck_assert_ptr_nonnull(strstr(output, "{\"generation\":3,\"queries\":201,\"ndcg\":0.497512438,"));
    ck_ok(RUN(&f, false, &usage, "evaluate", "-f", path));
    ck_assert_ptr_nonnull(strstr(output, "mrr     0.4975\n"));
    ck_assert_ptr_nonnull(strstr(output, "201 queries, generation 3"));
    ck_fails(RUN(&f, true, &usage, "evaluate"), SEM_INVALID_ARGUMENT);
    ck_assert(usage);
    write_file("judged.jsonl", "{\"query\":\"q\",\"relevant\":[1]}\n{\"query\":\"q\",\"relevant\":[-1]}\n", path);
    ck_fails(RUN(&f, true, &usage, "evaluate", "-f", path), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(every_command_sends_what_the_server_takes)
{
    fake f;
    bool usage;
    char path[FILES_PATH_MAX];
    write_file("pairs.jsonl", "{\"query\":\"q\",\"id\":3,\"label\":-1}\n{\"query\":\"q\",\"text\":\"t\"}\n", path);
    ck_ok(RUN(&f, true, &usage, "ping", "--deadline-ms", "50"));
    ck_ok(RUN(&f, true, &usage, "encode", "a", "b", "--prompt", "query", "--no-truncate", "--precision", "int8"));
    ck_ok(RUN(&f, true, &usage, "encode", "-f", path));
    ck_ok(RUN(&f, true, &usage, "collection", "create", "n", "--vectors", "external", "-d", "8", "--no-lexical",
              "--metric", "dot", "--deadline-ms", "50"));
    ck_ok(RUN(&f, false, &usage, "collection", "create", "n"));
    ck_ok(RUN(&f, true, &usage, "collection", "drop", "n"));
    ck_ok(RUN(&f, true, &usage, "upsert", "7", "text", "--meta", "{\"a\": 1}"));
    ck_assert(f.saw_meta);
    ck_ok(RUN(&f, true, &usage, "delete", "7", "\"7\"", "-c", "x"));
    ck_ok(RUN(&f, true, &usage, "delete", "--filter", "{\"field\": \"a\", \"exists\": true}"));
    ck_ok(RUN(&f, true, &usage, "get", "7", "--with", "text"));
    ck_ok(RUN(&f, true, &usage, "count", "--filter", "{\"all\": []}"));
    ck_ok(RUN(&f, true, &usage, "scroll", "--limit", "3", "--after", "p"));
    ck_ok(RUN(&f, true, &usage, "click", "abc", "7", "--weight", "0.5"));
    ck_ok(RUN(&f, true, &usage, "feedback", "q", "7", "--bad"));
    ck_assert_int_eq(f.label, -1);
    ck_ok(RUN(&f, true, &usage, "feedback", "q", "--text", "t"));
    ck_assert_int_eq(f.label, 1);
    ck_ok(RUN(&f, true, &usage, "feedback", "-f", path));
    ck_ok(RUN(&f, true, &usage, "job", "4", "--cancel"));
    ck_ok(RUN(&f, true, &usage, "rollback", "1"));
    ck_ok(RUN(&f, true, &usage, "model", "load", "/m", "--no-gate"));
    ck_ok(RUN(&f, true, &usage, "index", "export", "a.faiss", "-c", "x"));
    ck_assert_int_eq(f.last, METHOD_INDEX_EXPORT);
    ck_ok(RUN(&f, true, &usage, "finetune", "-m", "auto", "-c", "x"));
    ck_ok(RUN(&f, false, &usage, "info"));
    ck_ok(RUN(&f, false, &usage, "generations"));
    ck_ok(RUN(&f, false, &usage, "collection", "list"));
}
END_TEST

START_TEST(finetune_wait_ends_with_decision_and_metrics)
{
    fake f;
    bool usage;
    ck_ok(RUN(&f, false, &usage, "finetune", "--wait"));
    ck_assert_uint_eq(f.jobs, 2);
    ck_assert_ptr_nonnull(strstr(output, "job 4: done, promoted"));
    ck_assert_ptr_nonnull(strstr(output, "the gain is beyond chance"));
    ck_assert_ptr_nonnull(strstr(output, "\nheldout.mrr "));
    ck_assert_ptr_nonnull(strstr(output, "\ncollections.notes.heldout.mrr  0.5000  0.7500"));
    ck_assert_ptr_null(strstr(output, "collections.notes.heldout.queries"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semctl_commands");
    TCase *c = tcase_create("semctl_commands");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, wrong_usage_is_told_from_failure);
    tcase_add_test(c, bulk_upsert_names_the_line_and_goes_on);
    tcase_add_test(c, text_above_the_servers_limit_costs_only_itself);
    tcase_add_test(c, load_takes_folders_and_skips_what_is_no_text);
    tcase_add_test(c, batch_is_sent_again_when_the_server_is_full);
    tcase_add_test(c, a_line_holds_the_largest_integers_and_nul_characters);
    tcase_add_test(c, scroll_all_exports_every_page);
    tcase_add_test(c, events_are_lines_and_all_of_them_with_all);
    tcase_add_test(c, watch_shows_what_comes_until_it_has_enough);
    tcase_add_test(c, events_are_erased_by_one_thing_at_a_time);
    tcase_add_test(c, search_shows_hits_without_terminal_codes);
    tcase_add_test(c, explain_shows_tokens_plan_and_times);
    tcase_add_test(c, search_shows_what_was_asked_for_and_ids_as_click_takes_them);
    tcase_add_test(c, lists_show_what_was_measured_and_a_dash_for_what_was_not);
    tcase_add_test(c, files_may_be_pipes);
    tcase_add_test(c, a_mark_of_utf8_before_a_file_is_passed_over);
    tcase_add_test(c, a_folder_is_no_file_of_documents);
    tcase_add_test(c, evaluate_weighs_the_parts_of_a_file_by_their_queries);
    tcase_add_test(c, every_command_sends_what_the_server_takes);
    tcase_add_test(c, finetune_wait_ends_with_decision_and_metrics);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
