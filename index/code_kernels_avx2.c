#include "index/codes.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET      __attribute__((target("avx2")))
#define CODE_TARGET TARGET
#include "index/code_encoding.h"
/* A lane may be written while its block is read: see the generic level. */
#define INLINE TARGET __attribute__((always_inline, no_sanitize("thread"))) static inline

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

/* Bits set in each byte, by two look-ups (Muła, Kurz and Lemire 2018, section 2.3). */
INLINE __m256i count_bytes(__m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2,
                                           2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}

/* Weighted counts of a line's four planes: at most 8 * 15 in a byte. */
INLINE __m256i count_planes(__m256i x, const uint64_t *planes)
{
    const long long *p = (const long long *)planes;
    __m256i c0 = count_bytes(_mm256_and_si256(x, _mm256_set1_epi64x(p[0])));
    __m256i c1 = count_bytes(_mm256_and_si256(x, _mm256_set1_epi64x(p[1])));
    __m256i c2 = count_bytes(_mm256_and_si256(x, _mm256_set1_epi64x(p[2])));
    __m256i c3 = count_bytes(_mm256_and_si256(x, _mm256_set1_epi64x(p[3])));
    c3 = _mm256_add_epi8(c2, _mm256_add_epi8(c3, c3));
    c3 = _mm256_add_epi8(c1, _mm256_add_epi8(c3, c3));
    return _mm256_add_epi8(c0, _mm256_add_epi8(c3, c3));
}

/* Σ of the planes for eight lanes. */
INLINE __m256i sum_block(const code_query *q, const uint8_t *block)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i low = zero, high = zero;
    for (size_t line = 0; line < q->lines; line++) {
        const __m256i *x = (const __m256i *)(const void *)(block + line * CODES_LINE);
        const uint64_t *planes = q->planes + line * CODES_PLANES;
        low = _mm256_add_epi64(low, _mm256_sad_epu8(count_planes(_mm256_load_si256(x), planes), zero));
        high = _mm256_add_epi64(high, _mm256_sad_epu8(count_planes(_mm256_load_si256(x + 1), planes), zero));
    }
    /* The lower halves of eight 64-bit sums, in order. */
    __m256i mixed = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high), 0x88));
    return _mm256_permute4x64_epi64(mixed, 0xd8);
}

/* Two blocks ahead, across the ends of runs: more at once than the processor has places for
 * would wait for each other. */
INLINE void fetch_ahead(const code_run *run, size_t b, size_t size)
{
    enum { AHEAD = 2 };
    const uint8_t *ahead = run->blocks + (b + AHEAD) * size;
    if (b + AHEAD >= run->count && run->next != NULL)
        ahead = run->next + (b + AHEAD - run->count) * size;
    for (size_t i = 0; i < size; i += CODES_LINE)
        __builtin_prefetch(ahead + i);
}

TARGET __attribute__((no_sanitize("thread"))) static size_t scan(const code_query *q, const code_run *run,
                                                                 float threshold, code_candidate *out)
{
    size_t found = 0, size = codes_block_size(q->lines);
    const __m256 per_one = _mm256_set1_ps(q->per_one), per_sum = _mm256_set1_ps(q->per_sum);
    const __m256 rest = _mm256_set1_ps(q->rest), bases = _mm256_set1_ps(run->base), least = _mm256_set1_ps(threshold);
    for (size_t b = 0; b < run->count; b++) {
        const uint8_t *block = run->blocks + b * size;
        fetch_ahead(run, b, size);
        const code_tail *tail = codes_tail(block, q->lines);
        __m256 score = _mm256_cvtepi32_ps(sum_block(q, block));
        __m256i ones = _mm256_cvtepu16_epi32(_mm_load_si128((const __m128i *)(const void *)tail->ones));
        __m256 t = _mm256_mul_ps(_mm256_cvtepi32_ps(ones), per_one);
        t = _mm256_add_ps(t, _mm256_mul_ps(score, per_sum));
        t = _mm256_add_ps(t, rest);
        t = _mm256_mul_ps(t, _mm256_load_ps(tail->factor));
        t = _mm256_add_ps(t, _mm256_load_ps(tail->offset));
        t = _mm256_add_ps(t, bases);
        unsigned passed = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(t, least, _CMP_GE_OQ));
        if (passed == 0)
            continue;
        float scores[CODES_LANES];
        _mm256_storeu_ps(scores, t);
        for (; passed != 0; passed &= passed - 1) {
            unsigned lane = (unsigned)__builtin_ctz(passed);
            out[found++] =
                (code_candidate){.place = run->first_place + (uint32_t)b * CODES_LANES + lane, .score = scores[lane]};
        }
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
