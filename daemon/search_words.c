/* Searches in modes lexical and hybrid. */
#include "base/checked.h"
#include "base/clock.h"
#include "index/fusion.h"
#include "index/lexical_search.h"
#include "daemon/lexical_thread.h"
#include "daemon/search.h"

#include <stdlib.h>

/* Documents of each ranking that are fused: at least, and times k. */
enum { DEPTH_LEAST = 100, DEPTH_FACTOR = 2 };

enum {
    TRIES = 2,       /* the index may be found damaged, and is then made anew */
    SHORT_TRIES = 2, /* hits may be deleted as fast as they are found; from then on with all that there is: */
    SPARE_FACTOR = 4 /* so many times as many by vectors, each time */
};

static bool within_deadline(void *context)
{
    const search *s = context;
    return task_check_deadline(s->task, NULL) == SEM_OK;
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

static sem_status gather(search *s, size_t k, sem_error *err)
{
    const request *q = s->request;
    const store_collection *c = &s->collection;
    s->words_query = (lexical_query){
        .collection = c->number,
        .text = q->u.search.query.data,
        .length = q->u.search.query.size,
        .k = k,
        .allowed = s->allowed,
        .allowed_bits = s->allowed_bits,
        .listed = s->listed,
        .listed_count = s->listed_count,
        .thorough = s->thorough,
        .text_bytes = c->documents > 0 ? (double)c->bytes / (double)c->documents : 0,
        .go_on = within_deadline,
        .context = s,
    };
    lexical_cache *cached = &s->worker->lexical;
    sem_status status = lexical_thread_reader(s->worker->core->lexical, cached, err);
    if (status == SEM_OK)
        status = lexical_gather(cached->reader, &s->words_query, &s->words, err);
    return status;
}

static sem_status rank(search *s, vector_hit *hits, size_t *count, sem_error *err)
{
    return lexical_rank(s->words, s->worker->read, s->filter, hits, count, err);
}

static sem_status search_words(search *s, sem_error *err)
{
    size_t k = s->request->u.search.k;
    s->hits = pool_take_array(s->worker->core->hooks.memory, k, sizeof *s->hits);
    if (s->hits == NULL)
        return sem_fail_memory(err, "hits");
    sem_status status = gather(s, k, err);
    if (status == SEM_OK)
        status = search_renew(s, err);
    return status == SEM_OK ? rank(s, s->hits, &s->count, err) : status;
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

static sem_status search_both(search *s, const float *encoded, sem_error *err)
{
    size_t k = s->request->u.search.k, count;
    size_t depth = k * DEPTH_FACTOR > DEPTH_LEAST ? k * DEPTH_FACTOR : DEPTH_LEAST;
    s->spare += depth - k;
    sem_status status = search_vectors(s, encoded, err);
    if (status == SEM_OK)
        status = gather(s, depth, err);
    if (status == SEM_OK)
        status = search_renew(s, err);
    if (status == SEM_OK)
        status = search_drop_unknown(s, err);
    if (status != SEM_OK)
        return status;
    vector_hit *found = pool_take_array(s->worker->core->hooks.memory, depth, sizeof *found);
    if (found == NULL)
        return sem_fail_memory(err, "hits");
    status = rank(s, found, &count, err);
    if (status == SEM_OK)
        status = fuse(s, found, count, err);
    pool_give(found);
    return status;
}

static sem_status run(search *s, const float *encoded, sem_error *err)
{
    explanation *x = s->explain;
    uint64_t began = clock_monotonic_ns();
    sem_status status = wait_for_index(s, err);
    uint64_t waited = clock_monotonic_ns();
    if (status == SEM_OK)
        status = search_apply_filter(s, err);
    uint64_t filtered = clock_monotonic_ns();
    if (status == SEM_OK)
        status = s->request->u.search.mode == SEARCH_HYBRID ? search_both(s, encoded, err) : search_words(s, err);
    if (status == SEM_CANCELLED) /* by within_deadline */
        status = task_check_deadline(s->task, err);
    if (x != NULL) {
        x->ns[STEP_FILTER] += filtered - waited;
        x->ns[STEP_LEXICAL] += waited - began + clock_monotonic_ns() - filtered;
    }
    return status;
}

/* Of both rankings only what is left over can be told to be too few: each has documents that the other has not. */
static bool ran_short(const search *s)
{
    const size_t k = s->request->u.search.k;
    return s->count < k && (s->more || (s->words != NULL && lexical_ran_short(s->words, s->count)));
}

sem_status search_find_words(search *s, const float *encoded, sem_error *err)
{
    search asked = *s;
    for (int tries = 1, shortages = 0;;) {
        sem_status status = task_check_deadline(s->task, err);
        if (status == SEM_OK)
            status = run(s, encoded, err);
        if (status == SEM_OK && !ran_short(s))
            return SEM_OK;
        if (status == SEM_OK) {
            asked.thorough = ++shortages >= SHORT_TRIES;
            asked.spare = asked.spare * SPARE_FACTOR + DEPTH_LEAST;
        } else if (!lexical_thread_report(s->worker->core->lexical, &s->worker->lexical) || tries++ == TRIES) {
            return status;
        }
        search_free(s);
        *s = asked;
    }
}
