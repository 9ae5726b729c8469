#include "daemon/worker.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/queue.h"
#include "daemon/writer.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    BATCH_TASKS = 64,       /* queries that share a forward pass */
    SMALL_ENCODE_TEXTS = 8, /* an encode of so many texts counts as a query */
    WALK_CALLS = 1024       /* documents between two looks at the clock */
};

struct worker_pool {
    core *core;
    unsigned count;
    struct {
        worker worker;
        pthread_t thread;
        bool started;
    } threads[];
};

queue_lane worker_lane(const request *r)
{
    bool slow = r->method == METHOD_UPSERT || (r->method == METHOD_ENCODE && r->u.encode.count > SMALL_ENCODE_TEXTS) ||
                (r->method == METHOD_DELETE && r->u.erase.ids == NULL);
    return slow ? QUEUE_SLOW : QUEUE_FAST;
}

bool op_is_query(const task *t)
{
    const request *r = t->request;
    return (r->method == METHOD_SEARCH && r->u.search.query.data != NULL) ||
           (r->method == METHOD_ENCODE && r->u.encode.count <= SMALL_ENCODE_TEXTS);
}

sem_status worker_renew(worker *w, sem_error *err)
{
    if (w->read != NULL)
        return store_read_renew(w->read, err);
    return store_read_begin(w->core->store, &w->read, err);
}

sem_status worker_collection(worker *w, task *t, store_collection *out, sem_error *err)
{
    sem_status status = worker_renew(w, err);
    if (status == SEM_OK)
        status = store_collection_find(w->read, t->request->collection.data, t->request->collection.size, out, err);
    if (status == SEM_OK)
        t->collection = out->number;
    return status;
}

static bool is_query(const void *item, void *context)
{
    (void)context;
    return op_is_query(item);
}

static void run_queries(worker *w, task *first)
{
    task *tasks[BATCH_TASKS] = {first};
    size_t count = 1 +
                   queue_take_matching(w->core->work, QUEUE_FAST, is_query, NULL, (void **)tasks + 1, BATCH_TASKS - 1);
    op_queries(w, tasks, count);
}

static void run(worker *w, task *t)
{
    sem_error err;
    if (task_check_deadline(t, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    if (op_is_query(t)) {
        run_queries(w, t);
        return;
    }
    switch (t->request->method) {
    case METHOD_ENCODE: op_encode(w, t); return;
    case METHOD_SEARCH: op_search(w, t); return;
    case METHOD_UPSERT: op_upsert(w, t); return;
    case METHOD_DELETE: op_delete(w, t); return;
    case METHOD_FEEDBACK: op_feedback(w, t); return;
    case METHOD_GET: op_get(w, t); return;
    case METHOD_COUNT: op_count(w, t); return;
    case METHOD_SCROLL: op_scroll(w, t); return;
    case METHOD_INFO: op_info(w, t); return;
    case METHOD_COLLECTION_LIST: op_collection_list(w, t); return;
    case METHOD_GENERATIONS: op_generations(w, t); return;
    case METHOD_FINETUNE: op_finetune(w, t); return;
    case METHOD_MODEL_LOAD: op_model_load(w, t); return;
    case METHOD_ROLLBACK: op_rollback(w, t); return;
    case METHOD_JOB: op_job(w, t); return;
    default: writer_submit(w->core->writer, t); return; /* create, drop, click need no preparation */
    }
}

/* A snapshot that outlives its request would keep LMDB from reusing pages. */
static void run_one(worker *w, task *t)
{
    run(w, t);
    store_read_end(w->read);
    w->read = NULL;
}

static void serve_queries(worker *w)
{
    store_read *outer = w->read;
    w->read = NULL;
    w->between = true;
    for (task *t; (t = queue_try_pop(w->core->work, false)) != NULL;)
        run_one(w, t);
    w->between = false;
    w->read = outer;
    atomic_store(&w->busy_since_ns, clock_monotonic_ns());
}

sem_status worker_pause(worker *w, const task *t, sem_error *err)
{
    if (!w->between)
        serve_queries(w);
    return task_check_deadline(t, err);
}

bool worker_between(void *context)
{
    worker_long *l = context;
    return worker_pause(l->worker, l->task, NULL) == SEM_OK;
}

bool walk_goes_on(walk_clock *c)
{
    if (++c->calls % WALK_CALLS == 0)
        c->status = task_check_deadline(c->task, c->err);
    return c->status == SEM_OK;
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    for (task *t; (t = queue_pop(w->core->work, -1)) != NULL;) {
        atomic_store(&w->busy_since_ns, clock_monotonic_ns());
        run_one(w, t);
        atomic_store(&w->busy_since_ns, 0);
    }
    return NULL;
}

sem_status worker_pool_create(worker_pool **out, core *c, unsigned threads, sem_error *err)
{
    worker_pool *p = calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (p == NULL)
        return sem_fail_memory(err, "the workers");
    p->core = c;
    p->count = threads;
    sem_status status = SEM_OK;
    for (unsigned i = 0; i < threads && status == SEM_OK; i++) {
        worker *w = &p->threads[i].worker;
        w->core = c;
        status = encoding_create(&w->encoding, c, err);
        if (status == SEM_OK && pthread_create(&p->threads[i].thread, NULL, worker_main, w) != 0)
            status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start worker thread %u of %u", i + 1, threads);
        p->threads[i].started = status == SEM_OK;
    }
    if (status != SEM_OK) {
        worker_pool_destroy(p);
        return status;
    }
    *out = p;
    return SEM_OK;
}

void worker_pool_destroy(worker_pool *p)
{
    if (p == NULL)
        return;
    queue_close(p->core->work);
    for (unsigned i = 0; i < p->count; i++) {
        if (p->threads[i].started)
            pthread_join(p->threads[i].thread, NULL);
        encoding_destroy(p->threads[i].worker.encoding);
    }
    free(p);
}

uint64_t worker_pool_busy_since(worker_pool *p)
{
    uint64_t earliest = 0;
    for (unsigned i = 0; i < p->count; i++) {
        uint64_t since = atomic_load(&p->threads[i].worker.busy_since_ns);
        if (since != 0 && (earliest == 0 || since < earliest))
            earliest = since;
    }
    return earliest;
}
