#include "finetune/gate.h"

#include "finetune/evaluate.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static double mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n > 0 ? sum / (double)n : 0;
}

/* Means over the probe queries of all collections. */
static size_t pool_probes(const gate_evidence *e, double *before, double *after)
{
    size_t queries = 0;
    *before = *after = 0;
    for (size_t i = 0; i < e->probe_count; i++) {
        const gate_side *s = &e->probes[i].side;
        queries += s->queries;
        *before += mean(s->before, s->queries) * (double)s->queries;
        *after += mean(s->after, s->queries) * (double)s->queries;
    }
    const double n = queries > 0 ? (double)queries : 1;
    *before /= n;
    *after /= n;
    return queries;
}

/* Fills the probes' results and what the decision says of them all; *worst gets the number
 * of the collection with the lowest bound. A bound that is not a number is the lowest. */
static void weigh_probes(gate_evidence *e, uint64_t seed, gate_decision *d, size_t *worst)
{
    double before, after;
    bool any = false;
    pool_probes(e, &before, &after);
    d->probe_change = after - before;
    for (size_t i = 0; i < e->probe_count; i++) {
        gate_probe *p = &e->probes[i];
        p->change = p->lower = 0;
        if (p->side.queries == 0)
            continue;
        p->change = mean(p->side.after, p->side.queries) - mean(p->side.before, p->side.queries);
        p->lower = bootstrap_lower_bound(p->side.before, p->side.after, p->side.queries, GATE_ROUNDS, seed + i);
        if (!any || isnan(p->lower) || p->lower < d->probe_lower) {
            d->probe_lower = p->lower;
            *worst = i;
        }
        any = true;
    }
}

/* Appends as far as there is room. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = 0;
    while (used < size && text[used] != '\0')
        used++;
    if (used + 1 >= size)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

/* "probe 0.970 -> 0.968 on 500 queries of 2 collections" */
static void describe_probes(const gate_evidence *e, char *text, size_t size)
{
    double before, after;
    const size_t queries = pool_probes(e, &before, &after);
    size_t collections = 0;
    for (size_t i = 0; i < e->probe_count; i++)
        collections += e->probes[i].side.queries > 0;
    if (queries == 0)
        append(text, size, "no probe queries");
    else
        append(text, size, "probe %.3f -> %.3f on %zu queries of %zu collection%s", before, after, queries, collections,
               collections == 1 ? "" : "s");
}

/* "held-out clicks 0.564 -> 0.721 on 500 queries (p = 0.0001), probe ..." */
static void describe(const gate_evidence *e, const gate_decision *d, char *text, size_t size)
{
    const gate_side *h = &e->heldout;
    append(text, size, "held-out clicks %.3f -> %.3f on %zu queries (p = %.4f), ", mean(h->before, h->queries),
           mean(h->after, h->queries), h->queries, d->p_value);
    describe_probes(e, text, size);
}

/* The rule about harm that the candidate breaks; false if none. */
static bool harms(const gate_evidence *e, const gate_rules *rules, const gate_decision *d, size_t worst, char *text,
                  size_t size)
{
    size_t queries = 0;
    for (size_t i = 0; i < e->probe_count; i++)
        queries += e->probes[i].side.queries;
    if (queries > 0 && !(d->probe_lower > -rules->max_probe_loss))
        append(text, size, "the probe queries of collection %s may have lost %.3f (at most %g allowed)",
               e->probes[worst].collection, -d->probe_lower, rules->max_probe_loss);
    else if (e->drift > rules->max_drift)
        append(text, size, "vectors moved by %.3f in cosine (at most %g allowed)", e->drift, rules->max_drift);
    else
        return false;
    return true;
}

/* The rule that the candidate breaks; false if none. */
static bool breaks_a_rule(const gate_evidence *e, const gate_rules *rules, const gate_decision *d, size_t worst,
                          char *text, size_t size)
{
    if (e->heldout.queries == 0)
        append(text, size, "there are no held-out queries to judge by");
    else if (!(d->gain > 0))
        append(text, size, "no gain on the held-out queries");
    else if (!(d->p_value < rules->max_p))
        append(text, size, "the gain may be chance (p must be below %g)", rules->max_p);
    else
        return harms(e, rules, d, worst, text, size);
    return true;
}

void gate_decide(gate_evidence *evidence, const gate_rules *rules, gate_decision *out)
{
    const gate_side *h = &evidence->heldout;
    char broken[192] = "";
    size_t worst = 0;
    *out = (gate_decision){.p_value = 1};
    if (h->queries > 0) {
        out->gain = mean(h->after, h->queries) - mean(h->before, h->queries);
        out->p_value = randomisation_test(h->before, h->after, h->queries, GATE_ROUNDS, rules->seed);
    }
    weigh_probes(evidence, rules->seed + 1, out, &worst);
    out->promote = !breaks_a_rule(evidence, rules, out, worst, broken, sizeof broken);
    describe(evidence, out, out->reason, sizeof out->reason);
    append(out->reason, sizeof out->reason, ": %s%s", out->promote ? "promoted" : "discarded: ", broken);
}

void gate_decide_on_probes(gate_evidence *evidence, size_t needed, const gate_rules *rules, gate_decision *out)
{
    char broken[192] = "";
    size_t worst = 0;
    *out = (gate_decision){.p_value = NAN};
    weigh_probes(evidence, rules->seed + 1, out, &worst);
    out->promote = !harms(evidence, rules, out, worst, broken, sizeof broken);
    append(out->reason, sizeof out->reason, "%zu held-out queries, fewer than the %zu that a comparison needs; ",
           evidence->heldout.queries, needed);
    describe_probes(evidence, out->reason, sizeof out->reason);
    if (out->promote)
        append(out->reason, sizeof out->reason, ": promoted");
    else
        append(out->reason, sizeof out->reason, ": discarded: %s; gate: false loads it all the same", broken);
}
