#include "tools/demo/traffic.h"

#include "base/clock.h"
#include "tools/demo/rpc.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PERIOD_NS = 1000 * 1000 * 1000 / TRAFFIC_PER_SECOND,
    SEARCHES_MAX = 20 * 60 * TRAFFIC_PER_SECOND, /* twenty minutes: the demonstration ends sooner */
    LAST_ANSWERS_MS = 10 * 1000
};

typedef struct search {
    uint64_t due_ns;
    uint32_t msgid;
    traffic_phase phase;
    bool answered, failed;
    double ms;
} search;

struct traffic {
    pthread_t thread;
    client *connection;
    const corpus *corpus;
    atomic_bool stop;
    atomic_uint phase;
    /* The thread's own until it has ended: */
    search *searches;
    size_t sent, waiting_from; /* all before waiting_from are answered */
    uint64_t first_generation;
    size_t old_answers, new_answers;
    char first_failure[SEM_ERROR_MESSAGE_MAX];
};

static const char *query_of(const traffic *t, size_t number)
{
    size_t first = CORPUS_HELDOUT + CORPUS_CLICKED, filler = CORPUS_DOCUMENTS - first;
    const corpus_package *p = &t->corpus->packages[first + number / 2 % filler];
    return number % 2 == 0 ? p->english : p->italian;
}

static void note_failure(traffic *t, const char *text)
{
    if (t->first_failure[0] == '\0')
        snprintf(t->first_failure, sizeof t->first_failure, "%s", text);
}

static void take_answer(traffic *t, client_reply *reply)
{
    search *s = NULL;
    for (size_t i = t->waiting_from; i < t->sent && s == NULL; i++)
        if (!t->searches[i].answered && t->searches[i].msgid == reply->msgid)
            s = &t->searches[i];
    if (s == NULL)
        return;
    s->answered = true;
    s->ms = (double)(clock_monotonic_ns() - s->due_ns) / 1e6;
    const msgpack_object *hits = reply->is_error ? NULL : object_get(&reply->value, "hits");
    s->failed = hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY || hits->via.array.size == 0;
    if (s->failed)
        note_failure(t, reply->is_error ? reply->code : "no hits");
    const msgpack_object *generation = reply->is_error ? NULL : object_get(&reply->value, "generation");
    if (generation != NULL) {
        uint64_t number = object_uint(generation, 0);
        if (t->first_generation == 0)
            t->first_generation = number;
        *(number == t->first_generation ? &t->old_answers : &t->new_answers) += 1;
    }
    while (t->waiting_from < t->sent && t->searches[t->waiting_from].answered)
        t->waiting_from++;
}

/* Takes answers until the time given; false if the connection is gone. */
static bool take_answers(traffic *t, uint64_t until_ns)
{
    for (;;) {
        uint64_t now = clock_monotonic_ns();
        if (now >= until_ns)
            return true;
        int left_ms = (int)((until_ns - now + 999999) / 1000000);
        client_reply reply;
        sem_error error = {0};
        sem_status status = client_receive(t->connection, left_ms, &reply, &error);
        if (status == SEM_DEADLINE_EXCEEDED)
            continue;
        if (status != SEM_OK) {
            note_failure(t, error.message);
            return false;
        }
        take_answer(t, &reply);
        client_reply_free(&reply);
    }
}

static bool send_one(traffic *t, buffer *params, uint64_t due_ns)
{
    sem_error error = {0};
    search *s = &t->searches[t->sent];
    *s = (search){.due_ns = due_ns, .phase = (traffic_phase)atomic_load(&t->phase)};
    bool sent = rpc_pack_search(params, query_of(t, t->sent), false, false, false, &error) == SEM_OK &&
                client_send(t->connection, "search", params->data, params->size, &s->msgid, &error) == SEM_OK;
    t->sent++;
    if (!sent)
        note_failure(t, error.message);
    return sent;
}

static void *run(void *context)
{
    traffic *t = context;
    buffer params = {0};
    uint64_t due = clock_monotonic_ns();
    bool alive = true;
    while (alive && !atomic_load(&t->stop) && t->sent < SEARCHES_MAX) {
        alive = send_one(t, &params, due);
        due += PERIOD_NS;
        alive = alive && take_answers(t, due);
    }
    uint64_t end = clock_monotonic_ns() + (uint64_t)LAST_ANSWERS_MS * 1000000;
    while (alive && t->waiting_from < t->sent && clock_monotonic_ns() < end)
        alive = take_answers(t, clock_monotonic_ns() + PERIOD_NS / 10);
    buffer_free(&params);
    return NULL;
}

sem_status traffic_start(traffic **out, const char *address, const corpus *c, sem_error *err)
{
    traffic *t = calloc(1, sizeof *t);
    search *searches = calloc(SEARCHES_MAX, sizeof *searches);
    if (t == NULL || searches == NULL) {
        free(t);
        free(searches);
        return sem_fail_memory(err, "the searches");
    }
    t->searches = searches;
    t->corpus = c;
    sem_status status = client_connect(&t->connection, address, RPC_TIMEOUT_MS, err);
    if (status == SEM_OK && pthread_create(&t->thread, NULL, run, t) != 0)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread");
    if (status != SEM_OK) {
        client_close(t->connection);
        free(searches);
        free(t);
        return status;
    }
    *out = t;
    return SEM_OK;
}

void traffic_set_phase(traffic *t, traffic_phase phase)
{
    atomic_store(&t->phase, (unsigned)phase);
}

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The smallest value that at least `share` of the values do not exceed. */
static double quantile(const double *sorted, size_t count, double share)
{
    if (count == 0)
        return 0.0;
    size_t rank = (size_t)ceil(share * (double)count);
    return sorted[rank == 0 ? 0 : rank - 1];
}

static void report_phase(const traffic *t, traffic_phase phase, traffic_report *report)
{
    double *times = malloc((t->sent + 1) * sizeof *times);
    size_t count = 0;
    for (size_t i = 0; i < t->sent; i++) {
        const search *s = &t->searches[i];
        if (s->phase != phase)
            continue;
        report->sent[phase]++;
        report->failed[phase] += !s->answered || s->failed;
        if (s->answered && times != NULL)
            times[count++] = s->ms;
    }
    if (times != NULL)
        qsort(times, count, sizeof *times, by_size);
    report->p50_ms[phase] = times == NULL ? 0 : quantile(times, count, 0.50);
    report->p99_ms[phase] = times == NULL ? 0 : quantile(times, count, 0.99);
    free(times);
}

void traffic_stop(traffic *t, traffic_report *report)
{
    memset(report, 0, sizeof *report);
    if (t == NULL)
        return;
    atomic_store(&t->stop, true);
    pthread_join(t->thread, NULL);
    for (int phase = 0; phase < TRAFFIC_PHASES; phase++)
        report_phase(t, (traffic_phase)phase, report);
    report->old_answers = t->old_answers;
    report->new_answers = t->new_answers;
    memcpy(report->first_failure, t->first_failure, sizeof report->first_failure);
    client_close(t->connection);
    free(t->searches);
    free(t);
}
