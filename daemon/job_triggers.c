#include "daemon/job_triggers.h"

#include "base/clock.h"
#include "index/events.h"
#include "daemon/calendar.h"
#include "daemon/job_status.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_MS = 1000,
    PAUSE_MIN_MS = 60 * 1000,
    PAUSE_MAX_MS = 3600 * 1000,
    /* A time of day that came while the daemon was down, or another job ran, still counts so much later;
     * beyond it the time was chosen for a reason that no longer holds. */
    LATE_MAX_S = 3600
};

/* --- counting */

static bool count_one(void *context, const event_judgement *j)
{
    job_triggers *t = context;
    (void)j;
    t->fresh++;
    return true;
}

/* Each event is looked at once. */
static sem_status count_fresh(job_triggers *t, store *s)
{
    store_read *r;
    uint64_t seq;
    sem_status status = store_read_begin(s, &r, NULL);
    if (status != SEM_OK)
        return status;
    status = events_last_seq(r, &seq, NULL);
    if (status == SEM_OK && seq > t->counted_to) {
        status = events_judgements(r, t->counted_to, count_one, t, NULL);
        t->counted_to = seq;
    }
    store_read_end(r);
    return status;
}

/* --- what is due */

static bool time_is_due(const config *c, const job_start *last, int64_t now_ms)
{
    calendar when;
    if (c->finetune.at[0] == '\0' || !calendar_parse(&when, c->finetune.at))
        return false;
    const int64_t now_s = now_ms / 1000, at_s = calendar_last(&when, now_s);
    return at_s * 1000 > last->started_ms && now_s - at_s < LATE_MAX_S;
}

static const char *due(const job_triggers *t, const config *c)
{
    const int64_t now_ms = clock_wall_ms(), since_ms = now_ms - t->last.started_ms;
    if (t->fresh == 0 || t->fresh < t->needed) /* nothing to learn that the last one did not */
        return NULL;
    if (c->finetune.new_pairs > 0 && t->fresh >= c->finetune.new_pairs)
        return "finetune.new_pairs";
    if (c->finetune.interval_ms > 0 && since_ms >= 0 && (uint64_t)since_ms >= c->finetune.interval_ms)
        return "finetune.interval";
    return time_is_due(c, &t->last, now_ms) ? "finetune.at" : NULL;
}

static void begin_anew(job_triggers *t, const job_start *last)
{
    *t = (job_triggers){.last = *last, .counted_to = last->events, .pause_ms = PAUSE_MIN_MS};
}

const char *job_triggers_due(job_triggers *t, store *s, const config *c, const job_start *last)
{
    const bool any = c->finetune.new_pairs > 0 || c->finetune.interval_ms > 0 || c->finetune.at[0] != '\0';
    const uint64_t now = clock_monotonic_ms();
    if (!c->finetune.enabled || !any)
        return NULL;
    if (t->pause_ms == 0 || last->number != t->last.number)
        begin_anew(t, last);
    if (now < t->look_after_ms)
        return NULL;
    t->look_after_ms = now + LOOK_MS;
    /* A clock that was set back must not put the next job off for as long. */
    if (t->last.started_ms > clock_wall_ms())
        t->last.started_ms = clock_wall_ms();
    return count_fresh(t, s) == SEM_OK ? due(t, c) : NULL;
}

void job_triggers_refused(job_triggers *t, size_t missing)
{
    t->needed = t->fresh + missing;
    t->look_after_ms = clock_monotonic_ms() + t->pause_ms;
    t->pause_ms = t->pause_ms < PAUSE_MAX_MS / 2 ? 2 * t->pause_ms : PAUSE_MAX_MS;
}

void job_triggers_forget_refusal(job_triggers *t)
{
    t->needed = t->look_after_ms = 0;
    t->pause_ms = t->pause_ms > 0 ? PAUSE_MIN_MS : 0;
}

/* --- the last start */

/* One that an older version wrote tells no time: then it is as if it had begun now. */
static bool take_start(job_start *out, const char *text, uint32_t number)
{
    json_t *record = json_loads(text, 0, NULL);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    bool is_one = kind != NULL && strcmp(kind, job_kind_name(JOB_FINETUNE)) == 0;
    if (is_one) {
        const json_int_t started = json_integer_value(json_object_get(record, "started"));
        const json_int_t events = json_integer_value(json_object_get(record, "events"));
        *out = (job_start){.number = number,
                           .started_ms = started > 0 ? (int64_t)started : clock_wall_ms(),
                           .events = events > 0 ? (uint64_t)events : 0};
    }
    json_decref(record);
    return is_one;
}

/* When the first generation was made. */
static sem_status find_beginning(job_start *out, store_read *r, sem_error *err)
{
    store_generation *all;
    size_t count;
    sem_status status = store_generation_list(r, &all, &count, err);
    if (status != SEM_OK)
        return status;
    *out = (job_start){.started_ms = count > 0 ? all[0].created_ms : clock_wall_ms()};
    store_generations_free(all, count);
    return SEM_OK;
}

sem_status job_start_find(job_start *out, store_read *r, sem_error *err)
{
    uint32_t number = 0; /* the latest; then each before it, down to 1 */
    for (;;) {
        char *text = NULL;
        bool found = false;
        sem_status status = store_job_get(r, number, &number, &text, &found, err);
        if (status != SEM_OK)
            return status;
        const bool taken = found && take_start(out, text, number);
        free(text);
        if (taken)
            return SEM_OK;
        if (number <= 1)
            return find_beginning(out, r, err);
        number--;
    }
}
