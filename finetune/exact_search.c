#include "finetune/exact_search.h"

#include "base/checked.h"
#include "index/parallel.h"

#include <stdbool.h>

/* Scores of a tile stay in the second-level cache with what they are made of. */
enum { TILE_QUERIES = 32, TILE_DOCUMENTS = 1024 };

typedef struct search_state {
    const exact_job *job;
    exact_hit *hits;
    size_t found;
    atomic_bool failed; /* memory ran out */
} search_state;

/* Whether a ranks before b. */
static bool before(exact_hit a, exact_hit b)
{
    return a.score != b.score ? a.score > b.score : a.document < b.document;
}

/* Hits are a heap with the worst on top. */
static void sift_down(exact_hit *heap, size_t count, size_t at)
{
    const exact_hit moved = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(heap[child], heap[child + 1]))
            child++;
        if (!before(moved, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void push(exact_hit *heap, size_t *count, size_t most, exact_hit hit)
{
    if (*count < most) {
        heap[(*count)++] = hit;
        for (size_t at = *count == most ? most / 2 + 1 : 0; at-- > 0;)
            sift_down(heap, most, at);
    } else if (before(hit, heap[0])) {
        heap[0] = hit;
        sift_down(heap, most, 0);
    }
}

static int compare_hits(const void *a, const void *b)
{
    const exact_hit *x = a, *y = b;
    return before(*x, *y) ? -1 : before(*y, *x);
}

/* One tile of queries, with all documents. */
static void search_chunk(void *context, size_t chunk)
{
    search_state *s = context;
    const exact_job *job = s->job;
    const size_t first = chunk * TILE_QUERIES;
    const size_t queries = job->query_count - first < TILE_QUERIES ? job->query_count - first : TILE_QUERIES;
    size_t counts[TILE_QUERIES] = {0};
    float *scores = checked_alloc_aligned((size_t)TILE_QUERIES * TILE_DOCUMENTS, sizeof *scores);
    if (scores == NULL) {
        atomic_store(&s->failed, true);
        return;
    }
    for (size_t from = 0; from < job->document_count; from += TILE_DOCUMENTS) {
        const size_t documents = job->document_count - from < TILE_DOCUMENTS ? job->document_count - from
                                                                             : TILE_DOCUMENTS;
        job->g->multiply(false, true, queries, documents, job->dim, 1, job->queries + first * job->dim, job->dim,
                         job->documents + from * job->dim, job->dim, 0, scores, TILE_DOCUMENTS);
        for (size_t q = 0; q < queries; q++)
            for (size_t d = 0; d < documents; d++)
                push(s->hits + (first + q) * job->k, &counts[q], s->found,
                     (exact_hit){(uint32_t)(from + d), scores[q * TILE_DOCUMENTS + d]});
    }
    for (size_t q = 0; q < queries; q++)
        qsort(s->hits + (first + q) * job->k, s->found, sizeof *s->hits, compare_hits);
    free(scores);
    if (job->done != NULL)
        atomic_fetch_add(job->done, queries);
}

sem_status exact_search(const exact_job *job, exact_hit *hits, size_t *found, sem_error *err)
{
    if (job->document_count > UINT32_MAX || job->k == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "exact search of %zu hits in %zu documents (at least 1, at most %u)",
                        job->k, job->document_count, UINT32_MAX);
    search_state s = {.job = job, .hits = hits};
    s.found = *found = job->k < job->document_count ? job->k : job->document_count;
    if (s.found > 0)
        parallel_run(job->threads, (job->query_count + TILE_QUERIES - 1) / TILE_QUERIES, search_chunk, &s);
    return atomic_load(&s.failed) ? sem_fail_memory(err, "exact search") : SEM_OK;
}
