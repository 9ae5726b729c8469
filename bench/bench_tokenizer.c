/* Tokenizes the texts of a file and says how fast, on one thread:
 *
 *   bench_tokenizer [option=value]... TEXTS MODEL...
 *
 * TEXTS is a file with a text a line or, where its name ends in .jsonl, with a
 * JSON object that has a "text" a line. MODEL is a directory with a
 * tokenizer.json. Options: texts (at most), tokens (kept of a text, at most; the
 * rest is not looked at), rounds (the quickest counts), ids=1 (print the ids of each
 * text, a line of them a text, and measure nothing). Standard output gets one line
 * of JSON: megabytes (10^6 bytes) of text a second of processor time, for
 * each MODEL, and a checksum (FNV-1a, 64 bits, of all ids as little-endian
 * 32-bit integers) by which the ids can be compared with another program's. */
#include "model/tokenizer.h"
#include "bench/numbers.h"
#include "bench/texts.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* No vocabulary has more rows. */
enum { VOCAB_MAX = 1 << 22 };

typedef struct bench {
    char **texts; /* owned */
    size_t *lengths;
    size_t count, bytes;
    size_t texts_max, tokens_max, rounds, ids;
} bench;

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool add_text(void *context, const char *text, size_t length)
{
    bench *b = context;
    if (b->count % 1024 == 0) {
        char **texts = realloc(b->texts, (b->count + 1024) * sizeof *texts);
        b->texts = texts != NULL ? texts : b->texts;
        size_t *lengths = realloc(b->lengths, (b->count + 1024) * sizeof *lengths);
        b->lengths = lengths != NULL ? lengths : b->lengths;
        if (texts == NULL || lengths == NULL)
            return false;
    }
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, text, length);
    b->lengths[b->count] = length;
    b->texts[b->count++] = copy;
    b->bytes += length;
    return true;
}

static uint64_t checksum(const token_batch *batch)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < batch->tokens; i++)
        for (unsigned shift = 0; shift < 32; shift += 8)
            hash = (hash ^ ((uint32_t)batch->ids[i] >> shift & 0xFF)) * UINT64_C(0x100000001B3);
    return hash;
}

/* One line's part about one model; false with err filled. */
static bool measure(const bench *b, const char *dir, sem_error *err)
{
    tokenizer *t = NULL;
    token_batch batch = {.ids = NULL};
    double best = 0;
    bool fine = tokenizer_open(&t, dir, VOCAB_MAX, err) == SEM_OK;
    for (size_t round = 0; fine && round < b->rounds; round++) {
        token_batch_clear(&batch);
        double from = thread_seconds();
        for (size_t i = 0; fine && i < b->count; i++)
            fine = tokenizer_encode(t, b->texts[i], b->lengths[i], b->tokens_max, &batch, NULL, err) == SEM_OK;
        double took = thread_seconds() - from;
        best = round == 0 || took < best ? took : best;
    }
    if (fine) {
        json_t *name = json_string(dir);
        char *quoted = json_dumps(name, JSON_ENCODE_ANY);
        printf("{\"model\": %s, \"mb_per_s\": %.1f, \"texts_per_s\": %.0f, \"tokens\": %zu, \"checksum\": \"%016llx\"}",
               quoted != NULL ? quoted : "null", 1e-6 * (double)b->bytes / best, (double)b->count / best, batch.tokens,
               (unsigned long long)checksum(&batch));
        free(quoted);
        json_decref(name);
    }
    token_batch_free(&batch);
    tokenizer_close(t);
    return fine;
}

/* The ids of each text, a line a text. */
static bool print_ids(const bench *b, const char *dir, sem_error *err)
{
    tokenizer *t = NULL;
    token_batch batch = {.ids = NULL};
    bool fine = tokenizer_open(&t, dir, VOCAB_MAX, err) == SEM_OK;
    for (size_t i = 0; fine && i < b->count; i++) {
        token_batch_clear(&batch);
        fine = tokenizer_encode(t, b->texts[i], b->lengths[i], b->tokens_max, &batch, NULL, err) == SEM_OK;
        for (size_t j = 0; fine && j < batch.tokens; j++)
            printf(j == 0 ? "%d" : " %d", batch.ids[j]);
        printf("\n");
    }
    token_batch_free(&batch);
    tokenizer_close(t);
    return fine;
}

static bool set_option(bench *b, const char *argument)
{
    const number_option numbers[] = {{"texts=", &b->texts_max, 1, SIZE_MAX},
                                     {"tokens=", &b->tokens_max, 1, SIZE_MAX},
                                     {"rounds=", &b->rounds, 1, SIZE_MAX},
                                     {"ids=", &b->ids, 1, SIZE_MAX}};
    return numbers_set(numbers, sizeof numbers / sizeof *numbers, argument) == NUMBER_SET;
}

int main(int argc, char **argv)
{
    bench b = {.texts_max = 100000000, .tokens_max = 100000000, .rounds = 5};
    sem_error err = {.message = "no texts, or out of memory"};
    int first = 1;
    bool fine = true;
    while (fine && first < argc && strchr(argv[first], '=') != NULL)
        fine = set_option(&b, argv[first++]);
    if (!fine || argc - first < 2) {
        fprintf(stderr, "usage: bench_tokenizer [option=value]... TEXTS MODEL... (options in the file's head)\n");
        return 2;
    }
    fine = texts_read(argv[first], b.texts_max, add_text, &b);
    if (fine && b.ids == 0)
        printf("{\"texts\": %zu, \"bytes\": %zu, \"tokenizers\": [", b.count, b.bytes);
    for (int i = first + 1; fine && i < argc; i++) {
        if (b.ids != 0) {
            fine = print_ids(&b, argv[i], &err);
            continue;
        }
        printf(i > first + 1 ? ", " : "");
        fine = measure(&b, argv[i], &err);
    }
    if (fine && b.ids == 0)
        printf("]}\n");
    if (!fine)
        fprintf(stderr, "bench_tokenizer: %s\n", err.message);
    for (size_t i = 0; i < b.count; i++)
        free(b.texts[i]);
    free(b.texts);
    free(b.lengths);
    return fine ? 0 : 1;
}
