/* Mode auto: a query model for the vectors that are there, which costs a training, and a model for
 * both, for which every document is embedded anew. Both are trained and judged on the same queries;
 * the second is taken only where it is better beyond chance and its price can be paid. */
#include "base/checked.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/random.h"
#include "finetune/bulk_encode.h"
#include "finetune/evaluate.h"
#include "daemon/job_candidate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLE_DOCUMENTS = 128, TEST_ROUNDS = 10000 };

/* --- what re-embedding would take */

typedef struct sampling {
    bulk_text texts[SAMPLE_DOCUMENTS];
    char *copies[SAMPLE_DOCUMENTS]; /* owned */
    size_t count;
    uint32_t collection;
    double share;
    bool failed;
} sampling;

static bool sample_one(void *context, const store_document *doc)
{
    sampling *s = context;
    if (random_unit_of(random_at(s->collection, doc->docno)) >= s->share || doc->text_length == 0)
        return true;
    char *copy = malloc(doc->text_length);
    s->failed = copy == NULL;
    if (s->failed)
        return false;
    memcpy(copy, doc->text, doc->text_length);
    s->copies[s->count] = copy;
    s->texts[s->count++] = (bulk_text){copy, doc->text_length};
    return s->count < SAMPLE_DOCUMENTS;
}

static sem_status take_sample(sampling *s, core *c, sem_error *err)
{
    store_read *r;
    store_collection *all = NULL;
    size_t count = 0;
    uint64_t documents = 0;
    sem_status status = store_read_begin(c->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_collection_list(r, &all, &count, err);
    for (size_t i = 0; status == SEM_OK && i < count; i++)
        documents += all[i].external ? 0 : all[i].documents;
    s->share = documents > 0 ? (double)SAMPLE_DOCUMENTS / (double)documents : 0;
    for (size_t i = 0; status == SEM_OK && i < count && s->count < SAMPLE_DOCUMENTS; i++) {
        s->collection = all[i].number;
        if (!all[i].external)
            status = store_document_walk(r, s->collection, NULL, 0, sample_one, s, err);
        if (status == SEM_OK && s->failed)
            status = sem_fail_memory(err, "a sample of documents");
    }
    free(all);
    store_read_end(r);
    return status;
}

/* A document, or a passage, of the sample takes so long on average. */
static sem_status time_sample(const sampling *s, const job *j, const model *m, double *each, sem_error *err)
{
    float *vectors = checked_alloc_aligned((s->count + 1) * model_get_config(m)->dim, sizeof *vectors);
    if (vectors == NULL)
        return sem_fail_memory(err, "a sample of vectors");
    const bulk_job work = {.model = m,
                           .prompt = model_config_document_prompt(model_get_config(m)),
                           .texts = s->texts,
                           .count = s->count,
                           .threads = j->threads,
                           .nice = j->settings.train.nice,
                           .cancel = j->cancel,
                           .out = vectors};
    const uint64_t began = clock_monotonic_ns();
    sem_status status = s->count > 0 ? bulk_encode(&work, err) : SEM_OK;
    *each = s->count > 0 ? (double)(clock_monotonic_ns() - began) / 1e9 / (double)s->count : 0;
    free(vectors);
    return status;
}

static sem_status estimate(const job *j, const model *m, double *seconds, sem_error *err)
{
    uint64_t vectors = 0;
    double each = 0;
    sampling *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a sample of documents");
    sem_status status = take_sample(s, j->core, err);
    if (status == SEM_OK)
        status = time_sample(s, j, m, &each, err);
    if (status == SEM_OK)
        status = job_room_vectors(j->core, &vectors, err);
    if (status == SEM_OK)
        *seconds = each * (double)vectors;
    for (size_t i = 0; i < s->count; i++)
        free(s->copies[i]);
    free(s);
    return status;
}

/* --- the two candidates */

typedef struct attempt {
    job_towers towers;
    char folder[STORE_MODEL_MAX + 1]; /* in the job's own */
    bool judged, passed;              /* by the gate, against what serves */
    job_ranks ranks;                  /* owned */
    json_t *before, *after;
    char *metrics;
    char reason[JOB_REASON_MAX];
} attempt;

static void attempt_free(attempt *a)
{
    job_ranks_free(&a->ranks);
    json_decref(a->before);
    json_decref(a->after);
    free(a->metrics);
}

static double mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return n > 0 ? sum / (double)n : 0;
}

/* What the gate has told of it is set aside. */
static void take_figures(attempt *a, job *j)
{
    job_status *s = j->status;
    a->ranks = j->ranks;
    j->ranks = (job_ranks){0};
    a->metrics = j->metrics;
    j->metrics = NULL;
    pthread_mutex_lock(&s->lock);
    a->before = json_incref(s->before);
    a->after = json_incref(s->after);
    snprintf(a->reason, sizeof a->reason, "%s", s->reason);
    pthread_mutex_unlock(&s->lock);
}

static sem_status try_one(attempt *a, job *j, pair_set *pairs, sem_error *err)
{
    job_candidate c = {0};
    sem_status status = job_train(j, pairs, a->towers, a->folder, err);
    if (status == SEM_OK)
        status = job_candidate_open(&c, j, a->folder, a->towers == TOWERS_QUERIES, err);
    if (status == SEM_OK)
        status = job_candidate_judge(&c, j, pairs, &a->passed, err);
    job_candidate_close(&c);
    a->judged = status == SEM_OK;
    if (a->judged)
        take_figures(a, j);
    return status;
}

/* Why a model for both is out of the question, or an empty text. */
static sem_status look_at_price(const job *j, char *why, size_t size, double *seconds, sem_error *err)
{
    serving *now = serving_slot_acquire(&j->core->current);
    const double most = (double)j->settings.finetune.max_embed_ms / 1000;
    why[0] = '\0';
    sem_status status = estimate(j, now->document, seconds, err);
    sem_status room = status == SEM_OK ? job_room_check(j, space_dim(now->space), err) : SEM_OK;
    serving_release(now);
    if (status != SEM_OK)
        return status;
    if (room != SEM_OK && room != SEM_RESOURCE_EXHAUSTED)
        return room;
    if (room == SEM_RESOURCE_EXHAUSTED)
        snprintf(why, size, "%.*s: query", (int)(size / 2), err->message);
    else if (most > 0 && *seconds > most)
        snprintf(why, size, "re-embedding would take about %.3g s, finetune.max_embed is %.3g s: query", *seconds,
                 most);
    return SEM_OK;
}

/* --- the choice */

/* Whether the second candidate is to be taken; says why. seconds: what it costs. */
static bool choose_full(const attempt *query, const attempt *full, const job *j, double seconds, char *why, size_t size)
{
    const job_ranks *a = &query->ranks, *b = &full->ranks;
    const double first = mean(a->after, a->count), second = mean(b->after, b->count);
    /* A held-out document that was deleted in between leaves nothing to compare. */
    const double p = a->count > 0 && a->count == b->count
                         ? randomisation_test(a->after, b->after, a->count, TEST_ROUNDS, j->number)
                         : 1;
    const bool better = second > first && p < j->settings.finetune.max_p;
    const bool taken = full->passed && (!query->passed || better);
    snprintf(why, size,
             "held-out MRR@10 %.3f, %.3f with another query model, %.3f with all embedded anew (about %.3g s; p = %.4f "
             "that it is no better): %s",
             mean(a->before, a->count), first, second, seconds, p,
             taken           ? "full"
             : query->passed ? "query"
                             : "neither passes the gate");
    return taken;
}

/* The job's figures become those of the attempt that is taken, or would have been. */
static void settle(attempt *a, job *j, const char *why)
{
    char reason[2 * JOB_REASON_MAX + 4]; /* which the status cuts */
    free(j->metrics);
    j->metrics = a->metrics;
    a->metrics = NULL;
    job_status_metrics(j->status, a->before, a->after);
    a->before = a->after = NULL;
    snprintf(reason, sizeof reason, "%s; %s", why, a->reason);
    job_status_decide(j->status, a->passed, reason);
}

sem_status job_auto(job *j, pair_set *pairs, job_candidate *chosen, bool *promote, sem_error *err)
{
    char why[JOB_REASON_MAX];
    double seconds = 0;
    attempt query = {.towers = TOWERS_QUERIES}, full = {.towers = TOWERS_BOTH};
    snprintf(full.folder, sizeof full.folder, "%s", j->model);
    snprintf(query.folder, sizeof query.folder, "%.*s-query", (int)(sizeof query.folder - sizeof "-query"), j->model);
    sem_status status = look_at_price(j, why, sizeof why, &seconds, err);
    crash_point("auto.priced");
    if (status == SEM_OK)
        status = try_one(&query, j, pairs, err);
    crash_point("auto.query_judged");
    if (status == SEM_OK && why[0] == '\0')
        status = try_one(&full, j, pairs, err);
    crash_point("auto.full_judged");
    const bool both = status == SEM_OK && full.judged;
    attempt *taken = both && choose_full(&query, &full, j, seconds, why, sizeof why) ? &full : &query;
    *promote = status == SEM_OK && taken->passed;
    if (status == SEM_OK)
        settle(taken, j, why);
    crash_point("auto.settled");
    if (*promote)
        status = job_candidate_open(chosen, j, taken->folder, taken == &query, err);
    attempt_free(&query);
    attempt_free(&full);
    return status;
}
