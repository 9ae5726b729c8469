#include "index/meta_gather.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum {
    TABLE_MIN = 64,
    ITEMS_MAX = 16 << 20 /* of one stored field: as many as limits.meta_bytes can let through */
};

void gather_free(gathered *g)
{
    free(g->fields);
    free(g->values);
    free(g->sorted);
    free(g->present);
    free(g->raw);
    free(g->presence);
    free(g->table);
    *g = (gathered){0};
}

static void *grown(void *array, size_t *capacity, size_t count, size_t size)
{
    if (count < *capacity)
        return array;
    size_t more = *capacity == 0 ? 256 : *capacity * 2;
    void *bigger = checked_realloc(array, more, size);
    if (bigger != NULL)
        *capacity = more;
    return bigger;
}

/* --- fields by name */

static void enter(gathered *g, uint32_t number)
{
    const gathered_field *f = &g->fields[number - 1];
    size_t slot = hash_keyed(g->key, f->name, f->name_length) & (g->table_size - 1);
    while (g->table[slot] != 0)
        slot = (slot + 1) & (g->table_size - 1);
    g->table[slot] = number;
}

static bool grow_table(gathered *g)
{
    size_t size = g->table_size == 0 ? TABLE_MIN : g->table_size * 2;
    uint32_t *table = calloc(size, sizeof *table);
    if (table == NULL)
        return false;
    free(g->table);
    g->table = table;
    g->table_size = size;
    for (size_t i = 0; i < g->field_count; i++)
        enter(g, (uint32_t)i + 1);
    return true;
}

/* The number of the field from 1; 0 when memory is out. */
static uint32_t find_field(gathered *g, const char *name, size_t length)
{
    if (2 * g->field_count >= g->table_size && !grow_table(g))
        return 0;
    size_t slot = hash_keyed(g->key, name, length) & (g->table_size - 1);
    for (; g->table[slot] != 0; slot = (slot + 1) & (g->table_size - 1)) {
        const gathered_field *f = &g->fields[g->table[slot] - 1];
        if (meta_compare_names(f->name, f->name_length, name, length) == 0)
            return g->table[slot];
    }
    gathered_field *fields = grown(g->fields, &g->field_capacity, g->field_count, sizeof *fields);
    if (fields == NULL)
        return 0;
    g->fields = fields;
    fields[g->field_count++] = (gathered_field){.name = name, .name_length = length};
    g->table[slot] = (uint32_t)g->field_count;
    return g->table[slot];
}

/* --- taking documents apart */

static bool add_value(gathered *g, uint32_t field, uint16_t low, const value *v)
{
    size_t capacity = g->value_capacity;
    value *values = grown(g->values, &capacity, g->value_count, sizeof *values);
    if (values == NULL)
        return false;
    g->values = values;
    gathered_item *raw = grown(g->raw, &g->raw_capacity, g->value_count, sizeof *raw);
    if (raw == NULL)
        return false;
    g->raw = raw;
    g->value_capacity = capacity;
    values[g->value_count] = *v;
    raw[g->value_count] = (gathered_item){.field = field, .at = (uint32_t)g->value_count, .low = low};
    g->fields[field].count++;
    g->value_count++;
    return true;
}

static bool add_presence(gathered *g, uint32_t field, uint16_t low)
{
    gathered_item *presence = grown(g->presence, &g->presence_capacity, g->presence_count, sizeof *presence);
    if (presence == NULL)
        return false;
    g->presence = presence;
    presence[g->presence_count++] = (gathered_item){.field = field, .low = low};
    g->fields[field].present_count++;
    return true;
}

/* The value behind a name, as leaf_matches of filter.c understands it. */
static bool take_value(gathered *g, uint32_t field, uint16_t low, reader r)
{
    item it, element;
    if (!reader_take(&r, &it))
        return true;
    if (!add_presence(g, field, low))
        return false;
    if (it.kind == ITEM_SCALAR)
        return add_value(g, field, low, &it.scalar);
    for (size_t i = 0; it.kind == ITEM_ARRAY && i < it.count; i++) {
        if (!reader_take(&r, &element) || element.kind != ITEM_SCALAR)
            return true;
        if (!add_value(g, field, low, &element.scalar))
            return false;
    }
    return true;
}

/* False when memory is out. What cannot be read ends the document, as for a filter. */
static bool take_document(gathered *g, const meta_source *s, uint32_t number)
{
    reader r = {.at = s->meta, .end = s->meta + s->length};
    item map, key;
    if (s->removed || s->length == 0 || !reader_take(&r, &map) || map.kind != ITEM_MAP)
        return true;
    for (size_t i = 0; i < map.count; i++) {
        if (!reader_take(&r, &key) || key.kind != ITEM_SCALAR || key.scalar.type != VALUE_STRING)
            return true;
        uint32_t field = find_field(g, key.scalar.string, key.scalar.length);
        if (field == 0)
            return false;
        gathered_field *f = &g->fields[field - 1];
        /* Of a name that stands twice the first counts. */
        if (f->seen != number && !take_value(g, field - 1, s->low, r))
            return false;
        f->seen = number;
        size_t items = ITEMS_MAX;
        if (!reader_skip(&r, 1, &items))
            return true;
    }
    return true;
}

/* --- sorting */

/* A float is an ordered integer once its sign is turned; rounding keeps order. */
static uint64_t rank_number(const value *v)
{
    double d = v->type == VALUE_UINT ? (double)v->uint : v->type == VALUE_NEGATIVE ? (double)v->negative : v->real;
    uint64_t bits;
    d += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &d, sizeof bits);
    return (bits >> 63) != 0 ? ~bits : bits | UINT64_C(1) << 63;
}

static uint64_t rank_of(const value *v)
{
    value_class c = value_class_of(v);
    uint64_t rank = 0;
    if (c == CLASS_BOOL)
        rank = v->boolean;
    else if (c == CLASS_NUMBER)
        rank = rank_number(v) >> 2;
    for (size_t i = 0; c == CLASS_STRING && i < 7; i++)
        rank = rank << 8 | (i < v->length ? (unsigned char)v->string[i] : 0);
    return (uint64_t)c << 62 | rank;
}

typedef struct sorting {
    const value *values;
} sorting;

static int compare_gathered(const void *a, const void *b, void *context)
{
    const gathered_value *x = a, *y = b;
    const sorting *s = context;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    int order = value_compare(&s->values[x->at], &s->values[y->at]);
    return order != 0 ? order : (x->low > y->low) - (x->low < y->low);
}

static sem_status sort_values(gathered *g, sem_error *err)
{
    g->sorted = checked_realloc(NULL, g->value_count + 1, sizeof *g->sorted);
    g->present = checked_realloc(NULL, g->presence_count + 1, sizeof *g->present);
    if (g->sorted == NULL || g->present == NULL)
        return sem_fail_memory(err, "columns of meta");
    size_t from = 0, present = 0;
    for (size_t i = 0; i < g->field_count; i++) {
        gathered_field *f = &g->fields[i];
        f->from = from;
        f->present_from = present;
        from += f->count;
        present += f->present_count;
        f->count = f->present_count = 0;
    }
    for (size_t i = 0; i < g->value_count; i++) {
        gathered_field *f = &g->fields[g->raw[i].field];
        g->sorted[f->from + f->count++] =
            (gathered_value){.rank = rank_of(&g->values[i]), .at = g->raw[i].at, .low = g->raw[i].low};
    }
    for (size_t i = 0; i < g->presence_count; i++) {
        gathered_field *f = &g->fields[g->presence[i].field];
        g->present[f->present_from + f->present_count++] = g->presence[i].low;
    }
    sorting context = {.values = g->values};
    for (size_t i = 0; i < g->field_count; i++)
        qsort_r(g->sorted + g->fields[i].from, g->fields[i].count, sizeof *g->sorted, compare_gathered, &context);
    return SEM_OK;
}

static int compare_fields(const void *a, const void *b)
{
    const gathered_field *x = a, *y = b;
    return meta_compare_names(x->name, x->name_length, y->name, y->name_length);
}

sem_status gather_meta(gathered *out, const meta_source *sources, size_t count, sem_error *err)
{
    *out = (gathered){0};
    if (!random_bytes(out->key, sizeof out->key))
        return sem_fail(err, SEM_INTERNAL, "no random numbers for the columns of meta");
    for (size_t i = 0; i < count; i++)
        if (!take_document(out, &sources[i], (uint32_t)i + 1))
            return sem_fail_memory(err, "columns of meta");
    sem_status status = sort_values(out, err);
    if (status == SEM_OK && out->field_count > 1)
        qsort(out->fields, out->field_count, sizeof *out->fields, compare_fields);
    return status;
}
