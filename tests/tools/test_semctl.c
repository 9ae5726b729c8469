/* semctl's parts that need no server: its tables, the manual page, its conversions. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "proto/request.h"
#include "tools/semctl.h"
#include "tools/semctl_convert.h"
#include "tools/semctl_options.h"
#include "tools/semctl_text.h"

static sem_error error;

/* --- tables and the manual page */

START_TEST(options_are_distinct_and_fit_their_tables)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const command *c = &COMMANDS[i];
        ck_assert_uint_le(c->option_count, OPTIONS_MAX);
        ck_assert_ptr_nonnull((void *)(uintptr_t)c->run);
        for (size_t a = 0; a < c->option_count; a++) {
            const option_spec *o = &c->options[a];
            bool flag = o->kind == OPTION_FLAG || o->kind == OPTION_TRUE || o->kind == OPTION_FALSE;
            ck_assert(flag == (o->argument == NULL));
            ck_assert((o->key == NULL) == (o->kind == OPTION_LOCAL || o->kind == OPTION_FLAG));
            for (size_t b = 0; b < c->option_count + GENERAL_COUNT; b++) {
                const option_spec *other = b < c->option_count ? &c->options[b] : &GENERAL_OPTIONS[b - c->option_count];
                if (other == o)
                    continue;
                ck_assert_msg(strcmp(o->name, other->name) != 0, "%s: --%s twice", c->name, o->name);
                ck_assert_msg(o->letter == 0 || o->letter != other->letter, "%s: -%c twice", c->name, o->letter);
            }
        }
    }
}
END_TEST

START_TEST(every_method_has_a_command)
{
    for (unsigned m = 0; m < METHOD_COUNT_OF; m++) {
        bool found = false;
        for (size_t i = 0; i < COMMAND_COUNT; i++)
            found = found || (COMMANDS[i].method != NULL && strcmp(COMMANDS[i].method, rpc_method_name(m)) == 0);
        ck_assert_msg(found, "no command for %s", rpc_method_name(m));
    }
}
END_TEST

/* troff writes a hyphen-minus as \-. */
static void as_troff(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text != '\0' && n + 3 < size; text++) {
        if (*text == '-')
            out[n++] = '\\';
        out[n++] = *text;
    }
    out[n] = '\0';
}

static void check_option_in(const char *section, const char *end, const char *owner, const option_spec *o)
{
    char plain[64], want[128];
    snprintf(plain, sizeof plain, "--%s", o->name);
    as_troff(want, sizeof want, plain);
    const char *found = strstr(section, want);
    ck_assert_msg(found != NULL && found < end, "docs/man/semctl.1: %s lacks %s", owner, plain);
}

START_TEST(manual_page_names_every_command_and_option)
{
    char *page;
    size_t size;
    const char *root = getenv("SEMD_ROOT");
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/docs/man/semctl.1", root != NULL ? root : ".");
    ck_ok(files_read(path, 1 << 20, &page, &size, &error));
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        char heading[128];
        snprintf(heading, sizeof heading, "\n.SS %s\n", COMMANDS[i].name);
        const char *section = strstr(page, heading);
        ck_assert_msg(section != NULL, "docs/man/semctl.1 lacks %s", COMMANDS[i].name);
        const char *end = strstr(section + 4, "\n.S");
        for (size_t o = 0; o < COMMANDS[i].option_count; o++)
            check_option_in(section, end != NULL ? end : page + size, COMMANDS[i].name, &COMMANDS[i].options[o]);
    }
    const char *general = strstr(page, "\n.SH OPTIONS\n");
    ck_assert_ptr_nonnull(general);
    for (size_t o = 0; o < GENERAL_COUNT; o++)
        check_option_in(general, strstr(general + 4, "\n.S"), "OPTIONS", &GENERAL_OPTIONS[o]);
    free(page);
}
END_TEST

/* --- conversions */

static const char *json_of(const buffer *b, bin_elements bins)
{
    static char text[4096];
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    ck_assert_int_eq(msgpack_unpack_next(&u, (const char *)b->data, b->size, NULL), MSGPACK_UNPACK_SUCCESS);
    FILE *out = fmemopen(text, sizeof text, "w");
    convert_write(out, &u.data, bins);
    fputc('\0', out);
    fclose(out);
    msgpack_unpacked_destroy(&u);
    return text;
}

START_TEST(json_goes_there_and_back)
{
    static const char *const cases[] = {
        "{\"a\":1,\"b\":-9223372036854775808,\"c\":[true,false,null],\"d\":\"x\\ny\\\"\",\"e\":{}}",
        "{\"f\":0.1,\"g\":1e+300,\"h\":3.0,\"i\":9223372036854775807}",
        "{\"\xc3\xa9\":\"\xf0\x9f\x98\x80\"}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        ck_ok(convert_object(&p, cases[i], &error));
        ck_assert_str_eq(json_of(&b, BIN_FLOAT32), cases[i]);
        buffer_free(&b);
    }
}
END_TEST

START_TEST(bins_become_numbers)
{
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    pack_bin(&p, "\xcd\xcc\xcc\x3d\x00\x00\x80\xbf", 8);
    ck_assert_str_eq(json_of(&b, BIN_FLOAT32), "[0.1,-1.0]");
    ck_assert_str_eq(json_of(&b, BIN_INT8), "[-51,-52,-52,61,0,0,-128,-65]");
    ck_assert_str_eq(json_of(&b, BIN_UINT8), "[205,204,204,61,0,0,128,191]");
    b.size = 0;
    pack_double(&p, 0.0 / 0.0);
    ck_assert_str_eq(json_of(&b, BIN_FLOAT32), "null");
    buffer_free(&b);
}
END_TEST

START_TEST(ids_are_read_as_people_write_them)
{
    static const struct {
        const char *text, *json;
    } cases[] = {{"7", "7"},
                 {"\"7\"", "\"7\""},
                 {"007", "\"007\""},
                 {"0", "0"},
                 {"a b", "\"a b\""},
                 {"-3", "\"-3\""},
                 {"18446744073709551615", "18446744073709551615"},
                 {"1e3", "\"1e3\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        ck_ok(pack_id_text(&p, cases[i].text, &error));
        ck_assert_str_eq(json_of(&b, BIN_FLOAT32), cases[i].json);
        buffer_free(&b);
    }
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    ck_fails(pack_id_text(&p, "18446744073709551616", &error), SEM_INVALID_ARGUMENT);
    ck_fails(pack_id_text(&p, "\"open", &error), SEM_INVALID_ARGUMENT);
    buffer_free(&b);
}
END_TEST

START_TEST(text_is_cleaned_and_cut_by_columns)
{
    static const struct {
        const char *text;
        size_t columns;
        const char *clean;
    } cases[] = {
        {"  a \n\t b  ", 0, "a b"},
        {"clear\x1b[2J", 0, "clear [2J"},
        {"abcdef", 4, "abc\xe2\x80\xa6"},
        {"abcd", 4, "abcd"},
        {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", 5, "\xe6\x97\xa5\xe6\x9c\xac\xe2\x80\xa6"}, /* two columns each */
        {"x\xff\xfe", 0, "x??"},
        {"", 3, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *clean = text_clean(cases[i].text, strlen(cases[i].text), cases[i].columns);
        ck_assert_str_eq(clean, cases[i].clean);
        free(clean);
    }
    ck_assert_uint_eq(text_columns("e\xcc\x81", 3), 1); /* a letter and a combining accent */
}
END_TEST

START_TEST(units_are_for_people)
{
    char text[TEXT_MAX];
    ck_assert_str_eq(text_duration(text, 0.0123), "12 ms");
    ck_assert_str_eq(text_duration(text, 12.34), "12.3 s");
    ck_assert_str_eq(text_duration(text, 125), "2 min 05 s");
    ck_assert_str_eq(text_duration(text, 3720), "1 h 02 min");
    ck_assert_str_eq(text_duration(text, -1), "?");
    ck_assert_str_eq(text_bytes(text, 1536), "1.5 KiB");
    ck_assert_str_eq(text_bytes(text, 12), "12 bytes");
}
END_TEST

START_TEST(the_first_word_of_several_commands_has_help_of_its_own)
{
    char *asks[] = {(char *)"semctl", (char *)"collection", (char *)"--help"}, *text = NULL;
    char *whole[] = {(char *)"semctl", (char *)"search", (char *)"--help"};
    size_t size;
    int next = 1;
    const command *c;
    ck_assert_str_eq(options_find_group(3, asks, 1), "collection");
    ck_assert_ptr_null(options_find_group(2, asks, 1));
    ck_assert_ptr_null(options_find_group(3, whole, 1));
    char *both[] = {(char *)"semctl", (char *)"events", (char *)"--help"};
    ck_assert_ptr_null(options_find_group(3, both, 1));
    ck_fails(options_find_command(2, asks, &next, &c, &error), SEM_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, "collection is not a whole command; try semctl collection --help");
    FILE *out = open_memstream(&text, &size);
    options_print_group_help(out, "collection");
    fclose(out);
    ck_assert(strstr(text, "collection create") && strstr(text, "collection drop") && strstr(text, "collection list"));
    ck_assert_ptr_null(strstr(text, "model load"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semctl");
    TCase *c = tcase_create("semctl");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, options_are_distinct_and_fit_their_tables);
    tcase_add_test(c, every_method_has_a_command);
    tcase_add_test(c, manual_page_names_every_command_and_option);
    tcase_add_test(c, json_goes_there_and_back);
    tcase_add_test(c, bins_become_numbers);
    tcase_add_test(c, ids_are_read_as_people_write_them);
    tcase_add_test(c, text_is_cleaned_and_cut_by_columns);
    tcase_add_test(c, units_are_for_people);
    tcase_add_test(c, the_first_word_of_several_commands_has_help_of_its_own);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
