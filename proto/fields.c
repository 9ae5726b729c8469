#include "proto/fields.h"

#include "base/checked.h"
#include "base/utf8.h"
#include "proto/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALLOWED_TEXT_MAX = 512 /* bytes */ };

static field_read read_deadline; /* uint64_t milliseconds */

const field_table DEADLINE_FIELDS = {
    .fields = (const field[]){{"deadline_ms", read_deadline, offsetof(request, deadline_ms),
                               offsetof(request, has_deadline), false}},
    .count = 1,
};

const field_table COLLECTION_FIELDS = {
    .fields = (const field[]){{"collection", read_name, offsetof(request, collection),
                               offsetof(request, has_collection), false}},
    .count = 1,
    .more = &DEADLINE_FIELDS,
};

bool span_is(const span *s, const char *text)
{
    return s->data != NULL && s->size == strlen(text) && memcmp(s->data, text, s->size) == 0;
}

const char *quoted(char out[QUOTED_MAX], const void *data, size_t size)
{
    if (!utf8_valid(data, size)) {
        snprintf(out, QUOTED_MAX, "(not UTF-8)");
        return out;
    }
    size_t length = utf8_cut(data, size, QUOTED_MAX - 4);
    memcpy(out, data, length);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f)
            out[i] = '?';
    snprintf(out + length, QUOTED_MAX - length, "%s", length < size ? "..." : "");
    return out;
}

sem_status expect(parser *p, value_kind kind, const char *wanted, value_head *head, sem_error *err)
{
    if (!value_next(&p->at, head))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be %s, found the end of the frame", wanted);
    if (head->kind != kind)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be %s, found %s", wanted, value_kind_name(head->kind));
    return SEM_OK;
}

sem_status fail_limit(sem_error *err, uint64_t found, const char *what, uint64_t limit, const char *key)
{
    char found_text[NUMBER_TEXT_MAX], limit_text[NUMBER_TEXT_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s %s, at most %s (%s)", number_text(found_text, found), what,
                    number_text(limit_text, limit), key);
}

void *arena_array(parser *p, size_t count, size_t size)
{
    p->request->arena = pool_take_cleared(p->request->frame.memory, count, size);
    return p->request->arena;
}

/* --- maps */

/* The field of that name and, in *bit, its place among all fields of the table. */
static const field *find_field(const field_table *table, const span *name, size_t *bit)
{
    *bit = 0;
    for (; table != NULL; table = table->more)
        for (size_t i = 0; i < table->count; i++, (*bit)++)
            if (span_is(name, table->fields[i].name))
                return &table->fields[i];
    return NULL;
}

static sem_status fail_unknown_key(const field_table *table, const span *name, sem_error *err)
{
    char allowed[ALLOWED_TEXT_MAX] = "", name_text[QUOTED_MAX];
    size_t used = 0;
    for (; table != NULL; table = table->more)
        for (size_t i = 0; i < table->count; i++) {
            int n =
                snprintf(allowed + used, sizeof allowed - used, "%s%s", used > 0 ? ", " : "", table->fields[i].name);
            if (n > 0 && (size_t)n < sizeof allowed - used)
                used += (size_t)n;
        }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "unknown key \"%s\"; allowed here: %s",
                    quoted(name_text, name->data, name->size), allowed);
}

/* Names the field in front of the message: "docs" and "[3]: text: ..." become
 * "docs[3]: text: ...", "options" and ".dim: ..." become "options.dim: ...". */
static sem_status put_name(sem_error *err, const char *dot, const char *name)
{
    if (err->message[0] != '[' && err->message[0] != '.')
        return sem_error_prefix(err, "%s%s", dot, name);
    char rest[SEM_ERROR_MESSAGE_MAX];
    memcpy(rest, err->message, sizeof rest);
    return sem_error_set(err, err->code, err->file, err->line, "%s%s%s", dot, name, rest);
}

static sem_status read_entry(parser *p, const field_table *table, void *base, uint64_t *seen, sem_error *err)
{
    value_head key;
    sem_status status = expect(p, VALUE_STR, "a str as every key of a map", &key, err);
    if (status != SEM_OK)
        return status;
    span name = {(const char *)key.data, (size_t)key.number};
    size_t bit;
    const field *f = find_field(table, &name, &bit);
    if (f == NULL)
        return fail_unknown_key(table, &name, err);
    if ((*seen >> bit & 1) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: given twice in one map", f->name);
    *seen |= UINT64_C(1) << bit;
    if (f->read(p, (char *)base + f->target, err) != SEM_OK)
        return put_name(err, table->nested ? "." : "", f->name);
    if (f->present != 0)
        *(bool *)((char *)base + f->present) = true;
    return SEM_OK;
}

sem_status fields_read(parser *p, const field_table *table, void *base, sem_error *err)
{
    value_head map;
    sem_status status = expect(p, VALUE_MAP, "a map", &map, err);
    uint64_t seen = 0; /* by find_field's places; no table has 64 fields */
    for (uint64_t i = 0; status == SEM_OK && i < map.number; i++)
        status = read_entry(p, table, base, &seen, err);
    if (status != SEM_OK)
        return status;
    size_t bit = 0;
    for (; table != NULL; table = table->more)
        for (size_t i = 0; i < table->count; i++, bit++)
            if (table->fields[i].required && (seen >> bit & 1) == 0)
                return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: required but missing", table->fields[i].name);
    return SEM_OK;
}

/* --- single values */

sem_status read_bool(parser *p, void *target, sem_error *err)
{
    value_head head;
    sem_status status = expect(p, VALUE_BOOL, "a bool", &head, err);
    if (status == SEM_OK)
        *(bool *)target = head.number != 0;
    return status;
}

sem_status read_range(parser *p, uint64_t low, uint64_t high, uint64_t *out, sem_error *err)
{
    value_head head;
    if (!value_next(&p->at, &head) || (head.kind != VALUE_UINT && head.kind != VALUE_INT))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be an integer, found %s", value_kind_name(head.kind));
    if (head.kind == VALUE_UINT && head.number >= low && head.number <= high) {
        *out = head.number;
        return SEM_OK;
    }
    char low_text[NUMBER_TEXT_MAX], high_text[NUMBER_TEXT_MAX];
    number_text(low_text, low);
    number_text(high_text, high);
    if (head.kind == VALUE_INT)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be from %s to %s, found a negative integer", low_text,
                        high_text);
    char found_text[NUMBER_TEXT_MAX];
    return sem_fail(err, SEM_INVALID_ARGUMENT, "must be from %s to %s, found %s", low_text, high_text,
                    number_text(found_text, head.number));
}

sem_status read_number(parser *p, double low, double high, double *out, sem_error *err)
{
    value_head head;
    if (!value_next(&p->at, &head) || (head.kind != VALUE_UINT && head.kind != VALUE_INT && head.kind != VALUE_FLOAT))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be a number, found %s", value_kind_name(head.kind));
    double value = head.kind == VALUE_FLOAT ? head.real
                   : head.kind == VALUE_INT ? (double)(int64_t)head.number
                                            : (double)head.number;
    if (!(value >= low && value <= high))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "must be from %g to %g, found %g", low, high, value);
    *out = value;
    return SEM_OK;
}

sem_status read_positive(parser *p, void *target, sem_error *err)
{
    uint64_t value;
    sem_status status = read_range(p, 1, UINT32_MAX, &value, err);
    if (status == SEM_OK)
        *(uint32_t *)target = (uint32_t)value;
    return status;
}

static sem_status read_deadline(parser *p, void *target, sem_error *err)
{
    /* 49 days: added to a clock in nanoseconds it can't overflow. */
    return read_range(p, 0, UINT32_MAX, target, err);
}

sem_status read_choice(parser *p, const char *const *words, size_t *choice, sem_error *err)
{
    span found;
    sem_status status = read_string(p, &found, err);
    if (status != SEM_OK)
        return status;
    char allowed[ALLOWED_TEXT_MAX] = "", found_text[QUOTED_MAX];
    size_t used = 0;
    for (size_t i = 0; words[i] != NULL; i++) {
        if (span_is(&found, words[i])) {
            *choice = i;
            return SEM_OK;
        }
        int n = snprintf(allowed + used, sizeof allowed - used, "%s\"%s\"", used > 0 ? ", " : "", words[i]);
        if (n > 0 && (size_t)n < sizeof allowed - used)
            used += (size_t)n;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "must be one of %s, found \"%s\"", allowed,
                    quoted(found_text, found.data, found.size));
}

sem_status read_words(parser *p, const char *const *words, unsigned *bits, sem_error *err)
{
    value_head array;
    sem_status status = expect(p, VALUE_ARRAY, "an array of str", &array, err);
    unsigned found = 0;
    for (uint64_t i = 0; status == SEM_OK && i < array.number; i++) {
        size_t choice = 0;
        status = read_choice(p, words, &choice, err);
        if (status == SEM_OK && (found >> choice & 1) != 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "\"%s\" twice", words[choice]);
        found |= 1U << choice;
    }
    if (status == SEM_OK)
        *bits = found;
    return status;
}

sem_status read_with(parser *p, void *target, sem_error *err)
{
    static const char *const parts[] = {"text", "meta", "vector", NULL};
    return read_words(p, parts, target, err); /* WITH_TEXT, WITH_META and WITH_VECTOR, in this order */
}

sem_status read_maps(parser *p, const field_table *table, size_t size, const char *what, void **out, size_t *count,
                     sem_error *err)
{
    value_head array;
    sem_status status = expect(p, VALUE_ARRAY, "an array of maps", &array, err);
    if (status != SEM_OK)
        return status;
    if (array.number > p->limits->upsert_docs)
        return fail_limit(err, array.number, what, p->limits->upsert_docs, "limits.upsert_docs");
    char *items = arena_array(p, (size_t)array.number, size);
    if (items == NULL)
        return sem_fail_memory(err, what);
    *out = items;
    *count = (size_t)array.number;
    for (size_t i = 0; i < array.number; i++)
        if (fields_read(p, table, items + i * size, err) != SEM_OK)
            return sem_error_prefix(err, "[%zu]", i);
    return SEM_OK;
}
