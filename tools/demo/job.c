#include "tools/demo/job.h"

#include "base/clock.h"
#include "tools/demo/rpc.h"
#include "tools/demo/screen.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 150 };

/* The phases of a job in their order, with the words on the screen. */
static const struct {
    const char *name, *doing, *done;
} PHASES[] = {
    {"loading", "loading", "loaded"},
    {"pairs", "reading clicks", "clicks read"},
    {"mining", "mining", "mined"},
    {"training", "training", "trained"},
    {"evaluating", "comparing", "compared"},
    {"embedding", "re-embedding", "re-embedded"},
    {"catching_up", "catching up", "caught up"},
    {"trial", "trying on people", "tried"},
    {"flip", "flipping", "flipped"},
};
enum { PHASE_COUNT = sizeof PHASES / sizeof *PHASES, PHASE_NONE = PHASE_COUNT };

typedef struct watch {
    screen_bar bar;
    size_t phase;
    uint64_t phase_began_ns;
    double seconds[PHASE_COUNT]; /* as seen from here */
    double loss;                 /* the last one told */
    size_t steps;
    const job_watcher *watcher; /* or NULL */
    job_report *report;
} watch;

static void copy_text(char *out, size_t size, const msgpack_object *text)
{
    bool given = text != NULL && text->type == MSGPACK_OBJECT_STR;
    snprintf(out, size, "%.*s", given ? (int)text->via.str.size : 0, given ? text->via.str.ptr : "");
}

static sem_status start(client *c, const char *mode, uint64_t *job, sem_error *err)
{
    buffer params = {0};
    packer p;
    client_reply reply;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "mode");
    pack_str(&p, mode);
    sem_status status = p.failed ? sem_fail_memory(err, "finetune") : rpc_call(c, "finetune", &params, &reply, err);
    buffer_free(&params);
    if (status != SEM_OK)
        return status;
    *job = object_uint(object_get(&reply.value, "job"), 0);
    client_reply_free(&reply);
    return SEM_OK;
}

static void end_phase(watch *w, uint64_t now)
{
    if (w->phase == PHASE_NONE)
        return;
    double seconds = (double)(now - w->phase_began_ns) / 1e9;
    w->seconds[w->phase] += seconds;
    char text[96];
    int n = snprintf(text, sizeof text, "in %.1f s", seconds);
    if (strcmp(PHASES[w->phase].name, "training") == 0 && w->steps > 0)
        snprintf(text + n, sizeof text - (size_t)n, ", %zu steps, loss %.3f", w->steps, w->loss);
    screen_bar_end(&w->bar, PHASES[w->phase].done, text);
}

static void see(watch *w, const msgpack_object *job)
{
    size_t phase = 0;
    const msgpack_object *name = object_get(job, "phase");
    while (phase < PHASE_COUNT && !(name != NULL && object_is(name, PHASES[phase].name)))
        phase++;
    uint64_t now = clock_monotonic_ns();
    if (phase != w->phase) {
        end_phase(w, now);
        w->phase = phase;
        w->phase_began_ns = now;
        if (phase != PHASE_NONE && w->watcher != NULL)
            w->watcher->phase(w->watcher->context, PHASES[phase].name);
    }
    if (phase == PHASE_NONE)
        return;
    size_t step = object_uint(object_get(job, "step"), 0), steps = object_uint(object_get(job, "steps"), 0);
    const msgpack_object *loss = object_get(job, "loss"), *eta = object_get(job, "eta_s");
    bool training = strcmp(PHASES[phase].name, "training") == 0;
    char tail[96];
    int n = snprintf(tail, sizeof tail, "%zu of %zu", step, steps);
    if (training && loss != NULL && loss->type != MSGPACK_OBJECT_NIL) {
        w->loss = object_double(loss, 0.0);
        w->steps = steps;
        n += snprintf(tail + n, sizeof tail - (size_t)n, ", loss %.3f", w->loss);
    }
    double left = eta == NULL ? -1.0 : object_double(eta, -1.0);
    if (left >= 0.0)
        snprintf(tail + n, sizeof tail - (size_t)n, ", %.0f s left", left);
    if (steps > 0)
        screen_bar_draw(&w->bar, PHASES[phase].doing, step, steps, tail);
}

/* The daemon's own clock where it tells; what was seen from here otherwise. */
static double phase_seconds(const watch *w, const msgpack_object *job, const char *name)
{
    const msgpack_object *told = object_get(job, "seconds");
    const msgpack_object *value = told == NULL || told->type != MSGPACK_OBJECT_MAP ? NULL : object_get(told, name);
    if (value != NULL && value->type != MSGPACK_OBJECT_NIL)
        return object_double(value, 0.0);
    for (size_t i = 0; i < PHASE_COUNT; i++)
        if (strcmp(PHASES[i].name, name) == 0)
            return w->seconds[i];
    return 0.0;
}

static sem_status finish(watch *w, const msgpack_object *job, sem_error *err)
{
    job_report *r = w->report;
    copy_text(r->reason, sizeof r->reason, object_get(job, "reason"));
    const msgpack_object *decision = object_get(job, "decision"), *state = object_get(job, "state");
    if (state == NULL || !object_is(state, "done"))
        return sem_fail(err, SEM_INTERNAL, "the fine-tune job did not end well: %s", r->reason);
    r->promoted = decision != NULL && object_is(decision, "promoted");
    r->generation = object_uint(object_get(job, "generation"), 0);
    r->pairs = object_uint(object_get(job, "pairs"), 0);
    r->training_s = phase_seconds(w, job, "training");
    r->evaluating_s = phase_seconds(w, job, "evaluating");
    r->embedding_s = phase_seconds(w, job, "embedding") + phase_seconds(w, job, "catching_up");
    r->flip_s = phase_seconds(w, job, "flip");
    return SEM_OK;
}

/* One look at the job; *over when it has ended. */
static sem_status look(client *c, watch *w, const buffer *params, bool *over, sem_error *err)
{
    client_reply reply;
    sem_status status = rpc_call(c, "job", params, &reply, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *state = object_get(&reply.value, "state");
    *over = state == NULL || !(object_is(state, "queued") || object_is(state, "running"));
    if (!*over) {
        see(w, &reply.value);
    } else {
        end_phase(w, clock_monotonic_ns());
        status = finish(w, &reply.value, err);
    }
    client_reply_free(&reply);
    return status;
}

sem_status job_run(client *c, const char *mode, const job_watcher *watcher, job_report *report, sem_error *err)
{
    watch w = {.phase = PHASE_NONE, .watcher = watcher, .report = report};
    uint64_t job, began = clock_monotonic_ns();
    buffer params = {0};
    packer p;
    bool over = false;
    memset(report, 0, sizeof *report);
    sem_status status = start(c, mode, &job, err);
    if (status != SEM_OK)
        return status;
    screen_bar_begin(&w.bar);
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "job");
    pack_uint(&p, job);
    if (p.failed)
        status = sem_fail_memory(err, "job");
    while (status == SEM_OK && !over) {
        status = look(c, &w, &params, &over, err);
        struct timespec pause = {0, POLL_MS * 1000000L};
        if (status == SEM_OK && !over)
            nanosleep(&pause, NULL);
    }
    buffer_free(&params);
    report->total_s = (double)(clock_monotonic_ns() - began) / 1e9;
    return status;
}
