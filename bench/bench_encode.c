/* Encodes the texts of a file in one precision, text in, vectors out, and says how
 * fast and how well:
 *
 *   bench_encode [option=value]... MODEL TEXTS.jsonl
 *
 * TEXTS.jsonl holds a JSON object with a "text" a line. A round tokenizes all texts,
 * sorts them by length, encodes them in groups, longest first, and puts the vectors
 * in the texts' order; threads share all of it. Options:
 *
 *   precision=auto    or float32, bfloat16, int8
 *   min_cosine=0.999  what auto asks for
 *   threads=1, texts=2000 and tokens=256 (of a text) at most
 *   batch=1024        tokens that a thread takes at once
 *   rounds=3          the median counts
 *   one=1             one text at a time as well, all threads at it: latency
 *   out=FILE          the vectors of the last round, raw float32
 *   turns=1           no rounds of its own: see below
 *
 * Standard output gets one line of JSON. "encoder_tokens_per_s" leaves tokenizing
 * out; the cosines are with float32 on the same ids.
 *
 * With turns=1, benchmarks that take turns ask for one thing a line on standard
 * input, and each gets a line of JSON: "round"; "one N", N of the texts one by one;
 * "tokenize", that alone; "vectors FILE"; "ids FILE", one JSON list a text; "memory". */
#include "model/model.h"
#include "bench/helpers.h"
#include "bench/numbers.h"
#include "bench/texts.h"

#include <jansson.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_MAX = 16384, THREADS_MAX = 64, ROUNDS_MAX = 100, TOKENIZE_CHUNK = 16, LAST_GROUPS = 256 };

typedef struct text {
    char *bytes; /* owned */
    size_t length;
} text;

/* Where a text's ids are: of which worker, from where on. */
typedef struct place {
    size_t worker, offset;
    uint32_t length;
} place;

struct bench;

typedef struct worker {
    struct bench *b;
    token_batch tokens; /* of the texts that this thread tokenized */
    encoder_scratch *scratch;
    int32_t *ids;      /* [batch + tokens_max] */
    uint32_t *lengths; /* [batch] */
    size_t *which;     /* [batch] text of each row */
    float *out;        /* [batch, E] */
    sem_error err;
    bool failed;
} worker;

typedef struct bench {
    model *m;
    text *texts; /* [count] */
    place *places;
    size_t *order; /* texts, longest first */
    float *out;    /* [count, E] */
    double *latency;
    size_t count, threads, rounds, tokens_max, batch, E;
    const char *precision, *out_path;
    double min_cosine;
    bool one, turns;
    worker workers[THREADS_MAX];
    pthread_barrier_t barrier;
    helpers helpers; /* the other threads, while texts are encoded one by one */
    pthread_mutex_t lock;
    size_t next;         /* guarded by lock: the next text, or the next in order */
    size_t tokens, left; /* of all texts; not yet taken, guarded by lock */
    double tokenized;    /* when the last round's encoding began */
} bench;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- one round */

static bool tokenize_text(worker *w, size_t which)
{
    bench *b = w->b;
    const size_t at = w->tokens.tokens;
    if (tokenizer_encode(model_get_tokenizer(b->m), b->texts[which].bytes, b->texts[which].length, b->tokens_max,
                         &w->tokens, NULL, &w->err) != SEM_OK)
        return false;
    b->places[which] =
        (place){.worker = (size_t)(w - b->workers), .offset = at, .length = (uint32_t)(w->tokens.tokens - at)};
    return true;
}

static void tokenize_share(worker *w)
{
    bench *b = w->b;
    token_batch_clear(&w->tokens);
    while (!w->failed) {
        pthread_mutex_lock(&b->lock);
        size_t from = b->next, to = from + TOKENIZE_CHUNK < b->count ? from + TOKENIZE_CHUNK : b->count;
        b->next = to;
        pthread_mutex_unlock(&b->lock);
        if (from == to)
            return;
        for (size_t i = from; i < to && !w->failed; i++)
            w->failed = !tokenize_text(w, i);
    }
}

/* Counts by length: texts in order, longest first. */
static void sort_by_length(bench *b)
{
    size_t starts[BATCH_MAX + 2] = {0};
    b->tokens = 0;
    for (size_t i = 0; i < b->count; i++) {
        starts[b->tokens_max - b->places[i].length + 1]++;
        b->tokens += b->places[i].length;
    }
    for (size_t i = 1; i <= b->tokens_max; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < b->count; i++)
        b->order[starts[b->tokens_max - b->places[i].length]++] = i;
    b->next = 0;
    b->left = b->tokens;
}

/* Takes texts for a batch; less towards the end, so that the threads end together. */
static size_t take(worker *w)
{
    bench *b = w->b;
    size_t count = 0, tokens = 0, most = b->batch;
    pthread_mutex_lock(&b->lock);
    if (b->threads > 1 && b->left / (2 * b->threads) < most)
        most = b->left / (2 * b->threads) > LAST_GROUPS ? b->left / (2 * b->threads) : LAST_GROUPS;
    for (; b->next < b->count && count < b->batch; b->next++) {
        size_t length = b->places[b->order[b->next]].length;
        if (count > 0 && tokens + length > most)
            break;
        w->which[count++] = b->order[b->next];
        tokens += length;
    }
    b->left -= tokens;
    pthread_mutex_unlock(&b->lock);
    return count;
}

/* shared: with the helpers, as a lone query is. */
static bool encode_texts(worker *w, size_t count, bool shared)
{
    bench *b = w->b;
    size_t tokens = 0;
    for (size_t i = 0; i < count; i++) {
        const place *p = &b->places[w->which[i]];
        memcpy(w->ids + tokens, b->workers[p->worker].tokens.ids + p->offset, p->length * sizeof *w->ids);
        w->lengths[i] = p->length;
        tokens += p->length;
    }
    const encoder *e = model_get_encoder(b->m);
    sem_status status = shared ? helpers_forward(&b->helpers, e, w->scratch, w->ids, w->lengths, count, w->out, &w->err)
                               : encoder_forward(e, w->scratch, w->ids, w->lengths, count, w->out, &w->err);
    if (status != SEM_OK)
        return false;
    for (size_t i = 0; i < count; i++)
        memcpy(b->out + w->which[i] * b->E, w->out + i * b->E, b->E * sizeof *w->out);
    return true;
}

static void *work(void *argument)
{
    worker *w = argument;
    bench *b = w->b;
    tokenize_share(w);
    int turn = pthread_barrier_wait(&b->barrier);
    if (turn == PTHREAD_BARRIER_SERIAL_THREAD) {
        sort_by_length(b);
        b->tokenized = seconds();
    }
    pthread_barrier_wait(&b->barrier);
    for (size_t count; !w->failed && (count = take(w)) > 0;)
        w->failed = !encode_texts(w, count, false);
    return NULL;
}

static const worker *failed_worker(const bench *b)
{
    for (size_t i = 0; i < b->threads; i++)
        if (b->workers[i].failed)
            return &b->workers[i];
    return NULL;
}

/* Text in, vectors out; *took gets the whole time, *encoding what is not tokenizing. */
static bool run(bench *b, double *took, double *encoding)
{
    pthread_t threads[THREADS_MAX];
    b->next = 0;
    double from = seconds();
    for (size_t i = 1; i < b->threads; i++)
        if (pthread_create(&threads[i], NULL, work, &b->workers[i]) != 0)
            abort(); /* the others wait at the barrier: there is no way on */
    work(&b->workers[0]);
    for (size_t i = 1; i < b->threads; i++)
        pthread_join(threads[i], NULL);
    double to = seconds();
    *took = to - from;
    *encoding = to - b->tokenized;
    return failed_worker(b) == NULL;
}

/* One text as a lone query is answered. */
static bool run_one(bench *b, size_t which, double *took)
{
    worker *w = &b->workers[0];
    double from = seconds();
    token_batch_clear(&w->tokens);
    w->which[0] = which;
    w->failed = !tokenize_text(w, which) || !encode_texts(w, 1, true);
    *took = seconds() - from;
    return !w->failed;
}

/* count of the texts one by one, evenly spread, into latency; the first few are
 * run twice, so that everything is warm. */
static bool run_each(bench *b, size_t count)
{
    double warm;
    for (size_t i = 0; i < 20 && i < b->count; i++)
        if (!run_one(b, i, &warm))
            return false;
    for (size_t i = 0; i < count; i++)
        if (!run_one(b, i * b->count / count, &b->latency[i]))
            return false;
    return true;
}

static bool run_single(bench *b, size_t count)
{
    sem_error err;
    bool fine = helpers_start(&b->helpers, b->threads, &err) == SEM_OK && run_each(b, count);
    helpers_stop(&b->helpers);
    return fine;
}

/* --- preparing */

static bool add_text(void *context, const char *from, size_t length)
{
    bench *b = context;
    text *slot = &b->texts[b->count];
    if ((slot->bytes = malloc(length + 1)) == NULL)
        return false;
    memcpy(slot->bytes, from, length + 1);
    slot->length = length;
    b->count++;
    return true;
}

static bool read_texts(bench *b, const char *path, size_t most)
{
    b->texts = calloc(most, sizeof *b->texts);
    return b->texts != NULL && texts_read(path, most, add_text, b);
}

static bool prepare_worker(bench *b, worker *w, sem_error *err)
{
    w->b = b;
    w->ids = malloc((b->batch + b->tokens_max) * sizeof *w->ids);
    w->lengths = malloc(b->batch * sizeof *w->lengths);
    w->which = malloc(b->batch * sizeof *w->which);
    w->out = malloc(b->batch * b->E * sizeof *w->out);
    return w->ids != NULL && w->lengths != NULL && w->which != NULL && w->out != NULL &&
           encoder_scratch_create(&w->scratch, model_get_encoder(b->m), b->batch, err) == SEM_OK;
}

static bool prepare(bench *b, sem_error *err)
{
    const size_t allowed = model_get_config(b->m)->max_tokens;
    b->tokens_max = b->tokens_max < allowed ? b->tokens_max : allowed;
    b->E = model_get_config(b->m)->dim;
    b->places = malloc(b->count * sizeof *b->places);
    b->order = malloc(b->count * sizeof *b->order);
    b->latency = calloc(b->count, sizeof *b->latency);
    b->out = malloc(b->count * b->E * sizeof *b->out);
    bool fine = b->places != NULL && b->order != NULL && b->latency != NULL && b->out != NULL &&
                pthread_barrier_init(&b->barrier, NULL, (unsigned)b->threads) == 0;
    for (size_t i = 0; fine && i < b->threads; i++)
        fine = prepare_worker(b, &b->workers[i], err);
    return fine;
}

static void release(bench *b)
{
    for (size_t i = 0; i < b->threads; i++) {
        token_batch_free(&b->workers[i].tokens);
        encoder_scratch_destroy(b->workers[i].scratch);
        free(b->workers[i].ids);
        free(b->workers[i].lengths);
        free(b->workers[i].which);
        free(b->workers[i].out);
    }
    for (size_t i = 0; i < b->count; i++)
        free(b->texts[i].bytes);
    free(b->texts);
    free(b->places);
    free(b->order);
    free(b->latency);
    free(b->out);
    model_close(b->m);
}

/* --- answers */

static double peak_mb(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kb = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, "VmHWM:", 6) == 0)
            kb = strtol(line + 6, NULL, 10);
    if (file != NULL)
        fclose(file);
    return (double)kb / 1024;
}

static bool write_vectors(const bench *b, const char *path)
{
    FILE *file = fopen(path, "wb");
    bool fine = file != NULL && fwrite(b->out, b->E * sizeof *b->out, b->count, file) == b->count;
    return file != NULL && fclose(file) == 0 && fine;
}

static bool write_ids(bench *b, const char *path)
{
    FILE *file = fopen(path, "w");
    worker *w = &b->workers[0];
    bool fine = file != NULL;
    for (size_t i = 0; fine && i < b->count; i++) {
        token_batch_clear(&w->tokens);
        fine = tokenize_text(w, i);
        for (size_t j = 0; fine && j < w->tokens.tokens; j++)
            fprintf(file, "%c%d", j == 0 ? '[' : ',', w->tokens.ids[j]);
        fine = fine && fputs("]\n", file) >= 0;
    }
    return file != NULL && fclose(file) == 0 && fine;
}

static bool answer_round(bench *b)
{
    double took, encoding;
    if (!run(b, &took, &encoding))
        return false;
    printf("{\"seconds\": %.6f, \"encoder_seconds\": %.6f, \"texts\": %zu, \"tokens\": %zu}\n", took, encoding,
           b->count, b->tokens);
    return true;
}

static bool answer_one(bench *b, const char *argument)
{
    size_t count = strtoul(argument, NULL, 10);
    count = count < b->count ? count : b->count;
    if (count == 0 || !run_single(b, count))
        return false;
    for (size_t i = 0; i < count; i++)
        printf("%s%.4f", i == 0 ? "{\"ms\": [" : ", ", 1e3 * b->latency[i]);
    printf("]}\n");
    return true;
}

static bool answer_tokenize(bench *b)
{
    size_t bytes = 0;
    worker *w = &b->workers[0];
    double from = seconds();
    token_batch_clear(&w->tokens);
    for (size_t i = 0; i < b->count; i++) {
        bytes += b->texts[i].length;
        if (!tokenize_text(w, i))
            return false;
    }
    printf("{\"seconds\": %.6f, \"bytes\": %zu}\n", seconds() - from, bytes);
    return true;
}

static bool answer(bench *b, char *line)
{
    line[strcspn(line, "\n")] = '\0';
    char *argument = strchr(line, ' ');
    if (argument != NULL)
        *argument++ = '\0';
    bool fine = false;
    if (strcmp(line, "round") == 0)
        return answer_round(b);
    if (strcmp(line, "one") == 0 && argument != NULL)
        return answer_one(b, argument);
    if (strcmp(line, "tokenize") == 0)
        return answer_tokenize(b);
    if (strcmp(line, "vectors") == 0 && argument != NULL)
        fine = write_vectors(b, argument);
    else if (strcmp(line, "ids") == 0 && argument != NULL)
        fine = write_ids(b, argument);
    else if (strcmp(line, "memory") == 0)
        fine = true;
    if (fine)
        printf("{\"texts\": %zu, \"width\": %zu, \"peak_mb\": %.1f}\n", b->count, b->E, peak_mb());
    return fine;
}

static bool take_turns(bench *b)
{
    char *line = NULL;
    size_t size = 0;
    bool fine = true;
    printf("{\"ready\": true, \"precision\": \"%s\", \"simd\": \"%s\", \"peak_mb\": %.1f}\n", model_precision(b->m),
           encoder_simd(model_get_encoder(b->m)), peak_mb());
    fflush(stdout);
    while (fine && getline(&line, &size, stdin) > 0) {
        fine = answer(b, line);
        fflush(stdout);
    }
    free(line);
    return fine;
}

/* --- without turns: rounds, and the agreement with float32 */

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void compare(const bench *b, const float *right, double *least, double *mean)
{
    *least = 1;
    *mean = 0;
    for (size_t i = 0; i < b->count; i++) {
        double cosine = 0;
        for (size_t j = 0; j < b->E; j++)
            cosine += (double)b->out[i * b->E + j] * right[i * b->E + j];
        *least = cosine < *least ? cosine : *least;
        *mean += cosine / (double)b->count;
    }
}

static bool measure(bench *b, double *took, double *encoding)
{
    double times[ROUNDS_MAX], encodings[ROUNDS_MAX];
    for (size_t i = 0; i < b->rounds; i++)
        if (!run(b, &times[i], &encodings[i]))
            return false;
    qsort(times, b->rounds, sizeof *times, by_value);
    qsort(encodings, b->rounds, sizeof *encodings, by_value);
    *took = times[b->rounds / 2];
    *encoding = encodings[b->rounds / 2];
    return true;
}

static bool take_rounds(bench *b, sem_error *err)
{
    double took, encoding, least, mean;
    const size_t size = b->count * b->E * sizeof *b->out;
    float *right = malloc(size);
    bool fine = right != NULL && run(b, &took, &encoding);
    if (fine)
        memcpy(right, b->out, size);
    fine = fine && model_set_precision(b->m, b->precision, b->min_cosine, NULL, err) == SEM_OK &&
           measure(b, &took, &encoding) && (b->out_path == NULL || write_vectors(b, b->out_path));
    if (fine) {
        compare(b, right, &least, &mean);
        printf("{\"precision\": \"%s\", \"threads\": %zu, \"texts\": %zu, \"tokens\": %zu, \"texts_per_s\": %.0f, "
               "\"tokens_per_s\": %.0f, \"encoder_tokens_per_s\": %.0f, \"min_cosine\": %.6f, \"mean_cosine\": %.6f",
               model_precision(b->m), b->threads, b->count, b->tokens, (double)b->count / took,
               (double)b->tokens / took, (double)b->tokens / encoding, least, mean);
        fine = !b->one || run_single(b, b->count);
    }
    if (fine && b->one) {
        qsort(b->latency, b->count, sizeof *b->latency, by_value);
        printf(", \"p50_ms\": %.3f, \"p99_ms\": %.3f", 1e3 * b->latency[b->count / 2],
               1e3 * b->latency[b->count * 99 / 100]);
    }
    if (fine)
        printf("}\n");
    free(right);
    return fine;
}

/* --- options */

static bool set_option(bench *b, const char *argument, size_t *texts)
{
    const number_option numbers[] = {{"threads=", &b->threads, 1, THREADS_MAX},
                                     {"texts=", texts, 1, 10000000},
                                     {"tokens=", &b->tokens_max, 1, BATCH_MAX},
                                     {"batch=", &b->batch, 1, BATCH_MAX},
                                     {"rounds=", &b->rounds, 1, ROUNDS_MAX}};
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "precision=", 10) == 0)
        b->precision = argument + 10;
    else if (strncmp(argument, "min_cosine=", 11) == 0)
        b->min_cosine = strtod(argument + 11, NULL);
    else if (strncmp(argument, "out=", 4) == 0)
        b->out_path = argument + 4;
    else if (strcmp(argument, "one=1") == 0)
        b->one = true;
    else if (strcmp(argument, "turns=1") == 0)
        b->turns = true;
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    bench b = {.threads = 1,
               .rounds = 3,
               .tokens_max = 256,
               .batch = 1024,
               .precision = "auto",
               .min_cosine = 0.999,
               .lock = PTHREAD_MUTEX_INITIALIZER};
    const char *paths[2];
    size_t found = 0, texts = 2000;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 2)
            paths[found++] = argv[i];
        else if (!set_option(&b, argv[i], &texts))
            found = 3;
    }
    if (found != 2) {
        fprintf(stderr, "usage: bench_encode [option=value]... MODEL TEXTS.jsonl (options in the file's head)\n");
        return 2;
    }
    sem_error err = {0};
    bool fine = model_open(&b.m, paths[0], NULL, NULL, &err) == SEM_OK && read_texts(&b, paths[1], texts);
    if (fine && b.turns)
        fine = model_set_precision(b.m, b.precision, b.min_cosine, NULL, &err) == SEM_OK;
    fine = fine && prepare(&b, &err) && (b.turns ? take_turns(&b) : take_rounds(&b, &err));
    if (!fine) {
        const worker *failed = failed_worker(&b);
        const char *why = failed != NULL ? failed->err.message : err.message;
        fprintf(stderr, "bench_encode: %s\n", why[0] != '\0' ? why : "no texts, a request unknown, or out of memory");
    }
    release(&b);
    return fine ? 0 : 1;
}
