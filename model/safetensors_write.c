#include "base/checked.h"
#include "base/files.h"
#include "model/safetensors.h"

#include <jansson.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_ALIGNMENT = 8 }; /* so that the data is aligned where the file is mapped */

static bool tensor_bytes(const tensor_source *t, size_t *out)
{
    size_t bytes = sizeof(float);
    for (size_t i = 0; i < t->dims; i++)
        if (!checked_mul(bytes, t->shape[i], &bytes))
            return false;
    *out = bytes;
    return true;
}

/* {"dtype":"F32","shape":[...],"data_offsets":[begin,end]} */
static json_t *describe(const tensor_source *t, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (size_t i = 0; shape != NULL && i < t->dims; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)t->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return shape == NULL ? NULL
                         : json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                     (json_int_t)begin, (json_int_t)end);
}

/* The header as text, padded with spaces; NULL when memory is out. */
static char *header_text(const json_t *header, size_t *length)
{
    char *text = json_dumps(header, JSON_COMPACT);
    if (text == NULL)
        return NULL;
    size_t used = strlen(text);
    size_t padded = (used + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    char *grown = realloc(text, padded + 1);
    if (grown == NULL) {
        free(text);
        return NULL;
    }
    memset(grown + used, ' ', padded - used);
    grown[padded] = '\0';
    *length = padded;
    return grown;
}

static sem_status make_header(char **out, size_t *length, const char *path, const tensor_source *tensors, size_t count,
                              sem_error *err)
{
    json_t *header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t end = 0;
    for (size_t i = 0; header != NULL && i < count; i++) {
        size_t begin = end, bytes;
        if (tensors[i].dims > TENSOR_DIMS_MAX || !tensor_bytes(&tensors[i], &bytes) ||
            !checked_add(begin, bytes, &end) || end > INT64_MAX) {
            json_decref(header);
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s is too large to write", path, tensors[i].name);
        }
        if (json_object_get(header, tensors[i].name) != NULL) {
            json_decref(header);
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s was given twice", path, tensors[i].name);
        }
        if (json_object_set_new(header, tensors[i].name, describe(&tensors[i], begin, end)) != 0) {
            json_decref(header);
            header = NULL;
        }
    }
    *out = header == NULL ? NULL : header_text(header, length);
    json_decref(header);
    return *out == NULL ? sem_fail_memory(err, path) : SEM_OK;
}

static bool write_all(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static bool write_content(int fd, const char *header, size_t length, const tensor_source *tensors, size_t count)
{
    uint64_t prefix = length;
    if (!write_all(fd, &prefix, sizeof prefix) || !write_all(fd, header, length))
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = 0;
        if (!tensor_bytes(&tensors[i], &bytes) || !write_all(fd, tensors[i].data, bytes))
            return false;
    }
    return fsync(fd) == 0;
}

sem_status safetensors_write(const char *path, const tensor_source *tensors, size_t count, sem_error *err)
{
    char temporary[FILES_PATH_MAX];
    char *header = NULL;
    size_t length = 0;
    sem_status status = files_join(temporary, err, "%s.new", path);
    if (status == SEM_OK)
        status = make_header(&header, &length, path, tensors, count, err);
    if (status != SEM_OK)
        return status;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write_content(fd, header, length, tensors, count);
    int reason = errno;
    free(header);
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        reason = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        reason = errno;
    }
    if (ok)
        return files_sync_parent(path, err);
    if (fd >= 0)
        unlink(temporary);
    return sem_fail(err, reason == ENOSPC || reason == EDQUOT ? SEM_RESOURCE_EXHAUSTED : SEM_INTERNAL,
                    "cannot write %s: %s", path, strerror(reason));
}
