/* What a request for a backup does. */
#ifndef SEM_DAEMON_BACKUPS_H
#define SEM_DAEMON_BACKUPS_H

#include "daemon/solo.h"

/* Removes what backups that were cut off have left in storage.backup_dir; a failure is
 * logged. At the start. */
void backups_sweep(core *c);

/* Takes one. */
solo_work backups_take;

#endif
