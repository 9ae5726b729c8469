#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/gate.h"
#include "finetune/gate_sample.h"

#include <math.h>
#include <string.h>

enum { QUERIES = 500 };

typedef struct figures {
    double before[QUERIES], after[QUERIES];
} figures;

/* What the gate looks at: held-out queries, and the probe queries of two collections. */
typedef struct gate_case {
    figures heldout, probes[2];
    gate_probe sides[2];
    gate_evidence evidence;
    gate_rules rules;
    gate_decision decision;
} gate_case;

/* after = before + gain + noise */
static void fill(figures *f, uint64_t seed, double gain, double noise)
{
    random_state r;
    random_seed(&r, seed);
    for (size_t i = 0; i < QUERIES; i++) {
        f->before[i] = random_unit(&r);
        f->after[i] = f->before[i] + gain + noise * (random_unit(&r) - 0.5);
    }
}

static void arrange(gate_case *t, double gain, double first, double second)
{
    static const char *const names[] = {"notes", "mails"};
    fill(&t->heldout, 11, gain, 0.2);
    fill(&t->probes[0], 12, first, 0.01);
    fill(&t->probes[1], 13, second, 0.01);
    for (size_t i = 0; i < 2; i++)
        t->sides[i] = (gate_probe){.collection = names[i], .side = {t->probes[i].before, t->probes[i].after, QUERIES}};
    t->evidence = (gate_evidence){
        .heldout = {t->heldout.before, t->heldout.after, QUERIES}, .probes = t->sides, .probe_count = 2, .drift = NAN};
    t->rules = (gate_rules){.max_p = 0.01, .max_probe_loss = 0.01, .max_drift = 2, .seed = 9};
}

static const gate_decision *decide(gate_case *t, double gain, double first, double second)
{
    arrange(t, gain, first, second);
    gate_decide(&t->evidence, &t->rules, &t->decision);
    return &t->decision;
}

static void check_reason(const gate_case *t, bool promoted, const char *part)
{
    ck_assert_msg(t->decision.promote == promoted && strstr(t->decision.reason, part) != NULL, "%s",
                  t->decision.reason);
}

START_TEST(gate_promotes_a_gain_that_costs_nothing)
{
    gate_case t;
    const gate_decision *d = decide(&t, 0.1, 0, 0);
    check_reason(&t, true, "held-out clicks 0.");
    check_reason(&t, true, "on 500 queries (p = 0.0001), probe 0.");
    check_reason(&t, true, "on 1000 queries of 2 collections: promoted");
    ck_assert(d->p_value < 0.001);
    ck_assert_double_eq_tol(d->gain, 0.1, 0.02);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_double_eq_tol(t.sides[i].change, 0, 0.001);
        ck_assert(t.sides[i].lower < t.sides[i].change && t.sides[i].lower > -0.002);
    }
}
END_TEST

START_TEST(gate_discards_chance_and_loss)
{
    gate_case t;
    decide(&t, 0.0005, 0, 0);
    check_reason(&t, false, ": discarded: ");
    decide(&t, -0.1, 0, 0);
    check_reason(&t, false, "no gain on the held-out queries");
}
END_TEST

START_TEST(harm_in_one_collection_is_not_made_up_for_in_another)
{
    gate_case t;
    const gate_decision *d = decide(&t, 0.1, 0.2, -0.05);
    check_reason(&t, false, "the probe queries of collection mails may have lost 0.05");
    ck_assert_double_eq_tol(d->probe_change, 0.075, 0.01);
    ck_assert_double_eq_tol(d->probe_lower, -0.05, 0.002);
    ck_assert(t.sides[0].lower > 0.19);
    decide(&t, 0.1, -0.05, 0.2);
    check_reason(&t, false, "collection notes");
    decide(&t, 0.1, -0.005, -0.005);
    check_reason(&t, true, "promoted");
}
END_TEST

START_TEST(few_probe_queries_that_may_have_lost_much_are_harm)
{
    gate_case t;
    arrange(&t, 0.1, 0, 0);
    /* One of ten lost everything: the mean is within chance of no change, the bound is not. */
    for (size_t i = 0; i < 10; i++)
        t.probes[1].after[i] = t.probes[1].before[i];
    t.probes[1].before[0] = 1;
    t.probes[1].after[0] = 0;
    t.sides[1].side.queries = 10;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, false, "collection mails");
}
END_TEST

START_TEST(vectors_that_move_further_than_allowed_are_discarded)
{
    gate_case t;
    arrange(&t, 0.1, 0, 0);
    t.evidence.drift = 0.3;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, true, "promoted");
    t.rules.max_drift = 0.2;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, false, "vectors moved by 0.300 in cosine (at most 0.2 allowed)");
}
END_TEST

START_TEST(gate_needs_held_out_queries_but_no_probe)
{
    gate_case t;
    arrange(&t, 0.1, 0, 0);
    t.evidence.probe_count = 0;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, true, "no probe queries");
    t.evidence.heldout.queries = 0;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, false, "no held-out queries");
}
END_TEST

START_TEST(a_loaded_model_is_judged_by_probes_where_nothing_was_held_out)
{
    gate_case t;
    arrange(&t, -0.3, 0, 0.1);
    t.evidence.heldout.queries = 3;
    gate_decide_on_probes(&t.evidence, 100, &t.rules, &t.decision);
    check_reason(&t, true, "3 held-out queries, fewer than the 100 that a comparison needs; probe 0.");
    ck_assert(isnan(t.decision.p_value));
    arrange(&t, 0.3, 0.1, -0.1);
    gate_decide_on_probes(&t.evidence, 100, &t.rules, &t.decision);
    check_reason(&t, false, "collection mails");
    check_reason(&t, false, "gate: false loads it all the same");
}
END_TEST

START_TEST(gate_never_promotes_what_is_not_a_number)
{
    gate_case t;
    for (size_t collection = 0; collection < 2; collection++) {
        arrange(&t, 0.1, 0, 0);
        t.probes[collection].after[3] = NAN;
        gate_decide(&t.evidence, &t.rules, &t.decision);
        check_reason(&t, false, t.sides[collection].collection);
    }
    arrange(&t, 0.1, 0, 0);
    t.heldout.after[3] = NAN;
    gate_decide(&t.evidence, &t.rules, &t.decision);
    check_reason(&t, false, "discarded");
}
END_TEST

START_TEST(gate_decides_the_same_from_the_same)
{
    gate_case t;
    const gate_decision first = *decide(&t, 0.01, 0, 0);
    decide(&t, 0.01, 0, 0);
    ck_assert_double_eq(first.p_value, t.decision.p_value);
    ck_assert_double_eq(first.probe_lower, t.decision.probe_lower);
}
END_TEST

START_TEST(a_budget_goes_where_documents_are_and_leaves_nobody_out)
{
    const uint64_t documents[] = {1000000, 300, 0, 2000};
    size_t shares[4];
    gate_shares(documents, 4, 5000, 400, shares);
    ck_assert_uint_eq(shares[1], 300);
    ck_assert_uint_eq(shares[2], 0);
    ck_assert_uint_eq(shares[3], 2000);
    ck_assert_uint_eq(shares[0], 2700);
    gate_shares(documents, 4, 100, 400, shares);
    ck_assert(shares[0] == 400 && shares[1] == 300 && shares[2] == 0 && shares[3] == 400);
    gate_shares(documents, 0, 100, 400, shares);
}
END_TEST

START_TEST(a_sample_is_the_lowest_draws_and_stays_when_documents_come)
{
    enum { MOST = 100, DOCUMENTS = 5000 };
    gate_draw first[MOST], later[MOST];
    size_t count = 0, more = 0, kept = 0;
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        gate_draw_add(first, &count, MOST, (gate_draw){random_at(7, i), i});
    for (uint32_t i = DOCUMENTS + DOCUMENTS / 10; i-- > 0;)
        gate_draw_add(later, &more, MOST, (gate_draw){random_at(7, i), i});
    ck_assert(count == MOST && more == MOST);
    gate_draw_sort(first, count);
    gate_draw_sort(later, more);
    size_t lower = 0;
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        lower += random_at(7, i) < first[MOST - 1].draw;
    ck_assert_uint_eq(lower, MOST - 1);
    for (size_t i = 0, k = 0; i < MOST; i++) {
        while (k < MOST && later[k].draw < first[i].draw)
            k++;
        kept += k < MOST && later[k].docno == first[i].docno;
    }
    ck_assert_uint_gt(kept, MOST * 3 / 4);
    count = 0;
    gate_draw_add(first, &count, 0, (gate_draw){1, 1});
    ck_assert_uint_eq(count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate");
    TCase *tests = tcase_create("gate");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, gate_promotes_a_gain_that_costs_nothing);
    tcase_add_test(tests, gate_discards_chance_and_loss);
    tcase_add_test(tests, harm_in_one_collection_is_not_made_up_for_in_another);
    tcase_add_test(tests, few_probe_queries_that_may_have_lost_much_are_harm);
    tcase_add_test(tests, vectors_that_move_further_than_allowed_are_discarded);
    tcase_add_test(tests, gate_needs_held_out_queries_but_no_probe);
    tcase_add_test(tests, a_loaded_model_is_judged_by_probes_where_nothing_was_held_out);
    tcase_add_test(tests, gate_never_promotes_what_is_not_a_number);
    tcase_add_test(tests, gate_decides_the_same_from_the_same);
    tcase_add_test(tests, a_budget_goes_where_documents_are_and_leaves_nobody_out);
    tcase_add_test(tests, a_sample_is_the_lowest_draws_and_stays_when_documents_come);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
