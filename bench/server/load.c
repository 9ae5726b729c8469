/* The load generator of bench-server, the same for every server:
 *
 *   bench_server PEER ADDRESS load   [rows=N] [batch=N] VECTORS.f32
 *   bench_server PEER ADDRESS search [clients=N] [seconds=S] [effort=E] QUERIES.f32 TRUTH.i32
 *   bench_server PEER ADDRESS insert [clients=N] [first=N] [rows=N] [batch=N] VECTORS.f32
 *   bench_server semd ADDRESS text   [seconds=S] [effort=R] TEXTS.jsonl VECTORS.f32 QUERIES.jsonl
 *
 * PEER is semd, redis or postgres. Vectors are float32 [n, 384] of unit length, the
 * truth int32 [n, 10], rows best first. Every client is a thread with a connection
 * that asks the next query when it has the answer to the one before. text.c has what
 * text does. Standard output gets one line of JSON. */
#include "bench/server/load.h"

#include "bench/numbers.h"
#include "bench/server/peer.h"
#include "bench/server/text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 10, CLIENTS_MAX = 256 };

typedef struct load {
    const peer *peer;
    load_options o;
    load_file vectors, truth; /* vectors: the queries of search */
    size_t count;             /* of vectors */
    double until;             /* of the monotonic clock */
    atomic_size_t next;       /* row to insert */
} load;

typedef struct worker {
    load *l;
    size_t number;
    double *took; /* [asked] seconds, owned */
    size_t asked, room, right;
    sem_status status;
    sem_error err;
} worker;

/* --- searching */

static size_t count_right(const uint32_t *ids, size_t found, const int32_t *truth)
{
    size_t right = 0;
    for (size_t i = 0; i < found; i++)
        for (size_t j = 0; j < K; j++)
            right += ids[i] == (uint32_t)truth[j];
    return right;
}

static bool remember(worker *w, double seconds)
{
    if (w->asked == w->room) {
        size_t room = w->room * 2 + 4096;
        double *grown = realloc(w->took, room * sizeof *grown);
        if (grown == NULL)
            return false;
        w->took = grown;
        w->room = room;
    }
    w->took[w->asked++] = seconds;
    return true;
}

static sem_status search_on(worker *w, peer_session *s)
{
    load *l = w->l;
    uint32_t ids[K];
    size_t found;
    sem_status status = l->peer->set_effort(s, l->o.effort, &w->err);
    for (size_t i = w->number * l->count / l->o.clients; status == SEM_OK; i = (i + 1) % l->count) {
        double start = load_now();
        if (start >= l->until)
            break;
        status = l->peer->search(s, (const float *)l->vectors.data + i * LOAD_DIM, K, ids, &found, &w->err);
        if (status == SEM_OK && !remember(w, load_now() - start))
            status = sem_fail_memory(&w->err, "the times");
        if (status == SEM_OK)
            w->right += count_right(ids, found, (const int32_t *)l->truth.data + i * K);
    }
    return status;
}

/* --- inserting */

static sem_status insert_on(worker *w, peer_session *s)
{
    load *l = w->l;
    const size_t end = l->o.first + l->o.rows;
    sem_status status = SEM_OK;
    while (status == SEM_OK) {
        size_t first = atomic_fetch_add(&l->next, l->o.batch);
        if (first >= end)
            break;
        size_t count = end - first < l->o.batch ? end - first : l->o.batch;
        double start = load_now();
        status = l->peer->insert(s, first, (const float *)l->vectors.data + first * LOAD_DIM, count, &w->err);
        if (status == SEM_OK && !remember(w, load_now() - start))
            status = sem_fail_memory(&w->err, "the times");
    }
    return status;
}

/* --- clients */

static void *be_client(void *argument)
{
    worker *w = argument;
    peer_session *s = NULL;
    w->status = w->l->peer->open(&s, w->l->o.address, LOAD_DIM, &w->err);
    if (w->status == SEM_OK)
        w->status = (strcmp(w->l->o.command, "search") == 0 ? search_on : insert_on)(w, s);
    w->l->peer->close(s);
    return NULL;
}

static sem_status report(const load *l, worker *workers, double seconds, sem_error *err)
{
    size_t asked = 0, right = 0;
    for (size_t i = 0; i < l->o.clients; i++) {
        asked += workers[i].asked;
        right += workers[i].right;
    }
    double *all = malloc((asked + 1) * sizeof *all);
    if (all == NULL)
        return sem_fail_memory(err, "the times");
    size_t at = 0;
    for (size_t i = 0; i < l->o.clients; at += workers[i++].asked)
        if (workers[i].asked > 0)
            memcpy(all + at, workers[i].took, workers[i].asked * sizeof *all);
    if (asked == 0) {
        free(all);
        return sem_fail(err, SEM_INTERNAL, "no request was answered in time");
    }
    qsort(all, asked, sizeof *all, load_by_value);
    const bool searching = strcmp(l->o.command, "search") == 0;
    printf("{\"requests\": %zu, \"seconds\": %.3f, \"per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f", asked, seconds,
           (double)(searching ? asked : l->o.rows) / seconds, 1e3 * all[asked / 2], 1e3 * all[asked * 99 / 100]);
    if (searching)
        printf(", \"recall\": %.4f", (double)right / (double)(asked * K));
    printf("}\n");
    free(all);
    return SEM_OK;
}

static sem_status run_clients(load *l, sem_error *err)
{
    pthread_t threads[CLIENTS_MAX];
    worker workers[CLIENTS_MAX] = {0};
    size_t started = 0;
    sem_status status = SEM_OK;
    double start = load_now();
    l->until = start + l->o.seconds;
    atomic_store(&l->next, l->o.first);
    for (; started < l->o.clients; started++) {
        workers[started] = (worker){.l = l, .number = started};
        if (pthread_create(&threads[started], NULL, be_client, &workers[started]) != 0)
            break;
    }
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double seconds = load_now() - start;
    if (started < l->o.clients)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "only %zu of %zu threads", started, l->o.clients);
    for (size_t i = 0; i < started && status == SEM_OK; i++) {
        status = workers[i].status;
        *err = workers[i].err;
    }
    if (status == SEM_OK)
        status = report(l, workers, seconds, err);
    for (size_t i = 0; i < started; i++)
        free(workers[i].took);
    return status;
}

/* --- loading */

static sem_status load_all(load *l, sem_error *err)
{
    peer_session *s = NULL;
    double start = load_now(), inserted;
    sem_status status = l->peer->open(&s, l->o.address, LOAD_DIM, err);
    if (status == SEM_OK)
        status = l->peer->create(s, err);
    for (size_t i = 0; i < l->o.rows && status == SEM_OK; i += l->o.batch) {
        size_t count = l->o.rows - i < l->o.batch ? l->o.rows - i : l->o.batch;
        status = l->peer->insert(s, i, (const float *)l->vectors.data + i * LOAD_DIM, count, err);
    }
    inserted = load_now() - start;
    if (status == SEM_OK)
        status = l->peer->settle(s, l->o.rows, err);
    if (status == SEM_OK)
        printf("{\"rows\": %zu, \"insert_s\": %.2f, \"settle_s\": %.2f}\n", l->o.rows, inserted,
               load_now() - start - inserted);
    l->peer->close(s);
    return status;
}

/* --- the command line */

static bool set_option(load_options *o, const char *argument)
{
    const number_option numbers[] = {{"clients=", &o->clients, 1, CLIENTS_MAX},
                                     {"rows=", &o->rows, 1, UINT32_MAX},
                                     {"first=", &o->first, 0, UINT32_MAX},
                                     {"batch=", &o->batch, 1, 1000}};
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "seconds=", 8) == 0)
        return (o->seconds = strtod(argument + 8, NULL)) > 0;
    if (strncmp(argument, "effort=", 7) == 0)
        return (o->effort = strtod(argument + 7, NULL)) > 0;
    return false;
}

static bool parse(load_options *o, int argc, char **argv)
{
    size_t files = 0;
    if (argc < 5)
        return false;
    o->address = argv[2];
    o->command = argv[3];
    for (int i = 4; i < argc; i++) {
        if (strchr(argv[i], '=') != NULL) {
            if (!set_option(o, argv[i]))
                return false;
        } else if (files == sizeof o->files / sizeof *o->files) {
            return false;
        } else {
            o->files[files++] = argv[i];
        }
    }
    const struct {
        const char *command;
        size_t files;
    } wanted[] = {{"load", 1}, {"search", 2}, {"insert", 1}, {"text", 3}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (strcmp(o->command, wanted[i].command) == 0)
            return files == wanted[i].files && (i < 3 || strcmp(argv[1], "semd") == 0);
    return false;
}

static sem_status run_vectors(load *l, sem_error *err)
{
    sem_status status = load_map(&l->vectors, l->o.files[0], err);
    if (status != SEM_OK)
        return status;
    l->count = l->vectors.size / (LOAD_DIM * sizeof(float));
    if (strcmp(l->o.command, "search") == 0) {
        status = load_map(&l->truth, l->o.files[1], err);
        if (status == SEM_OK && l->truth.size / (K * sizeof(int32_t)) < l->count)
            l->count = l->truth.size / (K * sizeof(int32_t));
        return status == SEM_OK ? run_clients(l, err) : status;
    }
    if (l->o.first + l->o.rows > l->count)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s has %zu rows only", l->o.files[0], l->count);
    return strcmp(l->o.command, "load") == 0 ? load_all(l, err) : run_clients(l, err);
}

int main(int argc, char **argv)
{
    static const peer *const peers[] = {&peer_semd, &peer_redis, &peer_postgres};
    load l = {.o = {.clients = 1, .rows = 1000, .batch = 100, .seconds = 5, .effort = 0.95}};
    sem_error err = {0};
    for (size_t i = 0; argc > 1 && i < sizeof peers / sizeof *peers; i++)
        if (strcmp(argv[1], peers[i]->name) == 0)
            l.peer = peers[i];
    if (l.peer == NULL || !parse(&l.o, argc, argv)) {
        fprintf(stderr, "usage: bench_server PEER ADDRESS COMMAND [option=value]... FILE... (see the file's head)\n");
        return 2;
    }
    sem_status status = strcmp(l.o.command, "text") == 0 ? load_text(&l.o, &err) : run_vectors(&l, &err);
    if (status != SEM_OK)
        fprintf(stderr, "bench_server %s %s: %s\n", l.peer->name, l.o.command, err.message);
    return status == SEM_OK ? 0 : 1;
}
