#include "index/vector_index.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/pages.h"
#include "index/cells_export.h"
#include "index/dot.h"
#include "index/faiss_cells.h"
#include "index/faiss_file.h"
#include "index/lists.h"
#include "index/lists_file.h"
#include "index/passage_search.h"
#include "index/rows.h"
#include "index/scratch.h"
#include "index/training.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* What a search works on. Whoever holds one keeps its rows and cells alive. */
typedef struct view {
    atomic_size_t references;
    rows *rows;         /* shared with other views */
    lists *lists;       /* owned; NULL: none yet, or FAISS searches */
    faiss_cells *faiss; /* owned; NULL: none yet, or our lists are searched */
} view;

struct vector_index {
    vector_index_options options; /* without its cache */
    char *cache;                  /* owned; NULL: none */
    bool cache_tried;             /* index thread only */
    const dot_kernel *kernel;
    atomic_size_t count;          /* live documents */
    atomic_size_t splits, merges; /* of cells, since the index was created */
    atomic_bool other_queries;    /* the curve tells of queries as they no longer are */
    pthread_mutex_t writing;      /* rank 1: held for each put and remove, and while the index thread swaps views */
    pthread_mutex_t looking;      /* rank 2: guards `current`; held for a few instructions */
    view *current;                /* changed only with both locks: either one is enough to read it */
    scratch_pool scratch;
};

static sem_status view_create(view **out, rows *r, lists *l, faiss_cells *f, sem_error *err)
{
    view *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "a view of an index");
    atomic_init(&v->references, 1);
    v->rows = r;
    v->lists = l;
    v->faiss = f;
    *out = v;
    return SEM_OK;
}

static void view_release(view *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->references, 1, memory_order_acq_rel) > 1)
        return;
    rows_release(v->rows);
    lists_free(v->lists);
    faiss_cells_free(v->faiss);
    free(v);
}

/* Lists that nothing was found wrong with; NULL: there are none. */
static lists *lists_of(const view *v)
{
    return lists_damaged(v->lists) ? NULL : v->lists;
}

static view *view_acquire(vector_index *v)
{
    pthread_mutex_lock(&v->looking);
    view *found = v->current;
    atomic_fetch_add_explicit(&found->references, 1, memory_order_relaxed);
    pthread_mutex_unlock(&v->looking);
    return found;
}

/* With `writing` held. */
static void view_replace(vector_index *v, view *next)
{
    pthread_mutex_lock(&v->looking);
    view *old = v->current;
    v->current = next;
    pthread_mutex_unlock(&v->looking);
    view_release(old);
}

sem_status vector_index_create(vector_index **out, const vector_index_options *options, sem_error *err)
{
    vector_index *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "a vector index");
    v->options = *options;
    v->kernel = dot_choose();
    v->options.cache = NULL;
    v->cache = options->cache == NULL ? NULL : strdup(options->cache);
    rows *r = NULL;
    sem_status s = options->store == NULL
                       ? rows_create(&r, options->dim, err)
                       : rows_create_stored(&r, options->store, options->space, options->collection, options->dim, err);
    if (s == SEM_OK)
        s = view_create(&v->current, r, NULL, NULL, err);
    if (s == SEM_OK && options->cache != NULL && v->cache == NULL)
        s = sem_fail_memory(err, "a vector index");
    if (s != SEM_OK) {
        if (v->current != NULL)
            view_release(v->current);
        else
            rows_release(r);
        free(v->cache);
        free(v);
        return s;
    }
    pthread_mutex_init(&v->writing, NULL);
    pthread_mutex_init(&v->looking, NULL);
    scratch_pool_init(&v->scratch, options->dim);
    *out = v;
    return SEM_OK;
}

void vector_index_destroy(vector_index *v)
{
    if (v == NULL)
        return;
    view_release(v->current);
    scratch_pool_clear(&v->scratch);
    free(v->cache);
    pthread_mutex_destroy(&v->looking);
    pthread_mutex_destroy(&v->writing);
    free(v);
}

static sem_status check_finite(const vector_index *v, uint32_t docno, const float *vector, sem_error *err)
{
    for (size_t i = 0; i < v->options.dim; i++)
        if (!isfinite(vector[i]))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "element %zu of document %u's vector is not finite", i, docno);
    return SEM_OK;
}

/* With `writing` held. From FAISS nothing can be taken back: it gets rows that have come to
 * be. Until then they are compared one by one. */
static void list_in_faiss(vector_index *v, uint32_t first, const float *vectors)
{
    faiss_cells *f = v->current->faiss;
    for (uint32_t row = first; f != NULL && vectors != NULL && row < rows_count(v->current->rows); row++)
        (void)faiss_cells_append(f, row, vectors + (row - first) * v->options.dim);
}

/* With `writing` held. Into lists before anybody knows of the rows: a search that does
 * finds them there. vectors: NULL, or [count, dim]. */
static sem_status put_rows(vector_index *v, uint32_t docno, const uint32_t *slots, const float *vectors, size_t count,
                           sem_error *err)
{
    rows *r = v->current->rows;
    lists *l = v->current->lists;
    uint32_t first = rows_count(r);
    sem_status s = rows_add(r, docno, slots, vectors, count, err);
    if (s != SEM_OK)
        return s;
    for (uint32_t i = 0; l != NULL && vectors != NULL && i < count; i++)
        (void)lists_append(l, first + i, vectors + i * v->options.dim); /* what is in no list is scanned as it is */
    rows_publish(r, docno, count);
    list_in_faiss(v, first, vectors);
    atomic_store_explicit(&v->count, rows_documents(r), memory_order_relaxed);
    return SEM_OK;
}

sem_status vector_index_put(vector_index *v, uint32_t docno, const float *vector, sem_error *err)
{
    return vector_index_put_passages(v, docno, NULL, vector, 1, err);
}

sem_status vector_index_put_slot(vector_index *v, uint32_t docno, uint32_t slot, const float *vector, sem_error *err)
{
    sem_status s = vector == NULL ? SEM_OK : check_finite(v, docno, vector, err);
    if (s != SEM_OK)
        return s;
    pthread_mutex_lock(&v->writing);
    if (!rows_has_slot(v->current->rows, docno, slot))
        s = put_rows(v, docno, &slot, vector, 1, err);
    pthread_mutex_unlock(&v->writing);
    return s;
}

sem_status vector_index_put_passages(vector_index *v, uint32_t docno, const uint32_t *slots, const float *vectors,
                                     size_t count, sem_error *err)
{
    sem_status s = SEM_OK;
    for (size_t i = 0; i < count && s == SEM_OK; i++)
        s = check_finite(v, docno, vectors + i * v->options.dim, err);
    if (s != SEM_OK)
        return s;
    pthread_mutex_lock(&v->writing);
    s = put_rows(v, docno, slots, vectors, count, err);
    pthread_mutex_unlock(&v->writing);
    return s;
}

sem_status vector_index_extend(vector_index *v, uint32_t docno, uint32_t slot, const float *vector, sem_error *err)
{
    sem_status s = vector == NULL ? SEM_OK : check_finite(v, docno, vector, err);
    if (s != SEM_OK)
        return s;
    pthread_mutex_lock(&v->writing);
    s = rows_extend_slot(v->current->rows, docno, slot, vector, err);
    pthread_mutex_unlock(&v->writing);
    return s;
}

void vector_index_remove(vector_index *v, uint32_t docno)
{
    pthread_mutex_lock(&v->writing);
    rows_remove(v->current->rows, docno);
    atomic_store_explicit(&v->count, rows_documents(v->current->rows), memory_order_relaxed);
    pthread_mutex_unlock(&v->writing);
}

size_t vector_index_count(const vector_index *v)
{
    return atomic_load_explicit(&v->count, memory_order_relaxed);
}

size_t vector_index_passages(vector_index *v)
{
    view *now = view_acquire(v);
    size_t passages = rows_live(now->rows);
    view_release(now);
    return passages;
}

size_t vector_index_dim(const vector_index *v)
{
    return v->options.dim;
}

sem_status vector_index_search(vector_index *v, const vector_query *query, vector_hit *hits, size_t *count,
                               vector_plan *plan, sem_error *err)
{
    enum { TRIES = 10 }; /* a block is just being written anew so seldom that two are as good as never */
    search_scratch *scratch = NULL;
    bool missed = true;
    *count = 0;
    sem_status s = scratch_take(&v->scratch, &scratch, err);
    if (s != SEM_OK)
        return s;
    view *now = view_acquire(v);
    for (int tries = 0; s == SEM_OK && missed && tries < TRIES; tries++) {
        rows_view vectors;
        s = rows_view_begin(&vectors, now->rows, query->read, err);
        if (s != SEM_OK)
            break;
        const lists *l = lists_of(now);
        s = passage_search(&vectors, l, now->faiss, &v->options, v->kernel, scratch, query, hits, count, plan, err);
        missed = rows_view_missed(&vectors) || lists_damaged(l); /* found just now */
        rows_view_end(&vectors);
    }
    view_release(now);
    scratch_give(&v->scratch, scratch);
    if (s == SEM_OK && missed)
        return sem_fail(err, SEM_INTERNAL, "a document's vector is not in the store; restore a backup");
    return s;
}

sem_status vector_index_export(vector_index *v, const index_export *how, index_exported *out, sem_error *err)
{
    view *now = view_acquire(v);
    sem_status s = cells_export(now->rows, lists_of(now), now->faiss, &v->options, how, out, err);
    view_release(now);
    return s;
}

void vector_index_settle(vector_index *v)
{
    pthread_mutex_lock(&v->writing);
    row_vectors_settle(v->current->rows->vectors);
    pthread_mutex_unlock(&v->writing);
}

_Static_assert(sizeof((vector_index_stats *)0)->curve / sizeof((vector_index_stats *)0)->curve[0] >= CURVE_POINTS_MAX,
               "a whole recall curve fits into the statistics");

void vector_index_describe(vector_index *v, vector_index_stats *out)
{
    view *now = view_acquire(v);
    const lists *l = lists_of(now);
    const faiss_cells *f = now->faiss;
    bool exact = (l == NULL && f == NULL) || rows_live(now->rows) < v->options.exact_below;
    *out = (vector_index_stats){.splits = atomic_load_explicit(&v->splits, memory_order_relaxed),
                                .merges = atomic_load_explicit(&v->merges, memory_order_relaxed),
                                .kind = exact       ? "exact"
                                        : f != NULL ? "faiss"
                                                    : "ivf",
                                .codes = exact       ? "float32"
                                         : f != NULL ? faiss_cells_codes(f)
                                                     : "1-bit, 4-bit, float32"};
    if (l != NULL || f != NULL) {
        const recall_curve *curve = f != NULL ? &f->curve : &l->curve;
        out->nlist = f != NULL ? f->nlist : l->nlist;
        out->trained_at_ms = f != NULL ? f->trained_at_ms : l->trained_at_ms;
        out->queries = curve->queries;
        out->logged = curve->logged;
        out->curve_points = curve->points;
        for (size_t i = 0; i < curve->points; i++) {
            out->curve[i].nprobe = curve->at[i].nprobe;
            out->curve[i].recall = (double)curve->at[i].recall[0];
        }
    }
    view_release(now);
}

static unsigned needs_of(const vector_index *v, const view *now)
{
    cells_state state = {0};
    const lists *l = lists_of(now);
    if (l != NULL)
        state = training_state_of(l);
    else if (now->faiss != NULL)
        state = faiss_cells_state(now->faiss);
    const bool cells = l != NULL || now->faiss != NULL;
    unsigned needs = training_needs(&v->options, now->rows, cells ? &state : NULL);
    if (!cells || !atomic_load_explicit(&v->other_queries, memory_order_relaxed))
        return needs;
    return (needs & ~(unsigned)TRAINING_UPKEEP) | TRAINING_ASSIGN; /* what is packed anew is measured */
}

void vector_index_queries_changed(vector_index *v)
{
    atomic_store_explicit(&v->other_queries, true, memory_order_relaxed);
}

bool vector_index_wants_training(vector_index *v)
{
    view *now = view_acquire(v);
    unsigned needs = needs_of(v, now);
    view_release(now);
    return needs != TRAINING_NOTHING;
}

/* Puts the rows that came since the cells were made into them. */
static sem_status list_new_rows(lists *l, faiss_cells *f, rows *r, sem_error *err)
{
    uint32_t end = rows_count(r), row = l != NULL ? lists_covered(l) : f != NULL ? faiss_cells_covered(f) : end;
    if (row == end)
        return SEM_OK;
    rows_view vectors;
    sem_status s = rows_view_open(&vectors, r, err);
    if (s != SEM_OK)
        return s;
    for (bool room = true; row < end && room; row++) {
        const float *vector = rows_vector(&vectors, row);
        room = l != NULL ? lists_append(l, row, vector) : faiss_cells_append(f, row, vector);
    }
    rows_view_end(&vectors); /* what found no room stays behind the cells */
    return SEM_OK;
}

/* Takes ownership of r, l and f. compacted: r is a copy of the current rows as
 * they were below `seen`. */
static sem_status publish(vector_index *v, rows *r, lists *l, faiss_cells *f, bool compacted, uint32_t seen,
                          sem_error *err)
{
    view *next = NULL;
    rows_view from = {0};
    sem_status s = view_create(&next, r, l, f, err);
    if (s != SEM_OK) {
        rows_release(r);
        lists_free(l);
        faiss_cells_free(f);
        return s;
    }
    s = rows_view_begin(&from, v->current->rows, NULL, err); /* only this thread changes it */
    /* Most of what came meanwhile is copied before the writer has to wait. */
    enum { CATCH_UP_ROUNDS = 3 };
    for (int i = 0; compacted && s == SEM_OK && i < CATCH_UP_ROUNDS; i++)
        s = compaction_catch_up(&from, r, &seen, err);
    if (s == SEM_OK)
        s = list_new_rows(l, f, r, err);
    pthread_mutex_lock(&v->writing);
    if (compacted && s == SEM_OK) {
        s = compaction_catch_up(&from, r, &seen, err);
        if (s == SEM_OK)
            compaction_remove_dead(from.rows, r);
    }
    rows_view_end(&from);
    if (s == SEM_OK)
        s = list_new_rows(l, f, r, err);
    if (s == SEM_OK)
        view_replace(v, next);
    pthread_mutex_unlock(&v->writing);
    if (s != SEM_OK)
        view_release(next);
    return s;
}

/* The rows to make lists of: copies of the live ones where they are due to be
 * compacted (origin and seen as compaction_copy fills them), else those there are. */
static sem_status take_rows(rows *now, bool compact, rows **out, uint32_t **origin, uint32_t *seen,
                            const atomic_bool *cancel, sem_error *err)
{
    if (!compact) {
        *out = rows_share(now);
        return SEM_OK;
    }
    rows_view vectors;
    sem_status s = rows_view_begin(&vectors, now, NULL, err);
    if (s != SEM_OK)
        return s;
    s = compaction_copy(&vectors, out, origin, seen, cancel, err);
    rows_view_end(&vectors);
    return s;
}

/* Cells of the engine's kind; old: those there are, to go on from. */
static sem_status make_cells(vector_index *v, training *t, unsigned needs, const view *old, lists **l, faiss_cells **f,
                             upkeep_done *done, sem_error *err)
{
    if (t->old == NULL && old->faiss == NULL && (needs & TRAINING_CLUSTER) == 0)
        return SEM_OK;
    rows_view vectors;
    sem_status s = rows_view_open(&vectors, t->rows, err);
    if (s != SEM_OK)
        return s;
    t->options = &v->options;
    t->kernel = v->kernel;
    t->view = &vectors;
    if (v->options.engine == VECTOR_ENGINE_FAISS)
        s = faiss_cells_make(t, needs, old->faiss, f, err);
    else
        s = needs == TRAINING_UPKEEP ? training_keep_up(t, l, done, err) : training_make_lists(t, needs, l, err);
    rows_view_end(&vectors);
    return s;
}

/* *loaded false: there is nothing to load, or nothing that can be used. What is
 * damaged is made anew, and exact search answers meanwhile. */
static sem_status load_lists(vector_index *v, const view *now, bool *loaded, sem_log *log, sem_error *err)
{
    lists_file f;
    faiss_cells *cells = NULL;
    sem_error why;
    rows *r = NULL;
    uint32_t seen;
    uint64_t began = clock_monotonic_ms();
    v->cache_tried = true;
    *loaded = false;
    sem_status s = v->options.engine == VECTOR_ENGINE_FAISS
                       ? faiss_file_load(v->cache, &v->options, &cells, &f, &why)
                       : lists_file_load(v->cache, v->options.dim, v->options.metric == METRIC_DOT, &f, &why);
    if (s != SEM_OK && s != SEM_NOT_FOUND) {
        char text[SEM_ERROR_MESSAGE_MAX];
        log_event(log, LOG_LEVEL_WARNING, "lists_not_loaded", "message=%s", log_value(text, sizeof text, why.message));
    }
    if (s != SEM_OK)
        return SEM_OK;
    s = lists_file_rows(&f, now->rows, &r, &seen, err);
    if (s == SEM_OK) {
        s = publish(v, r, f.lists, cells, true, seen, err);
        f.lists = NULL;
        cells = NULL;
    }
    if (s == SEM_OK)
        log_event(log, LOG_LEVEL_INFO, "lists_loaded", "rows=%u ms=%llu", f.rows,
                  (unsigned long long)(clock_monotonic_ms() - began));
    lists_file_free(&f);
    faiss_cells_free(cells);
    *loaded = s == SEM_OK;
    return s;
}

static bool may_load(const vector_index *v, const view *now)
{
    return now->lists == NULL && now->faiss == NULL && v->cache != NULL && !v->cache_tried;
}

sem_status vector_index_load(vector_index *v, sem_log *log, sem_error *err)
{
    bool loaded = false;
    view *now = view_acquire(v);
    sem_status s = may_load(v, now) && needs_of(v, now) != TRAINING_NOTHING ? load_lists(v, now, &loaded, log, err)
                                                                            : SEM_OK;
    view_release(now);
    if (loaded)
        pages_trim();
    return s;
}

/* Without the file the next start takes longer, no more. */
static void warn_not_saved(sem_log *log, const sem_error *why)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(log, LOG_LEVEL_WARNING, "lists_not_saved", "message=%s", log_value(text, sizeof text, why->message));
}

/* A cache is not to take the room of documents, nor what the store keeps free for deletes. */
static bool has_room(const vector_index *v, uint64_t bytes, sem_log *log)
{
    sem_error why;
    if (v->options.store == NULL || store_room(v->options.store, 1, bytes, &why) == SEM_OK)
        return true;
    warn_not_saved(log, &why);
    return false;
}

static void save_faiss(const vector_index *v, const rows *r, faiss_cells *f, sem_log *log)
{
    sem_error why;
    const uint64_t row = v->options.dim * (v->options.faiss_type == VECTOR_FAISS_FLAT ? sizeof(float) : 1) +
                         2 * sizeof(uint32_t) + sizeof(int64_t);
    if (has_room(v, faiss_cells_covered(f) * row, log) && faiss_file_save(v->cache, f, r, &why) != SEM_OK)
        warn_not_saved(log, &why);
}

/* Publishes what was made, and saves it: our lists after searches have them, since a disk may
 * take long; FAISS's before, since rows that come later change them in place. Takes ownership
 * of r, l and f. */
static sem_status publish_and_save(vector_index *v, rows *r, lists *l, faiss_cells *f, bool compacted, uint32_t seen,
                                   sem_log *log, sem_error *err)
{
    lists_saving *saving = NULL;
    sem_error why;
    if (v->cache != NULL && f != NULL)
        save_faiss(v, r, f, log);
    if (v->cache != NULL && l != NULL && lists_saving_start(&saving, l, r, &why) != SEM_OK)
        warn_not_saved(log, &why);
    sem_status s = publish(v, r, l, f, compacted, seen, err);
    if (s == SEM_OK && saving != NULL && has_room(v, lists_saving_bytes(saving), log)) {
        view *now = view_acquire(v); /* keeps the lists: only this thread replaces them */
        if (lists_saving_write(saving, v->cache, &why) != SEM_OK)
            warn_not_saved(log, &why);
        view_release(now);
    }
    lists_saving_end(saving);
    return s;
}

/* Lists to go on from: all of them are looked at before anything is made of them. */
static const lists *take_old(const view *now, sem_log *log)
{
    if (now->lists != NULL)
        lists_meet_all(now->lists);
    if (lists_damaged(now->lists))
        log_event(log, LOG_LEVEL_WARNING, "lists_damaged",
                  "message=\"a checksum of the saved lists is wrong: they "
                  "are made anew, and search is exact until then\"");
    return lists_of(now);
}

sem_status vector_index_train(vector_index *v, const vector_training *how, sem_error *err)
{
    static const vector_training nothing = {0};
    how = how == NULL ? &nothing : how;
    view *now = view_acquire(v);
    unsigned needs = needs_of(v, now);
    const lists *usable = needs == TRAINING_NOTHING ? NULL : take_old(now, how->log);
    if (needs != TRAINING_NOTHING && usable != now->lists)
        needs = needs_of(v, now);
    bool compact = (needs & TRAINING_COMPACT) != 0;
    rows *r = NULL;
    lists *l = NULL;
    faiss_cells *f = NULL;
    uint32_t *origin = NULL;
    uint32_t seen = 0;
    upkeep_done done = {0};
    sem_status s = SEM_OK;
    if (needs == TRAINING_NOTHING)
        goto cleanup;
    bool loaded = false;
    if (may_load(v, now))
        s = load_lists(v, now, &loaded, how->log, err);
    if (s != SEM_OK || loaded)
        goto cleanup;
    s = take_rows(now->rows, compact, &r, &origin, &seen, how->cancel, err);
    if (s != SEM_OK)
        goto cleanup;
    training t = {.rows = r, .old = usable, .origin = origin, .how = how};
    t.measures = atomic_exchange_explicit(&v->other_queries, false, memory_order_relaxed);
    s = make_cells(v, &t, needs, now, &l, &f, &done, err);
    if (s == SEM_OK)
        s = publish_and_save(v, r, l, f, compact, seen, how->log, err);
    else
        rows_release(r);
    if (s != SEM_OK && t.measures)
        vector_index_queries_changed(v);
    if (s == SEM_OK) {
        atomic_fetch_add_explicit(&v->splits, done.splits, memory_order_relaxed);
        atomic_fetch_add_explicit(&v->merges, done.merges, memory_order_relaxed);
    }
cleanup:
    view_release(now);
    free(origin);
    if (s == SEM_OK && needs != TRAINING_NOTHING)
        pages_trim();
    return s;
}
