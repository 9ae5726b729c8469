/* Places and slots. A place says from which text version a document's vector in
 * a space was made and under which slots it lies. A slot is written once; what
 * is replaced goes to the table `freed` (store_freed.c). */
#include "base/checked.h"
#include "index/dot.h"
#include "index/store_internal.h"

#include <stdlib.h>

bool place_decode(const MDB_val *value, place *out)
{
    size_t bytes = value->mv_size - PLACE_FIXED, step = bytes == PLACE_SLOT ? PLACE_SLOT : PLACE_PASSAGE;
    if (value->mv_size < PLACE_FIXED + PLACE_SLOT || bytes % step != 0)
        return false;
    const unsigned char *p = value->mv_data;
    *out = (place){.version = get_u64(p), .slots = p + PLACE_FIXED, .count = bytes / step, .step = step};
    return true;
}

static sem_status place_find(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno, place *out,
                             bool *found, sem_error *err)
{
    unsigned char key[PLACE_KEY];
    MDB_txn *txn;
    MDB_val value;
    place_key(key, space_number, collection, docno);
    *found = false;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(&r->s->main, txn, r->s->places, key, sizeof key, &value, found, err);
    if (status == SEM_OK && *found && !place_decode(&value, out))
        status = environment_damaged(&r->s->main, "a place", err);
    return status;
}

sem_status slot_find(store_read *r, uint32_t space_number, uint32_t collection, uint32_t slot, slot_vector *out,
                     bool *found, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    space *sp;
    MDB_txn *txn;
    MDB_val value;
    sem_status status = read_space(r, space_number, &sp, &txn, err);
    *found = false;
    if (status != SEM_OK)
        return status;
    *out = (slot_vector){0};
    if (r->write != NULL)
        out->data = pending_find(r->write, sp, collection, slot, &out->floats);
    *found = out->data != NULL;
    if (*found)
        return SEM_OK;
    status = block_find(sp, txn, collection, slot, &out->data, &out->floats, &out->padded, err);
    *found = out->padded;
    if (status != SEM_OK || *found)
        return status;
    slot_key(key, collection, slot);
    status = table_get(&sp->in, txn, sp->vectors, key, sizeof key, &value, found, err);
    if (status == SEM_OK && *found)
        *out = (slot_vector){.data = value.mv_data, .floats = value.mv_size / sizeof(float)};
    return status;
}

static bool has_dim(const slot_vector *v, size_t dim)
{
    return v->floats == (v->padded ? dot_width(dim) : dim);
}

sem_status store_passage_get(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno, size_t ordinal,
                             float *out, size_t dim, store_passage *passage, bool *found, sem_error *err)
{
    place where;
    slot_vector vector;
    sem_status status = place_find(r, space_number, collection, docno, &where, found, err);
    *found = *found && status == SEM_OK && ordinal < where.count;
    if (*found)
        status = slot_find(r, space_number, collection, place_slot(&where, ordinal), &vector, found, err);
    if (status != SEM_OK || !*found)
        return status;
    if (!has_dim(&vector, dim)) {
        *found = false;
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a vector of %zu floats was asked, space %u has one of %zu", dim,
                        space_number, vector.floats);
    }
    memcpy(out, vector.data, dim * sizeof *out);
    *passage = (store_passage){.version = where.version,
                               .range = place_range(&where, ordinal),
                               .count = where.step == PLACE_PASSAGE ? where.count : 0};
    return SEM_OK;
}

sem_status store_vector_get(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno, float *out,
                            size_t dim, uint64_t *version, bool *found, sem_error *err)
{
    store_passage passage;
    sem_status status = store_passage_get(r, space_number, collection, docno, 0, out, dim, &passage, found, err);
    if (status == SEM_OK && *found)
        *version = passage.version;
    return status;
}

sem_status store_passage_find(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno,
                              const uint32_t *slot, size_t *ordinal, store_passage *passage, bool *found,
                              sem_error *err)
{
    place where;
    sem_status status = place_find(r, space_number, collection, docno, &where, found, err);
    if (status != SEM_OK || !*found)
        return status;
    size_t i = slot == NULL ? *ordinal : 0;
    while (slot != NULL && i < where.count && place_slot(&where, i) != *slot)
        i++;
    *found = i < where.count;
    if (!*found)
        return SEM_OK;
    *ordinal = i;
    *passage = (store_passage){.version = where.version,
                               .range = place_range(&where, i),
                               .count = where.step == PLACE_PASSAGE ? where.count : 0};
    return SEM_OK;
}

static bool same_range(const place *where, const store_cut *cut, size_t i)
{
    if (cut->count == 0)
        return where->step == PLACE_SLOT;
    store_range range = place_range(where, i);
    return where->step == PLACE_PASSAGE && range.from == cut->ranges[i].from && range.to == cut->ranges[i].to;
}

sem_status place_equals(store_read *r, uint32_t space_number, uint32_t collection, uint32_t docno, const float *vector,
                        size_t dim, const store_cut *cut, uint64_t *version, uint32_t *slot, bool *equal,
                        sem_error *err)
{
    place where;
    sem_status status = place_find(r, space_number, collection, docno, &where, equal, err);
    if (status != SEM_OK || !*equal)
        return status;
    *version = where.version;
    *slot = place_slot(&where, 0);
    if (vector == NULL)
        return SEM_OK;
    *equal = where.count == (cut->count == 0 ? 1 : cut->count);
    for (size_t i = 0; i < where.count && *equal && status == SEM_OK; i++) {
        slot_vector stored;
        if (cut->count > 0)
            cut->slots[i] = place_slot(&where, i);
        status = slot_find(r, space_number, collection, place_slot(&where, i), &stored, equal, err);
        *equal = status == SEM_OK && *equal && same_range(&where, cut, i) && has_dim(&stored, dim) &&
                 memcmp(stored.data, vector + i * dim, dim * sizeof *vector) == 0;
    }
    return status;
}

/* --- writing */

/* Notes that slots first..last of a collection in a space are named no more. */
static sem_status free_slots(store_write *w, MDB_txn *txn, uint32_t space_number, uint32_t collection, uint32_t first,
                             uint32_t last, sem_error *err)
{
    unsigned char key[FREED_KEY], value[4];
    put_u64(key, mdb_txn_id(txn));
    put_u32(key + 8, space_number);
    put_u32(key + 12, collection);
    put_u32(key + 16, first);
    put_u32(value, last);
    return table_put(&w->s->main, txn, w->s->freed, key, sizeof key, value, sizeof value, err);
}

static sem_status free_place(store_write *w, MDB_txn *txn, uint32_t space_number, uint32_t collection,
                             const place *where, sem_error *err)
{
    /* Copied first: a write may move what `where` points into. */
    uint32_t *slots = checked_realloc(NULL, where->count, sizeof *slots);
    if (slots == NULL)
        return sem_fail_memory(err, "a document's slots");
    size_t count = where->count;
    for (size_t i = 0; i < count; i++)
        slots[i] = place_slot(where, i);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        status = free_slots(w, txn, space_number, collection, slots[i], slots[i], err);
    free(slots);
    return status;
}

/* Gives each vector a slot and puts the place's value together. */
static sem_status fill_place(store_write *w, MDB_txn *txn, space *sp, MDB_txn *vectors, uint32_t collection,
                             const float *vector, size_t dim, const store_cut *cut, uint32_t *slot,
                             unsigned char *value, sem_error *err)
{
    sem_status status = SEM_OK;
    if (cut->count == 0) {
        status = pending_add(w, txn, sp, vectors, collection, vector, dim, slot, err);
        if (status == SEM_OK)
            put_u32(value, *slot);
        return status;
    }
    for (size_t i = 0; i < cut->count; i++) {
        unsigned char *p = value + i * PLACE_PASSAGE;
        status = pending_add(w, txn, sp, vectors, collection, vector + i * dim, dim, &cut->slots[i], err);
        if (status != SEM_OK)
            return status;
        put_u32(p, cut->slots[i]);
        put_u32(p + 4, cut->ranges[i].from);
        put_u32(p + 8, cut->ranges[i].to);
    }
    *slot = cut->slots[0];
    return status;
}

sem_status place_set(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno, uint64_t version,
                     const float *vector, size_t dim, const store_cut *cut, uint32_t *slot, sem_error *err)
{
    unsigned char key[PLACE_KEY];
    MDB_txn *txn, *vectors;
    space *sp;
    place old;
    bool found;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = read_space(&w->view, space_number, &sp, &vectors, err);
    if (status != SEM_OK)
        return status;
    /* How wide external vectors are is for their collection to say. */
    if (dim == 0 || dim > STORE_DIM_MAX || (space_number != STORE_SPACE_EXTERNAL && sp->dim != dim))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a vector of %zu floats was given for space %u, whose dim is %u",
                        dim, space_number, sp->dim);
    status = place_find(&w->view, space_number, collection, docno, &old, &found, err);
    if (status == SEM_OK && found)
        status = free_place(w, txn, space_number, collection, &old, err);
    if (status != SEM_OK)
        return status;
    size_t bytes = PLACE_FIXED + (cut->count == 0 ? PLACE_SLOT : cut->count * PLACE_PASSAGE);
    unsigned char *value = calloc(bytes, 1);
    if (value == NULL)
        return sem_fail_memory(err, "a document's place");
    put_u64(value, version);
    status = fill_place(w, txn, sp, vectors, collection, vector, dim, cut, slot, value + PLACE_FIXED, err);
    place_key(key, space_number, collection, docno);
    if (status == SEM_OK)
        status = table_put(&w->s->main, txn, w->s->places, key, sizeof key, value, bytes, err);
    free(value);
    return status;
}

/* Calls each() for every space that ever held vectors of the collection. */
typedef sem_status each_space(store_write *w, MDB_txn *txn, uint32_t space_number, uint32_t collection, uint32_t docno,
                              sem_error *err);

static sem_status spaces_of(store_write *w, uint32_t collection, uint32_t docno, each_space *each, sem_error *err)
{
    MDB_txn *txn;
    uint64_t from = 0;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    while (status == SEM_OK && from <= UINT32_MAX) {
        unsigned char key[SLOT_KEY];
        MDB_cursor *cursor;
        put_u32(key, (uint32_t)from);
        put_u32(key + 4, collection);
        MDB_val k = as_value(key, sizeof key), value;
        int rc = mdb_cursor_open(txn, w->s->slots, &cursor);
        if (rc != 0)
            return environment_fail(&w->s->main, "look for spaces", rc, err);
        rc = mdb_cursor_get(cursor, &k, &value, MDB_SET_RANGE);
        if (rc == 0)
            memcpy(key, k.mv_data, k.mv_size < sizeof key ? k.mv_size : sizeof key);
        mdb_cursor_close(cursor);
        if (rc == MDB_NOTFOUND)
            break;
        if (rc != 0)
            return environment_fail(&w->s->main, "look for spaces", rc, err);
        uint32_t number = get_u32(key), of = get_u32(key + 4);
        if (of == collection)
            status = each(w, txn, number, collection, docno, err);
        /* Below the wanted collection: look in this space; else in the next. */
        from = of < collection ? number : (uint64_t)number + 1;
    }
    return status;
}

static sem_status forget_one(store_write *w, MDB_txn *txn, uint32_t space_number, uint32_t collection, uint32_t docno,
                             sem_error *err)
{
    unsigned char key[PLACE_KEY];
    place where;
    bool found;
    sem_status status = place_find(&w->view, space_number, collection, docno, &where, &found, err);
    if (status == SEM_OK && found)
        status = free_place(w, txn, space_number, collection, &where, err);
    if (status != SEM_OK || !found)
        return status;
    place_key(key, space_number, collection, docno);
    return table_delete(&w->s->main, txn, w->s->places, key, sizeof key, err);
}

sem_status places_forget(store_write *w, uint32_t collection, uint32_t docno, sem_error *err)
{
    return spaces_of(w, collection, docno, forget_one, err);
}

static sem_status forget_all(store_write *w, MDB_txn *txn, uint32_t space_number, uint32_t collection, uint32_t docno,
                             sem_error *err)
{
    (void)docno;
    unsigned char prefix[8];
    put_u32(prefix, space_number);
    put_u32(prefix + 4, collection);
    sem_status status = table_delete_range(&w->s->main, txn, w->s->places, prefix, prefix, sizeof prefix, 0, NULL, err);
    if (status == SEM_OK)
        status = free_slots(w, txn, space_number, collection, 0, UINT32_MAX, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->slots, prefix, sizeof prefix, err);
    return status;
}

sem_status places_drop(store_write *w, uint32_t collection, sem_error *err)
{
    return spaces_of(w, collection, 0, forget_all, err);
}

static sem_status put_vector(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno,
                             uint64_t version, const float *vector, size_t dim, const store_cut *cut, uint32_t *slot,
                             sem_error *err)
{
    space *sp;
    MDB_txn *txn;
    uint64_t count = cut->count == 0 ? 1 : cut->count, bytes = count * (dim * sizeof(float) + 256);
    sem_status status = read_space(&w->view, space_number, &sp, &txn, err);
    if (status == SEM_OK)
        status = operation_room(w, &sp->in, bytes + bytes / 2, dim * sizeof(float), err);
    if (status == SEM_OK)
        status = operation_room(w, &w->s->main, 512 + count * PLACE_PASSAGE, PLACE_FIXED + count * PLACE_PASSAGE, err);
    if (status == SEM_OK)
        status = place_set(w, space_number, collection, docno, version, vector, dim, cut, slot, err);
    return status;
}

static sem_status put_again(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno,
                            uint64_t version, const float *vector, size_t dim, const store_cut *cut, bool *stored,
                            uint32_t *slot, sem_error *err)
{
    store_document doc;
    bool exists;
    *stored = false;
    if (space_number == STORE_SPACE_EXTERNAL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "external vectors come with their documents only");
    sem_status status = store_document_by_number(&w->view, collection, docno, &doc, &exists, err);
    if (status != SEM_OK || !exists || doc.text_version != version)
        return status;
    status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status =
        operation_end(w, put_vector(w, space_number, collection, docno, version, vector, dim, cut, slot, err), err);
    *stored = status == SEM_OK;
    return status;
}

sem_status store_vector_put(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno,
                            uint64_t version, const float *vector, size_t dim, bool *stored, uint32_t *slot,
                            sem_error *err)
{
    const store_cut whole = {0};
    return put_again(w, space_number, collection, docno, version, vector, dim, &whole, stored, slot, err);
}

sem_status store_passages_put(store_write *w, uint32_t space_number, uint32_t collection, uint32_t docno,
                              uint64_t version, const float *vectors, size_t dim, const store_cut *cut, bool *stored,
                              sem_error *err)
{
    uint32_t first;
    return put_again(w, space_number, collection, docno, version, vectors, dim, cut, stored, &first, err);
}
