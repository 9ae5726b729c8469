/* Trains a sentence encoder on pairs from a file and says how fast:
 *
 *   bench_train [option=value]... MODEL PAIRS.jsonl OUT
 *
 * PAIRS.jsonl holds a JSON object {"query": ..., "document": ...} a line. OUT is
 * the folder to be made for the trained model. Options: threads, batch, epochs,
 * steps, tokens, rate, scale, dropout, seed, tape (MiB). Progress goes to
 * standard error; standard output gets one line of JSON. */
#include "base/clock.h"
#include "base/hash.h"
#include "model/model.h"
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

/* One "name=value"; false if there is no such option. */
static bool set_option(train_config *c, const char *argument)
{
    const char *equals = strchr(argument, '=');
    if (equals == NULL)
        return false;
    char *end = NULL;
    double value = strtod(equals + 1, &end);
    if (end == equals + 1 || *end != '\0')
        return false;
    const struct {
        const char *name;
        double *number;
        size_t *count;
        size_t unit;
    } options[] = {
        {"rate", &c->learning_rate, NULL, 0}, {"scale", &c->scale, NULL, 0},
        {"dropout", &c->dropout, NULL, 0},    {"batch", NULL, &c->batch_size, 1},
        {"epochs", NULL, &c->epochs, 1},      {"steps", NULL, &c->max_steps, 1},
        {"tokens", NULL, &c->max_tokens, 1},  {"tape", NULL, &c->tape_bytes, (size_t)1 << 20},
    };
    size_t length = (size_t)(equals - argument);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strlen(options[i].name) != length || strncmp(options[i].name, argument, length) != 0)
            continue;
        if (options[i].number != NULL) {
            *options[i].number = value;
            return true;
        }
        if (!(value >= 0 && value < 1e9) || value != floor(value))
            return false;
        *options[i].count = (size_t)value * options[i].unit;
        return true;
    }
    if (!(value >= 0 && value < 1e9) || value != floor(value))
        return false;
    if (length == 7 && strncmp(argument, "threads", length) == 0)
        c->threads = (unsigned)value;
    else if (length == 4 && strncmp(argument, "seed", length) == 0)
        c->seed = (uint64_t)value;
    else
        return false;
    return true;
}

static void show_progress(void *context, const train_progress *now)
{
    (void)context;
    fprintf(stderr, "%sstep %zu/%zu  loss %.4f  rate %.2e  %.1f pairs/s  %.0f s left %s", isatty(2) ? "\r" : "",
            now->step, now->steps, now->loss, now->learning_rate, now->pairs_per_s, now->eta_s,
            isatty(2) && now->step < now->steps ? "" : "\n");
}

static void print_report(const train_report *r)
{
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"steps\": %zu, \"pairs\": %zu, \"seconds\": %.3f, \"pairs_per_s\": %.2f, \"first_loss\": %.6f, "
           "\"last_loss\": %.6f, \"peak_mb\": %.1f}\n",
           r->steps, r->pairs, r->seconds, (double)r->pairs / r->seconds, r->first_loss, r->last_loss,
           (double)usage.ru_maxrss / 1024);
}

static sem_status run(const train_config *config, char **paths, sem_error *err)
{
    sem_log log;
    log_init(&log, 2, LOG_LEVEL_WARNING);
    model *m = NULL;
    float *params = NULL;
    pair_file file = {0};
    train_report report;
    const train_control control = {.progress = show_progress};
    sem_status status = model_open(&m, paths[0], NULL, &log, err);
    if (status == SEM_OK)
        status = read_pairs(&file, paths[1], err);
    if (status == SEM_OK)
        status = train_mnrl(m, file.pairs, file.count, config, &control, &params, &report, err);
    if (status == SEM_OK)
        status = model_save(paths[0], paths[2], encoder_layout(model_get_encoder(m)), params, NULL, err);
    if (status == SEM_OK)
        print_report(&report);
    free(params);
    pair_file_free(&file);
    model_close(m);
    return status;
}

int main(int argc, char **argv)
{
    train_config config;
    sem_error error;
    train_config_defaults(&config);
    config.nice = 0;
    config.threads = 2;
    int next = 1;
    while (next < argc && set_option(&config, argv[next]))
        next++;
    if (argc - next != 3) {
        fprintf(stderr, "usage: bench_train [threads|batch|epochs|steps|tokens|rate|scale|dropout|seed|tape=N]... "
                        "MODEL PAIRS.jsonl OUT\n");
        return 2;
    }
    if (run(&config, argv + next, &error) == SEM_OK)
        return 0;
    fprintf(stderr, "bench_train: %s\n", error.message);
    return 1;
}
