#include "daemon/watchdog.h"

#include "base/clock.h"
#include "index/events_scan.h"
#include "finetune/clickthrough.h"
#include "finetune/harvest.h"
#include "daemon/jobs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIDE_SEARCHES_MAX = 65536, /* a fall that so many do not show is not worth an alarm; 4 MB a side */
    PIECE_EVENTS = 1000,       /* in one read transaction: a few ms */
    PIECES = 20,               /* at a time, before the thread does its other work */
    CLICKS_MAX = 64            /* of one search that are looked at */
};

typedef enum side { BEFORE, AFTER, SIDES } side;

/* What is done about the generation that serves. */
typedef enum phase {
    WATCH_OFF,      /* there is none to compare it with, or it is switched off */
    WATCH_BACK,     /* reads the log before it was made, towards older events */
    WATCH_FORWARD,  /* reads the log since, as it grows */
    WATCH_OVER,     /* there was an alarm, or enough searches without one */
    WATCH_ROLL_BACK /* an alarm, and a rollback that could not start yet */
} phase;

struct watchdog {
    core *core;
    /* of the index thread alone */
    uint32_t generation; /* that was serving at the last look; 0: none yet */
    uint32_t before;     /* what it is compared with */
    phase phase;
    events_scan scan;
    uint64_t oldest, first; /* events: where the generation before begins, and the one that serves */
    propensities bias;
    clickthrough_side sides[SIDES];
    unsigned looks;        /* made */
    bool grew;             /* a search was counted since the last look was tried */
    char why[JOB_WHY_MAX]; /* the generation before is to come back */
    config settings;       /* [finetune] as of now; the rest is not filled in */
    pthread_mutex_t lock;  /* guards what follows; rank 4, a leaf */
    watchdog_state state;
};

/* --- state */

static void publish(watchdog *w)
{
    pthread_mutex_lock(&w->lock);
    w->state.watching = w->phase == WATCH_BACK || w->phase == WATCH_FORWARD;
    w->state.searches[BEFORE] = w->sides[BEFORE].searches;
    w->state.searches[AFTER] = w->sides[AFTER].searches;
    pthread_mutex_unlock(&w->lock);
}

void watchdog_get_state(watchdog *w, watchdog_state *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->state;
    pthread_mutex_unlock(&w->lock);
}

static void fail(watchdog *w, const sem_error *err)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(w->core->log, LOG_LEVEL_ERROR, "watchdog", "state=failed generation=%u message=%s", w->generation,
              log_value(text, sizeof text, err->message));
    w->phase = WATCH_OFF;
}

/* --- which generations */

static void forget(watchdog *w, uint32_t generation)
{
    clickthrough_free(&w->sides[BEFORE]);
    clickthrough_free(&w->sides[AFTER]);
    w->generation = generation;
    w->before = 0;
    w->phase = WATCH_OFF;
    w->looks = 0;
    pthread_mutex_lock(&w->lock);
    w->state.alarm = false;
    w->state.rates[BEFORE] = w->state.rates[AFTER] = 0;
    pthread_mutex_unlock(&w->lock);
}

/* Whether the generation came by a flip forward: one that was returned to is known already. */
static bool came_new(const store_generation *all, size_t count, const store_generation *current)
{
    for (size_t i = 0; i < count; i++)
        if (all[i].parent == current->number && all[i].state == GENERATION_ROLLED_BACK)
            return false;
    return true;
}

static sem_status find_events(watchdog *w, store_read *r, const store_generation *current,
                              const store_generation *before, sem_error *err)
{
    const config *c = &w->settings;
    sem_status status = events_since(r, before->created_ms, &w->oldest, err);
    if (status == SEM_OK)
        status = events_since(r, current->created_ms, &w->first, err);
    if (status != SEM_OK)
        return status;
    w->before = before->number;
    w->phase = WATCH_BACK;
    w->scan = (events_scan){.at = w->first > 0 ? w->first - 1 : 0, .backward = true};
    if (c->finetune.harvest && c->finetune.click_weight > 1)
        return harvest_propensities(&w->bias, r, 0, 0, &c->finetune.propensity, err);
    propensity_prior(&w->bias, c->finetune.propensity.eta);
    return SEM_OK;
}

static sem_status find_before(watchdog *w, store_read *r, sem_error *err)
{
    store_generation *all;
    size_t count;
    const store_generation *current = NULL, *before = NULL;
    sem_status status = store_generation_list(r, &all, &count, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        if (all[i].number == w->generation)
            current = &all[i];
    for (size_t i = 0; i < count && current != NULL; i++)
        if (all[i].number == current->parent)
            before = &all[i];
    if (before != NULL && came_new(all, count, current))
        status = find_events(w, r, current, before, err);
    store_generations_free(all, count);
    return status;
}

static void begin(watchdog *w, uint32_t generation)
{
    sem_error err;
    store_read *r;
    forget(w, generation);
    sem_status status = store_read_begin(w->core->store, &r, &err);
    if (status == SEM_OK) {
        status = find_before(w, r, &err);
        store_read_end(r);
    }
    if (status != SEM_OK)
        fail(w, &err);
    else if (w->phase != WATCH_OFF)
        log_event(w->core->log, LOG_LEVEL_INFO, "watchdog", "state=watching generation=%u before=%u", w->generation,
                  w->before);
}

/* --- reading the log */

typedef struct reading {
    watchdog *watchdog;
    int64_t now_ms;
    bool wait; /* the next search is too young */
    bool full; /* nothing older is needed */
    bool failed;
} reading;

/* False when memory is out. */
static bool count_search(watchdog *w, const event_logged_search *s, clickthrough_side *of)
{
    uint32_t ranks[CLICKS_MAX];
    size_t clicks = 0;
    for (size_t i = 0; i < s->shown_count && clicks < CLICKS_MAX; i++)
        if (s->shown[i].clicked &&
            s->shown[i].clicked_ms - s->time_ms <= (int64_t)w->settings.finetune.watchdog_settle_ms)
            ranks[clicks++] = (uint32_t)i + 1;
    const clickthrough_search search = {.user = s->user_hash,
                                        .number = s->seq,
                                        .time_ms = s->time_ms,
                                        .shown = s->shown_count,
                                        .ranks = ranks,
                                        .clicks = clicks};
    w->grew = true;
    return clickthrough_add(of, &search, &w->bias, w->settings.finetune.click_weight, &w->settings.finetune.trust);
}

static bool take_search(void *context, const event_logged_search *s)
{
    reading *r = context;
    watchdog *w = r->watchdog;
    const int64_t age_ms = r->now_ms - s->time_ms; /* below 0 where the clock was set back */
    if (w->scan.backward && s->seq < w->oldest) {
        r->full = true;
        return false;
    }
    if (age_ms >= 0 && age_ms < (int64_t)w->settings.finetune.watchdog_settle_ms) {
        r->wait = true;
        return false;
    }
    const side of = s->generation == w->generation ? AFTER : BEFORE;
    if ((of == BEFORE && s->generation != w->before) || s->ranking == RANKING_LEXICAL || s->rival != 0)
        return true; /* by no model, or by both */
    if (w->sides[of].searches < SIDE_SEARCHES_MAX)
        r->failed = !count_search(w, s, &w->sides[of]);
    r->full = w->sides[of].searches >= SIDE_SEARCHES_MAX && (w->scan.backward || of == AFTER);
    return !r->failed && !r->full;
}

/* One piece of the log; false when there is nothing to read until more is logged. */
static bool read_piece(watchdog *w)
{
    sem_error err;
    store_read *r;
    reading now = {.watchdog = w, .now_ms = clock_wall_ms()};
    sem_status status = store_read_begin(w->core->store, &r, &err);
    if (status == SEM_OK) {
        status = events_scan_some(r, &w->scan, PIECE_EVENTS, take_search, &now, &err);
        store_read_end(r);
    }
    if (status == SEM_OK && now.failed)
        status = sem_fail_memory(&err, "the click-through of voters");
    if (status != SEM_OK) {
        fail(w, &err);
        return false;
    }
    if (w->phase == WATCH_BACK && (now.full || w->scan.ended || w->scan.at < w->oldest)) {
        w->phase = WATCH_FORWARD;
        w->scan = (events_scan){.at = w->first};
        return true;
    }
    return !now.full && !now.wait && !w->scan.ended;
}

/* --- looking */

static void raise_alarm(watchdog *w, const clickthrough_rate rates[SIDES], double p, double level)
{
    const bool roll_back = w->settings.finetune.watchdog_rollback;
    snprintf(w->why, sizeof w->why,
             "rolled back by the watchdog: debiased click-through %.4f -> %.4f from generation %u to %u on %zu and %zu "
             "searches (p = %.2g)",
             rates[BEFORE].rate, rates[AFTER].rate, w->before, w->generation, rates[BEFORE].searches,
             rates[AFTER].searches, p);
    log_event(w->core->log, LOG_LEVEL_WARNING, "watchdog",
              "state=alarm generation=%u before=%u rate_before=%.4f rate_after=%.4f searches_before=%zu "
              "searches_after=%zu p_value=%.3g level=%.3g rollback=%s",
              w->generation, w->before, rates[BEFORE].rate, rates[AFTER].rate, rates[BEFORE].searches,
              rates[AFTER].searches, p, level, roll_back ? "yes" : "no");
    pthread_mutex_lock(&w->lock);
    w->state.alarm = true;
    w->state.alarms++;
    pthread_mutex_unlock(&w->lock);
    w->phase = roll_back ? WATCH_ROLL_BACK : WATCH_OVER;
}

static bool is_due(const watchdog *w)
{
    const size_t least = w->settings.finetune.watchdog_searches;
    return w->phase == WATCH_FORWARD && w->grew && w->sides[BEFORE].searches >= least &&
           w->sides[AFTER].searches >= clickthrough_look_at(least, w->looks);
}

static void look(watchdog *w)
{
    sem_error err;
    clickthrough_rate rates[SIDES];
    sem_status status = SEM_OK;
    for (int i = 0; i < SIDES && status == SEM_OK; i++)
        status = clickthrough_measure(&w->sides[i], &w->settings.finetune.trust, &rates[i], &err);
    if (status != SEM_OK) {
        fail(w, &err);
        return;
    }
    w->grew = false;
    if (rates[BEFORE].voters < CLICKTHROUGH_VOTERS_MIN || rates[AFTER].voters < CLICKTHROUGH_VOTERS_MIN)
        return; /* tried again when there are more */
    const double p = clickthrough_fall(&rates[BEFORE], &rates[AFTER]);
    const double level = clickthrough_look_level(w->settings.finetune.watchdog_p, w->looks++);
    pthread_mutex_lock(&w->lock);
    w->state.rates[BEFORE] = rates[BEFORE].rate;
    w->state.rates[AFTER] = rates[AFTER].rate;
    pthread_mutex_unlock(&w->lock);
    if (p < level)
        raise_alarm(w, rates, p, level);
    else
        log_event(w->core->log, LOG_LEVEL_INFO, "watchdog",
                  "state=looked generation=%u before=%u rate_before=%.4f rate_after=%.4f searches_before=%zu "
                  "searches_after=%zu p_value=%.3g level=%.3g",
                  w->generation, w->before, rates[BEFORE].rate, rates[AFTER].rate, rates[BEFORE].searches,
                  rates[AFTER].searches, p, level);
}

static void finish_if_full(watchdog *w)
{
    if (w->phase != WATCH_FORWARD || w->sides[AFTER].searches < SIDE_SEARCHES_MAX)
        return;
    log_event(w->core->log, LOG_LEVEL_INFO, "watchdog", "state=over generation=%u before=%u searches=%zu looks=%u",
              w->generation, w->before, w->sides[AFTER].searches, w->looks);
    w->phase = WATCH_OVER;
}

/* --- rolling back */

/* claimed: else by the end of a trial. */
static sem_status start_rollback(watchdog *w, bool claimed, sem_error *err)
{
    jobs *j = w->core->jobs;
    uint32_t number = 0;
    job *work = jobs_make(j, JOB_ROLLBACK, "");
    if (work == NULL)
        return sem_fail_memory(err, "a job");
    work->target = w->before;
    memcpy(work->why, w->why, sizeof work->why);
    serving *now = serving_slot_acquire(&w->core->current);
    /* What was to be left may be gone already, by somebody else's hand. */
    sem_status status = now->generation != w->generation
                            ? sem_fail(err, SEM_CANCELLED, "generation %u serves no more", w->generation)
                        : claimed ? jobs_start(j, work, now->folder, NULL, false, &number, err)
                                  : jobs_start_over_trial(j, work, NULL, err);
    serving_release(now);
    if (status != SEM_OK)
        job_free(work);
    else
        log_event(w->core->log, LOG_LEVEL_WARNING, "watchdog", "state=rolling_back generation=%u before=%u trial=%s",
                  w->generation, w->before, claimed ? "no" : "ended");
    return status;
}

/* Ends a trial, and waits for any other job that is under way: at the next round it is tried again. */
static void roll_back(watchdog *w)
{
    sem_error err;
    jobs *j = w->core->jobs;
    sem_status status = jobs_claim(j, &err);
    if (status == SEM_OK) {
        status = start_rollback(w, true, &err);
        jobs_unclaim(j);
    } else if (status == SEM_ALREADY_EXISTS && jobs_on_trial(j)) {
        status = start_rollback(w, false, &err);
    }
    if (status == SEM_ALREADY_EXISTS)
        return;
    if (status != SEM_OK && status != SEM_UNAVAILABLE && status != SEM_CANCELLED)
        fail(w, &err);
    w->phase = WATCH_OVER;
}

/* --- life */

void watchdog_work(watchdog *w, const atomic_bool *stop)
{
    jobs_settings(w->core->jobs, &w->settings);
    serving *now = serving_slot_acquire(&w->core->current);
    const uint32_t generation = now->generation;
    serving_release(now);
    if (!w->settings.finetune.watchdog) {
        if (w->generation != 0)
            forget(w, 0);
    } else if (generation != w->generation) {
        begin(w, generation);
    }
    if (w->phase == WATCH_ROLL_BACK && !w->settings.finetune.watchdog_rollback)
        w->phase = WATCH_OVER; /* switched off while it waited for a job */
    if (w->phase == WATCH_ROLL_BACK)
        roll_back(w);
    for (int i = 0; i < PIECES && (w->phase == WATCH_BACK || w->phase == WATCH_FORWARD) && !atomic_load(stop); i++) {
        const bool more = read_piece(w);
        if (is_due(w))
            look(w);
        finish_if_full(w);
        if (!more)
            break;
    }
    publish(w);
}

sem_status watchdog_create(watchdog **out, core *c, sem_error *err)
{
    watchdog *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "the watchdog");
    w->core = c;
    pthread_mutex_init(&w->lock, NULL);
    *out = w;
    return SEM_OK;
}

void watchdog_destroy(watchdog *w)
{
    if (w == NULL)
        return;
    clickthrough_free(&w->sides[BEFORE]);
    clickthrough_free(&w->sides[AFTER]);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
