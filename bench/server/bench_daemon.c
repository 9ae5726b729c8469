#include "bench/server/bench_daemon.h"

#include <stdlib.h>
#include <string.h>

enum { SETTINGS_MAX = 32, OWN = 3 };

static bool set_option(bench_daemon *d, const number_option *numbers, size_t count, const char *argument)
{
    const number_found found = numbers_set(numbers, count, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "folder=", 7) != 0)
        return false;
    d->folder = argument + 7;
    return true;
}

bool bench_daemon_arguments(bench_daemon *d, const number_option *numbers, size_t count, int argc, char **argv)
{
    const char **paths[] = {&d->semd, &d->model};
    size_t found = 0;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 2)
            *paths[found++] = argv[i];
        else if (!set_option(d, numbers, count, argv[i]))
            return false;
    }
    return found == 2;
}

sem_status bench_daemon_place(bench_daemon *d, sem_error *err)
{
    sem_status status = files_make_folder(d->folder, err);
    if (status != SEM_OK)
        return status;
    char *whole = realpath(d->folder, NULL);
    if (whole == NULL)
        return files_fail(err, "find", d->folder);
    status = files_join(d->place, err, "%s", whole);
    free(whole);
    if (status == SEM_OK)
        d->folder = d->place;
    return status;
}

sem_status bench_daemon_start(bench_daemon *d, const char *const *settings, size_t count, sem_error *err)
{
    char own[OWN][FILES_PATH_MAX], log[FILES_PATH_MAX];
    char *argv[2 * (OWN + SETTINGS_MAX) + 2] = {(char *)(uintptr_t)d->semd};
    size_t n = 1;
    if (count > SETTINGS_MAX)
        return sem_fail(err, SEM_INTERNAL, "%zu settings, at most %d are possible", count, SETTINGS_MAX);
    sem_status status = files_join(own[0], err, "storage.path=%s/data", d->folder);
    if (status == SEM_OK)
        status = files_join(own[1], err, "model.path=%s", d->model);
    if (status == SEM_OK)
        status = files_join(own[2], err, "server.listen=unix:%s/socket", d->folder);
    if (status == SEM_OK)
        status = files_join(log, err, "%s/log", d->folder);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < OWN + count; i++) {
        argv[n++] = (char *)"-o";
        argv[n++] = i < OWN ? own[i] : (char *)(uintptr_t)settings[i - OWN];
    }
    return process_start(&d->process, argv, log, false, NULL, err);
}

sem_status bench_daemon_connect(bench_daemon *d, sem_error *err)
{
    return caller_open(&d->caller, d->process.address, err);
}

sem_status bench_daemon_stop(bench_daemon *d, sem_error *err)
{
    caller_close(&d->caller);
    d->caller = (caller){0};
    if (d->process.pid > 0 && !process_stop(&d->process))
        return sem_fail(err, SEM_INTERNAL, "semd did not end in order; see %s", d->process.log);
    return SEM_OK;
}
