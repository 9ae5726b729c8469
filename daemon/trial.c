#include "daemon/trial.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/hash.h"
#include "base/random.h"
#include "index/events_scan.h"
#include "finetune/text_pool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LOOK_MS = 100,         /* between two looks at the log */
    UPKEEP_MS = 30 * 1000, /* between two calls of upkeep */
    PLEASE_END_MS = 5      /* between two looks at searches that still have the candidate */
};

/* --- votes */

static int by_place(const void *a, const void *b)
{
    const trial_click *x = a, *y = b;
    if (x->search != y->search)
        return x->search < y->search ? -1 : 1;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static int by_voter(const void *a, const void *b)
{
    const trial_click *x = a, *y = b;
    if (x->voter != y->voter)
        return x->voter < y->voter ? -1 : 1;
    return by_place(a, b);
}

/* Of n fair coins, that at least `won` fall on this side. */
static double sign_test(size_t won, size_t n)
{
    double sum = 0;
    for (size_t i = won; i <= n; i++)
        sum += exp(lgamma((double)n + 1) - lgamma((double)i + 1) - lgamma((double)(n - i) + 1) - (double)n * log(2));
    return sum < 1 ? sum : 1;
}

static void vote(trial_tally *t, long balance, size_t clicks)
{
    t->clicks += clicks;
    t->won += balance > 0;
    t->lost += balance < 0;
    t->even += clicks > 0 && balance == 0;
}

size_t trial_count(trial_click *clicks, size_t count, trial_tally *out)
{
    size_t kept = 0;
    *out = (trial_tally){0};
    if (count > 0)
        qsort(clicks, count, sizeof *clicks, by_place);
    for (size_t i = 0; i < count; i++) {
        const bool replaced = i + 1 < count && clicks[i + 1].search == clicks[i].search &&
                              clicks[i + 1].rank == clicks[i].rank;
        if (!replaced)
            clicks[kept++] = clicks[i];
    }
    if (kept > 0)
        qsort(clicks, kept, sizeof *clicks, by_voter);
    for (size_t i = 0; i < kept;) {
        const uint64_t voter = clicks[i].voter;
        long balance = 0;
        size_t standing = 0;
        for (; i < kept && clicks[i].voter == voter; i++)
            if (!clicks[i].taken_back) {
                standing++;
                balance += clicks[i].of_candidate ? 1 : -1;
            }
        vote(out, balance, standing);
    }
    out->p_value = sign_test(out->won, out->won + out->lost);
    return kept;
}

/* --- the log */

typedef struct trial {
    job *job;
    serving *candidate;
    uint32_t current;  /* the generation that it is compared with */
    uint64_t before;   /* the last event before its first search could be */
    uint64_t after;    /* the log is read up to this event */
    uint64_t erasures; /* as they were counted then */
    trial_click *clicks;
    size_t count, capacity;
    bool failed; /* memory is out */
    trial_tally tally;
    int64_t began_ms; /* Unix time */
    uint64_t upkept_ns;
    const char *ended_by; /* for the log */
} trial;

static const char LEFT[] = "rollback";

static bool take_click(void *context, const event_judgement *e)
{
    trial *t = context;
    if (e->rank == 0 || e->rival != t->candidate->generation || e->generation != t->current)
        return true;
    trial_click *grown = items_with_room(t->clicks, t->count, &t->capacity, sizeof *grown);
    t->failed = grown == NULL;
    if (t->failed)
        return false;
    const uint64_t query = random_at(e->collection, hash_text(e->query, e->query_length));
    t->clicks = grown;
    t->clicks[t->count++] = (trial_click){.search = e->search,
                                          .seq = e->seq,
                                          .voter = e->user_hash != 0 ? random_at(e->user_hash, query) : e->search,
                                          .rank = e->rank,
                                          .of_candidate = e->of_rival,
                                          .taken_back = !(e->weight > 0)};
    return true;
}

/* erasures: counted before the read began. Clicks that were erased are votes no more. */
static sem_status read_log(trial *t, store_read *r, uint64_t erasures, sem_error *err)
{
    uint64_t last;
    const bool anew = erasures != t->erasures;
    if (anew) {
        t->count = 0;
        t->after = t->before;
    }
    const size_t before = t->count;
    sem_status status = events_last_seq(r, &last, err);
    if (status == SEM_OK && last > t->after)
        status = events_judgements(r, t->after, take_click, t, err);
    if (status == SEM_OK && t->failed)
        status = sem_fail_memory(err, "the clicks of a trial");
    if (status != SEM_OK)
        return status;
    t->after = last;
    t->erasures = erasures;
    if (anew || t->count > before)
        t->count = trial_count(t->clicks, t->count, &t->tally);
    return SEM_OK;
}

/* The trial's first search in the log, if an earlier process came so far, tells when it began. */
static bool find_first(void *context, const event_logged_search *s)
{
    trial *t = context;
    if (s->rival != t->candidate->generation || s->generation != t->current)
        return true;
    if (s->time_ms < t->began_ms)
        t->began_ms = s->time_ms;
    return false;
}

static sem_status find_start(trial *t, store_read *r, int64_t since_ms, sem_error *err)
{
    enum { PIECE = 1000 };
    uint64_t first, last;
    t->began_ms = clock_wall_ms();
    const int64_t now_ms = t->began_ms;
    sem_status status = events_since(r, since_ms, &first, err);
    if (status == SEM_OK)
        status = events_last_seq(r, &last, err);
    if (status != SEM_OK)
        return status;
    events_scan scan = {.at = first};
    while (status == SEM_OK && !scan.ended && t->began_ms == now_ms && scan.at <= last) {
        const uint64_t at = scan.at;
        status = events_scan_some(r, &scan, PIECE, find_first, t, err);
        if (scan.at == at)
            break; /* each() has ended the walk */
    }
    t->before = t->after = first > 0 ? first - 1 : 0;
    return status;
}

static sem_status look(trial *t, int64_t since_ms, bool first, sem_error *err)
{
    store_read *r;
    const uint64_t erasures = atomic_load(&t->job->core->erasures);
    sem_status status = store_read_begin(t->job->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    if (first)
        status = find_start(t, r, since_ms, err);
    if (status == SEM_OK)
        status = read_log(t, r, erasures, err);
    store_read_end(r);
    return status;
}

/* --- the trial */

bool trial_wanted(const job *j)
{
    const bool judged = j->kind == JOB_FINETUNE || (j->kind == JOB_LOAD && j->gate);
    return judged && strcmp(j->settings.finetune.rollout, "interleave") == 0;
}

static void sleep_ms(long ms)
{
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL); /* cut short: one look more */
}

bool trial_leave(atomic_int *state)
{
    int open = TRIAL_OPEN;
    return atomic_compare_exchange_strong(state, &open, TRIAL_LEFT);
}

/* By what it is over; NULL: it is not. */
static const char *ended_by(const trial *t)
{
    const config *c = &t->job->settings;
    const int64_t age_ms = clock_wall_ms() - t->began_ms;
    if (atomic_load(t->job->trial) == TRIAL_LEFT)
        return LEFT;
    if (t->tally.clicks >= c->finetune.rollout_clicks)
        return "clicks";
    return c->finetune.rollout_time_ms > 0 && age_ms >= (int64_t)c->finetune.rollout_time_ms ? "time" : NULL;
}

/* Nobody can leave it from here on. */
static void settle(trial *t)
{
    if (atomic_exchange(t->job->trial, TRIAL_NONE) == TRIAL_LEFT)
        t->ended_by = LEFT;
}

static sem_status keep_up(trial *t, trial_upkeep *upkeep, void *context, sem_error *err)
{
    const uint64_t now = clock_monotonic_ns();
    if (upkeep == NULL || now - t->upkept_ns < (uint64_t)UPKEEP_MS * 1000000)
        return SEM_OK;
    sem_status status = upkeep(context, err);
    t->upkept_ns = clock_monotonic_ns();
    return status;
}

/* Until it is over. */
static sem_status go_on(trial *t, int64_t since_ms, trial_upkeep *upkeep, void *context, sem_error *err)
{
    sem_status status = look(t, since_ms, true, err);
    while (status == SEM_OK && (t->ended_by = ended_by(t)) == NULL) {
        job_status_step(t->job->status, t->tally.clicks, -1);
        if (atomic_load(t->job->cancel))
            return sem_fail(err, SEM_CANCELLED, "cancelled");
        sleep_ms(LOOK_MS);
        status = keep_up(t, upkeep, context, err);
        if (status == SEM_OK)
            status = look(t, since_ms, false, err);
    }
    return status;
}

static void open_trial(trial *t)
{
    core *c = t->job->core;
    serving_release(serving_slot_swap(&c->trial, serving_retain(t->candidate)));
    atomic_store(&c->trying, true);
    log_event(c->log, LOG_LEVEL_INFO, "trial", "state=begun job=%u generation=%u against=%u clicks=%zu", t->job->number,
              t->candidate->generation, t->current, t->job->settings.finetune.rollout_clicks);
}

/* What has the candidate now is let end: its space may be removed next. */
static void close_trial(trial *t)
{
    core *c = t->job->core;
    atomic_store(&c->trying, false);
    serving_release(serving_slot_swap(&c->trial, NULL));
    while (atomic_load(&c->trials) > 0)
        sleep_ms(PLEASE_END_MS);
}

/* Behind the gate's reason, which stays. */
static void decide(trial *t, bool won)
{
    job_status *s = t->job->status;
    char gate[JOB_REASON_MAX], reason[2 * JOB_REASON_MAX];
    const trial_tally *n = &t->tally;
    pthread_mutex_lock(&s->lock);
    memcpy(gate, s->reason, sizeof gate);
    pthread_mutex_unlock(&s->lock);
    snprintf(reason, sizeof reason,
             "%s by %s%zu votes for it, %zu for the current generation and %zu for both, of %zu clicks on interleaved "
             "searches (p = %.4f)%s%s",
             won ? "promoted" : "discarded", t->ended_by == LEFT ? "a rollback that ended its trial after " : "",
             n->won, n->lost, n->even, n->clicks, n->p_value, gate[0] != '\0' ? "; the gate: " : "", gate);
    job_status_decide(s, won, reason);
    log_event(
        t->job->core->log, LOG_LEVEL_INFO, "trial",
        "state=over job=%u generation=%u against=%u won=%zu lost=%zu even=%zu clicks=%zu p_value=%.3g ended_by=%s "
        "decision=%s",
        t->job->number, t->candidate->generation, t->current, n->won, n->lost, n->even, n->clicks, n->p_value,
        t->ended_by, won ? "promoted" : "discarded");
}

sem_status trial_run(job *j, serving *candidate, int64_t since_ms, trial_upkeep *upkeep, void *context, bool *won,
                     sem_error *err)
{
    serving *now = serving_slot_acquire(&j->core->current);
    trial t = {.job = j, .candidate = candidate, .current = now->generation, .upkept_ns = clock_monotonic_ns()};
    serving_release(now);
    trial_count(NULL, 0, &t.tally);
    *won = false;
    open_trial(&t);
    atomic_store(j->trial, TRIAL_OPEN);
    job_enter(j, PHASE_TRIAL, j->settings.finetune.rollout_clicks); /* told once it is so */
    crash_point("trial.begun");
    sem_status status = go_on(&t, since_ms, upkeep, context, err);
    settle(&t);
    close_trial(&t);
    if (status == SEM_OK) {
        *won = t.ended_by != LEFT && t.tally.won > t.tally.lost;
        decide(&t, *won);
        crash_point("trial.decided");
    }
    free(t.clicks);
    return status;
}
