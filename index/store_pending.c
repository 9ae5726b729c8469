/* The vectors of a group wait in memory until it commits: blocks that they fill
 * are written at once, what is left over one by one. So a bulk load writes most
 * vectors only once, and a block is packed as soon as it is full. */
#include "base/checked.h"
#include "index/dot.h"
#include "index/store_internal.h"

#include <stdlib.h>

enum { FLUSH_BYTES = 64 << 20 /* waiting vectors of one collection: more are written before the commit */ };

static sem_status find_run(store_write *w, space *sp, uint32_t collection, size_t dim, pending_run **out,
                           sem_error *err)
{
    for (size_t i = 0; i < w->run_count; i++)
        if (w->runs[i].sp == sp && w->runs[i].collection == collection) {
            *out = &w->runs[i];
            return w->runs[i].dim == dim
                       ? SEM_OK
                       : sem_fail(err, SEM_INVALID_ARGUMENT, "vectors of %zu and of %zu floats for one collection",
                                  w->runs[i].dim, dim);
        }
    if (w->run_count == w->run_capacity) {
        size_t capacity = w->run_capacity == 0 ? 4 : w->run_capacity * 2;
        pending_run *grown = checked_realloc(w->runs, capacity, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "vectors of a group");
        w->runs = grown;
        w->run_capacity = capacity;
    }
    *out = &w->runs[w->run_count++];
    **out = (pending_run){.sp = sp, .collection = collection, .dim = dim};
    return SEM_OK;
}

static bool run_grow(pending_run *run)
{
    if (run->count < run->capacity)
        return true;
    size_t capacity = run->capacity == 0 ? 64 : run->capacity * 2;
    uint32_t *slots = checked_realloc(run->slots, capacity, sizeof *slots);
    run->slots = slots != NULL ? slots : run->slots;
    float *vectors = slots == NULL ? NULL : checked_realloc(run->vectors, capacity, run->dim * sizeof *vectors);
    if (vectors == NULL)
        return false;
    run->vectors = vectors;
    run->capacity = capacity;
    return true;
}

/* --- slots */

static sem_status read_counter(store_write *w, MDB_txn *txn, const pending_run *run, uint64_t *next, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    MDB_val value;
    bool found;
    slot_key(key, run->sp->number, run->collection);
    sem_status status = table_get(&w->s->main, txn, w->s->slots, key, sizeof key, &value, &found, err);
    if (status == SEM_OK && found && value.mv_size != 8)
        status = environment_damaged(&w->s->main, "a counter of slots", err);
    *next = status == SEM_OK && found ? get_u64(value.mv_data) : 0;
    return status;
}

/* Whether a vector lies under the slot already. */
static sem_status is_taken(const pending_run *run, MDB_txn *vectors, uint32_t slot, bool *taken, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    MDB_val value;
    slot_key(key, run->collection, slot);
    sem_status status = table_get(&run->sp->in, vectors, run->sp->vectors, key, sizeof key, &value, taken, err);
    if (status != SEM_OK || *taken)
        return status;
    slot_key(key, run->collection, slot / BLOCK_ROWS);
    return table_get(&run->sp->in, vectors, run->sp->blocks, key, sizeof key, &value, taken, err);
}

/* The counter has 64 bits, a slot 32: after four billion vectors numbers come
 * round again, and those that are taken are passed over, with their whole block
 * where they are in one. The same while unnamed vectors could not be deleted. */
static sem_status next_slot(const store *s, pending_run *run, MDB_txn *vectors, uint64_t *next, uint32_t *slot,
                            sem_error *err)
{
    bool taken = *next > UINT32_MAX || s->unnamed;
    for (uint64_t tries = 0; tries <= UINT32_MAX; tries++) {
        sem_status status = taken ? is_taken(run, vectors, (uint32_t)*next, &taken, err) : SEM_OK;
        if (status != SEM_OK)
            return status;
        *slot = (uint32_t)(*next)++;
        if (!taken)
            return SEM_OK;
    }
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "space %u has no free slot for collection %u", run->sp->number,
                    run->collection);
}

sem_status pending_add(store_write *w, MDB_txn *txn, space *sp, MDB_txn *vectors, uint32_t collection,
                       const float *vector, size_t dim, uint32_t *slot, sem_error *err)
{
    unsigned char key[SLOT_KEY], counter[8];
    pending_run *run = NULL;
    uint64_t next = 0;
    sem_status status = find_run(w, sp, collection, dim, &run, err);
    if (status == SEM_OK)
        status = read_counter(w, txn, run, &next, err);
    if (status == SEM_OK)
        status = next_slot(w->s, run, vectors, &next, slot, err);
    if (status == SEM_OK && !run_grow(run))
        status = sem_fail_memory(err, "vectors of a group");
    if (status != SEM_OK)
        return status;
    slot_key(key, sp->number, collection);
    put_u64(counter, next);
    status = table_put(&w->s->main, txn, w->s->slots, key, sizeof key, counter, sizeof counter, err);
    if (status != SEM_OK)
        return status;
    memcpy(run->vectors + run->count * dim, vector, dim * sizeof *vector);
    run->slots[run->count++] = *slot;
    run->next = next;
    return SEM_OK;
}

const float *pending_find(const store_write *w, const space *sp, uint32_t collection, uint32_t slot, size_t *dim)
{
    for (size_t i = 0; i < w->run_count; i++) {
        const pending_run *run = &w->runs[i];
        if (run->sp != sp || run->collection != collection)
            continue;
        for (size_t k = run->count; k-- > 0;)
            if (run->slots[k] == slot) {
                *dim = run->dim;
                return run->vectors + k * run->dim;
            }
    }
    return NULL;
}

/* --- writing them */

static sem_status write_single(const pending_run *run, MDB_txn *txn, size_t k, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    slot_key(key, run->collection, run->slots[k]);
    MDB_val id = as_value(key, sizeof key);
    MDB_val value = as_value(run->vectors + k * run->dim, run->dim * sizeof(float));
    int rc = mdb_put(txn, run->sp->vectors, &id, &value, MDB_NOOVERWRITE);
    if (rc == MDB_KEYEXIST)
        return environment_damaged(&run->sp->in, "a vector lies under a slot that was not given out", err);
    return rc == 0 ? SEM_OK : environment_fail(&run->sp->in, "write a vector", rc, err);
}

static sem_status write_block(store_write *w, const pending_run *run, MDB_txn *txn, size_t from, size_t to,
                              sem_error *err)
{
    uint32_t block = run->slots[from] / BLOCK_ROWS;
    sem_status status = block_build_start(&w->build, dot_width(run->dim), err);
    if (status == SEM_OK)
        status = block_build_load(&w->build, run->sp, txn, run->collection, block, err);
    for (size_t k = from; k < to && status == SEM_OK; k++)
        block_build_add(&w->build, run->slots[k], run->vectors + k * run->dim, run->dim);
    return status == SEM_OK ? block_build_put(&w->build, run->sp, txn, run->collection, block, &w->changed, err)
                            : status;
}

/* Room for the block was asked for with its vectors, except for those of earlier groups. */
static bool block_fits(store_write *w, const pending_run *run, size_t count, sem_error *err)
{
    uint64_t row = dot_width(run->dim) * sizeof(float), more = (BLOCK_ROWS - count) * row + BLOCK_HEADER;
    return operation_room(w, &run->sp->in, more, BLOCK_ROWS * row + BLOCK_HEADER, err) == SEM_OK;
}

/* Writes full blocks, and with `all` what is left. Where there is no room for a
 * block its vectors are written one by one, and packed later. */
static sem_status flush_run(store_write *w, pending_run *run, bool all, sem_error *err)
{
    space *sp;
    MDB_txn *txn;
    size_t k = 0;
    uint32_t open_block = (uint32_t)run->next / BLOCK_ROWS;
    if (run->count == 0)
        return SEM_OK;
    sem_status status = read_space(&w->view, run->sp->number, &sp, &txn, err);
    while (k < run->count && status == SEM_OK) {
        uint32_t block = run->slots[k] / BLOCK_ROWS;
        size_t end = k;
        while (end < run->count && run->slots[end] / BLOCK_ROWS == block)
            end++;
        if (!all && block == open_block)
            break;
        if (block != open_block && block_fits(w, run, end - k, NULL))
            status = write_block(w, run, txn, k, end, err);
        else
            for (size_t i = k; i < end && status == SEM_OK; i++)
                status = write_single(run, txn, i, err);
        k = end;
    }
    if (status != SEM_OK)
        return status;
    run->count -= k;
    memmove(run->slots, run->slots + k, run->count * sizeof *run->slots);
    memmove(run->vectors, run->vectors + k * run->dim, run->count * run->dim * sizeof *run->vectors);
    return SEM_OK;
}

void pending_begin_operation(store_write *w)
{
    for (size_t i = 0; i < w->run_count; i++) {
        w->runs[i].mark = w->runs[i].count;
        w->runs[i].mark_next = w->runs[i].next;
    }
}

sem_status pending_end_operation(store_write *w, sem_status status, sem_error *err)
{
    for (size_t i = 0; i < w->run_count; i++) {
        pending_run *run = &w->runs[i];
        if (status != SEM_OK) {
            run->count = run->mark;
            run->next = run->mark_next;
        } else if (run->count * run->dim * sizeof(float) >= FLUSH_BYTES) {
            status = flush_run(w, run, false, err);
            if (status != SEM_OK)
                group_break(w, status);
        }
    }
    return status;
}

sem_status pending_flush(store_write *w, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < w->run_count && status == SEM_OK; i++)
        status = flush_run(w, &w->runs[i], true, err);
    return status;
}

void pending_free(store_write *w)
{
    for (size_t i = 0; i < w->run_count; i++) {
        free(w->runs[i].slots);
        free(w->runs[i].vectors);
    }
    free(w->runs);
    free(w->changed.items);
    block_build_free(&w->build);
}
