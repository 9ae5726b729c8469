#include "index/code_encoding.h"
#include "index/codes.h"

static bool always(void)
{
    return true;
}

static int32_t sum_of(const code_query *q, const uint32_t *words, size_t lane)
{
    int32_t sum = 0;
    for (size_t line = 0; line < q->lines; line++) {
        const uint8_t *tables = q->tables + line * CODES_TABLES;
        uint32_t word = words[line * CODES_LANES + lane];
        for (size_t byte = 0; byte < 4; byte++, word >>= 8)
            sum += tables[16 * byte + (word & 15)] + tables[16 * (4 + byte) + (word >> 4 & 15)];
    }
    return sum;
}

/* A lane may be written meanwhile: old bits may meet a new offset. Its row is not covered then, and
 * whoever looks at candidates drops it. */
__attribute__((no_sanitize("thread"))) static size_t scan(const code_query *q, const code_run *run, float threshold,
                                                          code_candidate *out)
{
    size_t found = 0, size = codes_block_size(q->lines);
    for (size_t b = 0; b < run->count; b++) {
        const uint8_t *block = run->blocks + b * size;
        const code_tail *tail = codes_tail(block, q->lines);
        for (size_t lane = 0; lane < CODES_LANES; lane++) {
            /* In the order in which all levels add, so that all round alike. */
            float score = (float)sum_of(q, (const uint32_t *)(const void *)block, lane) * q->per_sum;
            score = score + q->rest;
            score = score * codes_scale(tail->factor[lane]);
            score = score + tail->offset[lane];
            score = score + run->base;
            if (score >= threshold)
                out[found++] =
                    (code_candidate){.place = run->first_place + (uint32_t)(b * CODES_LANES + lane), .score = score};
        }
    }
    return found;
}

static void bytes(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    for (size_t r = 0; r < count; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < width; i++)
            sum += query[i] * rows[r][i];
        sums[r] = sum;
    }
}

static void nibbles(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums)
{
    for (size_t r = 0; r < count; r++) {
        int32_t sum = 0;
        for (size_t i = 0; i < width; i++) {
            const int8_t *q = query + i / CODES_LINE * 2 * CODES_LINE + i % CODES_LINE;
            sum += q[0] * (rows[r][i] & 15) + q[CODES_LINE] * (rows[r][i] >> 4);
        }
        sums[r] = sum;
    }
}

static size_t count_candidates(const code_candidate *c, size_t count, float least)
{
    size_t able = 0;
    for (size_t i = 0; i < count; i++)
        able += c[i].score >= least;
    return able;
}

static void range(const code_candidate *c, size_t count, float *low, float *high)
{
    *low = *high = c[0].score;
    for (size_t i = 1; i < count; i++) {
        *low = c[i].score < *low ? c[i].score : *low;
        *high = c[i].score > *high ? c[i].score : *high;
    }
}

/* Without a branch that depends on a score: half of them would be foretold wrong. */
static size_t gather(code_candidate *c, size_t count, float least)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        code_candidate x = c[i];
        c[at] = x;
        at += x.score >= least;
    }
    return at;
}

const code_kernel code_generic = {.name = "generic",
                                  .scan = scan,
                                  .bytes = bytes,
                                  .nibbles = nibbles,
                                  .count = count_candidates,
                                  .range = range,
                                  .gather = gather,
                                  .residual = code_residual,
                                  .to_nibbles = code_nibbles_of,
                                  .available = always};
