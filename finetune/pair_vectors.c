#include "finetune/pair_vectors.h"

#include "base/checked.h"
#include "finetune/bulk_encode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENTS_A_READ = 256 /* a long read keeps the store from using freed pages again */ };

typedef struct giving {
    const pair_vectors_options *options;
    const pair_set *set;
    pair_vectors *out;
    size_t dim;
    const char *prompt;
    token_batch tokens; /* of one document */
    size_t *missing;    /* [missing_count] documents whose vector has to be made */
    size_t missing_count;
} giving;

/* Whether all of the text stands behind a vector that is cut to max_tokens. */
static sem_status is_short(giving *g, const pair_document *d, bool *is, sem_error *err)
{
    bool cut = false;
    token_batch_clear(&g->tokens);
    sem_status status = SEM_OK;
    if (g->options->max_tokens > 0)
        status = model_tokenize_within(g->options->model, g->prompt, d->text, d->length, g->options->max_tokens,
                                       &g->tokens, &cut, err);
    *is = !cut;
    return status;
}

static bool make_unit(float *vector, size_t dim)
{
    double squares = 0;
    for (size_t k = 0; k < dim; k++)
        squares += (double)vector[k] * vector[k];
    const double length = sqrt(squares);
    for (size_t k = 0; k < dim && length > 0; k++)
        vector[k] = (float)(vector[k] / length);
    return length > 0;
}

/* *found: the store has the one vector of this very text. */
static sem_status take_stored(giving *g, store_read *r, size_t number, bool *found, sem_error *err)
{
    const pair_document *d = &g->set->documents[number];
    float *row = g->out->rows + number * g->dim;
    store_document doc;
    store_passage passage;
    *found = false;
    if (d->docno == PAIR_NO_DOCUMENT)
        return SEM_OK;
    sem_status status = store_document_by_number(r, d->collection, d->docno, &doc, found, err);
    *found = status == SEM_OK && *found && doc.text_length == d->length && memcmp(doc.text, d->text, d->length) == 0;
    if (*found)
        status = is_short(g, d, found, err);
    if (status != SEM_OK || !*found)
        return status;
    const uint64_t version = doc.text_version;
    status = store_passage_get(r, g->options->space, d->collection, d->docno, 0, row, g->dim, &passage, found, err);
    *found = status == SEM_OK && *found && passage.count == 0 && passage.version == version && make_unit(row, g->dim);
    return status;
}

static bool cancelled(const giving *g)
{
    return g->options->cancel != NULL && atomic_load(g->options->cancel);
}

static sem_status take_all_stored(giving *g, sem_error *err)
{
    store_read *r = NULL;
    sem_status status = store_read_begin(g->options->store, &r, err);
    for (size_t i = 0; i < g->set->document_count && status == SEM_OK; i++) {
        bool found;
        if (i > 0 && i % DOCUMENTS_A_READ == 0)
            status = cancelled(g) ? sem_fail(err, SEM_CANCELLED, "cancelled while documents' vectors were read")
                                  : store_read_renew(r, err);
        if (status == SEM_OK)
            status = take_stored(g, r, i, &found, err);
        if (status == SEM_OK && !found)
            g->missing[g->missing_count++] = i;
    }
    store_read_end(r);
    return status;
}

static sem_status make_missing(giving *g, sem_error *err)
{
    const pair_vectors_options *o = g->options;
    bulk_text *texts = checked_realloc(NULL, g->missing_count + 1, sizeof *texts);
    float *made = checked_alloc_floats(g->missing_count + 1, g->dim);
    if (texts == NULL || made == NULL) {
        free(texts);
        free(made);
        return sem_fail_memory(err, "the vectors of documents");
    }
    for (size_t i = 0; i < g->missing_count; i++) {
        const pair_document *d = &g->set->documents[g->missing[i]];
        texts[i] = (bulk_text){d->text, d->length};
    }
    const bulk_job work = {.model = o->model,
                           .prompt = g->prompt,
                           .texts = texts,
                           .count = g->missing_count,
                           .max_tokens = o->max_tokens,
                           .threads = o->threads,
                           .nice = o->nice,
                           .cancel = o->cancel,
                           .out = made};
    sem_status status = bulk_encode(&work, err);
    for (size_t i = 0; i < g->missing_count && status == SEM_OK; i++)
        memcpy(g->out->rows + g->missing[i] * g->dim, made + i * g->dim, g->dim * sizeof *made);
    free(texts);
    free(made);
    return status;
}

static void hand_out(const giving *g, pair_set *set)
{
    const float *rows = g->out->rows;
    for (size_t i = 0; i < set->count; i++)
        set->pairs[i].document_vector = rows + set->pair_documents[i] * g->dim;
    for (size_t i = 0; i < set->negative_count; i++)
        set->negatives[i].vector = rows + set->negative_documents[i] * g->dim;
}

sem_status pair_vectors_give(pair_vectors *out, pair_set *set, const pair_vectors_options *options, sem_error *err)
{
    const model_config *c = model_get_config(options->model);
    *out = (pair_vectors){0};
    giving g = {.options = options, .set = set, .out = out, .dim = c->dim, .prompt = model_config_document_prompt(c)};
    out->rows = checked_alloc_floats(set->document_count + 1, g.dim);
    g.missing = checked_realloc(NULL, set->document_count + 1, sizeof *g.missing);
    sem_status status = out->rows != NULL && g.missing != NULL ? SEM_OK
                                                               : sem_fail_memory(err, "the vectors of documents");
    if (status == SEM_OK)
        status = take_all_stored(&g, err);
    if (status == SEM_OK)
        status = make_missing(&g, err);
    if (status == SEM_OK) {
        out->encoded = g.missing_count;
        out->stored = set->document_count - g.missing_count;
        hand_out(&g, set);
    } else {
        pair_vectors_free(out);
    }
    token_batch_free(&g.tokens);
    free(g.missing);
    return status;
}

void pair_vectors_free(pair_vectors *v)
{
    free(v->rows);
    *v = (pair_vectors){0};
}
