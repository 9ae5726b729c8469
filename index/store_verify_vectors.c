/* Places, slots and vectors: what a place names is there, once, and is a vector; what
 * is there is named, or is about to go. */
#include "index/dot.h"
#include "index/store_verify.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static const double UNIT_TOLERANCE = 1e-3; /* of the squared length: float32 and int8 models stay far below it */

static bool bit(const unsigned char *bits, uint64_t i)
{
    return (bits[i / 8] >> i % 8 & 1) != 0;
}

static void set_bit(unsigned char *bits, uint64_t i)
{
    bits[i / 8] |= (unsigned char)(1u << i % 8);
}

/* How many slots have a bit: numbers come round after 2^32. */
static uint64_t slots_of(const slot_set *set)
{
    return set->counter < UINT64_C(1) << 32 ? set->counter : UINT64_C(1) << 32;
}

static slot_set *set_of(verify *v, uint32_t number, uint32_t collection)
{
    for (size_t i = v->slot_count; i-- > 0;)
        if (v->slots[i].space == number && v->slots[i].collection == collection)
            return &v->slots[i];
    return NULL;
}

static space *space_of(verify *v, uint32_t number)
{
    return space_at(&v->s, number);
}

static MDB_txn *txn_of(const verify *v, const space *sp)
{
    for (size_t i = 0; i < v->r.part_count; i++)
        if (v->r.parts[i].sp == sp)
            return v->r.parts[i].txn;
    return NULL;
}

/* The width of a collection's vectors in a space. */
static size_t dim_of(const verify *v, const space *sp, uint32_t collection)
{
    const store_collection *c = verify_collection(v, collection);
    return sp->number != STORE_SPACE_EXTERNAL ? sp->dim : c != NULL ? c->dim : 0;
}

/* --- counters */

static sem_status read_counter(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    if (key->mv_size != SLOT_KEY || value->mv_size != 8) {
        verify_report(v, "slots: a counter is damaged");
        return SEM_OK;
    }
    slot_set set = {.space = get_u32(key->mv_data),
                    .collection = get_u32((const unsigned char *)key->mv_data + 4),
                    .counter = get_u64(value->mv_data)};
    char name[VERIFY_NAME];
    if (verify_collection(v, set.collection) == NULL)
        verify_report(v, "slots: space %u counts those of %s", set.space,
                      verify_collection_name(v, set.collection, name));
    slot_set *grown = reallocarray(v->slots, v->slot_count + 1, sizeof *grown);
    if (grown == NULL)
        return sem_fail_memory(err, "slots");
    v->slots = grown;
    size_t bytes = (size_t)(slots_of(&set) / 8 + 1);
    set.named = calloc(1, bytes);
    set.freed = calloc(1, bytes);
    v->slots[v->slot_count++] = set;
    return set.named != NULL && set.freed != NULL ? SEM_OK : sem_fail_memory(err, "slots");
}

/* --- what is freed */

static sem_status read_freed(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *k = key->mv_data;
    (void)err;
    if (key->mv_size != FREED_KEY || value->mv_size != 4) {
        verify_report(v, "freed: an entry is damaged");
        return SEM_OK;
    }
    slot_set *set = set_of(v, get_u32(k + 8), get_u32(k + 12));
    uint32_t first = get_u32(k + 16), last = get_u32(value->mv_data);
    /* Of a collection or space that is no more. */
    if (set == NULL)
        return SEM_OK;
    if (first == 0 && last == UINT32_MAX)
        set->all_freed = true;
    for (uint64_t i = first; !set->all_freed && i <= last && i < slots_of(set); i++)
        set_bit(set->freed, i);
    return SEM_OK;
}

/* --- places */

static void check_values(verify *v, const space *sp, uint32_t collection, const char *name, const void *row, size_t dim)
{
    const store_collection *c = verify_collection(v, collection);
    double squares = 0;
    for (size_t i = 0; i < dim; i++) {
        float x;
        memcpy(&x, (const char *)row + i * sizeof x, sizeof x);
        if (!isfinite(x)) {
            verify_report(v, "%s: its vector in %s has a number that is not finite, at %zu", name, sp->in.name, i);
            return;
        }
        squares += (double)x * x;
    }
    if (c != NULL && c->metric == METRIC_COSINE && fabs(squares - 1) > UNIT_TOLERANCE)
        verify_report(v, "%s: its vector in %s has length %.6f instead of 1", name, sp->in.name, sqrt(squares));
}

/* The vector of a named slot: there once, of the right width. */
static sem_status check_slot(verify *v, space *sp, uint32_t collection, uint32_t slot, const char *name, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    MDB_val single, dead;
    const void *row = NULL;
    size_t dim = dim_of(v, sp, collection), width = 0;
    bool alone, packed = false, any = false;
    MDB_txn *txn = txn_of(v, sp);
    put_u32(key, collection);
    put_u32(key + 4, slot);
    sem_status status = table_get(&sp->in, txn, sp->vectors, key, sizeof key, &single, &alone, err);
    if (status == SEM_OK && sp->blocks != 0)
        status = block_find(sp, txn, collection, slot, &row, &width, &packed, err);
    if (status == SEM_INTERNAL)
        return SEM_OK; /* the block is reported with the space */
    put_u32(key + 4, slot / BLOCK_ROWS);
    if (status == SEM_OK && packed && sp->dead != 0)
        status = table_get(&sp->in, txn, sp->dead, key, sizeof key, &dead, &any, err);
    if (status != SEM_OK)
        return status;
    v->result.vectors += alone || packed;
    if (!alone && !packed)
        verify_report(v, "%s: its vector in %s, slot %u, is not there", name, sp->in.name, slot);
    else if (alone && packed)
        verify_report(v, "%s: its vector in %s, slot %u, is there twice, packed and single", name, sp->in.name, slot);
    else if (alone ? single.mv_size != dim * sizeof(float) : width != dot_width(dim))
        verify_report(v, "%s: its vector in %s, slot %u, has not %zu floats", name, sp->in.name, slot, dim);
    else
        check_values(v, sp, collection, name, alone ? single.mv_data : row, dim);
    if (any && dead.mv_size == sizeof(block_bits)) {
        block_bits bits = block_bits_read(dead.mv_data);
        if (block_bits_has(&bits, slot % BLOCK_ROWS))
            verify_report(v, "%s: its vector in %s, slot %u, is marked as named no more", name, sp->in.name, slot);
    }
    return SEM_OK;
}

static sem_status check_slots(verify *v, space *sp, slot_set *set, const place *where, const char *name, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < where->count && status == SEM_OK; i++) {
        uint32_t slot = place_slot(where, i);
        if (slot >= slots_of(set)) {
            verify_report(v, "%s: its slot %u in %s is not below the counter, %" PRIu64, name, slot, sp->in.name,
                          set->counter);
            continue;
        }
        if (bit(set->named, slot))
            verify_report(v, "%s: its slot %u in %s is another's as well", name, slot, sp->in.name);
        if (bit(set->freed, slot) || set->all_freed)
            verify_report(v, "%s: its slot %u in %s is freed", name, slot, sp->in.name);
        set_bit(set->named, slot);
        status = check_slot(v, sp, set->collection, slot, name, err);
    }
    return status;
}

/* Passages lie in the text they are of, in order, and cut no character. */
static void check_ranges(verify *v, const space *sp, const place *where, const store_document *doc, const char *name)
{
    store_range before = {0, 0};
    for (size_t i = 0; where->step == PLACE_PASSAGE && i < where->count; i++) {
        store_range range = place_range(where, i);
        bool inside = range.from <= range.to && range.to <= doc->text_length;
        bool whole = inside &&
                     (range.from == doc->text_length || ((unsigned char)doc->text[range.from] & 0xC0) != 0x80) &&
                     (range.to == doc->text_length || ((unsigned char)doc->text[range.to] & 0xC0) != 0x80);
        if (!whole || (i > 0 && (range.from <= before.from || range.to <= before.to)))
            verify_report(v, "%s: its passage %zu in %s has bytes %u to %u, which cannot be in a text of %zu", name, i,
                          sp->in.name, range.from, range.to, doc->text_length);
        before = range;
    }
}

static sem_status check_place(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *k = key->mv_data;
    char name[VERIFY_NAME];
    store_document doc;
    place where;
    bool found = false;
    if (key->mv_size != PLACE_KEY || !place_decode(value, &where)) {
        verify_report(v, "places: a record is damaged");
        return SEM_OK;
    }
    uint32_t number = get_u32(k), collection = get_u32(k + 4), docno = get_u32(k + 8);
    verify_numbered(v, collection, docno, name);
    space *sp = space_of(v, number);
    slot_set *set = set_of(v, number, collection);
    /* Of a space that no generation names: the next start forgets it. */
    if (sp == NULL)
        return SEM_OK;
    sem_status status = store_document_by_number(&v->r, collection, docno, &doc, &found, NULL);
    if (status != SEM_OK || !found)
        verify_report(v, "%s: %s has a vector for it, but there is no such document", name, sp->in.name);
    else if (where.version > doc.text_version)
        verify_report(v, "%s: its vector in %s is of text version %" PRIu64 ", it has %" PRIu64, name, sp->in.name,
                      where.version, doc.text_version);
    else if (where.version == doc.text_version)
        check_ranges(v, sp, &where, &doc, name);
    if (set == NULL) {
        verify_report(v, "%s: it has slots in %s, which counts none", name, sp->in.name);
        return SEM_OK;
    }
    set->places++;
    return check_slots(v, sp, set, &where, name, err);
}

static void compare_places(verify *v)
{
    for (size_t i = 0; i < v->collection_count; i++) {
        const store_collection *c = &v->collections[i];
        if (!c->external && v->current == NULL)
            continue;
        const slot_set *set = set_of(v, c->external ? STORE_SPACE_EXTERNAL : v->current->space, c->number);
        uint64_t there = set != NULL ? set->places : 0;
        if (there != c->placed)
            verify_report(v, "%s: its record says that %" PRIu64 " documents have vectors, %" PRIu64 " have", c->name,
                          c->placed, there);
    }
}

/* --- what lies in a space */

/* A vector that is no place's: freed, of a group that was cut off (where no slot is counted
 * the first one was), or of what was dropped; anything else nobody would ever remove. */
static void check_owned(verify *v, const space *sp, uint32_t collection, uint32_t slot)
{
    const slot_set *set = set_of(v, sp->number, collection);
    char name[VERIFY_NAME];
    if (set != NULL && slot < slots_of(set) && !bit(set->named, slot) && !bit(set->freed, slot) && !set->all_freed)
        verify_report(v, "%s: slot %u of %s holds a vector that nothing names and that is not freed", sp->in.name, slot,
                      verify_collection_name(v, collection, name));
}

typedef struct space_walk {
    verify *v;
    space *sp;
} space_walk;

static void check_single(space_walk *w, const MDB_val *key, const MDB_val *value)
{
    const unsigned char *k = key->mv_data;
    (void)value;
    if (key->mv_size != SLOT_KEY)
        verify_report(w->v, "%s: the key of a vector is damaged", w->sp->in.name);
    else
        check_owned(w->v, w->sp, get_u32(k), get_u32(k + 4));
}

static bool block_is_whole(const MDB_val *value, size_t width)
{
    if (value->mv_size < BLOCK_HEADER || get_u32((const unsigned char *)value->mv_data + BLOCK_WIDTH_AT) != width)
        return false;
    block_bits has = block_bits_read(value->mv_data);
    return value->mv_size == BLOCK_HEADER + block_bits_count(&has) * width * sizeof(float);
}

static void check_block(space_walk *w, const MDB_val *key, const MDB_val *value)
{
    const unsigned char *k = key->mv_data;
    char name[VERIFY_NAME];
    MDB_val gone;
    bool any = false;
    if (key->mv_size != BLOCK_KEY) {
        verify_report(w->v, "%s: the key of a block is damaged", w->sp->in.name);
        return;
    }
    uint32_t collection = get_u32(k), block = get_u32(k + 4);
    size_t dim = dim_of(w->v, w->sp, collection);
    if (value->mv_size < sizeof(block_bits) || (dim != 0 && !block_is_whole(value, dot_width(dim)))) {
        verify_report(w->v, "%s: block %u of %s is damaged", w->sp->in.name, block,
                      verify_collection_name(w->v, collection, name));
        return;
    }
    block_bits dead = {{0}}, has = block_bits_read(value->mv_data);
    if (w->sp->dead != 0 &&
        table_get(&w->sp->in, txn_of(w->v, w->sp), w->sp->dead, k, BLOCK_KEY, &gone, &any, NULL) == SEM_OK && any &&
        gone.mv_size == sizeof dead)
        dead = block_bits_read(gone.mv_data);
    for (uint32_t i = 0; i < BLOCK_ROWS; i++)
        if (block_bits_has(&has, i) && !block_bits_has(&dead, i))
            check_owned(w->v, w->sp, collection, block * BLOCK_ROWS + i);
}

static void check_dead(space_walk *w, const MDB_val *key, const MDB_val *value)
{
    MDB_val block;
    bool found = false;
    if (key->mv_size != BLOCK_KEY || value->mv_size != sizeof(block_bits)) {
        verify_report(w->v, "%s: the freed slots of a block are damaged", w->sp->in.name);
        return;
    }
    if (table_get(&w->sp->in, txn_of(w->v, w->sp), w->sp->blocks, key->mv_data, BLOCK_KEY, &block, &found, NULL) ==
            SEM_OK &&
        !found)
        verify_report(w->v, "%s: slots of block %u are freed, but there is no such block", w->sp->in.name,
                      get_u32((const unsigned char *)key->mv_data + 4));
}

static sem_status walk_space(space_walk *w, MDB_dbi dbi,
                             void (*each)(space_walk *w, const MDB_val *key, const MDB_val *value), sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    if (dbi == 0)
        return SEM_OK;
    size_t left;
    int rc = verify_cursor(&w->sp->in, txn_of(w->v, w->sp), dbi, &cursor, &left);
    if (rc != 0)
        return environment_fail(&w->sp->in, "verify its vectors", rc, err);
    while ((rc = verify_next(cursor, &left, &key, &value)) == 0)
        each(w, &key, &value);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&w->sp->in, "verify its vectors", rc, err);
}

sem_status verify_vectors(verify *v, sem_error *err)
{
    environment *e = &v->s.main;
    sem_status status = verify_walk(v, e, v->r.main, v->s.slots, read_counter, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, v->r.main, v->s.freed, read_freed, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, v->r.main, v->s.places, check_place, err);
    if (status == SEM_OK)
        compare_places(v);
    for (size_t i = 0; i < STORE_SPACES_MAX && v->s.spaces[i] != NULL && status == SEM_OK; i++) {
        space_walk w = {v, v->s.spaces[i]};
        status = walk_space(&w, w.sp->vectors, check_single, err);
        if (status == SEM_OK)
            status = walk_space(&w, w.sp->blocks, check_block, err);
        if (status == SEM_OK)
            status = walk_space(&w, w.sp->dead, check_dead, err);
    }
    return status;
}
