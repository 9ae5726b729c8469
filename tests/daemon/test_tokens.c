/* The file of tokens. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "daemon/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define READER "read-0123456789abcdef"
#define ADMIN  "admin-0123456789abcdef"

static sem_error error;

static const char *write_tokens(const char *text, mode_t mode)
{
    static char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/tokens", testing_folder()));
    ck_ok(files_write(path, text, strlen(text), &error));
    ck_assert_int_eq(chmod(path, mode), 0);
    return path;
}

static tokens *read_tokens(const char *text, const tokens *before)
{
    tokens *t;
    ck_ok(tokens_read(&t, write_tokens(text, 0600), before, &error));
    return t;
}

static rpc_role find(const tokens *t, const char *token, uint64_t *number)
{
    return tokens_find(t, token, strlen(token), number);
}

START_TEST(a_file_gives_each_token_its_role)
{
    uint64_t number, other;
    tokens *t = read_tokens("# who may read\n\n  read\t" READER "  \r\nadmin " ADMIN, NULL);
    ck_assert(tokens_needed(t));
    ck_assert_int_eq(find(t, READER, &number), ROLE_READ);
    ck_assert_int_eq(find(t, ADMIN, &other), ROLE_ADMIN);
    ck_assert_uint_ne(number, other);
    ck_assert_int_eq(tokens_role(t, number), ROLE_READ);
    ck_assert_int_eq(find(t, READER "x", &number), ROLE_NONE);
    ck_assert_uint_eq(number, 0);
    ck_assert_int_eq(find(t, "read-0123456789abcde", &number), ROLE_NONE);
    ck_assert_int_eq(tokens_find(t, READER "\0", sizeof READER, &number), ROLE_NONE);
    ck_assert_int_eq(find(t, "", &number), ROLE_NONE);
    tokens_destroy(t);
}
END_TEST

START_TEST(the_longest_token_counts_whole)
{
    char text[TOKEN_MAX + 8], *token = text + 5;
    uint64_t number;
    snprintf(text, sizeof text, "read ");
    memset(token, 'a', TOKEN_MAX);
    token[TOKEN_MAX] = '\0';
    tokens *t = read_tokens(text, NULL);
    ck_assert_int_eq(find(t, token, &number), ROLE_READ);
    token[TOKEN_MAX - 1] = 'b';
    ck_assert_int_eq(find(t, token, &number), ROLE_NONE);
    token[TOKEN_MAX - 1] = 'a';
    token[TOKEN_MAX] = 'a';
    ck_assert_int_eq(tokens_find(t, token, TOKEN_MAX + 1, &number), ROLE_NONE);
    tokens_destroy(t);
}
END_TEST

START_TEST(bad_lines_are_named_and_not_quoted)
{
    static const char *const cases[][2] = {
        {"read " READER "\nwriter " ADMIN "\n", "line 2: no role"},
        {"\n\n" ADMIN "\n", "line 3: no role"},
        {"none " READER "\n", "line 1: no role"},
        {"#\nadmin\n", "line 2: no token follows"},
        {"read short\n", "line 1: the token has 5 bytes (allowed: 16 to 256)"},
        {"read " READER " " ADMIN "\n", "line 1: byte 22 of the token"},
        {"read 0123456789abcde\xC3\xA9\n", "line 1: byte 16 of the token"},
        {"read " READER "\nadmin " READER "\n", "line 2: the token of line 1 again"},
        {"# nobody\n", "no token stands in it"},
        {"", "no token stands in it"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tokens *t = (tokens *)&error;
        const char *path = write_tokens(cases[i][0], 0600);
        ck_fails(tokens_read(&t, path, NULL, &error), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(error.message, cases[i][1]) != NULL, "%zu: %s", i, error.message);
        ck_assert_msg(strstr(error.message, path) != NULL, "%s", error.message);
        ck_assert_msg(strstr(error.message, "0123456789") == NULL, "quoted: %s", error.message);
    }
}
END_TEST

START_TEST(a_file_that_others_may_touch_is_refused)
{
    static const mode_t open[] = {0604, 0602, 0644};
    tokens *t;
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        ck_fails(tokens_read(&t, write_tokens("read " READER "\n", open[i]), NULL, &error), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(error.message, "others"));
    }
    ck_ok(tokens_read(&t, write_tokens("read " READER "\n", 0440), NULL, &error));
    tokens_destroy(t);
    ck_fails(tokens_read(&t, "/nonexistent/tokens", NULL, &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "auth.tokens"));
}
END_TEST

START_TEST(no_path_means_that_nobody_needs_one)
{
    uint64_t number;
    tokens *t;
    auth_state a = {0};
    ck_ok(tokens_read(&t, "", NULL, &error));
    ck_assert(!tokens_needed(t));
    ck_assert_int_eq(find(t, "", &number), ROLE_NONE);
    ck_ok(auth_check(&a, t, METHOD_BACKUP, &error));
    ck_ok(auth_check(&a, NULL, METHOD_BACKUP, &error));
    ck_fails(auth_take(&a, t, &(span){READER, strlen(READER)}, &error), SEM_FAILED_PRECONDITION);
    ck_assert_uint_eq(a.failures, 0);
    tokens_destroy(t);
}
END_TEST

START_TEST(a_role_goes_with_its_token)
{
    auth_state a = {0};
    const span reader = {READER, strlen(READER)};
    tokens *first = read_tokens("read " READER "\nadmin " ADMIN "\n", NULL);
    ck_ok(auth_take(&a, first, &reader, &error));
    ck_ok(auth_check(&a, first, METHOD_SEARCH, &error));
    ck_fails(auth_check(&a, first, METHOD_UPSERT, &error), SEM_PERMISSION_DENIED);
    tokens *raised = read_tokens("admin " ADMIN "\nwrite " READER "\n", first);
    ck_ok(auth_check(&a, raised, METHOD_UPSERT, &error));
    ck_fails(auth_check(&a, raised, METHOD_BACKUP, &error), SEM_PERMISSION_DENIED);
    /* Tokens are turned off and on again while the connection says nothing. */
    tokens *off;
    ck_ok(tokens_read(&off, "", raised, &error));
    tokens *others = read_tokens("admin another-0123456789\n", off);
    ck_fails(auth_check(&a, others, METHOD_PING, &error), SEM_UNAUTHENTICATED);
    ck_assert_ptr_nonnull(strstr(error.message, "withdrawn"));
    ck_fails(auth_take(&a, others, &reader, &error), SEM_UNAUTHENTICATED);
    ck_assert_uint_eq(a.failures, 1);
    tokens_destroy(first);
    tokens_destroy(raised);
    tokens_destroy(off);
    tokens_destroy(others);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokens");
    TCase *tests = tcase_create("tokens");
    tcase_add_test(tests, a_file_gives_each_token_its_role);
    tcase_add_test(tests, the_longest_token_counts_whole);
    tcase_add_test(tests, bad_lines_are_named_and_not_quoted);
    tcase_add_test(tests, a_file_that_others_may_touch_is_refused);
    tcase_add_test(tests, no_path_means_that_nobody_needs_one);
    tcase_add_test(tests, a_role_goes_with_its_token);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
