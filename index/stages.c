#include "index/stages.h"

#include "base/clock.h"
#include "index/candidates.h"

#include <float.h>
#include <math.h>

enum {
    PIECE = 16,      /* blocks scanned between two looks at how many candidates there are */
    FULL = 3,        /* times `first`: then the candidates are cut back */
    NEAREST = 8,     /* cells scanned first */
    AHEAD = 8,       /* rows of nibbles asked for before they are compared */
    FLOATS_AHEAD = 4 /* rows of floats */
};

sem_status stages_begin(stages *s, const lists *l, scan *on, search_scratch *scratch, const effort *e, uint32_t covered,
                        sem_error *err)
{
    uint64_t began = clock_monotonic_ns();
    size_t entries = atomic_load_explicit(&l->entries, memory_order_relaxed);
    size_t first = e->first > entries + 1 ? entries + 1 : e->first;
    *s = (stages){.lists = l,
                  .scan = on,
                  .scratch = scratch,
                  .first = first,
                  .second = e->second < first ? e->second : first,
                  .keep = e->reach > 0 && e->rank > first ? e->rank : first,
                  .covered = covered,
                  .threshold = -FLT_MAX};
    s->selective = on->allowed != NULL || on->has_exclude || rows_live(on->rows) < entries;
    sem_status status = scratch_reserve(scratch, l->nlist, FULL * s->keep + (PIECE + 1) * (size_t)CODES_LANES, err);
    if (status == SEM_OK)
        status = scratch_reserve_met(scratch, s->first + on->best.k, err);
    if (status != SEM_OK)
        return status;
    lists_prepare(l, &scratch->codes, scratch->vector);
    s->listed = coarse_list(&l->coarse, &scratch->codes, e->nprobe, &scratch->cells);
    s->coarse_ns = clock_monotonic_ns() - began;
    return SEM_OK;
}

/* The next `want` cells, the nearest few of them first, so that what is scanned later meets
 * a high threshold. */
static void order_cells(stages *s, size_t want)
{
    coarse_scores *cells = &s->scratch->cells;
    if (want > s->listed - s->ordered)
        want = s->listed - s->ordered;
    uint32_t *next = cells->order + s->ordered;
    const code_kernel *kernel = s->lists->kernel;
    candidates_choose(kernel, next, s->listed - s->ordered, want, cells->of, cells->by_bits);
    if (want > 2 * NEAREST)
        candidates_choose(kernel, next, want, NEAREST, cells->of, cells->by_bits);
    s->ordered += want;
}

uint32_t stages_cell(stages *s, size_t n, size_t ahead)
{
    const lists *l = s->lists;
    coarse_scores *cells = &s->scratch->cells;
    if (n >= s->ordered) {
        uint64_t began = clock_monotonic_ns();
        if (n >= s->listed) {
            coarse_list_rest(&l->coarse, &s->scratch->codes, s->listed, cells);
            s->listed = l->nlist;
        }
        size_t want = (n < ahead ? ahead : n + 1) - s->ordered;
        /* Beyond what was planned in steps that grow, so that going through all cells
         * costs a few passes over the rest. */
        if (want < s->ordered)
            want = s->ordered;
        order_cells(s, want);
        s->coarse_ns += clock_monotonic_ns() - began;
    }
    return cells->order[n];
}

size_t stages_reach(stages *s, const effort *e, size_t probed)
{
    uint64_t began = clock_monotonic_ns();
    const lists *l = s->lists;
    coarse_scores *cells = &s->scratch->cells;
    float score = -FLT_MAX; /* with fewer candidates anything may be a hit */
    if (s->count >= e->rank)
        score = candidates_bound(l->kernel, s->scratch->candidates, s->count, e->rank);
    size_t end = probed;
    for (size_t i = probed; i < s->listed; i++) {
        uint32_t cell = cells->order[i];
        float base = lists_base(l, cell, cells->of);
        if (lists_needed_cosine(l, cell, base, score, &s->scratch->codes) < e->reach * e->reach) {
            cells->order[i] = cells->order[end];
            cells->order[end++] = cell;
        }
    }
    s->ordered = end;
    s->keep = s->first;
    s->coarse_ns += clock_monotonic_ns() - began;
    return end;
}

/* Which of two equal candidates is kept. */
static bool comes_first(const void *context, uint32_t a, uint32_t b)
{
    const stages *s = context;
    const topk *best = &s->scan->best;
    uint32_t x = rows_docno(s->scan->rows, lists_row(s->lists, a));
    uint32_t y = rows_docno(s->scan->rows, lists_row(s->lists, b));
    return best->tie != NULL ? best->tie(best->tie_context, x, y) < 0 : x < y;
}

static bool may_be_found(const stages *s, uint32_t place)
{
    const scan *on = s->scan;
    uint32_t row = lists_row(s->lists, place);
    if (row >= s->covered || !rows_alive(on->rows, row, on->seen))
        return false;
    uint32_t docno = rows_docno(on->rows, row);
    return scan_allows(on, docno) && !(on->has_exclude && docno == on->exclude);
}

/* Drops those of the newest `added` candidates that may not be found. */
static void select_candidates(stages *s, size_t added)
{
    code_candidate *c = s->scratch->candidates;
    size_t kept = s->count - added;
    for (size_t i = kept; i < s->count; i++)
        if (may_be_found(s, c[i].place))
            c[kept++] = c[i];
    s->count = kept;
}

static void scan_extent(stages *s, const list_extent *e, float base, const uint8_t *next)
{
    const lists *l = s->lists;
    size_t size = codes_block_size(l->lines);
    uint32_t used = atomic_load_explicit(&e->used, memory_order_acquire);
    for (uint32_t b = 0; b < used; b += PIECE) {
        uint32_t n = used - b < PIECE ? used - b : PIECE, first = e->first + b;
        lists_meet_blocks(l, first, n);
        const code_run run = {.blocks = l->blocks + first * size,
                              .count = n,
                              .first_place = first * CODES_LANES,
                              .base = base,
                              .next = b + n < used ? NULL : next};
        size_t added = l->kernel->scan(&s->scratch->codes, &run, s->threshold, s->scratch->candidates + s->count);
        s->count += added;
        if (s->selective && added > 0)
            select_candidates(s, added);
        if (s->count >= FULL * s->keep)
            s->count =
                candidates_keep(l->kernel, s->scratch->candidates, s->count, s->keep, &s->threshold, comes_first, s);
    }
}

/* Where what is compared after an extent begins: its cell's next one, or the next cell. */
static const uint8_t *begin_of(const lists *l, const list_extent *e)
{
    return e == NULL ? NULL : l->blocks + e->first * codes_block_size(l->lines);
}

void stages_scan(stages *s, uint32_t cell, uint32_t next_cell)
{
    const lists *l = s->lists;
    const list_cell *c = &l->cells[cell];
    const list_extent *after = next_cell == LISTS_NONE ? NULL : &l->cells[next_cell].head;
    float base = lists_base(l, cell, s->scratch->cells.of);
    for (const list_extent *e = &c->head, *next; e != NULL; e = next) {
        next = atomic_load_explicit(&e->next, memory_order_acquire);
        scan_extent(s, e, base, begin_of(l, next != NULL ? next : after));
    }
    s->by_bits += atomic_load_explicit(&c->count, memory_order_relaxed);
}

uint32_t stages_peek(const stages *s, size_t n)
{
    const uint32_t *order = s->scratch->cells.order;
    if (n + 1 < s->ordered)
        __builtin_prefetch(&s->lists->cells[order[n + 1]]);
    return n < s->ordered ? order[n] : LISTS_NONE;
}

/* The scan does not. */
static inline void fetch_row(const lists *l, uint32_t place)
{
    __builtin_prefetch(&lists_tail(l, place)->row[place % CODES_LANES]);
}

/* Leaves one lane of each row, and none of rows that are hits already. */
static void drop_repeated(stages *s)
{
    search_scratch *scratch = s->scratch;
    const topk *best = &s->scan->best;
    met_set met = scratch_meet_none(scratch, s->count + best->count);
    size_t kept = 0;
    for (size_t i = 0; i < best->count; i++)
        met_add(&met, best->hits[i].row);
    for (size_t i = 0; i < s->count; i++) {
        if (i + AHEAD < s->count)
            fetch_row(s->lists, scratch->candidates[i + AHEAD].place);
        if (met_add(&met, lists_row(s->lists, scratch->candidates[i].place)))
            scratch->candidates[kept++] = scratch->candidates[i];
    }
    s->count = kept;
}

/* --- the second and the third stage */

static inline void fetch_nibbles(const lists *l, uint32_t place)
{
    const uint8_t *nibbles = lists_nibbles(l, lists_row(l, place));
    for (size_t i = 0; i < l->nibbles_width; i += CODES_LINE)
        __builtin_prefetch(nibbles + i);
}

/* Replaces the candidates' estimates by the scores of their nibbles. */
static void score_nibbles(stages *s)
{
    const lists *l = s->lists;
    code_candidate *c = s->scratch->candidates;
    for (size_t i = 0; i < s->count && i < AHEAD; i++)
        fetch_nibbles(l, c[i].place);
    for (size_t first = 0; first < s->count; first += CODES_BATCH) {
        const uint8_t *batch[CODES_BATCH];
        int32_t sums[CODES_BATCH];
        size_t n = s->count - first < CODES_BATCH ? s->count - first : CODES_BATCH;
        for (size_t i = 0; i < n; i++) {
            batch[i] = lists_nibbles(l, lists_row(l, c[first + i].place));
            if (first + i + AHEAD < s->count)
                fetch_nibbles(l, c[first + i + AHEAD].place);
        }
        l->kernel->nibbles(s->scratch->codes.bytes, batch, n, l->nibbles_width, sums);
        for (size_t i = 0; i < n; i++) {
            uint32_t place = c[first + i].place;
            float scale = codes_scale(lists_tail(l, place)->scale[place % CODES_LANES]);
            c[first + i].score = candidate_score(codes_nibble_score(&s->scratch->codes, sums[i], scale));
        }
    }
    s->by_codes += s->count;
}

static void score_floats(stages *s)
{
    const code_candidate *c = s->scratch->candidates;
    scan *on = s->scan;
    size_t before = on->compared;
    for (size_t i = 0; i < s->count; i++) {
        if (i + FLOATS_AHEAD < s->count) {
            const float *ahead = rows_vector(on->view, lists_row(s->lists, c[i + FLOATS_AHEAD].place));
            for (size_t j = 0; j < on->rows->width; j += DOT_LANES)
                __builtin_prefetch(ahead + j);
        }
        uint32_t row = lists_row(s->lists, c[i].place);
        if (row < s->covered)
            scan_offer(on, row, rows_vector(on->view, row));
    }
    scan_flush(on);
    s->by_floats += on->compared - before;
}

void stages_finish(stages *s)
{
    uint64_t began = clock_monotonic_ns();
    code_candidate *c = s->scratch->candidates;
    if (s->count > s->first) {
        candidates_cut(s->lists->kernel, c, s->count, s->first, comes_first, s);
        s->count = s->first;
    }
    drop_repeated(s);
    score_nibbles(s);
    if (s->count > s->second) {
        candidates_cut(s->lists->kernel, c, s->count, s->second, comes_first, s);
        s->count = s->second;
    }
    uint64_t floats = clock_monotonic_ns();
    score_floats(s);
    s->count = 0;
    s->nibbles_ns += floats - began;
    s->floats_ns += clock_monotonic_ns() - floats;
}
