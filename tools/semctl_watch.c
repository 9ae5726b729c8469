/* watch: notifications as they come. */
#include "tools/semctl.h"
#include "tools/semctl_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static sem_status ask(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    if (argument_of(c, a, "topics") == NULL) {
        packer *p = params_key(&m, "topics");
        pack_array(p, 2);
        pack_str(p, "generation");
        pack_str(p, "job");
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status == SEM_OK)
        client_reply_free(&reply);
    return status;
}

static void show_job(const msgpack_object *job)
{
    char *state = ctl_text(job, "state"), *phase = ctl_text(job, "phase");
    char *decision = ctl_text(job, "decision"), *reason = ctl_text(job, "reason");
    bool runs = state != NULL && strcmp(state, "running") == 0 && phase != NULL && phase[0] != '\0';
    printf("job %" PRIu64 ": %s", object_uint(object_get(job, "job"), 0), runs ? phase : state != NULL ? state : "?");
    if (decision != NULL && decision[0] != '\0')
        printf(", %s", decision);
    if (reason != NULL && reason[0] != '\0')
        printf(": %s", reason);
    putchar('\n');
    free(state);
    free(phase);
    free(decision);
    free(reason);
}

static void show_generation(const msgpack_object *value)
{
    char *reason = ctl_text(value, "reason");
    printf("generation %" PRIu64 " is current: %s\n", object_uint(object_get(value, "generation"), 0),
           reason != NULL ? reason : "");
    free(reason);
}

static void show(const semctl *ctl, const client_notification *n)
{
    if (n->lost > 0)
        fprintf(stderr, "semctl: %" PRIu64 " notifications were lost\n", n->lost);
    if (ctl->json) {
        printf("{\"%s\":", n->method);
        convert_write(stdout, &n->value, BIN_FLOAT32);
        printf("}\n");
    } else if (strcmp(n->method, "job") == 0) {
        show_job(&n->value);
    } else if (strcmp(n->method, "generation") == 0) {
        show_generation(&n->value);
    }
}

sem_status run_watch(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *number = argument_of(c, a, "number");
    const int timeout_ms = general_of(a, "timeout") != NULL ? ctl->timeout_ms : -1;
    uint64_t left = UINT64_MAX;
    if (number != NULL && parse_count(number, UINT32_MAX, &left, err) != SEM_OK)
        return ctl_usage(ctl, err, "--number: expected a number, found %s", number);
    sem_status status = ask(ctl, c, a, err);
    for (; status == SEM_OK && left > 0; left--) {
        client_notification n;
        status = client_next_notification(ctl->client, timeout_ms, &n, err);
        if (status != SEM_OK)
            return status;
        show(ctl, &n);
        client_notification_free(&n);
        if (fflush(stdout) != 0)
            return sem_fail(err, SEM_INTERNAL, "cannot write the output: %s", strerror(errno));
    }
    return status;
}
