/* Trains a sentence encoder on pairs from a file and says how fast:
 *
 *   bench_train [option=value]... MODEL PAIRS.jsonl OUT
 *
 * PAIRS.jsonl holds a JSON object {"query": ..., "document": ...} a line. OUT is
 * the folder to be made for the trained model. Options: threads, batch, epochs,
 * steps, tokens, rate, scale, dropout, clip, decay, warmup, seed, tape (MiB),
 * precision (auto, float32, bfloat16), and order=1: the pairs are trained on once, in the
 * file's order, batch after batch; each is tokenized when its turn comes, and no text keeps
 * another from being a negative.
 * Progress goes to standard error; standard output gets one line of JSON. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/hash.h"
#include "model/model.h"
#include "finetune/train_setup.h"
#include "finetune/trainer.h"

#include <jansson.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct pair_file {
    train_pair *pairs;
    json_t **lines; /* own the pairs' strings */
    size_t count, capacity;
} pair_file;

static void pair_file_free(pair_file *f)
{
    for (size_t i = 0; i < f->count; i++)
        json_decref(f->lines[i]);
    free(f->lines);
    free(f->pairs);
}

static bool grow(pair_file *f)
{
    if (f->count < f->capacity)
        return true;
    size_t capacity = f->capacity == 0 ? 1024 : 2 * f->capacity;
    train_pair *pairs = realloc(f->pairs, capacity * sizeof *pairs);
    if (pairs != NULL)
        f->pairs = pairs;
    json_t **lines = realloc(f->lines, capacity * sizeof *lines);
    if (lines != NULL)
        f->lines = lines;
    if (pairs == NULL || lines == NULL)
        return false;
    f->capacity = capacity;
    return true;
}

static sem_status add_line(pair_file *f, const char *path, const char *line, sem_error *err)
{
    json_error_t problem;
    json_t *value = json_loads(line, 0, &problem);
    const json_t *query = json_object_get(value, "query"), *document = json_object_get(value, "document");
    if (!json_is_string(query) || !json_is_string(document)) {
        json_decref(value);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s:%zu: expected {\"query\": text, \"document\": text}", path,
                        f->count + 1);
    }
    if (!grow(f)) {
        json_decref(value);
        return sem_fail_memory(err, "the pairs");
    }
    train_pair *p = &f->pairs[f->count];
    *p = (train_pair){.query = json_string_value(query),
                      .query_length = json_string_length(query),
                      .document = json_string_value(document),
                      .document_length = json_string_length(document),
                      .weight = 1};
    p->query_key = hash_text(p->query, p->query_length);
    p->document_key = hash_text(p->document, p->document_length);
    f->lines[f->count++] = value;
    return SEM_OK;
}

static sem_status read_pairs(pair_file *f, const char *path, sem_error *err)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t size = 0;
    sem_status status = SEM_OK;
    while (status == SEM_OK && getline(&line, &size, file) > 0)
        status = add_line(f, path, line, err);
    if (status == SEM_OK && ferror(file))
        status = sem_fail(err, SEM_INTERNAL, "cannot read %s", path);
    free(line);
    fclose(file);
    return status;
}

/* What the arguments ask for. */
typedef struct settings {
    train_config config;
    size_t order;
} settings;

static bool is_count(double value)
{
    return value >= 0 && value < 1e9 && value == floor(value);
}

/* Of the options that are whole numbers; false if there is none of this name. */
static bool set_count(settings *s, const char *name, size_t value)
{
    train_config *c = &s->config;
    const struct {
        const char *name;
        size_t *count;
        size_t unit;
    } options[] = {{"batch", &c->batch_size, 1},  {"epochs", &c->epochs, 1}, {"steps", &c->max_steps, 1},
                   {"tokens", &c->max_tokens, 1}, {"order", &s->order, 1},   {"tape", &c->tape_bytes, (size_t)1 << 20}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(options[i].name, name) == 0) {
            *options[i].count = value * options[i].unit;
            return true;
        }
    }
    if (strcmp(name, "threads") == 0)
        c->threads = (unsigned)value;
    else if (strcmp(name, "seed") == 0)
        c->seed = value;
    else
        return false;
    return true;
}

static bool set_number(train_config *c, const char *name, double value)
{
    const struct {
        const char *name;
        double *number;
    } options[] = {{"rate", &c->learning_rate}, {"scale", &c->scale},        {"dropout", &c->dropout},
                   {"clip", &c->clip_norm},     {"decay", &c->weight_decay}, {"warmup", &c->warmup_ratio}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strcmp(options[i].name, name) == 0) {
            *options[i].number = value;
            return true;
        }
    }
    return false;
}

/* One "name=value"; false if there is no such option. */
static bool set_option(settings *s, const char *argument)
{
    char name[16];
    const char *equals = strchr(argument, '=');
    if (equals == NULL || (size_t)(equals - argument) >= sizeof name)
        return false;
    memcpy(name, argument, (size_t)(equals - argument));
    name[equals - argument] = '\0';
    if (strcmp(name, "precision") == 0)
        return train_precision_of(equals + 1, &s->config.precision);
    char *end = NULL;
    double value = strtod(equals + 1, &end);
    if (end == equals + 1 || *end != '\0')
        return false;
    return set_number(&s->config, name, value) || (is_count(value) && set_count(s, name, (size_t)value));
}

/* --- pairs in the file's order */

typedef struct in_order {
    const model *base;
    const pair_file *file;
    const train_config *config;
    size_t next;        /* pair */
    token_batch tokens; /* of the batch last given: its queries, its documents */
    train_text *texts;  /* [2 batch_size] */
} in_order;

static sem_status next_in_order(void *context, train_batch *batch, sem_error *err)
{
    in_order *o = context;
    const size_t n = o->config->batch_size;
    const train_pair *pairs = o->file->pairs + o->next;
    sem_status status = SEM_OK;
    token_batch_clear(&o->tokens);
    for (size_t i = 0; i < 2 * n && status == SEM_OK; i++) {
        const bool query = i < n;
        const train_pair *p = &pairs[query ? i : i - n];
        status = model_tokenize_within(o->base, NULL, query ? p->query : p->document,
                                       query ? p->query_length : p->document_length, o->config->max_tokens, &o->tokens,
                                       NULL, err);
    }
    for (size_t i = 0, at = 0; i < 2 * n && status == SEM_OK; at += o->tokens.lengths[i++])
        o->texts[i] = (train_text){o->tokens.ids + at, o->tokens.lengths[i]};
    o->next += n;
    *batch = (train_batch){.texts = o->texts, .about = {.pairs = n, .texts = 2 * n}};
    return status;
}

static sem_status train_in_order(const model *base, const pair_file *file, const train_config *config,
                                 const train_control *control, float **params, train_report *report, sem_error *err)
{
    in_order o = {.base = base, .file = file, .config = config};
    train_setup setup = {0};
    const train_source source = {.next = next_in_order, .context = &o};
    const train_batches batches = {
        .max_pairs = config->batch_size, .max_texts = 2 * config->batch_size, .losses = {[LOSS_MNRL] = true}};
    const size_t steps = file->count / config->batch_size;
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK && steps == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%zu pairs make no batch of %zu", file->count, config->batch_size);
    if (status != SEM_OK)
        return status;
    const uint64_t began_ns = clock_monotonic_ns();
    o.texts = checked_realloc(NULL, config->batch_size, 2 * sizeof *o.texts);
    if (o.texts == NULL)
        status = sem_fail_memory(err, "a batch");
    if (status == SEM_OK)
        status = train_setup_create(&setup, base, config, steps, &batches, err);
    if (status == SEM_OK)
        status = train_setup_run(&setup, &source, 0, control, report, err);
    report->seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
    if (status == SEM_OK) {
        *params = setup.params;
        setup.params = NULL;
    }
    train_setup_free(&setup);
    token_batch_free(&o.tokens);
    free(o.texts);
    return status;
}

/* --- what came of it */

/* Of each step. */
typedef struct step_record {
    double *seconds, *losses;
    size_t count, capacity;
    uint64_t before_ns;
} step_record;

static void record_step(step_record *r, const train_progress *now)
{
    const uint64_t now_ns = clock_monotonic_ns();
    if (r->count < r->capacity) {
        r->seconds[r->count] = (double)(now_ns - r->before_ns) / 1e9;
        r->losses[r->count++] = now->loss;
    }
    r->before_ns = now_ns;
}

static sem_status record_begin(step_record *r, size_t steps, sem_error *err)
{
    *r = (step_record){.capacity = steps, .before_ns = clock_monotonic_ns()};
    r->seconds = checked_realloc(NULL, steps, sizeof *r->seconds);
    r->losses = checked_realloc(NULL, steps, sizeof *r->losses);
    return r->seconds != NULL && r->losses != NULL ? SEM_OK : sem_fail_memory(err, "the steps' times");
}

static void show_progress(void *context, const train_progress *now)
{
    record_step(context, now);
    fprintf(stderr, "%sstep %zu/%zu  loss %.4f  rate %.2e  %.1f pairs/s  %.0f s left %s", isatty(2) ? "\r" : "",
            now->step, now->steps, now->loss, now->learning_rate, now->pairs_per_s, now->eta_s,
            isatty(2) && now->step < now->steps ? "" : "\n");
}

static void print_list(const char *name, const double *values, size_t count)
{
    printf(", \"%s\": [", name);
    for (size_t i = 0; i < count; i++)
        printf("%s%.6f", i > 0 ? ", " : "", values[i]);
    printf("]");
}

static void print_report(const train_report *r, const step_record *record)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"steps\": %zu, \"pairs\": %zu, \"seconds\": %.3f, \"pairs_per_s\": %.2f, \"first_loss\": %.6f, "
           "\"last_loss\": %.6f, \"peak_mb\": %.1f",
           r->steps, r->pairs, r->seconds, (double)r->pairs / r->seconds, r->first_loss, r->last_loss,
           (double)usage.ru_maxrss / 1024);
    print_list("step_seconds", record->seconds, record->count);
    print_list("losses", record->losses, record->count);
    printf("}\n");
}

static sem_status run(const settings *s, char **paths, sem_error *err)
{
    sem_log log;
    log_init(&log, 2, LOG_LEVEL_WARNING);
    model *m = NULL;
    float *params = NULL;
    pair_file file = {0};
    step_record record = {0};
    train_report report = {0};
    const train_config *c = &s->config;
    const train_control control = {.progress = show_progress, .context = &record};
    sem_status status = model_open(&m, paths[0], NULL, &log, err);
    if (status == SEM_OK)
        status = read_pairs(&file, paths[1], err);
    if (status == SEM_OK)
        status = record_begin(&record, c->epochs * (file.count / c->batch_size + 1), err);
    if (status == SEM_OK)
        status = s->order > 0 ? train_in_order(m, &file, c, &control, &params, &report, err)
                              : train_mnrl(m, file.pairs, file.count, c, &control, &params, &report, err);
    if (status == SEM_OK)
        print_report(&report, &record);
    if (status == SEM_OK)
        status = model_save(paths[0], paths[2], encoder_layout(model_get_encoder(m)), params, NULL, err);
    free(params);
    free(record.seconds);
    free(record.losses);
    pair_file_free(&file);
    model_close(m);
    return status;
}

int main(int argc, char **argv)
{
    settings s = {0};
    sem_error error;
    train_config_defaults(&s.config);
    s.config.nice.added = 0;
    s.config.threads = 2;
    int next = 1;
    while (next < argc && set_option(&s, argv[next]))
        next++;
    if (argc - next != 3) {
        fprintf(stderr, "usage: bench_train [option=value]... MODEL PAIRS.jsonl OUT (options: the head of "
                        "bench/bench_train.c)\n");
        return 2;
    }
    if (run(&s, argv + next, &error) == SEM_OK)
        return 0;
    fprintf(stderr, "bench_train: %s\n", error.message);
    return 1;
}
