#include "index/codes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET      __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vpopcntdq,avx2")))
#define CODE_TARGET TARGET
#include "index/code_encoding.h"
/* A lane may be written while its block is read: see the generic level. */
#define INLINE TARGET __attribute__((always_inline, no_sanitize("thread"))) static inline

static bool has_all(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
}

/* Σ of the planes for eight lanes. */
INLINE __m256i sum_block(const uint64_t *planes, const uint8_t *block, size_t lines)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
#pragma GCC unroll 6
    for (size_t line = 0; line < lines; line++) {
        __m512i x = _mm512_load_si512(block + line * CODES_LINE);
        const long long *p = (const long long *)planes + line * CODES_PLANES;
        s0 = _mm512_add_epi64(s0, _mm512_popcnt_epi64(_mm512_and_si512(x, _mm512_set1_epi64(p[0]))));
        s1 = _mm512_add_epi64(s1, _mm512_popcnt_epi64(_mm512_and_si512(x, _mm512_set1_epi64(p[1]))));
        s2 = _mm512_add_epi64(s2, _mm512_popcnt_epi64(_mm512_and_si512(x, _mm512_set1_epi64(p[2]))));
        s3 = _mm512_add_epi64(s3, _mm512_popcnt_epi64(_mm512_and_si512(x, _mm512_set1_epi64(p[3]))));
    }
    s0 = _mm512_add_epi64(s0, _mm512_slli_epi64(s1, 1));
    s2 = _mm512_add_epi64(s2, _mm512_slli_epi64(s3, 1));
    return _mm512_cvtepi64_epi32(_mm512_add_epi64(s0, _mm512_slli_epi64(s2, 2)));
}

/* Across the ends of runs. Far ahead every second line, since the processor fetches lines
 * in pairs: it has few places for lines on their way. */
INLINE void fetch_ahead(const code_run *run, size_t b, size_t size)
{
    enum { NEAR = 1, FAR = 6 };
    const uint8_t *near = run->blocks + (b + NEAR) * size, *far = run->blocks + (b + FAR) * size;
    if (run->next != NULL && b + FAR >= run->count) {
        far = run->next + (b + FAR - run->count) * size;
        if (b + NEAR >= run->count)
            near = run->next;
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < size; i += 2 * CODES_LINE) {
        __builtin_prefetch(far + i);
        __builtin_prefetch(near + i + CODES_LINE);
    }
}

INLINE size_t scan_lines(const code_query *q, size_t lines, const code_run *run, float threshold, code_candidate *out)
{
    size_t found = 0, size = codes_block_size(lines);
    const __m256 per_one = _mm256_set1_ps(q->per_one), per_sum = _mm256_set1_ps(q->per_sum);
    const __m256 rest = _mm256_set1_ps(q->rest), bases = _mm256_set1_ps(run->base), least = _mm256_set1_ps(threshold);
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    for (size_t b = 0; b < run->count; b++) {
        const uint8_t *block = run->blocks + b * size;
        fetch_ahead(run, b, size);
        const code_tail *tail = codes_tail(block, lines);
        __m256 score = _mm256_cvtepi32_ps(sum_block(q->planes, block, lines));
        __m256i ones = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)tail->ones));
        __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(ones), per_one);
        t = _mm256_add_ps(t, _mm256_mul_ps(score, per_sum));
        t = _mm256_add_ps(t, rest);
        t = _mm256_mul_ps(t, _mm256_load_ps(tail->factor));
        t = _mm256_add_ps(t, _mm256_load_ps(tail->offset));
        t = _mm256_add_ps(t, bases);
        __mmask8 passed = _mm256_cmp_ps_mask(t, least, _CMP_GE_OQ);
        if (passed == 0)
            continue;
        __m256i places =
            _mm256_add_epi32(lanes, _mm256_set1_epi32((int)(run->first_place + (uint32_t)b * CODES_LANES)));
        __m512i pairs = _mm512_or_si512(_mm512_cvtepu32_epi64(places),
                                        _mm512_slli_epi64(_mm512_cvtepu32_epi64(_mm256_castps_si256(t)), 32));
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi64(passed, pairs));
        found += (size_t)__builtin_popcount(passed);
    }
    return found;
}

/* With the number of lines known the planes of a query stay in registers. */
TARGET __attribute__((no_sanitize("thread"))) static size_t scan(const code_query *q, const code_run *run,
                                                                 float threshold, code_candidate *out)
{
    enum { LINES_OF_384 = 6 };
    if (q->lines == LINES_OF_384)
        return scan_lines(q, LINES_OF_384, run, threshold, out);
    return scan_lines(q, q->lines, run, threshold, out);
}

INLINE int32_t sum_of(__m512i sixteen)
{
    return _mm512_reduce_add_epi32(sixteen);
}

/* Four sums of sixteen at once: transposed while they shrink. */
INLINE void store_four(__m512i s0, __m512i s1, __m512i s2, __m512i s3, int32_t *sums)
{
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(s0, s1), _mm512_unpackhi_epi32(s0, s1));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(s2, s3), _mm512_unpackhi_epi32(s2, s3));
    __m512i c = _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    __m256i d = _mm256_add_epi32(_mm512_castsi512_si256(c), _mm512_extracti64x4_epi64(c, 1));
    __m128i e = _mm_add_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
    _mm_storeu_si128((__m128i *)(void *)sums, e);
}

TARGET static void four_rows(const int8_t *query, const uint8_t *const *rows, size_t width, int32_t *sums)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < width; i += CODES_LINE) {
        __m512i x = _mm512_load_si512(query + i);
        s0 = _mm512_dpbusd_epi32(s0, _mm512_load_si512(rows[0] + i), x);
        s1 = _mm512_dpbusd_epi32(s1, _mm512_load_si512(rows[1] + i), x);
        s2 = _mm512_dpbusd_epi32(s2, _mm512_load_si512(rows[2] + i), x);
        s3 = _mm512_dpbusd_epi32(s3, _mm512_load_si512(rows[3] + i), x);
    }
    store_four(s0, s1, s2, s3, sums);
}

TARGET static void bytes(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    size_t r = 0;
    for (; r + 4 <= count; r += 4)
        four_rows(query, rows + r, width, sums + r);
    for (; r < count; r++) {
        __m512i s = _mm512_setzero_si512();
        for (size_t i = 0; i < width; i += CODES_LINE)
            s = _mm512_dpbusd_epi32(s, _mm512_load_si512(rows[r] + i), _mm512_load_si512(query + i));
        sums[r] = sum_of(s);
    }
}

/* Adds a line's 128 products. */
INLINE __m512i add_nibbles(__m512i sum, const uint8_t *line, const int8_t *query)
{
    const __m512i low = _mm512_set1_epi8(15);
    __m512i x = _mm512_load_si512(line);
    sum = _mm512_dpbusd_epi32(sum, _mm512_and_si512(x, low), _mm512_load_si512(query));
    return _mm512_dpbusd_epi32(sum, _mm512_and_si512(_mm512_srli_epi16(x, 4), low),
                               _mm512_load_si512(query + CODES_LINE));
}

TARGET static void nibbles(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    size_t r = 0;
    for (; r + 4 <= count; r += 4) {
        __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;
        for (size_t i = 0; i < width; i += CODES_LINE) {
            s0 = add_nibbles(s0, rows[r] + i, query + 2 * i);
            s1 = add_nibbles(s1, rows[r + 1] + i, query + 2 * i);
            s2 = add_nibbles(s2, rows[r + 2] + i, query + 2 * i);
            s3 = add_nibbles(s3, rows[r + 3] + i, query + 2 * i);
        }
        store_four(s0, s1, s2, s3, sums + r);
    }
    for (; r < count; r++) {
        __m512i s = _mm512_setzero_si512();
        for (size_t i = 0; i < width; i += CODES_LINE)
            s = add_nibbles(s, rows[r] + i, query + 2 * i);
        sums[r] = sum_of(s);
    }
}

/* Every second of sixteen floats is a score, the others are places. */
enum { SCORES = 0xaaaa, EIGHT = 8 };

INLINE __mmask16 scores_of(size_t count)
{
    return count >= EIGHT ? SCORES : (__mmask16)(SCORES & ((1u << 2 * count) - 1));
}

TARGET static size_t count_candidates(const code_candidate *c, size_t count, float least)
{
    const __m512 bound = _mm512_set1_ps(least);
    size_t able = 0;
    for (size_t i = 0; i < count; i += EIGHT) {
        __mmask16 scores = scores_of(count - i);
        __m512 x = _mm512_maskz_loadu_ps(scores, c + i);
        able += (size_t)__builtin_popcount(_mm512_mask_cmp_ps_mask(scores, x, bound, _CMP_GE_OQ));
    }
    return able;
}

TARGET static void range(const code_candidate *c, size_t count, float *low, float *high)
{
    __m512 least = _mm512_set1_ps(c[0].score), most = least;
    for (size_t i = 0; i < count; i += EIGHT) {
        __mmask16 scores = scores_of(count - i);
        __m512 x = _mm512_maskz_loadu_ps(scores, c + i);
        least = _mm512_mask_min_ps(least, scores, x, least);
        most = _mm512_mask_max_ps(most, scores, x, most);
    }
    *low = _mm512_reduce_min_ps(least);
    *high = _mm512_reduce_max_ps(most);
}

TARGET static size_t gather(code_candidate *c, size_t count, float least)
{
    const __m512 bound = _mm512_set1_ps(least);
    size_t at = 0;
    for (size_t i = 0; i < count; i += EIGHT) {
        __mmask16 scores = scores_of(count - i);
        __m512 x = _mm512_maskz_loadu_ps((__mmask16)(scores | scores >> 1), c + i);
        __mmask16 able = _mm512_mask_cmp_ps_mask(scores, x, bound, _CMP_GE_OQ);
        __mmask8 pairs = _mm512_test_epi64_mask(_mm512_maskz_set1_epi32(able, -1), _mm512_set1_epi64(-1));
        __m512i left = _mm512_maskz_compress_epi64(pairs, _mm512_castps_si512(x));
        size_t found = (size_t)__builtin_popcount(pairs);
        _mm512_mask_storeu_epi64(c + at, (__mmask8)((1u << found) - 1), left);
        at += found;
    }
    return at;
}

const code_kernel code_avx512 = {.name = "avx512",
                                 .scan = scan,
                                 .bytes = bytes,
                                 .nibbles = nibbles,
                                 .count = count_candidates,
                                 .range = range,
                                 .gather = gather,
                                 .residual = code_residual,
                                 .to_nibbles = code_nibbles_of,
                                 .available = has_all};

#else

static bool never(void)
{
    return false;
}

const code_kernel code_avx512 = {.name = "avx512", .available = never};

#endif
