#include "finetune/mix_domains.h"

#include "base/checked.h"
#include "index/kmeans.h"
#include "finetune/text_vectors.h"

enum { ROUNDS = 10 /* of k-means: the domains need not be exact */ };

struct mix_domains {
    mix_domains_options options;
    size_t dim;
    float *centroids; /* [options.domains, dim] */
};

/* *out = [count, dim], malloc'd. */
static sem_status embed(const mix_domains *d, const example *const *items, size_t count, float **out, sem_error *err)
{
    data_text *anchors = checked_realloc(NULL, count, sizeof *anchors);
    *out = NULL;
    if (anchors == NULL)
        return sem_fail_memory(err, "the anchors of a window");
    for (size_t i = 0; i < count; i++)
        anchors[i] = items[i]->anchor;
    sem_status status =
        text_vectors(d->options.model, anchors, count, true, d->options.threads, d->options.nice, out, err);
    free(anchors);
    return status;
}

static sem_status train(mix_domains *d, const example *const *items, size_t count, const char *name, sem_error *err)
{
    const kmeans_options options = {.dim = d->dim,
                                    .k = d->options.domains,
                                    .rounds = ROUNDS,
                                    .threads = d->options.threads,
                                    .seed = d->options.seed};
    float *points;
    if (count <= d->options.domains)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: %zu domains of %zu examples: there must be more", name,
                        d->options.domains, count);
    d->centroids = checked_alloc_floats(d->options.domains, d->dim);
    if (d->centroids == NULL)
        return sem_fail_memory(err, "the centres of domains");
    sem_status status = embed(d, items, count, &points, err);
    if (status == SEM_OK)
        status = kmeans_train(&options, points, count, d->centroids, NULL, err);
    free(points);
    return status;
}

sem_status mix_domains_train(mix_domains **out, const mix_domains_options *options, const data_options *data,
                             sem_error *err)
{
    *out = NULL;
    if (options->domains < 2 || options->domains > 1 << 16)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: %zu domains (allowed: 2 to %d)", data->name,
                        options->domains, 1 << 16);
    data_options quiet = *data;
    quiet.report = NULL;
    data_stream *stream = NULL;
    const example *const *items;
    size_t count = 0;
    mix_domains *d = calloc(1, sizeof *d);
    sem_status status = d != NULL ? data_stream_open(&stream, &quiet, 0, err) : sem_fail_memory(err, "domains");
    if (status == SEM_OK)
        status = data_stream_window(stream, &items, &count, err);
    if (status == SEM_OK) {
        d->options = *options;
        d->dim = encoder_width(model_get_encoder(options->model));
        status = train(d, items, count, data->name, err);
    }
    data_stream_close(stream);
    if (status == SEM_OK)
        *out = d;
    else
        mix_domains_free(d);
    return status;
}

void mix_domains_free(mix_domains *d)
{
    if (d == NULL)
        return;
    free(d->centroids);
    free(d);
}

sem_status mix_domains_assign(void *context, const example *const *items, size_t count, uint64_t *domains,
                              sem_error *err)
{
    const mix_domains *d = context;
    float *points;
    uint32_t *nearest = checked_realloc(NULL, count, sizeof *nearest);
    if (nearest == NULL)
        return sem_fail_memory(err, "the domains of a window");
    sem_status status = embed(d, items, count, &points, err);
    if (status == SEM_OK)
        status =
            kmeans_nearest(d->centroids, d->options.domains, d->dim, d->options.threads, points, count, nearest, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        domains[i] = nearest[i];
    free(points);
    free(nearest);
    return status;
}
