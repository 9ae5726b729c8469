#include "index/codes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET      __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2")))
#define CODE_TARGET TARGET
#include "index/code_encoding.h"
/* A lane may be written while its block is read: see the generic level. */
#define INLINE TARGET __attribute__((always_inline, no_sanitize("thread"))) static inline

static bool has_all(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
}

/* What is looked up for sixteen lanes, added up. The bytes of a lane choose among four tables in one
 * register, so each says which is its own. */
INLINE __m512i sum_block(const uint8_t *tables, const uint8_t *block, size_t lines)
{
    enum { AND_OR = 0xea };
    const __m512i low = _mm512_set1_epi8(15), own = _mm512_set1_epi32(0x30201000), one = _mm512_set1_epi8(1);
    __m512i lower = _mm512_setzero_si512(), upper = lower;
#pragma GCC unroll 12
    for (size_t line = 0; line < lines; line++) {
        __m512i x = _mm512_load_si512(block + line * CODES_LINE), y = _mm512_srli_epi32(x, 4);
        const uint8_t *t = tables + line * CODES_TABLES;
        x = _mm512_permutexvar_epi8(_mm512_ternarylogic_epi32(x, low, own, AND_OR), _mm512_load_si512(t));
        y = _mm512_permutexvar_epi8(_mm512_ternarylogic_epi32(y, low, own, AND_OR), _mm512_load_si512(t + CODES_LINE));
        lower = _mm512_dpbusd_epi32(lower, x, one);
        upper = _mm512_dpbusd_epi32(upper, y, one);
    }
    return _mm512_add_epi32(lower, upper);
}

/* Across the ends of runs. Far ahead every second line, since the processor fetches lines
 * in pairs: it has few places for lines on their way. The line of rows is not asked for. */
INLINE void fetch_ahead(const code_run *run, size_t b, size_t size)
{
    enum { NEAR = 1, FAR = 3 };
    const uint8_t *near = run->blocks + (b + NEAR) * size, *far = run->blocks + (b + FAR) * size;
    if (run->next != NULL && b + FAR >= run->count) {
        far = run->next + (b + FAR - run->count) * size;
        if (b + NEAR >= run->count)
            near = run->next;
    }
#pragma GCC unroll 7
    for (size_t i = 0; i + CODES_LINE < size; i += 2 * CODES_LINE) {
        __builtin_prefetch(far + i);
        __builtin_prefetch(near + i + CODES_LINE);
    }
}

/* Appends eight of a block's lanes, where they passed; returns how many. */
INLINE size_t append_eight(__mmask8 passed, __m256i places, __m256i scores, code_candidate *out)
{
    __m512i pairs =
        _mm512_or_si512(_mm512_cvtepu32_epi64(places), _mm512_slli_epi64(_mm512_cvtepu32_epi64(scores), 32));
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi64(passed, pairs));
    return (size_t)__builtin_popcount(passed);
}

INLINE __m512 halves_of_floats(const uint16_t *upper)
{
    __m256i halves = _mm256_load_si256((const __m256i *)(const void *)upper);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

INLINE size_t scan_lines(const code_query *q, size_t lines, const code_run *run, float threshold, code_candidate *out)
{
    size_t found = 0, size = codes_block_size(lines);
    const __m512 per_sum = _mm512_set1_ps(q->per_sum), rest = _mm512_set1_ps(q->rest);
    const __m512 bases = _mm512_set1_ps(run->base), least = _mm512_set1_ps(threshold);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (size_t b = 0; b < run->count; b++) {
        const uint8_t *block = run->blocks + b * size;
        fetch_ahead(run, b, size);
        const code_tail *tail = codes_tail(block, lines);
        __m512 t = _mm512_mul_ps(_mm512_cvtepi32_ps(sum_block(q->tables, block, lines)), per_sum);
        t = _mm512_add_ps(t, rest);
        t = _mm512_mul_ps(t, halves_of_floats(tail->factor));
        t = _mm512_add_ps(t, _mm512_load_ps(tail->offset));
        t = _mm512_add_ps(t, bases);
        __mmask16 passed = _mm512_cmp_ps_mask(t, least, _CMP_GE_OQ);
        if (passed == 0)
            continue;
        __m512i places =
            _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(run->first_place + (uint32_t)b * CODES_LANES)));
        __m512i scores = _mm512_castps_si512(t);
        found +=
            append_eight((__mmask8)passed, _mm512_castsi512_si256(places), _mm512_castsi512_si256(scores), out + found);
        found += append_eight((__mmask8)(passed >> 8), _mm512_extracti64x4_epi64(places, 1),
                              _mm512_extracti64x4_epi64(scores, 1), out + found);
    }
    return found;
}

/* With the number of lines known there is no loop over them. */
TARGET __attribute__((no_sanitize("thread"))) static size_t scan(const code_query *q, const code_run *run,
                                                                 float threshold, code_candidate *out)
{
    enum { LINES_OF_384 = 12 };
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
