/* Many clients, much at a time, little room: every request has one answer. */
#include "tests/daemon/box_metrics.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 200, PIPELINE = 24, LARGE = 100, LARGE_DOCS = 1000, ENCODES = 300, ENCODE_TEXTS = 40, WRITES = 20 };

static box b;
static sem_error error;

static bool start(const char *const *options, size_t count)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    for (size_t i = 0; i < count; i++)
        b.options[i] = options[i];
    box_start(&b);
    return true;
}

static void send_mixed(client *c, unsigned i)
{
    switch (i % 6) {
    case 0: box_send(c, "encode", "{'texts': ['my card', 'a fee %u']}", i); break;
    case 1: box_send(c, "upsert", "{'docs': [{'id': %u, 'text': 'my card and a fee'}]}", i); break;
    case 2: box_send(c, "search", "{'query': 'my card', 'k': 3, 'with': ['text', 'vector']}"); break;
    case 3: box_send(c, "get", "{'ids': [%u], 'with': ['text', 'meta', 'vector']}", i); break;
    case 4: box_send(c, "count", "{}"); break;
    default: box_send(c, "delete", "{'ids': [%u]}", i); break;
    }
}

/* Each of the msgids 0.. or 1.. comes once, in whatever order. */
static void take_answers(client *c, size_t count, size_t *refused)
{
    bool seen[256] = {false};
    ck_assert_uint_lt(count + 1, 256);
    for (size_t i = 0; i < count; i++) {
        client_reply reply;
        ck_ok(client_receive(c, BOX_TIMEOUT_MS, &reply, &error));
        ck_assert_uint_lt(reply.msgid, 256);
        ck_assert(!seen[reply.msgid]);
        seen[reply.msgid] = true;
        if (reply.is_error) {
            ck_assert_str_eq(reply.code, "RESOURCE_EXHAUSTED");
            ck_assert_uint_gt(reply.retry_after_ms, 0);
            ++*refused;
        }
        client_reply_free(&reply);
    }
    client_reply more;
    ck_assert_int_eq(client_receive(c, 1, &more, &error), SEM_DEADLINE_EXCEEDED);
}

START_TEST(two_hundred_pipelining_clients_get_every_answer_once)
{
    static client *clients[CLIENTS];
    const char *options[] = {"encode.queue=100000"};
    size_t refused = 0;
    if (!start(options, 1))
        return;
    for (unsigned i = 0; i < CLIENTS; i++)
        clients[i] = box_connect(&b);
    for (unsigned k = 0; k < PIPELINE; k++)
        for (unsigned i = 0; i < CLIENTS; i++)
            send_mixed(clients[i], i + k);
    for (unsigned i = 0; i < CLIENTS; i++) {
        take_answers(clients[i], PIPELINE, &refused);
        client_close(clients[i]);
    }
    ck_assert_uint_eq(refused, 0);
    box_stop(&b);
}
END_TEST

START_TEST(requests_beyond_the_memory_for_them_are_refused_and_answered)
{
    const char *options[] = {"encode.queue_bytes=1MiB"};
    if (!start(options, 1))
        return;
    buffer docs = {0};
    for (unsigned i = 0; i < LARGE_DOCS; i++) {
        char one[128];
        int n = snprintf(one, sizeof one,
                         "%s{'id': %u, 'text': 'my card and a fee or a transfer in the bank, my account %u'}",
                         i > 0 ? ", " : "", i, i);
        ck_assert(buffer_append(&docs, one, (size_t)n));
    }
    for (unsigned i = 0; i < LARGE; i++)
        box_send(b.client, "upsert", "{'docs': [%.*s]}", (int)docs.size, (const char *)docs.data);
    buffer_free(&docs);
    size_t refused = 0;
    take_answers(b.client, LARGE, &refused);
    ck_assert_uint_gt(refused, 0);
    ck_assert_uint_lt(refused, LARGE);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{}"), "count"), 0), LARGE_DOCS);
    box_stop(&b);
}
END_TEST

START_TEST(a_full_disk_refuses_upserts_but_not_what_makes_room)
{
    const char *options[] = {"storage.max_size=3MiB"};
    if (!start(options, 1))
        return;
    char text[20001];
    memset(text, 'c', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    unsigned put = 0;
    for (bool full = false; !full; put++) {
        ck_assert_uint_lt(put, 2000);
        buffer params = {0};
        box_document(&params, put, text);
        box_send_on(&b, b.client, "upsert", &params);
        full = b.reply.is_error;
        if (full)
            ck_assert_str_eq(b.reply.code, "RESOURCE_EXHAUSTED");
    }
    for (unsigned i = 0; i + 1 < put; i++) {
        box_call(&b, "search", "{'query': 'my card', 'k': 1}"); /* it would be logged, if there were room */
        box_call(&b, "delete", "{'ids': [%u]}", i);
    }
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{}"), "count"), 9), 0);
    box_stop(&b);
}
END_TEST

/* --- reload */

static void write_file(const char *path, const char *text)
{
    ck_ok(files_write(path, text, strlen(text), &error));
}

static void limits_after_reload(const char *path)
{
    write_file(path, "[limits]\nk = 7\n[server]\nmax_in_flight = 77\n");
    kill(b.daemon.pid, SIGHUP);
    for (int i = 0; i < 200; i++) {
        const msgpack_object *limits = object_get(box_call(&b, "info", NULL), "limits");
        if (object_uint(object_get(limits, "k"), 0) == 7) {
            ck_assert_uint_eq(object_uint(object_get(limits, "in_flight"), 0), 77);
            return;
        }
        usleep(10000);
    }
    ck_abort_msg("the limit was not reloaded");
}

START_TEST(info_tells_the_limits_of_now)
{
    char path[FILES_PATH_MAX];
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    ck_ok(files_join(path, &error, "%s/semd.conf", testing_folder()));
    write_file(path, "[limits]\nk = 100\n");
    char *argv[] = {b.binary,
                    (char *)"-c",
                    path,
                    (char *)"-o",
                    (char *)"server.listen=tcp://127.0.0.1:0",
                    (char *)"-o",
                    (char *)"server.http=",
                    (char *)"-o",
                    b.storage,
                    (char *)"-o",
                    b.model,
                    NULL};
    ck_ok(process_start(&b.daemon, argv, b.log, false, NULL, &error));
    b.client = box_connect(&b);
    const msgpack_object *limits = object_get(box_call(&b, "info", NULL), "limits");
    ck_assert_uint_eq(object_uint(object_get(limits, "k"), 0), 100);
    limits_after_reload(path);
    box_fails(&b, "INVALID_ARGUMENT", "search", "{'query': 'x', 'k': 8}");
    box_stop(&b);
}
END_TEST

/* --- a client that goes away with requests in flight */

static int dial(void)
{
    const char *colon = strrchr(b.daemon.address, ':');
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    where.sin_port = htons((uint16_t)atoi(colon + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&where, sizeof where), 0);
    return fd;
}

static void add_write(packer *p, uint32_t n)
{
    request_begin(p, n, "upsert");
    pack_array(p, 1);
    pack_map(p, 1);
    pack_str(p, "docs");
    pack_array(p, 1);
    box_pack_text(p, n, "my card and a fee", strlen("my card and a fee"));
}

static void add_encode(packer *p, uint32_t n)
{
    request_begin(p, n, "encode");
    pack_array(p, 1);
    pack_map(p, 1);
    pack_str(p, "texts");
    pack_array(p, ENCODE_TEXTS);
    for (int i = 0; i < ENCODE_TEXTS; i++)
        pack_str(p, "how do I top up my card when the shop is closed and the day is long?");
}

/* Sends all, waits for the first answer, and resets the connection. */
static void ask_and_go(const buffer *frames)
{
    struct linger at_once = {.l_onoff = 1};
    unsigned char byte;
    int fd = dial();
    for (size_t sent = 0; sent < frames->size;) {
        ssize_t n = send(fd, frames->data + sent, frames->size - sent, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        sent += (size_t)n;
    }
    ck_assert_int_eq(recv(fd, &byte, 1, 0), 1);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static unsigned long long metric(const char *name)
{
    static char text[1 << 18];
    unsigned long long value = 0;
    box_metrics(&b, text, sizeof text);
    const char *at = strstr(text, name);
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at + strlen(name), " %llu", &value), 1);
    return value;
}

START_TEST(reads_of_a_client_that_is_gone_are_dropped_and_writes_done)
{
    const char *options[] = {"server.http=127.0.0.1:0", "encode.workers=1", "server.max_in_flight=1000"};
    buffer frames = {0};
    packer p;
    if (!start(options, 3))
        return;
    pack_init(&p, &frames);
    for (uint32_t n = 0; n < ENCODES; n++) {
        add_encode(&p, n);
        if (n < WRITES)
            add_write(&p, 1000 + n);
    }
    ck_assert(!p.failed);
    ask_and_go(&frames);
    buffer_free(&frames);
    for (int tries = 0; metric("\nsemd_index_vectors") < WRITES && tries < 5000; tries++)
        usleep(20000);
    ck_assert_uint_eq(metric("\nsemd_index_vectors"), WRITES);
    unsigned long long dropped = metric("\nsemd_requests_dropped_total");
    ck_assert_uint_gt(dropped, 0);
    ck_assert_uint_le(metric("\nsemd_requests_total{method=\"encode\"}") + dropped, ENCODES);
    box_stop(&b);
}
END_TEST

START_TEST(metrics_tell_latencies_memory_indices_and_jobs)
{
    static char text[1 << 18];
    const char *options[] = {"server.http=127.0.0.1:0"};
    if (!start(options, 1))
        return;
    for (unsigned i = 0; i < 5; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'my card'}]}", i);
    box_call(&b, "search", "{'query': 'my card'}");
    box_fails(&b, "NOT_FOUND", "search", "{'collection': 'none', 'query': 'my card'}");
    box_metrics(&b, text, sizeof text);
    static const char *const lines[] = {
        "semd_requests_total{method=\"upsert\"} 5\n",
        "semd_requests_total{method=\"search\"} 2\n",
        "semd_request_errors_total{method=\"search\"} 1\n",
        "semd_request_seconds_bucket{method=\"upsert\",le=\"+Inf\"} 5\n",
        "semd_request_seconds_count{method=\"search\"} 2\n",
        "semd_index_vectors 5\n",
        "semd_index_bytes 960\n",
        "semd_generation 1\n",
        "semd_job_running 0\n",
        "semd_queue_bytes 0\n",
        "semd_query_cache_hits_total 1\n",
        "semd_query_cache_misses_total 1\n",
        "semd_query_cache_entries 1\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        /* An answer may be here before its request is counted and freed. */
        for (int tries = 0; strstr(text, lines[i]) == NULL && tries < 500; tries++) {
            usleep(10000);
            box_metrics(&b, text, sizeof text);
        }
        ck_assert_msg(strstr(text, lines[i]) != NULL, "no line %s", lines[i]);
    }
    unsigned long long resident = 0;
    const char *at = strstr(text, "\nprocess_resident_memory_bytes ");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "\nprocess_resident_memory_bytes %llu", &resident), 1);
    ck_assert_uint_gt(resident, 1 << 20);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("load and limits");
    TCase *t = tcase_create("load");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, two_hundred_pipelining_clients_get_every_answer_once);
    tcase_add_test(t, requests_beyond_the_memory_for_them_are_refused_and_answered);
    tcase_add_test(t, a_full_disk_refuses_upserts_but_not_what_makes_room);
    tcase_add_test(t, info_tells_the_limits_of_now);
    tcase_add_test(t, reads_of_a_client_that_is_gone_are_dropped_and_writes_done);
    tcase_add_test(t, metrics_tell_latencies_memory_indices_and_jobs);
    suite_add_tcase(s, t);
    return testing_run(s);
}
