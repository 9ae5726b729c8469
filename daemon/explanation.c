#include "daemon/explanation.h"

#include "base/clock.h"
#include "base/utf8.h"

/* Each token as the vocabulary writes it, with its id: [CLS] and the like included. */
static void pack_tokens(packer *p, const explanation *x, const serving *s)
{
    pack_array(p, x->tokens.tokens);
    for (size_t i = 0; i < x->tokens.tokens; i++) {
        const char *text = tokenizer_token(model_get_tokenizer(s->query), x->tokens.ids[i]);
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

/* --- the lexical plan */

enum { WORDS_MAX = 256 /* that are told of; rarest first */ };

/* A word that was too long was cut at a byte; a str has whole characters. */
static void pack_term(packer *p, const lexical_word *w)
{
    size_t length = w->length;
    while (length > 0 && !utf8_valid(w->bytes, length))
        length--;
    pack_str(p, "term");
    pack_strn(p, w->bytes, length);
}

static void pack_words(packer *p, lexical_candidates *c)
{
    size_t count = lexical_candidates_words(c);
    count = count < WORDS_MAX ? count : WORDS_MAX;
    pack_array(p, count);
    for (size_t i = 0; i < count; i++) {
        lexical_word w = lexical_candidates_word(c, i);
        pack_map(p, 5);
        pack_term(p, &w);
        pack_str(p, "times");
        pack_uint(p, w.times);
        pack_str(p, "documents");
        pack_uint(p, w.documents);
        pack_str(p, "weight");
        pack_double(p, w.weight);
        pack_str(p, "drives");
        pack_bool(p, w.drives);
    }
}

static void pack_lexical(packer *p, const explanation *x)
{
    const lexical_plan *plan = lexical_candidates_plan(x->lexical);
    pack_map(p, 11);
    pack_str(p, "kind");
    pack_str(p, plan->kind);
    pack_str(p, "reason");
    pack_str(p, plan->reason);
    pack_str(p, "seq");
    pack_uint(p, plan->seq);
    pack_str(p, "documents");
    pack_uint(p, plan->documents);
    pack_str(p, "terms");
    pack_words(p, x->lexical);
    pack_str(p, "postings");
    pack_uint(p, plan->postings);
    pack_str(p, "candidates");
    pack_uint(p, plan->candidates);
    pack_str(p, "scored");
    pack_uint(p, plan->scored);
    pack_str(p, "terms_us");
    pack_double(p, (double)plan->terms_ns / 1e3);
    pack_str(p, "postings_us");
    pack_double(p, (double)plan->postings_ns / 1e3);
    pack_str(p, "rank_us");
    pack_double(p, (double)plan->rank_ns / 1e3);
}

/* Of a search that compares no vectors. */
static void pack_words_plan(packer *p, const explanation *x, const request *q)
{
    const lexical_plan *plan = lexical_candidates_plan(x->lexical);
    pack_map(p, 6);
    pack_str(p, "kind");
    pack_str(p, plan->kind);
    pack_str(p, "reason");
    pack_str(p, plan->reason);
    pack_str(p, "mode");
    pack_str(p, "lexical");
    pack_str(p, "k");
    pack_uint(p, q->u.search.k);
    pack_str(p, "documents");
    pack_uint(p, plan->documents);
    pack_str(p, "lexical");
    pack_lexical(p, x);
}

/* --- the plan */

static void pack_plan(packer *p, const explanation *x, const request *q, const serving *s, const store_collection *c)
{
    const vector_plan *plan = &x->plan;
    bool text = x->prompt != NULL, filtered = q->u.search.filter.data != NULL, hybrid = x->lexical != NULL;
    pack_map(p, 12u + 3u * text + filtered + hybrid);
    if (hybrid) {
        pack_str(p, "lexical");
        pack_lexical(p, x);
    }
    pack_str(p, "kind");
    pack_str(p, plan->kind);
    pack_str(p, "reason");
    pack_str(p, plan->reason);
    pack_str(p, "mode");
    pack_str(p, hybrid ? "hybrid" : "dense");
    pack_effort(p, x, q);
    pack_str(p, "k");
    pack_uint(p, q->u.search.k);
    pack_str(p, "metric");
    pack_str(p, c->metric == METRIC_DOT ? "dot" : "cosine");
    pack_str(p, "codes");
    pack_str(p, plan->codes);
    pack_str(p, "by_bits");
    pack_uint(p, plan->by_bits);
    pack_str(p, "by_codes");
    pack_uint(p, plan->by_codes);
    pack_str(p, "by_floats");
    pack_uint(p, plan->by_floats);
    pack_str(p, "nlist");
    pack_uint(p, plan->lists);
    pack_str(p, "documents");
    pack_uint(p, plan->documents);
    if (filtered) {
        pack_str(p, "matching");
        pack_uint(p, plan->allowed);
    }
    if (text) {
        pack_str(p, "prompt");
        pack_str(p, x->prompt);
        pack_str(p, "truncated");
        pack_bool(p, x->truncated);
        pack_str(p, "precision");
        pack_str(p, model_precision(s->query));
    }
}

/* total is from the request's arrival to this answer, other work between two steps included. */
static void pack_timings(packer *p, const explanation *x, const task *t)
{
    static const char *const names[STEP_COUNT] = {"queue", "tokenize", "encode",  "filter", "coarse",
                                                  "scan",  "rerank",   "lexical", "fetch"};
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
    if (t->request->u.search.mode == SEARCH_LEXICAL)
        pack_words_plan(p, x, t->request);
    else
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
