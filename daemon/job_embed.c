/* The end that all jobs share: every document gets a vector in the target's
 * space, the writes that came meanwhile follow, then one transaction and one
 * pointer make the target current.
 *
 *   1. The target becomes the candidate: from now on deletes and new collections
 *      reach its indices too.
 *   2. First pass: documents in id order, in short read transactions. A document
 *      whose vector is there already, made from the same text, is passed over:
 *      so a rollback with nothing to do is instant.
 *   3. New writes are embedded with both models, so the backlog only shrinks.
 *   4. Catching up: the write log since 1 names what changed. What has its vector
 *      is told by the space alone: after 1 the writer keeps its index the same.
 *   5. Flip: in the writer, where nothing can come between the last look at the
 *      log and the commit. If something did, back to 4. */
#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "finetune/bulk_encode.h"
#include "daemon/changes.h"
#include "daemon/document_cut.h"
#include "daemon/job.h"
#include "daemon/writer.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_DOCUMENTS = 256,     /* embedded and committed together */
    BATCH_BYTES = 4 << 20,     /* of their texts */
    CUT_BYTES = 256 << 10,     /* of texts that are cut into passages, whose vectors take more room than they do */
    CATCH_UP_ROUNDS_MAX = 1000 /* a guard, not a limit that is met: the backlog shrinks by itself */
};

typedef struct batch_document {
    uint32_t docno;
    uint64_t version;
    size_t offset, length; /* of the text in texts */
    bool stored;
    uint32_t slot;
} batch_document;

typedef struct embedding {
    job *job;
    core *core;
    serving *next;    /* the target; a reference */
    uint64_t log_seq; /* the log is applied up to here */
    size_t done;      /* documents looked at in the first pass */
    size_t total;
    uint64_t began_ns;
    /* the batch under way */
    uint32_t collection;
    bool cuts; /* its documents are cut, by: */
    document_cutter cutter;
    document_cut cut;
    batch_document documents[BATCH_DOCUMENTS];
    size_t count;
    uint32_t removed[BATCH_DOCUMENTS]; /* to be taken out of the index; numbers are not used again */
    size_t removed_count;
    buffer texts;
    float *vectors; /* [capacity, dim], of documents or passages; BATCH_DOCUMENTS at least */
    size_t capacity;
    buffer last;      /* key form of the last document looked at */
    size_t looked_at; /* in this batch */
    store_read *read; /* while collecting */
    sem_status status;
    sem_error *err;
} embedding;

static size_t dim_of(const embedding *e)
{
    return space_dim(e->next->space);
}

/* What the next batches are of. */
static void begin_collection(embedding *e, const store_collection *c)
{
    document_cutter_end(&e->cutter);
    e->collection = c->number;
    e->cuts = c->passage_tokens > 0;
    document_cutter_begin(&e->cutter, e->next->model, c);
}

static bool is_full(const embedding *e)
{
    return e->count == BATCH_DOCUMENTS || e->texts.size > (e->cuts ? CUT_BYTES : BATCH_BYTES);
}

/* --- one batch: collect, encode, commit */

static bool is_up_to_date(embedding *e, uint32_t collection, const store_document *doc)
{
    uint64_t version;
    bool found;
    e->status = store_vector_get(e->read, space_number(e->next->space), collection, doc->docno, e->vectors, dim_of(e),
                                 &version, &found, e->err);
    return e->status == SEM_OK && found && version == doc->text_version;
}

static bool add_to_batch(embedding *e, const store_document *doc)
{
    batch_document *d = &e->documents[e->count];
    *d = (batch_document){
        .docno = doc->docno, .version = doc->text_version, .offset = e->texts.size, .length = doc->text_length};
    if (!buffer_append(&e->texts, doc->text, doc->text_length)) {
        e->status = sem_fail_memory(e->err, "a batch of documents");
        return false;
    }
    e->count++;
    return true;
}

static bool collect_one(void *context, const store_document *doc)
{
    embedding *e = context;
    unsigned char key[DOCID_KEY_MAX];
    size_t length = docid_to_key(&doc->id, key);
    if (is_full(e) || e->looked_at == 64 * BATCH_DOCUMENTS)
        return false;
    if (!is_up_to_date(e, e->collection, doc) && e->status == SEM_OK)
        add_to_batch(e, doc);
    e->last.size = 0;
    if (e->status == SEM_OK && !buffer_append(&e->last, key, length))
        e->status = sem_fail_memory(e->err, "a key");
    e->looked_at++;
    return e->status == SEM_OK;
}

static sem_status encode_texts(embedding *e, const bulk_text *texts, size_t count, sem_error *err)
{
    bulk_job work = {.model = e->next->model,
                     .prompt = model_config_document_prompt(model_get_config(e->next->model)),
                     .texts = texts,
                     .count = count,
                     .threads = e->job->threads,
                     .nice = e->job->settings.train.nice,
                     .cancel = e->job->cancel,
                     .out = e->vectors};
    return bulk_encode(&work, err);
}

/* Room for so many vectors; those in it may be lost. */
static sem_status reserve_vectors(embedding *e, size_t count, sem_error *err)
{
    size_t floats;
    if (count <= e->capacity)
        return SEM_OK;
    free(e->vectors);
    e->capacity = 0;
    e->vectors = checked_mul(count, dim_of(e), &floats) ? checked_alloc_aligned(floats, sizeof(float)) : NULL;
    if (e->vectors == NULL)
        return sem_fail_memory(err, "a batch of vectors");
    e->capacity = count;
    return SEM_OK;
}

static const char *text_of(const embedding *e, size_t i)
{
    return (const char *)e->texts.data + e->documents[i].offset;
}

/* As the target's tokenizer cuts them, which may differ from the current one's. */
static sem_status encode_passages(embedding *e, sem_error *err)
{
    for (size_t i = 0; i < e->count; i++) {
        sem_status status = document_cut_add(&e->cut, &e->cutter, text_of(e, i), e->documents[i].length, err);
        if (status != SEM_OK)
            return status;
    }
    sem_status status = reserve_vectors(e, e->cut.passages, err);
    bulk_text *texts = checked_realloc(NULL, e->cut.passages + 1, sizeof *texts);
    if (status == SEM_OK && texts == NULL)
        status = sem_fail_memory(err, "a batch of passages");
    for (size_t i = 0; status == SEM_OK && i < e->count; i++)
        for (size_t k = e->cut.first[i]; k < e->cut.first[i + 1]; k++)
            texts[k] = (bulk_text){text_of(e, i) + e->cut.ranges[k].from, e->cut.ranges[k].to - e->cut.ranges[k].from};
    if (status == SEM_OK)
        status = encode_texts(e, texts, e->cut.passages, err);
    free(texts);
    return status;
}

static sem_status encode_batch(embedding *e, sem_error *err)
{
    bulk_text texts[BATCH_DOCUMENTS];
    if (e->cuts)
        return encode_passages(e, err);
    for (size_t i = 0; i < e->count; i++)
        texts[i] = (bulk_text){text_of(e, i), e->documents[i].length};
    return encode_texts(e, texts, e->count, err);
}

static const float *vectors_of(const embedding *e, size_t i)
{
    return e->vectors + document_cut_row(&e->cut, i) * dim_of(e);
}

static sem_status put_batch(void *context, store_write *w, sem_error *err)
{
    embedding *e = context;
    uint32_t number = space_number(e->next->space);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < e->count && status == SEM_OK; i++) {
        batch_document *d = &e->documents[i];
        store_cut cut = document_cut_of(&e->cut, i);
        status = cut.count > 0 ? store_passages_put(w, number, e->collection, d->docno, d->version, vectors_of(e, i),
                                                    dim_of(e), &cut, &d->stored, err)
                               : store_vector_put(w, number, e->collection, d->docno, d->version, vectors_of(e, i),
                                                  dim_of(e), &d->stored, &d->slot, err);
    }
    return status;
}

static sem_status index_one(embedding *e, vector_index *index, size_t i)
{
    const batch_document *d = &e->documents[i];
    store_cut cut = document_cut_of(&e->cut, i);
    return cut.count > 0 ? vector_index_put_passages(index, d->docno, cut.slots, vectors_of(e, i), cut.count, e->err)
                         : vector_index_put_slot(index, d->docno, d->slot, vectors_of(e, i), e->err);
}

static void index_batch(void *context)
{
    embedding *e = context;
    space_index *index = space_acquire(e->next->space, e->collection);
    for (size_t i = 0; index != NULL && i < e->count && e->status == SEM_OK; i++)
        if (e->documents[i].stored)
            e->status = index_one(e, index->index, i);
    for (size_t i = 0; index != NULL && i < e->removed_count; i++)
        vector_index_remove(index->index, e->removed[i]);
    space_index_release(index);
}

/* Encodes and commits what was collected, and empties the batch. */
static sem_status finish_batch(embedding *e, sem_error *err)
{
    sem_status status = SEM_OK;
    if (atomic_load(e->job->cancel))
        status = sem_fail(err, SEM_CANCELLED, "cancelled");
    if (status == SEM_OK && e->count + e->removed_count > 0) {
        status = encode_batch(e, err);
        write_call call = {.apply = put_batch, .committed = index_batch, .context = e};
        if (status == SEM_OK)
            status = writer_run(e->core->writer, &call, err);
        if (status == SEM_OK)
            status = e->status;
    }
    e->count = e->removed_count = e->texts.size = 0;
    document_cut_clear(&e->cut);
    return status;
}

/* --- first pass */

static void show_first_pass(embedding *e)
{
    double seconds = (double)(clock_monotonic_ns() - e->began_ns) / 1e9;
    double eta = e->done > 0 && e->total > e->done ? seconds / (double)e->done * (double)(e->total - e->done) : -1;
    job_status_step(e->job->status, e->done < e->total ? e->done : e->total, eta);
}

static sem_status embed_collection(embedding *e, const store_collection *c, sem_error *err)
{
    begin_collection(e, c);
    e->last.size = 0;
    do {
        e->looked_at = 0;
        e->status = SEM_OK;
        sem_status status = store_read_begin(e->core->store, &e->read, err);
        if (status != SEM_OK)
            return status;
        status = store_document_walk(e->read, c->number, e->last.size > 0 ? e->last.data : NULL, e->last.size,
                                     collect_one, e, err);
        store_read_end(e->read);
        if (status == SEM_OK)
            status = e->status;
        if (status == SEM_OK)
            status = finish_batch(e, err);
        if (status != SEM_OK)
            return status;
        e->done += e->looked_at;
        show_first_pass(e);
    } while (e->looked_at > 0);
    return SEM_OK;
}

static sem_status model_collections(embedding *e, store_collection **out, size_t *count, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(e->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_collection_list(r, out, count, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    size_t kept = 0;
    e->total = 0;
    for (size_t i = 0; i < *count; i++)
        if (!(*out)[i].external) {
            e->total += (*out)[i].documents;
            (*out)[kept++] = (*out)[i];
        }
    *count = kept;
    return SEM_OK;
}

/* The documents that the gate has embedded, without encoding them again. One
 * whose text has changed since is refused by its version and embedded later. */
static sem_status put_known(embedding *e, sem_error *err)
{
    const job *j = e->job;
    write_call call = {.apply = put_batch, .committed = index_batch, .context = e};
    sem_status status = SEM_OK;
    for (size_t i = 0; i < j->known_count && status == SEM_OK;) {
        if (atomic_load(j->cancel))
            return sem_fail(err, SEM_CANCELLED, "cancelled");
        e->collection = j->known[i].collection;
        e->status = SEM_OK;
        for (; i < j->known_count && j->known[i].collection == e->collection && e->count < BATCH_DOCUMENTS; i++) {
            if (j->known[i].docno == UINT32_MAX) /* a text that is no document, or one that is cut */
                continue;
            memcpy(e->vectors + e->count * dim_of(e), j->known_vectors + i * dim_of(e), dim_of(e) * sizeof(float));
            e->documents[e->count++] = (batch_document){.docno = j->known[i].docno, .version = j->known[i].version};
        }
        status = writer_run(e->core->writer, &call, err);
        if (status == SEM_OK)
            status = e->status;
        e->count = 0;
    }
    return status;
}

static sem_status first_pass(embedding *e, sem_error *err)
{
    store_collection *all;
    size_t count;
    sem_status status = model_collections(e, &all, &count, err);
    if (status != SEM_OK)
        return status;
    job_status_phase(e->job->status, PHASE_EMBEDDING, e->total);
    e->began_ns = clock_monotonic_ns();
    status = put_known(e, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = embed_collection(e, &all[i], err);
    free(all);
    return status;
}

/* --- catching up */

/* ours: its collection, *owner, exists and the model makes its vectors. */
static sem_status find_changed(store_read *r, const change *c, store_collection *owner, store_document *doc, bool *ours,
                               bool *found, sem_error *err)
{
    sem_status status = store_collection_at(r, c->collection, owner, err);
    *ours = status == SEM_OK && !owner->external;
    *found = false;
    if (*ours)
        return store_document_by_number(r, c->collection, c->docno, doc, found, err);
    return status == SEM_NOT_FOUND ? SEM_OK : status;
}

static sem_status catch_up_one(embedding *e, const change *c, sem_error *err)
{
    store_collection owner;
    store_document doc;
    bool ours, found;
    sem_status status = find_changed(e->read, c, &owner, &doc, &ours, &found, err);
    if (status != SEM_OK || !ours)
        return status;
    begin_collection(e, &owner);
    if (found) {
        e->status = SEM_OK;
        if (!is_up_to_date(e, c->collection, &doc) && e->status == SEM_OK)
            add_to_batch(e, &doc);
        return e->status;
    }
    /* Perhaps deleted after the index was filled, but before deletes reached it. */
    e->removed[e->removed_count++] = c->docno;
    return SEM_OK;
}

/* One batch of changes of one collection, from *at on. */
static sem_status catch_up_some(embedding *e, const changes *c, size_t *at, sem_error *err)
{
    sem_status status = store_read_begin(e->core->store, &e->read, err);
    if (status != SEM_OK)
        return status;
    e->collection = c->items[*at].collection;
    e->cuts = false;
    while (*at < c->count && c->items[*at].collection == e->collection && !is_full(e) &&
           e->removed_count < BATCH_DOCUMENTS && status == SEM_OK) {
        bool repeated = *at > 0 && change_compare(&c->items[*at - 1], &c->items[*at]) == 0;
        if (!repeated)
            status = catch_up_one(e, &c->items[*at], err);
        (*at)++;
    }
    store_read_end(e->read);
    return status == SEM_OK ? finish_batch(e, err) : status;
}

static sem_status catch_up(embedding *e, sem_error *err)
{
    store_read *r;
    changes c;
    sem_status status = store_read_begin(e->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = changes_read(&c, r, e->log_seq, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    job_status_phase(e->job->status, PHASE_CATCHING_UP, c.count);
    for (size_t at = 0; at < c.count && status == SEM_OK; job_status_step(e->job->status, at, -1))
        status = catch_up_some(e, &c, &at, err);
    if (status == SEM_OK)
        e->log_seq = c.seq;
    free(c.items);
    return status;
}

/* --- flip */

typedef struct flip {
    embedding *embedding;
    store_generation *record;
    uint64_t began_ns;
    bool done;
    serving *old;
} flip;

/* Whether a change that came after the last catching-up left a document without its vector. */
static sem_status is_behind(embedding *e, store_read *r, bool *behind, sem_error *err)
{
    changes c;
    sem_status status = changes_read(&c, r, e->log_seq, err);
    if (status != SEM_OK)
        return status;
    *behind = false;
    e->read = r;
    for (size_t i = 0; i < c.count && status == SEM_OK && !*behind; i++) {
        store_collection owner;
        store_document doc;
        bool ours, found;
        status = find_changed(r, &c.items[i], &owner, &doc, &ours, &found, err);
        if (status == SEM_OK && found) {
            e->status = SEM_OK;
            *behind = !is_up_to_date(e, c.items[i].collection, &doc);
            status = e->status;
        }
    }
    free(c.items);
    return status;
}

/* The job's record says what came of it in the same transaction: a crash
 * right after it must not leave a current generation and a job that failed. */
static sem_status put_promoted(const flip *f, store_write *w, sem_error *err)
{
    const job *j = f->embedding->job;
    char *text = job_status_promoted_text(j->status, f->record->number);
    sem_status status = text != NULL ? store_job_put(w, j->number, text, err) : sem_fail_memory(err, "a job");
    free(text);
    return status;
}

static sem_status apply_flip(void *context, store_write *w, sem_error *err)
{
    flip *f = context;
    bool behind;
    f->began_ns = clock_monotonic_ns();
    sem_status status = is_behind(f->embedding, store_write_view(w), &behind, err);
    if (status != SEM_OK || behind)
        return status;
    generation_state old = f->embedding->job->kind == JOB_ROLLBACK ? GENERATION_ROLLED_BACK : GENERATION_PREVIOUS;
    status = store_generation_flip(w, f->record->number, old, err);
    if (status == SEM_OK)
        status = put_promoted(f, w, err);
    f->done = status == SEM_OK;
    return status;
}

static void swap_generations(void *context)
{
    flip *f = context;
    if (!f->done)
        return;
    embedding *e = f->embedding;
    atomic_store(&e->core->dual, false);
    f->old = serving_slot_swap(&e->core->current, serving_retain(e->next));
    query_cache_set_generation(e->core->queries, e->next->generation);
    serving_release(serving_slot_swap(&e->core->candidate, NULL));
    log_event(e->core->log, LOG_LEVEL_INFO, "flip", "job=%u generation=%u from=%u ms=%.2f", e->job->number,
              e->next->generation, f->old->generation, (double)(clock_monotonic_ns() - f->began_ns) / 1e6);
}

static sem_status flip_when_caught_up(embedding *e, store_generation *record, sem_error *err)
{
    flip f = {.embedding = e, .record = record};
    write_call call = {.apply = apply_flip, .committed = swap_generations, .context = &f};
    sem_status status = SEM_OK;
    for (int rounds = 0; status == SEM_OK && !f.done; rounds++) {
        status = catch_up(e, err);
        if (status == SEM_OK && rounds == CATCH_UP_ROUNDS_MAX)
            status = sem_fail(err, SEM_INTERNAL, "writes came faster than %d rounds of catching up", rounds);
        if (status != SEM_OK)
            return status;
        job_status_phase(e->job->status, PHASE_FLIP, 0);
        status = writer_run(e->core->writer, &call, err);
    }
    serving_release(f.old);
    return status;
}

/* --- the candidate's place */

typedef struct opening {
    embedding *embedding;
    store_generation *record;
    bool is_new;
} opening;

/* A new generation gets its number and its space; a crash from here on leaves a
 * candidate's record, which the next start removes with all that belongs to it. */
static sem_status write_record(void *context, store_write *w, sem_error *err)
{
    opening *o = context;
    sem_status status = store_generation_next(w, &o->record->number, &o->record->space, err);
    return status == SEM_OK ? store_generation_put(w, o->record, err) : status;
}

static sem_status add_collections(void *context, store_write *w, sem_error *err)
{
    opening *o = context;
    store_collection *all;
    size_t count;
    sem_status status = store_collection_list(store_write_view(w), &all, &count, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (!all[i].external)
            status = space_add(o->embedding->next->space, &all[i], err);
    free(all);
    return status;
}

static void become_candidate(void *context)
{
    opening *o = context;
    core *c = o->embedding->core;
    serving_release(serving_slot_swap(&c->candidate, serving_retain(o->embedding->next)));
}

/* The target's index is filled from what its space holds (nothing, when it is
 * new); the log from that snapshot on says what to mend. */
static sem_status open_space(embedding *e, const store_generation *record, space **out, sem_error *err)
{
    space_options options = core_space_options(e->core, record->space, record->dim);
    sem_status status = store_space_open(e->core->store, record->space, record->dim, err);
    if (status == SEM_OK)
        status = space_create(out, &options, err);
    if (status != SEM_OK)
        return status;
    store_read *r;
    status = store_read_begin(e->core->store, &r, err);
    if (status == SEM_OK) {
        e->log_seq = store_last_seq(r);
        status = space_fill(*out, r, err);
        store_read_end(r);
    }
    if (status != SEM_OK)
        space_destroy(*out);
    return status;
}

static sem_status open_target(embedding *e, opening *o, sem_error *err)
{
    sem_status status = SEM_OK;
    space *s;
    if (o->is_new) {
        write_call call = {.apply = write_record, .context = o};
        status = writer_run(e->core->writer, &call, err);
    }
    if (status == SEM_OK)
        status = open_space(e, o->record, &s, err);
    if (status != SEM_OK)
        return status;
    status = serving_open(&e->next, o->record, store_path(e->core->store), s, &e->core->settings, e->core->log, err);
    if (status != SEM_OK)
        return status;
    status = reserve_vectors(e, BATCH_DOCUMENTS, err);
    if (status != SEM_OK)
        return status;
    write_call call = {.apply = add_collections, .committed = become_candidate, .context = o};
    return writer_run(e->core->writer, &call, err);
}

static sem_status nothing_to_write(void *context, store_write *w, sem_error *err)
{
    (void)context, (void)w, (void)err;
    return SEM_OK;
}

static void leave_candidate(void *context)
{
    embedding *e = context;
    serving_release(serving_slot_swap(&e->core->candidate, NULL));
}

/* After a failure nothing names the target any more. */
static void close_target(embedding *e, bool failed, bool is_new)
{
    if (failed) {
        write_call call = {.apply = nothing_to_write, .committed = leave_candidate, .context = e};
        atomic_store(&e->core->dual, false);
        if (writer_run(e->core->writer, &call, NULL) != SEM_OK)
            leave_candidate(e); /* no transaction could begin: then no write is under way either */
        if (is_new && e->next != NULL)
            space_retire(e->next->space);
    }
    document_cutter_end(&e->cutter);
    document_cut_free(&e->cut);
    serving_release(e->next);
    free(e->vectors);
    buffer_free(&e->texts);
    buffer_free(&e->last);
}

sem_status job_embed_and_flip(job *j, store_generation *record, bool is_new, sem_error *err)
{
    embedding *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "re-embedding");
    e->job = j;
    e->core = j->core;
    e->err = err;
    opening o = {e, record, is_new};
    sem_status status = open_target(e, &o, err);
    if (status == SEM_OK)
        status = first_pass(e, err);
    if (status == SEM_OK) {
        atomic_store(&e->core->dual, true);
        status = flip_when_caught_up(e, record, err);
    }
    close_target(e, status != SEM_OK, is_new);
    free(e);
    return status;
}
