#include "daemon/backups.h"

#include "base/clock.h"
#include "index/backup.h"

#include <stdio.h>

enum { LOG_INTERVAL_MS = 10000 };

/* One under way. */
typedef struct run {
    const solo_turn *turn;
    char name[BACKUP_NAME_MAX + 1];
    uint64_t logged_ms; /* when progress was last logged */
} run;

void backups_sweep(core *c)
{
    sem_error failed;
    char text[SEM_ERROR_MESSAGE_MAX];
    if (c->settings.storage.backup_dir[0] != '\0' &&
        backup_sweep(c->settings.storage.backup_dir, c->log, &failed) != SEM_OK)
        log_event(c->log, LOG_LEVEL_WARNING, "backup", "message=%s", log_value(text, sizeof text, failed.message));
}

static sem_status on_progress(void *context, uint64_t done, uint64_t total, sem_error *err)
{
    run *r = context;
    uint64_t now = clock_monotonic_ms();
    if (now - r->logged_ms >= LOG_INTERVAL_MS) {
        log_event(r->turn->core->log, LOG_LEVEL_INFO, "backup_progress", "name=%s bytes=%llu of=%llu", r->name,
                  (unsigned long long)done, (unsigned long long)total);
        r->logged_ms = now;
    }
    return solo_step(r->turn, err);
}

static void log_end(const run *r, sem_status status, const backup_result *found, const sem_error *err, uint64_t since)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    if (status == SEM_OK)
        log_event(r->turn->core->log, LOG_LEVEL_INFO, "backup_done",
                  "name=%s bytes=%llu seq=%llu generation=%u duration_ms=%llu", r->name,
                  (unsigned long long)found->bytes, (unsigned long long)found->seq, found->generation,
                  (unsigned long long)(clock_monotonic_ms() - since));
    else
        log_event(r->turn->core->log, LOG_LEVEL_WARNING, "backup_failed", "name=%s code=%s message=%s", r->name,
                  sem_status_name(status), log_value(text, sizeof text, err->message));
}

static void pack_result(answer *a, const task *t, const backup_result *found)
{
    answer_begin(a, t);
    pack_map(&a->pack, 3);
    pack_str(&a->pack, "bytes");
    pack_uint(&a->pack, found->bytes);
    pack_str(&a->pack, "seq");
    pack_uint(&a->pack, found->seq);
    pack_str(&a->pack, "generation");
    pack_uint(&a->pack, found->generation);
}

sem_status backups_take(const solo_turn *turn, answer *a, sem_error *err)
{
    core *c = turn->core;
    const span *name = &turn->task->request->u.backup.name;
    if (c->settings.storage.backup_dir[0] == '\0')
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "storage.backup_dir is not set: the daemon has no folder to put backups into");
    backup_result found;
    uint64_t since = clock_monotonic_ms();
    run r = {.turn = turn, .logged_ms = since};
    snprintf(r.name, sizeof r.name, "%.*s", (int)name->size, name->data);
    backup_options options = {.folder = c->settings.storage.backup_dir,
                              .name = r.name,
                              .growth = c->settings.storage.backup_growth,
                              .progress = on_progress,
                              .context = &r};
    log_event(c->log, LOG_LEVEL_INFO, "backup_started", "name=%s", r.name);
    sem_status status = backup_take(c->store, &options, &found, err);
    log_end(&r, status, &found, err, since);
    if (status == SEM_OK)
        pack_result(a, turn->task, &found);
    return status;
}
