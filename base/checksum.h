/* Checksums of files: XXH3 with 64 bits (Collet 2019, xxhash.com), quicker than any
 * disk. It finds damage, not malice. `xxhsum -H3` prints the same numbers. */
#ifndef SEM_BASE_CHECKSUM_H
#define SEM_BASE_CHECKSUM_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

uint64_t checksum_of(const void *data, size_t size); /* of bytes that are all there */

/* Called with bytes that were worked on since the last call; what is not SEM_OK ends
 * the work with that error. */
typedef sem_status checksum_step(void *context, uint64_t bytes, sem_error *err);

/* Reads the regular file once. to_fd: where the bytes go as well, or -1. step may be
 * NULL. The error names the file. */
sem_status checksum_file(const char *path, int to_fd, uint64_t *sum, uint64_t *bytes, checksum_step *step,
                         void *context, sem_error *err);

#endif
