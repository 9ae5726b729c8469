#include "index/upkeep.h"

#include "base/checked.h"
#include "index/cell_split.h"
#include "index/dot.h"
#include "index/parallel.h"
#include "index/workbench.h"

#include <stdlib.h>
#include <string.h>

enum {
    FULL_MIN = 64, /* lanes that a search goes through without feeling it */
    CHUNK = 256    /* rows that one thread takes at a time */
};

/* Times the mean number of lanes. k-means itself leaves some cells larger than that, so a cell is
 * full only if it has grown since it was made, to more than `GROWN` times its size. Splitting
 * makes the mean smaller: what is nearly full goes at once, and not in a run of its own. */
static const double FULL = 4.0, NEARLY_FULL = 3.0, GROWN = 2.0;
/* And the other way round. */
static const double EMPTY = 1.0 / 8, NEARLY_EMPTY = 1.0 / 4, SHRUNK = 0.5;

static bool is_full(size_t lanes, uint32_t made_with, double mean, double times)
{
    return lanes >= FULL_MIN && (double)lanes > times * mean && (double)lanes > GROWN * (double)made_with;
}

static bool is_empty(size_t lanes, uint32_t made_with, double mean, double share)
{
    return (double)lanes < share * mean && (double)lanes < SHRUNK * (double)made_with;
}

upkeep_due upkeep_look(const lists *l)
{
    upkeep_due due = {0};
    size_t all = 0;
    for (size_t c = 0; c < l->nlist; c++)
        all += atomic_load_explicit(&l->cells[c].count, memory_order_relaxed);
    double mean = (double)all / (double)l->nlist;
    for (size_t c = 0; c < l->nlist; c++) {
        size_t lanes = atomic_load_explicit(&l->cells[c].count, memory_order_relaxed);
        due.full += is_full(lanes, l->cells[c].made_with, mean, FULL);
        due.empty += is_empty(lanes, l->cells[c].made_with, mean, EMPTY);
    }
    return due;
}

/* A row that looks for cells anew. */
typedef struct mover {
    uint32_t row;
    uint32_t cells[2]; /* of its first and its second lane, in the new lists */
    bool there[2];     /* that lane was in this cell before, and is copied */
    uint16_t scale;
} mover;

typedef struct keeper {
    const upkeep_input *in;
    const lists *old;
    lists *lists;
    uint64_t *alive;  /* [seen] bits: fixed, whatever dies meanwhile */
    uint32_t *lanes;  /* [nlist + 1] of living rows in a cell of old */
    uint32_t *firsts; /* [nlist + 1] of these, first ones */
    uint32_t *to;     /* [nlist + 1] the cell's number in the new lists; LISTS_NONE: it goes */
    bool *stuck;      /* [nlist] full, but it could not be split */
    bool *beside;     /* [nlist] near one that was split: a child may be nearer to its rows */
    size_t dead;      /* lanes */
    size_t kept;      /* cells that stay; behind them come the children */
    float *children;  /* [made, dim] centroids of unit length, for metric dot [made, dim + 1] */
    size_t made;
    uint32_t *members; /* those of one cell */
    size_t member_count;
    uint32_t *move_of; /* [seen] where the row is in movers, or LISTS_NONE */
    panels panels;     /* of the new centroids, while movers choose */
    mover *movers;
    size_t mover_count;
    size_t *next;       /* [new nlist + 1] lanes that a new cell has: counted, then placed */
    size_t seconds;     /* second lanes in all */
    atomic_bool failed; /* memory was out */
    upkeep_done *done;
} keeper;

static bool cancelled(const keeper *k)
{
    return (k->in->cancel != NULL && atomic_load_explicit(k->in->cancel, memory_order_relaxed)) ||
           atomic_load_explicit(&k->failed, memory_order_relaxed);
}

static sem_status check_work(const keeper *k, sem_error *err)
{
    if (atomic_load(&k->failed))
        return sem_fail_memory(err, "the upkeep of lists");
    return cancelled(k) ? sem_fail(err, SEM_CANCELLED, "the upkeep of lists was cancelled") : SEM_OK;
}

static bool is_alive(const keeper *k, uint32_t row)
{
    return row < k->in->seen && (k->alive[row / 64] >> row % 64 & 1) != 0;
}

static bool is_dot(const keeper *k)
{
    return k->old->centroid_extras != NULL;
}

/* --- what there is */

static void count_lane(void *context, uint32_t cell, uint32_t place)
{
    keeper *k = context;
    uint32_t row = lists_row(k->old, place);
    k->lanes[cell] += is_alive(k, row);
    k->firsts[cell] += is_alive(k, row) && !lists_is_second(k->old, place);
    k->dead += row < k->in->seen && !is_alive(k, row);
}

static sem_status look_around(keeper *k, sem_error *err)
{
    size_t seen = k->in->seen, cells = k->old->nlist + 1;
    k->alive = calloc(seen / 64 + 1, sizeof *k->alive);
    k->lanes = calloc(cells, sizeof *k->lanes);
    k->firsts = calloc(cells, sizeof *k->firsts);
    k->to = checked_realloc(NULL, cells, sizeof *k->to);
    k->move_of = checked_realloc(NULL, seen + 1, sizeof *k->move_of);
    k->stuck = calloc(cells, sizeof *k->stuck);
    k->beside = calloc(cells, sizeof *k->beside);
    if (k->alive == NULL || k->lanes == NULL || k->firsts == NULL || k->to == NULL || k->move_of == NULL ||
        k->stuck == NULL || k->beside == NULL)
        return sem_fail_memory(err, "the upkeep of lists");
    memset(k->move_of, 0xff, (seen + 1) * sizeof *k->move_of); /* LISTS_NONE */
    for (uint32_t row = 0; row < seen; row++)
        k->alive[row / 64] |= (uint64_t)rows_alive(k->in->rows, row, k->in->seen) << row % 64;
    lists_each(k->old, count_lane, k);
    return SEM_OK;
}

/* --- which cells go, and what comes instead */

static void note_member(void *context, uint32_t cell, uint32_t place)
{
    keeper *k = context;
    (void)cell;
    if (is_alive(k, lists_row(k->old, place)) && !lists_is_second(k->old, place))
        k->members[k->member_count++] = lists_row(k->old, place);
}

static sem_status add_children(keeper *k, const float *centroids, size_t count, sem_error *err)
{
    size_t wide = k->old->dim + is_dot(k);
    float *more = checked_realloc(k->children, k->made + count, wide * sizeof *more);
    if (more == NULL)
        return sem_fail_memory(err, "centroids");
    k->children = more;
    memcpy(more + k->made * wide, centroids, count * wide * sizeof *more);
    k->made += count;
    return SEM_OK;
}

static sem_status look_beside(keeper *k, uint32_t cell, sem_error *err)
{
    const lists *old = k->old;
    code_query q = {0};
    coarse_scores scores = {0};
    uint32_t near[LISTS_NEAR];
    float *centroid = checked_realloc(NULL, old->dim, sizeof *centroid);
    sem_status s = centroid == NULL || !codes_query_reserve(&q, old->dim)
                       ? sem_fail_memory(err, "the split of a cell")
                       : coarse_scores_reserve(&scores, old->nlist, err);
    if (s == SEM_OK) {
        lists_get_centroid(old, cell, centroid);
        size_t count = lists_near(old, centroid, &q, &scores, near);
        for (size_t i = 0; i < count; i++)
            k->beside[near[i]] = true;
    }
    coarse_scores_free(&scores);
    codes_query_free(&q);
    free(centroid);
    return s;
}

/* The rows whose nearest centroid it is say how many children it gets, and where: the others look
 * for a second cell again once those that are near are split. mean: of such rows in a cell. *split
 * false: it stays as it is. */
static sem_status split_cell(keeper *k, uint32_t cell, double mean, bool *split, sem_error *err)
{
    const lists *old = k->old;
    size_t count = 0, want = (size_t)((double)k->firsts[cell] / mean + 0.5);
    size_t room = k->in->nlist_max > old->nlist + k->made ? k->in->nlist_max - old->nlist - k->made : 0;
    float *centroids = NULL;
    rows_view view = {0};
    *split = false;
    if (want > room)
        want = room;
    k->members = checked_realloc(k->members, (size_t)k->firsts[cell] + 1, sizeof *k->members);
    k->member_count = 0;
    if (k->members == NULL)
        return sem_fail_memory(err, "the split of a cell");
    lists_each_of(old, cell, note_member, k);
    sem_status s = rows_view_open(&view, k->in->rows, err);
    const cell_split how = {.view = &view,
                            .members = k->members,
                            .count = k->member_count,
                            .want = want,
                            .longest = is_dot(k) ? old->longest : 0.0f,
                            .threads = k->in->threads,
                            .cancel = k->in->cancel};
    if (s == SEM_OK)
        s = cell_split_centroids(&how, &centroids, &count, err);
    rows_view_end(&view);
    if (s == SEM_OK && count > 0)
        s = add_children(k, centroids, count, err);
    if (s == SEM_OK && count > 0)
        s = look_beside(k, cell, err);
    *split = count > 0;
    free(centroids);
    return s;
}

static sem_status choose_cells(keeper *k, sem_error *err)
{
    const lists *old = k->old;
    sem_status s = SEM_OK;
    double mean = 0, firsts = 0;
    for (size_t c = 0; c < old->nlist; c++) {
        mean += (double)k->lanes[c] / (double)old->nlist;
        firsts += (double)k->firsts[c] / (double)old->nlist;
    }
    for (uint32_t c = 0; s == SEM_OK && c < old->nlist; c++) {
        uint32_t made_with = old->cells[c].made_with;
        bool goes = is_empty(k->lanes[c], made_with, mean, NEARLY_EMPTY), split = false;
        bool full = is_full(k->lanes[c], made_with, mean, NEARLY_FULL);
        k->done->merges += goes;
        if (full)
            s = split_cell(k, c, firsts, &split, err);
        k->stuck[c] = full && !split;
        k->done->splits += split;
        k->to[c] = goes || split ? LISTS_NONE : (uint32_t)k->kept++;
    }
    k->to[old->nlist] = (uint32_t)(k->kept + k->made);
    return s;
}

static sem_status make_cells(keeper *k, sem_error *err)
{
    const lists *old = k->old;
    size_t wide = old->dim + is_dot(k);
    sem_status s = lists_create(&k->lists, k->kept + k->made, old->dim, is_dot(k), err);
    if (s != SEM_OK)
        return s;
    lists_inherit(k->lists, old);
    recall_curve_resize(&k->lists->curve, k->lists->nlist);
    for (size_t c = 0; c < old->nlist; c++)
        if (k->to[c] != LISTS_NONE)
            lists_take_centroid(k->lists, k->to[c], old, c);
    for (size_t i = 0; i < k->made; i++) {
        float *centroid = k->children + i * wide;
        for (size_t j = 0; j < wide; j++)
            centroid[j] *= old->longest;
        lists_set_centroid(k->lists, k->kept + i, centroid);
    }
    s = lists_finish_centroids(k->lists, err);
    return s == SEM_OK ? lists_reserve_rows(k->lists, k->in->seen, err) : s;
}

/* --- rows that look for cells anew */

static void note_mover(void *context, uint32_t cell, uint32_t place)
{
    keeper *k = context;
    uint32_t row = lists_row(k->old, place);
    bool stays = k->to[cell] != LISTS_NONE && lists_is_second(k->old, place);
    if (!is_alive(k, row) || k->move_of[row] != LISTS_NONE || stays)
        return;
    k->move_of[row] = (uint32_t)k->mover_count;
    k->movers[k->mover_count++] = (mover){.row = row};
}

static void move_chunk(void *context, size_t chunk)
{
    keeper *k = context;
    if (cancelled(k))
        return;
    workbench *w = workbench_create(k->lists, k->in->rows, CHUNK);
    if (w == NULL) {
        atomic_store(&k->failed, true);
        return;
    }
    mover *movers = k->movers + chunk * CHUNK;
    size_t left = k->mover_count - chunk * CHUNK, count = left < CHUNK ? left : CHUNK;
    for (size_t i = 0; i < count; i++)
        workbench_add(w, movers[i].row, rows_vector(&w->view, movers[i].row));
    workbench_find(w, &k->panels);
    for (size_t i = 0; i < count; i++) {
        const float *vector;
        list_choice choice = workbench_choose(w, i, &vector);
        movers[i].cells[0] = choice.cell;
        movers[i].cells[1] = choice.second;
        movers[i].scale = lists_code_row(k->lists, movers[i].row, vector);
    }
    workbench_destroy(w);
}

static sem_status move_rows(keeper *k, sem_error *err)
{
    size_t most = 0;
    for (size_t c = 0; c < k->old->nlist; c++)
        most += k->to[c] == LISTS_NONE || k->beside[c] ? k->lanes[c] : 0;
    k->movers = checked_realloc(NULL, most + 1, sizeof *k->movers);
    if (k->movers == NULL)
        return sem_fail_memory(err, "the upkeep of lists");
    for (uint32_t c = 0; c < k->old->nlist; c++)
        if (k->to[c] == LISTS_NONE || k->beside[c])
            lists_each_of(k->old, c, note_mover, k);
    if (k->mover_count == 0)
        return SEM_OK;
    sem_status s = lists_panels(k->lists, &k->panels, err);
    if (s != SEM_OK)
        return s;
    parallel_run(k->in->threads, (k->mover_count + CHUNK - 1) / CHUNK, move_chunk, k);
    panels_free(&k->panels);
    return check_work(k, err);
}

/* --- lanes */

static void count_kept(void *context, uint32_t cell, uint32_t place)
{
    keeper *k = context;
    uint32_t row = lists_row(k->old, place);
    if (!is_alive(k, row) || k->move_of[row] != LISTS_NONE)
        return;
    k->next[k->to[cell]]++;
    k->seconds += lists_is_second(k->old, place);
}

static sem_status make_room(keeper *k, sem_error *err)
{
    size_t cells = k->lists->nlist + 1;
    k->next = calloc(cells, sizeof *k->next);
    if (k->next == NULL)
        return sem_fail_memory(err, "the upkeep of lists");
    lists_each(k->old, count_kept, k);
    for (size_t i = 0; i < k->mover_count; i++) {
        const mover *m = &k->movers[i];
        k->next[m->cells[0]]++;
        if (m->cells[1] == LISTS_NONE)
            continue;
        k->next[m->cells[1]]++;
        k->seconds++;
    }
    sem_status s = lists_reserve(k->lists, k->next, k->seconds, err);
    memset(k->next, 0, cells * sizeof *k->next);
    return s;
}

static void copy_lane(void *context, uint32_t cell, uint32_t place)
{
    keeper *k = context;
    uint32_t row = lists_row(k->old, place), to = k->to[cell];
    if (!is_alive(k, row) || to == LISTS_NONE)
        return;
    if (k->move_of[row] != LISTS_NONE) {
        mover *m = &k->movers[k->move_of[row]];
        bool second = lists_is_second(k->old, place);
        if (m->cells[second] != to)
            return;
        m->there[second] = true;
    }
    lists_copy(k->lists, to, k->next[to]++, k->old, place);
}

/* How much of a child's centroid its rows have in common, on average: all of them moved. */
static void find_shares(keeper *k, const rows_view *view, double *along, float *centroid)
{
    lists *l = k->lists;
    for (size_t i = 0; i < k->mover_count; i++)
        for (size_t s = 0; s < 2; s++) {
            uint32_t cell = k->movers[i].cells[s];
            if (cell == LISTS_NONE || cell < k->kept)
                continue;
            lists_get_centroid(l, cell, centroid);
            along[cell - k->kept] += dot_double(rows_vector(view, k->movers[i].row), centroid, l->dim);
        }
    for (size_t i = 0; i < k->made; i++) {
        size_t lanes = atomic_load_explicit(&l->cells[k->kept + i].count, memory_order_relaxed);
        lists_get_centroid(l, k->kept + i, centroid);
        double squares = dot_double(centroid, centroid, l->dim);
        if (lanes > 0 && squares > 0)
            l->centroid_shares[k->kept + i] = (float)(along[i] / squares / (double)lanes);
    }
}

static void place_movers(keeper *k, const rows_view *view, float *origin)
{
    for (size_t i = 0; i < k->mover_count && !cancelled(k); i++) {
        const mover *m = &k->movers[i];
        const float *vector = rows_vector(view, m->row);
        for (size_t s = 0; s < 2; s++) {
            if (m->cells[s] == LISTS_NONE || m->there[s])
                continue;
            lists_get_origin(k->lists, m->cells[s], origin);
            lists_place(k->lists, m->cells[s], k->next[m->cells[s]]++, m->row | (s == 1 ? LISTS_SECOND : 0), m->scale,
                        vector, origin);
            k->done->moved++;
        }
    }
}

/* Dead rows have no lane any more, so that nobody looks at their nibbles. */
static void copy_nibbles(keeper *k)
{
    lists *l = k->lists;
    for (uint32_t row = 0; row < k->in->seen; row++)
        if (is_alive(k, row) && k->move_of[row] == LISTS_NONE)
            memcpy(l->nibbles + (size_t)row * l->nibbles_width, lists_nibbles(k->old, row), l->nibbles_width);
}

static sem_status fill_cells(keeper *k, sem_error *err)
{
    rows_view view = {0};
    double *along = calloc(k->made + 1, sizeof *along);
    float *vector = checked_realloc(NULL, k->old->dim, sizeof *vector);
    sem_status s = along == NULL || vector == NULL ? sem_fail_memory(err, "the upkeep of lists")
                                                   : rows_view_open(&view, k->in->rows, err);
    if (s == SEM_OK) {
        find_shares(k, &view, along, vector);
        lists_each(k->old, copy_lane, k);
        place_movers(k, &view, vector);
        copy_nibbles(k);
        s = check_work(k, err);
    }
    rows_view_end(&view);
    free(along);
    free(vector);
    return s;
}

/* Cells stay as they were made, with two exceptions. One that lost rows counts as smaller from now
 * on, so that it is full again where it fills again, but as no smaller than others, so that it
 * may lose the rest. One that could not be split is tried again when it has twice as many. */
static void note_sizes(keeper *k)
{
    size_t nlist = k->lists->nlist, all = 0;
    for (size_t c = 0; c < nlist; c++)
        all += k->next[c];
    uint32_t mean = (uint32_t)(all / nlist);
    for (size_t c = 0; c < k->old->nlist; c++) {
        if (k->to[c] == LISTS_NONE || k->stuck[c])
            continue;
        list_cell *cell = &k->lists->cells[k->to[c]];
        uint32_t least = cell->made_with > mean ? cell->made_with : mean; /* it has its lanes now */
        uint32_t before = k->old->cells[c].made_with;
        cell->made_with = before < least ? before : least;
    }
}

static void keeper_end(keeper *k)
{
    free(k->alive);
    free(k->lanes);
    free(k->firsts);
    free(k->to);
    free(k->stuck);
    free(k->beside);
    free(k->children);
    free(k->members);
    free(k->move_of);
    free(k->movers);
    free(k->next);
}

sem_status upkeep_make(const upkeep_input *in, lists **out, upkeep_done *done, sem_error *err)
{
    keeper k = {.in = in, .old = in->old, .done = done};
    *done = (upkeep_done){0};
    atomic_init(&k.failed, false);
    sem_status s = look_around(&k, err);
    if (s == SEM_OK)
        s = choose_cells(&k, err);
    if (s == SEM_OK)
        s = make_cells(&k, err);
    if (s == SEM_OK)
        s = move_rows(&k, err);
    if (s == SEM_OK)
        s = make_room(&k, err);
    if (s == SEM_OK)
        s = fill_cells(&k, err);
    if (s == SEM_OK) {
        note_sizes(&k);
        done->left = k.dead;
        k.lists->moved += done->moved;
        atomic_store_explicit(&k.lists->covered, in->seen, memory_order_release);
        *out = k.lists;
    } else
        lists_free(k.lists);
    keeper_end(&k);
    return s;
}
