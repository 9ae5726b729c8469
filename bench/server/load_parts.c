#include "bench/server/load.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

double load_now(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

sem_status load_map(load_file *out, const char *path, sem_error *err)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &found) != 0 || found.st_size == 0) {
        sem_status status = sem_fail(err, SEM_NOT_FOUND, "%s: %s", path, fd < 0 ? strerror(errno) : "empty");
        if (fd >= 0)
            close(fd);
        return status;
    }
    out->size = (size_t)found.st_size;
    out->data = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (out->data == MAP_FAILED)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot map %s: %s", path, strerror(errno));
    return SEM_OK;
}

int load_by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}
