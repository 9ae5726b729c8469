#include "daemon/filtering.h"

#include "base/checked.h"
#include "daemon/meta_catalog.h"
#include "daemon/worker.h"

#include <stdlib.h>

/* --- matching */

typedef struct marking {
    const filter *filter;
    docset *set;
    walk_clock clock;
} marking;

static bool mark(void *context, const store_document *doc)
{
    marking *m = context;
    if (m->clock.task != NULL && !walk_goes_on(&m->clock))
        return false;
    if (filter_match(m->filter, doc->meta, doc->meta_length))
        roaring_bitmap_add(m->set, doc->docno);
    return true;
}

static sem_status walk(store_read *r, uint32_t collection, const filter *f, const task *t, docset **out, sem_error *err)
{
    marking m = {.filter = f, .set = roaring_bitmap_create(), .clock = {.task = t, .err = err}};
    if (m.set == NULL)
        return sem_fail_memory(err, "a filter");
    sem_status status = store_document_walk(r, collection, NULL, 0, mark, &m, err);
    if (status == SEM_OK)
        status = m.clock.status;
    if (status == SEM_OK)
        *out = m.set;
    else
        docset_free(m.set);
    return status;
}

static bool within_deadline(void *context)
{
    return task_check_deadline(context, NULL) == SEM_OK;
}

sem_status filtering_documents(core *c, store_read *r, uint32_t collection, const filter *f, const task *t,
                               docset **out, sem_error *err)
{
    sem_status status = SEM_OK;
    *out = NULL;
    meta_columns *columns = meta_catalog_acquire(c->columns, collection);
    if (columns != NULL)
        status = meta_columns_match(columns, f, t != NULL ? within_deadline : NULL, (void *)(uintptr_t)t, out, err);
    meta_columns_release(columns);
    if (status == SEM_CANCELLED)
        return task_check_deadline(t, err);
    return status == SEM_OK && *out == NULL ? walk(r, collection, f, t, out, err) : status;
}

/* --- keeping up */

static void apply(core *c, uint32_t collection, const meta_change *changes, size_t count)
{
    sem_error err;
    sem_status status = SEM_OK;
    meta_columns *columns = meta_catalog_acquire(c->columns, collection);
    if (columns != NULL && changes == NULL)
        meta_columns_forget(columns);
    else if (columns != NULL)
        status = meta_columns_apply(columns, changes, count, &err);
    meta_columns_release(columns);
    if (changes == NULL || status != SEM_OK)
        log_event(c->log, LOG_LEVEL_WARNING, "columns_behind", "collection=%u message=\"no memory; filling anew\"",
                  collection);
}

void filtering_put(core *c, uint32_t collection, const store_put *puts, size_t count)
{
    meta_change *changes = checked_realloc(NULL, count + 1, sizeof *changes);
    for (size_t i = 0; changes != NULL && i < count; i++)
        changes[i] = (meta_change){.docno = puts[i].docno, .meta = puts[i].meta, .length = puts[i].meta_length};
    apply(c, collection, changes, count);
    free(changes);
}

void filtering_remove(core *c, uint32_t collection, const uint32_t *docnos, size_t count)
{
    meta_change *changes = checked_realloc(NULL, count + 1, sizeof *changes);
    for (size_t i = 0; changes != NULL && i < count; i++)
        changes[i] = (meta_change){.docno = docnos[i], .removed = true};
    apply(c, collection, changes, count);
    free(changes);
}
