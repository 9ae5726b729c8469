#include "daemon/job_status.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {"queued", "running", "done", "failed", "cancelled"};
static const char *const kind_names[] = {"finetune", "model.load", "rollback"};
static const char *const phase_names[PHASE_COUNT] = {NULL,         "pairs",     "mining",      "training",
                                                     "evaluating", "embedding", "catching_up", "flip"};

const char *job_kind_name(job_kind kind)
{
    return kind_names[kind];
}

const char *job_state_name(job_state state)
{
    return state_names[state];
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

void job_status_begin(job_status *s, uint32_t number, job_kind kind)
{
    pthread_mutex_lock(&s->lock);
    json_decref(s->before);
    json_decref(s->after);
    s->before = s->after = NULL;
    s->number = number;
    s->kind = kind;
    s->state = JOB_QUEUED;
    s->phase = PHASE_NONE;
    s->step = s->steps = s->pairs = 0;
    s->loss = NAN;
    s->eta_s = -1;
    s->generation = 0;
    s->decision[0] = s->reason[0] = '\0';
    memset(s->seconds, 0, sizeof s->seconds);
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
    s->step = step;
    s->eta_s = eta_s;
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

void job_status_decide(job_status *s, bool promoted, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    snprintf(s->decision, sizeof s->decision, "%s", promoted ? "promoted" : "discarded");
    copy_reason(s, reason);
    pthread_mutex_unlock(&s->lock);
}

void job_status_end(job_status *s, job_state state, const char *reason)
{
    pthread_mutex_lock(&s->lock);
    close_phase(s);
    s->state = state;
    s->eta_s = 0;
    if (state != JOB_DONE)
        s->decision[0] = '\0';
    copy_reason(s, reason);
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

/* A phase is shown while it runs; a job that has ended keeps its last one. */
json_t *job_status_json(job_status *s)
{
    pthread_mutex_lock(&s->lock);
    json_t *out = json_pack("{s:I, s:s, s:s, s:o, s:I, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "job",
                            (json_int_t)s->number, "kind", kind_names[s->kind], "state", state_names[s->state], "phase",
                            text_or_null(phase_names[s->phase]), "step", (json_int_t)s->step, "steps",
                            (json_int_t)s->steps, "loss", isnan(s->loss) ? json_null() : json_real(s->loss), "pairs",
                            (json_int_t)s->pairs, "metrics_before",
                            s->before != NULL ? json_incref(s->before) : json_null(), "metrics_after",
                            s->after != NULL ? json_incref(s->after) : json_null(), "decision",
                            text_or_null(s->state == JOB_DONE ? s->decision : NULL), "reason", text_or_null(s->reason),
                            "eta_s", s->eta_s >= 0 ? json_real(s->eta_s) : json_null(), "generation",
                            s->generation != 0 ? json_integer(s->generation) : json_null(), "seconds", seconds_json(s));
    pthread_mutex_unlock(&s->lock);
    return out;
}

char *job_status_text(job_status *s)
{
    json_t *value = job_status_json(s);
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
