#include "daemon/exports.h"

#include "base/clock.h"
#include "base/docid.h"
#include "base/files.h"
#include "index/index_export.h"
#include "daemon/export_file.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WALK_DOCUMENTS = 1000, /* in one snapshot, so that none is held for long */
    WORD_BITS = 64
};

/* One under way. */
typedef struct run {
    const solo_turn *turn;
    export_file index, ids;
    serving *serving; /* the generation whose index it is; pinned */
    space_index *in;  /* pinned */
    uint32_t collection;
    uint64_t *known; /* bitmap of the documents that ids names */
    size_t words;
    size_t walked; /* in this snapshot */
    unsigned char after[DOCID_KEY_MAX];
    size_t after_length;
    sem_status status;
    sem_error *err;
} run;

/* --- the ids */

static sem_status on_step(void *context, sem_error *err)
{
    const run *r = context;
    return solo_step(r->turn, err);
}

static sem_status know(run *r, uint32_t docno)
{
    if (docno / WORD_BITS >= r->words) {
        size_t words = docno / WORD_BITS + docno / WORD_BITS / 2 + 1024;
        uint64_t *grown = realloc(r->known, words * sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(r->err, "the documents of an export");
        memset(grown + r->words, 0, (words - r->words) * sizeof *grown);
        r->known = grown;
        r->words = words;
    }
    r->known[docno / WORD_BITS] |= UINT64_C(1) << docno % WORD_BITS;
    return SEM_OK;
}

static sem_status write_id(run *r, uint32_t docno, const docid *id)
{
    json_t *line = id->is_integer ? NULL
                                  : json_stringn(id->string, id->length); /* integers reach beyond what Jansson holds */
    char *text = line == NULL ? NULL : json_dumps(line, JSON_ENCODE_ANY | JSON_COMPACT);
    json_decref(line);
    if (!id->is_integer && text == NULL)
        return sem_fail_memory(r->err, "the documents of an export");
    int n = text != NULL
                ? fprintf(r->ids.to, "{\"faiss_id\": %u, \"id\": %s}\n", docno, text)
                : fprintf(r->ids.to, "{\"faiss_id\": %u, \"id\": %llu}\n", docno, (unsigned long long)id->integer);
    free(text);
    return n > 0 ? SEM_OK : export_file_fail(&r->ids, r->err);
}

static bool on_document(void *context, const store_document *doc)
{
    run *r = context;
    r->status = know(r, doc->docno);
    if (r->status == SEM_OK)
        r->status = write_id(r, doc->docno, &doc->id);
    r->after_length = docid_to_key(&doc->id, r->after);
    return r->status == SEM_OK && ++r->walked < WALK_DOCUMENTS;
}

/* Documents before rows: a row whose document is not named is left out, and one that is
 * deleted meanwhile has a line too many, which names nothing. */
static sem_status write_ids(run *r, sem_error *err)
{
    sem_status status = SEM_OK;
    r->err = err;
    do {
        store_read *read;
        status = on_step(r, err);
        if (status == SEM_OK)
            status = store_read_begin(r->turn->core->store, &read, err);
        if (status != SEM_OK)
            return status;
        r->walked = 0;
        status = store_document_walk(read, r->collection, r->after_length > 0 ? r->after : NULL, r->after_length,
                                     on_document, r, err);
        store_read_end(read);
        if (status == SEM_OK)
            status = r->status;
    } while (status == SEM_OK && r->walked == WALK_DOCUMENTS);
    return status;
}

/* --- all of it */

static sem_status find_index(run *r, sem_error *err)
{
    core *c = r->turn->core;
    const span *name = &r->turn->task->request->collection;
    store_read *read;
    store_collection found;
    sem_status status = store_read_begin(c->store, &read, err);
    if (status != SEM_OK)
        return status;
    status = store_collection_find(read, name->data, name->size, &found, err);
    store_read_end(read);
    if (status != SEM_OK)
        return status;
    r->collection = found.number;
    r->serving = serving_slot_acquire(&c->current);
    r->in = space_acquire(found.external ? c->external : r->serving->space, found.number);
    return r->in != NULL ? SEM_OK : sem_fail(err, SEM_NOT_FOUND, "collection: there is no collection %s", found.name);
}

/* The ids get their name first: whoever sees the index has them. */
static sem_status publish(run *r, uint64_t *bytes, sem_error *err)
{
    uint64_t ids;
    sem_status status = export_file_finish(&r->ids, &ids, err);
    if (status == SEM_OK)
        status = export_file_finish(&r->index, bytes, err);
    if (status == SEM_OK)
        status = export_file_publish(&r->ids, err);
    if (status != SEM_OK)
        return status;
    status = export_file_publish(&r->index, err);
    if (status != SEM_OK)
        export_file_withdraw(&r->ids);
    return status;
}

/* What the vectors take; the rest is small beside it. */
static uint64_t expected_bytes(const run *r)
{
    vector_index_stats stats;
    vector_index_describe(r->in->index, &stats);
    space_options made = core_space_options(r->turn->core, 0, 0);
    bool floats = strcmp(stats.kind, "exact") == 0 || made.faiss_type == VECTOR_FAISS_FLAT;
    uint64_t row = vector_index_dim(r->in->index) * (floats ? sizeof(float) : 1) + sizeof(int64_t);
    return vector_index_passages(r->in->index) * row;
}

static sem_status take(run *r, index_exported *out, uint64_t *bytes, sem_error *err)
{
    const config *settings = &r->turn->core->settings;
    const span *path = &r->turn->task->request->u.index_export.path;
    sem_status status = find_index(r, err);
    if (status == SEM_OK)
        status = export_file_open(&r->index, settings->storage.export_dir, settings->storage.path, path->data,
                                  path->size, "", err);
    if (status == SEM_OK)
        status = export_file_open(&r->ids, settings->storage.export_dir, settings->storage.path, path->data, path->size,
                                  ".ids.jsonl", err);
    if (status == SEM_OK)
        status = export_file_check_room(&r->index, expected_bytes(r), err);
    if (status == SEM_OK)
        status = write_ids(r, err);
    index_export how = {
        .to = r->index.to, .known = r->known, .known_bits = r->words * WORD_BITS, .step = on_step, .context = r};
    if (status == SEM_OK)
        status = vector_index_export(r->in->index, &how, out, err);
    return status == SEM_OK ? publish(r, bytes, err) : status;
}

static void log_end(const run *r, sem_status status, const index_exported *out, uint64_t bytes, const sem_error *err,
                    uint64_t since)
{
    char path[2 * FILES_PATH_MAX], text[SEM_ERROR_MESSAGE_MAX];
    log_value(path, sizeof path, r->index.final);
    if (status == SEM_OK)
        log_event(r->turn->core->log, LOG_LEVEL_INFO, "export_done",
                  "path=%s bytes=%llu codes=%s vectors=%zu nlist=%zu duration_ms=%llu", path, (unsigned long long)bytes,
                  out->codes, out->vectors, out->nlist, (unsigned long long)(clock_monotonic_ms() - since));
    else
        log_event(r->turn->core->log, LOG_LEVEL_WARNING, "export_failed", "path=%s code=%s message=%s", path,
                  sem_status_name(status), log_value(text, sizeof text, err->message));
}

sem_status exports_take(const solo_turn *turn, answer *a, sem_error *err)
{
    if (turn->core->settings.storage.export_dir[0] == '\0')
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "storage.export_dir is not set: the daemon has no folder to export an index into");
    run r = {.turn = turn};
    index_exported out;
    uint64_t bytes = 0, since = clock_monotonic_ms();
    sem_status status = take(&r, &out, &bytes, err);
    log_end(&r, status, &out, bytes, err, since);
    export_file_close(&r.index);
    export_file_close(&r.ids);
    space_index_release(r.in);
    serving_release(r.serving);
    free(r.known);
    if (status != SEM_OK)
        return status;
    answer_begin(a, turn->task);
    pack_map(&a->pack, 1);
    pack_str(&a->pack, "bytes");
    pack_uint(&a->pack, bytes);
    return SEM_OK;
}
