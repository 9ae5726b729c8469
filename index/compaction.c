#include "base/checked.h"
#include "index/training.h"

#include <stdlib.h>

static sem_status copy_rows(rows_view *from, rows *to, uint32_t *origin, uint32_t seen, const atomic_bool *cancel,
                            sem_error *err)
{
    size_t copied = 0;
    for (uint32_t row = 0; row < seen; row++) {
        if (row % ROWS_CHUNK == 0 && cancel != NULL && atomic_load_explicit(cancel, memory_order_relaxed))
            return sem_fail(err, SEM_CANCELLED, "compaction was cancelled after %u of %u rows", row, seen);
        if (!rows_alive(from->rows, row, seen))
            continue;
        sem_status s = rows_copy(to, from, row, err);
        if (s != SEM_OK)
            return s;
        origin[copied++] = row;
    }
    return SEM_OK;
}

sem_status compaction_copy(rows_view *from, rows **to, uint32_t **origin, uint32_t *seen, const atomic_bool *cancel,
                           sem_error *err)
{
    rows *copy = NULL;
    *seen = rows_count(from->rows);
    uint32_t *sources = checked_realloc(NULL, (size_t)*seen + 1, sizeof *sources);
    if (sources == NULL)
        return sem_fail_memory(err, "compaction");
    sem_status s = rows_create_like(&copy, from->rows, err);
    if (s == SEM_OK)
        s = copy_rows(from, copy, sources, *seen, cancel, err);
    if (s != SEM_OK) {
        rows_release(copy);
        free(sources);
        return s;
    }
    *to = copy;
    *origin = sources;
    return SEM_OK;
}

sem_status compaction_catch_up(const rows_view *from, rows *to, uint32_t *seen, sem_error *err)
{
    uint32_t end = rows_count(from->rows);
    for (; *seen < end; (*seen)++) {
        if (!rows_alive(from->rows, *seen, end))
            continue;
        sem_status s = rows_copy(to, from, *seen, err);
        if (s != SEM_OK)
            return s;
    }
    return SEM_OK;
}

void compaction_remove_dead(const rows *from, rows *to)
{
    uint32_t end = rows_count(to);
    for (uint32_t row = 0; row < end; row++) {
        uint32_t docno = rows_docno(to, row);
        if (rows_row_of(to, docno) == row && rows_row_of(from, docno) == ROW_NONE)
            rows_remove(to, docno);
    }
}
