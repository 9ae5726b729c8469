/* What the daemon costs beside its encoder:
 *
 *   bench_socket [option=value]... SEMD MODEL TEXTS.jsonl
 *
 * TEXTS.jsonl holds a JSON object with a "text" a line. In turn, `rounds` times: all
 * texts encoded in this process, sorted by length in batches; then by a daemon that
 * it starts (the program SEMD) and `clients` connections with one text in flight
 * each. Then one text at a time, in this process (by a crew of as many threads, which
 * sleep between two texts as the daemon's workers do) and through one connection. Options:
 * precision (float32, bfloat16, int8, auto), threads, texts (at most), clients, rounds.
 * Standard output gets one line of JSON with the best round of each and the medians of
 * single texts; cpu_ratio compares processor time and one_cost_p10_ms the tenths that
 * were quickest, which other load disturbs less. */
#include "base/buffer.h"
#include "base/files.h"
#include "base/process.h"
#include "model/model.h"
#include "proto/pack.h"
#include "bench/helpers.h"
#include "bench/numbers.h"
#include "bench/texts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH_TOKENS = 1024, THREADS_MAX = 64, CLIENTS_MAX = 4096, ROUNDS_MAX = 100, ANSWER_MAX = 64 << 10, BLOCK = 50 };

typedef struct bench {
    model *m;
    char **texts;     /* [count], owned */
    uint32_t *tokens; /* [count] */
    size_t *order;    /* [count] by length */
    buffer *frames;   /* [count] an encode request each */
    size_t count, all_tokens;
    size_t threads, clients, rounds, most;
    const char *precision, *semd, *dir, *path;
    process daemon;
    bool running;
    char folder[64];
    pthread_mutex_t lock;
    size_t next; /* guarded by lock: the next text in order */
    bool failed; /* the same */
    helpers helpers;
} bench;

static double seconds(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static bool complain(const char *what)
{
    fprintf(stderr, "bench_socket: %s\n", what);
    return false;
}

/* --- the texts */

static int by_length(const void *left, const void *right, void *context)
{
    const bench *b = context;
    size_t i = *(const size_t *)left, j = *(const size_t *)right;
    uint32_t x = b->tokens[i], y = b->tokens[j];
    return x != y ? (x > y) - (x < y) : (i > j) - (i < j);
}

static bool make_frame(buffer *frame, const char *text)
{
    packer p;
    pack_init(&p, frame);
    request_begin(&p, 1, "encode");
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "texts");
    pack_array(&p, 1);
    pack_str(&p, text);
    return !p.failed;
}

static bool add_text(void *context, const char *text, size_t length)
{
    bench *b = context;
    token_batch batch = {0};
    sem_error err;
    size_t i = b->count;
    b->texts[i] = strdup(text);
    bool fine = b->texts[i] != NULL && strlen(text) == length && make_frame(&b->frames[i], text) &&
                model_tokenize(b->m, "", text, length, &batch, NULL, &err) == SEM_OK;
    b->tokens[i] = (uint32_t)batch.tokens;
    b->all_tokens += batch.tokens;
    b->order[i] = i;
    b->count++;
    token_batch_free(&batch);
    return fine;
}

static bool read_texts(bench *b)
{
    b->texts = calloc(b->most, sizeof *b->texts);
    b->tokens = calloc(b->most, sizeof *b->tokens);
    b->order = calloc(b->most, sizeof *b->order);
    b->frames = calloc(b->most, sizeof *b->frames);
    if (b->texts == NULL || b->tokens == NULL || b->order == NULL || b->frames == NULL ||
        !texts_read(b->path, b->most, add_text, b))
        return complain("cannot read the texts");
    qsort_r(b->order, b->count, sizeof *b->order, by_length, b);
    return true;
}

/* --- in this process */

/* Texts of one thread's next batch, from *from to *to in order. */
static bool take(bench *b, size_t *from, size_t *to)
{
    size_t tokens = 0;
    pthread_mutex_lock(&b->lock);
    *from = b->next;
    while (b->next < b->count && (b->next == *from || tokens + b->tokens[b->order[b->next]] <= BATCH_TOKENS))
        tokens += b->tokens[b->order[b->next++]];
    *to = b->next;
    pthread_mutex_unlock(&b->lock);
    return *to > *from;
}

static bool encode_some(const bench *b, encoder_scratch *s, token_batch *batch, float *out, const size_t *which,
                        size_t count)
{
    sem_error err;
    bool fine = true;
    token_batch_clear(batch);
    for (size_t i = 0; i < count && fine; i++) {
        const char *text = b->texts[which[i]];
        fine = model_tokenize(b->m, "", text, strlen(text), batch, NULL, &err) == SEM_OK;
    }
    return fine &&
           encoder_forward(model_get_encoder(b->m), s, batch->ids, batch->lengths, batch->texts, out, &err) == SEM_OK;
}

static void *work(void *argument)
{
    bench *b = argument;
    token_batch batch = {0};
    encoder_scratch *s = NULL;
    sem_error err;
    float *out = malloc(BATCH_TOKENS * model_get_config(b->m)->dim * sizeof *out);
    bool fine = out != NULL && encoder_scratch_create(&s, model_get_encoder(b->m), BATCH_TOKENS, &err) == SEM_OK;
    for (size_t from, to; fine && take(b, &from, &to);)
        fine = encode_some(b, s, &batch, out, b->order + from, to - from);
    if (!fine) {
        pthread_mutex_lock(&b->lock);
        b->failed = true;
        pthread_mutex_unlock(&b->lock);
    }
    encoder_scratch_destroy(s);
    token_batch_free(&batch);
    free(out);
    return NULL;
}

/* One round; seconds of wall and processor time. */
static bool run_inside(bench *b, double *wall, double *cpu)
{
    pthread_t threads[THREADS_MAX];
    size_t started = 0;
    double from = seconds(CLOCK_MONOTONIC), cpu_from = seconds(CLOCK_PROCESS_CPUTIME_ID);
    b->next = 0;
    while (started < b->threads && pthread_create(&threads[started], NULL, work, b) == 0)
        started++;
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    *wall = seconds(CLOCK_MONOTONIC) - from;
    *cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
    return started == b->threads && !b->failed;
}

/* --- through the daemon */

static bool start_daemon(bench *b)
{
    char storage[128], model_path[4096], precision[64], workers[64], log[128];
    sem_error err;
    snprintf(b->folder, sizeof b->folder, "/tmp/bench_socket.XXXXXX");
    if (mkdtemp(b->folder) == NULL)
        return complain("cannot make a temporary folder");
    snprintf(storage, sizeof storage, "storage.path=%s/data", b->folder);
    snprintf(log, sizeof log, "%s/log", b->folder);
    snprintf(model_path, sizeof model_path, "model.path=%s", b->dir);
    snprintf(precision, sizeof precision, "model.precision=%s", b->precision);
    snprintf(workers, sizeof workers, "encode.workers=%zu", b->threads);
    char *argv[] = {(char *)(uintptr_t)b->semd,
                    (char *)"-o",
                    (char *)"server.listen=tcp://127.0.0.1:0",
                    (char *)"-o",
                    (char *)"server.http=",
                    (char *)"-o",
                    storage,
                    (char *)"-o",
                    model_path,
                    (char *)"-o",
                    precision,
                    (char *)"-o",
                    workers,
                    (char *)"-o",
                    (char *)"encode.cache_bytes=0",
                    (char *)"-o",
                    (char *)"finetune.enabled=false",
                    NULL};
    if (process_start(&b->daemon, argv, log, false, NULL, &err) != SEM_OK)
        return complain(err.message);
    b->running = true;
    return true;
}

static void stop_daemon(bench *b)
{
    sem_error err;
    if (b->running)
        process_stop(&b->daemon);
    if (b->folder[0] != '\0' && files_remove_folder(b->folder, &err) != SEM_OK)
        complain(err.message);
}

static int open_connection(const bench *b)
{
    int on = 1;
    const char *colon = strrchr(b->daemon.address, ':');
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    where.sin_port = htons((uint16_t)strtoul(colon != NULL ? colon + 1 : "0", NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&where, sizeof where) != 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

typedef struct connection {
    int fd;
    size_t got;
    unsigned char answer[ANSWER_MAX];
} connection;

static bool ask(const bench *b, connection *c, size_t text)
{
    c->got = 0;
    return send(c->fd, b->frames[text].data, b->frames[text].size, MSG_NOSIGNAL) == (ssize_t)b->frames[text].size;
}

/* One text was asked for, so that its answer ends with whether it was cut. */
static bool is_whole(const connection *c)
{
    static const unsigned char end[] = "\xa9truncated\x91";
    const size_t length = sizeof end - 1;
    return c->got > length + 1 && memcmp(c->answer + c->got - 1 - length, end, length) == 0;
}

/* Reads what is there. False when the connection or the answer is broken. */
static bool listen_to(connection *c, bool *whole)
{
    ssize_t n = recv(c->fd, c->answer + c->got, ANSWER_MAX - c->got, 0);
    if (n <= 0)
        return complain("the daemon closed a connection");
    c->got += (size_t)n;
    if (c->got >= 4 && c->answer[3] != 0xC0)
        return complain("the daemon answered with an error");
    *whole = is_whole(c);
    return true;
}

static bool answer_all(bench *b, connection *all, int poll)
{
    struct epoll_event ready[256];
    size_t asked = 0, answered = 0;
    for (size_t i = 0; i < b->clients && asked < b->count; i++)
        if (!ask(b, &all[i], asked++))
            return complain("cannot send");
    while (answered < b->count) {
        int n = epoll_wait(poll, ready, 256, 10000);
        if (n == 0 || (n < 0 && errno != EINTR))
            return complain("no answer for ten seconds");
        for (int i = 0; i < n; i++) {
            connection *c = ready[i].data.ptr;
            bool whole = false;
            if (!listen_to(c, &whole))
                return false;
            answered += whole;
            if (whole && asked < b->count && !ask(b, c, asked++))
                return complain("cannot send");
        }
    }
    return true;
}

static bool run_outside(bench *b, double *wall, double *cpu)
{
    clockid_t daemon_clock;
    connection *all = calloc(b->clients, sizeof *all);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    bool fine = all != NULL && poll >= 0 && clock_getcpuclockid(b->daemon.pid, &daemon_clock) == 0;
    for (size_t i = 0; fine && i < b->clients; i++) {
        all[i].fd = open_connection(b);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        fine = all[i].fd >= 0 && epoll_ctl(poll, EPOLL_CTL_ADD, all[i].fd, &event) == 0;
    }
    if (fine) {
        double from = seconds(CLOCK_MONOTONIC), cpu_from = seconds(CLOCK_PROCESS_CPUTIME_ID) + seconds(daemon_clock);
        fine = answer_all(b, all, poll);
        *wall = seconds(CLOCK_MONOTONIC) - from;
        *cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) + seconds(daemon_clock) - cpu_from;
    } else {
        complain("cannot connect");
    }
    for (size_t i = 0; all != NULL && i < b->clients; i++)
        if (all[i].fd > 0)
            close(all[i].fd);
    close(poll);
    free(all);
    return fine;
}

/* --- one text at a time */

/* One text as a worker of the daemon encodes a lone query. */
static bool encode_one(bench *b, encoder_scratch *s, token_batch *batch, float *out, size_t text)
{
    sem_error err;
    token_batch_clear(batch);
    if (model_tokenize(b->m, "", b->texts[text], strlen(b->texts[text]), batch, NULL, &err) != SEM_OK)
        return false;
    return helpers_forward(&b->helpers, model_get_encoder(b->m), s, batch->ids, batch->lengths, batch->texts, out,
                           &err) == SEM_OK;
}

static bool time_inside(bench *b, encoder_scratch *s, token_batch *batch, float *out, size_t from, size_t to,
                        double *took)
{
    for (size_t i = from; i < to; i++) {
        double start = seconds(CLOCK_MONOTONIC);
        if (!encode_one(b, s, batch, out, i))
            return complain("cannot encode");
        took[i] = seconds(CLOCK_MONOTONIC) - start;
    }
    return true;
}

static bool time_outside(const bench *b, connection *c, size_t from, size_t to, double *took)
{
    for (size_t i = from; i < to; i++) {
        bool whole = false;
        double start = seconds(CLOCK_MONOTONIC);
        if (!ask(b, c, i))
            return complain("cannot send");
        while (!whole)
            if (!listen_to(c, &whole))
                return false;
        took[i] = seconds(CLOCK_MONOTONIC) - start;
    }
    return true;
}

/* In blocks, in turn: what else the machine does meets both. The times are of the
 * same texts, so that the difference of the medians is the cost of the way. */
static bool run_single(bench *b, double p50[2], double p10[2])
{
    token_batch batch = {0};
    encoder_scratch *s = NULL;
    sem_error err;
    size_t count = b->count < 1000 ? b->count : 1000;
    double *in = calloc(b->count, sizeof *in), *out_times = calloc(b->count, sizeof *out_times);
    float *out = malloc(model_get_config(b->m)->dim * sizeof *out);
    connection *c = calloc(1, sizeof *c);
    bool fine = in != NULL && out_times != NULL && out != NULL && c != NULL && (c->fd = open_connection(b)) >= 0 &&
                encoder_scratch_create(&s, model_get_encoder(b->m), BATCH_TOKENS, &err) == SEM_OK;
    for (size_t i = 0; fine && i < count; i += BLOCK) {
        size_t to = i + BLOCK < count ? i + BLOCK : count;
        fine = time_inside(b, s, &batch, out, i, to, in) && time_outside(b, c, i, to, out_times);
    }
    if (fine) {
        qsort(in, count, sizeof *in, by_value);
        qsort(out_times, count, sizeof *out_times, by_value);
        p50[0] = in[count / 2];
        p50[1] = out_times[count / 2];
        p10[0] = in[count / 10];
        p10[1] = out_times[count / 10];
    }
    if (c != NULL && c->fd > 0)
        close(c->fd);
    encoder_scratch_destroy(s);
    token_batch_free(&batch);
    free(c);
    free(out);
    free(in);
    free(out_times);
    return fine;
}

/* The same with the threads that help. */
static bool run_single_crew(bench *b, double p50[2], double p10[2])
{
    sem_error err;
    if (helpers_start(&b->helpers, b->threads, &err) != SEM_OK)
        return complain(err.message);
    bool fine = run_single(b, p50, p10);
    helpers_stop(&b->helpers);
    return fine;
}

/* --- all of it */

static double least(double a, double b)
{
    return a < b ? a : b;
}

static bool measure(bench *b)
{
    double wall[2] = {1e9, 1e9}, cpu[2] = {1e9, 1e9}, p50[2], p10[2];
    for (size_t i = 0; i < b->rounds; i++) {
        double w[2], c[2];
        if (!run_inside(b, &w[0], &c[0]) || !run_outside(b, &w[1], &c[1]))
            return false;
        for (int k = 0; k < 2; k++) {
            wall[k] = least(wall[k], w[k]);
            cpu[k] = least(cpu[k], c[k]);
        }
    }
    if (!run_single_crew(b, p50, p10))
        return false;
    double n = (double)b->count, t = (double)b->all_tokens;
    printf("{\"precision\": \"%s\", \"threads\": %zu, \"clients\": %zu, \"texts\": %zu, \"tokens\": %zu, "
           "\"inside_texts_per_s\": %.0f, \"inside_tokens_per_s\": %.0f, \"socket_texts_per_s\": %.0f, "
           "\"socket_tokens_per_s\": %.0f, \"ratio\": %.3f, \"cpu_ratio\": %.3f, \"one_inside_p50_ms\": %.3f, "
           "\"one_socket_p50_ms\": %.3f, \"one_cost_ms\": %.3f, \"one_cost_p10_ms\": %.3f}\n",
           model_precision(b->m), b->threads, b->clients, b->count, b->all_tokens, n / wall[0], t / wall[0],
           n / wall[1], t / wall[1], wall[0] / wall[1], cpu[0] / cpu[1], 1e3 * p50[0], 1e3 * p50[1],
           1e3 * (p50[1] - p50[0]), 1e3 * (p10[1] - p10[0]));
    return true;
}

static bool set_option(bench *b, const char *argument)
{
    const number_option numbers[] = {{"threads=", &b->threads, 1, THREADS_MAX},
                                     {"texts=", &b->most, 1, 10000000},
                                     {"clients=", &b->clients, 1, CLIENTS_MAX},
                                     {"rounds=", &b->rounds, 1, ROUNDS_MAX}};
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "precision=", 10) != 0)
        return false;
    b->precision = argument + 10;
    return true;
}

static void destroy(bench *b)
{
    stop_daemon(b);
    for (size_t i = 0; i < b->count; i++) {
        free(b->texts[i]);
        buffer_free(&b->frames[i]);
    }
    free(b->texts);
    free(b->frames);
    free(b->tokens);
    free(b->order);
    model_close(b->m);
}

int main(int argc, char **argv)
{
    bench b = {.most = 2000, .threads = 2, .clients = 64, .rounds = 5, .precision = "auto"};
    const char **paths[] = {&b.semd, &b.dir, &b.path};
    size_t found = 0;
    sem_error err = {0};
    pthread_mutex_init(&b.lock, NULL);
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 3)
            *paths[found++] = argv[i];
        else if (!set_option(&b, argv[i]))
            found = 4;
    }
    if (found != 3) {
        fprintf(stderr, "usage: bench_socket [option=value]... SEMD MODEL TEXTS.jsonl (options in the file's head)\n");
        return 2;
    }
    bool fine = model_open(&b.m, b.dir, NULL, NULL, &err) == SEM_OK &&
                model_set_precision(b.m, b.precision, 0.999, NULL, &err) == SEM_OK;
    if (!fine)
        complain(err.message);
    fine = fine && read_texts(&b) && start_daemon(&b) && measure(&b);
    destroy(&b);
    return fine ? 0 : 1;
}
