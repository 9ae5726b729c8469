/* search: hits are found (search_find.c), drafted while a generation is on trial (search_trial.c), and
 * sent (search_answer.c). */
#include "daemon/explanation.h"
#include "daemon/ops.h"
#include "daemon/search.h"
#include "daemon/search_trial.h"
#include "daemon/worker.h"

void op_search_with(worker *w, task *t, serving *pinned, const float *encoded)
{
    op_search_explained(w, t, pinned, encoded, NULL);
}

void op_search_explained(worker *w, task *t, serving *pinned, const float *encoded, explanation *x)
{
    sem_error err;
    sem_status status = SEM_CANCELLED;
    search_trial trial = {0};
    if (x == NULL && encoded != NULL)
        search_trial_begin(&trial, w, t, pinned);
    for (int tries = 0; status == SEM_CANCELLED && tries < WORKER_TRIES; tries++) {
        search s = {.worker = w, .task = t, .request = t->request, .serving = pinned, .explain = x, .again = tries > 0};
        search rival = {0};
        status = search_find(&s, encoded, &err);
        if (status == SEM_OK)
            search_trial_draft(&trial, &s, &rival);
        if (status == SEM_OK)
            status = search_answer(&s, &err);
        search_free(&rival);
        search_free(&s);
    }
    search_trial_end(&trial, w);
    if (status == SEM_CANCELLED)
        status = worker_fail_deleted(&err);
    if (status != SEM_OK)
        task_fail(w->core, t, &err);
}

void op_search(worker *w, task *t)
{
    serving *s = serving_slot_acquire(&w->core->current);
    op_search_with(w, t, s, NULL);
    serving_release(s);
}
