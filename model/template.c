#include "model/template.h"

#include "model/json.h"

#include <stdbool.h>
#include <string.h>

/* What is read of one processor before it is put around the ones before it. */
typedef struct reading {
    const char *where;
    size_t vocab;
    sem_error *err;
} reading;

static sem_status add(const reading *r, int32_t *ids, size_t *count, const json_t *id)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || (uint64_t)json_integer_value(id) >= r->vocab)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor: found %s %lld as a token id, expected an integer below %zu", r->where,
                        json_type_name(id), json_is_integer(id) ? (long long)json_integer_value(id) : 0LL, r->vocab);
    if (*count == TEMPLATE_TOKENS_MAX)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor adds more than %d tokens on one side of a text", r->where,
                        TEMPLATE_TOKENS_MAX);
    ids[(*count)++] = (int32_t)json_integer_value(id);
    return SEM_OK;
}

/* "cls" or "sep" of BertProcessing and RobertaProcessing: ["[CLS]", 101]. */
static sem_status add_pair(const reading *r, const json_t *processor, const char *key, int32_t *ids, size_t *count)
{
    const json_t *pair = json_object_get(processor, key);
    if (json_array_size(pair) != 2)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT, "%s: post_processor.%s is %s, expected [token, id]", r->where,
                        key, json_type_name(pair));
    return add(r, ids, count, json_array_get(pair, 1));
}

/* The ids of one SpecialToken of a template. */
static sem_status add_special(const reading *r, const json_t *specials, const json_t *item, int32_t *ids, size_t *count)
{
    const char *name = NULL;
    sem_status status = json_get_string(item, r->where, "id", true, &name, r->err);
    if (status != SEM_OK)
        return sem_error_prefix(r->err, "post_processor");
    const json_t *list = json_object_get(json_object_get(specials, name), "ids");
    if (!json_is_array(list))
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor names the token \"%.64s\", which is not among its special_tokens", r->where,
                        name);
    for (size_t i = 0; status == SEM_OK && i < json_array_size(list); i++)
        status = add(r, ids, count, json_array_get(list, i));
    return status;
}

static sem_status read_template(const reading *r, const json_t *processor, token_template *out)
{
    const json_t *single = json_object_get(processor, "single");
    const json_t *specials = json_object_get(processor, "special_tokens");
    size_t sequences = 0;
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        const json_t *special = json_object_get(item, "SpecialToken");
        const json_t *sequence = json_object_get(item, "Sequence");
        sem_status status = SEM_OK;
        if (special != NULL && sequences == 0)
            status = add_special(r, specials, special, out->before, &out->before_count);
        else if (special != NULL)
            status = add_special(r, specials, special, out->after, &out->after_count);
        else if (sequence != NULL && json_is_string(json_object_get(sequence, "id")) &&
                 strcmp(json_string_value(json_object_get(sequence, "id")), "A") == 0)
            sequences++;
        else
            status = sem_fail(r->err, SEM_INVALID_ARGUMENT,
                              "%s: post_processor.single holds an item that is neither a SpecialToken nor Sequence A",
                              r->where);
        if (status != SEM_OK)
            return status;
    }
    if (sequences != 1)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor.single holds the text %zu times, expected once", r->where, sequences);
    return SEM_OK;
}

static sem_status read_one(const reading *r, const json_t *processor, token_template *out)
{
    const char *type = NULL;
    sem_status status = json_get_string(processor, r->where, "type", true, &type, r->err);
    if (status != SEM_OK)
        return sem_error_prefix(r->err, "post_processor");
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(r, processor, out);
    if (strcmp(type, "ByteLevel") == 0) /* changes offsets only */
        return SEM_OK;
    if (strcmp(type, "BertProcessing") != 0 && strcmp(type, "RobertaProcessing") != 0)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor %s is not supported; TemplateProcessing, BertProcessing, "
                        "RobertaProcessing and ByteLevel are",
                        r->where, type);
    status = add_pair(r, processor, "cls", out->before, &out->before_count);
    return status != SEM_OK ? status : add_pair(r, processor, "sep", out->after, &out->after_count);
}

/* Puts outer around what is in out. */
static sem_status wrap(const reading *r, token_template *out, const token_template *outer)
{
    if (out->before_count + outer->before_count > TEMPLATE_TOKENS_MAX ||
        out->after_count + outer->after_count > TEMPLATE_TOKENS_MAX)
        return sem_fail(r->err, SEM_INVALID_ARGUMENT,
                        "%s: post_processor adds more than %d tokens on one side of a text", r->where,
                        TEMPLATE_TOKENS_MAX);
    memmove(out->before + outer->before_count, out->before, out->before_count * sizeof out->before[0]);
    memcpy(out->before, outer->before, outer->before_count * sizeof out->before[0]);
    memcpy(out->after + out->after_count, outer->after, outer->after_count * sizeof out->after[0]);
    out->before_count += outer->before_count;
    out->after_count += outer->after_count;
    return SEM_OK;
}

sem_status token_template_read(token_template *out, const json_t *processor, const char *where, size_t vocab,
                               sem_error *err)
{
    const reading r = {where, vocab, err};
    *out = (token_template){.before_count = 0};
    if (processor == NULL || json_is_null(processor))
        return SEM_OK;
    const json_t *type = json_object_get(processor, "type");
    if (!json_is_string(type) || strcmp(json_string_value(type), "Sequence") != 0)
        return read_one(&r, processor, out);
    const json_t *list = json_object_get(processor, "processors");
    for (size_t i = 0; i < json_array_size(list); i++) {
        token_template one = {.before_count = 0};
        sem_status status = read_one(&r, json_array_get(list, i), &one);
        if (status == SEM_OK)
            status = wrap(&r, out, &one);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}
