#include "daemon/filtered_delete.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "index/filter.h"
#include "daemon/filtering.h"
#include "daemon/write_ops.h"
#include "daemon/writer.h"

#include <stdlib.h>

enum { STEP_DOCUMENTS = 10000 };

typedef struct filtered {
    core *core;
    store_delete what;
    filter *filter;
    size_t count;
    buffer keys;       /* key forms with a two-byte length before each */
    uint32_t *passing; /* owned: documents that passed at the beginning; NULL: not known yet */
    size_t passing_count, next;
    bool more;
    uint32_t *docnos; /* [STEP_DOCUMENTS] */
    docid *ids;       /* [STEP_DOCUMENTS], into keys */
    size_t deleted;
    uint64_t seq;
} filtered;

/* Whoever wrote after the delete began does not find it deleted. */
static bool is_meant(const filtered *f, const store_document *doc)
{
    return doc->seq <= f->what.seq && filter_match(f->filter, doc->meta, doc->meta_length);
}

/* What passes when the delete begins; documents that are written later are not meant. */
static sem_status begin(filtered *f, store_read *r, const task *t, sem_error *err)
{
    docset *set;
    if (f->what.seq == 0)
        f->what.seq = store_last_seq(r);
    sem_status status = filtering_documents(f->core, r, f->what.collection, f->filter, t, &set, err);
    if (status != SEM_OK)
        return status;
    status = docset_to_array(set, &f->passing, &f->passing_count, err);
    docset_free(set);
    return status;
}

static sem_status collect(filtered *f, store_read *r, uint32_t docno, sem_error *err)
{
    unsigned char head[2];
    const unsigned char *key;
    size_t length;
    bool found;
    sem_status status = store_document_key(r, f->what.collection, docno, &key, &length, &found, err);
    if (status != SEM_OK || !found)
        return status;
    head[0] = (unsigned char)(length >> 8);
    head[1] = (unsigned char)length;
    if (!buffer_append(&f->keys, head, sizeof head) || !buffer_append(&f->keys, key, length))
        return sem_fail_memory(err, "a delete");
    f->count++;
    return SEM_OK;
}

static sem_status find_step(filtered *f, const task *t, sem_error *err)
{
    store_read *r;
    f->count = f->keys.size = 0;
    sem_status status = store_read_begin(f->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    if (f->passing == NULL)
        status = begin(f, r, t, err);
    for (; status == SEM_OK && f->next < f->passing_count && f->count < STEP_DOCUMENTS; f->next++)
        status = collect(f, r, f->passing[f->next], err);
    f->more = f->next < f->passing_count;
    store_read_end(r);
    return status;
}

/* The note is written with the first step, if others follow, and goes with the last. */
static sem_status keep_note(filtered *f, store_write *w, sem_error *err)
{
    if (f->more && f->what.number == 0)
        return store_delete_begin(w, &f->what, &f->what.number, err);
    return !f->more && f->what.number != 0 ? store_delete_end(w, f->what.number, err) : SEM_OK;
}

/* In the writer: what no longer matches stays. */
static sem_status delete_step(void *context, store_write *w, sem_error *err)
{
    filtered *f = context;
    size_t count = 0;
    for (size_t at = 0; at < f->keys.size;) {
        const unsigned char *p = f->keys.data + at;
        size_t length = (size_t)p[0] << 8 | p[1];
        docid id;
        store_document doc;
        bool found;
        if (!docid_from_key(p + 2, length, &id))
            return sem_fail(err, SEM_INTERNAL, "a document's key of %zu bytes is none", length);
        sem_status status = store_document_get(store_write_view(w), f->what.collection, &id, &doc, &found, err);
        if (status != SEM_OK)
            return status;
        if (found && is_meant(f, &doc))
            f->ids[count++] = id;
        at += 2 + length;
    }
    sem_status status =
        store_documents_delete(w, f->what.collection, f->ids, count, f->docnos, &f->deleted, &f->seq, err);
    return status == SEM_OK ? keep_note(f, w, err) : status;
}

static void step_committed(void *context)
{
    filtered *f = context;
    write_ops_unindex(f->core, f->what.collection, f->docnos, f->deleted);
}

static sem_status forget(void *context, store_write *w, sem_error *err)
{
    const uint64_t *number = context;
    return store_delete_end(w, *number, err);
}

/* Whoever is told that it failed must not see it go on after a restart. */
static void forget_note(core *c, uint64_t number)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    write_call call = {.apply = forget, .context = &number};
    if (number != 0 && writer_run(c->writer, &call, &err) != SEM_OK)
        log_event(c->log, LOG_LEVEL_ERROR, "delete_note", "message=%s", log_value(text, sizeof text, err.message));
}

static sem_status run_steps(filtered *f, const task *t, uint64_t *deleted, sem_error *err)
{
    write_call call = {.apply = delete_step, .committed = step_committed, .context = f};
    sem_status status = SEM_OK;
    do {
        uint64_t noted = f->what.number;
        if (t != NULL)
            status = task_check_deadline(t, err);
        if (status == SEM_OK)
            status = find_step(f, t, err);
        if (status == SEM_OK) {
            status = writer_run(f->core->writer, &call, err);
            if (status != SEM_OK) /* a note of this step is undone with it */
                f->what.number = noted;
        }
        if (status == SEM_OK)
            *deleted += f->deleted;
    } while (status == SEM_OK && f->more);
    return status;
}

sem_status filtered_delete_run(core *c, const store_delete *what, const task *t, uint64_t *deleted, uint64_t *seq,
                               sem_error *err)
{
    filtered f = {.core = c, .what = *what};
    *deleted = 0;
    sem_status status = filter_parse(&f.filter, what->filter, what->filter_size, err);
    if (status != SEM_OK)
        return status;
    f.docnos = checked_realloc(NULL, STEP_DOCUMENTS, sizeof *f.docnos);
    f.ids = checked_realloc(NULL, STEP_DOCUMENTS, sizeof *f.ids);
    status = f.docnos != NULL && f.ids != NULL ? run_steps(&f, t, deleted, err) : sem_fail_memory(err, "a delete");
    *seq = f.seq;
    if (status != SEM_OK && what->number == 0)
        forget_note(c, f.what.number);
    filter_free(f.filter);
    buffer_free(&f.keys);
    free(f.passing);
    free(f.docnos);
    free(f.ids);
    return status;
}

/* --- after a crash */

/* The next one that is noted, with a copy of its filter. */
static sem_status next_note(core *c, uint64_t after, store_delete *out, unsigned char **copy, sem_error *err)
{
    store_read *r;
    bool found;
    *copy = NULL;
    sem_status status = store_read_begin(c->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_delete_next(r, after, out, &found, err);
    if (status == SEM_OK && found) {
        *copy = checked_realloc(NULL, out->filter_size, 1);
        if (*copy == NULL)
            status = sem_fail_memory(err, "a delete");
        for (size_t i = 0; *copy != NULL && i < out->filter_size; i++)
            (*copy)[i] = out->filter[i];
        out->filter = *copy;
    }
    store_read_end(r);
    return status;
}

void filtered_delete_resume(core *c)
{
    sem_error err;
    store_delete what = {0};
    unsigned char *filter_copy;
    char text[SEM_ERROR_MESSAGE_MAX];
    sem_status status;
    while ((status = next_note(c, what.number, &what, &filter_copy, &err)) == SEM_OK && filter_copy != NULL) {
        uint64_t deleted, seq;
        status = filtered_delete_run(c, &what, NULL, &deleted, &seq, &err);
        free(filter_copy);
        if (status == SEM_NOT_FOUND) /* the collection was dropped since */
            forget_note(c, what.number);
        else if (status != SEM_OK) /* stays noted for the next start */
            log_event(c->log, LOG_LEVEL_ERROR, "delete_not_resumed", "deleted=%llu message=%s",
                      (unsigned long long)deleted, log_value(text, sizeof text, err.message));
        else
            log_event(c->log, LOG_LEVEL_INFO, "delete_resumed", "deleted=%llu", (unsigned long long)deleted);
    }
    if (status != SEM_OK && filter_copy == NULL)
        log_event(c->log, LOG_LEVEL_ERROR, "delete_not_resumed", "message=%s",
                  log_value(text, sizeof text, err.message));
}
