#include "daemon/search_trial.h"

#include "base/random.h"
#include "daemon/draft.h"

#include <string.h>

/* Vectors in an answer are of one space; and what is not logged can't be clicked. */
static bool can_tell(const request *q)
{
    return q->u.search.mode == SEARCH_DENSE && q->u.search.query.data != NULL && q->u.search.log &&
           !(q->u.search.with & WITH_VECTOR);
}

static bool encode(search_trial *x, worker *w, const request *q)
{
    const size_t dim = space_dim(x->serving->space);
    x->vector = pool_take_array(w->core->hooks.memory, dim, sizeof *x->vector);
    if (x->vector == NULL)
        return false;
    const encoding_job job = {.serving = x->serving,
                              .tower = TOWER_QUERY,
                              .prompt = model_config_query_prompt(model_get_config(x->serving->query)),
                              .texts = &q->u.search.query,
                              .count = 1,
                              .field = "texts",
                              .slice_tokens = w->core->settings.encode.token_budget,
                              .out = x->vector};
    return encoding_run(w->encoding, &job, NULL) == SEM_OK;
}

void search_trial_begin(search_trial *x, worker *w, const task *t, const serving *current)
{
    core *c = w->core;
    if (!atomic_load(&c->trying) || !can_tell(t->request))
        return;
    atomic_fetch_add(&c->trials, 1); /* before it is pinned: who ends the trial waits for all that may have it */
    x->serving = serving_slot_acquire(&c->trial);
    if (x->serving != NULL && x->serving->generation != current->generation && random_bytes(&x->toss, sizeof x->toss) &&
        encode(x, w, t->request))
        return;
    pool_give(x->vector);
    serving_release(x->serving);
    *x = (search_trial){0};
    atomic_fetch_sub(&c->trials, 1);
}

/* Gives s and its rival the drafted list each, so that a hit has the same place in both. */
static bool take_draft(search *s, search *rival, uint64_t toss)
{
    const size_t k = s->request->u.search.k;
    const draft_list lists[2] = {{s->hits, s->count}, {rival->hits, rival->count}};
    const size_t both = s->count + rival->count, most = k < both ? k : both;
    pool *memory = s->worker->core->hooks.memory;
    size_t picked = 0;
    vector_hit *hits = pool_take_array(memory, most, sizeof *hits);
    vector_hit *copy = pool_take_array(memory, most, sizeof *copy);
    bool *drafted = pool_take_array(memory, most, sizeof *drafted);
    if (hits == NULL || copy == NULL || drafted == NULL || !draft_pick(lists, most, toss, hits, drafted, &picked)) {
        pool_give(hits);
        pool_give(copy);
        pool_give(drafted);
        return false;
    }
    if (picked > 0)
        memcpy(copy, hits, picked * sizeof *copy);
    pool_give(s->hits);
    pool_give(rival->hits);
    s->hits = hits;
    rival->hits = copy;
    s->count = rival->count = picked;
    s->drafted = drafted;
    s->rival = rival;
    return true;
}

void search_trial_draft(search_trial *x, search *s, search *rival)
{
    if (x->serving == NULL || s->count == 0)
        return;
    *rival = (search){.worker = s->worker,
                      .task = s->task,
                      .request = s->request,
                      .serving = x->serving,
                      .collection = s->collection,
                      .same_snapshot = true,
                      .again = s->again};
    /* It can fail where s did not: a new collection reaches its space a moment later, and the time or the
     * memory for a second search may be missing. Then s is the answer. */
    if (search_find(rival, x->vector, NULL) == SEM_OK)
        (void)take_draft(s, rival, x->toss);
}

void search_trial_end(search_trial *x, worker *w)
{
    if (x->serving == NULL)
        return;
    if (w->read != NULL)
        store_read_rest(w->read);
    pool_give(x->vector);
    serving_release(x->serving);
    *x = (search_trial){0};
    atomic_fetch_sub(&w->core->trials, 1);
}
