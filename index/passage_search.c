#include "index/passage_search.h"

#include "base/checked.h"
#include "index/faiss_search.h"
#include "index/topk.h"

#include <math.h>
#include <stdlib.h>

/* Rows for each document asked for in the first try; each further one takes this many
 * times as many, and so does what has been done before at most half as much again. */
enum { FIRST_ROWS = 3, MORE_ROWS = 4 };

/* What a search for rows is told, beside the query. */
typedef struct row_search {
    const rows_view *view;
    const lists *lists;
    const faiss_cells *faiss; /* NULL: the lists are searched */
    const vector_index_options *options;
    const dot_kernel *kernel;
    search_scratch *scratch;
    vector_plan *plan; /* or NULL */
} row_search;

/* A row's score as the search would give it. */
static float row_score(const rows_view *view, const dot_kernel *kernel, const float *query, uint32_t row)
{
    const float *vector = rows_vector(view, row);
    float score;
    kernel->rows(query, &vector, 1, view->rows->width, &score);
    return isnan(score) ? -INFINITY : score;
}

/* Lists may have led to a passage that is not its document's best: all of them are compared. */
static void rank_documents(const rows_view *view, const dot_kernel *kernel, const float *query, const vector_query *q,
                           const vector_hit *found, size_t count, vector_hit *hits)
{
    const rows *r = view->rows;
    topk best = topk_start(hits, q->k, q->tie, q->tie_context);
    for (size_t i = 0; i < count; i++) {
        uint32_t first = found[i].row, top = first;
        float score = found[i].score;
        while (rows_passages(r, first) == 0)
            first--;
        for (uint32_t row = first; row < first + rows_passages(r, first); row++) {
            float other = row == found[i].row ? score : row_score(view, kernel, query, row);
            if (other <= score)
                continue;
            score = other;
            top = row;
        }
        topk_push(&best, found[i].docno, top, score);
    }
    topk_finish(&best);
    for (size_t i = 0; i < best.count; i++)
        hits[i].slot = rows_slot(r, hits[i].row);
}

/* Keeps of each document the first row, up to k; what was found is best first. In place. */
static sem_status keep_best(search_scratch *scratch, vector_hit *found, size_t found_count, size_t k, size_t *count,
                            sem_error *err)
{
    const size_t most = found_count < k ? found_count : k;
    *count = 0;
    sem_status status = scratch_reserve_met(scratch, most, err);
    if (status != SEM_OK)
        return status;
    met_set met = scratch_meet_none(scratch, most);
    for (size_t i = 0; i < found_count && *count < k; i++)
        if (met_add(&met, found[i].docno))
            found[(*count)++] = found[i];
    return SEM_OK;
}

/* Rows to ask for at first: a document has not more than all, and most have few near a query. */
static size_t first_rows(size_t k, size_t all)
{
    size_t wanted;
    return checked_mul(k, FIRST_ROWS, &wanted) && wanted < all ? wanted : all;
}

/* Where each document has one row it is its hit. */
static sem_status search_rows(const row_search *s, const vector_query *q, vector_hit *hits, size_t *count,
                              sem_error *err)
{
    return s->faiss != NULL
               ? faiss_search(s->view, s->faiss, s->options, s->kernel, s->scratch, q, hits, count, s->plan, err)
               : vector_search(s->view, s->lists, s->options, s->kernel, s->scratch, q, hits, count, s->plan, err);
}

static sem_status search_documents(const row_search *s, const vector_query *q, vector_hit *hits, size_t *count,
                                   sem_error *err)
{
    const rows *r = s->view->rows;
    vector_query wide = *q;
    vector_hit *found = NULL;
    size_t found_count = 0;
    sem_status status = SEM_OK;
    wide.k = first_rows(q->k, rows_count(r));
    for (bool more = true; more && status == SEM_OK;) {
        vector_hit *grown = checked_realloc(found, wide.k + 1, sizeof *grown);
        if (grown == NULL) {
            status = sem_fail_memory(err, "hits");
            break;
        }
        found = grown;
        status = search_rows(s, &wide, found, &found_count, err);
        if (status == SEM_OK)
            status = keep_best(s->scratch, found, found_count, q->k, count, err);
        /* Fewer rows than asked for: there are no more. Counted again, since the search may have seen new ones. */
        const size_t all = rows_count(r);
        more = *count < q->k && found_count == wide.k && wide.k < all;
        wide.k = wide.k > all / MORE_ROWS ? all : MORE_ROWS * wide.k;
    }
    if (status == SEM_OK)
        rank_documents(s->view, s->kernel, s->scratch->vector, q, found, *count, hits);
    free(found);
    return status;
}

sem_status passage_search(const rows_view *view, const lists *l, const faiss_cells *f,
                          const vector_index_options *options, const dot_kernel *kernel, search_scratch *scratch,
                          const vector_query *q, vector_hit *hits, size_t *count, vector_plan *plan, sem_error *err)
{
    const row_search s = {view, l, f, options, kernel, scratch, plan};
    *count = 0;
    if (!rows_cut(view->rows) || q->k == 0) {
        sem_status status = search_rows(&s, q, hits, count, err);
        if (status != SEM_OK || !rows_cut(view->rows)) /* the first document of several may just have come */
            return status;
    }
    return q->k == 0 ? SEM_OK : search_documents(&s, q, hits, count, err);
}
