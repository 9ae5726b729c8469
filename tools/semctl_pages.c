/* scroll, events: what comes in pages, as JSON Lines. */
#include "tools/semctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALL_LIMIT = 500 /* lines a page of an export */ };

void ctl_print_lines(const msgpack_object *array)
{
    for (uint32_t i = 0; array != NULL && array->type == MSGPACK_OBJECT_ARRAY && i < array->via.array.size; i++) {
        convert_write(stdout, &array->via.array.ptr[i], BIN_FLOAT32);
        putchar('\n');
    }
}

static void pack_position(packer *p, const msgpack_object *position)
{
    if (position->type == MSGPACK_OBJECT_BIN)
        pack_bin(p, position->via.bin.ptr, position->via.bin.size);
    else
        pack_strn(p, position->via.str.ptr, position->via.str.size);
}

/* One page behind `after` (a kept reply's `next`), or the first one when it is NULL. */
static sem_status get_page(semctl *ctl, const command *c, const arguments *a, const msgpack_object *after,
                           client_reply *reply, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    if (argument_of(c, a, "limit") == NULL)
        pack_uint(params_key(&m, "limit"), ALL_LIMIT);
    if (after != NULL)
        pack_position(params_key(&m, "after"), after);
    return ctl_call(ctl, c->method, &m, reply, err);
}

static sem_status print_all(semctl *ctl, const command *c, const arguments *a, const char *key, sem_error *err)
{
    arguments first = *a, rest = *a;
    for (size_t i = 0; i < c->option_count; i++)
        if (strcmp(c->options[i].name, "after") == 0)
            rest.values[i] = NULL; /* only the first page begins there */
    client_reply page = {0}, next;
    sem_status status = get_page(ctl, c, &first, NULL, &page, err);
    while (status == SEM_OK) {
        ctl_print_lines(object_get(&page.value, key));
        const msgpack_object *position = object_get(&page.value, "next");
        if (position == NULL || (position->type != MSGPACK_OBJECT_STR && position->type != MSGPACK_OBJECT_BIN))
            break;
        status = get_page(ctl, c, &rest, position, &next, err);
        if (status != SEM_OK)
            break;
        client_reply_free(&page);
        page = next;
    }
    client_reply_free(&page);
    if (status == SEM_OK && (fflush(stdout) != 0 || ferror(stdout)))
        return sem_fail(err, SEM_INTERNAL, "cannot write the output: %s", strerror(errno));
    return status;
}

/* key: what the array of an answer is called. */
static sem_status print_pages(semctl *ctl, const command *c, const arguments *a, const char *key, sem_error *err)
{
    if (argument_of(c, a, "all") != NULL)
        return print_all(ctl, c, a, key, err);
    client_reply reply;
    sem_status status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json) {
        ctl_print_json(&reply, BIN_FLOAT32);
    } else {
        ctl_print_lines(object_get(&reply.value, key));
        char *next = ctl_text(&reply.value, "next");
        if (next != NULL && next[0] != '\0')
            fprintf(stderr, "more: --after %s\n", next);
        free(next);
    }
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status run_scroll(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    return print_pages(ctl, c, a, "docs", err);
}

sem_status run_events(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    return print_pages(ctl, c, a, "events", err);
}
