/* events erase. */
#include "proto/number.h"
#include "tools/semctl.h"

sem_status run_events_erase(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    char count[NUMBER_TEXT_MAX];
    int given = 0;
    for (size_t i = 0; i < c->option_count; i++)
        given += a->values[i] != NULL;
    if (given != 1)
        return ctl_usage(ctl, err, "give one of --user, --id and --before; try semctl events erase --help");
    if (general_of(a, "timeout") == NULL)
        ctl->timeout_ms = CTL_LONG_TIMEOUT_MS;
    sem_status status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    uint64_t erased = object_uint(object_get(&reply.value, "erased"), 0);
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("%s %s erased\n", number_text(count, erased), erased == 1 ? "event" : "events");
    client_reply_free(&reply);
    return SEM_OK;
}
