#include "finetune/checkpoint.h"

#include "base/checksum.h"
#include "base/crash.h"
#include "base/files.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[8] = "SEMTRN02";

/* Stands before a section's bytes, which are followed by zeros up to a multiple of 8. */
typedef struct section {
    char name[CHECKPOINT_NAME_MAX];
    uint64_t size;
    uint64_t checksum; /* of the bytes */
    uint64_t chain;    /* of this struct up to here and of the section's before: none is missing */
} section;

/* The last section has no name. */

struct checkpoint_writer {
    char path[FILES_PATH_MAX], temporary[FILES_PATH_MAX];
    int fd;
    uint64_t chain;
};

struct checkpoint_reader {
    char path[FILES_PATH_MAX];
    const unsigned char *data; /* mapped */
    size_t size;
};

static uint64_t chain_of(const section *s, uint64_t before)
{
    unsigned char bytes[offsetof(section, chain) + sizeof before];
    memcpy(bytes, s, offsetof(section, chain));
    memcpy(bytes + offsetof(section, chain), &before, sizeof before);
    return checksum_of(bytes, sizeof bytes);
}

static size_t padding(uint64_t size)
{
    return (size_t)(-size & 7);
}

/* --- writing */

static sem_status write_bytes(const checkpoint_writer *w, const void *data, size_t size, sem_error *err)
{
    return files_write_all(w->fd, w->temporary, data, size, err);
}

sem_status checkpoint_create(checkpoint_writer **out, const char *path, sem_error *err)
{
    *out = NULL;
    checkpoint_writer *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "a checkpoint");
    sem_status status = files_join(w->path, err, "%s", path);
    if (status == SEM_OK)
        status = files_join(w->temporary, err, "%s.new", path);
    if (status != SEM_OK) {
        free(w);
        return status;
    }
    w->fd = open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        status = files_fail(err, "create", w->temporary);
        free(w);
        return status;
    }
    crash_point("checkpoint.created");
    status = write_bytes(w, MAGIC, sizeof MAGIC, err);
    if (status == SEM_OK)
        *out = w;
    else
        checkpoint_abandon(w);
    return status;
}

void checkpoint_abandon(checkpoint_writer *w)
{
    if (w == NULL)
        return;
    close(w->fd);
    unlink(w->temporary);
    free(w);
}

sem_status checkpoint_put(checkpoint_writer *w, const char *name, const void *data, size_t size, sem_error *err)
{
    static const char zeros[8];
    section s = {.size = size, .checksum = checksum_of(data != NULL ? data : zeros, size)};
    if (strlen(name) >= sizeof s.name)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a checkpoint's section \"%s\": the name has more than %zu bytes",
                        name, sizeof s.name - 1);
    snprintf(s.name, sizeof s.name, "%s", name);
    s.chain = w->chain = chain_of(&s, w->chain);
    sem_status status = write_bytes(w, &s, sizeof s, err);
    if (status == SEM_OK)
        status = write_bytes(w, data, size, err);
    return status == SEM_OK ? write_bytes(w, zeros, padding(size), err) : status;
}

sem_status checkpoint_commit(checkpoint_writer *w, sem_error *err)
{
    sem_status status = checkpoint_put(w, "", NULL, 0, err);
    crash_point("checkpoint.written");
    if (status == SEM_OK && fsync(w->fd) != 0)
        status = files_fail(err, "fsync", w->temporary);
    crash_point("checkpoint.synced");
    if (status == SEM_OK && rename(w->temporary, w->path) != 0)
        status = files_fail(err, "rename", w->temporary);
    if (status != SEM_OK) {
        checkpoint_abandon(w);
        return status;
    }
    crash_point("checkpoint.renamed");
    status = files_sync_parent(w->path, err);
    close(w->fd);
    free(w);
    return status;
}

/* --- reading */

static sem_status fail_damaged(const checkpoint_reader *c, const char *what, sem_error *err)
{
    return sem_fail(err, SEM_FAILED_PRECONDITION, "the checkpoint %s is damaged (%s): remove it to begin anew", c->path,
                    what);
}

/* Goes from section to section; *at is behind the magic bytes first. */
static sem_status next_section(const checkpoint_reader *c, size_t *at, uint64_t *chain, section *s, sem_error *err)
{
    if (c->size - *at < sizeof *s)
        return fail_damaged(c, "it ends early", err);
    memcpy(s, c->data + *at, sizeof *s);
    if (s->chain != chain_of(s, *chain))
        return fail_damaged(c, "a section's head", err);
    *at += sizeof *s;
    if (s->size > c->size - *at || padding(s->size) > c->size - *at - s->size)
        return fail_damaged(c, "it ends early", err);
    if (checksum_of(c->data + *at, (size_t)s->size) != s->checksum)
        return fail_damaged(c, s->name, err);
    *chain = s->chain;
    *at += (size_t)s->size + padding(s->size);
    return SEM_OK;
}

static sem_status verify(const checkpoint_reader *c, sem_error *err)
{
    size_t at = sizeof MAGIC;
    uint64_t chain = 0;
    section s = {.name = "?"};
    if (c->size < at || memcmp(c->data, MAGIC, sizeof MAGIC) != 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s is no checkpoint of this version: remove it to begin anew",
                        c->path);
    while (s.name[0] != '\0') {
        sem_status status = next_section(c, &at, &chain, &s, err);
        if (status != SEM_OK)
            return status;
    }
    return at == c->size ? SEM_OK : fail_damaged(c, "bytes behind its end", err);
}

static sem_status map_file(checkpoint_reader *c, sem_error *err)
{
    struct stat st;
    int fd = open(c->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return files_fail(err, "open", c->path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s is no checkpoint: remove it to begin anew", c->path);
    }
    void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    sem_status status = data == MAP_FAILED ? files_fail(err, "map", c->path) : SEM_OK;
    close(fd);
    if (status != SEM_OK)
        return status;
    c->data = data;
    c->size = (size_t)st.st_size;
    return SEM_OK;
}

sem_status checkpoint_open(checkpoint_reader **out, const char *path, sem_error *err)
{
    *out = NULL;
    checkpoint_reader *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "a checkpoint");
    sem_status status = files_join(c->path, err, "%s", path);
    if (status == SEM_OK)
        status = map_file(c, err);
    if (status == SEM_OK)
        status = verify(c, err);
    if (status == SEM_OK)
        *out = c;
    else
        checkpoint_close(c);
    return status;
}

void checkpoint_close(checkpoint_reader *c)
{
    if (c == NULL)
        return;
    if (c->data != NULL)
        munmap((void *)(uintptr_t)c->data, c->size);
    free(c);
}

sem_status checkpoint_view(const checkpoint_reader *c, const char *name, const void **data, size_t *size,
                           sem_error *err)
{
    section s = {.name = "?"};
    for (size_t at = sizeof MAGIC; s.name[0] != '\0'; at += sizeof s + (size_t)s.size + padding(s.size)) {
        memcpy(&s, c->data + at, sizeof s);
        if (strcmp(s.name, name) != 0)
            continue;
        *data = c->data + at + sizeof s;
        *size = (size_t)s.size;
        return SEM_OK;
    }
    return sem_fail(err, SEM_FAILED_PRECONDITION, "the checkpoint %s has no section \"%s\": it is of another run",
                    c->path, name);
}

sem_status checkpoint_get(const checkpoint_reader *c, const char *name, void *out, size_t size, sem_error *err)
{
    const void *data = NULL;
    size_t found = 0;
    sem_status status = checkpoint_view(c, name, &data, &found, err);
    if (status != SEM_OK)
        return status;
    if (found != size)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "the checkpoint %s has %zu bytes in section \"%s\", this run needs %zu: it is of another run",
                        c->path, found, name, size);
    if (size > 0)
        memcpy(out, data, size);
    return SEM_OK;
}
