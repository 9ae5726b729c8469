/* Encodes the texts of a file in one precision and says how fast and how well:
 *
 *   bench_encode [option=value]... MODEL TEXTS.jsonl
 *
 * TEXTS.jsonl holds a JSON object with a "text" a line. Options: precision
 * (float32, bfloat16, int8, auto), threads, texts (at most), tokens (of a text, at
 * most), rounds (the median counts), one=1 (one text at a time: latency). Standard
 * output gets one line of JSON. */
#include "model/model.h"

#include <jansson.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_TOKENS = 1024, THREADS_MAX = 64, ROUNDS_MAX = 100 };

typedef struct bench {
    model *m;
    token_batch batch;
    size_t *order; /* texts by length */
    size_t *start; /* of each text's ids */
    size_t texts, threads, rounds, tokens_max;
    bool one;
    float *out; /* [texts, E] */
    pthread_mutex_t lock;
    size_t next;     /* guarded by lock: the next text in order */
    bool failed;     /* the same */
    double *latency; /* [texts], one at a time */
} bench;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool read_texts(bench *b, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t size = 0;
    sem_error err;
    bool fine = file != NULL;
    while (fine && b->batch.texts < b->texts && getline(&line, &size, file) > 0) {
        json_t *value = json_loads(line, 0, NULL), *text = json_object_get(value, "text");
        fine = json_is_string(text) && model_tokenize(b->m, NULL, json_string_value(text), json_string_length(text),
                                                      &b->batch, NULL, &err) == SEM_OK;
        json_decref(value);
    }
    free(line);
    if (file != NULL)
        fclose(file);
    b->texts = b->batch.texts;
    return fine && b->texts > 0;
}

static const bench *sorting;

static int by_length(const void *left, const void *right)
{
    size_t a = *(const size_t *)left, b = *(const size_t *)right;
    uint32_t x = sorting->batch.lengths[a], y = sorting->batch.lengths[b];
    return x != y ? (x > y) - (x < y) : (a > b) - (a < b);
}

/* Takes texts until BATCH_TOKENS are together. */
static size_t take(bench *b, int32_t *ids, uint32_t *lengths, size_t *which)
{
    size_t count = 0, tokens = 0;
    pthread_mutex_lock(&b->lock);
    while (b->next < b->texts && !(b->one && count > 0)) {
        size_t text = b->order[b->next], length = b->batch.lengths[text];
        length = length < b->tokens_max ? length : b->tokens_max;
        if (count > 0 && tokens + length > BATCH_TOKENS)
            break;
        memcpy(ids + tokens, b->batch.ids + b->start[text], length * sizeof *ids);
        lengths[count] = (uint32_t)length;
        which[count++] = text;
        tokens += length;
        b->next++;
    }
    pthread_mutex_unlock(&b->lock);
    return count;
}

static void *work(void *argument)
{
    bench *b = argument;
    const size_t E = model_get_config(b->m)->dim;
    static _Thread_local int32_t ids[BATCH_TOKENS * 2];
    static _Thread_local uint32_t lengths[BATCH_TOKENS];
    static _Thread_local size_t which[BATCH_TOKENS];
    float *out = malloc(BATCH_TOKENS * E * sizeof *out);
    encoder_scratch *s = NULL;
    sem_error err;
    bool fine = out != NULL && encoder_scratch_create(&s, model_get_encoder(b->m), BATCH_TOKENS, &err) == SEM_OK;
    size_t count = 0;
    while (fine && (count = take(b, ids, lengths, which)) > 0) {
        double from = seconds();
        fine = encoder_forward(model_get_encoder(b->m), s, ids, lengths, count, out, &err) == SEM_OK;
        b->latency[which[0]] = seconds() - from;
        for (size_t i = 0; fine && i < count; i++)
            memcpy(b->out + which[i] * E, out + i * E, E * sizeof *out);
    }
    if (!fine) {
        pthread_mutex_lock(&b->lock);
        b->failed = true;
        pthread_mutex_unlock(&b->lock);
    }
    encoder_scratch_destroy(s);
    free(out);
    return NULL;
}

static double run(bench *b)
{
    pthread_t threads[THREADS_MAX];
    size_t started = 0;
    b->next = 0;
    double from = seconds();
    while (started < b->threads && pthread_create(&threads[started], NULL, work, b) == 0)
        started++;
    b->failed = b->failed || started < b->threads;
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return seconds() - from;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static bool prepare(bench *b)
{
    const size_t E = model_get_config(b->m)->dim;
    b->order = malloc(b->texts * sizeof *b->order);
    b->start = malloc(b->texts * sizeof *b->start);
    b->latency = calloc(b->texts, sizeof *b->latency);
    b->out = malloc(b->texts * E * sizeof *b->out);
    if (b->order == NULL || b->start == NULL || b->latency == NULL || b->out == NULL)
        return false;
    size_t at = 0;
    for (size_t i = 0; i < b->texts; i++) {
        b->order[i] = i;
        b->start[i] = at;
        at += b->batch.lengths[i];
    }
    sorting = b;
    qsort(b->order, b->texts, sizeof *b->order, by_length);
    return true;
}

static void compare(const float *found, const float *right, size_t texts, size_t width, double *least, double *mean)
{
    *least = 1;
    *mean = 0;
    for (size_t i = 0; i < texts; i++) {
        double cosine = 0;
        for (size_t j = 0; j < width; j++)
            cosine += (double)found[i * width + j] * right[i * width + j];
        *least = cosine < *least ? cosine : *least;
        *mean += cosine / (double)texts;
    }
}

/* The medians of rounds runs in the precision that the model was opened with. */
static bool measure(bench *b, double *took)
{
    double times[ROUNDS_MAX];
    for (size_t i = 0; i < b->rounds; i++)
        times[i] = run(b);
    qsort(times, b->rounds, sizeof *times, by_value);
    *took = times[b->rounds / 2];
    return !b->failed;
}

static bool set_option(bench *b, const char *argument, const char **precision)
{
    const struct {
        const char *name;
        size_t *value, most;
    } numbers[] = {{"threads=", &b->threads, THREADS_MAX},
                   {"texts=", &b->texts, 10000000},
                   {"tokens=", &b->tokens_max, BATCH_TOKENS},
                   {"rounds=", &b->rounds, ROUNDS_MAX}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        size_t length = strlen(numbers[i].name);
        if (strncmp(argument, numbers[i].name, length) != 0)
            continue;
        *numbers[i].value = strtoul(argument + length, NULL, 10);
        return *numbers[i].value >= 1 && *numbers[i].value <= numbers[i].most;
    }
    if (strncmp(argument, "precision=", 10) == 0)
        *precision = argument + 10;
    else if (strcmp(argument, "one=1") == 0)
        b->one = true;
    else
        return false;
    return true;
}

static void report(bench *b, const char *precision, double took, double least, double mean)
{
    size_t tokens = 0;
    for (size_t i = 0; i < b->texts; i++)
        tokens += b->batch.lengths[i] < b->tokens_max ? b->batch.lengths[i] : b->tokens_max;
    qsort(b->latency, b->texts, sizeof *b->latency, by_value);
    printf("{\"precision\": \"%s\", \"threads\": %zu, \"texts\": %zu, \"tokens\": %zu, \"texts_per_s\": %.0f, "
           "\"tokens_per_s\": %.0f, \"min_cosine\": %.6f, \"mean_cosine\": %.6f",
           precision, b->threads, b->texts, tokens, (double)b->texts / took, (double)tokens / took, least, mean);
    if (b->one)
        printf(", \"p50_ms\": %.3f, \"p99_ms\": %.3f", 1e3 * b->latency[b->texts / 2],
               1e3 * b->latency[b->texts * 99 / 100]);
    printf("}\n");
}

int main(int argc, char **argv)
{
    bench b = {.texts = 2000, .threads = 1, .rounds = 3, .tokens_max = 256, .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *precision = "auto", *paths[2];
    size_t found = 0;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 2)
            paths[found++] = argv[i];
        else if (!set_option(&b, argv[i], &precision))
            found = 3;
    }
    if (found != 2) {
        fprintf(stderr, "usage: bench_encode [option=value]... MODEL TEXTS.jsonl (options in the file's head)\n");
        return 2;
    }
    sem_error err = {0};
    double took = 0, least, mean;
    bool fine = model_open(&b.m, paths[0], NULL, NULL, &err) == SEM_OK && read_texts(&b, paths[1]) && prepare(&b);
    fine = fine && run(&b) > 0 && !b.failed;
    float *right = b.out;
    b.out = NULL;
    fine = fine && model_set_precision(b.m, precision, 0.999, NULL, &err) == SEM_OK &&
           (b.out = malloc(b.texts * model_get_config(b.m)->dim * sizeof *b.out)) != NULL && measure(&b, &took);
    if (fine) {
        compare(b.out, right, b.texts, model_get_config(b.m)->dim, &least, &mean);
        report(&b, model_precision(b.m), took, least, mean);
    } else {
        fprintf(stderr, "bench_encode: %s\n", err.message[0] != '\0' ? err.message : "no texts, or out of memory");
    }
    token_batch_free(&b.batch);
    free(b.out);
    free(right);
    free(b.order);
    free(b.start);
    free(b.latency);
    model_close(b.m);
    return fine ? 0 : 1;
}
