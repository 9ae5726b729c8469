#include "base/names.h"
#include "base/niceness.h"
#include "finetune/trainer.h"

#include <math.h>

enum {
    BATCH_MAX = 8192, /* pairs: the scores of a batch then take 256 MiB */
    THREADS_MAX = 256,
    TOKENS_MIN = 3, /* the special tokens and one more */
    TAPE_MIB = 128  /* keeps a job of 2 threads for MiniLM (23 million parameters) below 600 MB */
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
        .temperature = 1,
        .epochs = 1,
        .max_tokens = 64,
        .threads = 1,
        .nice = {.added = NICENESS_IDLE},
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

static sem_status check_numbers(const train_config *config, sem_error *err)
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
        {"temperature", config->temperature, 1, false, 1e6},
        {"mixed_share", config->mixed_share, 0, false, 1},
        {"anchor_weight", config->anchor_weight, 0, false, 1e6},
        {"nice", config->nice.added, 0, false, NICENESS_IDLE},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sem_status status =
            check_number(numbers[i].name, numbers[i].value, numbers[i].min, numbers[i].above, numbers[i].max, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* What does not go together. */
static sem_status check_together(const train_config *config, sem_error *err)
{
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
    if (config->anchor_weight > 0 && config->fixed_documents)
        return sem_fail(
            err, SEM_INVALID_ARGUMENT,
            "training: anchor_weight is %g, and the documents' vectors are fixed: one of the two is possible",
            config->anchor_weight);
    return SEM_OK;
}

static sem_status check_counts(const train_config *config, sem_error *err)
{
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

sem_status train_config_check(const train_config *config, sem_error *err)
{
    sem_status status = check_numbers(config, err);
    if (status == SEM_OK)
        status = check_together(config, err);
    return status == SEM_OK ? check_counts(config, err) : status;
}
