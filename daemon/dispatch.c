#include "daemon/dispatch.h"

#include "base/queue.h"
#include "daemon/batch.h"
#include "daemon/event_upkeep.h"
#include "daemon/ops.h"
#include "daemon/solo.h"
#include "daemon/writer.h"

queue_lane dispatch_lane(const task *t)
{
    const request *r = t->request;
    bool slow = r->method == METHOD_UPSERT || r->method == METHOD_EVALUATE || r->method == METHOD_EVENTS ||
                (r->method == METHOD_ENCODE && t->batch_tokens == 0) ||
                (r->method == METHOD_DELETE && r->u.erase.ids == NULL);
    return slow ? QUEUE_SLOW : QUEUE_FAST;
}

void dispatch_task(worker *w, task *t)
{
    sem_error err;
    if (task_check_deadline(t, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    if (t->batch_tokens > 0) {
        task *tasks[BATCH_TASKS];
        op_batch(w, tasks, batch_collect(w->core, t, tasks));
        return;
    }
    switch (t->request->method) {
    case METHOD_ENCODE: op_encode(w, t); return;
    case METHOD_SEARCH: op_search(w, t); return;
    case METHOD_EXPLAIN: op_explain(w, t); return;
    case METHOD_EVALUATE: op_evaluate(w, t); return;
    case METHOD_UPSERT: op_upsert(w, t); return;
    case METHOD_DELETE: op_delete(w, t); return;
    case METHOD_FEEDBACK: op_feedback(w, t); return;
    case METHOD_EVENTS: op_events(w, t); return;
    case METHOD_EVENTS_ERASE: event_upkeep_erase(w->core->upkeep, t); return;
    case METHOD_GET: op_get(w, t); return;
    case METHOD_COUNT: op_count(w, t); return;
    case METHOD_SCROLL: op_scroll(w, t); return;
    case METHOD_INFO: op_info(w, t); return;
    case METHOD_COLLECTION_LIST: op_collection_list(w, t); return;
    case METHOD_COLLECTION_CREATE: op_collection_create(w, t); return;
    case METHOD_GENERATIONS: op_generations(w, t); return;
    case METHOD_FINETUNE: op_finetune(w, t); return;
    case METHOD_MODEL_LOAD: op_model_load(w, t); return;
    case METHOD_ROLLBACK: op_rollback(w, t); return;
    case METHOD_JOB: op_job(w, t); return;
    case METHOD_BACKUP: solo_start(w->core->backups, t); return;
    case METHOD_INDEX_EXPORT: solo_start(w->core->exports, t); return;
    default: writer_submit(w->core->writer, t); return; /* drop and click need no preparation */
    }
}
