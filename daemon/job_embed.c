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
 *   5. A trial, where the settings say so (daemon/trial.h), which the target may lose.
 *   6. Flip: in the writer, where nothing can come between the last look at the
 *      log and the commit. If something did, back to 4. */
#include "base/buffer.h"
#include "base/clock.h"
#include "base/crash.h"
#include "daemon/changes.h"
#include "daemon/embed_batch.h"
#include "daemon/job.h"
#include "daemon/job_record.h"
#include "daemon/trial.h"
#include "daemon/write_log.h"
#include "daemon/writer.h"

#include <stdlib.h>

enum {
    LOOKED_AT_MAX = 64 * EMBED_BATCH_DOCUMENTS, /* in one read transaction */
    CATCH_UP_ROUNDS_MAX = 1000                  /* a guard, not a limit that is met: the backlog shrinks by itself */
};

typedef struct embedding {
    job *job;
    core *core;
    embed_batch batch; /* for the target, which it has */
    uint64_t log_seq;  /* the log is applied up to here */
    size_t done;       /* documents looked at in the first pass */
    size_t total;
    uint64_t began_ns;
    buffer last;      /* key form of the last document looked at */
    size_t looked_at; /* since the last batch */
    bool on_trial;    /* the job is in that phase */
    store_read *read; /* while collecting */
    sem_status status;
    sem_error *err;
} embedding;

/* --- first pass */

static void show_first_pass(embedding *e)
{
    double seconds = (double)(clock_monotonic_ns() - e->began_ns) / 1e9;
    double eta = e->done > 0 && e->total > e->done ? seconds / (double)e->done * (double)(e->total - e->done) : -1;
    job_status_step(e->job->status, e->done < e->total ? e->done : e->total, eta);
}

static sem_status add_if_behind(embedding *e, const store_document *doc, sem_error *err)
{
    bool has;
    sem_status status = embed_batch_has(&e->batch, e->read, e->batch.collection, doc, &has, err);
    return status == SEM_OK && !has ? embed_batch_add(&e->batch, doc, err) : status;
}

static bool collect_one(void *context, const store_document *doc)
{
    embedding *e = context;
    unsigned char key[DOCID_KEY_MAX];
    size_t length = docid_to_key(&doc->id, key);
    if (embed_batch_is_full(&e->batch) || e->looked_at == LOOKED_AT_MAX)
        return false;
    e->status = add_if_behind(e, doc, e->err);
    e->last.size = 0;
    if (e->status == SEM_OK && !buffer_append(&e->last, key, length))
        e->status = sem_fail_memory(e->err, "a key");
    e->looked_at++;
    return e->status == SEM_OK;
}

static sem_status embed_collection(embedding *e, const store_collection *c, sem_error *err)
{
    embed_batch_set_collection(&e->batch, c);
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
            status = embed_batch_finish(&e->batch, err);
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
    embed_batch *b = &e->batch;
    const size_t dim = space_dim(b->next->space);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < j->known_count && status == SEM_OK;) {
        b->collection = j->known[i].collection;
        for (; i < j->known_count && j->known[i].collection == b->collection && !embed_batch_is_full(b); i++)
            if (j->known[i].docno != UINT32_MAX) /* else a text that is no document, or one that is cut */
                embed_batch_add_known(b, j->known[i].docno, j->known[i].version, j->known_vectors + i * dim);
        status = embed_batch_put(b, err);
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
    job_enter(e->job, PHASE_EMBEDDING, e->total);
    e->began_ns = clock_monotonic_ns();
    status = put_known(e, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = embed_collection(e, &all[i], err);
    free(all);
    crash_point("embed.first_pass");
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
    embed_batch_set_collection(&e->batch, &owner);
    if (found)
        return add_if_behind(e, &doc, err);
    /* Perhaps deleted after the index was filled, but before deletes reached it. */
    embed_batch_remove(&e->batch, c->docno);
    return SEM_OK;
}

/* One batch of changes of one collection, from *at on. */
static sem_status catch_up_some(embedding *e, const changes *c, size_t *at, sem_error *err)
{
    sem_status status = store_read_begin(e->core->store, &e->read, err);
    if (status != SEM_OK)
        return status;
    const uint32_t collection = c->items[*at].collection;
    while (*at < c->count && c->items[*at].collection == collection && !embed_batch_is_full(&e->batch) &&
           status == SEM_OK) {
        bool repeated = *at > 0 && change_compare(&c->items[*at - 1], &c->items[*at]) == 0;
        if (!repeated)
            status = catch_up_one(e, &c->items[*at], err);
        (*at)++;
    }
    store_read_end(e->read);
    return status == SEM_OK ? embed_batch_finish(&e->batch, err) : status;
}

static sem_status catch_up(embedding *e, sem_error *err)
{
    store_read *r;
    changes c;
    crash_point("catch_up.begin");
    sem_status status = store_read_begin(e->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = changes_read(&c, r, e->log_seq, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    if (!e->on_trial)
        job_enter(e->job, PHASE_CATCHING_UP, c.count);
    for (size_t at = 0; at < c.count && status == SEM_OK;) {
        status = catch_up_some(e, &c, &at, err);
        if (!e->on_trial)
            job_status_step(e->job->status, at, -1);
    }
    if (status == SEM_OK)
        e->log_seq = c.seq;
    free(c.items);
    crash_point("catch_up.done");
    return status;
}

/* --- trial */

/* It takes days perhaps: what the log holds would be kept for as long. */
static sem_status keep_up(void *context, sem_error *err)
{
    embedding *e = context;
    sem_status status = catch_up(e, err);
    return status == SEM_OK ? write_log_trim(e->core, e->log_seq, err) : status;
}

static sem_status try_candidate(embedding *e, const store_generation *record, bool *won, sem_error *err)
{
    sem_status status = catch_up(e, err);
    e->on_trial = true;
    if (status == SEM_OK)
        status = trial_run(e->job, e->batch.next, record->created_ms, keep_up, e, won, err);
    e->on_trial = false;
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
    for (size_t i = 0; i < c.count && status == SEM_OK && !*behind; i++) {
        store_collection owner;
        store_document doc;
        bool ours, found;
        status = find_changed(r, &c.items[i], &owner, &doc, &ours, &found, err);
        if (status == SEM_OK && found) {
            bool has;
            status = embed_batch_has(&e->batch, r, c.items[i].collection, &doc, &has, err);
            *behind = !has;
        }
    }
    free(c.items);
    return status;
}

static sem_status apply_flip(void *context, store_write *w, sem_error *err)
{
    flip *f = context;
    bool behind;
    f->began_ns = clock_monotonic_ns();
    crash_point("flip.begin");
    sem_status status = is_behind(f->embedding, store_write_view(w), &behind, err);
    if (status != SEM_OK || behind)
        return status;
    status = job_flip_record(f->embedding->job, w, f->record->number, err);
    f->done = status == SEM_OK;
    crash_point("flip.written");
    return status;
}

static void swap_generations(void *context)
{
    flip *f = context;
    if (!f->done)
        return;
    crash_point("flip.committed");
    embedding *e = f->embedding;
    atomic_store(&e->core->dual, false);
    f->old = job_flip_swap(e->job, e->batch.next, f->began_ns);
    serving_release(serving_slot_swap(&e->core->candidate, NULL));
    crash_point("flip.swapped");
}

static sem_status flip_when_caught_up(embedding *e, store_generation *record, sem_error *err)
{
    flip f = {.embedding = e, .record = record};
    write_call call = {.apply = apply_flip, .committed = swap_generations, .context = &f};
    sem_status status = SEM_OK;
    for (int rounds = 0; status == SEM_OK && !f.done; rounds++) {
        status = catch_up(e, err);
        if (status == SEM_OK && atomic_load(e->job->cancel))
            status = sem_fail(err, SEM_CANCELLED, "cancelled");
        if (status == SEM_OK && rounds == CATCH_UP_ROUNDS_MAX)
            status = sem_fail(err, SEM_INTERNAL, "writes came faster than %d rounds of catching up", rounds);
        if (status != SEM_OK)
            return status;
        job_enter(e->job, PHASE_FLIP, 0);
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
            status = space_add(o->embedding->batch.next->space, &all[i], err);
    free(all);
    crash_point("candidate.adding");
    return status;
}

static void become_candidate(void *context)
{
    opening *o = context;
    core *c = o->embedding->core;
    serving_release(serving_slot_swap(&c->candidate, serving_retain(o->embedding->batch.next)));
    crash_point("candidate.current");
}

/* The target's index is filled from what its space holds (nothing, when it is
 * new); the log from that snapshot on says what to mend. */
static sem_status open_space(embedding *e, const store_generation *record, space **out, sem_error *err)
{
    space_options options = core_space_options(e->core, record->space, record->dim);
    crash_point("space.opening");
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
    crash_point("space.opened");
    if (status != SEM_OK)
        space_release(*out);
    return status;
}

static sem_status open_target(embedding *e, opening *o, sem_error *err)
{
    sem_status status = SEM_OK;
    space *s;
    serving *next;
    if (o->is_new)
        status = job_record_candidate(e->job, o->record, false, err);
    if (status == SEM_OK)
        status = open_space(e, o->record, &s, err);
    if (status != SEM_OK)
        return status;
    status = serving_open(&next, o->record, store_path(e->core->store), s, NULL, &e->core->settings, e->core->log, err);
    if (status != SEM_OK)
        return status;
    status = embed_batch_begin(&e->batch, e->job, next, err);
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

/* After a failure, or a trial that was lost, nothing names the target any more, and a new one's space is about to be removed. Where
 * the job goes on in the daemon's next process it is not, but nobody knows that here: lists are lost. */
static void close_target(embedding *e, bool failed)
{
    if (failed) {
        write_call call = {.apply = nothing_to_write, .committed = leave_candidate, .context = e};
        atomic_store(&e->core->dual, false);
        if (writer_run(e->core->writer, &call, NULL) != SEM_OK)
            leave_candidate(e); /* no transaction could begin: then no write is under way either */
        if (e->job->kind != JOB_ROLLBACK && e->batch.next != NULL)
            space_retire(e->batch.next->space);
    }
    embed_batch_end(&e->batch);
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
    bool promote = true;
    sem_status status = open_target(e, &o, err);
    if (status == SEM_OK)
        status = first_pass(e, err);
    if (status == SEM_OK)
        atomic_store(&e->core->dual, true);
    if (status == SEM_OK && trial_wanted(j))
        status = try_candidate(e, record, &promote, err);
    if (status == SEM_OK && promote)
        status = flip_when_caught_up(e, record, err);
    close_target(e, status != SEM_OK || !promote);
    crash_point("flip.closed");
    free(e);
    return status;
}
