#include "index/filter.h"

#include "index/filter_tree.h"
#include "index/meta_reader.h"

#include <msgpack.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 12,           /* filters inside filters, the outermost included */
    IN_MAX = 100000,          /* values of one `in`: the most that limits.filter_values can be */
    NESTING_MAX = 32,         /* containers in the bytes of a filter; twelve levels take 26 */
    ITEMS_MAX = 200000,       /* keys and values in all: what msgpack-c would take 10 MB for */
    META_ITEMS_MAX = 16 << 20 /* of one stored field: as many as limits.meta_bytes can let through */
};

/* --- filters */

static void node_clear(filter_node *n)
{
    for (size_t i = 0; i < n->count; i++)
        node_clear(&n->children[i]);
    free(n->children);
    free(n->in);
    n->children = NULL;
    n->in = NULL;
    n->count = 0;
}

static bool key_is(const msgpack_object *key, const char *name)
{
    return key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
           memcmp(key->via.str.ptr, name, key->via.str.size) == 0;
}

static sem_status parse_value(const msgpack_object *o, const char *op, value *out, sem_error *err)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: out->type = VALUE_NIL; return SEM_OK;
    case MSGPACK_OBJECT_BOOLEAN:
        out->type = VALUE_BOOL;
        out->boolean = o->via.boolean;
        return SEM_OK;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        out->type = VALUE_UINT;
        out->uint = o->via.u64;
        return SEM_OK;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: value_set_int(out, o->via.i64); return SEM_OK;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        out->type = VALUE_FLOAT;
        out->real = o->via.f64;
        return isnan(out->real) ? sem_fail(err, SEM_INVALID_ARGUMENT, "filter: %s is NaN", op) : SEM_OK;
    case MSGPACK_OBJECT_STR:
        out->type = VALUE_STRING;
        out->string = o->via.str.ptr;
        out->length = o->via.str.size;
        return SEM_OK;
    default: return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: %s takes nil, bool, int, float or str", op);
    }
}

static int compare_for_sort(const void *a, const void *b)
{
    return value_compare(a, b);
}

static sem_status parse_in(const msgpack_object *o, filter_node *out, sem_error *err)
{
    if (o->type != MSGPACK_OBJECT_ARRAY)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: in takes an array of values");
    size_t count = o->via.array.size;
    if (count > IN_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: in has %zu values, at most %d are allowed", count, IN_MAX);
    out->in = calloc(count + 1, sizeof *out->in);
    if (out->in == NULL)
        return sem_fail_memory(err, "the values of a filter");
    for (size_t i = 0; i < count; i++) {
        sem_status status = parse_value(&o->via.array.ptr[i], "in", &out->in[i], err);
        if (status != SEM_OK)
            return status;
    }
    out->in_count = count;
    qsort(out->in, count, sizeof *out->in, compare_for_sort);
    return SEM_OK;
}

static sem_status parse_operator(const msgpack_object_kv *kv, filter_node *out, sem_error *err)
{
    static const char *const names[LIMITS] = {"eq", "gte", "gt", "lte", "lt"};
    unsigned op = 0;
    sem_status status = SEM_OK;
    for (unsigned i = 0; i < LIMITS && op == 0 && status == SEM_OK; i++)
        if (key_is(&kv->key, names[i])) {
            op = 1U << i;
            status = parse_value(&kv->val, names[i], &out->operand[i], err);
        }
    if (key_is(&kv->key, "in") && (out->ops & OP_IN) == 0) {
        op = OP_IN;
        status = parse_in(&kv->val, out, err);
    } else if (key_is(&kv->key, "exists")) {
        op = OP_EXISTS;
        if (kv->val.type == MSGPACK_OBJECT_BOOLEAN)
            out->exists = kv->val.via.boolean;
        else
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "filter: exists takes true or false");
    }
    if (status == SEM_OK && (op == 0 || (out->ops & op) != 0))
        status = sem_fail(
            err, SEM_INVALID_ARGUMENT,
            "filter: %.*s is unknown or stands twice; a leaf has field and eq, "
            "in, gte, gt, lte, lt, exists",
            kv->key.type == MSGPACK_OBJECT_STR ? (int)(kv->key.via.str.size < 64 ? kv->key.via.str.size : 64) : 0,
            kv->key.type == MSGPACK_OBJECT_STR ? kv->key.via.str.ptr : "");
    out->ops |= op;
    return status;
}

static sem_status parse_leaf(const msgpack_object_map *map, filter_node *out, sem_error *err)
{
    out->kind = NODE_LEAF;
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object_kv *kv = &map->ptr[i];
        if (!key_is(&kv->key, "field")) {
            sem_status status = parse_operator(kv, out, err);
            if (status != SEM_OK)
                return status;
            continue;
        }
        if (kv->val.type != MSGPACK_OBJECT_STR || out->field != NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: field is one str");
        out->field = kv->val.via.str.ptr;
        out->field_length = kv->val.via.str.size;
    }
    if (out->field == NULL || out->ops == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "filter: a map has all, any, not, or field with at least one of eq, in, gte, gt, lte, lt, "
                        "exists");
    return SEM_OK;
}

static sem_status parse_node(const msgpack_object *o, unsigned depth, filter_node *out, sem_error *err);

static sem_status parse_children(const msgpack_object *list, size_t count, unsigned depth, filter_node *out,
                                 sem_error *err)
{
    if (count == 0)
        return SEM_OK;
    out->children = calloc(count, sizeof *out->children);
    if (out->children == NULL)
        return sem_fail_memory(err, "a filter");
    for (size_t i = 0; i < count; i++) {
        out->count = i + 1;
        sem_status status = parse_node(&list[i], depth + 1, &out->children[i], err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

static sem_status parse_node(const msgpack_object *o, unsigned depth, filter_node *out, sem_error *err)
{
    if (depth > DEPTH_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: nested deeper than %d", DEPTH_MAX);
    if (o->type != MSGPACK_OBJECT_MAP)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: a filter is a map");
    const msgpack_object_map *map = &o->via.map;
    const msgpack_object_kv *kv = map->ptr;
    bool all = map->size == 1 && key_is(&kv->key, "all"), any = map->size == 1 && key_is(&kv->key, "any");
    if (map->size == 1 && key_is(&kv->key, "not")) {
        out->kind = NODE_NOT;
        return parse_children(&kv->val, 1, depth, out, err);
    }
    if (!all && !any)
        return parse_leaf(map, out, err);
    if (kv->val.type != MSGPACK_OBJECT_ARRAY)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "filter: %s takes an array of filters", all ? "all" : "any");
    out->kind = all ? NODE_ALL : NODE_ANY;
    return parse_children(kv->val.via.array.ptr, kv->val.via.array.size, depth, out, err);
}

sem_status filter_parse(filter **out, const unsigned char *data, size_t length, sem_error *err)
{
    /* msgpack-c takes memory for what a head claims: nothing claims too much after this. */
    reader r = {.at = data, .end = data + length};
    size_t items = ITEMS_MAX;
    if (!reader_skip(&r, NESTING_MAX, &items) || r.at != r.end)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "filter: not one MessagePack value of at most %d items nested at most %d deep", ITEMS_MAX,
                        NESTING_MAX);
    filter *f = calloc(1, sizeof *f);
    unsigned char *bytes = malloc(length);
    if (f == NULL || bytes == NULL) {
        free(f);
        free(bytes);
        return sem_fail_memory(err, "a filter");
    }
    memcpy(bytes, data, length);
    f->bytes = bytes;
    msgpack_unpacked_init(&f->unpacked);
    size_t offset = 0;
    sem_status status = SEM_OK;
    if (msgpack_unpack_next(&f->unpacked, (const char *)bytes, length, &offset) != MSGPACK_UNPACK_SUCCESS)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "filter: not valid MessagePack, or nested too deep");
    if (status == SEM_OK)
        status = parse_node(&f->unpacked.data, 1, &f->root, err);
    if (status != SEM_OK) {
        filter_free(f);
        return status;
    }
    *out = f;
    return SEM_OK;
}

void filter_free(filter *f)
{
    if (f == NULL)
        return;
    node_clear(&f->root);
    msgpack_unpacked_destroy(&f->unpacked);
    free(f->bytes);
    free(f);
}

/* --- matching */

static bool ordered(const value *v, const value *limit, int *order)
{
    value_class c = value_class_of(v);
    if (c != value_class_of(limit) || (c != CLASS_NUMBER && c != CLASS_STRING))
        return false;
    *order = value_compare(v, limit);
    return true;
}

/* Whether one scalar passes all operators of a leaf but exists. */
static bool scalar_passes(const filter_node *leaf, const value *v)
{
    int order;
    if ((leaf->ops & OP_EQ) != 0 && value_compare(v, &leaf->operand[0]) != 0)
        return false;
    if ((leaf->ops & OP_GTE) != 0 && !(ordered(v, &leaf->operand[1], &order) && order >= 0))
        return false;
    if ((leaf->ops & OP_GT) != 0 && !(ordered(v, &leaf->operand[2], &order) && order > 0))
        return false;
    if ((leaf->ops & OP_LTE) != 0 && !(ordered(v, &leaf->operand[3], &order) && order <= 0))
        return false;
    if ((leaf->ops & OP_LT) != 0 && !(ordered(v, &leaf->operand[4], &order) && order < 0))
        return false;
    if ((leaf->ops & OP_IN) != 0 && bsearch(v, leaf->in, leaf->in_count, sizeof *v, compare_for_sort) == NULL)
        return false;
    return true;
}

/* Leaves r at the value of the field; false when the document has none. */
static bool find_field(const filter_node *leaf, const unsigned char *meta, size_t length, reader *r)
{
    item map, key;
    *r = (reader){.at = meta, .end = meta + length};
    if (length == 0 || !reader_take(r, &map) || map.kind != ITEM_MAP)
        return false;
    for (size_t i = 0; i < map.count; i++) {
        if (!reader_take(r, &key) || key.kind != ITEM_SCALAR || key.scalar.type != VALUE_STRING)
            return false;
        if (key.scalar.length == leaf->field_length &&
            (key.scalar.length == 0 || memcmp(key.scalar.string, leaf->field, key.scalar.length) == 0))
            return true;
        size_t items = META_ITEMS_MAX;
        if (!reader_skip(r, 1, &items))
            return false;
    }
    return false;
}

static bool leaf_matches(const filter_node *leaf, const unsigned char *meta, size_t length)
{
    reader r;
    item it;
    if (!find_field(leaf, meta, length, &r) || !reader_take(&r, &it))
        return leaf->ops == OP_EXISTS && !leaf->exists;
    if ((leaf->ops & OP_EXISTS) != 0 && !leaf->exists)
        return false;
    if (leaf->ops == OP_EXISTS)
        return true;
    if (it.kind == ITEM_SCALAR)
        return scalar_passes(leaf, &it.scalar);
    if (it.kind != ITEM_ARRAY)
        return false;
    item element;
    for (size_t i = 0; i < it.count && reader_take(&r, &element) && element.kind == ITEM_SCALAR; i++)
        if (scalar_passes(leaf, &element.scalar))
            return true;
    return false;
}

static bool node_matches(const filter_node *n, const unsigned char *meta, size_t length)
{
    switch (n->kind) {
    case NODE_LEAF: return leaf_matches(n, meta, length);
    case NODE_NOT: return !node_matches(&n->children[0], meta, length);
    default: break;
    }
    /* all looks for one that fails, any for one that passes. */
    bool wanted = n->kind == NODE_ANY;
    for (size_t i = 0; i < n->count; i++)
        if (node_matches(&n->children[i], meta, length) == wanted)
            return wanted;
    return !wanted;
}

bool filter_match(const filter *f, const unsigned char *meta, size_t length)
{
    return node_matches(&f->root, meta, length);
}
