#include "index/workbench.h"

#include "base/checked.h"

#include <stdlib.h>

workbench *workbench_create(const lists *l, const rows *r, size_t room)
{
    workbench *w = calloc(1, sizeof *w);
    if (w == NULL)
        return NULL;
    w->lists = l;
    w->near = checked_realloc(NULL, room, sizeof *w->near);
    w->rows = checked_realloc(NULL, room, sizeof *w->rows);
    if (w->near != NULL && w->rows != NULL && codes_query_reserve(&w->q, l->dim) &&
        byte_rows_reserve(&w->bytes, room, l->dim) && rows_view_open(&w->view, r, NULL) == SEM_OK)
        return w;
    workbench_destroy(w);
    return NULL;
}

void workbench_destroy(workbench *w)
{
    if (w == NULL)
        return;
    rows_view_end(&w->view);
    codes_query_free(&w->q);
    byte_rows_free(&w->bytes);
    free(w->near);
    free(w->rows);
    free(w);
}

void workbench_add(workbench *w, uint32_t row, const float *vector)
{
    byte_rows_set(&w->bytes, w->count, vector, lists_added_dimension(w->lists, vector));
    w->rows[w->count++] = row;
}

void workbench_find(workbench *w, const panels *p)
{
    panels_nearest(p, &w->bytes, 0, w->count, NEAREST_MAX, w->near);
}

list_choice workbench_choose(workbench *w, size_t i, const float **vector)
{
    *vector = rows_vector(&w->view, w->rows[i]);
    return lists_choose_of(w->lists, *vector, &w->near[i], &w->q);
}
