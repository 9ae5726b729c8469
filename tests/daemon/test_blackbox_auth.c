/* Tokens and roles, as clients meet them. */
#include "tests/daemon/box_metrics.h"

#include "proto/request.h"

#include <sys/stat.h>

#define CLICKER "click-0123456789abcdef"
#define WRONG   "wrong-0123456789abcdef"

static const char *const TOKENS[] = {[ROLE_READ] = "read-0123456789abcdef",
                                     [ROLE_CLICK] = CLICKER,
                                     [ROLE_WRITE] = "write-0123456789abcdef",
                                     [ROLE_ADMIN] = "admin-0123456789abcdef"};

static box b;
static sem_error error;
static char tokens_path[FILES_PATH_MAX], tokens_option[FILES_PATH_MAX + 16], socket_option[FILES_PATH_MAX + 32];

static void write_tokens(const char *text)
{
    ck_ok(files_write(tokens_path, text, strlen(text), &error));
    ck_assert_int_eq(chmod(tokens_path, 0600), 0);
}

/* All roles but those below `from`. */
static void write_roles(rpc_role from)
{
    char text[512] = "# tokens\n";
    for (unsigned r = from; r <= ROLE_ADMIN; r++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s\n", rpc_role_name(r), TOKENS[r]);
    write_tokens(text);
}

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    ck_ok(files_join(tokens_path, &error, "%s/tokens", testing_folder()));
    snprintf(tokens_option, sizeof tokens_option, "auth.tokens=%s", tokens_path);
    snprintf(socket_option, sizeof socket_option, "server.listen=unix:%s/socket", testing_folder());
    b.options[0] = tokens_option;
    b.options[1] = "server.http=127.0.0.1:0";
    b.options[2] = socket_option;
    write_roles(ROLE_READ);
    box_start(&b);
    return true;
}

/* The code of the error that the call ends with, "" for none. */
static const char *code_of(client *c, const char *method, const char *json)
{
    static char code[32];
    buffer params = {0};
    box_pack_json(&params, json_loads(json, 0, NULL));
    box_send_on(&b, c, method, &params);
    snprintf(code, sizeof code, "%s", b.reply.is_error ? b.reply.code : "");
    return code;
}

static bool said(const char *word)
{
    const msgpack_object *message = object_get(&b.reply.value, "message");
    ck_assert(message != NULL && message->type == MSGPACK_OBJECT_STR);
    return memmem(message->via.str.ptr, message->via.str.size, word, strlen(word)) != NULL;
}

static client *connect_as(rpc_role role)
{
    char got[CLIENT_ROLE_MAX];
    client *c = box_connect(&b);
    if (role != ROLE_NONE) {
        ck_ok(client_auth(c, TOKENS[role], BOX_TIMEOUT_MS, got, &error));
        ck_assert_str_eq(got, rpc_role_name(role));
    }
    return c;
}

/* --- the table of the protocol, written once more */

static rpc_role role_of(const char *method)
{
    static const struct {
        rpc_role role;
        const char *methods;
    } table[] = {
        {ROLE_NONE, " auth "},
        {ROLE_READ, " ping info encode get count scroll search explain evaluate job generations watch "
                    "collection.list "},
        {ROLE_CLICK, " click feedback "},
        {ROLE_WRITE, " upsert delete "},
    };
    char word[64];
    snprintf(word, sizeof word, " %s ", method);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strstr(table[i].methods, word) != NULL)
            return table[i].role;
    return ROLE_ADMIN;
}

/* A key that no method has: what may be called refuses it, and nothing happens. */
static void try_all_methods(rpc_role had)
{
    client *c = connect_as(had);
    for (unsigned m = 0; m < METHOD_COUNT_OF; m++) {
        const char *method = rpc_method_name((rpc_method)m);
        const rpc_role needed = role_of(method);
        const char *want = had >= needed      ? "INVALID_ARGUMENT"
                           : had == ROLE_NONE ? "UNAUTHENTICATED"
                                              : "PERMISSION_DENIED";
        const char *code = code_of(c, method, "{\"no_such_key\": 1}");
        ck_assert_msg(strcmp(code, want) == 0, "%s as %s: %s", method, rpc_role_name(had), code);
        ck_assert(said(had >= needed ? "no_such_key" : rpc_role_name(needed)));
        ck_assert(had >= needed || had == ROLE_NONE || said(rpc_role_name(had)));
    }
    ck_assert_str_eq(code_of(c, "no.such.method", "{}"), "INVALID_ARGUMENT");
    client_close(c);
}

START_TEST(each_role_may_call_its_methods_and_no_others)
{
    if (!start())
        return;
    for (unsigned r = ROLE_NONE; r <= ROLE_ADMIN; r++)
        try_all_methods((rpc_role)r);
    client *c = connect_as(ROLE_READ);
    ck_assert_str_eq(code_of(c, "upsert", "{\"docs\": [{\"id\": 1, \"text\": \"a card\"}]}"), "PERMISSION_DENIED");
    ck_assert_str_eq(code_of(c, "watch", "{\"topics\": [\"job\"]}"), "");
    ck_assert_str_eq(code_of(c, "count", "{}"), "");
    ck_assert_uint_eq(object_uint(object_get(&b.reply.value, "count"), 9), 0);
    /* Another token on the same connection. */
    char role[CLIENT_ROLE_MAX];
    ck_ok(client_auth(c, TOKENS[ROLE_WRITE], BOX_TIMEOUT_MS, role, &error));
    ck_assert_str_eq(code_of(c, "upsert", "{\"docs\": [{\"id\": 1, \"text\": \"a card\"}]}"), "");
    client_close(c);
    box_stop(&b);
}
END_TEST

/* --- wrong tokens */

static void check_next(client *c, uint32_t msgid, const char *code)
{
    client_reply reply;
    ck_ok(client_receive(c, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert_uint_eq(reply.msgid, msgid);
    ck_assert_str_eq(reply.is_error ? reply.code : "", code);
    client_reply_free(&reply);
}

/* In any order. */
static void check_rest(client *c, const uint32_t *msgids, const char *const *codes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        client_reply reply;
        ck_ok(client_receive(c, BOX_TIMEOUT_MS, &reply, &error));
        size_t at = reply.msgid - msgids[0];
        ck_assert_uint_lt(at, count);
        ck_assert_str_eq(reply.is_error ? reply.code : "", codes[at]);
        client_reply_free(&reply);
    }
}

static void check_log_and_metrics(void)
{
    static char metrics[1 << 18];
    char *log;
    size_t size;
    box_metrics(&b, metrics, sizeof metrics);
    ck_assert_ptr_nonnull(strstr(metrics, "\nsemd_server_auth_failures_total 4\n"));
    ck_assert_ptr_nonnull(strstr(metrics, "\nsemd_server_denied_total 2\n"));
    ck_ok(files_read(b.log, 1 << 20, &log, &size, &error));
    ck_assert_ptr_nonnull(strstr(log, "event=auth_failed"));
    ck_assert_ptr_null(strstr(log, "0123456789abcdef"));
    free(log);
}

START_TEST(pipelined_requests_wait_for_auth_and_guessing_ends_the_connection)
{
    client_reply reply;
    uint32_t id[6];
    if (!start())
        return;
    client *c = box_connect(&b), *other = connect_as(ROLE_READ);
    id[0] = box_send(c, "ping", "{}");
    id[1] = box_send(c, "auth", "{'token': '" WRONG "'}");
    id[2] = box_send(c, "auth", "{'token': '" CLICKER "'}");
    id[3] = box_send(c, "ping", "{}");
    id[4] = box_send(c, "click", "{'query_id': 'none', 'id': 1}");
    id[5] = box_send(c, "delete", "{'ids': [1]}");
    ck_assert_str_eq(code_of(other, "ping", "{}"), ""); /* nobody else waits */
    check_next(c, id[0], "UNAUTHENTICATED");
    check_next(c, id[1], "UNAUTHENTICATED");
    check_next(c, id[2], "");
    check_rest(c, id + 3, (const char *const[]){"", "NOT_FOUND", "PERMISSION_DENIED"}, 3);
    client_close(c);
    c = box_connect(&b);
    for (size_t i = 0; i < 4; i++)
        id[i] = box_send(c, "auth", "{'token': '" WRONG "'}");
    for (size_t i = 0; i < 3; i++)
        check_next(c, id[i], "UNAUTHENTICATED");
    ck_fails(client_receive(c, BOX_TIMEOUT_MS, &reply, &error), SEM_UNAVAILABLE);
    client_close(c);
    client_close(other);
    check_log_and_metrics();
    box_stop(&b);
}
END_TEST

/* --- reload */

static void wait_for_log(const char *event, unsigned times)
{
    for (unsigned turn = 0; turn < 1000; turn++) {
        char *log;
        size_t size;
        unsigned found = 0;
        ck_ok(files_read(b.log, 1 << 20, &log, &size, &error));
        for (const char *at = log; (at = strstr(at, event)) != NULL; at++)
            found++;
        free(log);
        if (found >= times)
            return;
        usleep(20000);
    }
    ck_abort_msg("%s did not come", event);
}

static void reload(const char *event, unsigned times)
{
    kill(b.daemon.pid, SIGHUP);
    wait_for_log(event, times);
}

START_TEST(a_reload_takes_roles_away_and_a_bad_file_nothing)
{
    client_notification n;
    if (!start())
        return;
    client *reader = connect_as(ROLE_READ), *admin = connect_as(ROLE_ADMIN), *watcher = connect_as(ROLE_READ);
    ck_assert_str_eq(code_of(watcher, "watch", "{\"topics\": [\"job\"]}"), "");
    write_tokens("read short\n");
    reload("event=reload_failed", 1);
    ck_assert_str_eq(code_of(reader, "ping", "{}"), "");
    write_roles(ROLE_CLICK);
    reload("event=reloaded", 1);
    ck_assert_str_eq(code_of(reader, "ping", "{}"), "UNAUTHENTICATED");
    ck_assert_str_eq(code_of(admin, "ping", "{}"), "");
    ck_fails(client_next_notification(watcher, BOX_TIMEOUT_MS, &n, &error), SEM_UNAVAILABLE);
    write_tokens("read admin-0123456789abcdef\n");
    reload("event=reloaded", 2);
    ck_assert_str_eq(code_of(admin, "events", "{}"), "PERMISSION_DENIED");
    ck_assert_str_eq(code_of(admin, "ping", "{}"), "");
    client_close(reader);
    client_close(admin);
    client_close(watcher);
    box_stop(&b);
}
END_TEST

/* --- without tokens, and from the command line */

START_TEST(without_tokens_auth_says_so)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    ck_assert_ptr_nonnull(
        strstr(box_fails(&b, "FAILED_PRECONDITION", "auth", "{'token': '" WRONG "'}"), "auth.tokens"));
    box_call(&b, "events", "{}");
    box_stop(&b);
}
END_TEST

START_TEST(semctl_gives_its_token_on_every_socket)
{
    char file[FILES_PATH_MAX], token[64];
    if (!start())
        return;
    ck_ok(files_join(file, &error, "%s/token", testing_folder()));
    snprintf(token, sizeof token, "%s\n", TOKENS[ROLE_READ]);
    ck_ok(files_write(file, token, strlen(token), &error));
    const char *folder = testing_folder();
    ck_assert_int_eq(box_semctl("-s unix:%s/socket ping", folder), 1);
    ck_assert_int_eq(box_semctl("-s unix:%s/socket --token-file %s ping", folder, file), 0);
    ck_assert_int_eq(box_semctl("-s %s auth --token-file %s", b.daemon.address, file), 0);
    ck_assert_int_eq(box_semctl("-s %s upsert 1 text --token-file %s", b.daemon.address, file), 1);
    ck_assert_int_eq(box_semctl("-s %s auth", b.daemon.address), 2);
    ck_assert_int_eq(box_semctl("-s %s auth --token-file /nonexistent", b.daemon.address), 1);
    setenv("SEMCTL_TOKEN", TOKENS[ROLE_WRITE], 1);
    ck_assert_int_eq(box_semctl("-s %s upsert 1 text", b.daemon.address), 0);
    setenv("SEMCTL_TOKEN", WRONG, 1);
    ck_assert_int_eq(box_semctl("-s %s ping", b.daemon.address), 1);
    unsetenv("SEMCTL_TOKEN");
    box_stop(&b);
}
END_TEST

START_TEST(a_bad_file_of_tokens_is_a_bad_configuration)
{
    char command[4 * FILES_PATH_MAX];
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    ck_ok(files_join(tokens_path, &error, "%s/tokens", testing_folder()));
    snprintf(command, sizeof command, "%s --check-config -o auth.tokens=%s 2>%s", b.binary, tokens_path, b.log);
    for (int right = 0; right < 2; right++) {
        write_tokens(right ? "read " CLICKER "\n" : "read\n");
        int status = system(command);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), right ? 0 : 2);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_auth");
    TCase *tests = tcase_create("auth");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, each_role_may_call_its_methods_and_no_others);
    tcase_add_test(tests, pipelined_requests_wait_for_auth_and_guessing_ends_the_connection);
    tcase_add_test(tests, a_reload_takes_roles_away_and_a_bad_file_nothing);
    tcase_add_test(tests, without_tokens_auth_says_so);
    tcase_add_test(tests, semctl_gives_its_token_on_every_socket);
    tcase_add_test(tests, a_bad_file_of_tokens_is_a_bad_configuration);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
