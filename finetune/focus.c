#include "finetune/focus.h"

#include "base/checked.h"
#include "finetune/bulk_encode.h"

#include <stdlib.h>
#include <string.h>

static const double LEAST_CONTRAST = 0.1; /* of how far apart the queries are, in all; less is the model's noise */

/* A pair by its document, or by its query. */
typedef struct placed {
    uint32_t domain, pair;
    uint64_t document, query;
} placed;

/* A document's pairs, or a domain's, in the list of them. */
typedef struct run {
    size_t first, end;
} run;

typedef struct focusing {
    const focus_options *options;
    focus_report *report;
    pair_set *set;
    size_t dim;
    placed *list;      /* [count] by domain and query, then by domain and document */
    uint32_t *queries; /* [count] number of each pair's query */
    size_t query_count;
    float *vectors; /* [query_count, dim] */
    double *sum;    /* [dim] working memory */
    double *usual;  /* [documents of a domain] working memory */
    bool *keep;     /* [count] */
} focusing;

static int compare_numbers(uint64_t x, uint64_t y)
{
    return (x > y) - (x < y);
}

static int by_query(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    int order = compare_numbers(x->domain, y->domain);
    order = order != 0 ? order : compare_numbers(x->query, y->query);
    return order != 0 ? order : compare_numbers(x->pair, y->pair);
}

static int by_document(const void *a, const void *b)
{
    const placed *x = a, *y = b;
    int order = compare_numbers(x->domain, y->domain);
    order = order != 0 ? order : compare_numbers(x->document, y->document);
    order = order != 0 ? order : compare_numbers(x->query, y->query);
    return order != 0 ? order : compare_numbers(x->pair, y->pair);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool same_document(const placed *a, const placed *b)
{
    return a->domain == b->domain && a->document == b->document;
}

/* Different queries of the run; it is sorted by them. */
static size_t count_queries(const focusing *f, run r)
{
    size_t count = 0;
    for (size_t i = r.first; i < r.end; i++)
        count += i == r.first || f->list[i].query != f->list[i - 1].query;
    return count;
}

static run document_from(const focusing *f, size_t first)
{
    run r = {first, first + 1};
    while (r.end < f->set->count && same_document(&f->list[r.end], &f->list[first]))
        r.end++;
    return r;
}

/* Whether any document has so many queries that it is to be looked at. */
static bool is_needed(const focusing *f)
{
    for (size_t at = 0; at < f->set->count;) {
        const run r = document_from(f, at);
        if (count_queries(f, r) >= FOCUS_QUERIES)
            return true;
        at = r.end;
    }
    return false;
}

/* Numbers the queries of each domain and encodes them. The list is by query. */
static sem_status encode_queries(focusing *f, sem_error *err)
{
    const focus_options *o = f->options;
    bulk_text *texts = checked_realloc(NULL, f->set->count, sizeof *texts);
    if (texts == NULL)
        return sem_fail_memory(err, "the queries of documents");
    for (size_t i = 0; i < f->set->count; i++) {
        const train_pair *p = &f->set->pairs[f->list[i].pair];
        const bool is_new = i == 0 || f->list[i].domain != f->list[i - 1].domain ||
                            f->list[i].query != f->list[i - 1].query;
        if (is_new)
            texts[f->query_count++] = (bulk_text){p->query, p->query_length};
        f->queries[f->list[i].pair] = (uint32_t)f->query_count - 1;
    }
    f->vectors = checked_alloc_floats(f->query_count, f->dim);
    const bulk_job work = {.model = o->model,
                           .prompt = model_config_query_prompt(model_get_config(o->model)),
                           .texts = texts,
                           .count = f->query_count,
                           .threads = o->threads,
                           .nice = o->nice,
                           .cancel = o->cancel,
                           .out = f->vectors};
    sem_status status = f->vectors != NULL ? bulk_encode(&work, err) : sem_fail_memory(err, "the queries of documents");
    free(texts);
    return status;
}

static void add_query(focusing *f, uint32_t query)
{
    const float *v = f->vectors + query * f->dim;
    for (size_t k = 0; k < f->dim; k++)
        f->sum[k] += (double)v[k];
}

/* Mean cosine between n unit vectors whose sum is in f->sum, which is cleared. */
static double mean_cosine(focusing *f, size_t n)
{
    double squares = 0;
    for (size_t k = 0; k < f->dim; k++)
        squares += f->sum[k] * f->sum[k];
    memset(f->sum, 0, f->dim * sizeof *f->sum);
    return n > 1 ? (squares - (double)n) / ((double)n * (double)(n - 1)) : 1;
}

/* Between the different queries of a document; *n how many. */
static double focus_of(focusing *f, run document, size_t *n)
{
    *n = 0;
    for (size_t i = document.first; i < document.end; i++) {
        if (i > document.first && f->list[i].query == f->list[i - 1].query)
            continue;
        add_query(f, f->queries[f->list[i].pair]);
        (*n)++;
    }
    return mean_cosine(f, *n);
}

/* Between all different queries of a domain: they are numbered one behind the other. */
static double cosine_of_all(focusing *f, run domain)
{
    uint32_t least = UINT32_MAX, most = 0;
    for (size_t i = domain.first; i < domain.end; i++) {
        const uint32_t query = f->queries[f->list[i].pair];
        least = query < least ? query : least;
        most = query > most ? query : most;
    }
    for (uint32_t q = least; q <= most; q++)
        add_query(f, q);
    return mean_cosine(f, (size_t)most - least + 1);
}

static void leave_out(focusing *f, run document)
{
    f->report->left_out++;
    f->report->pairs += document.end - document.first;
    for (size_t i = document.first; i < document.end; i++)
        f->keep[f->list[i].pair] = false;
}

/* The list is by document. */
static void look_at_domain(focusing *f, run domain)
{
    size_t documents = 0, n;
    const double all = cosine_of_all(f, domain);
    for (size_t at = domain.first; at < domain.end;) {
        const run r = document_from(f, at);
        const double found = focus_of(f, r, &n);
        if (n > 1)
            f->usual[documents++] = found;
        at = r.end;
    }
    if (documents < FOCUS_DOCUMENTS)
        return;
    qsort(f->usual, documents, sizeof *f->usual, compare_doubles);
    const double contrast = f->usual[documents / 2] - all;
    if (contrast < LEAST_CONTRAST * (1 - all))
        return;
    for (size_t at = domain.first; at < domain.end;) {
        const run r = document_from(f, at);
        const double found = focus_of(f, r, &n);
        f->report->documents += n >= FOCUS_QUERIES;
        if (n >= FOCUS_QUERIES && (found - all) / contrast < f->options->least)
            leave_out(f, r);
        at = r.end;
    }
}

static void look_at_all(focusing *f)
{
    for (run domain = {0, 0}; domain.first < f->set->count; domain.first = domain.end) {
        domain.end = domain.first + 1;
        while (domain.end < f->set->count && f->list[domain.end].domain == f->list[domain.first].domain)
            domain.end++;
        look_at_domain(f, domain);
    }
}

static bool take_memory(focusing *f)
{
    const size_t count = f->set->count;
    f->list = checked_realloc(NULL, count, sizeof *f->list);
    f->queries = checked_realloc(NULL, count, sizeof *f->queries);
    f->usual = checked_realloc(NULL, count, sizeof *f->usual);
    f->sum = calloc(f->dim, sizeof *f->sum);
    f->keep = checked_realloc(NULL, count, sizeof *f->keep);
    return f->list != NULL && f->queries != NULL && f->usual != NULL && f->sum != NULL && f->keep != NULL;
}

static sem_status look(focusing *f, sem_error *err)
{
    const size_t count = f->set->count;
    if (!take_memory(f))
        return sem_fail_memory(err, "the queries of documents");
    for (size_t i = 0; i < count; i++) {
        const train_pair *p = &f->set->pairs[i];
        f->list[i] = (placed){p->domain, (uint32_t)i, p->document_key, p->query_key};
        f->keep[i] = true;
    }
    qsort(f->list, count, sizeof *f->list, by_document);
    if (!is_needed(f))
        return SEM_OK;
    qsort(f->list, count, sizeof *f->list, by_query);
    sem_status status = encode_queries(f, err);
    if (status != SEM_OK)
        return status;
    qsort(f->list, count, sizeof *f->list, by_document);
    look_at_all(f);
    return SEM_OK;
}

/* What is left keeps its order. */
static void keep_pairs(pair_set *set, const bool *keep)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (!keep[i])
            continue;
        set->pairs[kept] = set->pairs[i];
        set->pair_documents[kept++] = set->pair_documents[i];
    }
    set->count = kept;
}

sem_status focus_pairs(pair_set *set, const focus_options *options, focus_report *report, sem_error *err)
{
    focusing f = {.options = options, .report = report, .set = set, .dim = model_get_config(options->model)->dim};
    *report = (focus_report){0};
    if (!(options->least > 0) || set->count == 0)
        return SEM_OK;
    sem_status status = look(&f, err);
    if (status == SEM_OK)
        keep_pairs(set, f.keep);
    free(f.list);
    free(f.queries);
    free(f.usual);
    free(f.sum);
    free(f.keep);
    free(f.vectors);
    return status;
}
