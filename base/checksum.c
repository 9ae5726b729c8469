#include "base/checksum.h"

#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The header brings its code along, so that no program needs the library. */
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CHUNK = 1 << 20 /* bytes of one read */ };

uint64_t checksum_of(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

/* --- files */

static sem_status write_all(int fd, const char *path, const char *data, size_t size, sem_error *err)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return files_fail(err, "copy", path);
        data += n;
        size -= (size_t)n;
    }
    return SEM_OK;
}

static sem_status read_through(int fd, const char *path, int to_fd, XXH3_state_t *sum, uint64_t *bytes,
                               checksum_step *step, void *context, sem_error *err)
{
    char *chunk = malloc(CHUNK);
    sem_status status = chunk == NULL ? sem_fail_memory(err, path) : SEM_OK;
    while (status == SEM_OK) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = files_fail(err, "read", path);
        if (n <= 0)
            break;
        (void)XXH3_64bits_update(sum, chunk, (size_t)n);
        *bytes += (uint64_t)n;
        if (to_fd >= 0)
            status = write_all(to_fd, path, chunk, (size_t)n, err);
        if (status == SEM_OK && step != NULL)
            status = step(context, (uint64_t)n, err);
    }
    free(chunk);
    return status;
}

sem_status checksum_file(const char *path, int to_fd, uint64_t *sum, uint64_t *bytes, checksum_step *step,
                         void *context, sem_error *err)
{
    struct stat st;
    XXH3_state_t *state = NULL;
    *bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return files_fail(err, "open", path);
    sem_status status = SEM_OK;
    if (fstat(fd, &st) != 0)
        status = files_fail(err, "stat", path);
    else if (!S_ISREG(st.st_mode))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: not a regular file", path);
    else if ((state = XXH3_createState()) == NULL)
        status = sem_fail_memory(err, "a checksum");
    if (status == SEM_OK) {
        (void)XXH3_64bits_reset(state);
        status = read_through(fd, path, to_fd, state, bytes, step, context, err);
    }
    if (status == SEM_OK)
        *sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    close(fd);
    return status;
}
