#include "finetune/exact_search.h"

#include "base/checked.h"
#include "index/parallel.h"
#include "index/topk.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Scores of a tile stay in the second-level cache with what they are made of. */
enum { TILE_QUERIES = 32, TILE_DOCUMENTS = 1024 };

typedef struct search_state {
    const exact_job *job;
    vector_hit *hits;
    size_t found;
    atomic_bool failed; /* memory ran out */
} search_state;

/* One tile of queries, with all documents. */
static void search_chunk(void *context, size_t chunk)
{
    search_state *s = context;
    const exact_job *job = s->job;
    const size_t first = chunk * TILE_QUERIES;
    const size_t queries = job->query_count - first < TILE_QUERIES ? job->query_count - first : TILE_QUERIES;
    topk best[TILE_QUERIES];
    float *scores = checked_alloc_aligned((size_t)TILE_QUERIES * TILE_DOCUMENTS, sizeof *scores);
    if (scores == NULL) {
        atomic_store(&s->failed, true);
        return;
    }
    for (size_t q = 0; q < queries; q++)
        best[q] = topk_start(s->hits + (first + q) * job->k, s->found, NULL, NULL);
    for (size_t from = 0; from < job->document_count; from += TILE_DOCUMENTS) {
        const size_t documents = job->document_count - from < TILE_DOCUMENTS ? job->document_count - from
                                                                             : TILE_DOCUMENTS;
        job->g->multiply(false, true, queries, documents, job->dim, 1, job->queries + first * job->dim, job->dim,
                         job->documents + from * job->dim, job->dim, 0, scores, TILE_DOCUMENTS);
        for (size_t q = 0; q < queries; q++)
            for (size_t d = 0; d < documents; d++)
                if (!(scores[q * TILE_DOCUMENTS + d] < topk_threshold(&best[q])))
                    topk_push(&best[q], (uint32_t)(from + d), 0, scores[q * TILE_DOCUMENTS + d]);
    }
    for (size_t q = 0; q < queries; q++)
        topk_finish(&best[q]);
    free(scores);
}

sem_status exact_search(const exact_job *job, vector_hit *hits, size_t *found, sem_error *err)
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
