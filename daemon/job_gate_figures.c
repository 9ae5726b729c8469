/* What the gate found, for people and programs: the job, the generation that comes of it, and the log. */
#include "daemon/job_gate.h"

#include <jansson.h>

#include <math.h>
#include <stdlib.h>

static const char *const set_names[GATE_SETS] = {"heldout", "newest", "probe"};

static json_t *number(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *metrics_of(const rank_metrics *m)
{
    return json_pack("{s:I, s:f, s:f, s:f}", "queries", (json_int_t)m->queries, "mrr", m->mrr, "ndcg", m->ndcg,
                     "recall", m->recall);
}

/* {heldout: {…}, newest: {…}, probe: {…}} */
static json_t *sets_json(const rank_metrics sums[GATE_SETS])
{
    json_t *out = json_object();
    bool failed = out == NULL;
    for (int set = 0; set < GATE_SETS && !failed; set++)
        failed = json_object_set_new(out, set_names[set], metrics_of(&sums[set])) != 0;
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static int compare_bounds(const void *a, const void *b)
{
    const gate_probe *x = *(const gate_probe *const *)a, *y = *(const gate_probe *const *)b;
    if (isnan(x->lower) != isnan(y->lower))
        return isnan(x->lower) ? -1 : 1;
    if (x->lower < y->lower || x->lower > y->lower)
        return x->lower < y->lower ? -1 : 1;
    return (x > y) - (x < y); /* of one array */
}

/* Numbers of collections, those nearest to harm first; malloc'd. */
static size_t *in_order_of_harm(const gate_figures *f)
{
    const gate_probe **order = calloc(f->count + 1, sizeof *order);
    size_t *out = calloc(f->count + 1, sizeof *out);
    if (order == NULL || out == NULL) {
        free(order);
        free(out);
        return NULL;
    }
    for (size_t i = 0; i < f->count; i++)
        order[i] = &f->probes[i];
    if (f->count > 0)
        qsort(order, f->count, sizeof *order, compare_bounds);
    for (size_t i = 0; i < f->count; i++)
        out[i] = (size_t)(order[i] - f->probes);
    free(order);
    return out;
}

/* {notes: {heldout: {…}, newest: {…}, probe: {…}, probe_lower}, …} */
static json_t *collections_json(const gate_figures *f, gate_when when, const size_t *order)
{
    json_t *out = json_object();
    bool failed = out == NULL;
    for (size_t k = 0; k < f->count && k < GATE_SHOWN_MAX && !failed; k++) {
        const gate_collection *c = &f->collections[order[k]];
        json_t *one = sets_json(c->sums[when]);
        failed = one == NULL || (when == GATE_AFTER &&
                                 json_object_set_new(one, "probe_lower", number(f->probes[order[k]].lower)) != 0);
        failed = json_object_set_new(out, c->name, one) != 0 || failed;
    }
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *metrics_json(const gate_figures *f, gate_when when, const size_t *order)
{
    const gate_decision *d = &f->decision;
    json_t *out = sets_json(f->totals[when]);
    bool failed = out == NULL || json_object_set_new(out, "p_value", number(d->p_value)) != 0 ||
                  json_object_set_new(out, "collections", collections_json(f, when, order)) != 0;
    if (when == GATE_AFTER)
        failed = failed || json_object_set_new(out, "gain", number(d->gain)) != 0 ||
                 json_object_set_new(out, "probe_lower", number(d->probe_lower)) != 0 ||
                 json_object_set_new(out, "drift",
                                     json_pack("{s:o, s:o}", "documents", number(1 - f->document_cosine), "queries",
                                               number(1 - f->query_cosine))) != 0;
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

/* What the generation's record keeps: the candidate's figures, and those that it was compared with. */
static char *generation_text(const gate_figures *f, json_t *after)
{
    json_t *all = json_copy(after);
    char *text = NULL;
    if (all != NULL && json_object_set_new(all, "before", sets_json(f->totals[GATE_BEFORE])) == 0 &&
        json_object_set_new(all, "reason", json_string(f->decision.reason)) == 0)
        text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* --- the log */

static void log_collections(const job *j, const gate_figures *f, const size_t *order)
{
    for (size_t k = 0; k < f->count && k < GATE_SHOWN_MAX; k++) {
        const gate_collection *c = &f->collections[order[k]];
        const rank_metrics *before = c->sums[GATE_BEFORE], *after = c->sums[GATE_AFTER];
        log_event(j->core->log, LOG_LEVEL_INFO, "gate_collection",
                  "job=%u collection=%s heldout=%zu heldout_before=%.4f heldout_after=%.4f newest=%zu "
                  "newest_before=%.4f newest_after=%.4f probe=%zu probe_before=%.4f probe_after=%.4f probe_lower=%.4f",
                  j->number, c->name, after[GATE_HELDOUT].queries, before[GATE_HELDOUT].mrr, after[GATE_HELDOUT].mrr,
                  after[GATE_NEWEST].queries, before[GATE_NEWEST].mrr, after[GATE_NEWEST].mrr,
                  after[GATE_PROBE].queries, before[GATE_PROBE].mrr, after[GATE_PROBE].mrr, f->probes[order[k]].lower);
    }
}

static void log_decision(const job *j, const gate_figures *f)
{
    const gate_decision *d = &f->decision;
    const rank_metrics *before = f->totals[GATE_BEFORE], *after = f->totals[GATE_AFTER];
    char text[1024];
    log_event(j->core->log, LOG_LEVEL_INFO, "gate",
              "job=%u decision=%s p_value=%.5f gain=%.4f heldout=%zu heldout_before=%.4f heldout_after=%.4f newest=%zu "
              "newest_before=%.4f newest_after=%.4f probe=%zu probe_before=%.4f probe_after=%.4f probe_change=%.4f "
              "probe_lower=%.4f document_drift=%.4f query_drift=%.4f reason=%s",
              j->number, d->promote ? "promoted" : "discarded", d->p_value, d->gain, after[GATE_HELDOUT].queries,
              before[GATE_HELDOUT].mrr, after[GATE_HELDOUT].mrr, after[GATE_NEWEST].queries, before[GATE_NEWEST].mrr,
              after[GATE_NEWEST].mrr, after[GATE_PROBE].queries, before[GATE_PROBE].mrr, after[GATE_PROBE].mrr,
              d->probe_change, d->probe_lower, 1 - f->document_cosine, 1 - f->query_cosine,
              log_value(text, sizeof text, d->reason));
}

sem_status gate_tell(job *j, gate_figures *f, sem_error *err)
{
    size_t *order = in_order_of_harm(f);
    json_t *before = order != NULL ? metrics_json(f, GATE_BEFORE, order) : NULL;
    json_t *after = order != NULL ? metrics_json(f, GATE_AFTER, order) : NULL;
    free(j->metrics);
    j->metrics = before != NULL && after != NULL ? generation_text(f, after) : NULL;
    if (j->metrics == NULL) {
        free(order);
        json_decref(before);
        json_decref(after);
        return sem_fail_memory(err, "the gate's figures");
    }
    job_status_metrics(j->status, before, after);
    job_status_decide(j->status, f->decision.promote, f->decision.reason);
    log_collections(j, f, order);
    log_decision(j, f);
    free(order);
    return SEM_OK;
}
