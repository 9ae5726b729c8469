#include "index/codes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET      __attribute__((target("avx2")))
#define CODE_TARGET TARGET
#include "index/code_encoding.h"
/* A lane may be written while its block is read: see the generic level. */
#define INLINE TARGET __attribute__((always_inline, no_sanitize("thread"))) static inline

enum { EIGHT = 8 }; /* floats in a register */

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

/* What four tables have for the four bytes of eight lanes, by four bits of each. A byte with its highest
 * bit set is looked up as zero. */
INLINE __m256i look_up(__m256i nibbles, const uint8_t *tables)
{
    __m256i found = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int byte = 0; byte < 4; byte++) {
        __m256i others = _mm256_set1_epi32((int)(0x80808080u & ~(0xffu << 8 * byte)));
        __m256i table =
            _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)(tables + 16 * byte)));
        found = _mm256_or_si256(found, _mm256_shuffle_epi8(table, _mm256_or_si256(nibbles, others)));
    }
    return found;
}

/* What is looked up for eight lanes, added up: in pairs of bytes first, which 16 bits have room
 * for over some lines. */
INLINE __m256i sum_eight(const code_query *q, const uint8_t *block, size_t half)
{
    enum { PIECE = 32 };
    const __m256i low = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    for (size_t from = 0; from < q->lines; from += PIECE) {
        size_t to = q->lines - from < PIECE ? q->lines : from + PIECE;
        __m256i pairs = _mm256_setzero_si256();
        for (size_t line = from; line < to; line++) {
            __m256i x = _mm256_load_si256((const __m256i *)(const void *)(block + line * CODES_LINE) + half);
            const uint8_t *t = q->tables + line * CODES_TABLES;
            __m256i lower = look_up(_mm256_and_si256(x, low), t);
            __m256i upper = look_up(_mm256_and_si256(_mm256_srli_epi32(x, 4), low), t + CODES_LINE);
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(lower, one));
            pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(upper, one));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    return sum;
}

/* Across the ends of runs: more at once than the processor has places for would wait for each
 * other. */
INLINE void fetch_ahead(const code_run *run, size_t b, size_t size)
{
    enum { AHEAD = 1 };
    const uint8_t *ahead = run->blocks + (b + AHEAD) * size;
    if (b + AHEAD >= run->count && run->next != NULL)
        ahead = run->next + (b + AHEAD - run->count) * size;
    for (size_t i = 0; i + CODES_LINE < size; i += CODES_LINE) /* but for the rows */
        __builtin_prefetch(ahead + i);
}

/* Of eight lanes of a block. */
INLINE size_t scan_eight(const code_query *q, const code_run *run, size_t b, size_t half, float threshold,
                         code_candidate *out)
{
    const uint8_t *block = run->blocks + b * codes_block_size(q->lines);
    const code_tail *tail = codes_tail(block, q->lines);
    const __m128i *factors = (const __m128i *)(const void *)tail->factor;
    __m256 factor = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_load_si128(factors + half)), 16));
    __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(sum_eight(q, block, half)), _mm256_set1_ps(q->per_sum));
    t = _mm256_add_ps(t, _mm256_set1_ps(q->rest));
    t = _mm256_mul_ps(t, factor);
    t = _mm256_add_ps(t, _mm256_load_ps(tail->offset + EIGHT * half));
    t = _mm256_add_ps(t, _mm256_set1_ps(run->base));
    unsigned passed = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(t, _mm256_set1_ps(threshold), _CMP_GE_OQ));
    size_t found = 0;
    float scores[EIGHT];
    _mm256_storeu_ps(scores, t);
    for (; passed != 0; passed &= passed - 1) {
        unsigned lane = (unsigned)__builtin_ctz(passed);
        uint32_t place = run->first_place + (uint32_t)(b * CODES_LANES + EIGHT * half + lane);
        out[found++] = (code_candidate){.place = place, .score = scores[lane]};
    }
    return found;
}

TARGET __attribute__((no_sanitize("thread"))) static size_t scan(const code_query *q, const code_run *run,
                                                                 float threshold, code_candidate *out)
{
    size_t found = 0, size = codes_block_size(q->lines);
    for (size_t b = 0; b < run->count; b++) {
        fetch_ahead(run, b, size);
        for (size_t half = 0; half < CODES_LANES / EIGHT; half++)
            found += scan_eight(q, run, b, half, threshold, out + found);
    }
    return found;
}

/* Without VNNI the products of bytes would not fit where vpmaddubsw adds pairs of
 * them, so both are widened first. */
TARGET static int32_t one_row(const int8_t *query, const uint8_t *row, size_t width)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < width; i += CODES_LINE / 2) {
        const __m128i *q = (const __m128i *)(const void *)(query + i), *r = (const __m128i *)(const void *)(row + i);
        a = _mm256_add_epi32(
            a, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_load_si128(q)), _mm256_cvtepu8_epi16(_mm_load_si128(r))));
        b = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_load_si128(q + 1)),
                                                  _mm256_cvtepu8_epi16(_mm_load_si128(r + 1))));
    }
    a = _mm256_add_epi32(a, b);
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

TARGET static void bytes(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    for (size_t r = 0; r < count; r++)
        sums[r] = one_row(query, rows[r], width);
}

/* Pairs of products of 127 by 15 fit into 16 bits, and so do four of them. */
TARGET static int32_t one_row_of_nibbles(const int8_t *query, const uint8_t *row, size_t width)
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < width; i += CODES_LINE / 2) {
        const int8_t *q = query + i / CODES_LINE * 2 * CODES_LINE + i % CODES_LINE;
        __m256i x = _mm256_load_si256((const __m256i *)(const void *)(row + i));
        __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(x, low), _mm256_load_si256((const __m256i *)(const void *)q));
        __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(x, 4), low),
                                         _mm256_load_si256((const __m256i *)(const void *)(q + CODES_LINE)));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(a, b), ones));
    }
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

TARGET static void nibbles(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    for (size_t r = 0; r < count; r++)
        sums[r] = one_row_of_nibbles(query, rows[r], width);
}

/* The scores of four candidates and, between them, places. */
INLINE __m256 load_four(const code_candidate *c)
{
    return _mm256_loadu_ps((const float *)(const void *)c);
}

enum { SCORES = 0xaa };

TARGET static size_t count_candidates(const code_candidate *c, size_t count, float least)
{
    const __m256 bound = _mm256_set1_ps(least);
    size_t able = 0, i = 0;
    for (; i + 4 <= count; i += 4) {
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(load_four(c + i), bound, _CMP_GE_OQ));
        able += (size_t)__builtin_popcount(mask & SCORES);
    }
    return able + code_generic.count(c + i, count - i, least);
}

TARGET static void range(const code_candidate *c, size_t count, float *low, float *high)
{
    __m256 least = _mm256_set1_ps(c[0].score), most = least;
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        __m256 x = load_four(c + i);
        least = _mm256_blend_ps(least, _mm256_min_ps(x, least), SCORES);
        most = _mm256_blend_ps(most, _mm256_max_ps(x, most), SCORES);
    }
    code_candidate ends[8]; /* of four each */
    _mm256_storeu_ps((float *)(void *)ends, least);
    _mm256_storeu_ps((float *)(void *)(ends + 4), most);
    float rest_low = c[0].score, rest_high = rest_low, low_of_four, high_of_four;
    if (i < count)
        code_generic.range(c + i, count - i, &rest_low, &rest_high);
    code_generic.range(ends, 8, &low_of_four, &high_of_four);
    *low = rest_low < low_of_four ? rest_low : low_of_four;
    *high = rest_high > high_of_four ? rest_high : high_of_four;
}

/* AVX2 has nothing that moves the chosen ones together. */
static size_t gather(code_candidate *c, size_t count, float least)
{
    return code_generic.gather(c, count, least);
}

const code_kernel code_avx2 = {.name = "avx2",
                               .scan = scan,
                               .bytes = bytes,
                               .nibbles = nibbles,
                               .count = count_candidates,
                               .range = range,
                               .gather = gather,
                               .residual = code_residual,
                               .to_nibbles = code_nibbles_of,
                               .available = has_avx2};

#else

static bool never(void)
{
    return false;
}

const code_kernel code_avx2 = {.name = "avx2", .available = never};

#endif
