#include "tools/semctl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DEFAULT_ADDRESS[] = "tcp://127.0.0.1:7700";
enum { DEFAULT_TIMEOUT_S = 600, TIMEOUT_MAX_S = 7 * 24 * 3600, EXIT_USAGE = 2, EXIT_PRECONDITION = 3, EXIT_EXISTS = 4 };

static sem_status read_general(semctl *ctl, const arguments *a, sem_error *err)
{
    const char *address = general_of(a, "server"), *environment = getenv("SEMD_ADDRESS");
    const char *timeout = general_of(a, "timeout");
    double seconds = DEFAULT_TIMEOUT_S;
    ctl->address = address != NULL                                 ? address
                   : environment != NULL && environment[0] != '\0' ? environment
                                                                   : DEFAULT_ADDRESS;
    if (strncmp(ctl->address, "tcp://", strlen("tcp://")) != 0 && strncmp(ctl->address, "unix:", strlen("unix:")) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: \"%.200s\" is neither tcp://host:port nor unix:/path",
                        address != NULL ? "--server" : "$SEMD_ADDRESS", ctl->address);
    ctl->token_file = general_of(a, "token-file");
    ctl->json = general_of(a, "json") != NULL;
    ctl->deadline_ms = general_of(a, "deadline-ms");
    if (timeout != NULL && parse_number(timeout, &seconds, err) != SEM_OK)
        return sem_error_prefix(err, "--timeout");
    if (!(seconds > 0 && seconds <= TIMEOUT_MAX_S))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "--timeout: must be above 0 and at most %d", TIMEOUT_MAX_S);
    ctl->timeout_ms = (int)ceil(seconds * 1e3);
    return SEM_OK;
}

/* Up to the command and what it is given. */
static sem_status parse(int argc, char **argv, semctl *ctl, const command **c, const char **group, arguments *a,
                        sem_error *err)
{
    int next;
    *c = NULL;
    sem_status status = options_parse_general(argc, argv, a, &next, err);
    *group = status == SEM_OK ? options_find_group(argc, argv, next) : NULL;
    if (status != SEM_OK || *group != NULL)
        return status;
    bool only_general = general_of(a, "help") != NULL || general_of(a, "version") != NULL;
    if (next < argc || !only_general)
        status = options_find_command(argc, argv, &next, c, err);
    if (status == SEM_OK && *c != NULL)
        status = options_parse_command(argc, argv, next, *c, a, err);
    return status == SEM_OK ? read_general(ctl, a, err) : status;
}

static int run(int argc, char **argv, semctl *ctl, sem_error *err)
{
    arguments a = {0};
    const command *c;
    const char *group;
    if (parse(argc, argv, ctl, &c, &group, &a, err) != SEM_OK) {
        fprintf(stderr, "semctl: %s\n", err->message);
        return EXIT_USAGE;
    }
    if (group != NULL) {
        options_print_group_help(stdout, group);
        return EXIT_SUCCESS;
    }
    if (general_of(&a, "version") != NULL) {
        printf("semctl %s\n", SEMD_VERSION);
        return EXIT_SUCCESS;
    }
    if (general_of(&a, "help") != NULL) {
        if (c != NULL)
            options_print_command_help(stdout, c);
        else
            options_print_help(stdout);
        return EXIT_SUCCESS;
    }
    sem_status status = c->run(ctl, c, &a, err);
    if (status == SEM_OK && fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_SUCCESS;
    if (status == SEM_OK)
        fprintf(stderr, "semctl: cannot write the output\n");
    else if (ctl->usage)
        fprintf(stderr, "semctl: %s\n", err->message);
    else
        fprintf(stderr, "semctl: %s: %s\n", sem_status_name(status), err->message);
    if (ctl->usage)
        return EXIT_USAGE;
    /* "Not yet" and "it is there already" are no failures of the one who asked: a timer must be able to tell. */
    return status == SEM_FAILED_PRECONDITION ? EXIT_PRECONDITION
           : status == SEM_ALREADY_EXISTS    ? EXIT_EXISTS
                                             : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    semctl ctl = {0};
    sem_error err = {0};
    int status = run(argc, argv, &ctl, &err);
    client_close(ctl.client);
    return status;
}
