/* A server for semctl's commands: every request is parsed as semd does
 * (proto/request.c) and answered from a script. */
#ifndef SEM_TESTS_TOOLS_FAKE_SERVER_H
#define SEM_TESTS_TOOLS_FAKE_SERVER_H

#include "tests/common/testing.h"

#include "base/files.h"
#include "proto/frame.h"
#include "proto/request.h"
#include "tools/semctl.h"
#include "tools/semctl_options.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static sem_error error;

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

static inline void answer_upsert(fake *f, const request *r, packer *p)
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
static inline void answer_scroll(fake *f, const request *r, packer *p)
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

/* The answer, and two notifications behind it. */
static inline void answer_watch(fake *f, const request *r, packer *p)
{
    f->with = r->u.watch.topics;
    reply_begin(p, r->msgid);
    pack_map(p, 1);
    pack_str(p, "watching");
    pack_array(p, 0);
    notification_begin(p, "job");
    pack_array(p, 1);
    pack_map(p, 4);
    pack_str(p, "job");
    pack_uint(p, 4);
    pack_str(p, "state");
    pack_str(p, "running");
    pack_str(p, "phase");
    pack_str(p, "training");
    pack_str(p, "decision");
    pack_nil(p);
    notification_begin(p, "generation");
    pack_array(p, 1);
    pack_map(p, 2);
    pack_str(p, "generation");
    pack_uint(p, 3);
    pack_str(p, "reason");
    pack_str(p, "finetune");
}

/* Two pages of an event. */
static inline void answer_events(fake *f, const request *r, packer *p)
{
    bool second = r->u.events.after.data != NULL;
    f->pages++;
    f->with = r->u.events.kinds;
    reply_begin(p, r->msgid);
    pack_map(p, 2);
    pack_str(p, "events");
    pack_array(p, 1);
    pack_map(p, 1);
    pack_str(p, "seq");
    pack_uint(p, second ? 2 : 1);
    pack_str(p, "next");
    if (second)
        pack_nil(p);
    else
        pack_str(p, "1");
}

static inline void answer_search(fake *f, const request *r, packer *p)
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

static inline void pack_pair(packer *p, const char *key, const char *text, uint64_t number)
{
    pack_str(p, key);
    if (text != NULL)
        pack_str(p, text);
    else
        pack_uint(p, number);
}

static inline void answer_explain(const request *r, packer *p)
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

static inline void pack_heldout(packer *p, double mrr)
{
    pack_str(p, "heldout");
    pack_map(p, 2);
    pack_str(p, "queries");
    pack_uint(p, 500);
    pack_str(p, "mrr");
    pack_double(p, mrr);
}

static inline void pack_metrics(packer *p, double mrr)
{
    pack_map(p, 3);
    pack_heldout(p, mrr);
    pack_str(p, "collections");
    pack_map(p, 1);
    pack_str(p, "notes");
    pack_map(p, 1);
    pack_heldout(p, mrr);
    pack_str(p, "p_value");
    pack_double(p, 0.001);
}

/* Running at the first look, done at the second. */
static inline void answer_job(fake *f, const request *r, packer *p)
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
static inline void answer_generations(const request *r, packer *p)
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
static inline void answer_collections(const request *r, packer *p)
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

static inline void answer_info(const request *r, packer *p)
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

/* 0.5 for requests of many queries, 0 for those of one. */
static inline void answer_evaluate(const request *r, packer *p)
{
    static const char *const names[] = {"ndcg", "mrr", "recall", "map"};
    bool full = r->u.evaluate.count > 1;
    reply_begin(p, r->msgid);
    pack_map(p, 6);
    pack_str(p, "generation");
    pack_uint(p, 3);
    pack_str(p, "queries");
    pack_uint(p, r->u.evaluate.count);
    for (size_t i = 0; i < 4; i++) {
        pack_str(p, names[i]);
        pack_double(p, full ? 0.5 : 0.0);
    }
}

static inline void answer(fake *f, const request *r, packer *p)
{
    f->last = r->method;
    switch (r->method) {
    case METHOD_UPSERT:
        f->saw_generation = r->u.upsert.has_generation;
        answer_upsert(f, r, p);
        return;
    case METHOD_EVENTS: answer_events(f, r, p); return;
    case METHOD_WATCH: answer_watch(f, r, p); return;
    case METHOD_EVENTS_ERASE:
        reply_begin(p, r->msgid);
        pack_map(p, 1);
        pack_str(p, "erased");
        pack_uint(p, r->u.events_erase.has_id ? 1 : 1200);
        return;
    case METHOD_SCROLL: answer_scroll(f, r, p); return;
    case METHOD_SEARCH: answer_search(f, r, p); return;
    case METHOD_EXPLAIN: answer_explain(r, p); return;
    case METHOD_EVALUATE: answer_evaluate(r, p); return;
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

static inline void serve_frame(fake *f, int fd, const unsigned char *data, size_t length)
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
    if (request_parse(&r, &(buffer){.data = frame, .size = length}, &limits, &msgid, &notification, &e) != SEM_OK) {
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

static inline void *serve(void *context)
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

static inline void start(fake *f)
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

/* What the command printed. */
static char output[65536];

/* Runs one command line against a new fake. */
static inline sem_status run_words(fake *f, bool json, char **words, int count, bool *usage)
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

static inline void write_file(const char *name, const char *text, char path[FILES_PATH_MAX])
{
    snprintf(path, FILES_PATH_MAX, "%s/%s", testing_folder(), name);
    ck_ok(files_write(path, text, strlen(text), &error));
}

#endif
