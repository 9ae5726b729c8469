#include "index/recall_truth.h"

#include "base/checked.h"
#include "index/candidates.h"
#include "index/scan.h"

#include <float.h>
#include <stdlib.h>

enum {
    NEAR = 1600, /* nearest by their nibbles, of which the floats find the deepest */
    NEAR_ROOM = 3 * NEAR,
    ROWS_PIECE = 512 /* rows, so that their nibbles stay in the cache */
};

static bool cancelled(const truth_input *in)
{
    return in->of->cancel != NULL && atomic_load_explicit(in->of->cancel, memory_order_relaxed);
}

/* A query that looks for its true neighbours. */
typedef struct seeker {
    code_query codes;
    code_candidate *near;
    size_t count;
    float threshold;
} seeker;

static sem_status seeker_start(seeker *k, const truth_input *in, size_t q, sem_error *err)
{
    const lists *l = in->of->lists;
    *k = (seeker){.threshold = -FLT_MAX};
    k->near = checked_realloc(NULL, NEAR_ROOM, sizeof *k->near);
    if (k->near == NULL || !codes_query_reserve(&k->codes, l->dim))
        return sem_fail_memory(err, "the recall curve");
    codes_prepare_bytes(&k->codes, in->sample->queries + q * in->of->view->rows->width, l->dim);
    return SEM_OK;
}

static void seek_piece(seeker *k, const truth_input *in, uint32_t from, uint32_t to)
{
    const lists *l = in->of->lists;
    for (uint32_t row = from; row < to; row += CODES_BATCH) {
        const uint8_t *batch[CODES_BATCH];
        int32_t sums[CODES_BATCH];
        uint32_t n = to - row < CODES_BATCH ? to - row : CODES_BATCH;
        for (uint32_t j = 0; j < n; j++)
            batch[j] = lists_nibbles(l, row + j);
        l->kernel->nibbles(k->codes.bytes, batch, n, l->nibbles_width, sums);
        for (uint32_t j = 0; j < n; j++) {
            float score = codes_nibble_score(&k->codes, sums[j], codes_scale(in->scales[row + j]));
            if (score >= k->threshold) /* not a NaN */
                k->near[k->count++] = (code_candidate){.place = row + j, .score = score};
        }
        if (k->count > NEAR_ROOM - CODES_BATCH) {
            k->threshold = candidates_cut(l->kernel, k->near, k->count, NEAR, candidate_smaller_place, NULL);
            k->count = NEAR;
        }
    }
}

/* All queries of a group over one piece of rows after the other: the piece stays in
 * the cache, which makes this several times as fast as query after query. */
static void seek(seeker *seekers, size_t count, const truth_input *in)
{
    for (uint32_t from = 0; from < in->of->seen && !cancelled(in); from += ROWS_PIECE) {
        uint32_t to = in->of->seen - from < ROWS_PIECE ? in->of->seen : from + ROWS_PIECE;
        for (size_t q = 0; q < count; q++)
            seek_piece(&seekers[q], in, from, to);
    }
}

/* The floats decide among those that are nearest by their nibbles. */
static void settle(seeker *k, const truth_input *in, const rows_view *view, size_t q)
{
    const lists *l = in->of->lists;
    scan on = {.rows = in->of->view->rows,
               .view = view,
               .seen = in->of->seen,
               .kernel = in->of->kernel,
               .query = in->sample->queries + q * in->of->view->rows->width,
               .has_exclude = in->sample->own[q] != ROW_NONE,
               .exclude = in->sample->own[q],
               .best = topk_start(in->hits + q * TRUTH_DEPTH, TRUTH_DEPTH, NULL, NULL)};
    if (k->count > NEAR) {
        candidates_cut(l->kernel, k->near, k->count, NEAR, candidate_smaller_place, NULL);
        k->count = NEAR;
    }
    for (size_t i = 0; i < k->count; i++)
        scan_offer(&on, k->near[i].place, rows_vector(view, k->near[i].place));
    scan_flush(&on);
    topk_finish(&on.best);
    in->found[q] = on.best.count;
}

sem_status recall_truth_find(const truth_input *in, size_t first, size_t count, sem_error *err)
{
    seeker seekers[TRUTH_GROUP];
    rows_view view = {0};
    sem_status s = SEM_OK;
    size_t started = 0;
    while (started < count && s == SEM_OK) {
        s = seeker_start(&seekers[started], in, first + started, err);
        started++;
    }
    if (s == SEM_OK)
        seek(seekers, count, in);
    if (s == SEM_OK)
        s = rows_view_open(&view, in->of->view->rows, err);
    for (size_t q = 0; q < started; q++) {
        if (s == SEM_OK && !cancelled(in))
            settle(&seekers[q], in, &view, first + q);
        codes_query_free(&seekers[q].codes);
        free(seekers[q].near);
    }
    rows_view_end(&view);
    return s;
}
