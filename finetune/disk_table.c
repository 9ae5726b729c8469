#include "finetune/disk_table.h"

#include "base/checked.h"
#include "base/files.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST_PLACES = 1 << 12 };

typedef struct place {
    uint64_t key;
    uint64_t value; /* 0: the place is free */
} place;

struct disk_table {
    char folder[FILES_PATH_MAX];
    place *places; /* [capacity] mapped */
    size_t capacity, count;
};

/* Mapped pages of a file that has no room on disk would end the process: it is taken first. */
static sem_status map_places(const disk_table *t, size_t capacity, place **out, sem_error *err)
{
    char path[FILES_PATH_MAX];
    size_t bytes;
    sem_status status = files_join(path, err, "%s/.semtrain-XXXXXX", t->folder);
    if (status != SEM_OK)
        return status;
    if (!checked_mul(capacity, sizeof **out, &bytes))
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "a table of %zu texts is too large", capacity);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return files_fail(err, "create", path);
    unlink(path);
    errno = posix_fallocate(fd, 0, (off_t)bytes);
    void *data = errno == 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (data == MAP_FAILED)
        status = files_fail(err, "make room for a table of texts in", t->folder);
    else
        *out = data;
    close(fd);
    return status;
}

/* The key's place, or the free one where it belongs. */
static place *find_place(place *places, size_t capacity, uint64_t key)
{
    size_t i = (size_t)random_at(key, 0) & (capacity - 1);
    while (places[i].value != 0 && places[i].key != key)
        i = (i + 1) & (capacity - 1);
    return &places[i];
}

static sem_status grow(disk_table *t, sem_error *err)
{
    place *places;
    const size_t capacity = 2 * t->capacity;
    sem_status status = map_places(t, capacity, &places, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < t->capacity; i++)
        if (t->places[i].value != 0)
            *find_place(places, capacity, t->places[i].key) = t->places[i];
    munmap(t->places, t->capacity * sizeof *t->places);
    t->places = places;
    t->capacity = capacity;
    return SEM_OK;
}

sem_status disk_table_create(disk_table **out, const char *folder, sem_error *err)
{
    *out = NULL;
    disk_table *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a table of texts");
    t->capacity = FIRST_PLACES;
    sem_status status = files_join(t->folder, err, "%s", folder);
    if (status == SEM_OK)
        status = map_places(t, t->capacity, &t->places, err);
    if (status == SEM_OK)
        *out = t;
    else
        free(t);
    return status;
}

void disk_table_destroy(disk_table *t)
{
    if (t == NULL)
        return;
    munmap(t->places, t->capacity * sizeof *t->places);
    free(t);
}

sem_status disk_table_put(disk_table *t, uint64_t key, uint64_t value, sem_error *err)
{
    sem_status status = 2 * (t->count + 1) > t->capacity ? grow(t, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    place *at = find_place(t->places, t->capacity, key);
    t->count += at->value == 0;
    *at = (place){key, value};
    return SEM_OK;
}

uint64_t disk_table_get(const disk_table *t, uint64_t key)
{
    return find_place(t->places, t->capacity, key)->value;
}

size_t disk_table_count(const disk_table *t)
{
    return t->count;
}
