/* Queries that are encoded together: searches by text and small encodes. */
#include "base/checked.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

/* A batch under way: its tasks' texts one after the other. */
typedef struct batch {
    worker *worker;
    serving *serving;  /* pinned */
    model_tower tower; /* whose all tasks are */
    task **tasks;      /* [count] */
    size_t count, texts;
    /* These lie in the worker's memory for batches. */
    span *spans;          /* [texts] */
    const char **prompts; /* [texts]; borrowed from the model */
    float *vectors;       /* [texts, dim] */
    uint32_t *tokens;     /* [texts] */
    bool *cut;            /* [texts] */
} batch;

static size_t text_count(const task *t)
{
    return t->request->method == METHOD_SEARCH ? 1 : t->request->u.encode.count;
}

static const span *texts_of(const task *t)
{
    return t->request->method == METHOD_SEARCH ? &t->request->u.search.query : t->request->u.encode.texts;
}

static sem_status prompt_of(const task *t, const serving *s, model_tower *tower, const char **out, sem_error *err)
{
    if (t->request->method == METHOD_ENCODE)
        return op_encode_prompt(t, s, tower, out, err);
    *tower = TOWER_QUERY;
    *out = model_config_query_prompt(model_get_config(s->query));
    return SEM_OK;
}

static sem_status batch_reserve(batch *b, sem_error *err)
{
    for (size_t i = 0; i < b->count; i++)
        b->texts += text_count(b->tasks[i]);
    const size_t dim = space_dim(b->serving->space), n = b->texts;
    buffer *memory = &b->worker->batch;
    size_t each, bytes;
    memory->size = 0;
    if (!checked_mul(dim, sizeof *b->vectors, &each) ||
        !checked_add(each, sizeof *b->spans + sizeof *b->prompts + sizeof *b->tokens + sizeof *b->cut, &each) ||
        !checked_mul(n, each, &bytes) || !buffer_reserve(memory, bytes))
        return sem_fail_memory(err, "a batch of queries");
    /* Those of the widest elements first. */
    b->spans = (span *)(void *)memory->data;
    b->prompts = (const char **)(void *)(b->spans + n);
    b->vectors = (float *)(void *)(b->prompts + n);
    b->tokens = (uint32_t *)(void *)(b->vectors + n * dim);
    b->cut = (bool *)(void *)(b->tokens + n);
    return SEM_OK;
}

static sem_status batch_encode(batch *b, sem_error *err)
{
    sem_status status = batch_reserve(b, err);
    size_t at = 0;
    for (size_t i = 0; status == SEM_OK && i < b->count; i++) {
        const task *t = b->tasks[i];
        const char *prompt;
        model_tower tower; /* the batch's */
        status = prompt_of(t, b->serving, &tower, &prompt, err);
        for (size_t k = 0; status == SEM_OK && k < text_count(t); k++) {
            b->spans[at] = texts_of(t)[k];
            b->prompts[at++] = prompt;
        }
    }
    if (status != SEM_OK)
        return status;
    /* An error counts only for a task that is alone in its batch. */
    const bool searches = b->tasks[0]->request->method == METHOD_SEARCH;
    encoding_job job = {.serving = b->serving,
                        .tower = b->tower,
                        .prompts = b->prompts,
                        .texts = b->spans,
                        .count = b->texts,
                        .field = searches ? "query" : "texts",
                        .alone = searches,
                        .slice_tokens = b->worker->core->settings.encode.token_budget,
                        .out = b->vectors,
                        .tokens = b->tokens,
                        .truncated = b->cut};
    return encoding_run(b->worker->encoding, &job, err);
}

static sem_status check_lengths(const task *t, const model *m, const bool *cut, sem_error *err)
{
    for (size_t i = 0; i < t->request->u.encode.count; i++)
        if (cut[i] && !t->request->u.encode.truncate)
            return encoding_refuse_cut(m, "texts", i, err);
    return SEM_OK;
}

static void answer_task(const batch *b, task *t, size_t at)
{
    sem_error err;
    const float *vectors = b->vectors + at * space_dim(b->serving->space);
    if (t->request->method == METHOD_SEARCH)
        op_search_with(b->worker, t, b->serving, vectors);
    else if (check_lengths(t, serving_tower(b->serving, b->tower), b->cut + at, &err) != SEM_OK)
        task_fail(b->worker->core, t, &err);
    else
        op_encode_answer(b->worker, t, b->serving, vectors, b->tokens + at, b->cut + at);
}

/* --- what is known already */

/* Only queries of one text are kept. False when t is none, or its prompt is wrong. */
static bool cache_key(const task *t, const serving *s, model_tower *tower, cached_query *q)
{
    *q = (cached_query){.generation = s->generation, .dim = space_dim(s->space)};
    if (text_count(t) != 1 || prompt_of(t, s, tower, &q->prompt, NULL) != SEM_OK)
        return false;
    q->as_document = serving_has_two(s) && *tower == TOWER_DOCUMENT;
    q->text = texts_of(t)->data;
    q->size = texts_of(t)->size;
    return true;
}

/* Answers those of tasks[count] that the cache knows; the others are left, and how
 * many they are is returned. */
static size_t answer_known(worker *w, serving *s, task **tasks, size_t count)
{
    size_t left = 0;
    const size_t bytes = space_dim(s->space) * sizeof(float);
    w->batch.size = 0;
    float *vector = buffer_reserve(&w->batch, bytes) ? (float *)(void *)w->batch.data : NULL;
    for (size_t i = 0; i < count; i++) {
        cached_query q;
        model_tower tower = TOWER_QUERY;
        bool asked = vector != NULL && cache_key(tasks[i], s, &tower, &q);
        q.vector = vector;
        if (!asked || !query_cache_get(w->core->queries, &q)) {
            tasks[left++] = tasks[i];
            continue;
        }
        batch b = {
            .worker = w, .serving = s, .tower = tower, .vectors = q.vector, .tokens = &q.tokens, .cut = &q.truncated};
        answer_task(&b, tasks[i], 0);
    }
    return left;
}

static void keep(const batch *b, const task *t, size_t at)
{
    cached_query q;
    model_tower tower;
    if (!cache_key(t, b->serving, &tower, &q))
        return;
    q.vector = b->vectors + at * q.dim;
    q.tokens = b->tokens[at];
    q.truncated = b->cut[at];
    query_cache_put(b->worker->core->queries, &q);
}

/* --- all of it */

/* Encodes and answers tasks[count], all of one tower; each that fails fails alone. */
static void run(worker *w, serving *s, model_tower tower, task **tasks, size_t count)
{
    sem_error err;
    batch b = {.worker = w, .serving = s, .tower = tower, .tasks = tasks, .count = count};
    sem_status status = batch_encode(&b, &err);
    if (status != SEM_OK && count == 1) {
        task_fail(w->core, tasks[0], &err);
    } else if (status != SEM_OK) {
        for (size_t i = 0; i < count; i++)
            run(w, s, tower, &tasks[i], 1);
    } else {
        for (size_t i = 0, at = 0; i < count; i++) {
            size_t texts = text_count(tasks[i]);
            keep(&b, tasks[i], at);
            answer_task(&b, tasks[i], at);
            at += texts;
        }
    }
}

/* Puts the tasks that are for the query model first; how many they are. With one model for both
 * all are, and a task whose prompt is wrong fails with any. */
static size_t queries_first(const serving *s, task **tasks, size_t count)
{
    size_t queries = 0;
    if (!serving_has_two(s))
        return count;
    for (size_t i = 0; i < count; i++) {
        const char *prompt;
        model_tower tower;
        if (prompt_of(tasks[i], s, &tower, &prompt, NULL) == SEM_OK && tower == TOWER_DOCUMENT)
            continue;
        task *t = tasks[i];
        tasks[i] = tasks[queries];
        tasks[queries++] = t;
    }
    return queries;
}

void op_batch(worker *w, task **tasks, size_t count)
{
    sem_error err;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (task_check_deadline(tasks[i], &err) == SEM_OK)
            tasks[kept++] = tasks[i];
        else
            task_fail(w->core, tasks[i], &err);
    }
    if (kept == 0)
        return;
    serving *s = serving_slot_acquire(&w->core->current);
    kept = answer_known(w, s, tasks, kept);
    size_t queries = queries_first(s, tasks, kept);
    if (queries > 0)
        run(w, s, TOWER_QUERY, tasks, queries);
    if (queries < kept)
        run(w, s, TOWER_DOCUMENT, tasks + queries, kept - queries);
    serving_release(s);
}
