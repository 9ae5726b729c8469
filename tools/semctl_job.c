/* finetune, job, model load: what takes long, and watching it. */
#include "proto/number.h"
#include "tools/semctl.h"
#include "tools/semctl_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 500 };

static sem_status ask_job(semctl *ctl, uint64_t job, client_reply *reply, sem_error *err)
{
    params m;
    params_begin(&m);
    if (job > 0)
        pack_uint(params_key(&m, "job"), job);
    return ctl_call(ctl, "job", &m, reply, err);
}

/* --- showing a job */

static bool is_over(const msgpack_object *job)
{
    const msgpack_object *state = object_get(job, "state");
    return object_is(state, "done") || object_is(state, "failed") || object_is(state, "cancelled");
}

static bool is_given(const msgpack_object *o)
{
    return o != NULL && o->type != MSGPACK_OBJECT_NIL;
}

static void show_running(progress *bar, const msgpack_object *job)
{
    char *phase = ctl_text(job, "phase"), *state = ctl_text(job, "state");
    char loss[TEXT_MAX] = "", eta[TEXT_MAX] = "", step_text[NUMBER_TEXT_MAX], steps_text[NUMBER_TEXT_MAX];
    uint64_t step = object_uint(object_get(job, "step"), 0), steps = object_uint(object_get(job, "steps"), 0);
    const msgpack_object *loss_value = object_get(job, "loss"), *eta_value = object_get(job, "eta_s");
    if (is_given(loss_value))
        snprintf(loss, sizeof loss, "  loss %.4f", object_double(loss_value, 0));
    if (is_given(eta_value)) {
        char duration[TEXT_MAX];
        text_duration(duration, object_double(eta_value, -1));
        snprintf(eta, sizeof eta, "  ETA %.40s", duration);
    }
    bool named = phase != NULL && phase[0] != '\0';
    progress_show(bar,
                  named           ? phase
                  : state != NULL ? state
                                  : "",
                  steps > 0 ? (double)step / (double)steps : -1, "%s/%s%s%s", number_text(step_text, step),
                  number_text(steps_text, steps), loss, eta);
    free(phase);
    free(state);
}

static void add_metric(table *t, const msgpack_object *value)
{
    if (value != NULL && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        table_add(t, "%" PRIu64, value->via.u64);
    else if (is_given(value))
        table_add(t, "%.4f", object_double(value, 0));
    else
        table_add(t, "-");
}

/* Of each collection only what decides is shown: --json has all. */
static bool is_shown(const char *prefix, const char *name)
{
    return strncmp(prefix, "collections", 11) != 0 || strcmp(name, "mrr") == 0 || strcmp(name, "probe_lower") == 0;
}

/* A row for each figure: heldout.mrr, before, after. */
static void add_metrics(table *t, const char *prefix, const msgpack_object *before, const msgpack_object *after)
{
    const msgpack_object *all = after != NULL && after->type == MSGPACK_OBJECT_MAP ? after : before;
    for (uint32_t i = 0; all != NULL && all->type == MSGPACK_OBJECT_MAP && i < all->via.map.size; i++) {
        const msgpack_object *key = &all->via.map.ptr[i].key;
        char name[TEXT_MAX], full[2 * TEXT_MAX + 2];
        if (key->type != MSGPACK_OBJECT_STR || key->via.str.size >= sizeof name)
            continue;
        memcpy(name, key->via.str.ptr, key->via.str.size);
        name[key->via.str.size] = '\0';
        const msgpack_object *old = object_get(before, name), *new = object_get(after, name);
        int length = snprintf(full, sizeof full, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
        if (length < 0 || (size_t)length >= sizeof full)
            continue;
        if (all->via.map.ptr[i].val.type == MSGPACK_OBJECT_MAP) {
            add_metrics(t, full, old, new);
            continue;
        }
        if (!is_shown(prefix, name))
            continue;
        table_add(t, "%s", full);
        add_metric(t, old);
        add_metric(t, new);
    }
}

static sem_status show_job(const msgpack_object *job, sem_error *err)
{
    static const char *const headers[] = {"", "before", "after"};
    char *state = ctl_text(job, "state"), *phase = ctl_text(job, "phase");
    char *decision = ctl_text(job, "decision"), *reason = ctl_text(job, "reason");
    printf("job %" PRIu64 ": %s", object_uint(object_get(job, "job"), 0), state != NULL ? state : "?");
    if (!is_over(job) && phase != NULL && phase[0] != '\0')
        printf(", %s %" PRIu64 "/%" PRIu64, phase, object_uint(object_get(job, "step"), 0),
               object_uint(object_get(job, "steps"), 0));
    if (decision != NULL && decision[0] != '\0')
        printf(", %s", decision);
    if (is_given(object_get(job, "generation")))
        printf(", generation %" PRIu64, object_uint(object_get(job, "generation"), 0));
    printf("\n");
    if (reason != NULL && reason[0] != '\0')
        printf("%s\n", reason);
    free(state);
    free(phase);
    free(decision);
    free(reason);
    table t;
    table_init(&t, headers, 3, 1U << 1 | 1U << 2);
    add_metrics(&t, "", object_get(job, "metrics_before"), object_get(job, "metrics_after"));
    bool printed = t.count == 0 ? !t.failed : table_print(&t, stdout);
    table_free(&t);
    return printed ? SEM_OK : sem_fail_memory(err, "a table");
}

/* Prints how a job ended; an error unless it is done. */
static sem_status end_job(semctl *ctl, const client_reply *reply, sem_error *err)
{
    sem_status status = SEM_OK;
    if (ctl->json)
        ctl_print_json(reply, BIN_FLOAT32);
    else
        status = show_job(&reply->value, err);
    if (status != SEM_OK || object_is(object_get(&reply->value, "state"), "done"))
        return status;
    char *state = ctl_text(&reply->value, "state");
    sem_fail(err, SEM_FAILED_PRECONDITION, "the job ended as %s", state != NULL ? state : "?");
    free(state);
    return SEM_FAILED_PRECONDITION;
}

sem_status ctl_follow_job(semctl *ctl, uint64_t job, sem_error *err)
{
    progress bar;
    progress_begin(&bar);
    for (;;) {
        client_reply reply;
        sem_status status = ask_job(ctl, job, &reply, err);
        if (status != SEM_OK) {
            progress_clear(&bar);
            return status;
        }
        job = object_uint(object_get(&reply.value, "job"), job);
        if (is_over(&reply.value)) {
            progress_clear(&bar);
            status = end_job(ctl, &reply, err);
            client_reply_free(&reply);
            return status;
        }
        show_running(&bar, &reply.value);
        client_reply_free(&reply);
        struct timespec pause = {0, POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

/* --- the commands */

/* Sends what starts a job; then says its number, or follows it. */
static sem_status start_job(semctl *ctl, const command *c, params *m, bool follow, sem_error *err)
{
    client_reply reply;
    sem_status status = ctl_call(ctl, c->method, m, &reply, err);
    if (status != SEM_OK)
        return status;
    uint64_t job = object_uint(object_get(&reply.value, "job"), 0);
    if (!follow && ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else if (!follow)
        printf("job %" PRIu64 " started; semctl job %" PRIu64 " --follow shows it\n", job, job);
    client_reply_free(&reply);
    return follow ? ctl_follow_job(ctl, job, err) : SEM_OK;
}

sem_status run_finetune(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK)
        return start_job(ctl, c, &m, argument_of(c, a, "wait") != NULL, err);
    params_free(&m);
    return status;
}

sem_status run_model_load(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    pack_str(params_key(&m, "path"), a->words[0]);
    if (status == SEM_OK)
        return start_job(ctl, c, &m, argument_of(c, a, "wait") != NULL, err);
    params_free(&m);
    return status;
}

sem_status run_job(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    client_reply reply;
    uint64_t number = 0;
    bool follow = argument_of(c, a, "follow") != NULL;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK && a->count > 0) {
        status = parse_count(a->words[0], UINT32_MAX, &number, err);
        ctl->usage = status != SEM_OK;
        if (status != SEM_OK)
            sem_error_prefix(err, "JOB");
        pack_uint(params_key(&m, "job"), number);
    }
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    number = object_uint(object_get(&reply.value, "job"), number);
    if (!follow && ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else if (!follow)
        status = show_job(&reply.value, err);
    client_reply_free(&reply);
    return follow ? ctl_follow_job(ctl, number, err) : status;
}
