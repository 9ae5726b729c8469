#include "index/lists_saved.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "index/codes.h"

#include <math.h>
#include <stdlib.h>

/* How many of count there are in a section. */
static size_t held(size_t count, size_t in_section, size_t section)
{
    size_t from = section * in_section;
    return count - from < in_section ? count - from : in_section;
}

uint64_t *lists_saved_sums(const uint8_t *data, size_t count, size_t size, size_t in_section)
{
    size_t sections = lists_saved_sections(count, in_section);
    uint64_t *sums = checked_realloc(NULL, sections + 1, sizeof *sums);
    for (size_t s = 0; sums != NULL && s < sections; s++)
        sums[s] = checksum_of(data + s * in_section * size, held(count, in_section, s) * size);
    return sums;
}

sem_status lists_saved_create(lists_saved **out, size_t blocks, size_t block_size, uint64_t *block_sums, size_t rows,
                              size_t row_size, uint64_t *row_sums, sem_error *err)
{
    lists_saved *s = calloc(1, sizeof *s);
    atomic_bool *blocks_met = calloc(lists_saved_sections(blocks, SAVED_BLOCKS) + 1, sizeof *blocks_met);
    atomic_bool *rows_met = calloc(lists_saved_sections(rows, SAVED_ROWS) + 1, sizeof *rows_met);
    if (s == NULL || blocks_met == NULL || rows_met == NULL) {
        free(s);
        free(blocks_met);
        free(rows_met);
        free(block_sums);
        free(row_sums);
        return sem_fail_memory(err, "inverted lists");
    }
    s->blocks = blocks;
    s->rows = rows;
    s->block_size = block_size;
    s->row_size = row_size;
    s->block_sums = block_sums;
    s->row_sums = row_sums;
    s->blocks_met = blocks_met;
    s->rows_met = rows_met;
    atomic_init(&s->damaged, false);
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return SEM_OK;
}

void lists_saved_free(lists_saved *s)
{
    if (s == NULL)
        return;
    free(s->block_sums);
    free(s->row_sums);
    free(s->blocks_met);
    free(s->rows_met);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static bool rows_exist(const lists_saved *s, const uint8_t *first, size_t count, size_t lines)
{
    const uint32_t second = UINT32_C(1) << 31;
    for (size_t b = 0; b < count; b++) {
        const code_tail *tail = codes_tail(first + b * s->block_size, lines);
        for (size_t lane = 0; lane < CODES_LANES; lane++)
            if (tail->offset[lane] > -INFINITY && (tail->row[lane] & ~second) >= s->rows)
                return false;
    }
    return true;
}

void lists_saved_meet_blocks(lists_saved *s, uint8_t *blocks, size_t lines, size_t section)
{
    pthread_mutex_lock(&s->lock);
    if (!atomic_load_explicit(&s->blocks_met[section], memory_order_relaxed)) {
        uint8_t *first = blocks + section * SAVED_BLOCKS * s->block_size;
        size_t count = held(s->blocks, SAVED_BLOCKS, section);
        if (checksum_of(first, count * s->block_size) != s->block_sums[section] ||
            !rows_exist(s, first, count, lines)) {
            for (size_t b = 0; b < count; b++)
                codes_clear_block(first + b * s->block_size, lines);
            atomic_store(&s->damaged, true);
        }
        atomic_store_explicit(&s->blocks_met[section], true, memory_order_release);
    }
    pthread_mutex_unlock(&s->lock);
}

void lists_saved_meet_rows(lists_saved *s, uint8_t *nibbles, size_t section)
{
    pthread_mutex_lock(&s->lock);
    if (!atomic_load_explicit(&s->rows_met[section], memory_order_relaxed)) {
        const uint8_t *first = nibbles + section * SAVED_ROWS * s->row_size;
        /* Wrong nibbles lead nowhere: what they rank is thrown away. */
        if (checksum_of(first, held(s->rows, SAVED_ROWS, section) * s->row_size) != s->row_sums[section])
            atomic_store(&s->damaged, true);
        atomic_store_explicit(&s->rows_met[section], true, memory_order_release);
    }
    pthread_mutex_unlock(&s->lock);
}
