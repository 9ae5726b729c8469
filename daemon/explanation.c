#include "daemon/explanation.h"

#include "base/clock.h"

/* Each token as the vocabulary writes it, with its id: [CLS] and the like included. */
static void pack_tokens(packer *p, const explanation *x, const serving *s)
{
    pack_array(p, x->tokens.tokens);
    for (size_t i = 0; i < x->tokens.tokens; i++) {
        const char *text = tokenizer_token(model_get_tokenizer(s->model), x->tokens.ids[i]);
        pack_map(p, 2);
        pack_str(p, "id");
        pack_int(p, x->tokens.ids[i]);
        pack_str(p, "token");
        pack_str(p, text != NULL ? text : "");
    }
}

/* What was asked for, as search understands it. */
static void pack_effort(packer *p, const explanation *x, const request *q)
{
    if (q->u.search.exact) {
        pack_str(p, "exact");
        pack_bool(p, true);
    } else if (q->u.search.nprobe > 0) {
        pack_str(p, "nprobe");
        pack_uint(p, q->u.search.nprobe);
    } else {
        pack_str(p, "recall");
        pack_double(p, x->recall);
    }
}

static void pack_plan(packer *p, const explanation *x, const request *q, const serving *s, const store_collection *c)
{
    const vector_plan *plan = &x->plan;
    bool text = x->prompt != NULL, filter = q->u.search.filter.data != NULL;
    pack_map(p, 12u + 3u * text + filter);
    pack_str(p, "kind");
    pack_str(p, plan->kind);
    pack_str(p, "reason");
    pack_str(p, plan->reason);
    pack_str(p, "mode");
    pack_str(p, "dense");
    pack_effort(p, x, q);
    pack_str(p, "k");
    pack_uint(p, q->u.search.k);
    pack_str(p, "metric");
    pack_str(p, c->metric == METRIC_DOT ? "dot" : "cosine");
    pack_str(p, "codes");
    pack_str(p, plan->lists > 0 ? "1-bit, int8, float32" : "float32");
    pack_str(p, "by_bits");
    pack_uint(p, plan->by_bits);
    pack_str(p, "by_bytes");
    pack_uint(p, plan->by_bytes);
    pack_str(p, "by_floats");
    pack_uint(p, plan->by_floats);
    pack_str(p, "nlist");
    pack_uint(p, plan->lists);
    pack_str(p, "documents");
    pack_uint(p, plan->documents);
    if (filter) {
        pack_str(p, "matching");
        pack_uint(p, plan->allowed);
    }
    if (text) {
        pack_str(p, "prompt");
        pack_str(p, x->prompt);
        pack_str(p, "truncated");
        pack_bool(p, x->truncated);
        pack_str(p, "precision");
        pack_str(p, model_precision(s->model));
    }
}

/* total is from the request's arrival to this answer, other work between two steps included. */
static void pack_timings(packer *p, const explanation *x, const task *t)
{
    static const char *const names[STEP_COUNT] = {"queue",  "tokenize", "encode", "filter",
                                                  "coarse", "scan",     "rerank", "fetch"};
    pack_map(p, STEP_COUNT + 1);
    for (int i = 0; i < STEP_COUNT; i++) {
        pack_str(p, names[i]);
        pack_double(p, (double)x->ns[i] / 1e3);
    }
    pack_str(p, "total");
    pack_double(p, (double)(clock_monotonic_ns() - t->arrived_ns) / 1e3);
}

void explanation_pack(packer *p, const explanation *x, const task *t, const serving *s, const store_collection *c,
                      const buffer *hits)
{
    pack_map(p, 8);
    pack_str(p, "generation");
    pack_uint(p, s->generation);
    pack_str(p, "tokens");
    pack_tokens(p, x, s);
    pack_str(p, "plan");
    pack_plan(p, x, t->request, s, c);
    pack_str(p, "lists");
    pack_uint(p, x->plan.probed);
    pack_str(p, "scanned");
    pack_uint(p, x->plan.scanned);
    pack_str(p, "candidates");
    pack_uint(p, x->plan.candidates);
    pack_str(p, "timings_us");
    pack_timings(p, x, t);
    pack_str(p, "hits");
    pack_raw(p, hits->data, hits->size);
}
