#include "finetune/evaluate.h"

#include <math.h>
#include <stdio.h>

enum { GATE_ROUNDS = 10000 /* p-values down to 0.0001 */ };

static double mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n > 0 ? sum / (double)n : 0;
}

/* "held-out MRR@10 0.564 -> 0.721 on 500 queries (p = 0.0001), probe 0.970 -> 0.968" */
static void describe(const gate_side *heldout, const gate_side *probe, const gate_decision *d, char *text, size_t size)
{
    int used = snprintf(text, size, "held-out MRR@10 %.3f -> %.3f on %zu queries (p = %.4f)",
                        mean(heldout->before, heldout->queries), mean(heldout->after, heldout->queries),
                        heldout->queries, d->p_value);
    if (used < 0 || (size_t)used >= size)
        return;
    if (probe->queries == 0)
        snprintf(text + used, size - (size_t)used, ", no probe queries");
    else
        snprintf(text + used, size - (size_t)used, ", probe %.3f -> %.3f", mean(probe->before, probe->queries),
                 mean(probe->after, probe->queries));
}

/* The rule that the candidate breaks, or an empty text. */
static void judge(const gate_side *heldout, const gate_side *probe, double max_p, double max_loss,
                  const gate_decision *d, char *text, size_t size)
{
    if (heldout->queries == 0)
        snprintf(text, size, "there are no held-out queries to judge by");
    else if (!(d->gain > 0))
        snprintf(text, size, "no gain on the held-out queries");
    else if (!(d->p_value < max_p))
        snprintf(text, size, "the gain may be chance (p must be below %g)", max_p);
    else if (probe->queries > 0 && !(d->probe_lower > -max_loss))
        snprintf(text, size, "the probe queries may have lost %.3f (at most %g allowed)", -d->probe_lower, max_loss);
    else
        text[0] = '\0';
}

void gate_decide(const gate_side *heldout, const gate_side *probe, double max_p, double max_loss, uint64_t seed,
                 gate_decision *out)
{
    *out = (gate_decision){.p_value = 1};
    if (heldout->queries > 0) {
        out->gain = mean(heldout->after, heldout->queries) - mean(heldout->before, heldout->queries);
        out->p_value = randomisation_test(heldout->before, heldout->after, heldout->queries, GATE_ROUNDS, seed);
    }
    if (probe->queries > 0) {
        out->probe_change = mean(probe->after, probe->queries) - mean(probe->before, probe->queries);
        out->probe_lower = bootstrap_lower_bound(probe->before, probe->after, probe->queries, GATE_ROUNDS, seed + 1);
    }
    char figures[144], broken[96];
    describe(heldout, probe, out, figures, sizeof figures);
    judge(heldout, probe, max_p, max_loss, out, broken, sizeof broken);
    out->promote = broken[0] == '\0';
    snprintf(out->reason, sizeof out->reason, "%s: %s%s", figures, out->promote ? "promoted" : "discarded: ", broken);
}
