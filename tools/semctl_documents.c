/* upsert, load, delete, get, count. */
#include "base/utf8.h"
#include "proto/number.h"
#include "tools/semctl.h"
#include "tools/semctl_bulk.h"
#include "tools/semctl_files.h"
#include "tools/semctl_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- upsert */

static sem_status upsert_file(semctl *ctl, const command *c, const arguments *a, const char *path, sem_error *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    if (in == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    struct stat s;
    uint64_t total = fstat(fileno(in), &s) == 0 && S_ISREG(s.st_mode) ? (uint64_t)s.st_size : 0;
    bulk *b = NULL;
    sem_status status =
        bulk_create(&b, ctl, argument_of(c, a, "collection"), argument_of(c, a, "generation"), total, err);
    if (status == SEM_OK)
        status = bulk_add_lines(b, in, standard ? "standard input" : path, err);
    if (status == SEM_OK)
        status = bulk_finish(b, err);
    bulk_destroy(b);
    if (!standard)
        fclose(in);
    return status;
}

static sem_status upsert_one(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *meta = argument_of(c, a, "meta");
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    packer *p = params_key(&m, "docs");
    pack_array(p, 1);
    pack_map(p, meta != NULL ? 3 : 2);
    pack_str(p, "id");
    if (status == SEM_OK)
        status = pack_id_text(p, a->words[0], err);
    pack_str(p, "text");
    pack_str(p, a->words[1]);
    if (meta != NULL && status == SEM_OK) {
        pack_str(p, "meta");
        if (convert_object(p, meta, err) != SEM_OK)
            status = sem_error_prefix(err, "--meta");
    }
    if (status != SEM_OK) {
        params_free(&m);
        ctl->usage = true;
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("stored%s\n", object_uint(object_get(&reply.value, "truncated"), 0) > 0
                                 ? ", cut to the model's length for its vector"
                                 : "");
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status run_upsert(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *file = argument_of(c, a, "file");
    if (file != NULL && (a->count > 0 || argument_of(c, a, "meta") != NULL))
        return ctl_usage(ctl, err, "with --file there is no ID, TEXT or --meta; try semctl upsert --help");
    if (file == NULL && a->count != 2)
        return ctl_usage(ctl, err, "give ID and TEXT, or --file; try semctl upsert --help");
    if (file == NULL && argument_of(c, a, "generation") != NULL)
        return ctl_usage(ctl, err, "--generation goes with --file, whose lines may bring vectors");
    return file != NULL ? upsert_file(ctl, c, a, file, err) : upsert_one(ctl, c, a, err);
}

/* --- load */

static sem_status load_text(bulk *b, const input_file *file, buffer *doc, sem_error *err)
{
    sem_error why;
    char *text;
    size_t size;
    if (files_read(file->path, LOAD_TEXT_MAX, &text, &size, &why) != SEM_OK) {
        bulk_reject(b, file->path, 0, why.message);
        return SEM_OK;
    }
    if (!utf8_valid(text, size) || memchr(text, '\0', size) != NULL) {
        free(text);
        bulk_reject(b, file->path, 0, "is no UTF-8 text");
        return SEM_OK;
    }
    packer p;
    doc->size = 0;
    pack_init(&p, doc);
    pack_map(&p, 2);
    pack_str(&p, "id");
    pack_str(&p, file->id);
    pack_str(&p, "text");
    pack_strn(&p, text, size);
    free(text);
    if (p.failed)
        return sem_fail_memory(err, "a document");
    return bulk_add(b, doc->data, doc->size, size, file->path, 0, (size_t)file->bytes, err);
}

static sem_status load_file(bulk *b, const input_file *file, buffer *doc, sem_error *err)
{
    if (!file->is_lines)
        return load_text(b, file, doc, err);
    FILE *in = fopen(file->path, "re");
    if (in == NULL) {
        bulk_reject(b, file->path, 0, strerror(errno));
        return SEM_OK;
    }
    sem_status status = bulk_add_lines(b, in, file->path, err);
    fclose(in);
    return status;
}

sem_status run_load(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    input_list list = {0};
    bulk *b = NULL;
    buffer doc = {0};
    sem_status status = input_list_find(&list, a->words, a->count, err);
    if (status == SEM_OK)
        status = bulk_create(&b, ctl, argument_of(c, a, "collection"), NULL, list.bytes, err);
    for (size_t i = 0; i < list.count && status == SEM_OK; i++)
        status = load_file(b, &list.files[i], &doc, err);
    if (status == SEM_OK)
        status = bulk_finish(b, err);
    buffer_free(&doc);
    bulk_destroy(b);
    input_list_free(&list);
    return status;
}

/* --- delete, get, count */

static sem_status pack_ids(params *m, const arguments *a, sem_error *err)
{
    packer *p = params_key(m, "ids");
    pack_array(p, a->count);
    for (size_t i = 0; i < a->count; i++) {
        sem_status status = pack_id_text(p, a->words[i], err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* With the words as ids, where there are any. */
static sem_status call_with_ids(semctl *ctl, const command *c, const arguments *a, client_reply *reply, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK && a->count > 0)
        status = pack_ids(&m, a, err);
    if (status != SEM_OK) {
        params_free(&m);
        ctl->usage = true;
        return status;
    }
    return ctl_call(ctl, c->method, &m, reply, err);
}

sem_status run_delete(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    if ((a->count > 0) == (argument_of(c, a, "filter") != NULL))
        return ctl_usage(ctl, err, "give either ids or --filter; try semctl delete --help");
    sem_status status = call_with_ids(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    char count[NUMBER_TEXT_MAX];
    uint64_t deleted = object_uint(object_get(&reply.value, "deleted"), 0);
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("%s %s deleted\n", number_text(count, deleted), deleted == 1 ? "document" : "documents");
    client_reply_free(&reply);
    return SEM_OK;
}

/* Names the ids that were asked for and do not exist. */
static size_t report_missing(const msgpack_object *docs, const arguments *a)
{
    size_t missing = 0;
    for (uint32_t i = 0; docs->type == MSGPACK_OBJECT_ARRAY && i < docs->via.array.size && i < a->count; i++)
        if (docs->via.array.ptr[i].type == MSGPACK_OBJECT_NIL) {
            fprintf(stderr, "semctl: no document %s\n", a->words[i]);
            missing++;
        }
    return missing;
}

sem_status run_get(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    sem_status status = call_with_ids(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        ctl_print_lines(&reply.value);
    size_t missing = report_missing(&reply.value, a);
    client_reply_free(&reply);
    if (missing > 0)
        return sem_fail(err, SEM_NOT_FOUND, "%zu of %zu documents do not exist", missing, a->count);
    return SEM_OK;
}

sem_status run_count(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    sem_status status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("%" PRIu64 "\n", object_uint(object_get(&reply.value, "count"), 0));
    client_reply_free(&reply);
    return SEM_OK;
}
