/* backup, restore, verify: the store as a whole; index export: vectors of a collection. */
#include "index/backup.h"
#include "index/verify.h"
#include "tools/semctl.h"
#include "tools/semctl_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* {bytes, seq, generation}, as the server answers it. */
static void print_result(const semctl *ctl, const char *what, const backup_result *r)
{
    char text[TEXT_MAX];
    if (ctl->json)
        printf("{\"bytes\": %" PRIu64 ", \"seq\": %" PRIu64 ", \"generation\": %" PRIu32 "}\n", r->bytes, r->seq,
               r->generation);
    else
        printf("%s: %s, writes up to %" PRIu64 ", generation %" PRIu32 "\n", what, text_bytes(text, r->bytes), r->seq,
               r->generation);
}

/* A call with one word that takes as long as it takes. */
static sem_status call_long(semctl *ctl, const command *c, const arguments *a, const char *key, client_reply *reply,
                            sem_error *err)
{
    params m;
    if (general_of(a, "timeout") == NULL)
        ctl->timeout_ms = CTL_LONG_TIMEOUT_MS;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    pack_str(params_key(&m, key), a->words[0]);
    return ctl_call(ctl, c->method, &m, reply, err);
}

sem_status run_index_export(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    char text[TEXT_MAX];
    client_reply reply;
    sem_status status = call_long(ctl, c, a, "path", &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("%s: %s\n", a->words[0], text_bytes(text, object_uint(object_get(&reply.value, "bytes"), 0)));
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status run_backup(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    sem_status status = call_long(ctl, c, a, "name", &reply, err);
    if (status != SEM_OK)
        return status;
    backup_result result = {.bytes = object_uint(object_get(&reply.value, "bytes"), 0),
                            .seq = object_uint(object_get(&reply.value, "seq"), 0),
                            .generation = (uint32_t)object_uint(object_get(&reply.value, "generation"), 0)};
    print_result(ctl, a->words[0], &result);
    client_reply_free(&reply);
    return SEM_OK;
}

/* --- restore */

/* Every byte is read twice: to check it, and to copy it. */
static sem_status show(void *context, uint64_t done, uint64_t total, sem_error *err)
{
    char text[TEXT_MAX];
    (void)err;
    double share = total > 0 ? (double)done / (double)total : 1;
    progress_show(context, done * 2 <= total ? "checking" : "copying", share, "of %s", text_bytes(text, total / 2));
    return SEM_OK;
}

sem_status run_restore(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    progress bar;
    backup_result result;
    (void)c;
    progress_begin(&bar);
    sem_status status = backup_restore(a->words[0], a->words[1], show, &bar, &result, err);
    progress_clear(&bar);
    if (status == SEM_OK)
        print_result(ctl, a->words[1], &result);
    return status;
}

/* --- verify */

typedef struct verifying {
    const semctl *ctl;
    progress bar;
} verifying;

static void print_found(void *context, const char *text)
{
    verifying *w = context;
    char *clean = text_clean(text, strlen(text), 0);
    progress_clear(&w->bar);
    fprintf(w->ctl->json ? stderr : stdout, "%s\n", clean != NULL ? clean : text);
    free(clean);
}

static void show_part(void *context, const char *part)
{
    verifying *w = context;
    progress_show(&w->bar, "verifying", -1, "%s", part);
}

sem_status run_verify(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    verifying w = {.ctl = ctl};
    verify_options options = {
        .path = a->words[0], .models = true, .found = print_found, .begun = show_part, .context = &w};
    verify_result r;
    unsigned removed = 0;
    progress_begin(&w.bar);
    sem_status status = store_verify(&options, &r, err);
    progress_clear(&w.bar);
    if (status == SEM_OK && argument_of(c, a, "rebuild") != NULL)
        status = store_remove_caches(a->words[0], &removed, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        printf("{\"violations\": %" PRIu64 ", \"collections\": %" PRIu64 ", \"documents\": %" PRIu64
               ", \"vectors\": %" PRIu64 ", \"lists\": %" PRIu64 ", \"events\": %" PRIu64
               ", \"caches_damaged\": %" PRIu64 ", \"caches_removed\": %u}\n",
               r.violations, r.collections, r.documents, r.vectors, r.lists, r.events, r.caches, removed);
    else
        printf("%" PRIu64 " collections, %" PRIu64 " documents, %" PRIu64 " vectors, %" PRIu64 " events%s\n",
               r.collections, r.documents, r.vectors, r.events,
               removed > 0 ? "; caches were removed, the next start makes them anew" : "");
    if (r.read_only)
        fprintf(stderr,
                "semctl: note: %s cannot be written to, so it was only read; whether a daemon on another machine "
                "has it cannot be told\n",
                a->words[0]);
    if (r.violations == 0 && r.caches > 0 && removed == 0)
        return sem_fail(err, SEM_INTERNAL,
                        "saved lists of %s are damaged; semctl verify --rebuild removes them, and the next start makes "
                        "them anew",
                        a->words[0]);
    if (r.violations == 0)
        return SEM_OK;
    return sem_fail(err, SEM_INTERNAL, "%s is damaged: %" PRIu64 " violations; restore a backup", a->words[0],
                    r.violations);
}
