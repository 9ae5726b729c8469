#include "index/recall_sample.h"

#include "base/checked.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERY_SEED = 77,
    /* Rows stand in for queries, and are easier ones: each has been put into the cell
     * that is its nearest. So many logged queries speak for themselves. */
    LOGGED_ENOUGH = 200,
    OWN_BESIDE = 50
};

static const double MARGIN = 2.33;

/* Reservoir sampling (Vitter 1985, algorithm R). */
static size_t choose_rows(const rows *r, uint32_t seen, uint32_t *chosen, size_t most)
{
    random_state random;
    random_seed(&random, QUERY_SEED);
    size_t met = 0;
    for (uint32_t row = 0; row < seen; row++) {
        if (!rows_alive(r, row, seen))
            continue;
        size_t slot = met < most ? met : random_below(&random, met + 1);
        if (slot < most)
            chosen[slot] = row;
        met++;
    }
    return met < most ? met : most;
}

static sem_status copy_queries(recall_sample *s, rows_view *view, const uint32_t *chosen, size_t own,
                               const float *logged, size_t logged_count, sem_error *err)
{
    const size_t width = view->rows->width, dim = view->rows->dim;
    s->count = own + logged_count;
    s->queries = checked_alloc_aligned(s->count + 1, width * sizeof *s->queries);
    s->own = checked_realloc(NULL, s->count + 1, sizeof *s->own);
    if (s->queries == NULL || s->own == NULL)
        return sem_fail_memory(err, "the recall curve");
    sem_status status = rows_view_renew(view, err);
    if (status != SEM_OK)
        return status;
    memset(s->queries, 0, (s->count + 1) * width * sizeof *s->queries);
    for (size_t q = 0; q < s->count; q++) {
        const float *from = q < own ? rows_vector(view, chosen[q]) : logged + (q - own) * dim;
        memcpy(s->queries + q * width, from, dim * sizeof *from);
        s->own[q] = q < own ? rows_docno(view->rows, chosen[q]) : ROW_NONE;
    }
    rows_view_rest(view);
    return SEM_OK;
}

sem_status recall_sample_choose(recall_sample *s, rows_view *view, uint32_t seen, size_t most, const float *logged,
                                size_t logged_count, sem_error *err)
{
    *s = (recall_sample){0};
    uint32_t *chosen = checked_realloc(NULL, most + 1, sizeof *chosen);
    if (chosen == NULL)
        return sem_fail_memory(err, "the recall curve");
    size_t own = choose_rows(view->rows, seen, chosen, most);
    if (logged_count >= LOGGED_ENOUGH && own > OWN_BESIDE)
        own = OWN_BESIDE;
    sem_status status = copy_queries(s, view, chosen, own, logged, logged_count, err);
    free(chosen);
    return status;
}

void recall_sample_free(recall_sample *s)
{
    free(s->queries);
    free(s->own);
    *s = (recall_sample){0};
}

void recall_tally_add(recall_tally *t, size_t found, size_t neighbours)
{
    double recall = neighbours == 0 ? 1.0 : (double)found / (double)neighbours;
    t->sum += recall;
    t->squares += recall * recall;
}

void recall_tally_merge(recall_tally *to, const recall_tally *from)
{
    to->sum += from->sum;
    to->squares += from->squares;
}

float recall_tally_mean(const recall_tally *t, size_t count, float *sure)
{
    double n = fmax((double)count, 1.0), mean = t->sum / n;
    double variance = count < 2 ? 1.0 : fmax(0.0, (t->squares / n - mean * mean) * n / (n - 1));
    *sure = (float)(mean - MARGIN * sqrt(variance / n));
    return (float)mean;
}
