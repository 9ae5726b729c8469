#include "finetune/data_json.h"

#include "base/checked.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>

/* jansson's own type, under our name. */
static json_t *value_of(const data_json *json)
{
    return (json_t *)json;
}

sem_status data_json_parse(data_json **out, data_text line, sem_error *err)
{
    json_error_t error;
    json_t *root = json_loadb(line.bytes, line.length, JSON_REJECT_DUPLICATES, &error);
    *out = (data_json *)root;
    if (root != NULL)
        return SEM_OK;
    if (json_error_code(&error) == json_error_out_of_memory)
        return sem_fail_memory(err, "a line of JSON");
    return sem_fail(err, SEM_INVALID_ARGUMENT, "it is no JSON array or object: %s", error.text);
}

void data_json_free(data_json *json)
{
    json_decref(value_of(json));
}

bool data_json_is_array(const data_json *json)
{
    return json_is_array(value_of(json));
}

bool data_json_has(const data_json *json, const char *name)
{
    const json_t *member = json_object_get(value_of(json), name);
    return member != NULL && !json_is_null(member);
}

void data_texts_free(data_texts *texts)
{
    free(texts->items);
    *texts = (data_texts){0};
}

static data_text text_of(const json_t *value)
{
    return (data_text){json_string_value(value), json_string_length(value)};
}

static sem_status find(const data_json *json, const char *name, json_t **out, sem_error *err)
{
    *out = json_object_get(value_of(json), name);
    if (*out != NULL)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "it has no \"%s\"", name);
}

sem_status data_json_texts(const data_json *json, const char *name, data_texts *out, sem_error *err)
{
    json_t *value = value_of(json);
    *out = (data_texts){0};
    sem_status status = name != NULL ? find(json, name, &value, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    const char *called = name != NULL ? name : "the array";
    if (!json_is_array(value) && !json_is_string(value))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is neither a string nor an array of strings", called);
    const size_t count = json_is_array(value) ? json_array_size(value) : 1;
    out->items = checked_realloc(NULL, count + 1, sizeof *out->items);
    if (out->items == NULL)
        return sem_fail_memory(err, "the texts of a line");
    for (; out->count < count; out->count++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, out->count) : value;
        if (!json_is_string(item))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s holds something else than a string at place %zu", called,
                            out->count + 1);
        out->items[out->count] = text_of(item);
    }
    return SEM_OK;
}

sem_status data_json_word(const data_json *json, const char *name, char number[DATA_JSON_NUMBER_MAX], data_text *out,
                          sem_error *err)
{
    json_t *value;
    sem_status status = find(json, name, &value, err);
    if (status != SEM_OK)
        return status;
    if (json_is_integer(value)) {
        int length = snprintf(number, DATA_JSON_NUMBER_MAX, "%lld", (long long)json_integer_value(value));
        *out = (data_text){number, (size_t)length};
        return SEM_OK;
    }
    if (!json_is_string(value) || json_string_length(value) == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" is neither an integer nor a string with something in it",
                        name);
    *out = text_of(value);
    return SEM_OK;
}

sem_status data_json_number(const data_json *json, const char *name, double *out, sem_error *err)
{
    json_t *value;
    sem_status status = find(json, name, &value, err);
    if (status != SEM_OK)
        return status;
    if (!json_is_number(value) || !isfinite(json_number_value(value)))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" is no number", name);
    *out = json_number_value(value);
    return SEM_OK;
}
