/* What share of the machine's own peak the encoder's matrix products reach.
 *
 *   bench_peak [rows=256] [hidden=384] [intermediate=1536] [seconds=2]
 *
 * The peak of a precision is that of a loop of the same instructions that the
 * product's kernel uses, on registers alone. The products are those with the four
 * matrices of a layer (rows are tokens of a batch). "share" is that of the products
 * alone; "with_rows" counts the time in which rows are rotated and rounded as well.
 * Peak and products run in turn on one thread, in windows of a few milliseconds of
 * its processor time, and the quickest of each counts. SEMD_SIMD forces a level.
 * Standard output gets a line of JSON for each precision that the level is fast in. */
#include "model/kernels.h"
#include "model/packed_levels.h"
#include "model/processor.h"
#include "bench/numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MATRICES = 4, LAYERS = 6, WINDOW_US = 3000 };

typedef struct bench {
    size_t rows, hidden, intermediate, seconds;
    const char *level;
    packed *matrices[LAYERS * MATRICES];
    float *x, *y, *space;
} bench;

typedef struct shape {
    size_t n, k;
} shape;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- the peak */

/* So many independent sums keep every multiplier busy, whatever its latency. */
enum { SUMS = 12 };

#define REPEAT(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

#if defined(__x86_64__)
#define CLOBBERED(BITS)                                                                                                \
    BITS "0", BITS "1", BITS "2", BITS "3", BITS "4", BITS "5", BITS "6", BITS "7", BITS "8", BITS "9", BITS "10",     \
        BITS "11", BITS "12", BITS "13", BITS "14", BITS "15"
#define ONE_512(NAME, r) #NAME " %%zmm12, %%zmm13, %%zmm" #r "\n\t"
#define FLOAT32_512(r)   ONE_512(vfmadd231ps, r)
#define BFLOAT16_512(r)  ONE_512(vdpbf16ps, r)
#define INT8_512(r)      ONE_512(vpdpbusd, r)
#define FLOAT32_256(r)   "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #r "\n\t"
#define INT8_256(r)                                                                                                    \
    "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n\t"                                                                         \
    "vpmaddwd %%ymm12, %%ymm14, %%ymm14\n\t"                                                                           \
    "vpaddd %%ymm14, %%ymm" #r ", %%ymm" #r "\n\t"

#define VNNI_VEX(r)  "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #r "\n\t"
#define VNNI_EVEX(r) "%{evex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #r "\n\t"

/* The upper registers are not touched, so that what the compiler knows of them holds. */
#define PEAK(NAME, TARGET, BITS, INSTRUCTION)                                                                          \
    __attribute__((target(TARGET))) static void NAME(size_t rounds)                                                    \
    {                                                                                                                  \
        __asm__ volatile("vpxor %%xmm12, %%xmm12, %%xmm12\n\tvpxor %%xmm13, %%xmm13, %%xmm13\n\t" ::                   \
                             : "xmm12", "xmm13");                                                                      \
        for (size_t i = 0; i < rounds; i++)                                                                            \
            __asm__ volatile(REPEAT(INSTRUCTION)::: CLOBBERED(BITS));                                                  \
    }

PEAK(float32_512, "avx512f", "xmm", FLOAT32_512)
PEAK(bfloat16_512, "avx512f,avx512bf16", "xmm", BFLOAT16_512)
PEAK(int8_512, "avx512f,avx512vnni", "xmm", INT8_512)
PEAK(float32_256, "avx2,fma", "xmm", FLOAT32_256)
PEAK(int8_256, "avx2,fma", "xmm", INT8_256)
PEAK(vnni_vex, "avx2,fma", "xmm", VNNI_VEX)
PEAK(vnni_evex, "avx2,fma", "xmm", VNNI_EVEX)

/* The loop of a level and a precision, NULL where it has none; operations that one of its instructions does. */
static void (*peak_loop(const char *level, packed_precision precision, double *operations))(size_t)
{
    static void (*const wide[PACKED_PRECISIONS])(size_t) = {float32_512, bfloat16_512, int8_512};
    static void (*const narrow[PACKED_PRECISIONS])(size_t) = {float32_256, NULL, int8_256};
    const bool is_wide = strcmp(level, "avx512") == 0;
    if (precision == PACKED_BFLOAT16 && !processor_has_quick_bf16())
        precision = PACKED_FLOAT32; /* its products are made of these */
    *operations = 2.0 * (is_wide ? 16 : 8) * (1 << precision);
    if (is_wide)
        return wide[precision];
    if (strcmp(level, "avxvnni") == 0 && precision == PACKED_INT8)
        return processor_has_avxvnni() ? vnni_vex : vnni_evex;
    return strncmp(level, "avx", 3) == 0 ? narrow[precision] : NULL;
}
#else
static void (*peak_loop(const char *level, packed_precision precision, double *operations))(size_t)
{
    (void)level;
    (void)precision;
    *operations = 0;
    return NULL;
}
#endif

/* GFLOP/s of one window. */
static double run_peak(void (*loop)(size_t), double operations)
{
    enum { ROUNDS = 20000 };
    double from = cpu_seconds(), took = 0, done = 0;
    while (took < 1e-6 * WINDOW_US) {
        loop(ROUNDS);
        done += ROUNDS * SUMS * operations;
        took = cpu_seconds() - from;
    }
    return done / took * 1e-9;
}

/* --- the products */

static shape shape_of(const bench *b, size_t i)
{
    const size_t H = b->hidden, F = b->intermediate;
    const shape shapes[MATRICES] = {{3 * H, H}, {H, H}, {F, H}, {H, F}};
    return shapes[i % MATRICES];
}

static bool pack(bench *b, packed_precision precision, const float *weight)
{
    sem_error err;
    const packed_kernels level = packed_choose(b->level);
    for (size_t i = 0; i < LAYERS * MATRICES; i++) {
        shape s = shape_of(b, i);
        if (packed_create(&b->matrices[i], &level, precision, s.n, s.k, weight, NULL, &err) != SEM_OK)
            return false;
    }
    return true;
}

static void unpack(bench *b)
{
    for (size_t i = 0; i < LAYERS * MATRICES; i++) {
        packed_destroy(b->matrices[i]);
        b->matrices[i] = NULL;
    }
}

/* Seconds, or GFLOP/s: of the products alone, and with the rounding of their rows. */
typedef struct figures {
    double products, with_rows;
} figures;

/* Seconds of matrix i. */
static figures run_product(const bench *b, size_t i)
{
    const packed *p = b->matrices[i];
    const shape s = shape_of(b, i);
    packed_rows block;
    figures took = {0};
    double from = cpu_seconds();
    for (size_t r = 0; r < b->rows; r += PACKED_BLOCK_ROWS) {
        size_t count = b->rows - r < PACKED_BLOCK_ROWS ? b->rows - r : PACKED_BLOCK_ROWS;
        const float *x = b->x + r * s.k;
        if (packed_rows_begin(p, &block, count, x, b->space))
            packed_convert(p, &block, x, 0, count);
        double converted = cpu_seconds();
        packed_multiply_panels(p, &block, 0, packed_panels(p), packed_panels(p), b->y + r * s.n);
        took.products += cpu_seconds() - converted;
    }
    took.with_rows = cpu_seconds() - from;
    return took;
}

static void keep_least(double *least, double found)
{
    *least = found < *least ? found : *least;
}

/* The quickest of many runs of each of the four shapes, added up, as GFLOP/s. The
 * layers' matrices come in turn, as they do in the encoder, and not from the cache. */
static bool measure(bench *b, packed_precision precision, double *peak, figures *reached)
{
    figures least[MATRICES], took = {0};
    double operations, done = 0, end = cpu_seconds() + (double)b->seconds;
    void (*loop)(size_t) = peak_loop(b->level, precision, &operations);
    if (loop == NULL)
        return false;
    for (size_t i = 0; i < MATRICES; i++)
        least[i] = (figures){1e9, 1e9};
    *peak = 0;
    while (cpu_seconds() < end) {
        double now = run_peak(loop, operations);
        *peak = now > *peak ? now : *peak;
        for (size_t i = 0; i < LAYERS * MATRICES; i++) {
            figures t = run_product(b, i);
            keep_least(&least[i % MATRICES].products, t.products);
            keep_least(&least[i % MATRICES].with_rows, t.with_rows);
        }
    }
    for (size_t i = 0; i < MATRICES; i++) {
        took.products += least[i].products;
        took.with_rows += least[i].with_rows;
        done += 2e-9 * (double)(b->rows * shape_of(b, i).n * shape_of(b, i).k);
    }
    *reached = (figures){done / took.products, done / took.with_rows};
    return true;
}

/* --- the program */

static bool set_option(bench *b, const char *argument)
{
    const number_option numbers[] = {{"rows=", &b->rows, 1, 4096},
                                     {"hidden=", &b->hidden, 1, 8192},
                                     {"intermediate=", &b->intermediate, 1, 32768},
                                     {"seconds=", &b->seconds, 1, 600}};
    return numbers_set(numbers, sizeof numbers / sizeof *numbers, argument) == NUMBER_SET;
}

/* Values between -1 and 1 of which no two neighbours are alike. */
static float *values(size_t n)
{
    float *out = malloc(n * sizeof *out);
    for (size_t i = 0; out != NULL && i < n; i++)
        out[i] = (float)(i * 2654435761U % 2000) / 1000 - 1;
    return out;
}

static bool run_all(bench *b, const float *weight)
{
    const packed_kernels level = packed_choose(b->level);
    for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
        double peak;
        figures reached;
        if (!packed_is_fast(&level, p) && strcmp(b->level, "avx512") != 0)
            continue;
        if (!pack(b, p, weight))
            return false;
        if (measure(b, p, &peak, &reached))
            printf("{\"precision\": \"%s\", \"level\": \"%s\", \"peak_gflops\": %.1f, \"reached_gflops\": %.1f, "
                   "\"share\": %.3f, \"with_rows\": %.3f}\n",
                   packed_precision_name(p), b->level, peak, reached.products, reached.products / peak,
                   reached.with_rows / peak);
        unpack(b);
    }
    return true;
}

int main(int argc, char **argv)
{
    bench b = {.rows = 256, .hidden = 384, .intermediate = 1536, .seconds = 2};
    for (int i = 1; i < argc; i++) {
        if (!set_option(&b, argv[i])) {
            fprintf(stderr, "usage: bench_peak [option=value]... (options in the file's head)\n");
            return 2;
        }
    }
    const kernels *k;
    sem_error err = {0};
    if (kernels_choose(&k, &err) != SEM_OK) {
        fprintf(stderr, "bench_peak: %s\n", err.message);
        return 1;
    }
    b.level = k->name;
    const size_t H = b.hidden, F = b.intermediate, most = 3 * H > F ? 3 * H : F, k_most = H > F ? H : F;
    float *weight = values(H * most);
    b.x = values(b.rows * k_most);
    b.y = values(b.rows * most);
    b.space = malloc(packed_space(k_most) * sizeof *b.space);
    bool fine = weight != NULL && b.x != NULL && b.y != NULL && b.space != NULL && run_all(&b, weight);
    if (!fine)
        fprintf(stderr, "bench_peak: out of memory\n");
    unpack(&b);
    free(weight);
    free(b.x);
    free(b.y);
    free(b.space);
    return fine ? 0 : 1;
}
