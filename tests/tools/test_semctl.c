/* semctl without a daemon: its tables, its conversions, and its commands against
 * a small server that parses every request as semd does. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "proto/frame.h"
#include "proto/request.h"
#include "tools/semctl.h"
#include "tools/semctl_bulk.h"
#include "tools/semctl_convert.h"
#include "tools/semctl_files.h"
#include "tools/semctl_options.h"
#include "tools/semctl_text.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static sem_error error;

/* --- a server: every request is parsed by proto/request.c and answered from a script */

typedef struct fake {
    int listener;
    char address[256];
    pthread_t thread;
    /* what it saw */
    char bad_message[SEM_ERROR_MESSAGE_MAX]; /* of a request that the parser refused */
    rpc_method last;
    size_t stored, upserts, pages, jobs, full;
    bool saw_vector, saw_meta, saw_filter, saw_like, saw_generation;
    unsigned with;
    int label;
} fake;

static void answer_upsert(fake *f, const request *r, packer *p)
{
    sem_error e;
    f->upserts++;
    if (f->full > 0) {
        f->full--;
        sem_fail(&e, SEM_RESOURCE_EXHAUSTED, "queue: full");
        e.retry_after_ms = 1;
        reply_error(p, r->msgid, &e);
        return;
    }
    for (size_t i = 0; i < r->u.upsert.count; i++) {
        const request_doc *d = &r->u.upsert.docs[i];
        f->saw_vector = f->saw_vector || d->vector.data != NULL;
        f->saw_meta = f->saw_meta || d->meta.data != NULL;
        if (d->text.size == 3 && memcmp(d->text.data, "bad", 3) == 0) {
            sem_fail(&e, SEM_INVALID_ARGUMENT, "docs[%zu]: vector: has 2 dimensions", i);
            reply_error(p, r->msgid, &e);
            return;
        }
    }
    f->stored += r->u.upsert.count;
    reply_begin(p, r->msgid);
    pack_map(p, 3);
    pack_str(p, "upserted");
    pack_uint(p, r->u.upsert.count);
    pack_str(p, "truncated");
    pack_uint(p, 0);
    pack_str(p, "seq");
    pack_uint(p, f->upserts);
}

/* Two pages of two documents. */
static void answer_scroll(fake *f, const request *r, packer *p)
{
    bool second = r->u.scroll.after.data != NULL;
    f->pages++;
    f->with = r->u.scroll.with;
    reply_begin(p, r->msgid);
    pack_map(p, 2);
    pack_str(p, "docs");
    pack_array(p, 2);
    for (uint64_t i = 0; i < 2; i++) {
        pack_map(p, 2);
        pack_str(p, "id");
        pack_uint(p, i + (second ? 2 : 0));
        pack_str(p, "text");
        pack_str(p, "a \"quoted\"\nline");
    }
    pack_str(p, "next");
    if (second)
        pack_nil(p);
    else
        pack_str(p, "position");
}

static void answer_search(fake *f, const request *r, packer *p)
{
    f->with = r->u.search.with;
    f->saw_filter = r->u.search.filter.data != NULL;
    f->saw_like = r->u.search.has_like;
    f->saw_vector = r->u.search.vector.data != NULL;
    reply_begin(p, r->msgid);
    pack_map(p, 3);
    pack_str(p, "query_id");
    pack_str(p, "abc");
    pack_str(p, "generation");
    pack_uint(p, 2);
    pack_str(p, "hits");
    pack_array(p, 2);
    for (int i = 0; i < 2; i++) {
        pack_map(p, 3 + ((f->with & WITH_META) != 0));
        pack_str(p, "id");
        pack_str(p, i == 0 ? "first" : "7");
        pack_str(p, "score");
        pack_float(p, 0.75F);
        pack_str(p, "text");
        pack_str(p, "clear\x1b[2J the screen");
        if ((f->with & WITH_META) == 0)
            continue;
        pack_str(p, "meta");
        pack_map(p, 1);
        pack_str(p, "lang");
        pack_str(p, "en");
    }
}

static void pack_pair(packer *p, const char *key, const char *text, uint64_t number)
{
    pack_str(p, key);
    if (text != NULL)
        pack_str(p, text);
    else
        pack_uint(p, number);
}

static void answer_explain(const request *r, packer *p)
{
    static const char *const words[] = {"[CLS]", "hi\x1b[2J", "[SEP]"};
    reply_begin(p, r->msgid);
    pack_map(p, 7);
    pack_str(p, "tokens");
    pack_array(p, 3);
    for (uint64_t i = 0; i < 3; i++) {
        pack_map(p, 2);
        pack_pair(p, "id", NULL, 100 + i);
        pack_pair(p, "token", words[i], 0);
    }
    pack_str(p, "plan");
    pack_map(p, 5);
    pack_pair(p, "kind", "ivf", 0);
    pack_pair(p, "reason", "lists for the recall asked", 0);
    pack_pair(p, "nlist", NULL, 128);
    pack_pair(p, "documents", NULL, 50000);
    pack_pair(p, "prompt", "query: ", 0);
    pack_pair(p, "lists", NULL, 12);
    pack_pair(p, "scanned", NULL, 4321);
    pack_pair(p, "candidates", NULL, 10);
    pack_str(p, "timings_us");
    pack_map(p, 2);
    pack_str(p, "encode");
    pack_double(p, 750);
    pack_str(p, "total");
    pack_double(p, 1000);
    pack_str(p, "hits");
    pack_array(p, 0);
}

static void pack_metrics(packer *p, double mrr)
{
    pack_map(p, 2);
    pack_str(p, "heldout");
    pack_map(p, 2);
    pack_str(p, "queries");
    pack_uint(p, 500);
    pack_str(p, "mrr");
    pack_double(p, mrr);
    pack_str(p, "p_value");
    pack_double(p, 0.001);
}

/* Running at the first look, done at the second. */
static void answer_job(fake *f, const request *r, packer *p)
{
    bool done = f->jobs++ > 0;
    reply_begin(p, r->msgid);
    pack_map(p, 9);
    pack_str(p, "job");
    pack_uint(p, 4);
    pack_str(p, "state");
    pack_str(p, done ? "done" : "running");
    pack_str(p, "phase");
    pack_str(p, "training");
    pack_str(p, "step");
    pack_uint(p, 3);
    pack_str(p, "steps");
    pack_uint(p, 10);
    pack_str(p, "decision");
    if (done)
        pack_str(p, "promoted");
    else
        pack_nil(p);
    pack_str(p, "reason");
    pack_str(p, "the gain is beyond chance");
    pack_str(p, "metrics_before");
    pack_metrics(p, 0.5);
    pack_str(p, "metrics_after");
    pack_metrics(p, 0.75);
}

/* A measured generation and one that was not. */
static void answer_generations(const request *r, packer *p)
{
    reply_begin(p, r->msgid);
    pack_array(p, 2);
    for (uint64_t i = 1; i <= 2; i++) {
        pack_map(p, 2);
        pack_str(p, "generation");
        pack_uint(p, i);
        pack_str(p, "metrics");
        if (i == 2)
            pack_metrics(p, 0.625);
        else
            pack_nil(p);
    }
}

/* A searched-whole collection and one with lists. */
static void answer_collections(const request *r, packer *p)
{
    reply_begin(p, r->msgid);
    pack_array(p, 2);
    for (int i = 0; i < 2; i++) {
        pack_map(p, 1);
        pack_str(p, "index");
        pack_map(p, 2);
        pack_str(p, "kind");
        pack_str(p, i == 0 ? "exact" : "ivf");
        pack_str(p, "recall");
        pack_array(p, i == 0 ? 0 : 3);
        for (int n = 0; i == 1 && n < 3; n++) {
            pack_map(p, 1);
            pack_str(p, "recall");
            pack_double(p, 0.9 + 0.04 * n);
        }
    }
}

static void answer_info(const request *r, packer *p)
{
    reply_begin(p, r->msgid);
    pack_map(p, 1);
    pack_str(p, "limits");
    pack_map(p, 2);
    pack_str(p, "text_bytes");
    pack_uint(p, 100);
    pack_str(p, "upsert_docs");
    pack_uint(p, 10);
}

static void answer(fake *f, const request *r, packer *p)
{
    f->last = r->method;
    switch (r->method) {
    case METHOD_UPSERT:
        f->saw_generation = r->u.upsert.has_generation;
        answer_upsert(f, r, p);
        return;
    case METHOD_SCROLL: answer_scroll(f, r, p); return;
    case METHOD_SEARCH: answer_search(f, r, p); return;
    case METHOD_EXPLAIN: answer_explain(r, p); return;
    case METHOD_JOB: answer_job(f, r, p); return;
    case METHOD_INFO: answer_info(r, p); return;
    case METHOD_GENERATIONS: answer_generations(r, p); return;
    case METHOD_COLLECTION_LIST: answer_collections(r, p); return;
    case METHOD_FEEDBACK: f->label = r->u.feedback.pairs[0].label; break;
    default: break;
    }
    reply_begin(p, r->msgid);
    pack_map(p, 2);
    pack_str(p, "job");
    pack_uint(p, 4);
    pack_str(p, "logged");
    pack_uint(p, 1);
}

static void serve_frame(fake *f, int fd, const unsigned char *data, size_t length)
{
    request_limits limits;
    request_limits_defaults(&limits);
    unsigned char *frame = malloc(length);
    memcpy(frame, data, length);
    request *r;
    uint32_t msgid;
    bool notification;
    sem_error e;
    buffer out = {0};
    packer p;
    pack_init(&p, &out);
    if (request_parse(&r, frame, length, &limits, &msgid, &notification, &e) != SEM_OK) {
        memcpy(f->bad_message, e.message, sizeof e.message);
        reply_error(&p, msgid, &e);
    } else {
        answer(f, r, &p);
    }
    request_free(r);
    for (size_t sent = 0; sent < out.size;) {
        ssize_t n = send(fd, out.data + sent, out.size - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    buffer_free(&out);
}

static void *serve(void *context)
{
    fake *f = context;
    int fd = accept(f->listener, NULL, NULL);
    buffer in = {0};
    frame_limits limits = {.bytes = 64 << 20, .depth = 32};
    while (fd >= 0 && buffer_reserve(&in, 65536)) {
        ssize_t n = recv(fd, in.data + in.size, 65536, 0);
        if (n <= 0)
            break;
        in.size += (size_t)n;
        for (size_t length = 1; length > 0;) {
            frame_scanner s;
            frame_scanner_init(&s, &limits);
            if (frame_scan(&s, in.data, in.size, &length, NULL) != SEM_OK)
                abort();
            if (length > 0)
                serve_frame(f, fd, in.data, length);
            memmove(in.data, in.data + length, in.size - length);
            in.size -= length;
        }
    }
    buffer_free(&in);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void start(fake *f)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    *f = (fake){.listener = socket(AF_UNIX, SOCK_STREAM, 0)};
    snprintf(a.sun_path, sizeof a.sun_path, "%s/socket", testing_folder());
    unlink(a.sun_path);
    snprintf(f->address, sizeof f->address, "unix:%s", a.sun_path);
    ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(f->listener, 4), 0);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, serve, f), 0);
}

/* Runs one command line against a new fake; what it printed is in output. */
static char output[65536];

static sem_status run_words(fake *f, bool json, char **words, int count, bool *usage)
{
    char path[256];
    snprintf(path, sizeof path, "%s/output", testing_folder());
    arguments a = {0};
    const command *c;
    int next = 1;
    *usage = true;
    sem_status status = options_find_command(count, words, &next, &c, &error);
    if (status == SEM_OK)
        status = options_parse_command(count, words, next, c, &a, &error);
    if (status != SEM_OK)
        return status;
    start(f);
    semctl ctl = {
        .address = f->address, .json = json, .timeout_ms = 10000, .deadline_ms = general_of(&a, "deadline-ms")};
    fflush(stdout);
    int old = dup(STDOUT_FILENO), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ck_assert(old >= 0 && file >= 0 && dup2(file, STDOUT_FILENO) >= 0);
    status = c->run(&ctl, c, &a, &error);
    fflush(stdout);
    dup2(old, STDOUT_FILENO);
    ssize_t size = pread(file, output, sizeof output - 1, 0);
    output[size > 0 ? size : 0] = '\0';
    close(old);
    close(file);
    *usage = ctl.usage;
    client_close(ctl.client);
    shutdown(f->listener, SHUT_RDWR); /* where the command never connected */
    pthread_join(f->thread, NULL);
    close(f->listener);
    return status;
}

#define WORDS(...) ((char *[]){"semctl", __VA_ARGS__, NULL})
#define RUN(f, json, usage, ...)                                                                                       \
    run_words(f, json, WORDS(__VA_ARGS__), (int)(sizeof WORDS(__VA_ARGS__) / sizeof(char *)) - 1, usage)

static void write_file(const char *name, const char *text, char path[FILES_PATH_MAX])
{
    snprintf(path, FILES_PATH_MAX, "%s/%s", testing_folder(), name);
    ck_ok(files_write(path, text, strlen(text), &error));
}

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

/* --- commands against the fake */

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
    ck_assert_ptr_nonnull(strstr(output, "heldout.mrr      0.5000  0.7500"));
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
    tcase_add_test(c, wrong_usage_is_told_from_failure);
    tcase_add_test(c, json_goes_there_and_back);
    tcase_add_test(c, bins_become_numbers);
    tcase_add_test(c, ids_are_read_as_people_write_them);
    tcase_add_test(c, text_is_cleaned_and_cut_by_columns);
    tcase_add_test(c, units_are_for_people);
    tcase_add_test(c, bulk_upsert_names_the_line_and_goes_on);
    tcase_add_test(c, text_above_the_servers_limit_costs_only_itself);
    tcase_add_test(c, load_takes_folders_and_skips_what_is_no_text);
    tcase_add_test(c, batch_is_sent_again_when_the_server_is_full);
    tcase_add_test(c, scroll_all_exports_every_page);
    tcase_add_test(c, search_shows_hits_without_terminal_codes);
    tcase_add_test(c, explain_shows_tokens_plan_and_times);
    tcase_add_test(c, search_shows_what_was_asked_for_and_ids_as_click_takes_them);
    tcase_add_test(c, lists_show_what_was_measured_and_a_dash_for_what_was_not);
    tcase_add_test(c, files_may_be_pipes);
    tcase_add_test(c, every_command_sends_what_the_server_takes);
    tcase_add_test(c, finetune_wait_ends_with_decision_and_metrics);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
