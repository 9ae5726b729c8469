/* Making a segment: the old one's columns and newer documents merged, field by
 * field, in the order of their values. */
#include "base/checked.h"
#include "index/meta_gather.h"
#include "index/meta_segment.h"

#include <stdlib.h>
#include <string.h>

/* A field while it is being made; its arrays are used for one field after the other. */
typedef struct maker {
    const uint64_t *replaced; /* [DOCSET_WORDS] documents whose old meta no longer counts */
    const gathered *fresh;
    meta_field counts; /* keys by kind */
    uint64_t *numbers; /* owned, as all below */
    uint8_t *types;    /* value_type of each number */
    uint32_t *ends;    /* of strings */
    char *bytes;       /* of strings */
    uint32_t *starts;  /* of keys, in postings */
    uint16_t *postings;
    size_t byte_count, posting_count;
    size_t number_capacity, type_capacity, end_capacity, byte_capacity, start_capacity, posting_capacity;
} maker;

static void maker_free(maker *m)
{
    free(m->numbers);
    free(m->types);
    free(m->ends);
    free(m->bytes);
    free(m->starts);
    free(m->postings);
}

static void *room(void *array, size_t *capacity, size_t count, size_t size, bool *failed)
{
    if (count < *capacity)
        return array;
    void *bigger = checked_realloc(array, count + count / 2 + 16, size);
    if (bigger == NULL) {
        *failed = true;
        return array;
    }
    *capacity = count + count / 2 + 16;
    return bigger;
}

/* Room for all that the field can have. */
static bool maker_begin(maker *m, const meta_field *old, const gathered_field *fresh)
{
    size_t numbers = 0, strings = 0, bytes = 0, postings = 0;
    if (old != NULL) {
        numbers = old->numbers;
        strings = old->strings;
        bytes = strings > 0 ? old->string_ends[strings - 1] : 0;
        postings = old->postings_count;
    }
    for (size_t i = 0; fresh != NULL && i < fresh->count; i++) {
        const value *v = &m->fresh->values[m->fresh->sorted[fresh->from + i].at];
        numbers += value_class_of(v) == CLASS_NUMBER;
        strings += v->type == VALUE_STRING;
        bytes += v->type == VALUE_STRING ? v->length : 0;
        postings++;
    }
    bool failed = bytes > UINT32_MAX || postings >= UINT32_MAX;
    m->numbers = room(m->numbers, &m->number_capacity, numbers, sizeof *m->numbers, &failed);
    m->types = room(m->types, &m->type_capacity, numbers, sizeof *m->types, &failed);
    m->ends = room(m->ends, &m->end_capacity, strings, sizeof *m->ends, &failed);
    m->bytes = room(m->bytes, &m->byte_capacity, bytes, 1, &failed);
    m->starts = room(m->starts, &m->start_capacity, postings + 1, sizeof *m->starts, &failed);
    m->postings = room(m->postings, &m->posting_capacity, postings, sizeof *m->postings, &failed);
    m->counts = (meta_field){0};
    m->byte_count = m->posting_count = 0;
    return !failed;
}

/* --- the stream of values and documents */

static void put_key(maker *m, const value *v)
{
    meta_field *f = &m->counts;
    m->starts[f->keys++] = (uint32_t)m->posting_count;
    switch (v->type) {
    case VALUE_NIL: f->nils = 1; return;
    case VALUE_BOOL: f->bools[v->boolean] = 1; return;
    case VALUE_STRING:
        if (v->length > 0)
            memcpy(m->bytes + m->byte_count, v->string, v->length);
        m->byte_count += v->length;
        m->ends[f->strings++] = (uint32_t)m->byte_count;
        return;
    case VALUE_UINT: m->numbers[f->numbers] = v->uint; break;
    case VALUE_NEGATIVE: memcpy(&m->numbers[f->numbers], &v->negative, sizeof v->negative); break;
    case VALUE_FLOAT: memcpy(&m->numbers[f->numbers], &v->real, sizeof v->real); break;
    }
    m->types[f->numbers++] = (uint8_t)v->type;
}

/* A document of the value that is under way; *begun is false before its first. */
static void put_posting(maker *m, const value *v, uint16_t low, bool *begun)
{
    if (!*begun)
        put_key(m, v);
    else if (m->postings[m->posting_count - 1] == low)
        return; /* an array has the value twice */
    *begun = true;
    m->postings[m->posting_count++] = low;
}

static bool is_replaced(const maker *m, uint16_t low)
{
    return (m->replaced[low / 64] >> low % 64 & 1) != 0;
}

/* The documents of one value, old ones from `at` to `end` and fresh ones. */
static void put_value(maker *m, const value *v, const uint16_t *at, const uint16_t *end, const gathered_value *fresh,
                      const gathered_value *fresh_end)
{
    bool begun = false;
    while (at < end || fresh < fresh_end) {
        if (at < end && is_replaced(m, *at))
            at++;
        else if (at < end && (fresh == fresh_end || *at < fresh->low))
            put_posting(m, v, *at++, &begun);
        else
            put_posting(m, v, (fresh++)->low, &begun);
    }
}

static void merge_values(maker *m, const meta_field *old, const gathered_field *fresh)
{
    uint32_t key = 0, keys = old != NULL ? old->keys : 0;
    const gathered_value *at = NULL, *end = NULL;
    value v = {0};
    if (fresh != NULL) {
        at = m->fresh->sorted + fresh->from;
        end = at + fresh->count;
    }
    while (key < keys || at < end) {
        int order = key == keys ? 1 : -1;
        if (key < keys)
            meta_field_key(old, key, &v);
        if (key < keys && at < end)
            order = value_compare(&v, &m->fresh->values[at->at]);
        if (order > 0)
            v = m->fresh->values[at->at];
        const gathered_value *same = at;
        while (order >= 0 && same < end && value_compare(&m->fresh->values[same->at], &v) == 0)
            same++;
        const uint16_t *from = NULL, *to = NULL;
        if (order <= 0) {
            from = old->postings + meta_field_start(old, key);
            to = old->postings + meta_field_start(old, key + 1);
            key++;
        }
        put_value(m, &v, from, to, at, same);
        at = same;
    }
    m->starts[m->counts.keys] = (uint32_t)m->posting_count;
}

/* --- the finished field */

/* NULL for none, and when memory is out. */
static void *copy_of(const void *from, size_t count, size_t size, bool *failed)
{
    void *copy = count > 0 ? checked_realloc(NULL, count, size) : NULL;
    if (copy != NULL)
        memcpy(copy, from, count * size);
    *failed |= count > 0 && copy == NULL;
    return copy;
}

/* Where the run that begins with the key ends: a value of many documents makes
 * one alone, others are joined until they are enough. */
static uint32_t run_end(const maker *m, uint32_t from)
{
    for (uint32_t key = from; key < m->counts.keys; key++) {
        if (key > from && m->starts[key + 1] - m->starts[key] >= META_RUN_MIN)
            return key;
        if (m->starts[key + 1] - m->starts[from] >= META_RUN_MIN)
            return key + 1;
    }
    return m->counts.keys;
}

static bool make_runs(const maker *m, meta_field *f)
{
    size_t most = m->posting_count / META_RUN_MIN;
    if (most == 0)
        return true;
    f->runs = calloc(most, sizeof *f->runs);
    if (f->runs == NULL)
        return false;
    for (uint32_t from = 0, to; from < f->keys; from = to) {
        to = run_end(m, from);
        if (m->starts[to] - m->starts[from] < META_RUN_MIN)
            continue;
        meta_run *run = &f->runs[f->run_count++];
        run->from = from;
        run->to = to;
        for (uint32_t i = m->starts[from]; i < m->starts[to]; i++)
            run->bits[m->postings[i] / 64] |= UINT64_C(1) << m->postings[i] % 64;
    }
    return true;
}

static bool same_types(const maker *m)
{
    for (size_t i = 1; i < m->counts.numbers; i++)
        if (m->types[i] != m->types[0])
            return false;
    return true;
}

/* Whether no document has two values. */
static bool is_single(const maker *m)
{
    uint64_t met[DOCSET_WORDS] = {0};
    for (size_t i = 0; i < m->posting_count; i++) {
        uint64_t *word = &met[m->postings[i] / 64], bit = UINT64_C(1) << m->postings[i] % 64;
        if ((*word & bit) != 0)
            return false;
        *word |= bit;
    }
    return true;
}

static bool make_present(const maker *m, const meta_field *old, const gathered_field *fresh, meta_set *out)
{
    uint64_t bits[DOCSET_WORDS] = {0};
    if (old != NULL)
        meta_set_spread(&old->present, bits);
    for (size_t w = 0; w < DOCSET_WORDS; w++)
        bits[w] &= ~m->replaced[w];
    for (size_t i = 0; fresh != NULL && i < fresh->present_count; i++) {
        uint16_t low = m->fresh->present[fresh->present_from + i];
        bits[low / 64] |= UINT64_C(1) << low % 64;
    }
    return meta_set_make(out, bits);
}

/* Owned by the segment, or freed there, whatever comes of it. */
static bool maker_finish(const maker *m, const char *name, size_t length, meta_field *f)
{
    meta_set present = f->present;
    *f = m->counts;
    f->present = present;
    f->name_length = length;
    f->postings_count = (uint32_t)m->posting_count;
    f->single = is_single(m);
    bool failed = false;
    f->name = copy_of(name, length, 1, &failed);
    f->number_bits = copy_of(m->numbers, f->numbers, sizeof *m->numbers, &failed);
    f->string_ends = copy_of(m->ends, f->strings, sizeof *m->ends, &failed);
    f->string_bytes = copy_of(m->bytes, m->byte_count, 1, &failed);
    f->postings = copy_of(m->postings, m->posting_count, sizeof *m->postings, &failed);
    if (f->numbers > 0)
        f->number_type = (value_type)m->types[0];
    if (!same_types(m))
        f->number_types = copy_of(m->types, f->numbers, sizeof *m->types, &failed);
    if (f->keys < f->postings_count)
        f->starts = copy_of(m->starts, (size_t)f->keys + 1, sizeof *m->starts, &failed);
    return !failed && make_runs(m, f);
}

/* --- the segment */

static size_t set_bytes(const meta_set *s)
{
    return s->bits != NULL ? DOCSET_WORDS * sizeof *s->bits : s->count * sizeof *s->list;
}

static size_t field_bytes(const meta_field *f)
{
    return sizeof *f + f->name_length + f->numbers * (sizeof *f->number_bits + (f->number_types != NULL)) +
           f->strings * sizeof *f->string_ends + (f->strings > 0 ? f->string_ends[f->strings - 1] : 0) +
           (f->starts != NULL ? ((size_t)f->keys + 1) * sizeof *f->starts : 0) +
           f->postings_count * sizeof *f->postings + set_bytes(&f->present) + f->run_count * sizeof *f->runs;
}

static bool merge_field(maker *m, meta_segment *out, const meta_field *old, const gathered_field *fresh)
{
    const char *name = old != NULL ? old->name : fresh->name;
    size_t length = old != NULL ? old->name_length : fresh->name_length;
    meta_field *f = &out->fields[out->field_count];
    *f = (meta_field){0};
    if (!make_present(m, old, fresh, &f->present))
        return false;
    if (f->present.count == 0)
        return true; /* its last document is gone */
    out->field_count++;
    if (!maker_begin(m, old, fresh))
        return false;
    merge_values(m, old, fresh);
    if (!maker_finish(m, name, length, f))
        return false;
    out->bytes += field_bytes(f);
    return true;
}

static bool merge_fields(maker *m, meta_segment *out, const meta_segment *old)
{
    size_t i = 0, j = 0, olds = old != NULL ? old->field_count : 0, freshes = m->fresh->field_count;
    out->fields = checked_realloc(NULL, olds + freshes + 1, sizeof *out->fields);
    bool done = out->fields != NULL;
    while (done && (i < olds || j < freshes)) {
        const meta_field *f = i < olds ? &old->fields[i] : NULL;
        const gathered_field *g = j < freshes ? &m->fresh->fields[j] : NULL;
        int order = f == NULL ? 1 : -1;
        if (f != NULL && g != NULL)
            order = meta_compare_names(f->name, f->name_length, g->name, g->name_length);
        done = merge_field(m, out, order <= 0 ? f : NULL, order >= 0 ? g : NULL);
        i += order <= 0;
        j += order >= 0;
    }
    return done;
}

static bool merge_all(maker *m, meta_segment *out, const meta_segment *old, const meta_source *sources, size_t count)
{
    uint64_t replaced[DOCSET_WORDS] = {0}, live[DOCSET_WORDS] = {0};
    if (old != NULL)
        meta_set_spread(&old->live, live);
    for (size_t i = 0; i < count; i++) {
        uint64_t bit = UINT64_C(1) << sources[i].low % 64;
        replaced[sources[i].low / 64] |= bit;
        if (sources[i].removed)
            live[sources[i].low / 64] &= ~bit;
        else
            live[sources[i].low / 64] |= bit;
    }
    if (!meta_set_make(&out->live, live))
        return false;
    m->replaced = replaced;
    out->bytes = sizeof *out + set_bytes(&out->live);
    const bool merged = merge_fields(m, out, old);
    m->replaced = NULL;
    return merged;
}

sem_status meta_segment_merge(meta_segment **out, const meta_segment *old, const meta_source *sources, size_t count,
                              sem_error *err)
{
    gathered fresh;
    meta_segment *s = calloc(1, sizeof *s);
    sem_status status = gather_meta(&fresh, sources, count, err);
    maker m = {.fresh = &fresh};
    if (status == SEM_OK && (s == NULL || !merge_all(&m, s, old, sources, count)))
        status = sem_fail_memory(err, "columns of meta");
    maker_free(&m);
    gather_free(&fresh);
    if (s != NULL)
        s->references = 1;
    if (status != SEM_OK)
        meta_segment_release(s);
    else
        *out = s;
    return status;
}
