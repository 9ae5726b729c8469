/* Encodes a file of texts into a file of vectors, once:
 *
 *   bench_sentences [option=value]... MODEL TEXTS.jsonl OUT.f32
 *
 * TEXTS.jsonl holds a JSON object with a "text" a line. OUT.f32 gets one vector a
 * text, in the texts' order, raw little-endian float32 [texts, E], and appears only
 * when it is complete. Options:
 *
 *   first=0               texts left out before the first
 *   texts=1000000         at most
 *   tokens=256            of a text at most
 *   threads=2
 *   precision=bfloat16    or float32, int8, auto */
#include "model/model.h"
#include "bench/numbers.h"

#include <jansson.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXTS_AT_ONCE = 32, THREADS_MAX = 64, BAR_WIDTH = 40, TOKENS_MAX = 4096 };

typedef struct job {
    model *m;
    char **texts; /* [count] owned */
    float *out;   /* [count, E] */
    size_t first, count, most, threads, tokens_max, E;
    const char *precision;
    atomic_size_t next, done;
    atomic_bool failed;
    atomic_size_t running; /* threads */
} job;

typedef struct worker {
    job *j;
    pthread_t thread;
    token_batch tokens;
    encoder_scratch *scratch; /* for TEXTS_AT_ONCE texts */
    sem_error err;
} worker;

/* --- encoding */

static bool encode_some(worker *w, size_t from, size_t count)
{
    const job *j = w->j;
    uint32_t lengths[TEXTS_AT_ONCE];
    token_batch_clear(&w->tokens);
    for (size_t i = 0; i < count; i++) {
        const size_t before = w->tokens.tokens;
        const char *text = j->texts[from + i];
        if (tokenizer_encode(model_get_tokenizer(j->m), text, strlen(text), j->tokens_max, &w->tokens, NULL, &w->err) !=
            SEM_OK)
            return false;
        lengths[i] = (uint32_t)(w->tokens.tokens - before);
    }
    return encoder_forward(model_get_encoder(j->m), w->scratch, w->tokens.ids, lengths, count, j->out + from * j->E,
                           &w->err) == SEM_OK;
}

static void *work(void *argument)
{
    worker *w = argument;
    job *j = w->j;
    while (!atomic_load(&j->failed)) {
        size_t from = atomic_fetch_add(&j->next, TEXTS_AT_ONCE);
        if (from >= j->count)
            break;
        size_t count = j->count - from < TEXTS_AT_ONCE ? j->count - from : TEXTS_AT_ONCE;
        if (!encode_some(w, from, count))
            atomic_store(&j->failed, true);
        atomic_fetch_add(&j->done, count);
    }
    atomic_fetch_sub(&j->running, 1);
    return NULL;
}

/* --- the bar */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void show_bar(size_t done, size_t count, double took)
{
    char bar[BAR_WIDTH + 1];
    const size_t full = BAR_WIDTH * done / count;
    for (size_t i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    const double left = done > 0 ? took * (double)(count - done) / (double)done : 0;
    fprintf(stderr, "\r  EMBED [%s] %zu of %zu texts, %.0f s to go   ", bar, done, count, left);
}

/* On a terminal as it moves; in a file a line at the end is enough. */
static void watch(job *j)
{
    const double start = seconds();
    const bool terminal = isatty(STDERR_FILENO) == 1;
    const struct timespec pause = {.tv_nsec = 200000000};
    while (atomic_load(&j->running) > 0) {
        if (terminal)
            show_bar(atomic_load(&j->done), j->count, seconds() - start);
        nanosleep(&pause, NULL);
    }
    show_bar(atomic_load(&j->done), j->count, seconds() - start);
    fprintf(stderr, "\n  EMBED %.0f s on %zu threads, %s\n", seconds() - start, j->threads, model_precision(j->m));
}

static bool run(job *j, worker *workers, sem_error *err)
{
    size_t started = 0;
    for (; started < j->threads; started++) {
        worker *w = &workers[started];
        w->j = j;
        if (encoder_scratch_create(&w->scratch, model_get_encoder(j->m), TEXTS_AT_ONCE * j->tokens_max, err) != SEM_OK)
            break;
        atomic_fetch_add(&j->running, 1);
        if (pthread_create(&w->thread, NULL, work, w) != 0) {
            atomic_fetch_sub(&j->running, 1);
            break;
        }
    }
    if (started < j->threads)
        atomic_store(&j->failed, true);
    else
        watch(j);
    for (size_t i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].err.message[0] != '\0')
            *err = workers[i].err;
    }
    for (size_t i = 0; i < j->threads; i++) {
        token_batch_free(&workers[i].tokens);
        encoder_scratch_destroy(workers[i].scratch);
    }
    return !atomic_load(&j->failed);
}

/* --- files */

static bool add_text(job *j, const char *line)
{
    json_t *value = json_loads(line, 0, NULL);
    const char *text = json_string_value(json_object_get(value, "text"));
    bool fine = text != NULL && (j->texts[j->count] = strdup(text)) != NULL;
    j->count += fine;
    json_decref(value);
    return fine;
}

static bool read_texts(job *j, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t size = 0, number = 0;
    bool fine = file != NULL && (j->texts = calloc(j->most, sizeof *j->texts)) != NULL;
    for (; fine && j->count < j->most && getline(&line, &size, file) > 0; number++)
        fine = number < j->first || add_text(j, line);
    free(line);
    if (file != NULL)
        fclose(file);
    return fine && j->count > 0;
}

static bool write_vectors(const job *j, const char *path)
{
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s.part", path) >= sizeof part)
        return false;
    FILE *file = fopen(part, "wb");
    bool fine = file != NULL && fwrite(j->out, j->E * sizeof *j->out, j->count, file) == j->count;
    if (file != NULL)
        fine = fclose(file) == 0 && fine;
    return fine && rename(part, path) == 0;
}

static bool set_option(job *j, const char *argument)
{
    const number_option numbers[] = {{"first=", &j->first, 0, 100000000},
                                     {"texts=", &j->most, 1, 100000000},
                                     {"tokens=", &j->tokens_max, 2, TOKENS_MAX},
                                     {"threads=", &j->threads, 1, THREADS_MAX}};
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "precision=", 10) != 0)
        return false;
    j->precision = argument + 10;
    return true;
}

static bool prepare(job *j, sem_error *err)
{
    const size_t allowed = model_get_config(j->m)->max_tokens;
    j->tokens_max = j->tokens_max < allowed ? j->tokens_max : allowed;
    j->E = model_get_config(j->m)->dim;
    j->out = malloc(j->count * j->E * sizeof *j->out);
    if (j->out == NULL)
        return false;
    return model_set_precision(j->m, j->precision, 0.999, NULL, err) == SEM_OK;
}

int main(int argc, char **argv)
{
    job j = {.most = 1000000, .threads = 2, .tokens_max = 256, .precision = "bfloat16"};
    worker workers[THREADS_MAX] = {0};
    const char *paths[3];
    size_t found = 0;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 3)
            paths[found++] = argv[i];
        else if (!set_option(&j, argv[i]))
            found = 4;
    }
    if (found != 3) {
        fprintf(stderr,
                "usage: bench_sentences [option=value]... MODEL TEXTS.jsonl OUT.f32 (options in the file's head)\n");
        return 2;
    }
    sem_error err = {0};
    const char *step = paths[0];
    bool fine = model_open(&j.m, paths[0], NULL, NULL, &err) == SEM_OK;
    fine = fine && (step = paths[1], read_texts(&j, paths[1]));
    fine = fine && (step = "encoding", prepare(&j, &err)) && run(&j, workers, &err);
    fine = fine && (step = paths[2], write_vectors(&j, paths[2]));
    if (!fine)
        fprintf(stderr, "bench_sentences: %s: %s\n", step,
                err.message[0] != '\0' ? err.message : "cannot be read or written, or out of memory");
    for (size_t i = 0; i < j.count; i++)
        free(j.texts[i]);
    free(j.texts);
    free(j.out);
    model_close(j.m);
    return fine ? 0 : 1;
}
