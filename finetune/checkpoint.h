/* A training run's state on disk: named sections, each with a checksum. Written to
 * a file beside it that takes its place when everything is on disk, so that a run
 * killed at any moment leaves the last whole one. Numbers are as this machine has
 * them: a checkpoint is for the machine that wrote it. */
#ifndef SEM_FINETUNE_CHECKPOINT_H
#define SEM_FINETUNE_CHECKPOINT_H

#include "base/status.h"

#include <stddef.h>

enum { CHECKPOINT_NAME_MAX = 32 /* bytes of a section's name, NUL included */ };

typedef struct checkpoint_writer checkpoint_writer;

sem_status checkpoint_create(checkpoint_writer **out, const char *path, sem_error *err);
/* Each name once. data may be NULL where size is 0. */
sem_status checkpoint_put(checkpoint_writer *w, const char *name, const void *data, size_t size, sem_error *err);
/* Puts it in the place of path, durably. w is gone, on failure too. */
sem_status checkpoint_commit(checkpoint_writer *w, sem_error *err);
/* Leaves path as it is; accepts NULL. */
void checkpoint_abandon(checkpoint_writer *w);

typedef struct checkpoint_reader checkpoint_reader;

/* SEM_NOT_FOUND where there is no such file. All checksums are compared. */
sem_status checkpoint_open(checkpoint_reader **out, const char *path, sem_error *err);
void checkpoint_close(checkpoint_reader *c); /* accepts NULL */
/* A section's bytes, aligned to 8; valid until checkpoint_close. */
sem_status checkpoint_view(const checkpoint_reader *c, const char *name, const void **data, size_t *size,
                           sem_error *err);
/* Copies a section of exactly size bytes. */
sem_status checkpoint_get(const checkpoint_reader *c, const char *name, void *out, size_t size, sem_error *err);

#endif
