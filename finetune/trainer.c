#include "finetune/trainer.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/names.h"
#include "base/utf8.h"
#include "finetune/pair_guide.h"
#include "finetune/pair_negatives.h"
#include "finetune/sampler.h"
#include "finetune/train_setup.h"

#include <math.h>
#include <stdlib.h>

enum {
    BATCH_MAX = 8192, /* pairs: the scores of a batch then take 256 MiB */
    THREADS_MAX = 256,
    TOKENS_MIN = 3,      /* the special tokens and one more */
    CANCEL_EVERY = 1024, /* texts tokenized between looks at *cancel */
    TAPE_MIB = 224       /* keeps a job of 2 threads for MiniLM (23 million parameters) below 600 MB */
};

bool train_precision_of(const char *name, train_precision *out)
{
    static const char *const names[] = {"auto", "float32", "bfloat16"};
    size_t place;
    if (!names_find(names, sizeof names / sizeof *names, name, &place))
        return false;
    *out = (train_precision)place;
    return true;
}

void train_config_defaults(train_config *config)
{
    *config = (train_config){
        .seed = 1,
        .learning_rate = 1e-4,
        .warmup_ratio = 0.1,
        .weight_decay = 0.01,
        .clip_norm = 1,
        .scale = 20,
        .schedule = SCHEDULE_LINEAR,
        .accumulate = 1,
        .layer_decay = 1,
        .dropout = 0.1,
        .batch_size = 64,
        .epochs = 1,
        .max_tokens = 64,
        .threads = 1,
        .nice = 10,
        .tape_bytes = (size_t)TAPE_MIB << 20,
        .checkpoint_every = 100,
        .negative_ratio = 0.95,
    };
}

static sem_status check_number(const char *name, double value, double min, bool above, double max, sem_error *err)
{
    if (isfinite(value) && (above ? value > min : value >= min) && value <= max)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s is %g; it must be %s %g and at most %g", name, value,
                    above ? "above" : "at least", min, max);
}

static sem_status check_count(const char *name, size_t value, size_t min, size_t max, sem_error *err)
{
    if (value >= min && value <= max)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s is %zu; it must be at least %zu and at most %zu", name,
                    value, min, max);
}

sem_status train_config_check(const train_config *config, sem_error *err)
{
    const struct {
        const char *name;
        double value, min;
        bool above;
        double max;
    } numbers[] = {
        {"learning_rate", config->learning_rate, 0, true, 1},
        {"warmup_ratio", config->warmup_ratio, 0, false, 1},
        {"weight_decay", config->weight_decay, 0, false, 1},
        {"clip_norm", config->clip_norm, 0, false, 1e9},
        {"scale", config->scale, 0, true, 1000},
        {"margin", config->margin, 0, false, 2},
        {"guide_margin", config->guide_margin, 0, false, 2},
        {"negative_ratio", config->negative_ratio, 0, true, 10},
        {"layer_decay", config->layer_decay, 0, true, 1},
        {"average", config->average, 0, false, 0.999999},
        {"nice", config->nice, 0, false, 19},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sem_status status =
            check_number(numbers[i].name, numbers[i].value, numbers[i].min, numbers[i].above, numbers[i].max, err);
        if (status != SEM_OK)
            return status;
    }
    if (config->shape == TRAIN_SHAPE_BUCKETS && config->max_tokens > train_bucket_widths[TRAIN_BUCKETS - 1])
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training: max_tokens is %zu; with shape buckets a text has at most %zu", config->max_tokens,
                        train_bucket_widths[TRAIN_BUCKETS - 1]);
    if (!(config->dropout < 1))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training: dropout is %g; it must be below 1 (negative: the model's)", config->dropout);
    if (config->guide_margin > 0 && config->guide[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: guide_margin is %g, and guide names no model",
                        config->guide_margin);
    const struct {
        const char *name;
        size_t value, min, max;
    } counts[] = {
        {"batch_size", config->batch_size, 2, BATCH_MAX},
        {"epochs", config->epochs, 1, 1000000},
        {"accumulate", config->accumulate, 1, 100000},
        {"checkpoint_every", config->checkpoint_every, 1, 1000000000},
        {"threads", config->threads, 1, THREADS_MAX},
        {"max_tokens", config->max_tokens == 0 ? TOKENS_MIN : config->max_tokens, TOKENS_MIN, 1 << 20},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        sem_status status = check_count(counts[i].name, counts[i].value, counts[i].min, counts[i].max, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* What a run owns beside the step's memory. */
typedef struct train_run {
    const model *base;
    const train_pair *pairs;
    size_t count;
    const train_config *config;
    const train_control *control;
    pair_negatives negatives;
    token_batch tokens; /* query 0, document 0, query 1, ..., then all negatives */
    size_t *starts;     /* [2 count + negatives] where each text begins in tokens */
    sampler *sampler;
    pair_guide *guide; /* NULL: none */
    train_setup setup;
    /* one batch */
    size_t most_texts; /* 2 batch_size and negatives */
    train_text *texts; /* [most_texts] */
    uint64_t *id;      /* [most_texts] */
    float *weight;     /* [batch_size] */
    float *frequency;  /* [most_texts] or NULL */
    float *logs;  /* [2 count] of how many pairs each query and document is in: all queries, all documents; or NULL */
    size_t given; /* batches */
} train_run;

static void run_free(train_run *run)
{
    train_setup_free(&run->setup);
    sampler_destroy(run->sampler);
    pair_guide_destroy(run->guide);
    pair_negatives_free(&run->negatives);
    token_batch_free(&run->tokens);
    free(run->starts);
    free(run->texts);
    free(run->id);
    free(run->weight);
    free(run->frequency);
    free(run->logs);
}

static bool cancelled(const train_run *run)
{
    return run->control != NULL && run->control->cancel != NULL && atomic_load(run->control->cancel);
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

static sem_status tokenize_text(train_run *run, const char *prompt, const char *text, size_t length, sem_error *err)
{
    return model_tokenize_within(run->base, prompt, text, length, run->config->max_tokens, &run->tokens, NULL, err);
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
        run->starts[2 * i] = run->tokens.tokens;
        status = tokenize_text(run, query_prompt, p->query, p->query_length, err);
        run->starts[2 * i + 1] = run->tokens.tokens;
        if (status == SEM_OK)
            status = tokenize_text(run, document_prompt, p->document, p->document_length, err);
        if (status == SEM_OK && i % CANCEL_EVERY == 0 && cancelled(run))
            status = sem_fail(err, SEM_CANCELLED, "training was cancelled before its first step");
    }
    for (size_t i = 0; i < run->negatives.count && status == SEM_OK; i++) {
        const train_negative *negative = run->negatives.items[i];
        run->starts[2 * run->count + i] = run->tokens.tokens;
        status = tokenize_text(run, document_prompt, negative->text, negative->length, err);
        if (status == SEM_OK && i % CANCEL_EVERY == 0 && cancelled(run))
            status = sem_fail(err, SEM_CANCELLED, "training was cancelled before its first step");
    }
    return status;
}

static sem_status create_sampler(train_run *run, sem_error *err)
{
    sampler_keys *keys = checked_realloc(NULL, run->count, sizeof *keys);
    if (keys == NULL)
        return sem_fail_memory(err, "the training pairs' keys");
    for (size_t i = 0; i < run->count; i++)
        keys[i] = (sampler_keys){.document = run->pairs[i].document_key, .query = run->pairs[i].query_key};
    sem_status status =
        sampler_create(&run->sampler, keys, run->count, run->config->batch_size, run->config->seed, err);
    free(keys);
    return status;
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
    if (run->texts == NULL || run->id == NULL || run->weight == NULL)
        return sem_fail_memory(err, "a training batch");
    return create_frequencies(run, err);
}

static sem_status count_steps(const train_run *run, size_t *steps, sem_error *err)
{
    const train_config *c = run->config;
    size_t batches = 0;
    if (!checked_mul(c->epochs, sampler_batches(run->sampler), &batches))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %zu epochs are too many", c->epochs);
    /* Where the last step needs more batches, they are those of one more epoch. */
    *steps = (batches - 1) / c->accumulate + 1;
    if (c->max_steps > 0 && c->max_steps < *steps)
        *steps = c->max_steps;
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
        status = create_sampler(run, err);
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

/* Of all that the bits of a run depend on. */
static uint64_t fingerprint(const train_run *run)
{
    uint64_t sum = train_setup_fingerprint(&run->setup, run->count);
    sum = train_fingerprint_of(sum, run->tokens.ids, run->tokens.tokens * sizeof *run->tokens.ids);
    sum = train_fingerprint_of(sum, run->tokens.lengths, run->tokens.texts * sizeof *run->tokens.lengths);
    for (size_t i = 0; i < run->count; i++) {
        const train_pair *p = &run->pairs[i];
        const uint64_t keys[] = {p->query_key, p->document_key};
        sum = train_fingerprint_of(sum, keys, sizeof keys);
        sum = train_fingerprint_of(sum, &p->weight, sizeof p->weight);
    }
    for (size_t i = 0; i < run->negatives.count; i++)
        sum = train_fingerprint_of(sum, &run->negatives.items[i]->key, sizeof run->negatives.items[i]->key);
    sum = train_fingerprint_of(sum, run->negatives.from, (run->count + 1) * sizeof *run->negatives.from);
    return run->guide != NULL ? pair_guide_fingerprint(run->guide, sum) : sum;
}

static train_text text_at(const train_run *run, size_t text)
{
    return (train_text){.ids = run->tokens.ids + run->starts[text], .length = run->tokens.lengths[text]};
}

static void add_pair(train_run *run, size_t pair, size_t i, size_t n)
{
    for (size_t side = 0; side < 2; side++) {
        run->texts[side * n + i] = text_at(run, 2 * pair + side);
        if (run->logs != NULL)
            run->frequency[side * n + i] = run->logs[side * run->count + pair];
    }
    run->id[i] = run->pairs[pair].query_key;
    run->id[n + i] = run->pairs[pair].document_key;
    run->weight[i] = run->pairs[pair].weight;
}

/* Returns how many texts there are with the pair's negatives at `at`. */
static size_t add_negatives(train_run *run, size_t pair, size_t at)
{
    for (size_t k = run->negatives.from[pair]; k < run->negatives.from[pair + 1]; k++, at++) {
        run->texts[at] = text_at(run, 2 * run->count + k);
        run->id[at] = run->negatives.items[k]->key;
        if (run->logs != NULL)
            run->frequency[at] = 0;
    }
    return at;
}

/* Collects the next batch; begins an epoch where one starts. */
static sem_status next_batch(void *context, train_batch *batch, sem_error *err)
{
    train_run *run = context;
    const size_t batches = sampler_batches(run->sampler), number = run->given % batches;
    (void)err;
    if (number == 0)
        sampler_begin_epoch(run->sampler, run->given / batches);
    run->given++;
    size_t n = 0;
    const uint32_t *members = sampler_batch(run->sampler, number, &n);
    for (size_t i = 0; i < n; i++)
        add_pair(run, members[i], i, n);
    size_t texts = 2 * n;
    for (size_t i = 0; i < n; i++)
        texts = add_negatives(run, members[i], texts);
    *batch = (train_batch){
        .texts = run->texts,
        .about = {.pairs = n, .texts = texts, .id = run->id, .weight = run->weight, .frequency = run->frequency}};
    if (run->guide != NULL)
        batch->about.guide = pair_guide_cosines(run->guide, members, n);
    return SEM_OK;
}

/* The order is a pure function of the seed and the number of batches given. */
static void skip_batches(void *context, size_t batches)
{
    train_run *run = context;
    run->given = batches;
    if (batches % sampler_batches(run->sampler) != 0)
        sampler_begin_epoch(run->sampler, batches / sampler_batches(run->sampler));
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
    if (status != SEM_OK)
        return status;
    train_run run = {.base = base, .pairs = pairs, .count = count, .config = config, .control = control};
    const uint64_t began_ns = clock_monotonic_ns();
    status = run_create(&run, err);
    if (status == SEM_OK)
        status = run_steps(&run, report, err);
    if (status == SEM_OK) {
        report->seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
        *params = run.setup.params;
        run.setup.params = NULL;
    }
    run_free(&run);
    return status;
}
