/* What semctl's commands share: the connection, building a request from
 * options, and the functions behind the table of commands. */
#ifndef SEM_TOOLS_SEMCTL_H
#define SEM_TOOLS_SEMCTL_H

#include "base/buffer.h"
#include "base/files.h"
#include "proto/client.h"
#include "proto/pack.h"
#include "tools/semctl_convert.h"
#include "tools/semctl_options.h"

#include <stdbool.h>

typedef struct semctl {
    const char *address;
    bool json;
    int timeout_ms;             /* for one answer */
    const char *token_file;     /* --token-file, or NULL */
    char role[CLIENT_ROLE_MAX]; /* of the token given; empty: none was */
    bool no_tokens;             /* one was given, but the server asks for none */
    const char *deadline_ms;    /* text of the option, or NULL */
    client *client;             /* connected at the first request */
    bool usage;                 /* the failure is one of usage: exit status 2 */
} semctl;

enum { CTL_LONG_TIMEOUT_MS = 7 * 24 * 3600 * 1000 /* of what takes as long as it takes, where none is given */ };

/* --- requests */

/* The map of a request while it grows. */
typedef struct params {
    buffer entries;
    packer p;
    size_t count;
} params;

void params_begin(params *m);
/* Packs the key; the value is packed through the packer returned. */
packer *params_key(params *m, const char *key);
/* All options that become part of the request, deadline_ms included. */
sem_status params_options(semctl *ctl, params *m, const command *c, const arguments *a, sem_error *err);
/* [{...}] in *out; frees the map. */
sem_status params_end(params *m, buffer *out, sem_error *err);
void params_free(params *m);

/* An id as people write it: only digits: an integer; in double quotes: that
 * string ("7" is a string); else the string as it stands. */
sem_status pack_id_text(packer *p, const char *text, sem_error *err);
/* An id as pack_id_text reads it back, so that 7 and "7" look different. Freed by the caller; NULL when memory is out. */
char *ctl_id_text(const msgpack_object *id);
/* Digits only, at most `most`. */
sem_status parse_count(const char *text, uint64_t most, uint64_t *out, sem_error *err);
sem_status parse_number(const char *text, double *out, sem_error *err);

/* Connects, and gives the server the token of --token-file or $SEMCTL_TOKEN where there is one. */
sem_status ctl_connect(semctl *ctl, sem_error *err);
/* A usage error: exit status 2. */
sem_status ctl_usage(semctl *ctl, sem_error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Ends the map, sends it, waits. An error answer is an error here. */
sem_status ctl_call(semctl *ctl, const char *method, params *m, client_reply *reply, sem_error *err);
/* With options of the command as they are: params_begin, _options, ctl_call. */
sem_status ctl_simple(semctl *ctl, const command *c, const arguments *a, client_reply *reply, sem_error *err);
/* Prints the result as one line of JSON. */
void ctl_print_json(const client_reply *reply, bin_elements bins);
/* Prints each element of an array (NULL: none) as one line of JSON. */
void ctl_print_lines(const msgpack_object *array);
/* A str of a map for printf("%s"): "" when missing, cleaned for a terminal. Freed by the caller; may be NULL. */
char *ctl_text(const msgpack_object *map, const char *key);

/* Follows a job to its end with a progress bar, prints how it ended. */
sem_status ctl_follow_job(semctl *ctl, uint64_t job, sem_error *err);

/* --- the commands */

typedef sem_status command_run(semctl *ctl, const command *c, const arguments *a, sem_error *err);

command_run run_ping, run_auth, run_info, run_encode, run_collection_create, run_collection_drop, run_collection_list;
command_run run_upsert, run_load, run_delete, run_get, run_count, run_scroll;
command_run run_search, run_explain, run_click, run_feedback, run_events, run_events_erase, run_evaluate;
command_run run_finetune, run_job, run_generations, run_rollback, run_model_load;
command_run run_backup, run_restore, run_verify, run_index_export, run_watch;

#endif
