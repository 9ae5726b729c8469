/* Backups: a consistent copy of an open store, and putting it back.
 *
 * A backup is a folder with manifest.json, an LMDB environment each for main, events
 * and the vectors, and the model directories (docs/format.md). It is written under
 * another name, "~" and its own, and renamed when all of it is on disk: what has its
 * name is whole. The key that hides user names is in none. */
#ifndef SEM_INDEX_BACKUP_H
#define SEM_INDEX_BACKUP_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"

#include <stdint.h>

enum { BACKUP_NAME_MAX = 128 /* bytes */ };

/* Called now and then, a second apart at most where the disk is not slower than that:
 * bytes that were written of about so many. What is not SEM_OK ends the work with that error. */
typedef sem_status backup_progress(void *context, uint64_t done, uint64_t total, sem_error *err);

typedef struct backup_options {
    const char *folder; /* in which the backup becomes a folder; created if missing */
    const char *name;   /* letters, digits, '.', '_' and '-'; neither "." nor ".." */
    uint64_t growth;    /* bytes that the store's files may grow because of the backup */
    backup_progress *progress;
    void *context;
} backup_options;

typedef struct backup_result {
    uint64_t bytes;      /* of its files */
    uint64_t seq;        /* of the last write that it holds */
    uint32_t generation; /* that is current in it; 0: none */
} backup_result;

/* Copies the store as it was at the beginning, while it is read and written. Events
 * may be older than the rest by what was written in a moment. A candidate generation
 * is left out. Any thread, for as long as it takes: nobody waits for it, but LMDB does
 * not use the pages again that its snapshots still have, so the files may grow.
 * SEM_ALREADY_EXISTS when the folder has such a name; SEM_RESOURCE_EXHAUSTED when the
 * disk has no room or `growth` is passed. After an error nothing is left. */
sem_status backup_take(store *s, const backup_options *options, backup_result *out, sem_error *err);

/* Removes what backups that were cut off have left in the folder, and nothing that has
 * another file in it. No error if it is missing. */
sem_status backup_sweep(const char *folder, sem_log *log, sem_error *err);

/* Makes target, which must not exist or be empty, nor lie in the backup, from a backup:
 * checks every file of it before anything is written, and again while it is copied, then
 * renames. */
sem_status backup_restore(const char *backup, const char *target, backup_progress *progress, void *context,
                          backup_result *out, sem_error *err);

#endif
