/* search in modes lexical and hybrid. */
#include "base/checked.h"
#include "base/clock.h"
#include "index/fusion.h"
#include "index/lexical_search.h"
#include "daemon/lexical_thread.h"
#include "daemon/ops.h"
#include "daemon/search.h"

#include <stdlib.h>

/* Documents of each ranking that are fused: at least, and times k. */
enum { DEPTH_LEAST = 100, DEPTH_FACTOR = 2 };

enum { TRIES = 2 /* the index may be found damaged, and is then made anew */ };

/* One search for words under way. */
typedef struct words {
    search *search;
    const float *encoded; /* borrowed: the query, in mode hybrid */
    lexical_query query;
    lexical_candidates *candidates; /* owned */
} words;

static bool within_deadline(void *context)
{
    const words *w = context;
    return task_check_deadline(w->search->task, NULL) == SEM_OK;
}

/* The snapshot of before says which writes the index has to know: all that was
 * answered before this search came. */
static sem_status wait_for_index(search *s, sem_error *err)
{
    sem_status status = s->same_snapshot ? SEM_OK : worker_collection(s->worker, s->task, &s->collection, err);
    if (status != SEM_OK)
        return status;
    if (!s->collection.lexical)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "mode: collection %s was created with options.lexical false and has no lexical index",
                        s->collection.name);
    return lexical_thread_wait(s->worker->core->lexical, s->collection.number, store_last_seq(s->worker->read), s->task,
                               err);
}

static sem_status gather(words *w, size_t k, sem_error *err)
{
    search *s = w->search;
    const request *q = s->request;
    const store_collection *c = &s->collection;
    w->query = (lexical_query){
        .collection = c->number,
        .text = q->u.search.query.data,
        .length = q->u.search.query.size,
        .k = k,
        .allowed = s->allowed,
        .allowed_bits = s->allowed_bits,
        .listed = s->listed,
        .listed_count = s->listed_count,
        .text_bytes = c->documents > 0 ? (double)c->bytes / (double)c->documents : 0,
        .go_on = within_deadline,
        .context = w,
    };
    lexical_cache *cached = &s->worker->lexical;
    sem_status status = lexical_thread_reader(s->worker->core->lexical, cached, err);
    if (status == SEM_OK)
        status = lexical_gather(cached->reader, &w->query, &w->candidates, err);
    return status;
}

static sem_status rank(words *w, vector_hit *hits, size_t *count, sem_error *err)
{
    search *s = w->search;
    return lexical_rank(w->candidates, s->worker->read, s->filter, hits, count, err);
}

static sem_status search_words(words *w, sem_error *err)
{
    search *s = w->search;
    size_t k = s->request->u.search.k;
    s->hits = pool_take_array(s->worker->core->hooks.memory, k, sizeof *s->hits);
    if (s->hits == NULL)
        return sem_fail_memory(err, "hits");
    sem_status status = gather(w, k, err);
    if (status == SEM_OK)
        status = search_renew(s, err);
    return status == SEM_OK ? rank(w, s->hits, &s->count, err) : status;
}

/* The nearest documents, less those that the newest snapshot does not know. */
static sem_status drop_unknown(search *s, sem_error *err)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        bool known;
        sem_status status = search_knows(s, s->hits[i].docno, &known, err);
        if (status != SEM_OK)
            return status;
        if (known)
            s->hits[kept++] = s->hits[i];
    }
    s->count = kept;
    return SEM_OK;
}

/* Takes both rankings' documents into s->hits and s->parts, k at most. */
static sem_status fuse(search *s, const vector_hit *words_found, size_t count, sem_error *err)
{
    fusion f = {.dense = s->hits,
                .dense_count = s->count,
                .lexical = words_found,
                .lexical_count = count,
                .dense_weight = s->collection.weight_dense,
                .lexical_weight = s->collection.weight_lexical,
                .tie = search_compare_ids,
                .context = s};
    fused_hit *all;
    size_t k = s->request->u.search.k;
    sem_status status = fusion_run(&f, &all, &count, err);
    if (status != SEM_OK)
        return status;
    s->count = count < k ? count : k;
    pool_give(s->hits);
    s->hits = pool_take_array(s->worker->core->hooks.memory, s->count, sizeof *s->hits);
    s->parts = checked_realloc(NULL, s->count + 1, sizeof *s->parts);
    if (s->hits == NULL || s->parts == NULL)
        status = sem_fail_memory(err, "hits");
    for (size_t i = 0; status == SEM_OK && i < s->count; i++) {
        s->hits[i] = (vector_hit){.docno = all[i].docno, .slot = all[i].slot, .score = (float)all[i].score};
        s->parts[i] = (hit_parts){.has_dense = all[i].has_dense,
                                  .has_lexical = all[i].has_lexical,
                                  .dense = all[i].dense,
                                  .lexical = all[i].lexical};
    }
    free(all);
    return status;
}

static sem_status search_both(words *w, sem_error *err)
{
    search *s = w->search;
    size_t k = s->request->u.search.k, count;
    size_t depth = k * DEPTH_FACTOR > DEPTH_LEAST ? k * DEPTH_FACTOR : DEPTH_LEAST;
    s->spare = depth - k;
    sem_status status = search_vectors(s, w->encoded, err);
    if (status == SEM_OK)
        status = gather(w, depth, err);
    if (status == SEM_OK)
        status = search_renew(s, err);
    if (status == SEM_OK)
        status = drop_unknown(s, err);
    if (status != SEM_OK)
        return status;
    vector_hit *found = pool_take_array(s->worker->core->hooks.memory, depth, sizeof *found);
    if (found == NULL)
        return sem_fail_memory(err, "hits");
    status = rank(w, found, &count, err);
    if (status == SEM_OK)
        status = fuse(s, found, count, err);
    pool_give(found);
    return status;
}

static sem_status run(words *w, sem_error *err)
{
    search *s = w->search;
    explanation *x = s->explain;
    uint64_t began = clock_monotonic_ns();
    sem_status status = wait_for_index(s, err);
    uint64_t waited = clock_monotonic_ns();
    if (status == SEM_OK)
        status = search_apply_filter(s, err);
    uint64_t filtered = clock_monotonic_ns();
    if (status == SEM_OK)
        status = s->request->u.search.mode == SEARCH_HYBRID ? search_both(w, err) : search_words(w, err);
    if (status == SEM_CANCELLED) /* by within_deadline */
        status = task_check_deadline(s->task, err);
    if (x != NULL) {
        x->ns[STEP_FILTER] += filtered - waited;
        x->ns[STEP_LEXICAL] += waited - began + clock_monotonic_ns() - filtered;
        x->lexical = w->candidates;
    }
    return status;
}

/* *again: the index was found damaged and is being made anew. */
static sem_status find(words *w, bool *again, sem_error *err)
{
    search *s = w->search;
    sem_status status = task_check_deadline(s->task, err);
    if (status == SEM_OK)
        status = run(w, err);
    if (status != SEM_OK)
        *again = lexical_thread_report(s->worker->core->lexical, &s->worker->lexical);
    return status;
}

static sem_status try_once(words *w, bool *again, sem_error *err)
{
    sem_status status = find(w, again, err);
    if (status == SEM_OK && w->search->collection.passage_tokens > 0)
        status = search_place_words(w->search, w->candidates, err);
    if (status == SEM_OK)
        status = search_answer(w->search, err);
    lexical_candidates_free(w->candidates);
    search_free(w->search);
    return status;
}

sem_status search_find_words(search *s, const float *encoded, sem_error *err)
{
    const search asked = *s;
    for (int tries = 1;; tries++) {
        words w = {.search = s, .encoded = encoded};
        bool again = false;
        sem_status status = find(&w, &again, err);
        lexical_candidates_free(w.candidates);
        if (!again || tries == TRIES)
            return status;
        search_free(s);
        *s = asked;
    }
}

void op_search_lexical(worker *on, task *t, serving *pinned, const float *query, explanation *x)
{
    sem_error err;
    bool again = true;
    sem_status status = SEM_OK;
    int damages = 0, deletes = 0; /* that made an answer void */
    while (again && damages < TRIES && deletes < WORKER_TRIES) {
        search s = {.worker = on, .task = t, .request = t->request, .serving = pinned, .explain = x};
        words w = {.search = &s, .encoded = query};
        again = false;
        status = try_once(&w, &again, &err);
        damages += again;
        deletes += status == SEM_CANCELLED;
        again = again || status == SEM_CANCELLED;
    }
    if (status == SEM_CANCELLED)
        status = worker_fail_deleted(&err);
    if (status != SEM_OK)
        task_fail(on->core, t, &err);
}
