/* Times attention alone, one layer of one text, on one thread:
 *
 *   bench_attention [tokens [heads [width [window]]]]
 *
 * Every level of this machine in both precisions, beside training's attention.
 * Thread CPU time, the least of many short runs. */
#include "model/attention_levels.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 400 };

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct bench {
    attention_shape shape;
    size_t n, repeats;
    float *qkv, *context, *space;
} bench;

static void serve(const bench *b, const attention_level *level)
{
    attention_serve(level, &b->shape, b->qkv, b->n, 0, b->shape.heads, b->context, b->space);
}

static void train(const bench *b, const kernels *k)
{
    static const dropout_site none;
    attention_forward(k, &b->shape, b->qkv, b->n, &none, 0, b->context, b->space);
}

static void report(const bench *b, const char *name, double best)
{
    size_t seen = b->shape.window > 0 && 2 * b->shape.window + 1 < b->n ? 2 * b->shape.window + 1 : b->n;
    double tokens = (double)(b->n * b->repeats), flops = 4.0 * (double)(seen * b->shape.hidden) * tokens;
    printf("%-24s %9.1f ns/token %7.1f GFLOP/s\n", name, 1e9 * best / tokens, 1e-9 * flops / best);
}

static void measure(const bench *b, const kernels *k, const attention_level *level)
{
    double best = 1e9;
    for (size_t round = 0; round < ROUNDS; round++) {
        double from = seconds();
        for (size_t i = 0; i < b->repeats; i++) {
            if (level != NULL)
                serve(b, level);
            else
                train(b, k);
        }
        double took = seconds() - from;
        best = took < best ? took : best;
    }
    char name[64];
    snprintf(name, sizeof name, "%s %s", level != NULL ? "serve" : "train", level != NULL ? level->name : k->name);
    report(b, name, best);
}

/* What any level needs. */
static size_t space_of_all(const kernels *const levels[KERNELS_MAX + 1], const bench *b)
{
    size_t space = attention_forward_space(&b->shape, b->n);
    for (size_t i = 0; levels[i] != NULL; i++) {
        const attention_level *both[] = {attention_choose(levels[i]->name, PACKED_FLOAT32),
                                         attention_of_bfloat16(levels[i]->name)};
        for (size_t p = 0; p < 2; p++) {
            size_t needed = attention_space(both[p], &b->shape, b->n);
            space = needed > space ? needed : space;
        }
    }
    return space;
}

static void measure_level(bench *b, const kernels *level)
{
    const attention_level *exact = attention_choose(level->name, PACKED_FLOAT32);
    const attention_level *fast = attention_of_bfloat16(level->name);
    measure(b, level, NULL);
    measure(b, level, exact);
    if (fast != exact)
        measure(b, level, fast);
}

int main(int argc, char **argv)
{
    size_t numbers[4] = {200, 12, 32, 0};
    bool fine = argc <= 5;
    for (int i = 1; fine && i < argc; i++) {
        numbers[i - 1] = strtoul(argv[i], NULL, 10);
        fine = numbers[i - 1] <= 65536 && (numbers[i - 1] > 0 || i == 4); /* only the window may be 0: none */
    }
    if (!fine) {
        fprintf(stderr, "usage: bench_attention [tokens [heads [width [window]]]]\n");
        return 2;
    }
    bench b = {.n = numbers[0]};
    b.shape = (attention_shape){
        .hidden = numbers[1] * numbers[2], .heads = numbers[1], .width = numbers[2], .window = numbers[3]};
    b.repeats = 1 + 1000 / b.n;
    const size_t H = b.shape.hidden;
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    b.qkv = malloc(b.n * 3 * H * sizeof *b.qkv);
    b.context = malloc(b.n * H * sizeof *b.context);
    b.space = malloc(space_of_all(levels, &b) * sizeof *b.space);
    bool there = b.qkv != NULL && b.context != NULL && b.space != NULL;
    if (!there)
        fprintf(stderr, "bench_attention: out of memory\n");
    for (size_t i = 0; there && i < b.n * 3 * H; i++)
        b.qkv[i] = (float)(i * 2654435761U % 65536) / 32768 - 1;
    for (size_t i = 0; there && levels[i] != NULL; i++)
        measure_level(&b, levels[i]);
    free(b.qkv);
    free(b.context);
    free(b.space);
    return there ? 0 : 1;
}
