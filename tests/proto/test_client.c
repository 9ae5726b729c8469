#include "tests/common/testing.h"

#include "base/random.h"
#include "proto/client.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A server of one connection, in a thread: what it does with it is the test's. */
typedef struct peer {
    int listener;
    char address[256];
    void (*serve)(int fd, void *context);
    void *context;
    pthread_t thread;
} peer;

static sem_error error;

static void *serve_one(void *context)
{
    peer *p = context;
    int fd = accept(p->listener, NULL, NULL);
    if (fd >= 0) {
        p->serve(fd, p->context);
        close(fd);
    }
    return NULL;
}

static void start_unix(peer *p, void (*serve)(int fd, void *context), void *context)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s/socket", testing_folder());
    *p = (peer){.listener = socket(AF_UNIX, SOCK_STREAM, 0), .serve = serve, .context = context};
    snprintf(p->address, sizeof p->address, "unix:%s", a.sun_path);
    ck_assert_int_eq(bind(p->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(p->listener, 4), 0);
    ck_assert_int_eq(pthread_create(&p->thread, NULL, serve_one, p), 0);
}

/* A minimal system has no /etc/hosts, and then no localhost. */
static const char *loopback_name(void)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &found) != 0)
        return "127.0.0.1";
    freeaddrinfo(found);
    return "localhost";
}

static void start_tcp(peer *p, void (*serve)(int fd, void *context), void *context)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    *p = (peer){.listener = socket(AF_INET, SOCK_STREAM, 0), .serve = serve, .context = context};
    ck_assert_int_eq(bind(p->listener, (struct sockaddr *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(p->listener, 4), 0);
    ck_assert_int_eq(getsockname(p->listener, (struct sockaddr *)&a, &length), 0);
    snprintf(p->address, sizeof p->address, "tcp://%s:%d", loopback_name(), ntohs(a.sin_port));
    ck_assert_int_eq(pthread_create(&p->thread, NULL, serve_one, p), 0);
}

static void stop(peer *p)
{
    pthread_join(p->thread, NULL);
    close(p->listener);
}

static void write_all(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        at += n;
        size -= (size_t)n;
    }
}

/* Reads frames until the client hangs up, calling each() for every one; false from it ends. */
static void each_frame(int fd, bool (*each)(int fd, const frame_scanner *s, void *context), void *context)
{
    buffer in = {0};
    frame_limits limits = {.bytes = 64 << 20, .depth = 32};
    frame_scanner s;
    frame_scanner_init(&s, &limits);
    bool more = true;
    while (more && buffer_reserve(&in, 65536)) {
        ssize_t n = recv(fd, in.data + in.size, 65536, 0);
        if (n <= 0)
            break;
        in.size += (size_t)n;
        size_t length = 1;
        while (more && length > 0) {
            if (frame_scan(&s, in.data, in.size, &length, NULL) != SEM_OK)
                abort();
            if (length == 0)
                break;
            more = each(fd, &s, context);
            memmove(in.data, in.data + length, in.size - length);
            in.size -= length;
            frame_scanner_init(&s, &limits);
        }
    }
    buffer_free(&in);
}

static void reply_uint(int fd, uint32_t msgid, uint64_t value)
{
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    reply_begin(&p, msgid);
    pack_uint(&p, value);
    write_all(fd, b.data, b.size);
    buffer_free(&b);
}

/* --- */

static bool echo_id(int fd, const frame_scanner *s, void *context)
{
    (void)context;
    reply_uint(fd, s->msgid, s->msgid);
    return true;
}

static void serve_echo(int fd, void *context)
{
    each_frame(fd, echo_id, context);
}

START_TEST(call_works_over_tcp_and_unix)
{
    for (int i = 0; i < 2; i++) {
        peer server;
        client *c;
        client_reply reply;
        (i == 0 ? start_tcp : start_unix)(&server, serve_echo, NULL);
        ck_ok(client_connect(&c, server.address, 5000, &error));
        for (int n = 0; n < 3; n++) {
            ck_ok(client_call(c, "ping", NULL, 0, 5000, &reply, &error));
            ck_assert_uint_eq(object_uint(&reply.value, 0), reply.msgid);
            client_reply_free(&reply);
        }
        client_close(c);
        stop(&server);
    }
}
END_TEST

/* So many notifications, numbered from 1 on, then the answer. */
typedef struct notifier {
    uint64_t each, number;
} notifier;

static bool notify_and_answer(int fd, const frame_scanner *s, void *context)
{
    notifier *n = context;
    for (uint64_t i = 0; i < n->each; i++) {
        buffer b = {0};
        packer p;
        pack_init(&p, &b);
        notification_begin(&p, "job");
        pack_array(&p, 1);
        pack_uint(&p, ++n->number);
        write_all(fd, b.data, b.size);
        buffer_free(&b);
    }
    reply_uint(fd, s->msgid, s->msgid);
    return true;
}

static void serve_notifications(int fd, void *context)
{
    each_frame(fd, notify_and_answer, context);
}

static void expect_notified(client *c, uint64_t number, uint64_t lost)
{
    client_notification n;
    ck_ok(client_next_notification(c, 5000, &n, &error));
    ck_assert_str_eq(n.method, "job");
    ck_assert_uint_eq(object_uint(&n.value, 0), number);
    ck_assert_uint_eq(n.lost, lost);
    client_notification_free(&n);
    client_notification_free(&n);
}

START_TEST(notifications_between_answers_are_kept_in_order)
{
    peer server;
    client *c;
    client_reply reply;
    uint32_t id;
    notifier n = {.each = 3};
    start_unix(&server, serve_notifications, &n);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    for (uint32_t i = 1; i <= 2; i++) {
        ck_ok(client_call(c, "m", NULL, 0, 5000, &reply, &error));
        ck_assert_uint_eq(reply.msgid, i);
        client_reply_free(&reply);
    }
    for (uint64_t i = 1; i <= 5; i++)
        expect_notified(c, i, 0);
    /* Whoever waits for one keeps the answers that come. */
    ck_ok(client_send(c, "m", NULL, 0, &id, &error));
    for (uint64_t i = 6; i <= 9; i++)
        expect_notified(c, i, 0);
    client_notification none;
    ck_fails(client_next_notification(c, 50, &none, &error), SEM_DEADLINE_EXCEEDED);
    ck_ok(client_receive(c, 5000, &reply, &error));
    ck_assert_uint_eq(reply.msgid, id);
    client_reply_free(&reply);
    client_close(c);
    stop(&server);
}
END_TEST

START_TEST(notifications_that_nobody_asks_for_are_bounded)
{
    enum { MORE = 7 };
    peer server;
    client *c;
    client_reply reply;
    notifier n = {.each = CLIENT_NOTIFICATIONS_MAX + MORE};
    start_unix(&server, serve_notifications, &n);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    ck_ok(client_call(c, "m", NULL, 0, 5000, &reply, &error));
    client_reply_free(&reply);
    expect_notified(c, MORE + 1, MORE);
    for (uint64_t i = MORE + 2; i < 20; i++)
        expect_notified(c, i, 0);
    client_close(c); /* the others are freed with the client */
    stop(&server);
}
END_TEST

static bool notify_wrongly(int fd, const frame_scanner *s, void *context)
{
    static const unsigned char wrong[][8] = {{0x93, 0x02, 0xa1, 'j', 0x90},  /* without a value */
                                             {0x93, 0x02, 0x07, 0x91, 0xc0}, /* its method is a number */
                                             {0x94, 0x02, 0xa1, 'j', 0x90, 0xc0}};
    const int *which = context;
    (void)s;
    write_all(fd, wrong[*which], *which == 2 ? 6 : 5);
    return true;
}

static void serve_wrong(int fd, void *context)
{
    each_frame(fd, notify_wrongly, context);
}

START_TEST(a_malformed_notification_ends_the_connection)
{
    for (int which = 0; which < 3; which++) {
        peer server;
        client *c;
        client_reply reply;
        client_notification n;
        start_tcp(&server, serve_wrong, &which);
        ck_ok(client_connect(&c, server.address, 5000, &error));
        ck_assert_int_ne(client_call(c, "m", NULL, 0, 5000, &reply, &error), SEM_OK);
        ck_fails(client_next_notification(c, 5000, &n, &error), SEM_UNAVAILABLE);
        client_close(c);
        stop(&server);
    }
}
END_TEST

typedef struct held {
    uint32_t ids[100];
    size_t count, wanted;
} held;

static bool hold_and_answer_backwards(int fd, const frame_scanner *s, void *context)
{
    held *h = context;
    h->ids[h->count++] = s->msgid;
    if (h->count < h->wanted)
        return true;
    while (h->count > 0) {
        h->count--;
        reply_uint(fd, h->ids[h->count], h->ids[h->count]);
    }
    return true;
}

static void serve_backwards(int fd, void *context)
{
    each_frame(fd, hold_and_answer_backwards, context);
}

START_TEST(answers_out_of_order_find_their_requests)
{
    peer server;
    held h = {.wanted = 100};
    client *c;
    client_reply reply;
    uint32_t id;
    bool seen[101] = {false};
    start_unix(&server, serve_backwards, &h);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    for (int i = 0; i < 99; i++)
        ck_ok(client_send(c, "m", NULL, 0, &id, &error));
    ck_ok(client_call(c, "m", NULL, 0, 5000, &reply, &error)); /* its answer comes first */
    ck_assert_uint_eq(reply.msgid, 100);
    client_reply_free(&reply);
    for (int i = 0; i < 99; i++) {
        ck_ok(client_receive(c, 5000, &reply, &error));
        ck_assert(reply.msgid >= 1 && reply.msgid <= 99 && !seen[reply.msgid]);
        seen[reply.msgid] = true;
        client_reply_free(&reply);
    }
    client_close(c);
    stop(&server);
}
END_TEST

START_TEST(answers_to_others_are_kept_while_a_call_waits)
{
    peer server;
    client *c;
    client_reply reply;
    uint32_t first, second;
    start_unix(&server, serve_echo, NULL);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    ck_ok(client_send(c, "m", NULL, 0, &first, &error));
    ck_ok(client_send(c, "m", NULL, 0, &second, &error));
    ck_ok(client_call(c, "m", NULL, 0, 5000, &reply, &error));
    client_reply_free(&reply);
    ck_ok(client_receive(c, 5000, &reply, &error));
    ck_assert_uint_eq(reply.msgid, first);
    client_reply_free(&reply);
    client_close(c); /* the second is freed with the client */
    stop(&server);
}
END_TEST

static bool answer_a_lot(int fd, const frame_scanner *s, void *context)
{
    (void)context;
    static char blob[256 << 10];
    buffer b = {0};
    packer p;
    pack_init(&p, &b);
    reply_begin(&p, s->msgid);
    pack_bin(&p, blob, sizeof blob);
    write_all(fd, b.data, b.size);
    buffer_free(&b);
    return true;
}

static void serve_a_lot(int fd, void *context)
{
    each_frame(fd, answer_a_lot, context);
}

START_TEST(pipelining_never_locks_up)
{
    /* Both directions hold far more than the sockets' buffers, and the server
     * reads nothing while it writes: only a client that reads while it sends gets through. */
    peer server;
    client *c;
    client_reply reply;
    uint32_t id;
    buffer params = {0};
    packer p;
    char *blob = calloc(1, 256 << 10);
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_bin(&p, blob, 256 << 10);
    free(blob);
    start_unix(&server, serve_a_lot, NULL);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    for (int i = 0; i < 100; i++)
        ck_ok(client_send(c, "m", params.data, params.size, &id, &error));
    for (int i = 0; i < 100; i++) {
        ck_ok(client_receive(c, 20000, &reply, &error));
        ck_assert_uint_eq(reply.value.via.bin.size, 256 << 10);
        client_reply_free(&reply);
    }
    buffer_free(&params);
    client_close(c);
    stop(&server);
}
END_TEST

static bool refuse(int fd, const frame_scanner *s, void *context)
{
    (void)context;
    buffer b = {0};
    packer p;
    sem_error e;
    pack_init(&p, &b);
    sem_fail(&e, SEM_RESOURCE_EXHAUSTED, "queue: full");
    e.retry_after_ms = 30;
    reply_error(&p, s->msgid, &e);
    write_all(fd, b.data, b.size);
    buffer_free(&b);
    return true;
}

static void serve_refusal(int fd, void *context)
{
    each_frame(fd, refuse, context);
}

START_TEST(error_answer_is_a_success_of_the_call)
{
    peer server;
    client *c;
    client_reply reply;
    start_unix(&server, serve_refusal, NULL);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    ck_ok(client_call(c, "m", NULL, 0, 5000, &reply, &error));
    ck_assert(reply.is_error);
    ck_assert_str_eq(reply.code, "RESOURCE_EXHAUSTED");
    ck_assert_uint_eq(reply.retry_after_ms, 30);
    ck_fails(client_reply_status(&reply, &error), SEM_RESOURCE_EXHAUSTED);
    ck_assert_str_eq(error.message, "queue: full");
    ck_assert_uint_eq(error.retry_after_ms, 30);
    client_reply_free(&reply);
    client_reply_free(&reply);
    client_close(c);
    stop(&server);
}
END_TEST

static void serve_nothing(int fd, void *context)
{
    char byte;
    (void)context;
    while (recv(fd, &byte, 1, 0) > 0)
        ;
}

START_TEST(silent_server_costs_the_time_out_and_no_more)
{
    peer server;
    client *c;
    client_reply reply;
    start_unix(&server, serve_nothing, NULL);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    ck_fails(client_call(c, "m", NULL, 0, 50, &reply, &error), SEM_DEADLINE_EXCEEDED);
    ck_fails(client_receive(c, 0, &reply, &error), SEM_DEADLINE_EXCEEDED);
    client_reply_free(&reply);
    client_close(c);
    stop(&server);
}
END_TEST

typedef struct bytes {
    const void *data;
    size_t size;
} bytes;

/* Waits for something, says these bytes, hangs up. */
static void serve_bytes(int fd, void *context)
{
    const bytes *b = context;
    char byte[64];
    if (recv(fd, byte, sizeof byte, 0) > 0)
        write_all(fd, b->data, b->size);
}

/* The caller frees the reply. */
static sem_status reply_against(const void *data, size_t size, client_reply *reply)
{
    peer server;
    client *c;
    bytes b = {data, size};
    start_unix(&server, serve_bytes, &b);
    ck_ok(client_connect(&c, server.address, 5000, &error));
    sem_status status = client_call(c, "m", NULL, 0, 5000, reply, &error);
    client_reply again = {0};
    sem_error later;
    if (status != SEM_OK)
        ck_assert_int_ne(client_call(c, "m", NULL, 0, 5000, &again, &later), SEM_OK);
    client_reply_free(&again);
    client_close(c);
    stop(&server);
    unlink(server.address + 5);
    return status;
}

static sem_status call_against(const void *data, size_t size)
{
    client_reply reply;
    sem_status status = reply_against(data, size, &reply);
    client_reply_free(&reply);
    return status;
}

#define AGAINST(text) call_against(text, sizeof text - 1)

START_TEST(malformed_answers_are_errors)
{
    ck_assert_int_eq(AGAINST("\x94\x01\x01\xc0\xc3"), SEM_OK);
    ck_assert_int_ne(AGAINST("\x94\x01\x02\xc0\xc3"), SEM_OK); /* an id that was never sent */
    ck_assert_int_ne(AGAINST("\x94\x00\x01\xc0\xc3"), SEM_OK); /* a request */
    ck_assert_int_ne(AGAINST("\x93\x01\x01\xc0"), SEM_OK);
    ck_assert_int_ne(AGAINST("\x94\x01\x01\xa1x\xc0"), SEM_OK); /* an error that is no map */
    ck_assert_int_ne(AGAINST("\x94\x01\x01\x80\xc0"), SEM_OK);
    ck_assert_int_ne(AGAINST("\x94\x01\x01\xc0\xc1"), SEM_OK);
    ck_assert_int_ne(AGAINST("HTTP/1.1 400 Bad Request\r\n"), SEM_OK);
    ck_assert_int_ne(AGAINST("\x94\x01\x01\xc0\xdd\xff\xff\xff\xff"), SEM_OK);
    ck_assert_int_ne(AGAINST("\x94\x01\x01\xc0"), SEM_OK); /* hung up in the middle */
    ck_assert_int_ne(AGAINST(""), SEM_OK);
}
END_TEST

START_TEST(last_word_of_a_server_that_hangs_up_is_told)
{
    buffer b = {0};
    packer p;
    sem_error e;
    pack_init(&p, &b);
    sem_fail(&e, SEM_INVALID_ARGUMENT, "frame: larger than 10 bytes");
    reply_error(&p, 0, &e);
    ck_assert_int_eq(call_against(b.data, b.size), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "larger than 10 bytes"));
    buffer_free(&b);
}
END_TEST

/* msgpack-c, which knows no answers, reads the same bytes. */
START_TEST(random_answers_are_what_they_say_or_an_error)
{
    random_state r;
    size_t answers = 0, refused = 0;
    random_seed(&r, testing_seed());
    for (int i = 0; i < 300; i++) {
        unsigned char data[80] = {0x94, 0x01, 0x01, 0xc0};
        for (size_t n = 4; n < sizeof data; n++)
            data[n] = (unsigned char)(random_below(&r, 2) == 0 ? 0x80 + random_below(&r, 0x60) : random_next(&r));
        client_reply reply;
        error.message[0] = '\0';
        sem_status status = reply_against(data, sizeof data, &reply);
        msgpack_unpacked whole;
        size_t used = 0;
        msgpack_unpacked_init(&whole);
        msgpack_unpack_return read = msgpack_unpack_next(&whole, (const char *)data, sizeof data, &used);
        if (status == SEM_OK) {
            ck_assert_int_eq(read, MSGPACK_UNPACK_SUCCESS);
            ck_assert(msgpack_object_equal(reply.value, whole.data.via.array.ptr[3]));
            ck_assert(reply.msgid == 1 && !reply.is_error);
        } else {
            ck_assert_str_ne(error.message, "");
        }
        answers += status == SEM_OK;
        refused += read != MSGPACK_UNPACK_SUCCESS;
        msgpack_unpacked_destroy(&whole);
        client_reply_free(&reply);
    }
    ck_assert_uint_gt(answers, 0);
    ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(bad_addresses_are_refused_with_their_form)
{
    static const char *const bad[] = {"",         "localhost:7700",   "tcp://",      "tcp://localhost", "tcp://:7700",
                                      "tcp://h:", "tcp://h:port",     "tcp://h:77x", "tcp://::1:7700",  "http://h:80",
                                      "unix:",    "tcp://h:123456789"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        client *c;
        ck_fails(client_connect(&c, bad[i], 1000, &error), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_null(c);
    }
    char path[300] = "unix:/";
    memset(path + 6, 'x', 200);
    client *c;
    ck_fails(client_connect(&c, path, 1000, &error), SEM_INVALID_ARGUMENT);
    ck_fails(client_connect(&c, "unix:/nonexistent/socket", 1000, &error), SEM_UNAVAILABLE);
}
END_TEST

START_TEST(objects_are_looked_into_safely)
{
    msgpack_object nil = {.type = MSGPACK_OBJECT_NIL};
    ck_assert_ptr_null(object_get(NULL, "a"));
    ck_assert_ptr_null(object_get(&nil, "a"));
    ck_assert(!object_is(NULL, "a"));
    ck_assert_uint_eq(object_uint(NULL, 3), 3);
    ck_assert_uint_eq(object_uint(&nil, 3), 3);
    ck_assert(object_double(NULL, 0.5) == 0.5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client");
    TCase *c = tcase_create("client");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, notifications_between_answers_are_kept_in_order);
    tcase_add_test(c, notifications_that_nobody_asks_for_are_bounded);
    tcase_add_test(c, a_malformed_notification_ends_the_connection);
    tcase_add_test(c, call_works_over_tcp_and_unix);
    tcase_add_test(c, answers_out_of_order_find_their_requests);
    tcase_add_test(c, answers_to_others_are_kept_while_a_call_waits);
    tcase_add_test(c, pipelining_never_locks_up);
    tcase_add_test(c, error_answer_is_a_success_of_the_call);
    tcase_add_test(c, silent_server_costs_the_time_out_and_no_more);
    tcase_add_test(c, malformed_answers_are_errors);
    tcase_add_test(c, last_word_of_a_server_that_hangs_up_is_told);
    tcase_add_test(c, random_answers_are_what_they_say_or_an_error);
    tcase_add_test(c, bad_addresses_are_refused_with_their_form);
    tcase_add_test(c, objects_are_looked_into_safely);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
