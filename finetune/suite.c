#include "finetune/suite.h"

#include "base/checked.h"
#include "finetune/exact_search.h"
#include "finetune/suite_set.h"
#include "finetune/text_vectors.h"

#include <math.h>
#include <stdlib.h>

/* --- correlation */

double suite_pearson(const double *x, const double *y, size_t n)
{
    double mean_x = 0, mean_y = 0, xy = 0, xx = 0, yy = 0;
    for (size_t i = 0; i < n; i++) {
        mean_x += x[i] / (double)n;
        mean_y += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        const double dx = x[i] - mean_x, dy = y[i] - mean_y;
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

typedef struct ranked {
    double value;
    size_t place;
} ranked;

static int compare_ranked(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* ranks[i] of x[i] from 1; those of equal values are their mean. */
static void rank_values(const double *x, size_t n, ranked *sorted, double *ranks)
{
    for (size_t i = 0; i < n; i++)
        sorted[i] = (ranked){x[i], i};
    qsort(sorted, n, sizeof *sorted, compare_ranked);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && !(sorted[from].value < sorted[to].value); to++)
            ;
        for (size_t i = from; i < to; i++)
            ranks[sorted[i].place] = (double)(from + 1 + to) / 2;
    }
}

sem_status suite_spearman(const double *x, const double *y, size_t n, double *out, sem_error *err)
{
    ranked *sorted = checked_realloc(NULL, n + 1, sizeof *sorted);
    double *ranks = checked_realloc(NULL, n + 1, 2 * sizeof *ranks);
    const bool enough = sorted != NULL && ranks != NULL;
    if (enough) {
        rank_values(x, n, sorted, ranks);
        rank_values(y, n, sorted, ranks + n);
        *out = suite_pearson(ranks, ranks + n, n);
    }
    free(sorted);
    free(ranks);
    return enough ? SEM_OK : sem_fail_memory(err, "the ranks of scores");
}

/* --- graded similarity */

static sem_status correlate(const suite_options *o, const suite_texts *t, suite_similarity *out, sem_error *err)
{
    const size_t n = t->pairs.count, dim = model_get_config(o->model)->dim;
    float *a = NULL, *b = NULL;
    double *cosines = checked_realloc(NULL, n, sizeof *cosines);
    sem_status status = cosines != NULL ? SEM_OK : sem_fail_memory(err, "the scores of pairs");
    /* Neither side is the query: sentence-transformers' own evaluation uses no prompts either,
     * but for the default one, which is what a document has. */
    if (status == SEM_OK)
        status = text_vectors(o->model, t->anchors, n, false, o->threads, o->nice, &a, err);
    if (status == SEM_OK)
        status = text_vectors(o->model, t->positives, n, false, o->threads, o->nice, &b, err);
    for (size_t i = 0; i < n && status == SEM_OK; i++) {
        cosines[i] = 0;
        for (size_t d = 0; d < dim; d++)
            cosines[i] += (double)a[i * dim + d] * (double)b[i * dim + d];
    }
    if (status == SEM_OK) {
        out->pairs = n;
        out->pearson = suite_pearson(cosines, t->scores, n);
        status = suite_spearman(cosines, t->scores, n, &out->spearman, err);
    }
    free(a);
    free(b);
    free(cosines);
    return status;
}

sem_status suite_sts(const suite_options *o, const data_options *data, suite_similarity *out, sem_error *err)
{
    suite_texts t;
    *out = (suite_similarity){0};
    if (data->form != DATA_STS)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: graded similarity takes form sts, not %s", data->name,
                        data_form_name(data->form));
    sem_status status = suite_texts_load(&t, data, err);
    if (status == SEM_OK)
        status = correlate(o, &t, out, err);
    suite_texts_free(&t);
    return status;
}

/* --- search */

/* The k nearest of `among` for each of `of`. */
static sem_status find_nearest(const suite_options *o, const float *of, size_t count, const float *among,
                               size_t among_count, size_t k, vector_hit **hits, size_t *found, sem_error *err)
{
    size_t places;
    *hits = checked_mul(count, k, &places) ? checked_realloc(NULL, places + 1, sizeof **hits) : NULL;
    if (*hits == NULL)
        return sem_fail_memory(err, "the hits of an evaluation");
    const exact_job job = {.g = model_get_gemm(o->model),
                           .queries = of,
                           .query_count = count,
                           .documents = among,
                           .document_count = among_count,
                           .dim = model_get_config(o->model)->dim,
                           .k = k,
                           .threads = o->threads};
    return exact_search(&job, *hits, found, err);
}

/* Adds up what the hits of all queries are worth. */
static sem_status judge(const suite_options *o, const suite_judged *j, const vector_hit *hits, size_t found,
                        rank_metrics *out, sem_error *err)
{
    bool *relevant = checked_realloc(NULL, o->k, sizeof *relevant);
    if (relevant == NULL)
        return sem_fail_memory(err, "the hits of an evaluation");
    for (size_t q = 0; q < j->query_count; q++) {
        for (size_t i = 0; i < found; i++)
            relevant[i] = suite_is_relevant(j, q, hits[q * o->k + i].docno);
        rank_metrics_add(out, relevant, found, j->relevant_counts[q], o->k);
    }
    rank_metrics_mean(out);
    free(relevant);
    return SEM_OK;
}

static sem_status search(const suite_options *o, const suite_judged *j, rank_metrics *out, sem_error *err)
{
    float *queries = NULL, *documents = NULL;
    vector_hit *hits = NULL;
    size_t found = 0;
    sem_status status = text_vectors(o->model, j->queries, j->query_count, true, o->threads, o->nice, &queries, err);
    if (status == SEM_OK)
        status = text_vectors(o->model, j->documents, j->document_count, false, o->threads, o->nice, &documents, err);
    if (status == SEM_OK)
        status = find_nearest(o, queries, j->query_count, documents, j->document_count, o->k, &hits, &found, err);
    if (status == SEM_OK)
        status = judge(o, j, hits, found, out, err);
    free(queries);
    free(documents);
    free(hits);
    return status;
}

sem_status suite_retrieval_pairs(const suite_options *o, const data_options *data, rank_metrics *out, sem_error *err)
{
    suite_judged j;
    *out = (rank_metrics){0};
    sem_status status = suite_judged_from_pairs(&j, data, err);
    if (status == SEM_OK)
        status = search(o, &j, out, err);
    suite_judged_free(&j);
    return status;
}

sem_status suite_retrieval_beir(const suite_options *o, const suite_beir *files, rank_metrics *out, sem_error *err)
{
    suite_judged j;
    *out = (rank_metrics){0};
    sem_status status = suite_judged_from_beir(&j, files, err);
    if (status == SEM_OK)
        status = search(o, &j, out, err);
    suite_judged_free(&j);
    return status;
}

/* --- translation */

/* Share of texts whose nearest is the one at their own place, or one that reads the same. */
static sem_status find_own(const suite_options *o, const float *of, const float *among, const data_text *texts,
                           size_t n, double *share, sem_error *err)
{
    vector_hit *hits = NULL;
    size_t found = 0, right = 0;
    sem_status status = find_nearest(o, of, n, among, n, 1, &hits, &found, err);
    for (size_t i = 0; i < n && status == SEM_OK; i++)
        right += data_text_equal(texts[hits[i].docno], texts[i]);
    *share = (double)right / (double)n;
    free(hits);
    return status;
}

static sem_status translate(const suite_options *o, const suite_texts *t, suite_translation *out, sem_error *err)
{
    const size_t n = t->pairs.count;
    float *a = NULL, *b = NULL;
    sem_status status = text_vectors(o->model, t->anchors, n, false, o->threads, o->nice, &a, err);
    if (status == SEM_OK)
        status = text_vectors(o->model, t->positives, n, false, o->threads, o->nice, &b, err);
    if (status == SEM_OK)
        status = find_own(o, a, b, t->positives, n, &out->forward, err);
    if (status == SEM_OK)
        status = find_own(o, b, a, t->anchors, n, &out->backward, err);
    out->pairs = n;
    free(a);
    free(b);
    return status;
}

sem_status suite_translation_of(const suite_options *o, const data_options *data, suite_translation *out,
                                sem_error *err)
{
    suite_texts t;
    *out = (suite_translation){0};
    sem_status status = suite_texts_load(&t, data, err);
    if (status == SEM_OK)
        status = translate(o, &t, out, err);
    suite_texts_free(&t);
    return status;
}
