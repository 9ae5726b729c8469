#include "tools/semctl_convert.h"

#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- JSON to MessagePack */

/* Jansson's integers end at 2^63 - 1, those of ids and meta at 2^64 - 1. It is handed a larger
 * one as an object of this one member, which is nothing that a client may send otherwise. */
static const char LARGE_OPEN[] = "{\"uint64\":\"", LARGE_CLOSE[] = "\"}";
enum { LARGE_DIGITS = 20 };

/* The integer that such an object stands for. */
static bool is_large(json_t *value, uint64_t *number)
{
    json_t *digits = json_object_get(value, "uint64"); /* NULL for what is no object, too */
    if (!json_is_string(digits) || json_object_size(value) != 1)
        return false;
    *number = strtoull(json_string_value(digits), NULL, 10);
    return true;
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* Whether the token is an integer that fits without a sign only. */
static bool only_fits_unsigned(const char *token, size_t size)
{
    char digits[LARGE_DIGITS + 1] = "";
    for (size_t i = 0; i < size && i < LARGE_DIGITS && is_one_of(token[i], "0123456789"); i++)
        digits[i] = token[i];
    errno = 0;
    return strlen(digits) == size && strtoull(digits, NULL, 10) > INT64_MAX && errno == 0;
}

/* Bytes of the string or number at text; 1 for anything else. */
static size_t token_size(const char *text, size_t left)
{
    size_t size = 1;
    if (*text == '"') {
        while (size < left && text[size] != '"')
            size += text[size] == '\\' ? 2 : 1;
        return size < left ? size + 1 : left;
    }
    while (is_one_of(*text, "-0123456789") && size < left && is_one_of(text[size], "+-.0123456789eE"))
        size++;
    return size;
}

/* A copy of the text with large integers as such objects; false when memory is out. */
static bool mark_large(const char *text, size_t length, buffer *out)
{
    bool done = true;
    for (size_t at = 0, size; at < length && done; at += size) {
        size = token_size(text + at, length - at);
        bool large = only_fits_unsigned(text + at, size);
        done = (!large || buffer_append(out, LARGE_OPEN, sizeof LARGE_OPEN - 1)) &&
               buffer_append(out, text + at, size) &&
               (!large || buffer_append(out, LARGE_CLOSE, sizeof LARGE_CLOSE - 1));
    }
    return done;
}

static void pack_value(packer *p, json_t *value);

static void pack_members(packer *p, json_t *object)
{
    pack_map(p, json_object_size(object));
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        pack_str(p, json_object_iter_key(i));
        pack_value(p, json_object_iter_value(i));
    }
}

/* Integers stay integers, other numbers become float64. */
static void pack_value(packer *p, json_t *value)
{
    uint64_t large;
    if (is_large(value, &large)) {
        pack_uint(p, large);
        return;
    }
    switch (json_typeof(value)) {
    case JSON_NULL: pack_nil(p); return;
    case JSON_TRUE: pack_bool(p, true); return;
    case JSON_FALSE: pack_bool(p, false); return;
    case JSON_INTEGER: pack_int(p, json_integer_value(value)); return;
    case JSON_REAL: pack_double(p, json_real_value(value)); return;
    case JSON_STRING: pack_strn(p, json_string_value(value), json_string_length(value)); return;
    case JSON_OBJECT: pack_members(p, value); return;
    case JSON_ARRAY: break;
    }
    pack_array(p, json_array_size(value));
    for (size_t i = 0; i < json_array_size(value); i++)
        pack_value(p, json_array_get(value, i));
}

sem_status convert_parse(json_t **out, const char *text, size_t length, sem_error *err)
{
    static const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t where, again;
    buffer marked = {0};
    *out = json_loadb(text, length, flags, &where);
    if (*out == NULL && json_error_code(&where) == json_error_numeric_overflow && mark_large(text, length, &marked))
        *out = json_loadb((const char *)marked.data, marked.size, flags, &again);
    buffer_free(&marked);
    if (*out == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "no JSON: %s (column %d)", where.text, where.column);
    return SEM_OK;
}

sem_status convert_object(packer *p, const char *text, sem_error *err)
{
    json_t *value;
    sem_status status = convert_parse(&value, text, strlen(text), err);
    if (status != SEM_OK)
        return status;
    if (json_is_object(value))
        pack_value(p, value);
    else
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "must be a JSON object, as {...}");
    json_decref(value);
    return status;
}

sem_status convert_vector(packer *p, json_t *array, sem_error *err)
{
    size_t count = json_array_size(array);
    if (!json_is_array(array) || count == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a vector is an array of numbers");
    unsigned char *bytes = malloc(4 * count);
    if (bytes == NULL)
        return sem_fail_memory(err, "a vector");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        json_t *element = json_array_get(array, i);
        if (!json_is_number(element))
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "a vector is an array of numbers; element %zu is none", i);
        float value = (float)json_number_value(element);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        for (int b = 0; b < 4; b++)
            bytes[4 * i + (size_t)b] = (unsigned char)(bits >> (8 * b));
    }
    if (status == SEM_OK)
        pack_bin(p, bytes, 4 * count);
    free(bytes);
    return status;
}

sem_status convert_id(packer *p, json_t *value, sem_error *err)
{
    uint64_t large;
    if (!json_is_string(value) && !(json_is_integer(value) && json_integer_value(value) >= 0) &&
        !is_large(value, &large))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "id: must be a string or an integer that is not negative");
    pack_value(p, value);
    return SEM_OK;
}

/* --- lines of bulk files */

/* SEM_OK when the object has no other keys than these. */
static sem_status check_keys(json_t *object, const char *const *allowed, sem_error *err)
{
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        const char *key = json_object_iter_key(i);
        bool known = false;
        for (size_t k = 0; allowed[k] != NULL; k++)
            known = known || strcmp(key, allowed[k]) == 0;
        if (!known)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown key \"%.64s\"", key);
    }
    return SEM_OK;
}

static sem_status parse_line(json_t **out, const char *line, size_t length, const char *const *keys, sem_error *err)
{
    sem_status status = convert_parse(out, line, length, err);
    if (status != SEM_OK)
        return status;
    if (json_is_object(*out))
        status = check_keys(*out, keys, err);
    else
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "a line must be a JSON object");
    if (status != SEM_OK)
        json_decref(*out);
    return status;
}

static sem_status pack_document(packer *p, json_t *doc, sem_error *err)
{
    json_t *text = json_object_get(doc, "text");
    json_t *meta = json_object_get(doc, "meta");
    json_t *vector = json_object_get(doc, "vector");
    if (!json_is_string(text))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "text: must be a string");
    /* An export writes null for what a document has not. */
    bool has_meta = meta != NULL && !json_is_null(meta), has_vector = vector != NULL && !json_is_null(vector);
    if (has_meta && !json_is_object(meta))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "meta: must be an object");
    pack_map(p, 2U + has_meta + has_vector);
    pack_str(p, "id");
    sem_status status = convert_id(p, json_object_get(doc, "id"), err);
    pack_str(p, "text");
    pack_value(p, text);
    if (has_meta) {
        pack_str(p, "meta");
        pack_value(p, meta);
    }
    if (!has_vector || status != SEM_OK)
        return status;
    pack_str(p, "vector");
    return convert_vector(p, vector, err);
}

sem_status convert_document(packer *p, const char *line, size_t length, size_t *text_bytes, sem_error *err)
{
    static const char *const keys[] = {"id", "text", "meta", "vector", NULL};
    json_t *doc;
    sem_status status = parse_line(&doc, line, length, keys, err);
    if (status != SEM_OK)
        return status;
    status = pack_document(p, doc, err);
    *text_bytes = json_string_length(json_object_get(doc, "text"));
    json_decref(doc);
    return status;
}

static sem_status pack_feedback(packer *p, json_t *pair, sem_error *err)
{
    json_t *query = json_object_get(pair, "query"), *id = json_object_get(pair, "id");
    json_t *text = json_object_get(pair, "text"), *label = json_object_get(pair, "label");
    if (!json_is_string(query))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query: must be a string");
    if ((id == NULL) == (text == NULL) || (text != NULL && !json_is_string(text)))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "id, text: give one of them; text is a string");
    if (label != NULL && !json_is_integer(label))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "label: must be 1 or -1");
    pack_map(p, 3);
    pack_str(p, "query");
    pack_value(p, query);
    pack_str(p, "label");
    pack_int(p, label != NULL ? json_integer_value(label) : 1);
    pack_str(p, id != NULL ? "id" : "text");
    if (id != NULL)
        return convert_id(p, id, err);
    pack_value(p, text);
    return SEM_OK;
}

sem_status convert_feedback(packer *p, const char *line, size_t length, sem_error *err)
{
    static const char *const keys[] = {"query", "id", "text", "label", NULL};
    json_t *pair;
    sem_status status = parse_line(&pair, line, length, keys, err);
    if (status != SEM_OK)
        return status;
    status = pack_feedback(p, pair, err);
    json_decref(pair);
    return status;
}

static sem_status pack_judged(packer *p, json_t *judged, sem_error *err)
{
    json_t *query = json_object_get(judged, "query"), *relevant = json_object_get(judged, "relevant");
    if (!json_is_string(query))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query: must be a string");
    if (!json_is_array(relevant))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "relevant: must be an array of ids");
    pack_map(p, 2);
    pack_str(p, "query");
    pack_value(p, query);
    pack_str(p, "relevant");
    pack_array(p, json_array_size(relevant));
    for (size_t i = 0; i < json_array_size(relevant); i++)
        if (convert_id(p, json_array_get(relevant, i), err) != SEM_OK)
            return sem_error_prefix(err, "relevant[%zu]", i);
    return SEM_OK;
}

sem_status convert_judged(packer *p, const char *line, size_t length, sem_error *err)
{
    static const char *const keys[] = {"query", "relevant", NULL};
    json_t *judged;
    sem_status status = parse_line(&judged, line, length, keys, err);
    if (status != SEM_OK)
        return status;
    status = pack_judged(p, judged, err);
    json_decref(judged);
    return status;
}

/* --- MessagePack to JSON */

static void write_string(FILE *out, const char *text, size_t size)
{
    fputc('"', out);
    bool valid = utf8_valid(text, size);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else if (c >= 0x80 && !valid)
            fputs("\\ufffd", out);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

/* The fewest digits that read back as the same number. */
static void write_real(FILE *out, double value, bool narrow)
{
    char text[40];
    if (!isfinite(value)) {
        fputs("null", out);
        return;
    }
    for (int digits = narrow ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (narrow ? (float)back == (float)value : back == value)
            break;
    }
    fputs(text, out);
    if (strpbrk(text, ".e") == NULL) /* stays a float where it is read */
        fputs(".0", out);
}

static void write_bin(FILE *out, const unsigned char *data, size_t size, bin_elements bins)
{
    size_t width = bins == BIN_FLOAT32 && size % 4 == 0 ? 4 : 1;
    fputc('[', out);
    for (size_t i = 0; i < size; i += width) {
        if (i > 0)
            fputc(',', out);
        if (width == 4) {
            uint32_t bits = (uint32_t)data[i] | (uint32_t)data[i + 1] << 8 | (uint32_t)data[i + 2] << 16 |
                            (uint32_t)data[i + 3] << 24;
            float value;
            memcpy(&value, &bits, sizeof value);
            write_real(out, value, true);
        } else {
            fprintf(out, "%d", bins == BIN_INT8 ? (int)(signed char)data[i] : (int)data[i]);
        }
    }
    fputc(']', out);
}

static void write_map(FILE *out, const msgpack_object_map *map, bin_elements bins)
{
    fputc('{', out);
    for (uint32_t i = 0; i < map->size; i++) {
        if (i > 0)
            fputc(',', out);
        const msgpack_object *key = &map->ptr[i].key;
        if (key->type == MSGPACK_OBJECT_STR)
            write_string(out, key->via.str.ptr, key->via.str.size);
        else
            fputs("\"?\"", out); /* no result has such a key; JSON has strings only */
        fputc(':', out);
        convert_write(out, &map->ptr[i].val, bins);
    }
    fputc('}', out);
}

void convert_write(FILE *out, const msgpack_object *value, bin_elements bins)
{
    switch (value->type) {
    case MSGPACK_OBJECT_BOOLEAN: fputs(value->via.boolean ? "true" : "false", out); return;
    case MSGPACK_OBJECT_POSITIVE_INTEGER: fprintf(out, "%" PRIu64, value->via.u64); return;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: fprintf(out, "%" PRId64, value->via.i64); return;
    case MSGPACK_OBJECT_FLOAT32: write_real(out, value->via.f64, true); return;
    case MSGPACK_OBJECT_FLOAT64: write_real(out, value->via.f64, false); return;
    case MSGPACK_OBJECT_STR: write_string(out, value->via.str.ptr, value->via.str.size); return;
    case MSGPACK_OBJECT_BIN:
        write_bin(out, (const unsigned char *)value->via.bin.ptr, value->via.bin.size, bins);
        return;
    case MSGPACK_OBJECT_MAP: write_map(out, &value->via.map, bins); return;
    case MSGPACK_OBJECT_ARRAY: break;
    case MSGPACK_OBJECT_NIL:
    case MSGPACK_OBJECT_EXT: fputs("null", out); return;
    }
    fputc('[', out);
    for (uint32_t i = 0; i < value->via.array.size; i++) {
        if (i > 0)
            fputc(',', out);
        convert_write(out, &value->via.array.ptr[i], bins);
    }
    fputc(']', out);
}
