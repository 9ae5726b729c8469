#include "index/backup_manifest.h"

#include "base/checksum.h"
#include "base/files.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANIFEST_MAX = 64 << 20 /* bytes */, SUM_TEXT = 16 /* digits */ };

/* The file ends with a checksum of all before it, so that it vouches for itself and
 * is JSON none the less. */
static const char TAIL_FORMAT[] = ",\n  \"checksum\": \"%016" PRIx64 "\"\n}\n";
enum { TAIL = sizeof ",\n  \"checksum\": \"0123456789abcdef\"\n}\n" - 1 };

void manifest_free(backup_manifest *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->entries[i].path);
    free(m->entries);
    *m = (backup_manifest){0};
}

static sem_status add(backup_manifest *m, const char *path, manifest_entry entry, sem_error *err)
{
    if (m->count == m->capacity) {
        size_t capacity = m->capacity == 0 ? 16 : 2 * m->capacity;
        manifest_entry *more = reallocarray(m->entries, capacity, sizeof *more);
        if (more == NULL)
            return sem_fail_memory(err, "a backup's manifest");
        m->entries = more;
        m->capacity = capacity;
    }
    entry.path = strdup(path);
    if (entry.path == NULL)
        return sem_fail_memory(err, "a backup's manifest");
    m->entries[m->count++] = entry;
    m->bytes += entry.bytes;
    return SEM_OK;
}

sem_status manifest_add_folder(backup_manifest *m, const char *path, sem_error *err)
{
    return add(m, path, (manifest_entry){.folder = true}, err);
}

sem_status manifest_add_file(backup_manifest *m, const char *path, uint64_t bytes, uint64_t sum, sem_error *err)
{
    return add(m, path, (manifest_entry){.bytes = bytes, .checksum = sum}, err);
}

/* --- writing */

static json_t *entry_json(const manifest_entry *e)
{
    char sum[SUM_TEXT + 1];
    if (e->folder)
        return json_pack("{s:s, s:b}", "path", e->path, "folder", 1);
    snprintf(sum, sizeof sum, "%016" PRIx64, e->checksum);
    return json_pack("{s:s, s:I, s:s}", "path", e->path, "bytes", (json_int_t)e->bytes, "xxh3", sum);
}

static json_t *manifest_json(const backup_manifest *m)
{
    json_t *files = json_array();
    for (size_t i = 0; i < m->count && files != NULL; i++)
        if (json_array_append_new(files, entry_json(&m->entries[i])) != 0) {
            json_decref(files);
            return NULL;
        }
    return json_pack("{s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "backup", BACKUP_VERSION, "semd", SEMD_VERSION,
                     "format", (json_int_t)m->format, "created", (json_int_t)m->created_ms, "seq", (json_int_t)m->seq,
                     "generation", (json_int_t)m->generation, "bytes", (json_int_t)m->bytes, "files", files);
}

sem_status manifest_write(const backup_manifest *m, const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX], tail[TAIL + 1];
    sem_status status = files_join(path, err, "%s/manifest.json", folder);
    if (status != SEM_OK)
        return status;
    json_t *value = manifest_json(m);
    char *body = value != NULL ? json_dumps(value, JSON_INDENT(2)) : NULL;
    json_decref(value);
    size_t length = body != NULL ? strlen(body) : 0;
    char *text = length > 2 ? malloc(length + TAIL + 1) : NULL;
    if (text != NULL) {
        length -= 2; /* without the line end and the brace that close the object */
        snprintf(tail, sizeof tail, TAIL_FORMAT, checksum_of(body, length));
        memcpy(text, body, length);
        memcpy(text + length, tail, TAIL + 1);
        status = files_write(path, text, length + TAIL, err);
    } else {
        status = sem_fail_memory(err, "a backup's manifest");
    }
    free(text);
    free(body);
    return status;
}

/* --- reading */

static sem_status damaged(const char *path, const char *what, sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is damaged: %s; take another backup", path, what);
}

static bool vouches_for_itself(const char *text, size_t size)
{
    char tail[TAIL + 1];
    if (size < TAIL)
        return false;
    snprintf(tail, sizeof tail, TAIL_FORMAT, checksum_of(text, size - TAIL));
    return memcmp(text + size - TAIL, tail, TAIL) == 0;
}

/* Only what lies below the folder is written where it is restored. */
static bool is_path(const char *path)
{
    if (path == NULL || path[0] == '\0')
        return false;
    for (const char *part = path; part != NULL; part = strchr(part, '/'), part += part != NULL) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && memcmp(part, "..", 2) == 0))
            return false;
    }
    return true;
}

static bool read_entry(backup_manifest *m, json_t *value, sem_error *err)
{
    const char *path = json_string_value(json_object_get(value, "path"));
    const char *sum = json_string_value(json_object_get(value, "xxh3"));
    json_t *bytes = json_object_get(value, "bytes");
    if (!is_path(path))
        return false;
    if (json_is_true(json_object_get(value, "folder")))
        return manifest_add_folder(m, path, err) == SEM_OK;
    if (!json_is_integer(bytes) || json_integer_value(bytes) < 0 || sum == NULL || strlen(sum) != SUM_TEXT)
        return false;
    return manifest_add_file(m, path, (uint64_t)json_integer_value(bytes), strtoull(sum, NULL, 16), err) == SEM_OK;
}

static uint64_t number_of(json_t *value, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(value, key));
}

static sem_status read_json(backup_manifest *out, json_t *value, const char *path, sem_error *err)
{
    json_t *files = json_object_get(value, "files");
    if (number_of(value, "backup") > BACKUP_VERSION)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s has version %" PRIu64 ", this semctl reads up to %d", path,
                        number_of(value, "backup"), BACKUP_VERSION);
    out->format = number_of(value, "format");
    out->created_ms = (int64_t)number_of(value, "created");
    out->seq = number_of(value, "seq");
    out->generation = (uint32_t)number_of(value, "generation");
    for (size_t i = 0; i < json_array_size(files); i++)
        if (!read_entry(out, json_array_get(files, i), err))
            return damaged(path, "an entry of files", err);
    if (out->count == 0 || out->bytes != number_of(value, "bytes"))
        return damaged(path, "its files are not all named", err);
    return SEM_OK;
}

sem_status manifest_read(backup_manifest *out, const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX], *text;
    size_t size;
    *out = (backup_manifest){0};
    sem_status status = files_join(path, err, "%s/manifest.json", folder);
    if (status == SEM_OK)
        status = files_read(path, MANIFEST_MAX, &text, &size, err);
    if (status == SEM_NOT_FOUND)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is no backup, or one that was never finished: no manifest.json",
                        folder);
    if (status != SEM_OK)
        return status;
    json_t *value = vouches_for_itself(text, size) ? json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    status = json_is_object(value) ? read_json(out, value, path, err) : damaged(path, "its checksum is wrong", err);
    json_decref(value);
    free(text);
    if (status != SEM_OK)
        manifest_free(out);
    return status;
}
