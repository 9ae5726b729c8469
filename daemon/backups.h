/* Backups: one at a time, in a thread of its own while it lasts. */
#ifndef SEM_DAEMON_BACKUPS_H
#define SEM_DAEMON_BACKUPS_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/task.h"

typedef struct backups backups;

/* Removes what backups that were cut off have left in storage.backup_dir. */
sem_status backups_create(backups **out, core *c, sem_error *err);
/* Cancels the one under way, which leaves nothing, and waits for its end. Accepts NULL. */
void backups_destroy(backups *b);

/* Answers a backup request at the backup's end, or refuses it at once. Takes t. A worker's thread. */
void backups_start(backups *b, task *t);

/* Loop thread: cancels the one under way and takes no more. */
void backups_drain(backups *b);

#endif
