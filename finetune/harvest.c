#include "finetune/harvest.h"

#include "base/hash.h"
#include "base/random.h"
#include "index/events.h"
#include "finetune/text_pool.h"

#include <stdlib.h>

typedef struct gathering {
    uint32_t collection; /* 0: all */
    uint64_t upto;
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
    if ((g->collection != 0 && s->collection != g->collection) || s->seq > g->upto)
        return true;
    const size_t shown = s->shown_count < PROPENSITY_RANKS ? s->shown_count : PROPENSITY_RANKS;
    const uint64_t query = random_at(s->collection, hash_text(s->query, s->query_length));
    /* A list that two generations made counts too: what it has at which rank was tossed for. */
    for (size_t i = 0; i < shown; i++) {
        if (s->shown[i].erased)
            continue;
        impression *grown = items_with_room(g->items, g->count, &g->capacity, sizeof *grown);
        if (grown == NULL) {
            g->failed = true;
            return false;
        }
        g->items = grown;
        const bool clicked = s->shown[i].clicked && s->shown[i].click <= g->upto;
        g->items[g->count++] = (impression){query, hash_of_id(&s->shown[i].id), (uint32_t)i + 1, clicked};
    }
    return g->count < HARVEST_IMPRESSIONS;
}

sem_status harvest_propensities(propensities *out, store_read *r, uint32_t collection, uint64_t upto,
                                const propensity_options *options, sem_error *err)
{
    gathering g = {.collection = collection, .upto = upto > 0 ? upto : UINT64_MAX};
    sem_status status = events_searches(r, take_search, &g, err);
    if (status == SEM_OK && g.failed)
        status = sem_fail_memory(err, "the log of searches");
    if (status == SEM_OK)
        status = propensity_estimate(out, g.items, g.count, options, err);
    free(g.items);
    return status;
}
