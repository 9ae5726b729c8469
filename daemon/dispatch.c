#include "daemon/dispatch.h"

#include "base/queue.h"
#include "daemon/ops.h"
#include "daemon/writer.h"

enum {
    BATCH_TASKS = 64,      /* queries that share a forward pass */
    SMALL_ENCODE_TEXTS = 8 /* an encode of so many texts counts as a query */
};

queue_lane dispatch_lane(const request *r)
{
    bool slow = r->method == METHOD_UPSERT || (r->method == METHOD_ENCODE && r->u.encode.count > SMALL_ENCODE_TEXTS) ||
                (r->method == METHOD_DELETE && r->u.erase.ids == NULL);
    return slow ? QUEUE_SLOW : QUEUE_FAST;
}

/* Whether it can share a forward pass with others. */
static bool is_query(const task *t)
{
    const request *r = t->request;
    return (r->method == METHOD_SEARCH && r->u.search.query.data != NULL) ||
           (r->method == METHOD_ENCODE && r->u.encode.count <= SMALL_ENCODE_TEXTS);
}

static bool item_is_query(const void *item, void *context)
{
    (void)context;
    return is_query(item);
}

static void run_queries(worker *w, task *first)
{
    task *tasks[BATCH_TASKS] = {first};
    size_t count =
        1 + queue_take_matching(w->core->work, QUEUE_FAST, item_is_query, NULL, (void **)tasks + 1, BATCH_TASKS - 1);
    op_queries(w, tasks, count);
}

void dispatch_task(worker *w, task *t)
{
    sem_error err;
    if (task_check_deadline(t, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    if (is_query(t)) {
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
