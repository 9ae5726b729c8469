/* The gate of a job: current models and candidate rank the same documents for the same queries,
 * collection by collection. The held-out clicks say which is better; the probe queries, made
 * from the documents' own text, and how far the vectors moved say whether something was
 * forgotten. finetune/gate.h has the rules. */
#include "daemon/job_gate.h"

#include "base/checked.h"
#include "base/crash.h"
#include "finetune/gate_sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A held-out query in a collection. */
typedef struct outcome {
    uint64_t key;
    double weight;         /* of the query's votes there */
    double at[GATE_TIMES]; /* their reciprocal ranks, each times its weight: sums */
} outcome;

typedef struct gate {
    job *job;
    const gate_contender *contenders; /* [GATE_TIMES] */
    gate_chosen chosen[GATE_PROBE];
    gate_figures figures;
    outcome *outcomes; /* [outcome_count] of held-out queries; owned, as all below */
    size_t outcome_count, outcome_capacity;
    double *heldout[GATE_TIMES]; /* one entry a query, such that their mean is that of all votes */
    double *probes[GATE_TIMES];
    size_t probe_count, probe_capacity[GATE_TIMES];
    double cosines[2]; /* of documents, of queries: sums */
    size_t compared[2];
    size_t done; /* texts encoded */
} gate;

static void gate_free(gate *g)
{
    gate_chosen_free(&g->chosen[GATE_HELDOUT]);
    gate_chosen_free(&g->chosen[GATE_NEWEST]);
    free(g->figures.collections);
    free(g->figures.probes);
    free(g->outcomes);
    for (int when = 0; when < GATE_TIMES; when++) {
        free(g->heldout[when]);
        free(g->probes[when]);
    }
}

/* --- ranks */

/* What people chose says that it was better than what they were shown beside it, and the weights undo
 * that they looked at some ranks more. Whether documents that nobody was shown are worse it does not
 * say: among them whatever ranked the shown ones looks better than it is, by each click that was a
 * mistake. So votes are ranked among what was shown (the sum of additive metrics under a
 * position-based model: Joachims, Swaminathan and Schnabel 2017, section 3). Returns the sum of
 * reciprocal ranks, each times its vote's weight. */
static double rank_votes(const gate_pool *p, const gate_query *q, const float *scores)
{
    double sum = 0;
    for (size_t i = 0; i < q->vote_count; i++) {
        const gate_vote *v = &p->votes[q->first_vote + i];
        sum += v->weight * (v->count > 0 ? rank_shown(scores, p->shown + v->first, v->count, v->document)
                                         : rank_whole(scores, p->count, v->document, GATE_RANKS));
    }
    return sum;
}

/* Of the pool's queries [query_count] what rank_votes() says of held-out ones, reciprocal ranks of the
 * others; and the sums of the latter by set. */
static sem_status rank_pool(const gate_pool *p, const gate_vectors *v, double *ranks, rank_metrics sums[GATE_SETS],
                            sem_error *err)
{
    float *scores = checked_alloc_floats(p->count + 1, 1);
    if (scores == NULL)
        return sem_fail_memory(err, "the gate's scores");
    for (size_t set = 0, i = 0; set < GATE_SETS; set++)
        for (size_t end = i + p->in_set[set]; i < end; i++) {
            const gate_query *q = &p->queries[i];
            ranks[i] = rank_relevant(v->queries + i * v->dim, v->documents, p->count, v->dim, p->relevant + q->first,
                                     q->count, GATE_RANKS, scores, &sums[set]);
            if (set == GATE_HELDOUT)
                ranks[i] = rank_votes(p, q, scores);
        }
    free(scores);
    return SEM_OK;
}

static sem_status add_outcomes(gate *g, const gate_pool *p, double *const ranks[GATE_TIMES], sem_error *err)
{
    const size_t first_probe = p->in_set[GATE_HELDOUT] + p->in_set[GATE_NEWEST];
    for (size_t i = 0; i < p->in_set[GATE_HELDOUT]; i++) {
        outcome *list = items_with_room(g->outcomes, g->outcome_count, &g->outcome_capacity, sizeof *list);
        if (list == NULL)
            return sem_fail_memory(err, "the gate's figures");
        g->outcomes = list;
        outcome *o = &list[g->outcome_count++];
        *o = (outcome){.key = p->queries[i].key, .at = {ranks[GATE_BEFORE][i], ranks[GATE_AFTER][i]}};
        for (size_t v = 0; v < p->queries[i].vote_count; v++)
            o->weight += p->votes[p->queries[i].first_vote + v].weight;
    }
    for (size_t i = first_probe; i < p->query_count; i++, g->probe_count++)
        for (int when = 0; when < GATE_TIMES; when++) {
            double *list = items_with_room(g->probes[when], g->probe_count, &g->probe_capacity[when], sizeof *list);
            if (list == NULL)
                return sem_fail_memory(err, "the gate's figures");
            g->probes[when] = list;
            list[g->probe_count] = ranks[when][i];
        }
    return SEM_OK;
}

static void compare_vectors(gate *g, const gate_pool *p, const gate_vectors v[GATE_TIMES])
{
    const size_t dim = v[GATE_BEFORE].dim;
    if (dim != v[GATE_AFTER].dim)
        return;
    g->cosines[0] += gate_vectors_cosines(v[GATE_BEFORE].documents, v[GATE_AFTER].documents, p->count, dim);
    g->cosines[1] += gate_vectors_cosines(v[GATE_BEFORE].queries, v[GATE_AFTER].queries, p->query_count, dim);
    g->compared[0] += p->count;
    g->compared[1] += p->query_count;
}

static sem_status rank_both(gate *g, const gate_pool *p, const gate_vectors v[GATE_TIMES], gate_collection *figures,
                            sem_error *err)
{
    double *ranks[GATE_TIMES] = {calloc(p->query_count + 1, sizeof(double)),
                                 calloc(p->query_count + 1, sizeof(double))};
    sem_status status = ranks[0] == NULL || ranks[1] == NULL ? sem_fail_memory(err, "the gate's figures") : SEM_OK;
    for (int when = 0; when < GATE_TIMES && status == SEM_OK; when++)
        status = rank_pool(p, &v[when], ranks[when], figures->sums[when], err);
    if (status == SEM_OK)
        status = add_outcomes(g, p, ranks, err);
    if (status == SEM_OK)
        compare_vectors(g, p, v);
    free(ranks[GATE_BEFORE]);
    free(ranks[GATE_AFTER]);
    return status;
}

static sem_status measure_pool(gate *g, const gate_pool *p, gate_collection *figures, sem_error *err)
{
    gate_vectors v[GATE_TIMES] = {0};
    const gate_contender *before = &g->contenders[GATE_BEFORE], *after = &g->contenders[GATE_AFTER];
    sem_status status = gate_vectors_make(&v[GATE_BEFORE], g->job, p, before, NULL, &g->done, err);
    if (status == SEM_OK)
        status = gate_vectors_make(&v[GATE_AFTER], g->job, p, after,
                                   after->documents == before->documents ? &v[GATE_BEFORE] : NULL, &g->done, err);
    if (status == SEM_OK)
        status = rank_both(g, p, v, figures, err);
    if (status == SEM_OK && after->stored == NULL)
        status = gate_vectors_keep(g->job, p, &v[GATE_AFTER], err);
    gate_vectors_free(&v[GATE_BEFORE]);
    gate_vectors_free(&v[GATE_AFTER]);
    return status;
}

/* --- collections */

/* The model's collections, of all of which a candidate must not harm one, whatever it was trained on. */
static sem_status list_collections(const gate *g, store_collection **out, size_t *count, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(g->job->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_collection_list(r, out, count, err);
    store_read_end(r);
    size_t kept = 0;
    for (size_t i = 0; status == SEM_OK && i < *count; i++)
        if (!(*out)[i].external)
            (*out)[kept++] = (*out)[i];
    *count = status == SEM_OK ? kept : 0;
    return status;
}

static sem_status measure_collection(gate *g, const store_collection *c, size_t documents, sem_error *err)
{
    const gate_pool_options options = {.chosen = g->chosen,
                                       .documents = documents,
                                       .probes = g->job->settings.finetune.probe_queries,
                                       .key = store_user_key(g->job->core->store),
                                       .cancel = g->job->cancel};
    gate_collection *figures = &g->figures.collections[g->figures.count];
    gate_pool p;
    store_read *r;
    sem_status status = store_read_begin(g->job->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = gate_pool_build(&p, r, c->number, &options, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status == SEM_NOT_FOUND ? SEM_OK : status; /* dropped meanwhile */
    memcpy(figures->name, c->name, sizeof figures->name);
    figures->first_probe = g->probe_count;
    if (p.query_count > 0) {
        status = measure_pool(g, &p, figures, err);
        g->figures.count++;
    }
    gate_pool_free(&p);
    return status;
}

/* Texts that are encoded, at most: every query twice, and documents of which a contender has no vector. */
static size_t texts_to_encode(const gate *g, const store_collection *all, const size_t *shares, size_t count)
{
    const bool anew = g->contenders[GATE_AFTER].stored == NULL;
    const size_t probes = g->job->settings.finetune.probe_queries;
    size_t total = 4 * (g->chosen[GATE_HELDOUT].count + g->chosen[GATE_NEWEST].count); /* with their documents */
    for (size_t i = 0; i < g->chosen[GATE_HELDOUT].count; i++)
        total += 2 * g->chosen[GATE_HELDOUT].entries[i]->shown_count;
    for (size_t i = 0; i < count; i++) {
        const bool cut = all[i].passage_tokens > 0;
        total += 2 * (shares[i] < probes ? shares[i] : probes) + shares[i] * ((size_t)(anew || cut) + (size_t)cut);
    }
    return total;
}

static sem_status measure_all(gate *g, const store_collection *all, size_t count, sem_error *err)
{
    const config *c = &g->job->settings;
    uint64_t *documents = checked_realloc(NULL, count + 1, sizeof *documents);
    size_t *shares = checked_realloc(NULL, count + 1, sizeof *shares);
    g->figures.collections = calloc(count + 1, sizeof *g->figures.collections);
    g->figures.probes = calloc(count + 1, sizeof *g->figures.probes);
    sem_status status = SEM_OK;
    if (documents == NULL || shares == NULL || g->figures.collections == NULL || g->figures.probes == NULL)
        status = sem_fail_memory(err, "the gate's figures");
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        documents[i] = all[i].documents;
    if (status == SEM_OK) {
        /* Twice as many as probe queries: some of a collection's documents begin alike, and make one query. */
        gate_shares(documents, count, c->finetune.eval_documents, 2 * c->finetune.probe_queries, shares);
        job_enter(g->job, PHASE_EVALUATING, texts_to_encode(g, all, shares, count));
        crash_point("gate.begin");
    }
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = measure_collection(g, &all[i], shares[i], err);
    free(documents);
    free(shares);
    return status;
}

/* --- the decision */

static int compare_outcomes(const void *a, const void *b)
{
    const outcome *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

/* One query asked in several collections is one query: its outcomes depend on each other. Queries
 * count by the weight of their votes, so that what people see rarely is not outvoted by what they
 * see always. */
static sem_status join_outcomes(gate *g, size_t *queries, sem_error *err)
{
    for (int when = 0; when < GATE_TIMES; when++) {
        g->heldout[when] = calloc(g->outcome_count + 1, sizeof *g->heldout[when]);
        if (g->heldout[when] == NULL)
            return sem_fail_memory(err, "the gate's figures");
    }
    if (g->outcome_count > 0)
        qsort(g->outcomes, g->outcome_count, sizeof *g->outcomes, compare_outcomes);
    double weight = 0;
    *queries = 0;
    for (size_t i = 0, end; i < g->outcome_count; i = end, ++*queries)
        for (end = i; end < g->outcome_count && g->outcomes[end].key == g->outcomes[i].key; end++) {
            weight += g->outcomes[end].weight;
            for (int when = 0; when < GATE_TIMES; when++)
                g->heldout[when][*queries] += g->outcomes[end].at[when];
        }
    for (size_t i = 0; i < *queries; i++)
        for (int when = 0; when < GATE_TIMES; when++)
            g->heldout[when][i] *= (double)*queries / weight;
    return SEM_OK;
}

static void add_metrics(rank_metrics *sum, const rank_metrics *more)
{
    sum->queries += more->queries;
    sum->mrr += more->mrr;
    sum->ndcg += more->ndcg;
    sum->recall += more->recall;
}

static void sum_up(gate *g)
{
    gate_figures *f = &g->figures;
    for (int when = 0; when < GATE_TIMES; when++)
        for (int set = 0; set < GATE_SETS; set++) {
            for (size_t i = 0; i < f->count; i++) {
                add_metrics(&f->totals[when][set], &f->collections[i].sums[when][set]);
                rank_metrics_mean(&f->collections[i].sums[when][set]);
            }
            rank_metrics_mean(&f->totals[when][set]);
        }
    f->document_cosine = g->compared[0] > 0 ? g->cosines[0] / (double)g->compared[0] : NAN;
    f->query_cosine = g->compared[1] > 0 ? g->cosines[1] / (double)g->compared[1] : NAN;
    for (size_t i = 0; i < f->count; i++) {
        const size_t first = f->collections[i].first_probe;
        f->probes[i] = (gate_probe){.collection = f->collections[i].name,
                                    .side = {g->probes[GATE_BEFORE] + first, g->probes[GATE_AFTER] + first,
                                             f->collections[i].sums[GATE_AFTER][GATE_PROBE].queries}};
    }
}

/* Of what the candidate changed; of another model's vectors the cosine says nothing. */
static double drift(const gate *g)
{
    const bool one_space = g->contenders[GATE_BEFORE].documents == g->contenders[GATE_AFTER].documents;
    if (g->job->kind != JOB_FINETUNE)
        return NAN;
    return 1 - (one_space ? g->figures.query_cosine : g->figures.document_cosine);
}

/* For a comparison with another candidate of the job. */
static void keep_ranks(gate *g, size_t queries)
{
    job_ranks_free(&g->job->ranks);
    g->job->ranks = (job_ranks){g->heldout[GATE_BEFORE], g->heldout[GATE_AFTER], queries};
    g->heldout[GATE_BEFORE] = g->heldout[GATE_AFTER] = NULL;
}

static sem_status decide(gate *g, sem_error *err)
{
    const config *c = &g->job->settings;
    gate_figures *f = &g->figures;
    size_t queries = 0;
    sem_status status = join_outcomes(g, &queries, err);
    if (status != SEM_OK)
        return status;
    sum_up(g);
    const gate_rules rules = {.max_p = c->finetune.max_p,
                              .max_probe_loss = c->finetune.max_probe_loss,
                              .max_drift = c->finetune.max_drift,
                              .seed = g->job->number};
    gate_evidence evidence = {.heldout = {g->heldout[GATE_BEFORE], g->heldout[GATE_AFTER], queries},
                              .probes = f->probes,
                              .probe_count = f->count,
                              .drift = drift(g)};
    if (g->job->kind == JOB_LOAD && queries < c->finetune.min_heldout)
        gate_decide_on_probes(&evidence, c->finetune.min_heldout, &rules, &f->decision);
    else
        gate_decide(&evidence, &rules, &f->decision);
    status = gate_tell(g->job, f, err);
    if (status == SEM_OK)
        keep_ranks(g, queries);
    return status;
}

static sem_status run_gate(gate *g, const pair_set *pairs, sem_error *err)
{
    store_collection *all = NULL;
    size_t count = 0;
    sem_status status = gate_choose(pairs->heldout, pairs->heldout_count, &g->chosen[GATE_HELDOUT], err);
    if (status == SEM_OK)
        status = gate_choose(pairs->newest, pairs->newest_count, &g->chosen[GATE_NEWEST], err);
    if (status == SEM_OK)
        status = list_collections(g, &all, &count, err);
    if (status == SEM_OK)
        status = measure_all(g, all, count, err);
    free(all);
    crash_point("gate.measured");
    if (status == SEM_OK)
        status = decide(g, err);
    crash_point("gate.decided");
    return status;
}

sem_status job_gate(job *j, const pair_set *pairs, const gate_contender *candidate, bool *promote, sem_error *err)
{
    serving *now = serving_slot_acquire(&j->core->current);
    const gate_contender contenders[GATE_TIMES] = {
        [GATE_BEFORE] = {.queries = now->query, .documents = now->document, .stored = now}, [GATE_AFTER] = *candidate};
    gate g = {.job = j, .contenders = contenders};
    j->known_count = 0;
    sem_status status = run_gate(&g, pairs, err);
    *promote = status == SEM_OK && g.figures.decision.promote;
    gate_free(&g);
    serving_release(now);
    return status;
}
