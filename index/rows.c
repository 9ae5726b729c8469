#include "index/rows.h"

#include <stdlib.h>

#define ROW_REMOVED (UINT32_MAX - 1)
#define ROWS_MAX    (UINT32_MAX - 1) /* rows, so that no number means something else */

typedef _Atomic uint32_t place;

static sem_status create_over(rows **out, row_vectors *v, sem_error *err)
{
    rows *r = calloc(1, sizeof *r);
    if (r == NULL) {
        row_vectors_release(v);
        return sem_fail_memory(err, "the rows of an index");
    }
    r->dim = v->dim;
    r->width = v->width;
    r->vectors = v;
    atomic_init(&r->references, 1);
    *out = r;
    return SEM_OK;
}

sem_status rows_create(rows **out, size_t dim, sem_error *err)
{
    row_vectors *v;
    sem_status s = row_vectors_create(&v, dim, err);
    return s == SEM_OK ? create_over(out, v, err) : s;
}

sem_status rows_create_stored(rows **out, store *s, uint32_t space, uint32_t collection, size_t dim, sem_error *err)
{
    row_vectors *v;
    sem_status status = row_vectors_create_stored(&v, s, space, collection, dim, err);
    return status == SEM_OK ? create_over(out, v, err) : status;
}

sem_status rows_create_like(rows **out, const rows *from, sem_error *err)
{
    if (from->vectors->stored != NULL)
        return create_over(out, row_vectors_share(from->vectors), err);
    return rows_create(out, from->dim, err);
}

rows *rows_share(rows *r)
{
    atomic_fetch_add_explicit(&r->references, 1, memory_order_relaxed);
    return r;
}

void rows_release(rows *r)
{
    if (r == NULL || atomic_fetch_sub_explicit(&r->references, 1, memory_order_acq_rel) > 1)
        return;
    chunk_table_clear(&r->chunks);
    chunk_table_clear(&r->places);
    row_vectors_release(r->vectors);
    free(r);
}

static rows_chunk *ensure_chunk(rows *r, uint32_t row)
{
    rows_chunk *chunk = chunk_table_get(&r->chunks, row / ROWS_CHUNK);
    if (chunk != NULL)
        return chunk;
    chunk = malloc(sizeof *chunk);
    if (chunk == NULL)
        return NULL;
    if (!chunk_table_set(&r->chunks, row / ROWS_CHUNK, chunk)) {
        free(chunk);
        return NULL;
    }
    return chunk;
}

static place *find_place(const rows *r, uint32_t docno)
{
    place *places = chunk_table_get(&r->places, docno / ROWS_CHUNK);
    return places == NULL ? NULL : &places[docno % ROWS_CHUNK];
}

static place *ensure_place(rows *r, uint32_t docno)
{
    place *found = find_place(r, docno);
    if (found != NULL)
        return found;
    place *places = malloc(ROWS_CHUNK * sizeof *places);
    if (places == NULL)
        return NULL;
    for (size_t i = 0; i < ROWS_CHUNK; i++)
        atomic_init(&places[i], ROW_NONE);
    if (!chunk_table_set(&r->places, docno / ROWS_CHUNK, places)) {
        free(places);
        return NULL;
    }
    return &places[docno % ROWS_CHUNK];
}

static place *next_of(const rows *r, uint32_t row)
{
    rows_chunk *chunk = chunk_table_get(&r->chunks, row / ROWS_CHUNK);
    return &chunk->next[row % ROWS_CHUNK];
}

/* Writes a row that is not published yet. */
static sem_status write_row(rows *r, uint32_t row, uint32_t docno, uint32_t slot, uint32_t passages,
                            const float *vector, sem_error *err)
{
    rows_chunk *chunk = ensure_chunk(r, row);
    if (chunk == NULL)
        return sem_fail_memory(err, "the rows of an index");
    sem_status s = row_vectors_put(r->vectors, slot, vector, err);
    if (s != SEM_OK)
        return s;
    chunk->docno[row % ROWS_CHUNK] = docno;
    chunk->slot[row % ROWS_CHUNK] = slot;
    chunk->passages[row % ROWS_CHUNK] = passages;
    atomic_store_explicit(&chunk->next[row % ROWS_CHUNK], ROW_NONE, memory_order_relaxed);
    return SEM_OK;
}

/* Gives all rows of a document, from its first on, the same successor. */
static void replace_all(rows *r, uint32_t first, uint32_t with)
{
    uint32_t count = rows_passages(r, first);
    for (uint32_t i = 0; i < count; i++)
        atomic_store_explicit(next_of(r, first + i), with, memory_order_release);
    atomic_fetch_sub_explicit(&r->live, count, memory_order_relaxed);
}

static sem_status fail_full(sem_error *err)
{
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "an index holds at most %u rows until it is compacted", ROWS_MAX);
}

sem_status rows_add(rows *r, uint32_t docno, const uint32_t *slots, const float *vectors, size_t count, sem_error *err)
{
    uint32_t first = rows_count(r);
    if (count > ROWS_MAX - first)
        return fail_full(err);
    if (ensure_place(r, docno) == NULL)
        return sem_fail_memory(err, "the rows of an index");
    sem_status s = SEM_OK;
    for (uint32_t i = 0; i < count && s == SEM_OK; i++) {
        uint32_t slot = r->vectors->stored == NULL ? first + i : slots[i];
        s = write_row(r, first + i, docno, slot, i == 0 ? (uint32_t)count : 0,
                      vectors != NULL ? vectors + i * r->dim : NULL, err);
    }
    return s;
}

void rows_publish(rows *r, uint32_t docno, size_t count)
{
    uint32_t row = atomic_load_explicit(&r->count, memory_order_relaxed);
    place *where = find_place(r, docno);
    if (count > 1)
        atomic_store_explicit(&r->cut, true, memory_order_release);
    /* A reader that sees fewer rows than the new one's number goes on with the
     * old row; one that sees more finds it replaced: the order of these three
     * stores makes the count the one switch. */
    uint32_t old = atomic_load_explicit(where, memory_order_relaxed);
    if (old != ROW_NONE)
        replace_all(r, old, row);
    else
        atomic_fetch_add_explicit(&r->documents, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->live, count, memory_order_relaxed);
    atomic_store_explicit(where, row, memory_order_release);
    atomic_store_explicit(&r->count, row + (uint32_t)count, memory_order_release);
}

static sem_status append(rows *r, uint32_t docno, uint32_t slot, const float *vector, sem_error *err)
{
    sem_status s = rows_add(r, docno, &slot, vector, 1, err);
    if (s == SEM_OK)
        rows_publish(r, docno, 1);
    return s;
}

sem_status rows_extend_slot(rows *r, uint32_t docno, uint32_t slot, const float *vector, sem_error *err)
{
    uint32_t row = rows_count(r), first = rows_row_of(r, docno);
    if (first == ROW_NONE || row >= ROWS_MAX || first + rows_passages(r, first) != row)
        return sem_fail(err, SEM_INTERNAL, "row %u is no passage of document %u", row, docno);
    sem_status s = write_row(r, row, docno, r->vectors->stored == NULL ? row : slot, 0, vector, err);
    if (s != SEM_OK)
        return s;
    rows_chunk *chunk = chunk_table_get(&r->chunks, first / ROWS_CHUNK);
    chunk->passages[first % ROWS_CHUNK]++;
    atomic_store_explicit(&r->cut, true, memory_order_release);
    atomic_fetch_add_explicit(&r->live, 1, memory_order_relaxed);
    atomic_store_explicit(&r->count, row + 1, memory_order_release);
    return SEM_OK;
}

sem_status rows_put(rows *r, uint32_t docno, const float *vector, sem_error *err)
{
    return append(r, docno, 0, vector, err);
}

sem_status rows_put_slot(rows *r, uint32_t docno, uint32_t slot, const float *vector, sem_error *err)
{
    if (r->vectors->stored == NULL)
        return rows_put(r, docno, vector, err);
    return rows_has_slot(r, docno, slot) ? SEM_OK : append(r, docno, slot, vector, err);
}

sem_status rows_put_dead(rows *r, uint32_t docno, uint32_t slot, sem_error *err)
{
    uint32_t row = rows_count(r);
    if (row >= ROWS_MAX)
        return fail_full(err);
    rows_chunk *chunk = ensure_chunk(r, row);
    if (chunk == NULL)
        return sem_fail_memory(err, "the rows of an index");
    chunk->docno[row % ROWS_CHUNK] = docno;
    chunk->slot[row % ROWS_CHUNK] = slot;
    chunk->passages[row % ROWS_CHUNK] = 0;
    atomic_store_explicit(&chunk->next[row % ROWS_CHUNK], ROW_REMOVED, memory_order_relaxed);
    atomic_store_explicit(&r->count, row + 1, memory_order_release);
    return SEM_OK;
}

bool rows_remove(rows *r, uint32_t docno)
{
    place *where = find_place(r, docno);
    uint32_t row = where == NULL ? ROW_NONE : atomic_load_explicit(where, memory_order_relaxed);
    if (row == ROW_NONE)
        return false;
    replace_all(r, row, ROW_REMOVED);
    atomic_store_explicit(where, ROW_NONE, memory_order_release);
    atomic_fetch_sub_explicit(&r->documents, 1, memory_order_relaxed);
    return true;
}

uint32_t rows_row_of(const rows *r, uint32_t docno)
{
    place *where = find_place(r, docno);
    return where == NULL ? ROW_NONE : atomic_load_explicit(where, memory_order_acquire);
}

bool rows_has_slot(const rows *r, uint32_t docno, uint32_t slot)
{
    uint32_t now = rows_row_of(r, docno);
    return r->vectors->stored != NULL && now != ROW_NONE && rows_slot(r, now) == slot;
}

bool rows_alive(const rows *r, uint32_t row, uint32_t seen)
{
    uint32_t next = atomic_load_explicit(next_of(r, row), memory_order_acquire);
    if (next == ROW_NONE)
        return true;
    if (next == ROW_REMOVED || next < seen)
        return false;
    return rows_row_of(r, rows_docno(r, row)) != ROW_NONE;
}

/* --- looking at vectors */

sem_status rows_view_begin(rows_view *view, const rows *r, store_read *read, sem_error *err)
{
    row_vectors *v = r->vectors;
    *view = (rows_view){.rows = r, .read = read, .turn = row_vectors_enter(v), .missed = &view->missed_one};
    if (v->stored == NULL || read == NULL)
        return SEM_OK;
    sem_status s = store_vectors_enter(read, v->stored, err);
    if (s != SEM_OK)
        rows_view_end(view);
    return s;
}

sem_status rows_view_open(rows_view *view, const rows *r, sem_error *err)
{
    store_read *own = NULL;
    *view = (rows_view){0};
    sem_status s = SEM_OK;
    if (r->vectors->stored != NULL)
        s = store_read_begin(store_vectors_store(r->vectors->stored), &own, err);
    if (s == SEM_OK)
        s = rows_view_begin(view, r, own, err);
    if (s == SEM_OK)
        view->own = own;
    else
        store_read_end(own);
    return s;
}

sem_status rows_view_renew(rows_view *view, sem_error *err)
{
    const rows *r = view->rows;
    store_read *read = view->read, *own = view->own;
    view->own = NULL;
    rows_view_end(view);
    sem_status s = read == NULL ? SEM_OK : store_read_renew(read, err);
    if (s == SEM_OK)
        s = rows_view_begin(view, r, read, err);
    if (s == SEM_OK)
        view->own = own;
    else
        store_read_end(own);
    return s;
}

void rows_view_rest(rows_view *view)
{
    if (view->rows == NULL || view->rests)
        return;
    row_vectors_leave(view->rows->vectors, view->turn);
    view->rests = true;
    if (view->own != NULL)
        store_read_rest(view->own);
}

void rows_view_end(rows_view *view)
{
    if (view->rows != NULL && !view->rests)
        row_vectors_leave(view->rows->vectors, view->turn);
    store_read_end(view->own);
    *view = (rows_view){0};
}

const float *rows_vector_elsewhere(const rows_view *view, uint32_t row, uint32_t slot)
{
    row_vectors *v = view->rows->vectors;
    const float *found = row_vectors_find(v, view->read, slot);
    if (found != NULL)
        return found;
    if (atomic_load_explicit(next_of(view->rows, row), memory_order_acquire) == ROW_NONE)
        atomic_store_explicit(view->missed, true, memory_order_relaxed);
    return v->zeros;
}

sem_status rows_copy(rows *r, const rows_view *from, uint32_t row, sem_error *err)
{
    uint32_t docno = rows_docno(from->rows, row);
    bool shared = r->vectors == from->rows->vectors;
    uint32_t slot = rows_slot(from->rows, row);
    const float *vector = shared ? NULL : rows_vector(from, row);
    return rows_passages(from->rows, row) > 0 ? append(r, docno, slot, vector, err)
                                              : rows_extend_slot(r, docno, slot, vector, err);
}
