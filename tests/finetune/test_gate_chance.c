/* Clicks that mean nothing hardly ever make a generation: the tiny model is trained on random
 * ones, and the gate compares what came of it with what it was. */
#include "tests/common/testing.h"

#include "base/hash.h"
#include "base/random.h"
#include "finetune/bulk_encode.h"
#include "finetune/evaluate.h"
#include "finetune/gate.h"
#include "finetune/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOPICS = 8,
    DOCUMENTS = TOPICS * TOPICS,
    WAYS = 6, /* in which each document can be asked for */
    QUERIES = DOCUMENTS * WAYS,
    HELD_OUT = QUERIES / 3,
    TRAINED = QUERIES - HELD_OUT,
    TRIALS = 100,
    PROMOTED_MAX = 5,
    TEXT_MAX = 96,
    ASKED = HELD_OUT + DOCUMENTS, /* held-out queries, then the probes */
    SHOWN = 10
};

static sem_error error;

/* Who asks uses other words than who writes, so that a model knows of it by clicks only. */
typedef struct chance {
    sem_log log;
    model *base;
    size_t dim;
    char documents[DOCUMENTS][TEXT_MAX], probes[DOCUMENTS][TEXT_MAX], queries[QUERIES][TEXT_MAX];
    unsigned right[QUERIES]; /* document that the query means */
    uint32_t clicked[QUERIES];
    float weights[QUERIES];         /* of the clicks */
    uint32_t shown[QUERIES][SHOWN]; /* by the base model, the best first */
    bool listed;                    /* clicks are on what was shown; else each is on any document, like feedback */
    train_pair pairs[TRAINED];
    double before[ASKED], after[ASKED];
    float *vectors; /* [DOCUMENTS + ASKED, dim] */
} chance;

static void write_texts(chance *t)
{
    static const char *const topics[] = {"refund", "card", "transfer", "account", "exchange", "cash", "limit", "fee"};
    static const char *const names[] = {"music", "dog", "tree", "water", "king", "snow", "bread", "sun"};
    static const char *const ways[WAYS][2] = {{"", "and"},      {"where is the", "of the"}, {"my", "with a"},
                                              {"a", "for the"}, {"what", "has a"},          {"my", "or"}};
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        const char *first = topics[i % TOPICS], *second = topics[i / TOPICS];
        snprintf(t->documents[i], TEXT_MAX, "my %s and a %s in the bank", first, second);
        snprintf(t->probes[i], TEXT_MAX, "about the %s or %s", first, second);
    }
    for (unsigned i = 0; i < QUERIES; i++) {
        const unsigned document = i % DOCUMENTS;
        t->right[i] = document;
        const char *const *way = ways[i / DOCUMENTS];
        snprintf(t->queries[i], TEXT_MAX, "%s %s %s %s", way[0], names[document % TOPICS], way[1],
                 names[document / TOPICS]);
    }
}

/* False where the model is missing. */
static bool arrange(chance *t)
{
    *t = (chance){0};
    const char *path = testing_shared("golden/tiny-bert");
    if (path == NULL)
        return false;
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    ck_ok(model_open(&t->base, path, NULL, &t->log, &error));
    t->dim = model_get_config(t->base)->dim;
    t->vectors = calloc((DOCUMENTS + ASKED) * t->dim, sizeof *t->vectors);
    ck_assert_ptr_nonnull(t->vectors);
    write_texts(t);
    return true;
}

static void finish(chance *t)
{
    free(t->vectors);
    model_close(t->base);
}

/* The queries in a random order of this trial: its first ones are held out. */
static void shuffle(random_state *r, uint32_t order[QUERIES])
{
    for (uint32_t i = 0; i < QUERIES; i++)
        order[i] = i;
    random_shuffle(r, order, QUERIES, sizeof *order);
}

static void set_pairs(chance *t, const uint32_t *order)
{
    for (size_t i = 0; i < TRAINED; i++) {
        const char *query = t->queries[order[i]], *document = t->documents[t->clicked[order[i]]];
        t->pairs[i] = (train_pair){.query = query,
                                   .query_length = strlen(query),
                                   .document = document,
                                   .document_length = strlen(document),
                                   .document_key = hash_text(document, strlen(document)),
                                   .query_key = hash_text(query, strlen(query)),
                                   .weight = t->weights[order[i]]};
    }
}

static model *train(chance *t, uint64_t seed, size_t epochs)
{
    train_config config;
    train_report report;
    const train_control control = {0};
    float *params;
    model *candidate;
    train_config_defaults(&config);
    config.seed = seed;
    config.learning_rate = 2e-3;
    config.batch_size = 32;
    config.epochs = epochs;
    config.threads = 1;
    config.nice.added = 0;
    ck_ok(train_mnrl(t->base, t->pairs, TRAINED, &config, &control, &params, &report, &error));
    ck_ok(model_open_over(&candidate, t->base, params, &error));
    return candidate;
}

static bulk_text text_of(const char *text)
{
    return (bulk_text){text, strlen(text)};
}

static void encode(const model *m, const bulk_text *texts, size_t count, float *out)
{
    const bulk_job work = {.model = m, .prompt = "", .texts = texts, .count = count, .threads = 1, .out = out};
    ck_ok(bulk_encode(&work, &error));
}

/* As the gate ranks: a click among what was shown, by its weight, and what was not shown among all. */
static void rank_all(chance *t, const model *m, const uint32_t *order, double *reciprocal)
{
    bulk_text texts[DOCUMENTS + ASKED];
    float scores[DOCUMENTS];
    rank_metrics sum = {0};
    double weights = 0;
    for (size_t i = 0; i < DOCUMENTS; i++) {
        texts[i] = text_of(t->documents[i]);
        texts[DOCUMENTS + HELD_OUT + i] = text_of(t->probes[i]);
    }
    for (size_t i = 0; i < HELD_OUT; i++) {
        texts[DOCUMENTS + i] = text_of(t->queries[order[i]]);
        weights += (double)t->weights[order[i]];
    }
    encode(m, texts, DOCUMENTS + ASKED, t->vectors);
    for (size_t i = 0; i < ASKED; i++) {
        const uint32_t relevant = i < HELD_OUT ? t->clicked[order[i]] : (uint32_t)(i - HELD_OUT);
        reciprocal[i] = rank_relevant(t->vectors + (DOCUMENTS + i) * t->dim, t->vectors, DOCUMENTS, t->dim, &relevant,
                                      1, 10, scores, &sum);
        if (i < HELD_OUT && t->listed)
            reciprocal[i] = rank_shown(scores, t->shown[order[i]], SHOWN, relevant) * (double)t->weights[order[i]] *
                            HELD_OUT / weights;
    }
}

/* One round of the loop with the clicks that are in t->clicked. */
static gate_decision round_of(chance *t, random_state *r, uint64_t seed, size_t epochs, double max_probe_loss)
{
    uint32_t order[QUERIES];
    gate_decision decision;
    shuffle(r, order);
    set_pairs(t, order + HELD_OUT);
    model *candidate = train(t, seed, epochs);
    rank_all(t, t->base, order, t->before);
    rank_all(t, candidate, order, t->after);
    model_close(candidate);
    gate_probe probe = {.collection = "notes", .side = {t->before + HELD_OUT, t->after + HELD_OUT, DOCUMENTS}};
    gate_evidence evidence = {
        .heldout = {t->before, t->after, HELD_OUT}, .probes = &probe, .probe_count = 1, .drift = NAN};
    const gate_rules rules = {.max_p = 0.01, .max_probe_loss = max_probe_loss, .max_drift = 2, .seed = seed};
    gate_decide(&evidence, &rules, &decision);
    return decision;
}

/* What the base model shows for every query. */
static void show(chance *t)
{
    bulk_text texts[DOCUMENTS + QUERIES];
    float *vectors = calloc((DOCUMENTS + QUERIES) * t->dim, sizeof *vectors), scores[DOCUMENTS];
    ck_assert_ptr_nonnull(vectors);
    for (size_t i = 0; i < DOCUMENTS + QUERIES; i++)
        texts[i] = text_of(i < DOCUMENTS ? t->documents[i] : t->queries[i - DOCUMENTS]);
    encode(t->base, texts, DOCUMENTS + QUERIES, vectors);
    for (size_t i = 0; i < QUERIES; i++)
        for (uint32_t d = 0; d < DOCUMENTS; d++) {
            rank_metrics sum = {0};
            const double rank = 1 / rank_relevant(vectors + (DOCUMENTS + i) * t->dim, vectors, DOCUMENTS, t->dim, &d, 1,
                                                  DOCUMENTS, scores, &sum);
            if (rank < SHOWN + 0.5)
                t->shown[i][lround(rank) - 1] = d;
        }
    free(vectors);
}

/* A click on anything, or at a rank that people look at: the first ten times as often as the tenth. */
static void click(chance *t, random_state *r, size_t query)
{
    t->weights[query] = 1;
    t->clicked[query] = (uint32_t)random_below(r, DOCUMENTS);
    if (!t->listed)
        return;
    size_t rank;
    do
        rank = 1 + (size_t)random_below(r, SHOWN);
    while (random_unit(r) * (double)rank >= 1);
    t->clicked[query] = t->shown[query][rank - 1];
    t->weights[query] = (float)rank;
}

/* Every other trial has clicks on what was shown. Most of these are discarded for the harm that they do; the
 * test of the gain alone lets hardly any through, too. */
START_TEST(random_clicks_are_promoted_in_at_most_5_of_100_trials)
{
    chance t;
    random_state r;
    unsigned promoted = 0, significant = 0;
    if (!arrange(&t))
        return;
    const uint64_t seed = testing_seed_or(1);
    random_seed(&r, seed);
    show(&t);
    for (unsigned trial = 0; trial < TRIALS; trial++) {
        t.listed = trial % 2 == 1;
        for (size_t i = 0; i < QUERIES; i++)
            click(&t, &r, i);
        const gate_decision d = round_of(&t, &r, seed + trial, 1, 0.01);
        promoted += d.promote;
        significant += d.gain > 0 && d.p_value < 0.01;
        ck_assert_msg(!d.promote || d.p_value < 0.01, "%s", d.reason);
    }
    printf("of %d trials %u were promoted, %u had a gain at p < 0.01\n", TRIALS, promoted, significant);
    ck_assert_uint_le(promoted, PROMOTED_MAX);
    ck_assert_uint_le(significant, PROMOTED_MAX);
    finish(&t);
}
END_TEST

START_TEST(clicks_that_mean_something_are_promoted)
{
    chance t;
    random_state r;
    if (!arrange(&t))
        return;
    random_seed(&r, testing_seed_or(1));
    for (size_t i = 0; i < QUERIES; i++) {
        t.clicked[i] = t.right[i];
        t.weights[i] = 1;
    }
    /* The tiny model forgets what it never knew well: only the gain is asked for. */
    const gate_decision d = round_of(&t, &r, 3, 6, 1);
    ck_assert_msg(d.promote && d.p_value < 0.001 && d.gain > 0.1, "%s", d.reason);
    finish(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_chance");
    TCase *tests = tcase_create("gate_chance");
    tcase_set_timeout(tests, 280);
    tcase_add_test(tests, random_clicks_are_promoted_in_at_most_5_of_100_trials);
    tcase_add_test(tests, clicks_that_mean_something_are_promoted);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
