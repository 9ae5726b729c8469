#include "bench/clicksim/world.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more of `count`; grows by doubling, at powers of two. */
static void *grown(void *items, size_t count, size_t size)
{
    bool full = count == 0 || (count & (count - 1)) == 0;
    return full ? checked_realloc(items, count == 0 ? 1 : 2 * count, size) : items;
}

sem_status world_add_document(world *w, const char *text, sem_error *err)
{
    char **documents = grown(w->documents, w->document_count, sizeof *documents);
    if (documents == NULL)
        return sem_fail_memory(err, "the documents");
    w->documents = documents;
    documents[w->document_count] = strdup(text);
    if (documents[w->document_count] == NULL)
        return sem_fail_memory(err, "the documents");
    w->document_count++;
    return SEM_OK;
}

static sem_status add_relevant(world_query *q, uint32_t document, sem_error *err)
{
    if (world_is_relevant(q, document))
        return SEM_OK;
    uint32_t *relevant = grown(q->relevant, q->count, sizeof *relevant);
    if (relevant == NULL)
        return sem_fail_memory(err, "the queries");
    q->relevant = relevant;
    relevant[q->count++] = document;
    return SEM_OK;
}

sem_status world_add_query(world_queries *q, const char *text, uint32_t document, sem_error *err)
{
    if (q->count > 0 && strcmp(q->items[q->count - 1].text, text) == 0)
        return add_relevant(&q->items[q->count - 1], document, err);
    world_query *items = grown(q->items, q->count, sizeof *items);
    if (items == NULL)
        return sem_fail_memory(err, "the queries");
    q->items = items;
    items[q->count] = (world_query){.text = strdup(text)};
    if (items[q->count].text == NULL)
        return sem_fail_memory(err, "the queries");
    return add_relevant(&items[q->count++], document, err);
}

void world_cut_queries(world_queries *q, size_t most)
{
    while (q->count > most) {
        world_query *last = &q->items[--q->count];
        free(last->text);
        free(last->relevant);
    }
}

bool world_is_relevant(const world_query *q, uint64_t document)
{
    for (size_t i = 0; i < q->count; i++)
        if (q->relevant[i] == document)
            return true;
    return false;
}

static void free_queries(world_queries *q)
{
    world_cut_queries(q, 0);
    free(q->items);
}

void world_free(world *w)
{
    for (size_t i = 0; i < w->document_count; i++)
        free(w->documents[i]);
    free(w->documents);
    free_queries(&w->asked);
    free_queries(&w->heldout);
    free_queries(&w->kept);
    *w = (world){0};
}
