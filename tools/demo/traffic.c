#include "tools/demo/traffic.h"

#include "base/checked.h"
#include "base/clock.h"
#include "tools/demo/rpc.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST_ANSWERS_MS = 10 * 1000, LAST_POLL_MS = 5, FLIP_MS = 500 };

typedef struct search {
    uint64_t due_ns;
    uint32_t msgid;
    uint32_t phase;
    bool answered, failed;
    double ms;
} search;

struct traffic {
    pthread_t thread;
    client *connection;
    traffic_options options;
    atomic_bool stop, over;
    atomic_size_t phase, sent; /* sent is changed by the thread alone */
    /* The thread's own until it has ended: */
    search *searches;    /* [options.most] */
    size_t waiting_from; /* all before it are answered */
    uint64_t first_generation, flip_ns;
    size_t old_answers, new_answers;
    char first_failure[SEM_ERROR_MESSAGE_MAX];
};

static void note_failure(traffic *t, const char *text)
{
    if (t->first_failure[0] == '\0')
        snprintf(t->first_failure, sizeof t->first_failure, "%s", text);
}

static void note_generation(traffic *t, uint64_t number, uint64_t now)
{
    if (t->first_generation == 0)
        t->first_generation = number;
    bool old = number == t->first_generation;
    if (!old && t->new_answers == 0)
        t->flip_ns = now;
    *(old ? &t->old_answers : &t->new_answers) += 1;
}

static void take_answer(traffic *t, client_reply *reply)
{
    search *s = NULL;
    for (size_t i = t->waiting_from; i < t->sent && s == NULL; i++)
        if (!t->searches[i].answered && t->searches[i].msgid == reply->msgid)
            s = &t->searches[i];
    if (s == NULL)
        return;
    uint64_t now = clock_monotonic_ns();
    s->answered = true;
    s->ms = (double)(now - s->due_ns) / 1e6;
    const msgpack_object *hits = reply->is_error ? NULL : object_get(&reply->value, "hits");
    s->failed = hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY || hits->via.array.size == 0;
    if (s->failed)
        note_failure(t, reply->is_error ? reply->code : "no hits");
    const msgpack_object *generation = reply->is_error ? NULL : object_get(&reply->value, "generation");
    if (generation != NULL)
        note_generation(t, object_uint(generation, 0), now);
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
    char query[TRAFFIC_QUERY_MAX];
    size_t number = t->sent;
    search *s = &t->searches[number];
    *s = (search){.due_ns = due_ns, .phase = (uint32_t)atomic_load(&t->phase)};
    t->options.query(t->options.context, number, query);
    bool sent = rpc_pack_search(params, query, false, false, false, &error) == SEM_OK &&
                client_send(t->connection, "search", params->data, params->size, &s->msgid, &error) == SEM_OK;
    atomic_store(&t->sent, number + 1);
    if (!sent)
        note_failure(t, error.message);
    return sent;
}

static void *run(void *context)
{
    traffic *t = context;
    buffer params = {0};
    const uint64_t began = clock_monotonic_ns();
    uint64_t due = began;
    bool alive = true;
    while (alive && !atomic_load(&t->stop) && t->sent < t->options.most) {
        alive = send_one(t, &params, due);
        due = began + (uint64_t)((double)t->sent * 1e9 / t->options.per_second);
        alive = alive && take_answers(t, due);
    }
    uint64_t end = clock_monotonic_ns() + (uint64_t)LAST_ANSWERS_MS * 1000000;
    while (alive && t->waiting_from < t->sent && clock_monotonic_ns() < end)
        alive = take_answers(t, clock_monotonic_ns() + (uint64_t)LAST_POLL_MS * 1000000);
    buffer_free(&params);
    atomic_store(&t->over, true);
    return NULL;
}

sem_status traffic_start(traffic **out, const traffic_options *options, sem_error *err)
{
    traffic *t = calloc(1, sizeof *t);
    search *searches = checked_realloc(NULL, options->most + 1, sizeof *searches);
    if (t == NULL || searches == NULL) {
        free(t);
        free(searches);
        return sem_fail_memory(err, "the searches");
    }
    t->searches = searches;
    t->options = *options;
    sem_status status = client_connect(&t->connection, options->address, RPC_TIMEOUT_MS, err);
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

void traffic_set_phase(traffic *t, size_t phase)
{
    atomic_store(&t->phase, phase);
}

size_t traffic_sent(traffic *t)
{
    return atomic_load(&t->sent);
}

bool traffic_is_over(traffic *t)
{
    return atomic_load(&t->over);
}

/* --- what it was like */

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

static bool near_flip(const traffic *t, const search *s)
{
    const uint64_t reach = (uint64_t)FLIP_MS * 1000000;
    return t->flip_ns > 0 && s->due_ns + reach >= t->flip_ns && s->due_ns <= t->flip_ns + reach;
}

/* The middle one of the p99 of whole windows; each window is sorted. 0: there is none. */
static double typical_p99(double *times, size_t count)
{
    const size_t windows = count / TRAFFIC_WINDOW;
    double *each = calloc(windows + 1, sizeof *each);
    if (each == NULL)
        return 0;
    for (size_t i = 0; i < windows; i++) {
        qsort(times + i * TRAFFIC_WINDOW, TRAFFIC_WINDOW, sizeof *times, by_size);
        each[i] = quantile(times + i * TRAFFIC_WINDOW, TRAFFIC_WINDOW, 0.99);
    }
    qsort(each, windows, sizeof *each, by_size);
    const double middle = quantile(each, windows, 0.5);
    free(each);
    return middle;
}

/* Of the phases whose bits are set; flip: only of searches near it. */
static void describe(const traffic *t, unsigned phases, bool flip, traffic_figures *out)
{
    double *times = malloc((t->sent + 1) * sizeof *times);
    size_t count = 0;
    for (size_t i = 0; i < t->sent; i++) {
        const search *s = &t->searches[i];
        if ((phases >> s->phase & 1) == 0 || (flip && !near_flip(t, s)))
            continue;
        out->sent++;
        out->failed += !s->answered || s->failed;
        if (s->answered && times != NULL)
            times[count++] = s->ms;
    }
    if (times == NULL)
        return;
    out->typical_p99_ms = typical_p99(times, count);
    qsort(times, count, sizeof *times, by_size);
    out->p50_ms = quantile(times, count, 0.50);
    out->p99_ms = quantile(times, count, 0.99);
    out->most_ms = quantile(times, count, 1);
    if (count < TRAFFIC_WINDOW)
        out->typical_p99_ms = out->p99_ms;
    free(times);
}

void traffic_stop(traffic *t, traffic_report *report)
{
    memset(report, 0, sizeof *report);
    if (t == NULL)
        return;
    atomic_store(&t->stop, true);
    pthread_join(t->thread, NULL);
    describe(t, ~0u, false, &report->all);
    describe(t, ~0u, true, &report->flip);
    describe(t, t->options.resting, false, &report->resting);
    for (size_t phase = 0; phase < t->options.phases && phase < TRAFFIC_PHASES_MAX; phase++)
        describe(t, 1u << phase, false, &report->phases[phase]);
    report->old_answers = t->old_answers;
    report->new_answers = t->new_answers;
    memcpy(report->first_failure, t->first_failure, sizeof report->first_failure);
    client_close(t->connection);
    free(t->searches);
    free(t);
}
