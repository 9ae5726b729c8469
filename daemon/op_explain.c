/* explain: a search that tells how it was done. */
#include "base/checked.h"
#include "base/clock.h"
#include "daemon/explanation.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

#include <stdlib.h>

/* Tokenises and encodes the query's text step by step, so that each has its time. */
static sem_status encode_query(worker *w, const task *t, serving *s, explanation *x, float *vector, sem_error *err)
{
    const span *text = &t->request->u.search.query;
    x->prompt = model_config_query_prompt(model_get_config(s->query));
    uint64_t began = clock_monotonic_ns();
    sem_status status = model_tokenize(s->query, x->prompt, text->data, text->size, &x->tokens, &x->truncated, err);
    uint64_t tokenized = clock_monotonic_ns();
    x->ns[STEP_TOKENIZE] = tokenized - began;
    if (status == SEM_OK && x->tokens.tokens == 0)
        status = encoding_refuse_empty(err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "query");
    status = encoding_forward(w->encoding, s, TOWER_QUERY, &x->tokens, vector, err);
    x->ns[STEP_ENCODE] = clock_monotonic_ns() - tokenized;
    return status;
}

void op_explain(worker *w, task *t)
{
    sem_error err;
    explanation x = {.ns[STEP_QUEUE] = clock_monotonic_ns() - t->arrived_ns};
    bool text = t->request->u.search.query.data != NULL && t->request->u.search.mode != SEARCH_LEXICAL;
    serving *s = serving_slot_acquire(&w->core->current);
    float *vector = checked_alloc_aligned(space_dim(s->space), sizeof *vector);
    sem_status status = vector != NULL ? SEM_OK : sem_fail_memory(&err, "a query");
    if (status == SEM_OK && text)
        status = encode_query(w, t, s, &x, vector, &err);
    if (status == SEM_OK)
        op_search_explained(w, t, s, text ? vector : NULL, &x);
    else
        task_fail(w->core, t, &err);
    free(vector);
    token_batch_free(&x.tokens);
    serving_release(s);
}
