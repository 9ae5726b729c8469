#include "model/json.h"

#include "base/files.h"

#include <stdlib.h>
#include <string.h>

static sem_status load(json_t **out, const char *path, size_t limit, size_t flags, sem_error *err)
{
    char *text;
    size_t size;
    sem_status status = files_read(path, limit, &text, &size, err);
    if (status != SEM_OK)
        return status;
    json_error_t e;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | flags, &e);
    free(text);
    if (value == NULL && json_error_code(&e) == json_error_out_of_memory)
        return sem_fail_memory(err, path);
    if (value == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s, line %d: not valid JSON: %s", path, e.line, e.text);
    *out = value;
    return SEM_OK;
}

sem_status json_load_path(json_t **out, const char *path, size_t limit, sem_error *err)
{
    return load(out, path, limit, 0, err);
}

sem_status json_load_path_reals(json_t **out, const char *path, size_t limit, sem_error *err)
{
    return load(out, path, limit, JSON_DECODE_INT_AS_REAL, err);
}

/* As few digits as give the same numbers: 1e-12, not 9.9999999999999998e-13. */
static char *dump(const json_t *value)
{
    for (size_t digits = 15; digits <= 17; digits++) {
        char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(digits));
        json_t *again = text == NULL ? NULL : json_loads(text, 0, NULL);
        bool equal = again != NULL && json_equal(again, value);
        json_decref(again);
        if (equal || digits == 17)
            return text;
        free(text);
    }
    return NULL;
}

sem_status json_write_path(const char *path, const json_t *value, sem_error *err)
{
    char *text = value != NULL ? dump(value) : NULL;
    if (text == NULL)
        return sem_fail_memory(err, path);
    sem_status status = files_write(path, text, strlen(text), err);
    free(text);
    return status;
}

const char *json_type_name(const json_t *value)
{
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: break;
    }
    return "null";
}

/* What all getters share: *value is NULL when the key is missing (or null) and not required. */
static sem_status find(const json_t *object, const char *where, const char *key, bool required, const json_t **value,
                       sem_error *err)
{
    if (!json_is_object(object))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: found %s, expected an object with the key %s", where,
                        json_type_name(object), key);
    const json_t *found = json_object_get(object, key);
    if (json_is_null(found))
        found = NULL;
    if (found == NULL && required)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the key %s is missing", where, key);
    *value = found;
    return SEM_OK;
}

static sem_status wrong_type(const char *where, const char *key, const json_t *value, const char *expected,
                             sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is %s, expected %s", where, key, json_type_name(value),
                    expected);
}

sem_status json_get_size(const json_t *object, const char *where, const char *key, bool required, size_t min,
                         size_t max, size_t *out, sem_error *err)
{
    const json_t *value;
    sem_status status = find(object, where, key, required, &value, err);
    if (status != SEM_OK || value == NULL)
        return status;
    if (!json_is_integer(value))
        return wrong_type(where, key, value, "an integer", err);
    json_int_t number = json_integer_value(value);
    if (number < 0 || (uint64_t)number < min || (uint64_t)number > max)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is %lld, expected %zu to %zu", where, key, (long long)number,
                        min, max);
    *out = (size_t)number;
    return SEM_OK;
}

sem_status json_get_double(const json_t *object, const char *where, const char *key, bool required, double *out,
                           sem_error *err)
{
    const json_t *value;
    sem_status status = find(object, where, key, required, &value, err);
    if (status != SEM_OK || value == NULL)
        return status;
    if (!json_is_number(value))
        return wrong_type(where, key, value, "a number", err);
    *out = json_number_value(value);
    return SEM_OK;
}

sem_status json_get_bool(const json_t *object, const char *where, const char *key, bool required, bool *out,
                         sem_error *err)
{
    const json_t *value;
    sem_status status = find(object, where, key, required, &value, err);
    if (status != SEM_OK || value == NULL)
        return status;
    if (!json_is_boolean(value))
        return wrong_type(where, key, value, "true or false", err);
    *out = json_is_true(value);
    return SEM_OK;
}

sem_status json_get_string(const json_t *object, const char *where, const char *key, bool required, const char **out,
                           sem_error *err)
{
    const json_t *value;
    sem_status status = find(object, where, key, required, &value, err);
    if (status != SEM_OK || value == NULL)
        return status;
    if (!json_is_string(value))
        return wrong_type(where, key, value, "a string", err);
    *out = json_string_value(value);
    return SEM_OK;
}
