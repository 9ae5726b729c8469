/* Numbers by 64-bit keys, as many as there are: the table lies in a file without a name, so
 * that it takes the system's file cache, not the process's memory. */
#ifndef SEM_FINETUNE_DISK_TABLE_H
#define SEM_FINETUNE_DISK_TABLE_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct disk_table disk_table;

/* folder: where the file lies, which is gone when the table or the process is. Room on that
 * disk is taken beforehand: 32 to 64 bytes a key, and half as much again while it grows. */
sem_status disk_table_create(disk_table **out, const char *folder, sem_error *err);
void disk_table_destroy(disk_table *t); /* accepts NULL */

/* value: not 0. A key that is there gets the new value. */
sem_status disk_table_put(disk_table *t, uint64_t key, uint64_t value, sem_error *err);
/* 0 for a key that is not there. */
uint64_t disk_table_get(const disk_table *t, uint64_t key);
size_t disk_table_count(const disk_table *t);

#endif
