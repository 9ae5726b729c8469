#include "daemon/job_status.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {"queued", "running", "done", "failed", "cancelled"};
static const char *const kind_names[] = {"finetune", "model.load", "rollback"};
static const char *const phase_names[PHASE_COUNT] = {NULL,         "loading",   "pairs",       "mining", "training",
                                                     "evaluating", "embedding", "catching_up", "trial",  "flip"};

const char *job_kind_name(job_kind kind)
{
    return kind_names[kind];
}

const char *job_state_name(job_state state)
{
    return state_names[state];
}

const char *job_phase_name(job_phase phase)
{
    return phase_names[phase] != NULL ? phase_names[phase] : "";
}

job_phase job_phase_of(const char *name)
{
    job_phase found = PHASE_NONE;
    for (job_phase phase = PHASE_NONE + 1; name != NULL && phase < PHASE_COUNT; phase++)
        if (strcmp(name, phase_names[phase]) == 0)
            found = phase;
    return found;
}

void job_status_init(job_status *s)
{
    memset(s, 0, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    s->loss = NAN;
}

static void tell(job_status *s)
{
    if (s->changed != NULL)
        s->changed(s->context, s);
}

void job_status_free(job_status *s)
{
    json_decref(s->before);
    json_decref(s->after);
    pthread_mutex_destroy(&s->lock);
}

static void forget(job_status *s)
{
    json_decref(s->before);
    json_decref(s->after);
    s->before = s->after = NULL;
    s->state = JOB_QUEUED;
    s->phase = PHASE_NONE;
    s->step = s->steps = s->pairs = 0;
    s->loss = NAN;
    s->eta_s = -1;
    s->generation = 0;
    s->decision[0] = s->reason[0] = '\0';
    memset(s->seconds, 0, sizeof s->seconds);
}

void job_status_begin(job_status *s, uint32_t number, job_kind kind, uint64_t events)
{
    pthread_mutex_lock(&s->lock);
    forget(s);
    s->number = number;
    s->kind = kind;
    s->started_ms = clock_wall_ms();
    s->events = events;
    pthread_mutex_unlock(&s->lock);
}

static void copy_reason(job_status *s, const char *reason)
{
    if (reason == NULL)
        return;
    /* It may quote a path; in JSON a string is always UTF-8. */
    size_t length = utf8_cut(reason, strlen(reason), sizeof s->reason - 1);
    memcpy(s->reason, reason, length);
    s->reason[length] = '\0';
    utf8_repair(s->reason, length);
}

static void restore_seconds(job_status *s, const json_t *seconds)
{
    for (job_phase phase = PHASE_NONE + 1; phase < PHASE_COUNT; phase++)
        s->seconds[phase] = json_number_value(json_object_get(seconds, phase_names[phase]));
}

static json_t *restore_object(const json_t *record, const char *key)
{
    json_t *value = json_object_get(record, key);
    return json_is_object(value) ? json_incref(value) : NULL;
}

void job_status_restore(job_status *s, const json_t *record, job_kind kind)
{
    const char *decision = json_string_value(json_object_get(record, "decision"));
    const json_t *loss = json_object_get(record, "loss");
    pthread_mutex_lock(&s->lock);
    forget(s);
    s->number = (uint32_t)json_integer_value(json_object_get(record, "job"));
    s->kind = kind;
    s->started_ms = (int64_t)json_integer_value(json_object_get(record, "started"));
    s->events = (uint64_t)json_integer_value(json_object_get(record, "events"));
    s->pairs = (size_t)json_integer_value(json_object_get(record, "pairs"));
    s->loss = json_is_number(loss) ? json_number_value(loss) : NAN;
    s->before = restore_object(record, "metrics_before");
    s->after = restore_object(record, "metrics_after");
    snprintf(s->decision, sizeof s->decision, "%s", decision != NULL ? decision : "");
    copy_reason(s, json_string_value(json_object_get(record, "reason")));
    restore_seconds(s, json_object_get(record, "seconds"));
    pthread_mutex_unlock(&s->lock);
}

static void close_phase(job_status *s)
{
    uint64_t now = clock_monotonic_ns();
    if (s->phase != PHASE_NONE)
        s->seconds[s->phase] += (double)(now - s->phase_began_ns) / 1e9;
    s->phase_began_ns = now;
}

void job_status_phase(job_status *s, job_phase phase, size_t steps)
{
    pthread_mutex_lock(&s->lock);
    close_phase(s);
    s->state = JOB_RUNNING;
    s->phase = phase;
    s->step = 0;
    s->steps = steps;
    s->eta_s = -1;
    pthread_mutex_unlock(&s->lock);
    tell(s);
}

void job_status_step(job_status *s, size_t step, double eta_s)
{
    pthread_mutex_lock(&s->lock);
    const double seconds = (double)(clock_monotonic_ns() - s->phase_began_ns) / 1e9;
    s->step = step;
    s->eta_s = eta_s >= 0                     ? eta_s
               : step > 0 && step <= s->steps ? seconds / (double)step * (double)(s->steps - step)
                                              : -1;
    pthread_mutex_unlock(&s->lock);
}

void job_status_metrics(job_status *s, json_t *before, json_t *after)
{
    pthread_mutex_lock(&s->lock);
    json_decref(s->before);
    json_decref(s->after);
    s->before = before;
    s->after = after;
    pthread_mutex_unlock(&s->lock);
}

void job_status_decide(job_status *s, bool promoted, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->decision, sizeof s->decision, "%s", promoted ? "promoted" : "discarded");
    copy_reason(s, reason);
    pthread_mutex_unlock(&s->lock);
}

void job_status_undecide(job_status *s)
{
    job_status_metrics(s, NULL, NULL);
    pthread_mutex_lock(&s->lock);
    s->decision[0] = s->reason[0] = '\0';
    pthread_mutex_unlock(&s->lock);
}

void job_status_suspend(job_status *s)
{
    pthread_mutex_lock(&s->lock);
    close_phase(s);
    s->state = JOB_QUEUED;
    s->eta_s = -1;
    pthread_mutex_unlock(&s->lock);
}

void job_status_clear(job_status *s)
{
    pthread_mutex_lock(&s->lock);
    forget(s);
    s->number = 0;
    pthread_mutex_unlock(&s->lock);
}

static void end(job_status *s, job_state state, const char *reason)
{
    close_phase(s);
    s->state = state;
    s->eta_s = 0;
    if (state != JOB_DONE)
        s->decision[0] = '\0';
    copy_reason(s, reason);
}

void job_status_end(job_status *s, job_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    end(s, state, reason);
    pthread_mutex_unlock(&s->lock);
    tell(s);
}

bool job_status_running(job_status *s, uint32_t *number)
{
    pthread_mutex_lock(&s->lock);
    bool running = s->number != 0 && (s->state == JOB_QUEUED || s->state == JOB_RUNNING);
    *number = s->number;
    pthread_mutex_unlock(&s->lock);
    return running;
}

static json_t *text_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? json_string(text) : json_null();
}

static json_t *seconds_json(const job_status *s)
{
    json_t *out = json_object();
    for (int i = PHASE_NONE + 1; i < PHASE_COUNT; i++)
        if (s->seconds[i] > 0 && json_object_set_new(out, phase_names[i], json_real(s->seconds[i])) != 0) {
            json_decref(out);
            return NULL;
        }
    return out;
}

/* Under the lock. decided: the decision is told whatever the state. */
static json_t *make_json(const job_status *s, bool decided)
{
    return json_pack("{s:I, s:s, s:s, s:o, s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "job",
                     (json_int_t)s->number, "kind", kind_names[s->kind], "state", state_names[s->state], "phase",
                     text_or_null(phase_names[s->phase]), "step", (json_int_t)s->step, "steps", (json_int_t)s->steps,
                     "loss", isnan(s->loss) ? json_null() : json_real(s->loss), "pairs", (json_int_t)s->pairs,
                     "metrics_before", s->before != NULL ? json_incref(s->before) : json_null(), "metrics_after",
                     s->after != NULL ? json_incref(s->after) : json_null(), "decision",
                     text_or_null(decided || s->state == JOB_DONE ? s->decision : NULL), "reason",
                     text_or_null(s->reason), "eta_s", s->eta_s >= 0 ? json_real(s->eta_s) : json_null(), "generation",
                     s->generation != 0 ? json_integer(s->generation) : json_null(), "seconds", seconds_json(s),
                     "started", (json_int_t)s->started_ms, "events", (json_int_t)s->events);
}

static json_t *locked_json(job_status *s, bool decided)
{
    pthread_mutex_lock(&s->lock);
    json_t *out = make_json(s, decided);
    pthread_mutex_unlock(&s->lock);
    return out;
}

/* A phase is shown while it runs; a job that has ended keeps its last one. */
json_t *job_status_json(job_status *s)
{
    return locked_json(s, false);
}

json_t *job_status_open_json(job_status *s)
{
    return locked_json(s, true);
}

char *job_status_ended_text(job_status *s, job_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    job_status ended = *s; /* but for the lock, which is not used */
    end(&ended, state, reason);
    json_t *value = make_json(&ended, false);
    pthread_mutex_unlock(&s->lock);
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    return text;
}

char *job_status_promoted_text(job_status *s, uint32_t generation)
{
    json_t *value = job_status_json(s);
    char *text = NULL;
    if (value != NULL && json_object_set_new(value, "state", json_string("done")) == 0 &&
        json_object_set_new(value, "decision", json_string("promoted")) == 0 &&
        json_object_set_new(value, "eta_s", json_real(0)) == 0 &&
        json_object_set_new(value, "generation", json_integer(generation)) == 0)
        text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    return text;
}
