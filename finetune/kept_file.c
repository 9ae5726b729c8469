#include "finetune/kept_file.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "base/files.h"
#include "finetune/disk_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[8] = {'s', 'e', 'm', 'd', 'v', 'e', 'c', '1'};

typedef struct file_head {
    char magic[8];
    uint64_t model;
    uint64_t dim;
    uint64_t checksum; /* of what stands before it */
} file_head;

typedef struct block_head {
    uint64_t checksum; /* of the count, the keys and the vectors */
    uint64_t count;
} block_head;

struct kept_file {
    char path[FILES_PATH_MAX];
    int fd;
    size_t dim;
    uint64_t end;         /* bytes of the file: where the next block begins */
    disk_table *places;   /* by key: where a vector begins in the file */
    unsigned char *block; /* one block, its head too */
};

static size_t block_bytes(const kept_file *f, size_t count)
{
    return sizeof(block_head) + count * (sizeof(uint64_t) + f->dim * sizeof(float));
}

static uint64_t block_checksum(const kept_file *f, size_t count)
{
    const size_t from = offsetof(block_head, count);
    return checksum_of(f->block + from, block_bytes(f, count) - from);
}

/* Fewer bytes than asked for: the file ends there. */
static sem_status read_at(const kept_file *f, uint64_t at, void *out, size_t size, size_t *got, sem_error *err)
{
    for (*got = 0; *got < size;) {
        ssize_t n = pread(f->fd, (char *)out + *got, size - *got, (off_t)(at + *got));
        if (n < 0 && errno != EINTR)
            return files_fail(err, "read", f->path);
        if (n == 0)
            break;
        *got += n > 0 ? (size_t)n : 0;
    }
    return SEM_OK;
}

/* --- opening */

static sem_status begin_anew(kept_file *f, uint64_t model, sem_error *err)
{
    file_head head = {.model = model, .dim = f->dim};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    head.checksum = checksum_of(&head, offsetof(file_head, checksum));
    if (ftruncate(f->fd, 0) != 0 || lseek(f->fd, 0, SEEK_SET) < 0)
        return files_fail(err, "empty", f->path);
    f->end = sizeof head;
    return files_write_all(f->fd, f->path, &head, sizeof head, err);
}

/* Notes a block's keys; false: it is not whole. */
static sem_status read_block(kept_file *f, uint64_t size, bool *whole, sem_error *err)
{
    block_head *head = (block_head *)(void *)f->block;
    size_t got;
    *whole = false;
    sem_status status = read_at(f, f->end, head, sizeof *head, &got, err);
    if (status != SEM_OK || got < sizeof *head || head->count == 0 || head->count > KEPT_BLOCK_MAX)
        return status;
    const size_t count = (size_t)head->count, bytes = block_bytes(f, count);
    if (size - f->end < bytes)
        return SEM_OK;
    status = read_at(f, f->end + sizeof *head, f->block + sizeof *head, bytes - sizeof *head, &got, err);
    if (status != SEM_OK || got < bytes - sizeof *head || block_checksum(f, count) != head->checksum)
        return status;
    const uint64_t *keys = (const uint64_t *)(const void *)(head + 1);
    const uint64_t first = f->end + sizeof *head + count * sizeof *keys;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = disk_table_put(f->places, keys[i], first + i * f->dim * sizeof(float), err);
    f->end += bytes;
    *whole = true;
    return status;
}

static sem_status read_blocks(kept_file *f, uint64_t size, char told[512], sem_error *err)
{
    bool whole = true;
    sem_status status = SEM_OK;
    while (status == SEM_OK && whole && f->end < size)
        status = read_block(f, size, &whole, err);
    if (status != SEM_OK || whole)
        return status;
    snprintf(told, 512, "%.400s is damaged behind %zu vectors: the rest is computed anew", f->path,
             disk_table_count(f->places));
    return ftruncate(f->fd, (off_t)f->end) == 0 ? SEM_OK : files_fail(err, "cut", f->path);
}

static sem_status read_all(kept_file *f, uint64_t model, char told[512], sem_error *err)
{
    struct stat st;
    file_head head = {0};
    size_t got;
    if (fstat(f->fd, &st) != 0)
        return files_fail(err, "look at", f->path);
    if (!S_ISREG(st.st_mode))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is no regular file", f->path);
    sem_status status = read_at(f, 0, &head, sizeof head, &got, err);
    if (status != SEM_OK)
        return status;
    if (got == 0)
        return begin_anew(f, model, err);
    /* Nothing of anybody's is written over. */
    if (memcmp(head.magic, MAGIC, got < sizeof MAGIC ? got : sizeof MAGIC) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s holds something else than vectors that are kept: name another file", f->path);
    const bool whole = got == sizeof head && head.checksum == checksum_of(&head, offsetof(file_head, checksum));
    if (whole && head.model == model && head.dim == f->dim) {
        f->end = sizeof head;
        return read_blocks(f, (uint64_t)st.st_size, told, err);
    }
    snprintf(told, 512, "%.400s is %s: all of it is computed anew", f->path,
             whole ? "of another model" : "damaged at its head");
    return begin_anew(f, model, err);
}

static sem_status make_table(kept_file *f, sem_error *err)
{
    char folder[FILES_PATH_MAX];
    sem_status status = files_parent(f->path, folder, err);
    return status == SEM_OK ? disk_table_create(&f->places, folder, err) : status;
}

static sem_status open_file(kept_file *f, uint64_t model, char told[512], sem_error *err)
{
    size_t floats;
    if (f->dim == 0 || !checked_mul(f->dim, (KEPT_BLOCK_MAX + 1) * sizeof(float), &floats))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "vectors of %zu numbers cannot be kept", f->dim);
    f->block = malloc(block_bytes(f, KEPT_BLOCK_MAX));
    if (f->block == NULL)
        return sem_fail_memory(err, "a block of vectors");
    f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (f->fd < 0)
        return files_fail(err, "open", f->path);
    if (flock(f->fd, LOCK_EX | LOCK_NB) != 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s is in use by another run: name another file", f->path);
    sem_status status = make_table(f, err);
    return status == SEM_OK ? read_all(f, model, told, err) : status;
}

sem_status kept_file_open(kept_file **out, const char *path, uint64_t model, size_t dim, char told[512], sem_error *err)
{
    *out = NULL;
    told[0] = '\0';
    kept_file *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sem_fail_memory(err, "a file of vectors");
    f->fd = -1;
    f->dim = dim;
    sem_status status = files_join(f->path, err, "%s", path);
    if (status == SEM_OK)
        status = open_file(f, model, told, err);
    if (status == SEM_OK)
        *out = f;
    else
        kept_file_close(f);
    return status;
}

void kept_file_close(kept_file *f)
{
    if (f == NULL)
        return;
    if (f->fd >= 0)
        close(f->fd);
    disk_table_destroy(f->places);
    free(f->block);
    free(f);
}

/* --- vectors */

sem_status kept_file_get(kept_file *f, uint64_t key, float *out, bool *found, sem_error *err)
{
    const uint64_t at = disk_table_get(f->places, key);
    const size_t bytes = f->dim * sizeof *out;
    size_t got = bytes;
    *found = at != 0;
    sem_status status = *found ? read_at(f, at, out, bytes, &got, err) : SEM_OK;
    if (status == SEM_OK && got < bytes)
        status = sem_fail(err, SEM_INTERNAL, "%s was cut while it was in use", f->path);
    return status;
}

sem_status kept_file_put(kept_file *f, const uint64_t *keys, const float *vectors, size_t count, sem_error *err)
{
    const size_t bytes = block_bytes(f, count), key_bytes = count * sizeof *keys;
    block_head *head = (block_head *)(void *)f->block;
    if (count == 0 || count > KEPT_BLOCK_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a block of %zu vectors: 1 to %d are possible", count,
                        KEPT_BLOCK_MAX);
    head->count = count;
    memcpy(head + 1, keys, key_bytes);
    memcpy((char *)(head + 1) + key_bytes, vectors, count * f->dim * sizeof *vectors);
    head->checksum = block_checksum(f, count);
    sem_status status = lseek(f->fd, (off_t)f->end, SEEK_SET) < 0 ? files_fail(err, "go on in", f->path) : SEM_OK;
    if (status == SEM_OK)
        status = files_write_all(f->fd, f->path, f->block, bytes, err);
    const uint64_t first = f->end + sizeof *head + key_bytes;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = disk_table_put(f->places, keys[i], first + i * f->dim * sizeof(float), err);
    if (status == SEM_OK)
        f->end += bytes;
    else if (ftruncate(f->fd, (off_t)f->end) != 0)
        (void)sem_error_prefix(err, "%s, whose end could not be cut off again", f->path);
    return status;
}

uint64_t kept_file_count(const kept_file *f)
{
    return disk_table_count(f->places);
}
