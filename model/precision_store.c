#include "model/precision_store.h"

#include "base/files.h"
#include "base/hash.h"
#include "model/attention_levels.h"
#include "model/attention_serve.h"
#include "model/json.h"
#include "model/packed_levels.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    STORE_FORMAT = 1, /* goes up when the file's form changes or when the same key may give another result */
    STORE_BYTES_MAX = 64 << 10,
    SAMPLE_BYTES = 4096,
    SAMPLE_EVERY = 256 << 10
};

/* --- the key */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* Weights, configurations, tokenizer; not what semd writes beside them. */
static bool is_of_model(const char *name)
{
    return name[0] != '.' && strncmp(name, "semd_", 5) != 0 &&
           (ends_with(name, ".safetensors") || ends_with(name, ".json"));
}

/* Pages of the file, evenly spread, and its first: a model that was trained on differs in
 * all of a matrix at least, and none of 256 x 256 floats or more lies between two of
 * them; to read all would make a start as slow as the smaller measurements that it
 * saves. What is too small a change to be seen here has another time of change. */
static sem_status hash_samples(uint64_t *out, const char *path, off_t size, sem_error *err)
{
    char page[SAMPLE_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    sem_status status = fd < 0 ? sem_fail(err, SEM_NOT_FOUND, "cannot open %s: %s", path, strerror(errno)) : SEM_OK;
    *out = 0;
    for (off_t at = 0; status == SEM_OK && at < size; at += SAMPLE_EVERY) {
        ssize_t n = pread(fd, page, sizeof page, at);
        if (n < 0)
            status = sem_fail(err, SEM_INTERNAL, "cannot read %s: %s", path, strerror(errno));
        else
            *out = *out * 31 + hash_text(page, (size_t)n);
    }
    if (fd >= 0)
        close(fd);
    return status;
}

/* Adds what the folder's files look like: a sum, since they come in any order. */
static sem_status add_folder(uint64_t *sum, const char *dir, unsigned depth, sem_error *err)
{
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot open folder %s: %s", dir, strerror(errno));
    sem_status status = SEM_OK;
    for (struct dirent *entry; status == SEM_OK && (entry = readdir(folder)) != NULL;) {
        char path[FILES_PATH_MAX], line[FILES_PATH_MAX + 128];
        struct stat st;
        status = files_join(path, err, "%s/%s", dir, entry->d_name);
        if (status != SEM_OK || entry->d_name[0] == '.' || stat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth == 0) /* of a Dense module */
            status = add_folder(sum, path, 1, err);
        if (!S_ISREG(st.st_mode) || !is_of_model(entry->d_name))
            continue;
        uint64_t samples;
        status = hash_samples(&samples, path, st.st_size, err);
        if (status != SEM_OK)
            break;
        int n = snprintf(line, sizeof line, "%u %s %lld %lld.%09ld %llx", depth, entry->d_name, (long long)st.st_size,
                         (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)samples);
        *sum += hash_text(line, (size_t)n);
    }
    closedir(folder);
    return status;
}

sem_status precision_key_create(precision_key *out, const char *dir, const encoder *e, const token_batch *batch,
                                sem_error *err)
{
    const char *simd = encoder_simd(e);
    const packed_kernels k = packed_choose(simd);
    *out = (precision_key){.texts = hash_text(batch->ids, batch->tokens * sizeof *batch->ids)};
    snprintf(out->kernels, sizeof out->kernels, "%s; %s, %s, %s; attention %s, %s", simd, k.name[PACKED_FLOAT32],
             k.name[PACKED_BFLOAT16], k.name[PACKED_INT8], attention_choose(simd, PACKED_FLOAT32)->name,
             attention_choose(simd, PACKED_BFLOAT16)->name);
    return add_folder(&out->files, dir, 0, err);
}

/* --- the file */

static void hexadecimal(char out[17], uint64_t value)
{
    snprintf(out, 17, "%016llx", (unsigned long long)value);
}

static bool text_is(const json_t *root, const char *key, const char *wanted)
{
    const char *found = json_string_value(json_object_get(root, key));
    return found != NULL && strcmp(found, wanted) == 0;
}

/* Why what is stored does not count; NULL: it does. */
static const char *find_difference(const json_t *root, const precision_key *key)
{
    char files[17], texts[17];
    hexadecimal(files, key->files);
    hexadecimal(texts, key->texts);
    if (json_integer_value(json_object_get(root, "format")) != STORE_FORMAT)
        return "it has another format";
    if (!text_is(root, "files", files))
        return "the model's files are others";
    if (!text_is(root, "texts", texts))
        return "other texts were measured";
    return text_is(root, "kernels", key->kernels) ? NULL : "other kernels were measured";
}

static packed_precision find_precision(const char *name)
{
    packed_precision precision = 0;
    while (precision < PACKED_PRECISIONS && (name == NULL || strcmp(name, packed_precision_name(precision)) != 0))
        precision++;
    return precision;
}

/* False where it does not fit e. */
static bool read_table(encoder_precisions *out, const encoder *e, const char *letters)
{
    const size_t count = encoder_matrices(e);
    if (letters == NULL || strlen(letters) != count || count >= sizeof out->letters || strspn(letters, "fbi") != count)
        return false;
    *out = (encoder_precisions){.letters = {0}};
    memcpy(out->letters, letters, count);
    return true;
}

/* False where it is no list of precisions that were tried with e. */
static bool read_attempts(const json_t *list, const encoder *e, precision_measured *out)
{
    precision_measured m = {.fresh = false};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *cosine = json_object_get(item, "cosine");
        const json_t *bound = json_object_get(item, "bound");
        packed_precision p = find_precision(json_string_value(json_object_get(item, "precision")));
        precision_attempt a = {true, json_number_value(bound), json_number_value(cosine), {{0}}};
        if (p == PACKED_PRECISIONS || !json_is_number(cosine) || !json_is_number(bound) || fabs(a.cosine) > 1.000001 ||
            !read_table(&a.table, e, json_string_value(json_object_get(item, "matrices"))))
            return false;
        m.attempts[p] = a;
    }
    *out = m;
    return json_is_array(list);
}

static void ignore(sem_log *log, const char *path, const char *why)
{
    char file[512], reason[512];
    log_event(log, LOG_LEVEL_WARNING, "precision_ignored", "file=%s reason=%s", log_value(file, sizeof file, path),
              log_value(reason, sizeof reason, why));
}

precision_measured precision_store_read(const char *dir, const precision_key *key, const encoder *e, sem_log *log)
{
    precision_measured measured = {.fresh = false};
    char path[FILES_PATH_MAX];
    json_t *root = NULL;
    sem_error err;
    struct stat st;
    if (files_join(path, &err, "%s/" PRECISION_STORE_FILE, dir) != SEM_OK || stat(path, &st) != 0)
        return measured;
    const char *why = json_load_path(&root, path, STORE_BYTES_MAX, &err) != SEM_OK ? err.message
                                                                                   : find_difference(root, key);
    if (why == NULL && !read_attempts(json_object_get(root, "tried"), e, &measured))
        why = "it is damaged";
    if (why != NULL)
        ignore(log, path, why);
    json_decref(root);
    return measured;
}

static json_t *pack(const precision_key *key, const precision_measured *measured)
{
    char files[17], texts[17];
    hexadecimal(files, key->files);
    hexadecimal(texts, key->texts);
    json_t *tried = json_array();
    for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
        const precision_attempt *a = &measured->attempts[p];
        if (a->known)
            json_array_append_new(tried,
                                  json_pack("{s:s, s:f, s:f, s:s}", "precision", packed_precision_name(p), "bound",
                                            a->bound, "cosine", a->cosine, "matrices", a->table.letters));
    }
    return json_pack("{s:i, s:s, s:s, s:s, s:o}", "format", STORE_FORMAT, "files", files, "texts", texts, "kernels",
                     key->kernels, "tried", tried);
}

sem_status precision_store_write(const char *dir, const precision_key *key, const precision_measured *measured,
                                 sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/" PRECISION_STORE_FILE, dir);
    if (status != SEM_OK)
        return status;
    json_t *root = pack(key, measured);
    char *text = root != NULL ? json_dumps(root, JSON_INDENT(1)) : NULL;
    status = text != NULL ? files_write(path, text, strlen(text), err) : sem_fail_memory(err, "a measurement");
    free(text);
    json_decref(root);
    return status;
}
