/* How soon after its start the whole daemon answers:
 *
 *   bench_start [option=value]... SEMD MODEL
 *
 * Loads documents with vectors of their own, texts and meta through the socket, waits until
 * the daemon rests, and ends it. Then, `starts` times, with its files in the page cache: the
 * daemon is started, and asked without pause; seconds from before its exec until the service
 * manager is told that it is ready, until the first right answer, and until answers come
 * from lists. At last a byte in each MiB of the saved lists is changed: every answer must be
 * right while they are made anew, and the next start must find them. Options:
 *
 *   documents=1000000  dim=384  clusters=2000 (points that the vectors lie around)
 *   text=100 (bytes a document)  lexical=1  starts=5  limit_ms=3000  damage=1
 *   folder=build/bench-start  keep=0 (1: what an earlier run with the same numbers has loaded
 *   is used, and stays)
 *
 * Right: every hit has the score of its vector, which is computed here, and over all queries at
 * least 0.94 of the nearest ten are found; in an answer of exact search all are. The exit status is
 * 1 where an answer is wrong or the median start takes longer than limit_ms to its first answer. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/random.h"
#include "bench/server/bench_daemon.h"
#include "bench/start_data.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define COLLECTION "documents"

enum { BATCH = 500, IN_FLIGHT = 4, ANSWER_MS = 600000, STARTS_MAX = 100, MAKING_S = 1800 };

typedef struct bench {
    start_data data;
    size_t text, lexical, starts, limit_ms, damage, keep;
    bench_daemon daemon;
    int notify; /* the service manager's socket */
} bench;

typedef struct took {
    double ready, first, lists; /* seconds */
    double cpu;                 /* of the processor, by all threads, up to the first answer */
} took;

static double since(uint64_t began_ns)
{
    return (double)(clock_monotonic_ns() - began_ns) / 1e9;
}

/* --- the daemon */

static sem_status open_notify(bench *b, sem_error *err)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    int n = snprintf(where.sun_path, sizeof where.sun_path, "%s/notify", b->daemon.folder);
    if (n < 0 || (size_t)n >= sizeof where.sun_path)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "folder=%s is too long a path for a socket in it", b->daemon.folder);
    unlink(where.sun_path);
    b->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (b->notify < 0 || bind(b->notify, (struct sockaddr *)&where, sizeof where) != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot make the socket %s: %m", where.sun_path);
    char *whole = realpath(where.sun_path, NULL);
    sem_status status = whole != NULL && setenv("NOTIFY_SOCKET", whole, 1) == 0
                            ? SEM_OK
                            : sem_fail(err, SEM_INTERNAL, "cannot name the socket %s", where.sun_path);
    free(whole);
    return status;
}

/* Whether READY=1 has come since it was asked last. */
static bool was_ready(const bench *b)
{
    char message[4096];
    bool ready = false;
    for (ssize_t n; (n = recv(b->notify, message, sizeof message, 0)) > 0;)
        ready = ready || (n >= 7 && memcmp(message, "READY=1", 7) == 0);
    return ready;
}

static sem_status start_daemon(bench *b, sem_error *err)
{
    static const char *const settings[] = {"server.http="};
    (void)was_ready(b); /* what an earlier one said */
    return bench_daemon_start(&b->daemon, settings, 1, err);
}

/* Seconds of the processor since its start; below 0 where it has ended. */
static double cpu_seconds(const bench *b)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(b->daemon.process.pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        return -1;
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Returns when it has done next to nothing for a while: lists are trained and saved. */
static sem_status wait_for_rest(const bench *b, sem_error *err)
{
    enum { CALM = 10 };
    const struct timespec pause = {.tv_nsec = 500000000};
    double before = 0;
    for (int calm = 0; calm < CALM; calm++) {
        nanosleep(&pause, NULL);
        double now = cpu_seconds(b);
        if (now < 0)
            return sem_fail(err, SEM_INTERNAL, "semd has ended; see %s", b->daemon.process.log);
        calm = now - before > 0.05 ? -1 : calm;
        before = now;
    }
    return SEM_OK;
}

/* --- loading */

static void pack_document(bench *b, packer *p, size_t n, char *text)
{
    static const char *const kinds[] = {"note", "letter", "page", "message"};
    start_data_vector(&b->data, n, b->data.vector);
    start_data_text(n, text, b->text);
    pack_map(p, 4);
    pack_str(p, "id");
    pack_uint(p, n);
    pack_str(p, "text");
    pack_str(p, text);
    pack_str(p, "meta");
    pack_map(p, 2);
    pack_str(p, "kind");
    pack_str(p, kinds[n % 4]);
    pack_str(p, "year");
    pack_uint(p, 1990 + n % 35);
    pack_str(p, "vector");
    pack_bin(p, b->data.vector, b->data.dim * sizeof(float));
}

static sem_status send_documents(bench *b, size_t from, size_t to, char *text, sem_error *err)
{
    uint32_t id;
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "docs");
    pack_array(&p, to - from);
    for (size_t n = from; n < to; n++)
        pack_document(b, &p, n, text);
    if (p.failed)
        return sem_fail_memory(err, "a request");
    return client_send(b->daemon.caller.client, "upsert", b->daemon.caller.request.data, b->daemon.caller.request.size,
                       &id, err);
}

static sem_status receive(bench *b, sem_error *err)
{
    client_reply reply = {0};
    sem_status status = client_receive(b->daemon.caller.client, ANSWER_MS, &reply, err);
    if (status == SEM_OK)
        status = client_reply_status(&reply, err);
    client_reply_free(&reply);
    return status;
}

static sem_status load(bench *b, sem_error *err)
{
    char *text = malloc(b->text + 1);
    uint64_t began = clock_monotonic_ns();
    size_t in_flight = 0, count = b->data.documents;
    sem_status status = text != NULL ? SEM_OK : sem_fail_memory(err, "a text");
    if (status == SEM_OK)
        status = caller_create(&b->daemon.caller, COLLECTION, b->data.dim, b->lexical != 0, err);
    for (size_t n = 0; status == SEM_OK && n < count; n += BATCH) {
        status = send_documents(b, n, n + BATCH < count ? n + BATCH : count, text, err);
        if (status == SEM_OK && ++in_flight == IN_FLIGHT) {
            status = receive(b, err);
            in_flight--;
        }
    }
    while (status == SEM_OK && in_flight-- > 0)
        status = receive(b, err);
    free(text);
    if (status != SEM_OK)
        return status;
    double loaded = since(began);
    status = wait_for_rest(b, err);
    printf("load      %zu documents in %.1f s, at rest after %.1f s\n", count, loaded, since(began));
    return status;
}

/* --- asking */

/* *lists: whether the answer came from lists. found: grows by how many of the nearest it has. */
static sem_status check_answer(bench *b, size_t query, const msgpack_object *result, bool *lists, size_t *found,
                               sem_error *err)
{
    const msgpack_object *hits = object_get(result, "hits"), *kind = object_get(object_get(result, "plan"), "kind");
    uint32_t ids[START_K];
    float scores[START_K];
    if (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY || hits->via.array.size != START_K)
        return sem_fail(err, SEM_INTERNAL, "query %zu: the answer has no %d hits", query, START_K);
    for (uint32_t i = 0; i < START_K; i++) {
        ids[i] = (uint32_t)object_uint(object_get(&hits->via.array.ptr[i], "id"), UINT32_MAX);
        scores[i] = (float)object_double(object_get(&hits->via.array.ptr[i], "score"), -2);
    }
    *lists = object_is(kind, "ivf");
    size_t right = 0;
    sem_status status = start_data_check(&b->data, query, ids, scores, &right, err);
    *found += right;
    if (status == SEM_OK && !*lists && right != START_K)
        return sem_fail(err, SEM_INTERNAL, "query %zu: exact search found %zu of the %d nearest", query, right,
                        START_K);
    return status;
}

/* SEM_UNAVAILABLE while the daemon is starting. */
static sem_status ask(bench *b, size_t query, bool *lists, size_t *found, sem_error *err)
{
    client_reply reply = {0};
    packer p = caller_begin(&b->daemon.caller);
    pack_map(&p, 4);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "vector");
    pack_bin(&p, b->data.queries + query * b->data.dim, b->data.dim * sizeof(float));
    pack_str(&p, "k");
    pack_uint(&p, START_K);
    pack_str(&p, "log");
    pack_bool(&p, false);
    sem_status status = caller_call(&b->daemon.caller, &p, "explain", &reply, err);
    if (status == SEM_OK)
        status = check_answer(b, query, &reply.value, lists, found, err);
    client_reply_free(&reply);
    return status;
}

/* All queries once. *by_lists: how many were answered from lists. */
static sem_status ask_all(bench *b, size_t *by_lists, sem_error *err)
{
    size_t found = 0, wanted = START_QUERIES * START_K * 94 / 100;
    sem_status status = SEM_OK;
    *by_lists = 0;
    for (size_t i = 0; i < START_QUERIES && status == SEM_OK; i++) {
        bool lists = false;
        status = ask(b, i, &lists, &found, err);
        *by_lists += lists;
    }
    if (status == SEM_OK && found < wanted)
        return sem_fail(err, SEM_INTERNAL, "%zu of the nearest were found instead of %zu at least", found, wanted);
    return status;
}

/* --- starting */

/* Reads what the daemon will map: the page cache is warm. */
static void read_files(const char *folder)
{
    static char content[1 << 20];
    char path[FILES_PATH_MAX];
    DIR *d = opendir(folder);
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || files_join(path, NULL, "%s/%s", folder, e->d_name) != SEM_OK)
            continue;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (e->d_type == DT_DIR)
            read_files(path);
        while (e->d_type == DT_REG && fd >= 0 && read(fd, content, sizeof content) > 0)
            ;
        if (fd >= 0)
            close(fd);
    }
    if (d != NULL)
        closedir(d);
}

/* Asks until lists answer, or at once for the times of damaged ones. */
static sem_status start_once(bench *b, bool damaged, took *t, sem_error *err)
{
    bool lists = false;
    size_t found = 0;
    *t = (took){0};
    uint64_t began = clock_monotonic_ns();
    sem_status status = start_daemon(b, err);
    t->ready = since(began); /* its log says where it listens when it is ready: looked for each 20 ms */
    if (status == SEM_OK && !was_ready(b))
        status = sem_fail(err, SEM_INTERNAL, "the service manager was not told that semd is ready");
    if (status == SEM_OK)
        status = bench_daemon_connect(&b->daemon, err);
    for (size_t i = 0; status == SEM_OK && (i == 0 || (!lists && !damaged)); i++) {
        status = ask(b, i % START_QUERIES, &lists, &found, err);
        if (i == 0) {
            t->first = since(began);
            t->cpu = cpu_seconds(b);
        }
        if (status == SEM_OK && since(began) > MAKING_S)
            status = sem_fail(err, SEM_INTERNAL, "no lists after %d s; see %s", MAKING_S, b->daemon.process.log);
    }
    t->lists = since(began);
    return status;
}

static int by_first(const void *left, const void *right)
{
    double a = ((const took *)left)->first, b = ((const took *)right)->first;
    return (a > b) - (a < b);
}

static sem_status measure(bench *b, bool *kept, sem_error *err)
{
    took all[STARTS_MAX];
    char data[FILES_PATH_MAX];
    sem_status status = files_join(data, err, "%s/data", b->daemon.folder);
    for (size_t i = 0; i < b->starts && status == SEM_OK; i++) {
        size_t by_lists = 0;
        read_files(data);
        status = start_once(b, false, &all[i], err);
        if (status == SEM_OK)
            status = ask_all(b, &by_lists, err);
        if (status == SEM_OK)
            status = bench_daemon_stop(&b->daemon, err);
        if (status == SEM_OK)
            printf("start     ready %.2f s, first answer %.2f s (%.2f s of the processor), from lists %.2f s\n",
                   all[i].ready, all[i].first, all[i].cpu, all[i].lists);
    }
    if (status != SEM_OK)
        return status;
    qsort(all, b->starts, sizeof *all, by_first);
    double median = all[b->starts / 2].first;
    *kept = median * 1e3 <= (double)b->limit_ms;
    printf("median    first answer %.2f s of %.2f s promised%s\n", median, (double)b->limit_ms / 1e3,
           *kept ? "" : ": missed");
    return SEM_OK;
}

/* --- damage */

/* The one file of lists with a vector in it. */
static sem_status find_lists(const bench *b, char path[FILES_PATH_MAX], sem_error *err)
{
    char folder[FILES_PATH_MAX];
    bool found = false;
    sem_status status = files_join(folder, err, "%s/data/cache", b->daemon.folder);
    DIR *d = status == SEM_OK ? opendir(folder) : NULL;
    for (struct dirent *e; d != NULL && status == SEM_OK && !found && (e = readdir(d)) != NULL;) {
        size_t length = strlen(e->d_name);
        found = length > 6 && strcmp(e->d_name + length - 6, ".lists") == 0;
        if (found)
            status = files_join(path, err, "%s/%s", folder, e->d_name);
    }
    if (d != NULL)
        closedir(d);
    return status == SEM_OK && !found ? sem_fail(err, SEM_NOT_FOUND, "%s has no saved lists", folder) : status;
}

static sem_status damage_lists(const bench *b, sem_error *err)
{
    enum { STEP = 1 << 20 };
    char path[FILES_PATH_MAX];
    unsigned char byte;
    size_t changed = 0;
    sem_status status = find_lists(b, path, err);
    if (status != SEM_OK)
        return status;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t bytes = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    bool fine = bytes > 0;
    /* Not in what a start reads: the head and the tables lie in the first tenth. */
    for (off_t at = bytes / 8; fine && at < bytes; at += STEP, changed++) {
        fine = pread(fd, &byte, 1, at) == 1;
        byte ^= 0x10;
        fine = fine && pwrite(fd, &byte, 1, at) == 1;
    }
    if (!fine)
        status = files_fail(err, "damage", path);
    if (fd >= 0)
        close(fd);
    printf("damage    %zu bytes changed in %lld MiB of lists\n", changed, (long long)(bytes >> 20));
    return status;
}

static sem_status check_damage(bench *b, sem_error *err)
{
    took t;
    size_t by_lists = 0, answers = 0;
    sem_status status = damage_lists(b, err);
    uint64_t began = clock_monotonic_ns();
    if (status == SEM_OK)
        status = start_once(b, true, &t, err);
    for (double until = MAKING_S; status == SEM_OK && by_lists < START_QUERIES; answers += START_QUERIES) {
        status = ask_all(b, &by_lists, err);
        if (status == SEM_OK && since(began) > until)
            status = sem_fail(err, SEM_INTERNAL, "lists were not made anew in %d s; see %s", MAKING_S,
                              b->daemon.process.log);
    }
    if (status == SEM_OK) {
        printf("damaged   ready %.2f s, first answer %.2f s, lists anew after %.1f s, all of %zu answers right\n",
               t.ready, t.first, since(began), answers + 1);
        status = wait_for_rest(b, err);
    }
    if (status == SEM_OK)
        status = bench_daemon_stop(&b->daemon, err);
    if (status == SEM_OK)
        status = start_once(b, false, &t, err);
    if (status == SEM_OK)
        printf("healed    ready %.2f s, first answer %.2f s, from lists %.2f s\n", t.ready, t.first, t.lists);
    return status == SEM_OK ? bench_daemon_stop(&b->daemon, err) : status;
}

/* --- all of it */

static sem_status run(bench *b, bool *kept, sem_error *err)
{
    sem_status status = b->keep == 0 ? files_remove_folder(b->daemon.folder, err) : SEM_OK;
    if (status == SEM_OK)
        status = bench_daemon_place(&b->daemon, err);
    if (status == SEM_OK)
        status = start_data_create(&b->data, err);
    if (status == SEM_OK)
        status = open_notify(b, err);
    char data[FILES_PATH_MAX];
    if (status == SEM_OK)
        status = files_join(data, err, "%s/data", b->daemon.folder);
    if (status == SEM_OK && access(data, F_OK) != 0) {
        status = start_daemon(b, err);
        if (status == SEM_OK)
            status = bench_daemon_connect(&b->daemon, err);
        if (status == SEM_OK)
            status = load(b, err);
        if (status == SEM_OK)
            status = bench_daemon_stop(&b->daemon, err);
    }
    if (status == SEM_OK)
        status = measure(b, kept, err);
    return status == SEM_OK && b->damage != 0 ? check_damage(b, err) : status;
}

int main(int argc, char **argv)
{
    bench b = {.data = {.documents = 1000000, .dim = 384, .clusters = 2000},
               .text = 100,
               .lexical = 1,
               .starts = 5,
               .limit_ms = 3000,
               .damage = 1,
               .daemon = {.folder = "build/bench-start"},
               .notify = -1};
    const number_option numbers[] = {{"documents=", &b.data.documents, START_QUERIES, 100000000},
                                     {"dim=", &b.data.dim, 16, 4096},
                                     {"clusters=", &b.data.clusters, 1, 100000},
                                     {"text=", &b.text, 1, 10000},
                                     {"lexical=", &b.lexical, 0, 1},
                                     {"starts=", &b.starts, 1, STARTS_MAX},
                                     {"limit_ms=", &b.limit_ms, 1, 1000000},
                                     {"damage=", &b.damage, 0, 1},
                                     {"keep=", &b.keep, 0, 1}};
    bool kept = false;
    sem_error err = {0}, ending = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!bench_daemon_arguments(&b.daemon, numbers, sizeof numbers / sizeof *numbers, argc, argv)) {
        fprintf(stderr, "usage: bench_start [option=value]... SEMD MODEL (options in the file's head)\n");
        return 2;
    }
    sem_status status = run(&b, &kept, &err);
    if (status != SEM_OK)
        fprintf(stderr, "bench_start: %s\n", err.message);
    (void)bench_daemon_stop(&b.daemon, &ending);
    if (b.notify >= 0)
        close(b.notify);
    if (b.keep == 0 && files_remove_folder(b.daemon.folder, &ending) != SEM_OK)
        fprintf(stderr, "bench_start: %s\n", ending.message);
    start_data_free(&b.data);
    return status == SEM_OK && kept ? 0 : 1;
}
