#include "finetune/mix_plan.h"

#include "base/checked.h"
#include "base/random.h"

typedef struct planned {
    size_t start, count; /* in members */
    bool mixed;
} planned;

struct mix_plan {
    uint32_t *members; /* [count] items, batch after batch */
    planned *batches;
    size_t batch_count;
    /* while it is made */
    const sampler_keys *given; /* [count] */
    size_t count;
    const mix_plan_options *options;
    random_state random;
    uint32_t *by_domain; /* [count] items, domain after domain */
    uint32_t *mixed;     /* [count] those of batches of all domains */
    size_t mixed_count;
    sampler_keys *keys; /* [count] of the items that are being cut */
    size_t placed;      /* members filled */
};

static void free_working(mix_plan *p)
{
    free(p->by_domain);
    free(p->mixed);
    free(p->keys);
    p->by_domain = p->mixed = NULL;
    p->keys = NULL;
}

void mix_plan_free(mix_plan *p)
{
    if (p == NULL)
        return;
    free_working(p);
    free(p->members);
    free(p->batches);
    free(p);
}

static bool allocate(mix_plan *p)
{
    p->members = checked_realloc(NULL, p->count, sizeof *p->members);
    p->batches = checked_realloc(NULL, p->count, sizeof *p->batches);
    p->by_domain = checked_realloc(NULL, p->count, sizeof *p->by_domain);
    p->mixed = checked_realloc(NULL, p->count, sizeof *p->mixed);
    p->keys = checked_realloc(NULL, p->count, sizeof *p->keys);
    return p->members != NULL && p->batches != NULL && p->by_domain != NULL && p->mixed != NULL && p->keys != NULL;
}

typedef struct domain_place {
    uint64_t domain;
    uint32_t item;
} domain_place;

static int compare_places(const void *a, const void *b)
{
    const domain_place *x = a, *y = b;
    if (x->domain != y->domain)
        return x->domain < y->domain ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static sem_status sort_by_domain(mix_plan *p, sem_error *err)
{
    domain_place *places = checked_realloc(NULL, p->count, sizeof *places);
    if (places == NULL)
        return sem_fail_memory(err, "the domains of a window");
    for (size_t i = 0; i < p->count; i++)
        places[i] = (domain_place){p->options->domains[i], (uint32_t)i};
    qsort(places, p->count, sizeof *places, compare_places);
    for (size_t i = 0; i < p->count; i++)
        p->by_domain[i] = places[i].item;
    free(places);
    return SEM_OK;
}

/* Cuts these items into batches of nearly equal size. */
static sem_status cut(mix_plan *p, const uint32_t *items, size_t count, bool mixed, sem_error *err)
{
    sampler *s;
    if (count == 0)
        return SEM_OK;
    for (size_t i = 0; i < count; i++)
        p->keys[i] = p->given[items[i]];
    sem_status status = sampler_create(&s, p->keys, count, p->options->batch_size, random_next(&p->random), err);
    if (status != SEM_OK)
        return status;
    sampler_begin_epoch(s, 0);
    for (size_t b = 0; b < sampler_batches(s); b++) {
        planned *batch = &p->batches[p->batch_count++];
        const uint32_t *chosen = sampler_batch(s, b, &batch->count);
        batch->start = p->placed;
        batch->mixed = mixed;
        for (size_t i = 0; i < batch->count; i++)
            p->members[p->placed++] = items[chosen[i]];
    }
    sampler_destroy(s);
    return SEM_OK;
}

/* One domain's items: some go to the mixed ones, the rest into batches. They are in
 * random order, so that the first are as good as any. */
static sem_status plan_domain(mix_plan *p, const uint32_t *items, size_t count, sem_error *err)
{
    const double share = p->options->mixed_share * (double)count;
    size_t mixed = (size_t)share;
    mixed += random_unit(&p->random) < share - (double)mixed;
    if (count - mixed < (p->options->batch_size + 1) / 2)
        mixed = count;
    for (size_t i = 0; i < mixed; i++)
        p->mixed[p->mixed_count++] = items[i];
    return cut(p, items + mixed, count - mixed, false, err);
}

static sem_status plan_domains(mix_plan *p, sem_error *err)
{
    sem_status status = sort_by_domain(p, err);
    const uint64_t *domain = p->options->domains;
    for (size_t from = 0, to; from < p->count && status == SEM_OK; from = to) {
        for (to = from + 1; to < p->count && domain[p->by_domain[to]] == domain[p->by_domain[from]]; to++)
            ;
        status = plan_domain(p, p->by_domain + from, to - from, err);
    }
    return status == SEM_OK ? cut(p, p->mixed, p->mixed_count, true, err) : status;
}

static sem_status plan_one(mix_plan *p, sem_error *err)
{
    for (size_t i = 0; i < p->count; i++)
        p->mixed[i] = (uint32_t)i;
    return cut(p, p->mixed, p->count, false, err);
}

sem_status mix_plan_make(mix_plan **out, const sampler_keys *keys, size_t count, const mix_plan_options *options,
                         sem_error *err)
{
    *out = NULL;
    mix_plan *p = calloc(1, sizeof *p);
    if (p == NULL)
        return sem_fail_memory(err, "a plan of batches");
    p->given = keys;
    p->count = count;
    p->options = options;
    random_seed(&p->random, options->seed);
    sem_status status = allocate(p) ? SEM_OK : sem_fail_memory(err, "a plan of batches");
    if (status == SEM_OK)
        status = options->domains != NULL ? plan_domains(p, err) : plan_one(p, err);
    if (status == SEM_OK) {
        random_shuffle(&p->random, p->batches, p->batch_count, sizeof *p->batches);
        free_working(p);
        *out = p;
    } else {
        mix_plan_free(p);
    }
    return status;
}

size_t mix_plan_batches(const mix_plan *p)
{
    return p->batch_count;
}

const uint32_t *mix_plan_batch(const mix_plan *p, size_t batch, size_t *count, bool *mixed)
{
    const planned *b = &p->batches[batch];
    *count = b->count;
    *mixed = b->mixed;
    return p->members + b->start;
}
