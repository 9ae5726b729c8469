/* How long a flip within a space takes, by the number of documents:
 *
 *   bench_flip [option=value]... SEMD MODEL
 *
 * Loads documents through the socket, all but 512 with vectors of their own, has the daemon train a
 * query model for them (mode query), and returns to the generation before and back again, `flips` times, as
 * fast as it answers, while searches go on beside it. Prints the time of a flip as the daemon's log has it (from the
 * beginning of its transaction until the pointer is swapped), how long a client waited for its rollback, and the
 * longest that a search took. Options:
 *
 *   documents=200000  dim=384 (of MODEL)  text=40 (bytes a document)  flips=20  limit_ms=100
 *   folder=build/bench-flip
 *
 * The exit status is 1 where a flip took longer than limit_ms, or a search failed. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/files.h"
#include "bench/server/bench_daemon.h"
#include "bench/start_data.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLLECTION "documents"

/* The gate lets nearly everything through: what is measured is the flip. */
static const char *const settings[] = {
    "server.http=",           "finetune.enabled=false", "finetune.watchdog=false",    "finetune.min_pairs=50",
    "finetune.min_heldout=1", "finetune.max_p=1",       "finetune.max_probe_loss=1",  "finetune.own_pairs=0",
    "train.epochs=8",         "train.batch_size=16",    "train.learning_rate=0.0005", "train.dropout=0"};

enum { BATCH = 500, LESSONS = 512, JUDGED = 256, JOBS_MAX = 9, FLIPS_MAX = 1000, LOG_BYTES_MAX = 64 << 20 };

typedef struct bench {
    start_data data;
    size_t text, flips, limit_ms;
    bench_daemon daemon;
} bench;

/* --- documents */

/* The first LESSONS are told apart by three words of eight, and so are the queries for them, by other words. */
static void lesson(size_t n, bool query, char text[128])
{
    static const char *const topics[] = {"refund", "card", "transfer", "account", "exchange", "cash", "limit", "fee"};
    static const char *const names[] = {"music", "dog", "tree", "water", "king", "snow", "bread", "sun"};
    const char *const *words = query ? names : topics;
    snprintf(text, 128, query ? "%s and %s or %s" : "my %s and a %s or %s in the bank", words[n % 8], words[n / 8 % 8],
             words[n / 64 % 8]);
}

static sem_status put(bench *b, size_t from, size_t to, char *text, sem_error *err)
{
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, from < LESSONS ? 2 : 3);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    if (from >= LESSONS) {
        pack_str(&p, "generation");
        pack_uint(&p, 1);
    }
    pack_str(&p, "docs");
    pack_array(&p, to - from);
    for (size_t n = from; n < to; n++) {
        if (n >= LESSONS) {
            start_data_vector(&b->data, n, b->data.vector);
            start_data_text(n, text, b->text);
            caller_pack_document(&p, n, text, b->data.vector, b->data.dim);
            continue;
        }
        lesson(n, false, text);
        pack_map(&p, 2);
        pack_str(&p, "id");
        pack_uint(&p, n);
        pack_str(&p, "text");
        pack_str(&p, text);
    }
    return caller_do(&b->daemon.caller, &p, "upsert", err);
}

static sem_status judge(bench *b, sem_error *err)
{
    char text[128];
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "pairs");
    pack_array(&p, JUDGED);
    for (size_t n = 0; n < JUDGED; n++) {
        lesson(n, true, text);
        pack_map(&p, 3);
        pack_str(&p, "query");
        pack_str(&p, text);
        pack_str(&p, "id");
        pack_uint(&p, n);
        pack_str(&p, "label");
        pack_int(&p, 1);
    }
    return caller_do(&b->daemon.caller, &p, "feedback", err);
}

static sem_status create(bench *b, sem_error *err)
{
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, 2);
    pack_str(&p, "name");
    pack_str(&p, COLLECTION);
    pack_str(&p, "options");
    pack_map(&p, 1);
    pack_str(&p, "lexical");
    pack_bool(&p, false);
    return caller_do(&b->daemon.caller, &p, "collection.create", err);
}

static sem_status load(bench *b, sem_error *err)
{
    const size_t room = b->text < 128 ? 128 : b->text;
    char *text = malloc(room + 1);
    const uint64_t began = clock_monotonic_ns();
    sem_status status = text != NULL ? create(b, err) : sem_fail_memory(err, "a text");
    for (size_t n = 0; status == SEM_OK && n < b->data.documents;) {
        size_t to = n < LESSONS ? LESSONS : n + BATCH;
        to = to < b->data.documents ? to : b->data.documents;
        status = put(b, n, to, text, err);
        n = to;
    }
    free(text);
    if (status == SEM_OK)
        status = judge(b, err);
    uint64_t count = 0;
    if (status == SEM_OK)
        status = caller_settle(&b->daemon.caller, COLLECTION, &count, err);
    if (status == SEM_OK)
        printf("load      %llu documents, at rest after %.1f s\n", (unsigned long long)count,
               (double)(clock_monotonic_ns() - began) / 1e9);
    return status;
}

/* --- the query model */

static sem_status train(bench *b, sem_error *err)
{
    for (int i = 0; i < JOBS_MAX; i++) {
        client_reply reply = {0};
        packer p = caller_begin(&b->daemon.caller);
        pack_map(&p, 2);
        pack_str(&p, "mode");
        pack_str(&p, "query");
        pack_str(&p, "wait");
        pack_bool(&p, true);
        sem_status status = caller_call(&b->daemon.caller, &p, "finetune", &reply, err);
        const bool promoted = status == SEM_OK && object_is(object_get(&reply.value, "decision"), "promoted");
        client_reply_free(&reply);
        if (status != SEM_OK || promoted)
            return status;
    }
    return sem_fail(err, SEM_INTERNAL, "no query model was promoted; see %s", b->daemon.process.log);
}

/* --- searches beside it */

typedef struct searcher {
    const bench *bench;
    pthread_t thread;
    atomic_bool stop;
    size_t count;
    double longest_ms;
    sem_status status;
    sem_error err;
} searcher;

static sem_status search_once(caller *c, size_t n, sem_error *err)
{
    char text[128];
    packer p = caller_begin(c);
    lesson(n % LESSONS, true, text);
    pack_map(&p, 3);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "query");
    pack_str(&p, text);
    pack_str(&p, "log");
    pack_bool(&p, false);
    return caller_do(c, &p, "search", err);
}

static void *searcher_main(void *context)
{
    searcher *s = context;
    caller c = {0};
    s->status = caller_open(&c, s->bench->daemon.process.address, &s->err);
    while (s->status == SEM_OK && !atomic_load(&s->stop)) {
        const uint64_t began = clock_monotonic_ns();
        s->status = search_once(&c, s->count++, &s->err);
        const double ms = (double)(clock_monotonic_ns() - began) / 1e6;
        s->longest_ms = ms > s->longest_ms ? ms : s->longest_ms;
    }
    caller_close(&c);
    return NULL;
}

/* --- flipping */

static int by_size(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void print(const char *what, double *ms, size_t count)
{
    qsort(ms, count, sizeof *ms, by_size);
    printf("%-9s median %.2f ms, longest %.2f ms, of %zu\n", what, ms[count / 2], ms[count - 1], count);
}

/* Of the flips in the daemon's log, the newest FLIPS_MAX; *count: how many. */
static sem_status read_flips(const bench *b, double ms[FLIPS_MAX], size_t *count, sem_error *err)
{
    char *log;
    size_t size;
    *count = 0;
    sem_status status = files_read(b->daemon.process.log, LOG_BYTES_MAX, &log, &size, err);
    if (status != SEM_OK)
        return status;
    for (char *at = log; (at = strstr(at, "event=flip ")) != NULL; at++) {
        const char *took = strstr(at, " ms="), *end = strchr(at, '\n');
        if (took != NULL && end != NULL && took < end)
            ms[(*count)++ % FLIPS_MAX] = strtod(took + 4, NULL);
    }
    free(log);
    *count = *count < FLIPS_MAX ? *count : FLIPS_MAX;
    return *count > 0 ? SEM_OK : sem_fail(err, SEM_INTERNAL, "no flip stands in %s", b->daemon.process.log);
}

static sem_status roll_back(bench *b, uint64_t *before, double *ms, sem_error *err)
{
    client_reply reply = {0};
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, *before != 0);
    if (*before != 0) {
        pack_str(&p, "generation");
        pack_uint(&p, *before);
    }
    const uint64_t began = clock_monotonic_ns();
    sem_status status = caller_call(&b->daemon.caller, &p, "rollback", &reply, err);
    *ms = (double)(clock_monotonic_ns() - began) / 1e6;
    if (status == SEM_OK) /* from the first one, which asks for the previous, on: there and back */
        *before = object_uint(object_get(&reply.value, "generation"), 0) == 1 ? 2 : 1;
    client_reply_free(&reply);
    return status;
}

static sem_status measure(bench *b, bool *kept, sem_error *err)
{
    static double waited[FLIPS_MAX], flips[FLIPS_MAX];
    searcher s = {.bench = b};
    uint64_t before = 0;
    size_t count;
    if (pthread_create(&s.thread, NULL, searcher_main, &s) != 0)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread that searches");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < b->flips && status == SEM_OK; i++)
        status = roll_back(b, &before, &waited[i], err);
    atomic_store(&s.stop, true);
    pthread_join(s.thread, NULL);
    if (status == SEM_OK && s.status != SEM_OK) {
        *err = s.err;
        status = s.status;
    }
    if (status == SEM_OK)
        status = read_flips(b, flips, &count, err);
    if (status != SEM_OK)
        return status;
    print("flip", flips, count);
    print("rollback", waited, b->flips);
    printf("search    longest %.1f ms, of %zu beside it\n", s.longest_ms, s.count);
    *kept = flips[count - 1] <= (double)b->limit_ms;
    printf("limit     %zu ms%s\n", b->limit_ms, *kept ? "" : ": missed");
    return SEM_OK;
}

/* --- all of it */

static sem_status run(bench *b, bool *kept, sem_error *err)
{
    sem_status status = files_remove_folder(b->daemon.folder, err);
    if (status == SEM_OK)
        status = bench_daemon_place(&b->daemon, err);
    if (status == SEM_OK)
        status = start_data_create(&b->data, err);
    if (status == SEM_OK)
        status = bench_daemon_start(&b->daemon, settings, sizeof settings / sizeof *settings, err);
    if (status == SEM_OK)
        status = bench_daemon_connect(&b->daemon, err);
    if (status == SEM_OK)
        status = load(b, err);
    if (status == SEM_OK)
        status = train(b, err);
    return status == SEM_OK ? measure(b, kept, err) : status;
}

int main(int argc, char **argv)
{
    bench b = {.data = {.documents = 200000, .dim = 384, .clusters = 2000},
               .text = 40,
               .flips = 20,
               .limit_ms = 100,
               .daemon = {.folder = "build/bench-flip"}};
    const number_option numbers[] = {{"documents=", &b.data.documents, 2 * LESSONS, 100000000},
                                     {"dim=", &b.data.dim, 16, 4096},
                                     {"text=", &b.text, 1, 10000},
                                     {"flips=", &b.flips, 1, FLIPS_MAX},
                                     {"limit_ms=", &b.limit_ms, 1, 1000000}};
    bool kept = false;
    sem_error err = {0}, ending = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!bench_daemon_arguments(&b.daemon, numbers, sizeof numbers / sizeof *numbers, argc, argv)) {
        fprintf(stderr, "usage: bench_flip [option=value]... SEMD MODEL (options in the file's head)\n");
        return 2;
    }
    sem_status status = run(&b, &kept, &err);
    if (status != SEM_OK)
        fprintf(stderr, "bench_flip: %s\n", err.message);
    (void)bench_daemon_stop(&b.daemon, &ending);
    if (status == SEM_OK && files_remove_folder(b.daemon.folder, &ending) != SEM_OK) /* else its log tells why */
        fprintf(stderr, "bench_flip: %s\n", ending.message);
    start_data_free(&b.data);
    return status == SEM_OK && kept ? 0 : 1;
}
