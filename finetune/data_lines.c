#include "finetune/data_lines.h"

#include "base/checked.h"
#include "base/files.h"

#include <zlib.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, ZLIB_BUFFER = 128 << 10, MARK = 3 /* bytes of a byte order mark */ };

struct data_lines {
    gzFile file;
    char path[FILES_PATH_MAX];
    char *line;      /* [longest + 1] what lies in two chunks is put together here */
    size_t longest;  /* bytes of a line; one more for its "\r" */
    char *chunk;     /* [CHUNK] */
    size_t at, size; /* read up to, in chunk */
    uint64_t offset; /* of the text, where chunk[at] lies */
    uint64_t lines;
};

static sem_status fail_read(data_lines *l, sem_error *err)
{
    int number = Z_OK;
    const char *text = gzerror(l->file, &number);
    if (number == Z_ERRNO)
        return files_fail(err, "read", l->path);
    if (number == Z_BUF_ERROR)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the gzip file ends in the middle, behind line %llu", l->path,
                        (unsigned long long)l->lines);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: cannot decompress behind line %llu: %s", l->path,
                    (unsigned long long)l->lines, text);
}

/* More of the text; size 0 is its end. */
static sem_status fill(data_lines *l, sem_error *err)
{
    int number = Z_OK;
    int got = gzread(l->file, l->chunk, CHUNK);
    l->at = l->size = 0;
    if (got < 0)
        return fail_read(l, err);
    /* What was cut off is said only here. */
    if (got == 0) {
        (void)gzerror(l->file, &number);
        if (number != Z_OK && number != Z_STREAM_END)
            return fail_read(l, err);
    }
    l->size = (size_t)got;
    return SEM_OK;
}

static sem_status pass_mark(data_lines *l, sem_error *err)
{
    sem_status status = fill(l, err);
    if (status == SEM_OK && l->size >= MARK && memcmp(l->chunk, "\xEF\xBB\xBF", MARK) == 0) {
        l->at = MARK;
        l->offset = MARK;
    }
    return status;
}

static sem_status open_file(data_lines *l, const char *path, sem_error *err)
{
    struct stat found;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return files_fail(err, "open", path);
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode)) {
        close(fd);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is no regular file", path);
    }
    l->file = gzdopen(fd, "rb");
    if (l->file == NULL) {
        close(fd);
        return sem_fail_memory(err, path);
    }
    return gzbuffer(l->file, ZLIB_BUFFER) == 0 ? SEM_OK : sem_fail_memory(err, path);
}

sem_status data_lines_open(data_lines **out, const char *path, size_t longest, sem_error *err)
{
    *out = NULL;
    data_lines *l = calloc(1, sizeof *l);
    if (l == NULL)
        return sem_fail_memory(err, path);
    l->longest = longest;
    l->line = checked_realloc(NULL, longest + 1, 1);
    l->chunk = malloc(CHUNK);
    sem_status status = files_join(l->path, err, "%s", path);
    if (status == SEM_OK && (l->line == NULL || l->chunk == NULL))
        status = sem_fail_memory(err, path);
    if (status == SEM_OK)
        status = open_file(l, path, err);
    if (status == SEM_OK)
        status = pass_mark(l, err);
    if (status == SEM_OK)
        *out = l;
    else
        data_lines_close(l);
    return status;
}

void data_lines_close(data_lines *l)
{
    if (l == NULL)
        return;
    if (l->file != NULL)
        (void)gzclose_r(l->file); /* what it could say was said by the last read */
    free(l->line);
    free(l->chunk);
    free(l);
}

/* Appends to the line what fits. */
static void keep(data_lines *l, size_t *length, const char *from, size_t count, bool *too_long)
{
    size_t room = l->longest + 1 - *length;
    if (count > room) {
        count = room;
        *too_long = true;
    }
    if (count > 0)
        memcpy(l->line + *length, from, count);
    *length += count;
}

sem_status data_lines_next(data_lines *l, data_line *line, bool *more, sem_error *err)
{
    size_t length = 0;
    bool any = false, ended = false;
    *line = (data_line){.bytes = l->line};
    while (!ended) {
        if (l->at == l->size) {
            sem_status status = fill(l, err);
            if (status != SEM_OK)
                return status;
            if (l->size == 0)
                break;
        }
        const char *from = l->chunk + l->at;
        const char *end = memchr(from, '\n', l->size - l->at);
        size_t count = end != NULL ? (size_t)(end - from) : l->size - l->at;
        ended = end != NULL;
        any = true;
        keep(l, &length, from, count, &line->too_long);
        l->at += count + ended;
        l->offset += count + ended;
    }
    *more = any;
    l->lines += any;
    if (!line->too_long && length > 0 && l->line[length - 1] == '\r')
        length--;
    if (length > l->longest) {
        line->too_long = true;
        length = l->longest;
    }
    line->length = length;
    return SEM_OK;
}

void data_lines_tell(const data_lines *l, uint64_t *offset, uint64_t *lines)
{
    *offset = l->offset;
    *lines = l->lines;
}

sem_status data_lines_seek(data_lines *l, uint64_t offset, uint64_t lines, sem_error *err)
{
    l->at = l->size = 0;
    /* zlib passes over what lies behind the end without a word, until the next read. */
    if (offset > INT64_MAX || gzseek(l->file, (z_off_t)offset, SEEK_SET) != (z_off_t)offset)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: cannot go to byte %llu of its text", l->path,
                        (unsigned long long)offset);
    l->offset = offset;
    l->lines = lines;
    if (offset == 0)
        return pass_mark(l, err);
    return SEM_OK;
}
