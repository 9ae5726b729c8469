#include "finetune/mine.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/exact_search.h"
#include "finetune/mine_set.h"
#include "finetune/mine_words.h"
#include "finetune/text_vectors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TOP = 100,
    NEGATIVES = 4,
    TOP_MAX = 10000,
    NEGATIVES_MAX = 1000,
    QUERIES_AT_ONCE = 256 /* whose candidates are in memory, and between looks at *cancel */
};

static const double GUIDE_RATIO = 0.95;

mine_options mine_defaults(void)
{
    return (mine_options){
        .by_words = true, .top = TOP, .negatives = NEGATIVES, .seed = 1, .guide_ratio = GUIDE_RATIO, .threads = 1};
}

typedef struct candidate {
    uint32_t document;
    uint32_t word_rank, model_rank;
    float word_score, model_score;
} candidate;

typedef struct mining {
    const mine_options *options;
    const mine_control *control;
    mine_report *report;
    mine_set set;
    mine_words *words;
    float *query_vectors, *document_vectors; /* by the model */
    float *guide_queries, *guide_documents;  /* by the guide; borrowed where it is the model */
    size_t guide_dim;
    uint32_t *pairs_of;  /* [pairs] pair numbers, query after query */
    size_t *first_pair;  /* [queries + 1] */
    vector_hit *near;    /* [QUERIES_AT_ONCE, top] */
    mine_word_hit *word; /* [top] */
    candidate *found;    /* [2 top] of one query */
    size_t found_count;
    mined_negative *negatives; /* [2 top] of one pair, those that pass first */
    mined **results;           /* [pairs] each one block, until the sink gets them */
} mining;

static void free_all(mining *m)
{
    for (size_t i = 0; m->results != NULL && i < m->set.pair_count; i++)
        free(m->results[i]);
    free(m->results);
    if (m->guide_queries != m->query_vectors)
        free(m->guide_queries);
    if (m->guide_documents != m->document_vectors)
        free(m->guide_documents);
    free(m->query_vectors);
    free(m->document_vectors);
    free(m->pairs_of);
    free(m->first_pair);
    free(m->near);
    free(m->word);
    free(m->found);
    free(m->negatives);
    mine_words_destroy(m->words);
    mine_set_free(&m->set);
}

static sem_status check(const mine_options *o, sem_error *err)
{
    if (!o->by_words && !o->by_model)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mining goes by words, by a model, or by both; neither was chosen");
    if (o->by_model && o->model == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mining by a model needs one");
    if (o->top == 0 || o->top > TOP_MAX || o->negatives == 0 || o->negatives > NEGATIVES_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mining %zu negatives of the best %zu (allowed: 1 to %d, 1 to %d)",
                        o->negatives, o->top, NEGATIVES_MAX, TOP_MAX);
    if (o->guide != NULL && !(o->guide_ratio > 0 && o->guide_ratio <= 10))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mining: guide_ratio is %g (allowed: above 0, at most 10)",
                        o->guide_ratio);
    return SEM_OK;
}

static sem_status show(const mining *m, const char *phase, size_t done, size_t all, sem_error *err)
{
    const mine_control *c = m->control;
    if (c->progress != NULL)
        c->progress(c->context, phase, done, all);
    if (c->cancel != NULL && atomic_load(c->cancel))
        return sem_fail(err, SEM_CANCELLED, "mining was cancelled");
    return SEM_OK;
}

/* --- before the first query */

static sem_status group_by_query(mining *m, sem_error *err)
{
    const mine_set *s = &m->set;
    m->pairs_of = checked_realloc(NULL, s->pair_count, sizeof *m->pairs_of);
    m->first_pair = calloc(s->query_count + 2, sizeof *m->first_pair);
    if (m->pairs_of == NULL || m->first_pair == NULL)
        return sem_fail_memory(err, "the pairs to mine");
    size_t *next = m->first_pair + 1; /* becomes the end of each query's, which is the start of the one behind it */
    for (size_t i = 0; i < s->pair_count; i++)
        next[s->pairs[i].query + 1]++;
    for (size_t q = 1; q <= s->query_count; q++)
        next[q] += next[q - 1];
    for (size_t i = 0; i < s->pair_count; i++)
        m->pairs_of[next[s->pairs[i].query]++] = (uint32_t)i;
    return SEM_OK;
}

static sem_status take_memory(mining *m, sem_error *err)
{
    const size_t top = m->options->top;
    m->near = checked_realloc(NULL, QUERIES_AT_ONCE * top, sizeof *m->near);
    m->word = checked_realloc(NULL, top, sizeof *m->word);
    m->found = checked_realloc(NULL, 2 * top, sizeof *m->found);
    m->negatives = checked_realloc(NULL, 2 * top, sizeof *m->negatives);
    m->results = calloc(m->set.pair_count, sizeof *m->results);
    if (m->near == NULL || m->word == NULL || m->found == NULL || m->negatives == NULL || m->results == NULL)
        return sem_fail_memory(err, "mining");
    return SEM_OK;
}

static sem_status embed_side(mining *m, const model *by, bool queries, float **out, sem_error *err)
{
    const mine_set *s = &m->set;
    sem_status status = show(m, queries ? "embedding queries" : "embedding documents", 0, 0, err);
    if (status != SEM_OK)
        return status;
    return text_vectors(by, queries ? s->queries : s->documents, queries ? s->query_count : s->document_count, queries,
                        m->options->threads, m->options->nice, out, err);
}

static sem_status embed(mining *m, sem_error *err)
{
    const mine_options *o = m->options;
    sem_status status = SEM_OK;
    if (o->by_model)
        status = embed_side(m, o->model, true, &m->query_vectors, err);
    if (o->by_model && status == SEM_OK)
        status = embed_side(m, o->model, false, &m->document_vectors, err);
    if (o->guide == NULL || status != SEM_OK)
        return status;
    m->guide_dim = model_get_config(o->guide)->dim;
    if (o->by_model && o->guide == o->model) {
        m->guide_queries = m->query_vectors;
        m->guide_documents = m->document_vectors;
        return SEM_OK;
    }
    status = embed_side(m, o->guide, true, &m->guide_queries, err);
    return status == SEM_OK ? embed_side(m, o->guide, false, &m->guide_documents, err) : status;
}

static sem_status prepare(mining *m, const data_options *data, sem_error *err)
{
    sem_status status = show(m, "reading", 0, 0, err);
    if (status == SEM_OK)
        status = mine_set_load(&m->set, data, err);
    if (status == SEM_OK)
        status = group_by_query(m, err);
    if (status == SEM_OK)
        status = take_memory(m, err);
    if (status == SEM_OK && m->options->by_words)
        status = mine_words_create(&m->words, m->set.documents, m->set.document_count, err);
    return status == SEM_OK ? embed(m, err) : status;
}

/* --- one query */

/* The candidate for a document, added if it is new. */
static candidate *candidate_for(mining *m, uint32_t document)
{
    for (size_t i = 0; i < m->found_count; i++)
        if (m->found[i].document == document)
            return &m->found[i];
    m->found[m->found_count] = (candidate){.document = document};
    return &m->found[m->found_count++];
}

static sem_status find_candidates(mining *m, size_t query, const vector_hit *near, size_t near_count, sem_error *err)
{
    size_t count = 0;
    m->found_count = 0;
    if (m->words != NULL) {
        sem_status status = mine_words_search(m->words, m->set.queries[query], m->options->top, m->word, &count, err);
        if (status != SEM_OK)
            return status;
    }
    for (size_t i = 0; i < count; i++) {
        candidate *c = candidate_for(m, m->word[i].document);
        c->word_rank = (uint32_t)i + 1;
        c->word_score = m->word[i].score;
    }
    for (size_t i = 0; i < near_count; i++) {
        candidate *c = candidate_for(m, near[i].docno);
        c->model_rank = (uint32_t)i + 1;
        c->model_score = near[i].score;
    }
    return SEM_OK;
}

static float guide_score(const mining *m, uint32_t query, uint32_t document)
{
    const float *q = m->guide_queries + query * m->guide_dim, *d = m->guide_documents + document * m->guide_dim;
    return (float)text_vectors_cosine(q, d, m->guide_dim);
}

double mine_guide_limit(double positive, double ratio)
{
    return positive > 0 ? ratio * positive : positive;
}

static bool passes(mining *m, const mine_pair *p, const candidate *c, float positive_score, float *score)
{
    const mine_options *o = m->options;
    const mine_set *s = &m->set;
    mine_report *r = m->report;
    r->candidates++;
    if (mine_set_is_positive(s, p->example, c->document)) {
        r->known++;
        return false;
    }
    const uint64_t form = s->document_forms[c->document];
    if (!o->keep_same_text && (form == s->document_forms[p->document] || form == mine_form(p->example->anchor))) {
        r->same_text++;
        return false;
    }
    if (!o->keep_same_label && p->example->label_key != 0 &&
        mine_set_has_label(s, c->document, p->example->label_key)) {
        r->same_label++;
        return false;
    }
    *score = o->guide != NULL ? guide_score(m, p->query, c->document) : 0;
    if (o->guide != NULL && (double)*score > mine_guide_limit((double)positive_score, o->guide_ratio)) {
        r->by_guide++;
        return false;
    }
    return true;
}

/* Draws `wanted` of the first `count` negatives to the front, in random order. */
static size_t draw(mining *m, const mine_pair *p, size_t count)
{
    random_state r;
    const size_t wanted = count < m->options->negatives ? count : m->options->negatives;
    random_seed(&r, random_at(random_at(m->options->seed, p->example->anchor_key), p->example->positive_key));
    for (size_t i = 0; i < wanted; i++) {
        size_t j = i + (size_t)random_below(&r, count - i);
        mined_negative kept = m->negatives[i];
        m->negatives[i] = m->negatives[j];
        m->negatives[j] = kept;
    }
    return wanted;
}

/* One block: the pair and its negatives. Texts stay those of the set. */
static sem_status keep_result(mining *m, size_t pair, float positive_score, size_t count, sem_error *err)
{
    const example *e = m->set.pairs[pair].example;
    mined *result = malloc(sizeof *result + count * sizeof *m->negatives);
    if (result == NULL)
        return sem_fail_memory(err, "mined negatives");
    mined_negative *negatives = (mined_negative *)(result + 1);
    if (count > 0)
        memcpy(negatives, m->negatives, count * sizeof *negatives);
    *result = (mined){.anchor = e->anchor,
                      .positive = e->positive,
                      .label = e->label,
                      .positive_guide_score = positive_score,
                      .negatives = negatives,
                      .count = count};
    m->results[pair] = result;
    return SEM_OK;
}

static sem_status mine_pair_of(mining *m, size_t pair, sem_error *err)
{
    const mine_pair *p = &m->set.pairs[pair];
    const float positive = m->options->guide != NULL ? guide_score(m, p->query, p->document) : 0;
    size_t count = 0;
    for (size_t i = 0; i < m->found_count; i++) {
        const candidate *c = &m->found[i];
        float score;
        if (!passes(m, p, c, positive, &score))
            continue;
        m->negatives[count++] = (mined_negative){.text = m->set.documents[c->document],
                                                 .word_rank = c->word_rank,
                                                 .model_rank = c->model_rank,
                                                 .word_score = c->word_score,
                                                 .model_score = c->model_score,
                                                 .guide_score = score};
    }
    const size_t drawn = draw(m, p, count);
    m->report->pairs++;
    m->report->drawn += drawn;
    m->report->without += drawn == 0;
    return keep_result(m, pair, positive, drawn, err);
}

/* --- all queries */

static sem_status mine_some(mining *m, size_t first, size_t count, sem_error *err)
{
    size_t near_count = 0;
    sem_status status = SEM_OK;
    if (m->options->by_model) {
        const size_t dim = model_get_config(m->options->model)->dim;
        const exact_job job = {.g = model_get_gemm(m->options->model),
                               .queries = m->query_vectors + first * dim,
                               .query_count = count,
                               .documents = m->document_vectors,
                               .document_count = m->set.document_count,
                               .dim = dim,
                               .k = m->options->top,
                               .threads = m->options->threads};
        status = exact_search(&job, m->near, &near_count, err);
    }
    for (size_t q = first; q < first + count && status == SEM_OK; q++) {
        status = find_candidates(m, q, m->near + (q - first) * m->options->top, near_count, err);
        for (size_t i = m->first_pair[q]; i < m->first_pair[q + 1] && status == SEM_OK; i++)
            status = mine_pair_of(m, m->pairs_of[i], err);
    }
    return status;
}

static sem_status mine_all(mining *m, sem_error *err)
{
    const size_t queries = m->set.query_count;
    sem_status status = SEM_OK;
    m->report->documents = m->set.document_count;
    for (size_t first = 0; first < queries && status == SEM_OK; first += QUERIES_AT_ONCE) {
        size_t count = queries - first < QUERIES_AT_ONCE ? queries - first : QUERIES_AT_ONCE;
        status = mine_some(m, first, count, err);
        if (status == SEM_OK)
            status = show(m, "mining", first + count, queries, err);
    }
    for (size_t i = 0; i < m->set.pair_count && status == SEM_OK; i++)
        status = m->control->sink(m->control->context, m->results[i], err);
    return status;
}

sem_status mine_negatives(const data_options *data, const mine_options *options, const mine_control *control,
                          mine_report *report, sem_error *err)
{
    *report = (mine_report){0};
    sem_status status = check(options, err);
    if (status != SEM_OK)
        return status;
    mining m = {.options = options, .control = control, .report = report};
    status = prepare(&m, data, err);
    if (status == SEM_OK)
        status = mine_all(&m, err);
    free_all(&m);
    return status;
}
