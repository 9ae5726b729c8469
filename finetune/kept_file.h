/* The file of kept vectors (docs/format.md): blocks of keys and vectors that are only ever
 * appended, and a table that finds them. */
#ifndef SEM_FINETUNE_KEPT_FILE_H
#define SEM_FINETUNE_KEPT_FILE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEPT_BLOCK_MAX = 1024 /* vectors of a block, which is read as a whole when the file is opened */ };

typedef struct kept_file kept_file;

/* Opens or makes it, for vectors of dim numbers of the model with that fingerprint. What is damaged, and
 * all behind it, is cut off; a file of another model begins anew; *told then says so,
 * else it is empty. */
sem_status kept_file_open(kept_file **out, const char *path, uint64_t model, size_t dim, char told[512],
                          sem_error *err);
void kept_file_close(kept_file *f); /* accepts NULL */

/* out[dim]; *found false: there is none. SEM_INTERNAL where the file was changed by others. */
sem_status kept_file_get(kept_file *f, uint64_t key, float *out, bool *found, sem_error *err);
/* Appends vectors [count, dim] of new keys [count], up to KEPT_BLOCK_MAX. After a failure the
 * file is as before. */
sem_status kept_file_put(kept_file *f, const uint64_t *keys, const float *vectors, size_t count, sem_error *err);

uint64_t kept_file_count(const kept_file *f);

#endif
