#include "finetune/pair_order.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/mix_plan.h"
#include "finetune/mix_weights.h"

#include <math.h>
#include <stdlib.h>

/* Streams of random numbers that one seed is divided into. */
enum { DRAW_PAIRS = 31, DRAW_ORDER = 32, DRAW_BATCHES = 33 };

struct pair_order {
    const train_pair *pairs;
    size_t count;
    pair_order_options options;
    bool one_domain;
    size_t have[TRAIN_ORIGINS];  /* pairs of each origin */
    size_t drawn[TRAIN_ORIGINS]; /* of an epoch */
    size_t epoch_count;          /* their sum */
    uint32_t *by_origin;         /* [count] pairs, those of one origin behind each other */
    /* an epoch */
    uint32_t *chosen; /* [count] by_origin, each origin's shuffled; then the epoch's pairs in random order */
    sampler_keys *keys;
    uint64_t *domains;
    uint32_t *members; /* [batch_size] of one batch */
    mix_plan *plan;    /* NULL before the first epoch */
    size_t epoch, next;
};

void pair_order_destroy(pair_order *o)
{
    if (o == NULL)
        return;
    mix_plan_free(o->plan);
    free(o->by_origin);
    free(o->chosen);
    free(o->keys);
    free(o->domains);
    free(o->members);
    free(o);
}

static void sort_by_origin(pair_order *o)
{
    size_t at = 0;
    o->one_domain = true;
    for (int origin = 0; origin < TRAIN_ORIGINS; origin++) {
        const size_t first = at;
        for (size_t i = 0; i < o->count; i++)
            if (o->pairs[i].origin == (train_origin)origin)
                o->by_origin[at++] = (uint32_t)i;
        o->have[origin] = at - first;
    }
    for (size_t i = 1; i < o->count; i++)
        o->one_domain = o->one_domain && o->pairs[i].domain == o->pairs[0].domain;
}

/* How many of each origin an epoch has. */
static sem_status draw_counts(pair_order *o, sem_error *err)
{
    const mix_weighting weighting = {.method = MIX_TEMPERATURE, .temperature = o->options.temperature};
    uint64_t sizes[TRAIN_ORIGINS];
    double shares[TRAIN_ORIGINS];
    size_t origins = 0;
    for (size_t i = 0; i < TRAIN_ORIGINS; i++)
        if (o->have[i] > 0)
            sizes[origins++] = o->have[i];
    sem_status status = mix_shares_of(&weighting, sizes, NULL, origins, shares, err);
    for (size_t i = 0, k = 0; i < TRAIN_ORIGINS && status == SEM_OK; i++) {
        if (o->have[i] == 0)
            continue;
        const double wanted = round((double)sizes[0] * shares[k] / shares[0]);
        o->drawn[i] = k == 0 || wanted >= (double)o->have[i] ? o->have[i] : (size_t)wanted;
        o->epoch_count += o->drawn[i];
        k++;
    }
    return status;
}

static bool take_memory(pair_order *o)
{
    o->by_origin = checked_realloc(NULL, o->count, sizeof *o->by_origin);
    o->chosen = checked_realloc(NULL, o->count, sizeof *o->chosen);
    o->keys = checked_realloc(NULL, o->count, sizeof *o->keys);
    o->domains = checked_realloc(NULL, o->count, sizeof *o->domains);
    o->members = checked_realloc(NULL, o->options.batch_size, sizeof *o->members);
    return o->by_origin != NULL && o->chosen != NULL && o->keys != NULL && o->domains != NULL && o->members != NULL;
}

sem_status pair_order_create(pair_order **out, const train_pair *pairs, size_t count, const pair_order_options *options,
                             sem_error *err)
{
    *out = NULL;
    if (count == 0 || count > UINT32_MAX || options->batch_size == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%zu pairs in batches of %zu: 1 to %u pairs and batches of 1 or more", count,
                        options->batch_size, UINT32_MAX);
    pair_order *o = calloc(1, sizeof *o);
    if (o == NULL)
        return sem_fail_memory(err, "the order of training pairs");
    *o = (pair_order){.pairs = pairs, .count = count, .options = *options};
    sem_status status = take_memory(o) ? SEM_OK : sem_fail_memory(err, "the order of training pairs");
    if (status == SEM_OK) {
        sort_by_origin(o);
        status = draw_counts(o, err);
    }
    if (status == SEM_OK)
        *out = o;
    else
        pair_order_destroy(o);
    return status;
}

const size_t *pair_order_drawn(const pair_order *o)
{
    return o->drawn;
}

static uint64_t seed_of(const pair_order *o, uint64_t stream, uint64_t epoch)
{
    return random_at(random_at(o->options.seed, stream), epoch);
}

/* Puts the epoch's pairs into chosen [epoch_count], in random order. */
static void choose_pairs(pair_order *o, size_t epoch)
{
    random_state r;
    size_t from = 0, kept = 0;
    random_seed(&r, seed_of(o, DRAW_PAIRS, epoch));
    for (size_t origin = 0; origin < TRAIN_ORIGINS; from += o->have[origin++]) {
        /* What is drawn of an origin is moved down to where the one before ended. */
        uint32_t *own = o->chosen + from;
        for (size_t i = 0; i < o->have[origin]; i++)
            own[i] = o->by_origin[from + i];
        if (o->drawn[origin] < o->have[origin])
            random_shuffle(&r, own, o->have[origin], sizeof *own);
        for (size_t i = 0; i < o->drawn[origin]; i++)
            o->chosen[kept++] = own[i];
    }
    random_seed(&r, seed_of(o, DRAW_ORDER, epoch));
    random_shuffle(&r, o->chosen, kept, sizeof *o->chosen);
}

static sem_status plan_epoch(pair_order *o, size_t epoch, sem_error *err)
{
    mix_plan_free(o->plan);
    o->plan = NULL;
    choose_pairs(o, epoch);
    for (size_t i = 0; i < o->epoch_count; i++) {
        const train_pair *p = &o->pairs[o->chosen[i]];
        o->keys[i] = (sampler_keys){.document = p->document_key, .query = p->query_key};
        o->domains[i] = p->domain;
    }
    const mix_plan_options options = {.batch_size = o->options.batch_size,
                                      .domains = o->one_domain ? NULL : o->domains,
                                      .mixed_share = o->options.mixed_share,
                                      .seed = seed_of(o, DRAW_BATCHES, epoch)};
    o->epoch = epoch;
    o->next = 0;
    return mix_plan_make(&o->plan, o->keys, o->epoch_count, &options, err);
}

/* Of one domain all epochs have as many batches. */
static sem_status count_epoch(pair_order *o, size_t epoch, size_t *out, sem_error *err)
{
    *out = (o->epoch_count - 1) / o->options.batch_size + 1;
    if (o->one_domain)
        return SEM_OK;
    sem_status status = plan_epoch(o, epoch, err);
    if (status == SEM_OK)
        *out = mix_plan_batches(o->plan);
    return status;
}

static void rewind_order(pair_order *o)
{
    mix_plan_free(o->plan);
    o->plan = NULL;
    o->epoch = o->next = 0;
}

sem_status pair_order_count(pair_order *o, size_t epochs, size_t most, size_t *out, sem_error *err)
{
    sem_status status = SEM_OK;
    *out = 0;
    for (size_t e = 0; e < epochs && status == SEM_OK && (most == 0 || *out < most); e++) {
        size_t batches;
        status = count_epoch(o, e, &batches, err);
        *out += status == SEM_OK ? batches : 0;
    }
    if (most > 0 && *out > most)
        *out = most;
    rewind_order(o);
    return status;
}

sem_status pair_order_next(pair_order *o, const uint32_t **members, size_t *count, sem_error *err)
{
    sem_status status = SEM_OK;
    bool mixed;
    if (o->plan == NULL)
        status = plan_epoch(o, o->epoch, err);
    else if (o->next == mix_plan_batches(o->plan))
        status = plan_epoch(o, o->epoch + 1, err);
    if (status != SEM_OK)
        return status;
    const uint32_t *planned = mix_plan_batch(o->plan, o->next++, count, &mixed);
    for (size_t i = 0; i < *count; i++)
        o->members[i] = o->chosen[planned[i]];
    *members = o->members;
    return SEM_OK;
}

sem_status pair_order_skip(pair_order *o, size_t batches, sem_error *err)
{
    size_t epoch = 0, of_epoch;
    rewind_order(o);
    sem_status status = count_epoch(o, epoch, &of_epoch, err);
    while (status == SEM_OK && batches >= of_epoch) {
        batches -= of_epoch;
        status = count_epoch(o, ++epoch, &of_epoch, err);
    }
    if (status == SEM_OK)
        status = plan_epoch(o, epoch, err);
    o->next = batches;
    return status;
}
