#include "daemon/backups.h"

#include "base/clock.h"
#include "index/backup.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOG_INTERVAL_MS = 10000 };

struct backups {
    core *core;
    pthread_mutex_t lock; /* guards running, started, thread, task; rank 4, a leaf */
    bool running;
    bool started; /* thread is to be joined */
    pthread_t thread;
    task *task; /* of the one that runs */
    char name[BACKUP_NAME_MAX + 1];
    uint64_t logged_ms; /* when progress was last logged; the backup's thread only */
    atomic_bool stop;
};

sem_status backups_create(backups **out, core *c, sem_error *err)
{
    backups *b = calloc(1, sizeof *b);
    if (b == NULL)
        return sem_fail_memory(err, "the backups");
    b->core = c;
    pthread_mutex_init(&b->lock, NULL);
    *out = b;
    if (c->settings.storage.backup_dir[0] == '\0')
        return SEM_OK;
    sem_error failed;
    char text[SEM_ERROR_MESSAGE_MAX];
    if (backup_sweep(c->settings.storage.backup_dir, c->log, &failed) != SEM_OK)
        log_event(c->log, LOG_LEVEL_WARNING, "backup", "message=%s", log_value(text, sizeof text, failed.message));
    return SEM_OK;
}

void backups_drain(backups *b)
{
    if (b != NULL)
        atomic_store(&b->stop, true);
}

void backups_destroy(backups *b)
{
    if (b == NULL)
        return;
    backups_drain(b);
    if (b->started)
        pthread_join(b->thread, NULL);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* --- the thread */

static sem_status on_progress(void *context, uint64_t done, uint64_t total, sem_error *err)
{
    backups *b = context;
    uint64_t now = clock_monotonic_ms();
    if (atomic_load(&b->stop))
        return sem_fail(err, SEM_UNAVAILABLE, "the backup was cancelled: the daemon is shutting down");
    if (now - b->logged_ms >= LOG_INTERVAL_MS) {
        log_event(b->core->log, LOG_LEVEL_INFO, "backup_progress", "name=%s bytes=%llu of=%llu", b->name,
                  (unsigned long long)done, (unsigned long long)total);
        b->logged_ms = now;
    }
    return task_check_deadline(b->task, err);
}

static void log_end(const backups *b, sem_status status, const backup_result *r, const sem_error *err, uint64_t since)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    if (status == SEM_OK)
        log_event(b->core->log, LOG_LEVEL_INFO, "backup_done",
                  "name=%s bytes=%llu seq=%llu generation=%u duration_ms=%llu", b->name, (unsigned long long)r->bytes,
                  (unsigned long long)r->seq, r->generation, (unsigned long long)(clock_monotonic_ms() - since));
    else
        log_event(b->core->log, LOG_LEVEL_WARNING, "backup_failed", "name=%s code=%s message=%s", b->name,
                  sem_status_name(status), log_value(text, sizeof text, err->message));
}

static void answer_result(core *c, task *t, const backup_result *r)
{
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 3);
    pack_str(&a.pack, "bytes");
    pack_uint(&a.pack, r->bytes);
    pack_str(&a.pack, "seq");
    pack_uint(&a.pack, r->seq);
    pack_str(&a.pack, "generation");
    pack_uint(&a.pack, r->generation);
    answer_send(c, t, &a);
}

static void *backup_main(void *argument)
{
    backups *b = argument;
    core *c = b->core;
    sem_error err;
    backup_result result;
    uint64_t since = clock_monotonic_ms();
    backup_options options = {.folder = c->settings.storage.backup_dir,
                              .name = b->name,
                              .growth = c->settings.storage.backup_growth,
                              .progress = on_progress,
                              .context = b};
    b->logged_ms = since;
    log_event(c->log, LOG_LEVEL_INFO, "backup_started", "name=%s", b->name);
    sem_status status = backup_take(c->store, &options, &result, &err);
    log_end(b, status, &result, &err, since);
    /* Before the answer: whoever has it may ask for the next. */
    pthread_mutex_lock(&b->lock);
    task *t = b->task;
    b->task = NULL;
    b->running = false;
    pthread_mutex_unlock(&b->lock);
    if (status == SEM_OK)
        answer_result(c, t, &result);
    else
        task_fail(c, t, &err);
    return NULL;
}

/* --- requests */

/* With the lock held. */
static sem_status start(backups *b, task *t, sem_error *err)
{
    const span *name = &t->request->u.backup.name;
    if (atomic_load(&b->stop))
        return sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    if (b->running)
        return sem_fail(err, SEM_ALREADY_EXISTS, "a backup is under way already: \"%s\"", b->name);
    /* The last one's thread has no more to do than to answer. */
    if (b->started)
        pthread_join(b->thread, NULL);
    b->started = false;
    snprintf(b->name, sizeof b->name, "%.*s", (int)name->size, name->data);
    b->task = t;
    if (pthread_create(&b->thread, NULL, backup_main, b) != 0) {
        b->task = NULL;
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread for the backup");
    }
    b->running = b->started = true;
    return SEM_OK;
}

void backups_start(backups *b, task *t)
{
    sem_error err;
    sem_status status;
    if (b->core->settings.storage.backup_dir[0] == '\0') {
        sem_fail(&err, SEM_FAILED_PRECONDITION,
                 "storage.backup_dir is not set: the daemon has no folder to put backups into");
        task_fail(b->core, t, &err);
        return;
    }
    pthread_mutex_lock(&b->lock);
    status = start(b, t, &err);
    pthread_mutex_unlock(&b->lock);
    if (status != SEM_OK)
        task_fail(b->core, t, &err);
}
