#include "daemon/document_cut.h"

#include "base/checked.h"
#include "model/passages.h"

#include <stdlib.h>

void document_cut_free(document_cut *c)
{
    free(c->first);
    free(c->ranges);
    free(c->slots);
    *c = (document_cut){0};
}

void document_cut_clear(document_cut *c)
{
    c->documents = c->passages = 0;
}

store_cut document_cut_of(const document_cut *c, size_t i)
{
    if (c->first == NULL || i >= c->documents)
        return (store_cut){0};
    size_t at = c->first[i];
    return (store_cut){.ranges = c->ranges + at, .slots = c->slots + at, .count = c->first[i + 1] - at};
}

size_t document_cut_row(const document_cut *c, size_t i)
{
    return c->first == NULL || i >= c->documents ? i : c->first[i];
}

void document_cutter_begin(document_cutter *c, const model *m, const store_collection *by)
{
    *c = (document_cutter){.model = m, .tokens = by->passage_tokens, .overlap = by->passage_overlap};
}

void document_cutter_end(document_cutter *c)
{
    if (c->cutter != NULL)
        passage_cutter_free(c->cutter);
    free(c->cutter);
    c->cutter = NULL;
}

static bool grow(void *array, size_t count, size_t size)
{
    void **place = array;
    void *grown = checked_realloc(*place, count, size);
    if (grown == NULL)
        return false;
    *place = grown;
    return true;
}

/* Room for one more document of so many passages. */
static bool reserve(document_cut *to, size_t passages)
{
    if (to->first == NULL || to->documents == to->capacity) {
        size_t wanted = to->capacity < 16 ? 16 : to->capacity + to->capacity / 2;
        if (!grow(&to->first, wanted + 1, sizeof *to->first))
            return false;
        to->capacity = wanted;
    }
    size_t all = to->passages + passages;
    if (all > to->passage_capacity) {
        size_t wanted = all + all / 2;
        if (!grow(&to->ranges, wanted, sizeof *to->ranges) || !grow(&to->slots, wanted, sizeof *to->slots))
            return false;
        to->passage_capacity = wanted;
    }
    return true;
}

sem_status document_cut_skip(document_cut *to, sem_error *err)
{
    if (!reserve(to, 0))
        return sem_fail_memory(err, "the passages of a document");
    to->first[to->documents++] = to->passages;
    to->first[to->documents] = to->passages;
    return SEM_OK;
}

sem_status document_cut_add(document_cut *to, document_cutter *c, const char *text, size_t length, sem_error *err)
{
    const model_config *settings = model_get_config(c->model);
    const passage_limits limits = {.tokens = c->tokens,
                                   .overlap = c->overlap,
                                   .max_tokens = settings->max_tokens,
                                   .between = c->between,
                                   .context = c->context};
    if (c->cutter == NULL)
        c->cutter = calloc(1, sizeof *c->cutter);
    if (c->cutter == NULL)
        return sem_fail_memory(err, "the passages of a document");
    sem_status status = passages_cut(c->cutter, model_get_tokenizer(c->model), model_config_document_prompt(settings),
                                     &limits, text, length, err);
    if (status != SEM_OK)
        return status;
    if (!reserve(to, c->cutter->count))
        return sem_fail_memory(err, "the passages of a document");
    to->first[to->documents++] = to->passages;
    for (size_t i = 0; i < c->cutter->count; i++) {
        to->ranges[to->passages] = (store_range){c->cutter->passages[i].from, c->cutter->passages[i].to};
        to->slots[to->passages++] = 0;
    }
    to->first[to->documents] = to->passages;
    return SEM_OK;
}
