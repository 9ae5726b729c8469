#include "finetune/mix_frequency.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/disk_table.h"

#include <math.h>
#include <stdlib.h>

enum { ANCHORS, CANDIDATES, SIDES };

struct mix_frequency {
    disk_table *table;
    double *weights; /* [set_count] what a pair of each set counts; NULL where batches are of one */
    size_t set_count;
};

void mix_frequency_destroy(mix_frequency *f)
{
    if (f == NULL)
        return;
    disk_table_destroy(f->table);
    free(f->weights);
    free(f);
}

static uint64_t place_of(size_t set, unsigned side, uint64_t key)
{
    return random_at(key, SIDES * (uint64_t)set + side);
}

static sem_status add(mix_frequency *f, size_t set, unsigned side, uint64_t key, sem_error *err)
{
    const uint64_t place = place_of(set, side, key);
    return disk_table_put(f->table, place, disk_table_get(f->table, place) + 1, err);
}

static sem_status add_example(mix_frequency *f, size_t set, const example *e, sem_error *err)
{
    sem_status status = add(f, set, ANCHORS, e->anchor_key, err);
    if (status == SEM_OK)
        status = add(f, set, CANDIDATES, e->positive_key, err);
    for (size_t i = 0; i < e->negative_count && status == SEM_OK; i++)
        status = add(f, set, CANDIDATES, hash_text(e->negatives[i].bytes, e->negatives[i].length), err);
    return status;
}

static sem_status count_set(mix_frequency *f, const mix_frequency_options *o, size_t set, uint64_t *pairs,
                            sem_error *err)
{
    data_stream *stream;
    data_options data = *o->sets[set].data;
    data.report = NULL; /* training on it will tell */
    *pairs = 0;
    sem_status status = data_stream_open(&stream, &data, 0, err);
    if (status != SEM_OK)
        return status;
    data_stream_begin(stream, 0);
    for (size_t count = 1; count > 0 && status == SEM_OK;) {
        const example *const *items;
        if (o->cancel != NULL && atomic_load(o->cancel))
            status = sem_fail(err, SEM_CANCELLED, "counting texts was cancelled");
        else
            status = data_stream_window(stream, &items, &count, err);
        for (size_t i = 0; status == SEM_OK && i < count; i++)
            status = add_example(f, set, items[i], err);
        *pairs += status == SEM_OK ? count : 0;
    }
    data_stream_close(stream);
    return status;
}

static sem_status count_all(mix_frequency *f, const mix_frequency_options *o, sem_error *err)
{
    uint64_t *pairs = calloc(o->set_count, sizeof *pairs), all = 0;
    sem_status status = pairs != NULL ? SEM_OK : sem_fail_memory(err, "the data sets' sizes");
    for (size_t i = 0; i < o->set_count && status == SEM_OK; i++) {
        if (o->counted[i])
            status = count_set(f, o, i, &pairs[i], err);
        all += pairs[i];
    }
    for (size_t i = 0; i < o->set_count && status == SEM_OK && f->weights != NULL; i++)
        f->weights[i] = pairs[i] > 0 ? o->shares[i] * (double)all / (double)pairs[i] : 0;
    free(pairs);
    return status;
}

sem_status mix_frequency_count(mix_frequency **out, const mix_frequency_options *options, sem_error *err)
{
    *out = NULL;
    mix_frequency *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sem_fail_memory(err, "how often texts come");
    f->set_count = options->set_count;
    sem_status status = disk_table_create(&f->table, options->folder, err);
    if (status == SEM_OK && options->cross_dataset) {
        f->weights = checked_realloc(NULL, f->set_count, sizeof *f->weights);
        status = f->weights != NULL ? SEM_OK : sem_fail_memory(err, "the data sets' weights");
    }
    if (status == SEM_OK)
        status = count_all(f, options, err);
    if (status == SEM_OK)
        *out = f;
    else
        mix_frequency_destroy(f);
    return status;
}

static float log_of(const mix_frequency *f, size_t set, unsigned side, uint64_t key)
{
    double times = 0;
    if (f->weights == NULL)
        times = (double)disk_table_get(f->table, place_of(set, side, key));
    for (size_t i = 0; i < f->set_count && f->weights != NULL; i++)
        times += f->weights[i] * (double)disk_table_get(f->table, place_of(i, side, key));
    return times > 0 ? (float)log(times) : 0;
}

float mix_frequency_anchor(const mix_frequency *f, size_t set, uint64_t key)
{
    return log_of(f, set, ANCHORS, key);
}

float mix_frequency_candidate(const mix_frequency *f, size_t set, uint64_t text_key)
{
    return log_of(f, set, CANDIDATES, text_key);
}
