#include "finetune/harvest.h"

#include "base/hash.h"
#include "base/random.h"
#include "index/events.h"
#include "finetune/text_pool.h"

#include <stdlib.h>

typedef struct gathering {
    uint32_t collection; /* 0: all */
    impression *items;
    size_t count, capacity;
    bool failed; /* memory is out */
} gathering;

static uint64_t hash_of_id(const docid *id)
{
    unsigned char key[DOCID_KEY_MAX];
    return hash_text(key, docid_to_key(id, key));
}

static bool take_search(void *context, const event_logged_search *s)
{
    gathering *g = context;
    if (g->collection != 0 && s->collection != g->collection)
        return true;
    const size_t shown = s->shown_count < PROPENSITY_RANKS ? s->shown_count : PROPENSITY_RANKS;
    const uint64_t query = random_at(s->collection, hash_text(s->query, s->query_length));
    for (size_t i = 0; i < shown; i++) {
        if (s->shown[i].erased)
            continue;
        impression *grown = items_with_room(g->items, g->count, &g->capacity, sizeof *grown);
        if (grown == NULL) {
            g->failed = true;
            return false;
        }
        g->items = grown;
        g->items[g->count++] = (impression){query, hash_of_id(&s->shown[i].id), (uint32_t)i + 1, s->shown[i].clicked};
    }
    return g->count < HARVEST_IMPRESSIONS;
}

sem_status harvest_propensities(propensities *out, store_read *r, uint32_t collection,
                                const propensity_options *options, sem_error *err)
{
    gathering g = {.collection = collection};
    sem_status status = events_searches(r, take_search, &g, err);
    if (status == SEM_OK && g.failed)
        status = sem_fail_memory(err, "the log of searches");
    if (status == SEM_OK)
        status = propensity_estimate(out, g.items, g.count, options, err);
    free(g.items);
    return status;
}
