/* Readers of texts, ids, vectors, meta and filters. */
#include "base/utf8.h"
#include "proto/fields.h"
#include "proto/frame.h"
#include "proto/number.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAME_MAX_BYTES = 64,  /* of a collection */
    FILTER_KEYS_MAX = 16, /* more than a filter's map can use: there are eleven words */
    FEW_KEYS = 16         /* up to here comparing all pairs is quicker than sorting */
};

/* --- strings */

sem_status read_string(parser *p, void *target, sem_error *err)
{
    value_head head;
    sem_status status = expect(p, VALUE_STR, "a str", &head, err);
    if (status != SEM_OK)
        return status;
    if (!utf8_valid(head.data, (size_t)head.number))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "is not valid UTF-8");
    *(span *)target = (span){(const char *)head.data, (size_t)head.number};
    return SEM_OK;
}

static sem_status read_without_nul(parser *p, span *out, sem_error *err)
{
    span found;
    sem_status status = read_string(p, &found, err);
    if (status != SEM_OK)
        return status;
    const char *nul = memchr(found.data, '\0', found.size);
    if (nul != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must not hold a NUL character, found one at byte %zu",
                        (size_t)(nul - found.data));
    *out = found;
    return SEM_OK;
}

sem_status read_text(parser *p, void *target, sem_error *err)
{
    span found;
    sem_status status = read_without_nul(p, &found, err);
    if (status != SEM_OK)
        return status;
    if (found.size > p->limits->text_bytes)
        return fail_limit(err, found.size, "bytes", p->limits->text_bytes, "limits.text_bytes");
    *(span *)target = found;
    return SEM_OK;
}

sem_status read_word(parser *p, void *target, sem_error *err)
{
    span found;
    sem_status status = read_without_nul(p, &found, err);
    if (status != SEM_OK)
        return status;
    if (found.size == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must not be empty");
    *(span *)target = found;
    return SEM_OK;
}

sem_status read_name(parser *p, void *target, sem_error *err)
{
    span found;
    sem_status status = read_string(p, &found, err);
    if (status != SEM_OK)
        return status;
    bool right = found.size >= 1 && found.size <= NAME_MAX_BYTES;
    for (size_t i = 0; right && i < found.size; i++) {
        char c = found.data[i];
        right = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    }
    if (!right) {
        char text[QUOTED_MAX];
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be 1 to %d characters out of a-z, 0-9, _ and -, found \"%s\"",
                        NAME_MAX_BYTES, quoted(text, found.data, found.size));
    }
    *(span *)target = found;
    return SEM_OK;
}

/* --- ids */

sem_status read_id(parser *p, void *target, sem_error *err)
{
    docid *id = target;
    value_cursor start = p->at;
    value_head head;
    if (!value_next(&p->at, &head) || (head.kind != VALUE_UINT && head.kind != VALUE_STR))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be a str or an unsigned integer, found %s",
                        value_kind_name(head.kind));
    if (head.kind == VALUE_UINT) {
        *id = (docid){.is_integer = true, .integer = head.number};
        return SEM_OK;
    }
    span found;
    p->at = start;
    sem_status status = read_string(p, &found, err);
    if (status != SEM_OK)
        return status;
    if (found.size < 1 || found.size > DOCID_STRING_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must have 1 to %d bytes, found %zu", DOCID_STRING_MAX, found.size);
    *id = (docid){.string = found.data, .length = found.size};
    return SEM_OK;
}

sem_status expect_ids(parser *p, size_t *count, sem_error *err)
{
    value_head array;
    sem_status status = expect(p, VALUE_ARRAY, "an array of ids", &array, err);
    if (status != SEM_OK)
        return status;
    if (array.number > p->limits->ids)
        return fail_limit(err, array.number, "ids", p->limits->ids, "limits.ids");
    *count = (size_t)array.number;
    return SEM_OK;
}

sem_status read_ids(parser *p, docid **ids, size_t *count, sem_error *err)
{
    size_t found;
    sem_status status = expect_ids(p, &found, err);
    if (status != SEM_OK)
        return status;
    docid *list = arena_array(p, found, sizeof *list);
    if (list == NULL)
        return sem_fail_memory(err, "ids");
    for (size_t i = 0; i < found; i++)
        if (read_id(p, &list[i], err) != SEM_OK)
            return sem_error_prefix(err, "[%zu]", i);
    *ids = list;
    *count = found;
    return SEM_OK;
}

/* --- vectors */

sem_status read_vector(parser *p, void *target, sem_error *err)
{
    value_head head;
    sem_status status = expect(p, VALUE_BIN, "a bin", &head, err);
    if (status != SEM_OK)
        return status;
    size_t size = (size_t)head.number;
    if (size == 0 || size % 4 != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must have 4 bytes a dimension, found %zu bytes", size);
    bool zero = true;
    for (size_t i = 0; i < size; i += 4) {
        uint32_t bits = (uint32_t)head.data[i] | (uint32_t)head.data[i + 1] << 8 | (uint32_t)head.data[i + 2] << 16 |
                        (uint32_t)head.data[i + 3] << 24;
        if ((bits & 0x7f800000U) == 0x7f800000U)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "must be finite, found NaN or infinity in dimension %zu", i / 4);
        zero = zero && (bits & 0x7fffffffU) == 0;
    }
    if (zero)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must not be zero in all of its %zu dimensions", size / 4);
    *(span *)target = (span){(const char *)head.data, size};
    return SEM_OK;
}

/* --- meta and filters: maps whose keys are the client's */

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return x->size == 0 ? 0 : memcmp(x->data, y->data, x->size);
}

static sem_status check_distinct(span *keys, size_t count, sem_error *err)
{
    const span *twice = NULL;
    if (count > FEW_KEYS) {
        qsort(keys, count, sizeof *keys, compare_spans);
        for (size_t i = 1; i < count && twice == NULL; i++)
            if (compare_spans(&keys[i - 1], &keys[i]) == 0)
                twice = &keys[i];
    } else {
        for (size_t i = 1; i < count && twice == NULL; i++)
            for (size_t j = 0; j < i; j++)
                if (compare_spans(&keys[j], &keys[i]) == 0)
                    twice = &keys[i];
    }
    if (twice == NULL)
        return SEM_OK;
    char text[QUOTED_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT, "key \"%s\" given twice in one map",
                    quoted(text, twice->data, twice->size));
}

static sem_status read_key(parser *p, span *key, sem_error *err)
{
    value_head head;
    sem_status status = expect(p, VALUE_STR, "a str as every key of a map", &head, err);
    if (status != SEM_OK)
        return status;
    if (!utf8_valid(head.data, (size_t)head.number))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a key is not valid UTF-8");
    *key = (span){(const char *)head.data, (size_t)head.number};
    return SEM_OK;
}

/* A value that is nil, bool, integer, float (no NaN) or str: read already, checked here. */
static sem_status check_scalar(const value_head *head, sem_error *err)
{
    if (head->kind == VALUE_FLOAT && isnan(head->real))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must not be NaN");
    if (head->kind == VALUE_STR && !utf8_valid(head->data, (size_t)head->number))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "is not valid UTF-8");
    if (head->kind >= VALUE_NIL && head->kind <= VALUE_STR)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "must be nil, bool, integer, float, str or array of str, found %s",
                    value_kind_name(head->kind));
}

static sem_status check_meta_value(parser *p, sem_error *err)
{
    value_head head;
    if (!value_next(&p->at, &head))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "is cut short");
    if (head.kind != VALUE_ARRAY)
        return check_scalar(&head, err);
    if (head.number > p->limits->meta_bytes) /* an element takes a byte at least: said before reading millions */
        return fail_limit(err, head.number, "elements, more than bytes", p->limits->meta_bytes, "limits.meta_bytes");
    for (uint64_t i = 0; i < head.number; i++) {
        span element;
        if (read_string(p, &element, err) != SEM_OK)
            return sem_error_prefix(err, "[%" PRIu64 "]", i);
    }
    return SEM_OK;
}

static sem_status check_meta_fields(parser *p, span *keys, size_t count, sem_error *err)
{
    for (size_t i = 0; i < count; i++) {
        sem_status status = read_key(p, &keys[i], err);
        if (status != SEM_OK)
            return status;
        char text[QUOTED_MAX];
        if (check_meta_value(p, err) != SEM_OK)
            return sem_error_prefix(err, "%s", quoted(text, keys[i].data, keys[i].size));
    }
    return check_distinct(keys, count, err);
}

sem_status read_meta(parser *p, void *target, sem_error *err)
{
    const unsigned char *start = p->at.at;
    value_head map;
    sem_status status = expect(p, VALUE_MAP, "a map", &map, err);
    if (status != SEM_OK)
        return status;
    if (map.number > p->limits->meta_fields)
        return fail_limit(err, map.number, "fields", p->limits->meta_fields, "limits.meta_fields");
    size_t count = (size_t)map.number;
    span *keys = calloc(count > 0 ? count : 1, sizeof *keys);
    if (keys == NULL)
        return sem_fail_memory(err, "the keys of meta");
    status = check_meta_fields(p, keys, count, err);
    free(keys);
    size_t size = (size_t)(p->at.at - start);
    if (status == SEM_OK && size > p->limits->meta_bytes)
        return fail_limit(err, size, "bytes", p->limits->meta_bytes, "limits.meta_bytes");
    if (status == SEM_OK)
        *(span *)target = (span){(const char *)start, size};
    return status;
}

static sem_status check_filter_value(parser *p, const span *key, size_t depth, sem_error *err);

static sem_status check_filter_map(parser *p, uint64_t count, size_t depth, sem_error *err)
{
    if (count > FILTER_KEYS_MAX)
        return sem_fail(
            err, SEM_INVALID_ARGUMENT,
            "a map of %" PRIu64 " keys; it takes all, any, not, or field with eq, in, gte, gt, lte, lt, exists", count);
    span keys[FILTER_KEYS_MAX];
    for (size_t i = 0; i < count; i++) {
        sem_status status = read_key(p, &keys[i], err);
        if (status == SEM_OK)
            status = check_filter_value(p, &keys[i], depth, err);
        if (status != SEM_OK)
            return status;
    }
    return check_distinct(keys, (size_t)count, err);
}

/* What index/filter.c relies on: valid UTF-8, distinct str keys, no ext, no NaN,
 * no list longer than limits.filter_values. What the words mean is its part.
 * Recursion ends at the depth that the frame scanner lets through. */
static sem_status check_filter_value(parser *p, const span *key, size_t depth, sem_error *err)
{
    value_head head;
    if (!value_next(&p->at, &head) || depth > FRAME_DEPTH_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "is cut short or nested too deep");
    if (head.kind == VALUE_MAP)
        return check_filter_map(p, head.number, depth + 1, err);
    if (head.kind != VALUE_ARRAY) {
        char text[QUOTED_MAX];
        return check_scalar(&head, err) == SEM_OK ? SEM_OK
                                                  : sem_error_prefix(err, "%s", quoted(text, key->data, key->size));
    }
    if (head.number > p->limits->filter_values) {
        char text[QUOTED_MAX];
        fail_limit(err, head.number, "values", p->limits->filter_values, "limits.filter_values");
        return sem_error_prefix(err, "%s", quoted(text, key->data, key->size));
    }
    for (uint64_t i = 0; i < head.number; i++) {
        sem_status status = check_filter_value(p, key, depth + 1, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

sem_status read_filter(parser *p, void *target, sem_error *err)
{
    const unsigned char *start = p->at.at;
    value_head map;
    sem_status status = expect(p, VALUE_MAP, "a map", &map, err);
    if (status == SEM_OK)
        status = check_filter_map(p, map.number, 1, err);
    if (status == SEM_OK)
        *(span *)target = (span){(const char *)start, (size_t)(p->at.at - start)};
    return status;
}
