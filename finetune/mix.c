#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/mix_internal.h"

#include <string.h>

/* Streams of random numbers that one seed is divided into. */
enum { DRAW_SET = 11, DRAW_SLOT = 12, DRAW_PLAN = 13 };

static void close_flow(mix_flow *f)
{
    mix_plan_free(f->plan);
    data_stream_close(f->stream);
    free(f->domains);
}

static void forget_copies(mix *m)
{
    for (size_t i = 0; i < m->batch_count && m->options.cross_dataset; i++)
        free((void *)m->batch[i]);
    m->batch_count = 0;
}

void mix_close(mix *m)
{
    if (m == NULL)
        return;
    forget_copies(m);
    for (size_t i = 0; i < m->count; i++)
        close_flow(&m->flows[i]);
    free(m->flows);
    free(m->shares);
    free(m->batch);
    free(m);
}

static sem_status check_options(const mix_options *o, const mix_set *sets, size_t count, sem_error *err)
{
    if (o->batch_size == 0 || o->batch_size > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "batches of %zu examples (allowed: 1 to %u)", o->batch_size,
                        UINT32_MAX);
    for (size_t i = 0; i < count; i++) {
        const mix_set *s = &sets[i];
        if (!(s->mixed_share >= 0 && s->mixed_share <= 1))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: a share of %g of mixed batches (allowed: 0 to 1)",
                            s->data->name, s->mixed_share);
        if (s->by_domain && o->cross_dataset)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "data set %s keeps its batches inside a domain: it cannot be mixed with others in a batch",
                            s->data->name);
        if (s->by_domain && s->domains == NULL && s->data->fields.domain == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s names no field for its domains", s->data->name);
    }
    return SEM_OK;
}

static sem_status find_shares(mix *m, sem_error *err)
{
    uint64_t *sizes = checked_realloc(NULL, m->count, sizeof *sizes);
    double *weights = checked_realloc(NULL, m->count, sizeof *weights);
    sem_status status = sizes != NULL && weights != NULL ? SEM_OK : sem_fail_memory(err, "the data sets' sizes");
    const bool needed = mix_needs_sizes(m->options.weighting.method) && m->count > 1;
    for (size_t i = 0; i < m->count && status == SEM_OK; i++) {
        data_counts counted = {.examples = m->sets[i].size};
        if (needed && counted.examples == 0)
            status = data_count(m->sets[i].data, UINT64_MAX, &counted, err);
        if (status == SEM_OK && needed && counted.examples == 0)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s holds no example", m->sets[i].data->name);
        sizes[i] = counted.examples > 0 ? counted.examples : 1;
        weights[i] = m->sets[i].weight;
    }
    if (status == SEM_OK)
        status = mix_shares_of(&m->options.weighting, sizes, weights, m->count, m->shares, err);
    free(sizes);
    free(weights);
    return status;
}

/* Whole batches, where the set is long enough. */
static size_t window_of(const mix_options *o, const data_options *data)
{
    const size_t batches = data->window / o->batch_size + (data->window % o->batch_size != 0);
    size_t window;
    return checked_mul(batches, o->batch_size, &window) ? window : data->window;
}

static sem_status open_flows(mix *m, sem_error *err)
{
    m->flows = calloc(m->count, sizeof *m->flows);
    m->shares = checked_realloc(NULL, m->count, sizeof *m->shares);
    m->batch = checked_realloc(NULL, m->options.batch_size, sizeof *m->batch);
    if (m->flows == NULL || m->shares == NULL || m->batch == NULL)
        return sem_fail_memory(err, "the mix of data sets");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < m->count && status == SEM_OK; i++)
        status = data_stream_open(&m->flows[i].stream, m->sets[i].data, window_of(&m->options, m->sets[i].data), err);
    return status;
}

sem_status mix_open(mix **out, const mix_options *options, const mix_set *sets, size_t count, sem_error *err)
{
    *out = NULL;
    if (count == 0 || count > INT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu data sets to train on (allowed: 1 to %d)", count, INT32_MAX);
    sem_status status = check_options(options, sets, count, err);
    mix *m = status == SEM_OK ? calloc(1, sizeof *m) : NULL;
    if (m == NULL)
        return status != SEM_OK ? status : sem_fail_memory(err, "the mix of data sets");
    m->options = *options;
    m->sets = sets;
    m->count = count;
    status = open_flows(m, err);
    if (status == SEM_OK)
        status = find_shares(m, err);
    if (status == SEM_OK)
        *out = m;
    else
        mix_close(m);
    return status;
}

const double *mix_shares(const mix *m)
{
    return m->shares;
}

const mix_set *mix_sets(const mix *m, size_t *count)
{
    *count = m->count;
    return m->sets;
}

bool mix_is_cross_dataset(const mix *m)
{
    return m->options.cross_dataset;
}

/* --- a set's windows */

static sem_status find_domains(const mix_set *set, mix_flow *f, sem_error *err)
{
    uint64_t *grown = checked_realloc(f->domains, f->count, sizeof *grown);
    if (grown == NULL)
        return sem_fail_memory(err, "the domains of a window");
    f->domains = grown;
    if (set->domains != NULL)
        return set->domains(set->context, f->items, f->count, f->domains, err);
    for (size_t i = 0; i < f->count; i++)
        f->domains[i] = hash_text(f->items[i]->domain.bytes, f->items[i]->domain.length);
    return SEM_OK;
}

/* Cuts the window in hand into batches. */
static sem_status plan_window(const mix *m, size_t set, sem_error *err)
{
    mix_flow *f = &m->flows[set];
    const mix_set *s = &m->sets[set];
    const data_place place = data_stream_tell(f->stream);
    mix_plan_free(f->plan);
    f->plan = NULL;
    sem_status status = s->by_domain ? find_domains(s, f, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    const mix_plan_options options = {
        .batch_size = m->options.batch_size,
        .domains = s->by_domain ? f->domains : NULL,
        .mixed_share = s->mixed_share,
        .seed =
            random_at(random_at(random_at(s->data->seed, DRAW_PLAN), place.epoch), random_at(place.file, place.line)),
    };
    sampler_keys *keys = checked_realloc(NULL, f->count, sizeof *keys);
    if (keys == NULL)
        return sem_fail_memory(err, "the keys of a window");
    for (size_t i = 0; i < f->count; i++) {
        const example *e = f->items[i];
        keys[i] =
            (sampler_keys){.document = e->positive_key, .query = e->label_key != 0 ? e->label_key : e->anchor_key};
    }
    status = mix_plan_make(&f->plan, keys, f->count, &options, err);
    free(keys);
    return status;
}

/* The window where the stream is, cut into batches where they are of one set. */
sem_status mix_load_window(const mix *m, size_t set, sem_error *err)
{
    mix_flow *f = &m->flows[set];
    f->next = 0;
    sem_status status = data_stream_window(f->stream, &f->items, &f->count, err);
    if (status != SEM_OK || f->count == 0 || m->options.cross_dataset)
        return status;
    return plan_window(m, set, err);
}

/* Batches, or examples where batches are of all sets, of the window in hand. */
size_t mix_window_parts(const mix *m, const mix_flow *f)
{
    return m->options.cross_dataset ? f->count : f->plan == NULL ? 0 : mix_plan_batches(f->plan);
}

/* Sees to it that the set's window has a next part. */
static sem_status advance(const mix *m, size_t set, sem_error *err)
{
    mix_flow *f = &m->flows[set];
    if (f->count > 0 && f->next < mix_window_parts(m, f))
        return SEM_OK;
    const uint64_t epoch = data_stream_tell(f->stream).epoch;
    sem_status status = mix_load_window(m, set, err);
    if (status != SEM_OK || f->count > 0)
        return status;
    data_stream_begin(f->stream, epoch + 1);
    status = mix_load_window(m, set, err);
    if (status == SEM_OK && f->count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s holds no example", m->sets[set].data->name);
    return status;
}

/* --- batches */

static double draw_unit(uint64_t seed, uint64_t stream, uint64_t number)
{
    return random_unit_of(random_at(random_at(seed, stream), number));
}

static sem_status next_of_one(mix *m, mix_batch *out, sem_error *err)
{
    const size_t set = mix_choose(m->shares, m->count, draw_unit(m->options.seed, DRAW_SET, m->step));
    mix_flow *f = &m->flows[set];
    sem_status status = advance(m, set, err);
    if (status != SEM_OK)
        return status;
    const uint32_t *members = mix_plan_batch(f->plan, f->next++, &m->batch_count, &out->mixed);
    for (size_t i = 0; i < m->batch_count; i++)
        m->batch[i] = f->items[members[i]];
    out->set = (int)set;
    return SEM_OK;
}

/* Copies, because a window may end within the batch. */
static sem_status next_of_all(mix *m, mix_batch *out, sem_error *err)
{
    forget_copies(m);
    for (size_t i = 0; i < m->options.batch_size; i++) {
        const uint64_t number = m->step * m->options.batch_size + i;
        const size_t set = mix_choose(m->shares, m->count, draw_unit(m->options.seed, DRAW_SLOT, number));
        mix_flow *f = &m->flows[set];
        sem_status status = advance(m, set, err);
        if (status != SEM_OK)
            return status;
        example *copy = example_copy(f->items[f->next++]);
        if (copy == NULL)
            return sem_fail_memory(err, "a batch");
        m->batch[m->batch_count++] = copy;
    }
    out->set = MIX_ALL_SETS;
    return SEM_OK;
}

sem_status mix_next(mix *m, mix_batch *out, sem_error *err)
{
    *out = (mix_batch){.step = m->step};
    sem_status status = m->options.cross_dataset ? next_of_all(m, out, err) : next_of_one(m, out, err);
    if (status != SEM_OK)
        return status;
    m->step++;
    out->items = m->batch;
    out->count = m->batch_count;
    return SEM_OK;
}
