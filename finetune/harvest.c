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

uint64_t harvest_query(uint32_t collection, const char *query, size_t length)
{
    return random_at(collection, hash_text(query, length));
}

uint64_t harvest_document(const docid *id)
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
    const uint64_t query = harvest_query(s->collection, s->query, s->query_length);
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
        g->items[g->count++] =
            (impression){query, harvest_document(&s->shown[i].id), (uint32_t)i + 1, clicked, s->user_hash};
    }
    return g->count < HARVEST_IMPRESSIONS;
}

static sem_status gather(gathering *g, store_read *r, uint32_t collection, uint64_t upto, sem_error *err)
{
    *g = (gathering){.collection = collection, .upto = upto > 0 ? upto : UINT64_MAX};
    sem_status status = events_searches(r, take_search, g, err);
    return status == SEM_OK && g->failed ? sem_fail_memory(err, "the log of searches") : status;
}

sem_status harvest_propensities(propensities *out, store_read *r, uint32_t collection, uint64_t upto,
                                const propensity_options *options, sem_error *err)
{
    gathering g;
    sem_status status = gather(&g, r, collection, upto, err);
    if (status == SEM_OK)
        status = propensity_estimate(out, g.items, g.count, options, err);
    free(g.items);
    return status;
}

sem_status harvest_agreement(agreement *out, store_read *r, uint32_t collection, uint64_t upto,
                             const propensities *bias, sem_error *err)
{
    gathering g;
    *out = (agreement){0};
    sem_status status = gather(&g, r, collection, upto, err);
    if (status == SEM_OK)
        status = agreement_estimate(out, g.items, g.count, bias, err);
    free(g.items);
    return status;
}
