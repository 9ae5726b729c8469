/* What a backup holds: manifest.json, written last. A folder without one is no
 * backup. docs/format.md describes it. */
#ifndef SEM_INDEX_BACKUP_MANIFEST_H
#define SEM_INDEX_BACKUP_MANIFEST_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BACKUP_VERSION = 1 /* of the manifest, and the newest that is read */ };

typedef struct manifest_entry {
    char *path;  /* owned; below the backup's folder */
    bool folder; /* of which only the name is kept */
    uint64_t bytes;
    uint64_t checksum; /* base/checksum.h */
} manifest_entry;

typedef struct backup_manifest {
    int64_t created_ms;  /* Unix time */
    uint64_t format;     /* docs/format.md: of the store */
    uint64_t seq;        /* of the last write that it holds */
    uint32_t generation; /* that is current in it; 0: none */
    uint64_t bytes;      /* of all files, this one not counted */
    manifest_entry *entries;
    size_t count, capacity;
} backup_manifest;

void manifest_free(backup_manifest *m);
/* A folder: before what lies in it. */
sem_status manifest_add_folder(backup_manifest *m, const char *path, sem_error *err);
sem_status manifest_add_file(backup_manifest *m, const char *path, uint64_t bytes, uint64_t sum, sem_error *err);

/* Writes manifest.json into the folder, durably. */
sem_status manifest_write(const backup_manifest *m, const char *folder, sem_error *err);
/* Reads it and checks all of it, every byte by its own checksum; *out is to be freed.
 * SEM_FAILED_PRECONDITION when a newer semd wrote it, SEM_INVALID_ARGUMENT when it is
 * damaged or not there; the error names the file. */
sem_status manifest_read(backup_manifest *out, const char *folder, sem_error *err);

#endif
