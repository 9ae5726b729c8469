#include "daemon/worker.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/crew.h"
#include "base/queue.h"
#include "daemon/deletes.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    WALK_CALLS = 64, /* documents between two looks at the clock: a filter of many parts takes a millisecond each */
    CREW_MEMBERS = 4 /* workers at one query: a phase of more would be shorter than it takes to meet */
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

sem_status worker_renew(worker *w, sem_error *err)
{
    w->deletes_seen = deletes_count(w->core->deletes);
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

static int compare_docnos(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Of a newer snapshot, which knows what was deleted by now. */
static sem_status all_exist(worker *w, const worker_shown *shown, sem_error *err)
{
    store_collection c;
    sem_status status = worker_renew(w, err);
    if (status == SEM_OK)
        status = store_collection_at(w->read, shown->collection, &c, err);
    for (size_t i = 0; i < shown->count && status == SEM_OK; i++) {
        const unsigned char *key;
        size_t length;
        bool found;
        status = store_document_key(w->read, shown->collection, shown->docnos[i], &key, &length, &found, err);
        if (status == SEM_OK && !found)
            status = sem_fail(err, SEM_CANCELLED, "document %u was deleted", shown->docnos[i]);
    }
    return status == SEM_NOT_FOUND ? sem_fail(err, SEM_CANCELLED, "the collection was dropped") : status;
}

sem_status worker_sending(worker *w, worker_shown *shown, sem_error *err)
{
    deletes *d = w->core->deletes;
    if (shown->count > 1)
        qsort(shown->docnos, shown->count, sizeof *shown->docnos, compare_docnos);
    for (int tries = 0; tries < WORKER_TRIES; tries++) {
        sem_status status = SEM_OK;
        switch (deletes_enter(d, w->deletes_seen, shown->collection, shown->docnos, shown->count)) {
        case DELETES_NONE: return SEM_OK;
        case DELETES_SOME: return sem_fail(err, SEM_CANCELLED, "a document of the answer was deleted");
        case DELETES_UNKNOWN: status = all_exist(w, shown, err); break;
        }
        if (status != SEM_OK)
            return status;
    }
    return worker_fail_deleted(err);
}

void worker_sent(worker *w)
{
    deletes_leave(w->core->deletes);
}

sem_status worker_fail_deleted(sem_error *err)
{
    return sem_fail(err, SEM_UNAVAILABLE,
                    "documents are being deleted faster than an answer of them can be made; try again");
}

/* A snapshot that outlives its request would keep LMDB from reusing pages. */
static void run_one(worker *w, task *t)
{
    w->run(w, t);
    if (w->read != NULL)
        store_read_rest(w->read);
}

static void swap_reads(worker *w)
{
    store_read *outer = w->read;
    w->read = w->other;
    w->other = outer;
}

static void serve_queries(worker *w)
{
    uint64_t seen = w->deletes_seen;
    swap_reads(w);
    w->between = true;
    for (task *t; (t = queue_try_pop(w->core->work, false)) != NULL;)
        run_one(w, t);
    w->between = false;
    swap_reads(w);
    w->deletes_seen = seen;
    atomic_store(&w->busy_since_ns, clock_monotonic_ns());
}

bool worker_between(void *context)
{
    worker_long *l = context;
    if (!l->worker->between)
        serve_queries(l->worker);
    return task_check_deadline(l->task, NULL) == SEM_OK;
}

bool walk_goes_on(walk_clock *c)
{
    if (++c->calls % WALK_CALLS == 0)
        c->status = task_check_deadline(c->task, c->err);
    return c->status == SEM_OK;
}

/* What a worker that helps with another's query leaves it for. */
static bool work_waits(void *context)
{
    const queue *work = context;
    return queue_length(work, QUEUE_FAST) > 0 || queue_length(work, QUEUE_SLOW) > 0;
}

/* Where several requests are under way, processors are awake, and have better to do than
 * to wait for another one. */
static task *next_task(worker *w, attention *a, bool *called)
{
    if (atomic_load(&w->core->tasks) > 0)
        attention_pause(a);
    attention_begin(a);
    return queue_pop_called(w->core->work, a, called);
}

/* Helps with the only request that is under way. What is left of it takes less than it takes
 * to wake the loop, on a processor that this thread leaves awake. */
static void help(core *c)
{
    crew_help(c->crew, work_waits, c->work);
    if (atomic_load(&c->tasks) == 1 && c->hooks.expect != NULL)
        c->hooks.expect(c->hooks.context);
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    attention a = {.look_ns = (uint64_t)w->core->settings.server.busy_poll_us * 1000u};
    for (bool called = true; called;) {
        for (task *t; (t = next_task(w, &a, &called)) != NULL;) {
            atomic_store(&w->busy_since_ns, clock_monotonic_ns());
            run_one(w, t);
            atomic_store(&w->busy_since_ns, 0);
        }
        if (called)
            help(w->core);
    }
    store_read_end(w->read);
    store_read_end(w->other);
    return NULL;
}

/* No more than there are cores, since members wait for each other. */
static sem_status create_crew(core *c, unsigned threads, sem_error *err)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t members = threads < CREW_MEMBERS ? threads : CREW_MEMBERS;
    if (cores > 0 && members > (size_t)cores)
        members = (size_t)cores;
    return members > 1 ? crew_create(&c->crew, members, err) : SEM_OK;
}

sem_status worker_pool_create(worker_pool **out, core *c, unsigned threads, void (*run)(worker *w, task *t),
                              sem_error *err)
{
    worker_pool *p = calloc(1, sizeof *p + threads * sizeof p->threads[0]);
    if (p == NULL)
        return sem_fail_memory(err, "the workers");
    p->core = c;
    p->count = threads;
    sem_status status = create_crew(c, threads, err);
    for (unsigned i = 0; i < threads && status == SEM_OK; i++) {
        worker *w = &p->threads[i].worker;
        w->core = c;
        w->run = run;
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
        buffer_free(&p->threads[i].worker.batch);
        lexical_cache_close(&p->threads[i].worker.lexical);
    }
    crew_destroy(p->core->crew);
    p->core->crew = NULL;
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
