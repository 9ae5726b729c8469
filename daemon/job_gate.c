/* The gate of a job: current model and candidate rank the same documents for the
 * same queries; the held-out clicks say which is better, the probe queries, made
 * from the documents' own text, say whether something was forgotten. A document of
 * passages is ranked as training sees it, by its beginning: as much as the model takes. */
#include "base/checked.h"
#include "base/random.h"
#include "finetune/bulk_encode.h"
#include "finetune/evaluate.h"
#include "daemon/job.h"

#include <jansson.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    RANK_CUT = 10,           /* MRR@10, nDCG@10, recall@10 */
    PROBE_QUERY_BYTES = 160, /* a probe query is a document's first sentence, at most so long */
    ENCODE_CHUNK = 256,      /* texts between two steps of the progress bar */
    HELDOUT_MAX = 2000
};

/* A document that queries are ranked against. */
typedef struct pool_document {
    uint32_t collection;
    uint32_t docno;   /* UINT32_MAX: a text without a document */
    uint64_t version; /* of the document's text */
    char *text;       /* owned */
    size_t length;
    bool cut; /* into passages: no vector in the store is of all that the model takes of it */
} pool_document;

typedef struct gate_query {
    const char *text; /* borrowed from the pairs or the pool */
    size_t length;
    size_t relevant; /* index into documents */
} gate_query;

typedef struct gate {
    job *job;
    const pair_set *pairs;
    pool_document *documents; /* in order of collection once sorted */
    size_t count, capacity;
    gate_query *queries; /* held-out ones first, then the probes */
    size_t heldout, probes;
    double *before, *after;  /* reciprocal rank of each query */
    rank_metrics sums[2][2]; /* [before, after][heldout, probe] */
    size_t done;             /* texts encoded */
} gate;

static void gate_free(gate *g)
{
    for (size_t i = 0; i < g->count; i++)
        free(g->documents[i].text);
    free(g->documents);
    free(g->queries);
    free(g->before);
    free(g->after);
}

/* --- the pool */

/* The document's text is copied. */
static sem_status add_document(gate *g, pool_document document, const char *text, sem_error *err)
{
    if (g->count == g->capacity) {
        size_t capacity = g->capacity == 0 ? 256 : g->capacity * 2;
        pool_document *grown = checked_realloc(g->documents, capacity, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the gate's documents");
        g->documents = grown;
        g->capacity = capacity;
    }
    document.text = malloc(document.length + 1);
    if (document.text == NULL)
        return sem_fail_memory(err, "the gate's documents");
    memcpy(document.text, text, document.length);
    g->documents[g->count++] = document;
    return SEM_OK;
}

static sem_status add_stored(gate *g, const store_collection *c, const store_document *doc, sem_error *err)
{
    const pool_document document = {.collection = c->number,
                                    .docno = doc->docno,
                                    .version = doc->text_version,
                                    .length = doc->text_length,
                                    .cut = c->passage_tokens > 0};
    return add_document(g, document, doc->text, err);
}

static sem_status add_heldout(gate *g, store_read *r, sem_error *err)
{
    size_t limit = g->pairs->heldout_count < HELDOUT_MAX ? g->pairs->heldout_count : HELDOUT_MAX;
    for (size_t i = 0; i < limit; i++) {
        const heldout_query *h = &g->pairs->heldout[i];
        const pool_document own = {.collection = h->collection, .docno = UINT32_MAX, .length = h->document_length};
        sem_status status = SEM_OK;
        store_collection c;
        store_document doc;
        bool found = false;
        if (!h->by_id)
            status = add_document(g, own, h->document, err);
        else
            status = store_document_by_number(r, h->collection, h->docno, &doc, &found, err);
        if (status == SEM_OK && found)
            status = store_collection_at(r, h->collection, &c, err);
        if (status == SEM_OK && found)
            status = add_stored(g, &c, &doc, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* Every document has the same chance, drawn from its number: no second pass, no order effects. */
typedef struct sampling {
    gate *gate;
    const store_collection *collection;
    double share;
    sem_status status;
    sem_error *err;
} sampling;

static bool sample_one(void *context, const store_document *doc)
{
    sampling *s = context;
    uint64_t draw = random_at(s->collection->number, doc->docno);
    if (random_unit_of(draw) >= s->share || doc->text_length == 0)
        return true;
    s->status = add_stored(s->gate, s->collection, doc, s->err);
    return s->status == SEM_OK && !atomic_load(s->gate->job->cancel);
}

static sem_status add_sample(gate *g, store_read *r, sem_error *err)
{
    store_collection *all;
    size_t count;
    sem_status status = store_collection_list(r, &all, &count, err);
    if (status != SEM_OK)
        return status;
    uint64_t documents = 0;
    for (size_t i = 0; i < count; i++)
        documents += all[i].external ? 0 : all[i].documents;
    double share = documents > 0 ? (double)g->job->settings.finetune.eval_documents / (double)documents : 0;
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        if (all[i].external || (g->job->collection != 0 && all[i].number != g->job->collection))
            continue;
        sampling s = {.gate = g, .collection = &all[i], .share = share, .err = err};
        status = store_document_walk(r, all[i].number, NULL, 0, sample_one, &s, err);
        if (status == SEM_OK)
            status = s.status;
    }
    free(all);
    return status;
}

static int compare_documents(const void *a, const void *b)
{
    const pool_document *x = a, *y = b;
    if (x->collection != y->collection)
        return x->collection < y->collection ? -1 : 1;
    if (x->docno != y->docno)
        return x->docno < y->docno ? -1 : 1;
    size_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(x->text, y->text, shorter);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

/* Sorts by collection, so that a query meets only its own, and drops repeats:
 * a text that stands twice could never be ranked first. */
static void sort_documents(gate *g)
{
    if (g->count > 0)
        qsort(g->documents, g->count, sizeof *g->documents, compare_documents);
    size_t kept = 0;
    for (size_t i = 0; i < g->count; i++) {
        if (kept > 0 && compare_documents(&g->documents[kept - 1], &g->documents[i]) == 0)
            free(g->documents[i].text);
        else
            g->documents[kept++] = g->documents[i];
    }
    g->count = kept;
}

/* --- the queries */

static size_t first_sentence(const char *text, size_t length)
{
    size_t limit = length < PROBE_QUERY_BYTES ? length : PROBE_QUERY_BYTES;
    for (size_t i = 20; i + 1 < limit; i++)
        if ((text[i] == '.' || text[i] == '!' || text[i] == '?') && text[i + 1] == ' ')
            return i;
    while (limit > 0 && limit < length && ((unsigned char)text[limit] & 0xC0) == 0x80)
        limit--;
    return limit;
}

static sem_status make_queries(gate *g, sem_error *err)
{
    size_t limit = g->pairs->heldout_count < HELDOUT_MAX ? g->pairs->heldout_count : HELDOUT_MAX;
    size_t probes = g->job->settings.finetune.probe_queries;
    g->queries = checked_realloc(NULL, limit + probes + 1, sizeof *g->queries);
    if (g->queries == NULL)
        return sem_fail_memory(err, "the gate's queries");
    for (size_t i = 0; i < limit; i++) {
        const heldout_query *h = &g->pairs->heldout[i];
        pool_document key = {.collection = h->collection,
                             .docno = h->by_id ? h->docno : UINT32_MAX,
                             .text = (char *)(uintptr_t)h->document,
                             .length = h->by_id ? 0 : h->document_length};
        for (size_t k = 0; k < g->count; k++) {
            const pool_document *d = &g->documents[k];
            bool same = h->by_id ? d->collection == key.collection && d->docno == key.docno
                                 : compare_documents(d, &key) == 0;
            if (same) {
                g->queries[g->heldout++] = (gate_query){h->query, h->query_length, k};
                break;
            }
        }
    }
    size_t stride = g->count > probes && probes > 0 ? g->count / probes : 1;
    for (size_t k = 0; k < g->count && g->probes < probes; k += stride) {
        const pool_document *d = &g->documents[k];
        size_t length = first_sentence(d->text, d->length);
        if (length > 0)
            g->queries[g->heldout + g->probes++] = (gate_query){d->text, length, k};
    }
    return SEM_OK;
}

/* --- ranking with one model */

static sem_status encode_texts(gate *g, const model *m, const char *prompt, const bulk_text *texts, size_t count,
                               float *out, sem_error *err)
{
    size_t dim = model_get_config(m)->dim;
    for (size_t at = 0; at < count; at += ENCODE_CHUNK) {
        bulk_job work = {.model = m,
                         .prompt = prompt,
                         .texts = texts + at,
                         .count = count - at < ENCODE_CHUNK ? count - at : ENCODE_CHUNK,
                         .threads = g->job->threads,
                         .nice = g->job->settings.train.nice,
                         .cancel = g->job->cancel,
                         .out = out + at * dim};
        sem_status status = bulk_encode(&work, err);
        if (status != SEM_OK)
            return status;
        g->done += work.count;
        job_status_step(g->job->status, g->done, -1);
    }
    return SEM_OK;
}

static void rank_queries(gate *g, const float *queries, const float *documents, size_t dim, double *reciprocal,
                         rank_metrics sums[2])
{
    for (size_t i = 0; i < g->heldout + g->probes; i++) {
        size_t relevant = g->queries[i].relevant, first = relevant, end = relevant + 1;
        uint32_t collection = g->documents[relevant].collection;
        while (first > 0 && g->documents[first - 1].collection == collection)
            first--;
        while (end < g->count && g->documents[end].collection == collection)
            end++;
        size_t rank = rank_of(queries + i * dim, documents + first * dim, end - first, dim, relevant - first);
        bool hits[RANK_CUT] = {false};
        if (rank <= RANK_CUT)
            hits[rank - 1] = true;
        reciprocal[i] = rank <= RANK_CUT ? 1.0 / (double)rank : 0;
        rank_metrics_add(&sums[i >= g->heldout], hits, RANK_CUT, 1, RANK_CUT);
    }
}

/* Vectors that the current space already holds need no encoding. missing[] gets
 * the indices of the documents that do. */
static sem_status take_stored(gate *g, const serving *from, float *documents, size_t dim, size_t *missing,
                              size_t *missing_count, sem_error *err)
{
    store_read *r = NULL;
    sem_status status = from != NULL ? store_read_begin(g->job->core->store, &r, err) : SEM_OK;
    *missing_count = 0;
    for (size_t i = 0; i < g->count && status == SEM_OK; i++) {
        const pool_document *d = &g->documents[i];
        bool found = false;
        uint64_t version;
        if (from != NULL && d->docno != UINT32_MAX && !d->cut)
            status = store_vector_get(r, space_number(from->space), d->collection, d->docno, documents + i * dim, dim,
                                      &version, &found, err);
        if (!found)
            missing[(*missing_count)++] = i;
    }
    store_read_end(r);
    return status;
}

static sem_status encode_missing(gate *g, const model *m, const size_t *missing, size_t count, bulk_text *texts,
                                 float *documents, sem_error *err)
{
    size_t dim = model_get_config(m)->dim;
    float *encoded = checked_alloc_aligned((count + 1) * dim, sizeof(float));
    if (encoded == NULL)
        return sem_fail_memory(err, "the gate's vectors");
    for (size_t i = 0; i < count; i++)
        texts[i] = (bulk_text){g->documents[missing[i]].text, g->documents[missing[i]].length};
    sem_status status =
        encode_texts(g, m, model_config_document_prompt(model_get_config(m)), texts, count, encoded, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        memcpy(documents + missing[i] * dim, encoded + i * dim, dim * sizeof(float));
    free(encoded);
    return status;
}

/* What the candidate has embedded here need not be embedded again if it is
 * promoted: the job takes over the vectors. */
static sem_status keep_vectors(gate *g, float **documents, sem_error *err)
{
    job *j = g->job;
    j->known = checked_realloc(NULL, g->count + 1, sizeof *j->known);
    if (j->known == NULL)
        return sem_fail_memory(err, "the gate's vectors");
    for (size_t i = 0; i < g->count; i++) {
        const pool_document *d = &g->documents[i];
        j->known[i] = (job_known){d->collection, d->cut ? UINT32_MAX : d->docno, d->version};
    }
    j->known_count = g->count;
    j->known_vectors = *documents;
    *documents = NULL;
    return SEM_OK;
}

static sem_status measure(gate *g, const gate_contender *c, double *reciprocal, rank_metrics sums[2], sem_error *err)
{
    const model_config *query_config = model_get_config(c->queries);
    size_t dim = query_config->dim, queries = g->heldout + g->probes, missing_count;
    size_t most = g->count > queries ? g->count : queries;
    bulk_text *texts = checked_realloc(NULL, most + 1, sizeof *texts);
    size_t *missing = checked_realloc(NULL, g->count + 1, sizeof *missing);
    float *documents = checked_alloc_aligned((g->count + 1) * dim, sizeof(float));
    float *vectors = checked_alloc_aligned((queries + 1) * dim, sizeof(float));
    sem_status status = SEM_OK;
    if (texts == NULL || missing == NULL || documents == NULL || vectors == NULL)
        status = sem_fail_memory(err, "the gate's vectors");
    if (status == SEM_OK)
        status = take_stored(g, c->stored, documents, dim, missing, &missing_count, err);
    if (status == SEM_OK)
        status = encode_missing(g, c->documents, missing, missing_count, texts, documents, err);
    for (size_t i = 0; i < queries && status == SEM_OK; i++)
        texts[i] = (bulk_text){g->queries[i].text, g->queries[i].length};
    if (status == SEM_OK)
        status = encode_texts(g, c->queries, model_config_query_prompt(query_config), texts, queries, vectors, err);
    if (status == SEM_OK)
        rank_queries(g, vectors, documents, dim, reciprocal, sums);
    if (status == SEM_OK && c->stored == NULL)
        status = keep_vectors(g, &documents, err);
    free(texts);
    free(missing);
    free(documents);
    free(vectors);
    return status;
}

/* --- the decision */

static json_t *metrics_of(const rank_metrics *m)
{
    return json_pack("{s:I, s:f, s:f, s:f}", "queries", (json_int_t)m->queries, "mrr", m->mrr, "ndcg", m->ndcg,
                     "recall", m->recall);
}

static json_t *metrics_json(rank_metrics sums[2], double p_value)
{
    rank_metrics_mean(&sums[0]);
    rank_metrics_mean(&sums[1]);
    return json_pack("{s:o, s:o, s:o}", "heldout", metrics_of(&sums[0]), "probe", metrics_of(&sums[1]), "p_value",
                     isnan(p_value) ? json_null() : json_real(p_value));
}

/* Without held-out queries the operator's choice of a model stands unless the
 * probes show that it is much worse at finding the collection's own texts. */
static void decide_on_probes(const gate *g, const gate_side *probe, gate_decision *d)
{
    const config *c = &g->job->settings;
    double before = 0, after = 0;
    for (size_t i = 0; i < probe->queries; i++) {
        before += probe->before[i];
        after += probe->after[i];
    }
    double n = probe->queries > 0 ? (double)probe->queries : 1;
    d->p_value = NAN;
    d->gain = 0;
    d->probe_change = (after - before) / n;
    d->probe_lower = probe->queries > 0 ? bootstrap_lower_bound(probe->before, probe->after, probe->queries, 2000, 1)
                                        : 0;
    d->promote = probe->queries == 0 || d->probe_lower > -c->finetune.max_probe_loss;
    snprintf(d->reason, sizeof d->reason,
             "%zu held-out queries, fewer than the %zu that a comparison needs; probe MRR@10 %.3f -> %.3f on %zu "
             "queries: %s",
             g->heldout, c->finetune.min_heldout, before / n, after / n, probe->queries,
             d->promote ? "promoted" : "discarded (gate: false loads it all the same)");
}

static sem_status decide(gate *g, bool *promote, sem_error *err)
{
    const config *c = &g->job->settings;
    gate_side heldout = {g->before, g->after, g->heldout};
    gate_side probe = {g->before + g->heldout, g->after + g->heldout, g->probes};
    gate_decision d;
    if (g->job->kind == JOB_LOAD && g->heldout < c->finetune.min_heldout)
        decide_on_probes(g, &probe, &d);
    else
        gate_decide(&heldout, &probe, c->finetune.max_p, c->finetune.max_probe_loss, g->job->number, &d);
    *promote = d.promote;
    json_t *before = metrics_json(g->sums[0], d.p_value), *after = metrics_json(g->sums[1], d.p_value);
    g->job->metrics = after != NULL ? json_dumps(after, JSON_COMPACT) : NULL;
    if (before == NULL || after == NULL || g->job->metrics == NULL) {
        json_decref(before);
        json_decref(after);
        return sem_fail_memory(err, "the gate's figures");
    }
    job_status_metrics(g->job->status, before, after);
    job_status_decide(g->job->status, d.promote, d.reason);
    char text[512];
    log_event(g->job->core->log, LOG_LEVEL_INFO, "gate",
              "job=%u decision=%s p_value=%.5f gain=%.4f probe_change=%.4f reason=%s", g->job->number,
              d.promote ? "promoted" : "discarded", d.p_value, d.gain, d.probe_change,
              log_value(text, sizeof text, d.reason));
    return SEM_OK;
}

static sem_status build_pool(gate *g, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(g->job->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = add_heldout(g, r, err);
    if (status == SEM_OK)
        status = add_sample(g, r, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    sort_documents(g);
    return make_queries(g, err);
}

/* Texts that are encoded: every query twice; by each contender the documents of which its space has no vector. */
static size_t texts_to_encode(const gate *g, const gate_contender *candidate)
{
    size_t cut = 0;
    for (size_t i = 0; i < g->count; i++)
        cut += g->documents[i].cut;
    return 2 * (g->heldout + g->probes) + cut + (candidate->stored == NULL ? g->count : cut);
}

static sem_status run_gate(gate *g, const gate_contender *candidate, bool *promote, sem_error *err)
{
    sem_status status = build_pool(g, err);
    if (status != SEM_OK)
        return status;
    size_t queries = g->heldout + g->probes;
    job_status_phase(g->job->status, PHASE_EVALUATING, texts_to_encode(g, candidate));
    g->before = calloc(queries + 1, sizeof *g->before);
    g->after = calloc(queries + 1, sizeof *g->after);
    if (g->before == NULL || g->after == NULL)
        return sem_fail_memory(err, "the gate's figures");
    serving *now = serving_slot_acquire(&g->job->core->current);
    const gate_contender current = {.queries = now->query, .documents = now->document, .stored = now};
    status = measure(g, &current, g->before, g->sums[0], err);
    serving_release(now);
    if (status == SEM_OK)
        status = measure(g, candidate, g->after, g->sums[1], err);
    return status == SEM_OK ? decide(g, promote, err) : status;
}

sem_status job_gate(job *j, const pair_set *pairs, const gate_contender *candidate, bool *promote, sem_error *err)
{
    gate g = {.job = j, .pairs = pairs};
    sem_status status = run_gate(&g, candidate, promote, err);
    gate_free(&g);
    return status;
}
