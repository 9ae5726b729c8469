#include "tools/demo/demo_daemon.h"

#include "base/files.h"
#include "tools/demo/rpc.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { READY_POLL_MS = 50, OWN_WORDS = 12 };

/* It listens before it is ready: UNAVAILABLE until then. */
static sem_status wait_until_ready(client *c, const char *log, sem_error *err)
{
    for (int waited = 0;; waited += READY_POLL_MS) {
        client_reply reply;
        sem_status status = client_call(c, "info", NULL, 0, RPC_TIMEOUT_MS, &reply, err);
        if (status != SEM_OK)
            return status;
        bool starting = reply.is_error && strcmp(reply.code, "UNAVAILABLE") == 0;
        client_reply_free(&reply);
        if (!starting)
            return SEM_OK;
        if (waited >= RPC_TIMEOUT_MS)
            return sem_fail(err, SEM_UNAVAILABLE, "the daemon is still starting; see %s", log);
        struct timespec pause = {0, READY_POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

sem_status demo_daemon_start(process *out, client **connection, const demo_daemon_setup *setup, sem_error *err)
{
    char path[FILES_PATH_MAX + 32], model[FILES_PATH_MAX + 32];
    snprintf(path, sizeof path, "storage.path=%s", setup->data);
    snprintf(model, sizeof model, "model.path=%s", setup->model);
    const char *argv[OWN_WORDS + 2 * DEMO_DAEMON_OPTIONS_MAX] = {
        setup->semd, "-o", "server.listen=tcp://127.0.0.1:0", "-o", "server.http=", "-o", path, "-o",
        model,       "-o", "finetune.enabled=false"};
    size_t count = OWN_WORDS - 1, most = sizeof argv / sizeof *argv - 1;
    for (const char *const *option = setup->options; option != NULL && *option != NULL; option++) {
        if (count + 2 > most)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "more than %d options for the daemon", DEMO_DAEMON_OPTIONS_MAX);
        argv[count++] = "-o";
        argv[count++] = *option;
    }
    sem_status status = process_start(out, (char *const *)argv, setup->log, setup->keep, setup->mask, err);
    if (status == SEM_OK)
        status = client_connect(connection, out->address, RPC_TIMEOUT_MS, err);
    return status == SEM_OK ? wait_until_ready(*connection, setup->log, err) : status;
}
