#include "finetune/trainer.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "finetune/pair_guide.h"
#include "finetune/pair_negatives.h"
#include "finetune/pair_order.h"
#include "finetune/train_setup.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CANCEL_EVERY = 1024 /* texts tokenized between looks at *cancel */ };

/* What a run owns beside the step's memory. */
typedef struct train_run {
    const model *base;
    const train_pair *pairs;
    size_t count;
    const train_config *config;
    const train_control *control;
    pair_negatives negatives;
    bool fixed;         /* documents and negatives are vectors, not texts */
    token_batch tokens; /* query 0, document 0, query 1, ..., then all negatives; or queries alone */
    size_t *starts;     /* where each text begins in tokens */
    pair_order *order;
    pair_guide *guide; /* NULL: none */
    train_setup setup;
    /* one batch */
    size_t most_texts; /* 2 batch_size and negatives */
    train_text *texts; /* [most_texts] */
    uint64_t *id;      /* [most_texts] */
    float *weight;     /* [batch_size] */
    float *frequency;  /* [most_texts] or NULL */
    float *candidates; /* [most_texts, dim] given vectors of documents and negatives; or NULL */
    float *logs; /* [2 count] of how many pairs each query and document is in: all queries, all documents; or NULL */
} train_run;

static void run_free(train_run *run)
{
    train_setup_free(&run->setup);
    pair_order_destroy(run->order);
    pair_guide_destroy(run->guide);
    pair_negatives_free(&run->negatives);
    token_batch_free(&run->tokens);
    free(run->starts);
    free(run->texts);
    free(run->id);
    free(run->weight);
    free(run->frequency);
    free(run->candidates);
    free(run->logs);
}

static bool cancelled(const train_run *run)
{
    return run->control != NULL && run->control->cancel != NULL && atomic_load(run->control->cancel);
}

/* Whether they are all there that the settings need. */
static sem_status check_vectors(const train_pair *pairs, size_t count, const train_config *config, sem_error *err)
{
    const char *setting = config->fixed_documents ? "fixed_documents" : "anchor_weight";
    if (!config->fixed_documents && !(config->anchor_weight > 0))
        return SEM_OK;
    for (size_t i = 0; i < count; i++) {
        if (pairs[i].document_vector == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "training pair %zu has no vector of its document; with %s each has one", i, setting);
        for (size_t k = 0; k < pairs[i].negative_count; k++)
            if (pairs[i].negatives[k].vector == NULL)
                return sem_fail(err, SEM_INVALID_ARGUMENT,
                                "negative %zu of training pair %zu has no vector; with %s each has one", k, i, setting);
    }
    return SEM_OK;
}

static sem_status check_pairs(const train_pair *pairs, size_t count, sem_error *err)
{
    if (count < 2)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training on %zu pairs: at least 2 are needed, each other's negatives", count);
    for (size_t i = 0; i < count; i++) {
        const train_pair *p = &pairs[i];
        if (!isfinite(p->weight) || !(p->weight > 0))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "training pair %zu has weight %g; it must be above 0", i,
                            (double)p->weight);
        if (!utf8_valid(p->query, p->query_length) || !utf8_valid(p->document, p->document_length))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "training pair %zu is not valid UTF-8", i);
        for (size_t k = 0; k < p->negative_count; k++)
            if (!utf8_valid(p->negatives[k].text, p->negatives[k].length))
                return sem_fail(err, SEM_INVALID_ARGUMENT, "negative %zu of training pair %zu is not valid UTF-8", k,
                                i);
    }
    return SEM_OK;
}

/* As the next text. */
static sem_status tokenize_text(train_run *run, const char *prompt, const char *text, size_t length, sem_error *err)
{
    run->starts[run->tokens.texts] = run->tokens.tokens;
    return model_tokenize_within(run->base, prompt, text, length, run->config->max_tokens, &run->tokens, NULL, err);
}

static sem_status tokenize_negatives(train_run *run, const char *prompt, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < run->negatives.count && status == SEM_OK; i++) {
        const train_negative *negative = run->negatives.items[i];
        status = tokenize_text(run, prompt, negative->text, negative->length, err);
        if (status == SEM_OK && i % CANCEL_EVERY == 0 && cancelled(run))
            status = sem_fail(err, SEM_CANCELLED, "training was cancelled before its first step");
    }
    return status;
}

static sem_status tokenize_pairs(train_run *run, sem_error *err)
{
    const char *query_prompt = model_config_query_prompt(model_get_config(run->base));
    const char *document_prompt = model_config_document_prompt(model_get_config(run->base));
    size_t texts = 0;
    sem_status status = SEM_OK;
    if (checked_add(2 * run->count, run->negatives.count, &texts))
        run->starts = checked_realloc(NULL, texts, sizeof *run->starts);
    if (run->starts == NULL)
        return sem_fail_memory(err, "the training pairs");
    for (size_t i = 0; i < run->count && status == SEM_OK; i++) {
        const train_pair *p = &run->pairs[i];
        status = tokenize_text(run, query_prompt, p->query, p->query_length, err);
        if (status == SEM_OK && !run->fixed)
            status = tokenize_text(run, document_prompt, p->document, p->document_length, err);
        if (status == SEM_OK && i % CANCEL_EVERY == 0 && cancelled(run))
            status = sem_fail(err, SEM_CANCELLED, "training was cancelled before its first step");
    }
    return status == SEM_OK && !run->fixed ? tokenize_negatives(run, document_prompt, err) : status;
}

static sem_status create_order(train_run *run, sem_error *err)
{
    const train_config *c = run->config;
    const pair_order_options options = {
        .batch_size = c->batch_size, .temperature = c->temperature, .mixed_share = c->mixed_share, .seed = c->seed};
    return pair_order_create(&run->order, run->pairs, run->count, &options, err);
}

typedef struct counted_key {
    uint64_t key;
    size_t pair;
} counted_key;

static int compare_keys(const void *a, const void *b)
{
    const counted_key *x = a, *y = b;
    return x->key < y->key ? -1 : x->key > y->key;
}

/* logs[count] = log of how many keys are equal to each. */
static void fill_logs(counted_key *keys, size_t count, float *logs)
{
    qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t first = 0, end = 0; first < count; first = end) {
        while (end < count && keys[end].key == keys[first].key)
            end++;
        for (size_t i = first; i < end; i++)
            logs[keys[i].pair] = logf((float)(end - first));
    }
}

static sem_status create_frequencies(train_run *run, sem_error *err)
{
    if (!run->config->frequency)
        return SEM_OK;
    counted_key *keys = checked_realloc(NULL, run->count, sizeof *keys);
    run->logs = checked_realloc(NULL, run->count, 2 * sizeof *run->logs);
    run->frequency = calloc(run->most_texts, sizeof *run->frequency);
    if (keys == NULL || run->logs == NULL || run->frequency == NULL) {
        free(keys);
        return sem_fail_memory(err, "the frequencies of training pairs");
    }
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < run->count; i++)
            keys[i] = (counted_key){side == 0 ? run->pairs[i].query_key : run->pairs[i].document_key, i};
        fill_logs(keys, run->count, run->logs + side * run->count);
    }
    free(keys);
    return SEM_OK;
}

/* A batch's arrays. */
static sem_status create_arrays(train_run *run, sem_error *err)
{
    const size_t batch = run->config->batch_size;
    run->texts = checked_realloc(NULL, run->most_texts, sizeof *run->texts);
    run->id = checked_realloc(NULL, run->most_texts, sizeof *run->id);
    run->weight = checked_realloc(NULL, batch, sizeof *run->weight);
    const bool given = run->fixed || run->config->anchor_weight > 0;
    if (given)
        run->candidates = checked_alloc_floats(run->most_texts, model_get_config(run->base)->dim);
    if (run->texts == NULL || run->id == NULL || run->weight == NULL || (given && run->candidates == NULL))
        return sem_fail_memory(err, "a training batch");
    return create_frequencies(run, err);
}

static sem_status count_steps(train_run *run, size_t *steps, sem_error *err)
{
    const train_config *c = run->config;
    size_t batches = 0, most = 0;
    if (c->max_steps > 0 && !checked_mul(c->max_steps, c->accumulate, &most))
        most = 0;
    sem_status status = pair_order_count(run->order, c->epochs, most, &batches, err);
    if (status != SEM_OK)
        return status;
    /* Where the last step needs more batches, they are those of one more epoch. */
    *steps = (batches - 1) / c->accumulate + 1;
    return SEM_OK;
}

/* The negatives, less those that the guide does not take for any. */
static sem_status list_negatives(train_run *run, sem_error *err)
{
    sem_status status = pair_negatives_list(&run->negatives, run->pairs, run->count, err);
    if (status != SEM_OK || run->config->guide[0] == '\0')
        return status;
    return pair_guide_create(&run->guide, run->pairs, run->count, &run->negatives, run->config,
                             model_get_gemm(run->base), run->control != NULL ? run->control->cancel : NULL, err);
}

static sem_status count_texts(train_run *run, size_t pairs, sem_error *err)
{
    const size_t each = pair_negatives_most(&run->negatives);
    size_t negatives;
    if (checked_mul(pairs, each, &negatives) && checked_add(2 * pairs, negatives, &run->most_texts))
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %zu negatives of a pair are too many", each);
}

static sem_status run_create(train_run *run, sem_error *err)
{
    const size_t batch = run->config->batch_size, most = batch < run->count ? batch : run->count;
    size_t steps = 0;
    sem_status status = list_negatives(run, err);
    if (status == SEM_OK)
        status = tokenize_pairs(run, err);
    if (status == SEM_OK)
        status = create_order(run, err);
    if (status == SEM_OK)
        status = count_steps(run, &steps, err);
    if (status == SEM_OK)
        status = count_texts(run, most, err);
    if (status == SEM_OK)
        status = create_arrays(run, err);
    const train_batches batches = {.max_pairs = most, .max_texts = run->most_texts, .losses = {[LOSS_MNRL] = true}};
    if (status == SEM_OK)
        status = train_setup_create(&run->setup, run->base, run->config, steps, &batches, err);
    return status;
}

static uint64_t vectors_fingerprint(const train_run *run, uint64_t sum)
{
    const size_t bytes = model_get_config(run->base)->dim * sizeof(float);
    for (size_t i = 0; i < run->count; i++)
        sum = train_fingerprint_of(sum, run->pairs[i].document_vector, bytes);
    for (size_t i = 0; i < run->negatives.count; i++)
        sum = train_fingerprint_of(sum, run->negatives.items[i]->vector, bytes);
    return sum;
}

/* Of all that the bits of a run depend on. */
static uint64_t fingerprint(const train_run *run)
{
    uint64_t sum = train_setup_fingerprint(&run->setup, run->count);
    sum = train_fingerprint_of(sum, run->tokens.ids, run->tokens.tokens * sizeof *run->tokens.ids);
    sum = train_fingerprint_of(sum, run->tokens.lengths, run->tokens.texts * sizeof *run->tokens.lengths);
    for (size_t i = 0; i < run->count; i++) {
        const train_pair *p = &run->pairs[i];
        const uint64_t keys[] = {p->query_key, p->document_key, p->domain, p->origin};
        sum = train_fingerprint_of(sum, keys, sizeof keys);
        sum = train_fingerprint_of(sum, &p->weight, sizeof p->weight);
    }
    for (size_t i = 0; i < run->negatives.count; i++)
        sum = train_fingerprint_of(sum, &run->negatives.items[i]->key, sizeof run->negatives.items[i]->key);
    sum = train_fingerprint_of(sum, run->negatives.from, (run->count + 1) * sizeof *run->negatives.from);
    if (run->candidates != NULL)
        sum = vectors_fingerprint(run, sum);
    return run->guide != NULL ? pair_guide_fingerprint(run->guide, sum) : sum;
}

static train_text text_at(const train_run *run, size_t text)
{
    return (train_text){.ids = run->tokens.ids + run->starts[text], .length = run->tokens.lengths[text]};
}

/* Puts a candidate's vector, as it was given, behind n anchors. */
static void add_vector(train_run *run, const float *vector, size_t at, size_t n)
{
    const size_t dim = model_get_config(run->base)->dim;
    if (run->candidates != NULL)
        memcpy(run->candidates + (at - n) * dim, vector, dim * sizeof *vector);
}

static void add_pair(train_run *run, size_t pair, size_t i, size_t n)
{
    const train_pair *p = &run->pairs[pair];
    run->texts[i] = text_at(run, run->fixed ? pair : 2 * pair);
    if (!run->fixed)
        run->texts[n + i] = text_at(run, 2 * pair + 1);
    add_vector(run, p->document_vector, n + i, n);
    for (size_t side = 0; side < 2 && run->logs != NULL; side++)
        run->frequency[side * n + i] = run->logs[side * run->count + pair];
    run->id[i] = p->query_key;
    run->id[n + i] = p->document_key;
    run->weight[i] = p->weight;
}

/* Returns how many texts there are with the pair's negatives at `at`, in a batch of n pairs. */
static size_t add_negatives(train_run *run, size_t pair, size_t at, size_t n)
{
    for (size_t k = run->negatives.from[pair]; k < run->negatives.from[pair + 1]; k++, at++) {
        if (!run->fixed)
            run->texts[at] = text_at(run, 2 * run->count + k);
        add_vector(run, run->negatives.items[k]->vector, at, n);
        run->id[at] = run->negatives.items[k]->key;
        if (run->logs != NULL)
            run->frequency[at] = 0;
    }
    return at;
}

static sem_status next_batch(void *context, train_batch *batch, sem_error *err)
{
    train_run *run = context;
    const uint32_t *members;
    size_t n;
    sem_status status = pair_order_next(run->order, &members, &n, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < n; i++)
        add_pair(run, members[i], i, n);
    size_t texts = 2 * n;
    for (size_t i = 0; i < n; i++)
        texts = add_negatives(run, members[i], texts, n);
    *batch = (train_batch){
        .texts = run->texts,
        .fixed = run->fixed ? run->candidates : NULL,
        .about = {.pairs = n, .texts = texts, .id = run->id, .weight = run->weight, .frequency = run->frequency}};
    if (!run->fixed)
        batch->about.anchor = run->candidates;
    if (run->guide != NULL)
        batch->about.guide = pair_guide_cosines(run->guide, members, n);
    return SEM_OK;
}

static sem_status skip_batches(void *context, size_t batches, sem_error *err)
{
    return pair_order_skip(((train_run *)context)->order, batches, err);
}

static sem_status run_steps(train_run *run, train_report *report, sem_error *err)
{
    const train_source source = {.next = next_batch, .skip = skip_batches, .context = run};
    return train_setup_run(&run->setup, &source, run->config->checkpoint != NULL ? fingerprint(run) : 0, run->control,
                           report, err);
}

sem_status train_mnrl(const model *base, const train_pair *pairs, size_t count, const train_config *config,
                      const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK)
        status = check_pairs(pairs, count, err);
    if (status == SEM_OK)
        status = check_vectors(pairs, count, config, err);
    if (status != SEM_OK)
        return status;
    train_run run = {.base = base,
                     .pairs = pairs,
                     .count = count,
                     .config = config,
                     .control = control,
                     .fixed = config->fixed_documents};
    const uint64_t began_ns = clock_monotonic_ns();
    status = run_create(&run, err);
    if (status == SEM_OK)
        status = run_steps(&run, report, err);
    if (status == SEM_OK) {
        memcpy(report->drawn, pair_order_drawn(run.order), sizeof report->drawn);
        report->seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
        *params = run.setup.params;
        run.setup.params = NULL;
    }
    run_free(&run);
    return status;
}
