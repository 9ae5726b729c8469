/* semd: options, configuration, exit status. */
#include "base/log.h"
#include "daemon/config.h"
#include "daemon/service.h"
#include "daemon/tokens.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_CONFIG = 2 };

typedef struct options {
    const char *config_path;
    const char **overrides; /* owned array of borrowed texts */
    size_t count;
    bool check;
    int status; /* exit with it at once; below 0: go on */
} options;

static const char usage[] = "usage: semd [-c FILE] [-o section.key=value]... [--check-config] [--version] [--help]\n";

static int print_help(void)
{
    buffer keys = {0};
    if (!config_describe(&keys)) {
        fputs("semd: out of memory\n", stderr);
        return EXIT_FAILED;
    }
    printf("%s\n"
           "  -c FILE                 configuration file; without one the defaults below hold\n"
           "  -o section.key=value    set one key over the file; repeatable\n"
           "  --check-config          read the configuration, print \"ok\" and exit\n"
           "  --version               print the version and exit\n"
           "  -h, --help              print this and exit\n\n"
           "SIGTERM drains and ends, SIGHUP reads the file again. Exit status: 0 after a drain,\n"
           "2 for a bad option or configuration, 1 for anything else that failed.\n\n"
           "Keys, with defaults; (restart) means that a reload does not change them:\n%.*s",
           usage, (int)keys.size, (const char *)keys.data);
    buffer_free(&keys);
    return EXIT_SUCCESS;
}

static void read_options(options *o, int argc, char **argv)
{
    enum { CHECK = 256, VERSION, HELP };
    static const struct option longs[] = {{"check-config", no_argument, NULL, CHECK},
                                          {"version", no_argument, NULL, VERSION},
                                          {"help", no_argument, NULL, HELP},
                                          {NULL, 0, NULL, 0}};
    int found;
    while (o->status < 0 && (found = getopt_long(argc, argv, "c:o:h", longs, NULL)) != -1) {
        switch (found) {
        case 'c': o->config_path = optarg; break;
        case 'o': o->overrides[o->count++] = optarg; break;
        case CHECK: o->check = true; break;
        case VERSION:
            puts("semd " SEMD_VERSION);
            o->status = EXIT_SUCCESS;
            break;
        case 'h':
        case HELP: o->status = print_help(); break;
        default: fputs(usage, stderr); o->status = EXIT_CONFIG;
        }
    }
    if (o->status < 0 && optind < argc) {
        fprintf(stderr, "semd: unexpected argument '%s'\n%s", argv[optind], usage);
        o->status = EXIT_CONFIG;
    }
}

/* The store is read through memory maps, so a file that was cut short, or a disk
 * that fails, is a signal and not an error code. Nothing can go on then; but who
 * restarts the daemon is told what it was. */
static void on_bus_error(int number)
{
    static const char text[] = "level=error event=store_unreadable reason=\"a page of a mapped file could not be read: "
                               "a file below storage.path was cut short, or its disk fails; restore a backup\"\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored, (void)number;
    _exit(EXIT_FAILED);
}

/* All that a start reads of it; a bad file of tokens is a bad configuration. */
static sem_status load_config(config *c, const options *o, sem_error *err)
{
    tokens *unused = NULL;
    config_defaults(c);
    sem_status status = config_load(c, o->config_path, o->overrides, o->count, err);
    if (status == SEM_OK)
        status = tokens_read(&unused, c->auth.tokens, NULL, err);
    tokens_destroy(unused);
    return status;
}

static int run(const options *o)
{
    sem_error error;
    sem_log log;
    config c;
    bool abandoned = false;
    char quoted[SEM_ERROR_MESSAGE_MAX + 16];
    if (load_config(&c, o, &error) != SEM_OK) {
        fprintf(stderr, "semd: %s\n", error.message);
        return EXIT_CONFIG;
    }
    if (o->check) {
        puts("ok");
        return EXIT_SUCCESS;
    }
    log_init(&log, STDERR_FILENO, c.log_level);
    signal(SIGBUS, on_bus_error);
    service_source source = {.path = o->config_path, .overrides = o->overrides, .count = o->count};
    sem_status status = service_run(&c, &source, &log, &abandoned, &error);
    int code = status == SEM_OK ? EXIT_SUCCESS : EXIT_FAILED;
    if (status == SEM_OK)
        log_event(&log, LOG_LEVEL_INFO, "stopped", "%s", "");
    else
        log_event(&log, LOG_LEVEL_ERROR, "failed", "code=%s reason=%s at=%s:%d", sem_status_name(status),
                  log_value(quoted, sizeof quoted, error.message), error.file, error.line);
    if (abandoned)
        _exit(code);
    return code;
}

int main(int argc, char **argv)
{
    options o = {.status = -1, .overrides = calloc((size_t)argc + 1, sizeof *o.overrides)};
    if (o.overrides == NULL) {
        fputs("semd: out of memory\n", stderr);
        return EXIT_FAILED;
    }
    read_options(&o, argc, argv);
    int code = o.status >= 0 ? o.status : run(&o);
    free(o.overrides);
    return code;
}
