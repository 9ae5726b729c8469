/* What must be true of lists after their upkeep, whatever happened before. */
#ifndef SEM_TESTS_INDEX_LISTS_CHECK_H
#define SEM_TESTS_INDEX_LISTS_CHECK_H

#include "tests/common/testing.h"

#include "index/lists.h"
#include "index/rows.h"

#include <stdlib.h>
#include <string.h>

typedef struct lists_check {
    const lists *lists;
    const rows_view *view;
    uint32_t *cells[2]; /* [covered] of a row's first and second lane */
    size_t counts[2], *lanes;
    uint8_t *block, *nibbles;
    float *origin;
} lists_check;

/* Each lane is what coding its row against this cell gives, and no row has two alike. */
static inline void lists_check_lane(void *context, uint32_t cell, uint32_t place)
{
    lists_check *c = context;
    const lists *l = c->lists;
    uint32_t row = lists_row(l, place);
    bool second = lists_is_second(l, place);
    ck_assert_uint_lt(row, lists_covered(l));
    ck_assert_msg(c->cells[second][row] == LISTS_NONE, "row %u lies in cells %u and %u", row, c->cells[second][row],
                  cell);
    ck_assert_uint_ne(c->cells[!second][row], cell);
    c->cells[second][row] = cell;
    c->counts[second]++;
    c->lanes[cell]++;
    const float *vector = rows_vector(c->view, row);
    uint16_t scale = codes_to_nibbles(l->kernel, vector, l->dim, c->nibbles);
    ck_assert_mem_eq(c->nibbles, lists_nibbles(l, row), l->nibbles_width);
    size_t lane = place % CODES_LANES;
    const uint8_t *there = l->blocks + place / CODES_LANES * codes_block_size(l->lines);
    lists_get_origin(l, cell, c->origin);
    codes_write_lane(l->kernel, c->block, lane, vector, c->origin, l->dim, row | (second ? LISTS_SECOND : 0), scale);
    for (size_t line = 0; line < l->lines; line++)
        ck_assert_mem_eq(c->block + line * CODES_LINE + lane * 4, there + line * CODES_LINE + lane * 4, 4);
    const code_tail *a = codes_tail(c->block, l->lines), *b = codes_tail(there, l->lines);
    ck_assert(a->factor[lane] == b->factor[lane] && a->offset[lane] == b->offset[lane]);
    ck_assert(a->row[lane] == b->row[lane] && a->scale[lane] == b->scale[lane]);
}

/* The cells of rows that lie among the newest `children` are those that they would choose. */
static inline void lists_check_choices(const lists_check *c, size_t children)
{
    const lists *l = c->lists;
    code_query q = {0};
    coarse_scores scores = {0};
    sem_error error;
    ck_assert(codes_query_reserve(&q, l->dim));
    ck_ok(coarse_scores_reserve(&scores, l->nlist, &error));
    for (uint32_t row = 0; row < lists_covered(l); row++) {
        bool moved = (c->cells[0][row] != LISTS_NONE && c->cells[0][row] + children >= l->nlist) ||
                     (c->cells[1][row] != LISTS_NONE && c->cells[1][row] + children >= l->nlist);
        if (!moved || c->cells[0][row] == l->nlist)
            continue;
        list_choice choice = lists_choose(l, rows_vector(c->view, row), &q, &scores);
        ck_assert_uint_eq(choice.cell, c->cells[0][row]);
        ck_assert_uint_eq(choice.second, c->cells[1][row]);
    }
    coarse_scores_free(&scores);
    codes_query_free(&q);
}

/* Nobody writes or dies meanwhile. children: cells that the upkeep made. */
static inline void lists_check_all(const lists *l, const rows *r, size_t children)
{
    sem_error error;
    rows_view view;
    uint32_t covered = lists_covered(l);
    lists_check c = {.lists = l, .view = &view};
    ck_ok(rows_view_begin(&view, r, NULL, &error));
    for (size_t i = 0; i < 2; i++) {
        c.cells[i] = malloc((covered + 1) * sizeof *c.cells[i]);
        ck_assert_ptr_nonnull(c.cells[i]);
        memset(c.cells[i], 0xff, (covered + 1) * sizeof *c.cells[i]);
    }
    c.lanes = calloc(l->nlist + 1, sizeof *c.lanes);
    c.block = aligned_alloc(64, codes_block_size(l->lines));
    c.nibbles = aligned_alloc(64, l->nibbles_width);
    c.origin = calloc(l->dim, sizeof *c.origin);
    ck_assert(c.lanes != NULL && c.block != NULL && c.nibbles != NULL && c.origin != NULL);
    memset(c.block, 0, codes_block_size(l->lines));
    lists_each(l, lists_check_lane, &c);
    ck_assert_uint_eq(covered, rows_count(r));
    for (uint32_t row = 0; row < covered; row++)
        ck_assert_msg((c.cells[0][row] != LISTS_NONE) == rows_alive(r, row, covered),
                      "row %u is %s and lies in cell %u", row, rows_alive(r, row, covered) ? "alive" : "dead",
                      c.cells[0][row]);
    ck_assert_uint_eq(c.counts[0], rows_live(r));
    ck_assert_uint_eq(l->entries, c.counts[0]);
    ck_assert_uint_eq(l->seconds, c.counts[1]);
    for (size_t i = 0; i <= l->nlist; i++)
        ck_assert_uint_eq(l->cells[i].count, c.lanes[i]);
    ck_assert_uint_eq(l->curve.at[l->curve.points - 1].nprobe, l->nlist);
    for (size_t i = 1; i < l->curve.points; i++)
        ck_assert_uint_gt(l->curve.at[i].nprobe, l->curve.at[i - 1].nprobe);
    lists_check_choices(&c, children);
    rows_view_end(&view);
    free(c.cells[0]), free(c.cells[1]);
    free(c.lanes), free(c.block), free(c.nibbles), free(c.origin);
}

#endif
