/* Where a mix is, as JSON. */
#include "base/hash.h"
#include "base/random.h"
#include "finetune/mix_internal.h"

#include <jansson.h>

#include <string.h>
#include <sys/stat.h>

enum { SAVED_FORMAT = 1 };

/* All 64 bits, in JSON's signed integers. */
static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *save_flow(const mix_set *set, const mix_flow *f)
{
    const data_place p = data_stream_tell(f->stream);
    return json_pack("{s:s, s:b, s:o, s:o, s:[o,o], s:o, s:o, s:o}", "name", set->data->name, "begun", f->count > 0,
                     "epoch", number(p.epoch), "file", number(p.file), "offset", number(p.offset[0]),
                     number(p.offset[1]), "line", number(p.line), "malformed", number(p.malformed), "next",
                     number(f->next));
}

sem_status mix_save(const mix *m, buffer *out, sem_error *err)
{
    json_t *root = json_pack("{s:i, s:o, s:o, s:b, s:o, s:[]}", "format", SAVED_FORMAT, "step", number(m->step),
                             "batch_size", number(m->options.batch_size), "cross_dataset", m->options.cross_dataset,
                             "seed", number(m->options.seed), "sets");
    json_t *sets = json_object_get(root, "sets");
    bool enough = root != NULL;
    for (size_t i = 0; i < m->count && enough; i++)
        enough = json_array_append_new(sets, save_flow(&m->sets[i], &m->flows[i])) == 0;
    char *text = enough ? json_dumps(root, JSON_INDENT(1)) : NULL;
    enough = text != NULL && buffer_append(out, text, strlen(text));
    free(text);
    json_decref(root);
    return enough ? SEM_OK : sem_fail_memory(err, "the place in the training data");
}

static sem_status fail_saved(sem_error *err, const char *what)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "the saved place in the training data does not belong to this run: %s; start the run anew", what);
}

/* A number that is there and not negative. */
static bool read_number(const json_t *map, const char *name, uint64_t *out)
{
    const json_t *value = json_object_get(map, name);
    *out = json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
    return json_is_integer(value);
}

static bool read_place(const json_t *map, data_place *p, uint64_t *next)
{
    const json_t *offsets = json_object_get(map, "offset");
    for (size_t i = 0; i < 2; i++) {
        const json_t *offset = json_array_get(offsets, i);
        if (!json_is_integer(offset))
            return false;
        p->offset[i] = (uint64_t)json_integer_value(offset);
    }
    return read_number(map, "epoch", &p->epoch) && read_number(map, "file", &p->file) &&
           read_number(map, "line", &p->line) && read_number(map, "malformed", &p->malformed) &&
           read_number(map, "next", next);
}

static sem_status restore_flow(mix *m, size_t set, const json_t *map, sem_error *err)
{
    mix_flow *f = &m->flows[set];
    const char *name = json_string_value(json_object_get(map, "name"));
    data_place place = {0};
    uint64_t next;
    if (name == NULL || strcmp(name, m->sets[set].data->name) != 0)
        return fail_saved(err, "it has other data sets");
    if (!read_place(map, &place, &next))
        return fail_saved(err, "a number is missing");
    f->count = 0;
    f->next = 0;
    sem_status status = data_stream_seek(f->stream, &place, err);
    if (status != SEM_OK || !json_is_true(json_object_get(map, "begun")))
        return status;
    status = mix_load_window(m, set, err);
    if (status != SEM_OK)
        return status;
    if (f->count == 0 || next > mix_window_parts(m, f))
        return fail_saved(err, "a file has changed");
    f->next = (size_t)next;
    return SEM_OK;
}

static sem_status restore(mix *m, const json_t *root, sem_error *err)
{
    uint64_t format, step, batch_size, seed;
    const json_t *sets = json_object_get(root, "sets");
    if (!read_number(root, "format", &format) || format != SAVED_FORMAT || !read_number(root, "step", &step) ||
        !read_number(root, "batch_size", &batch_size) || !read_number(root, "seed", &seed))
        return fail_saved(err, "its format is another one");
    if (batch_size != m->options.batch_size || seed != m->options.seed ||
        json_is_true(json_object_get(root, "cross_dataset")) != m->options.cross_dataset)
        return fail_saved(err, "batch size, seed or cross_dataset differ");
    if (json_array_size(sets) != m->count)
        return fail_saved(err, "it has another number of data sets");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < m->count && status == SEM_OK; i++)
        status = restore_flow(m, i, json_array_get(sets, i), err);
    m->step = step;
    return status;
}

sem_status mix_restore(mix *m, const char *saved, size_t size, sem_error *err)
{
    json_error_t error;
    json_t *root = json_loadb(saved, size, 0, &error);
    sem_status status = root != NULL ? restore(m, root, err) : fail_saved(err, "it is no JSON");
    json_decref(root);
    return status;
}

/* --- what a place belongs to */

static uint64_t add_text(uint64_t before, const char *text)
{
    return random_at(before, text != NULL ? hash_text(text, strlen(text)) : 0);
}

static uint64_t add_real(uint64_t before, double value)
{
    return random_at(before, hash_text(&value, sizeof value));
}

static uint64_t add_file(uint64_t before, const char *path)
{
    struct stat found = {0}; /* one that is missing is told of where it is read */
    (void)stat(path, &found);
    uint64_t sum = random_at(add_text(before, path), (uint64_t)found.st_size);
    return random_at(random_at(sum, (uint64_t)found.st_mtim.tv_sec), (uint64_t)found.st_mtim.tv_nsec);
}

static uint64_t add_set(uint64_t before, const mix_set *set)
{
    const data_options *d = set->data;
    const char *const texts[] = {d->name,         d->fields.anchor, d->fields.positive, d->fields.negative,
                                 d->fields.label, d->fields.domain, d->fields.id,       d->fields.weight,
                                 d->fields.score};
    const uint64_t numbers[] = {d->form,         d->header,      d->longest,           d->seed,        d->window,
                                d->window_bytes, set->by_domain, set->domains != NULL, d->column_count};
    uint64_t sum = before;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        sum = add_text(sum, texts[i]);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sum = random_at(sum, numbers[i]);
    for (size_t i = 0; i < d->column_count; i++)
        sum = random_at(sum, d->columns[i]);
    for (size_t i = 0; i < d->file_count; i++)
        sum = add_file(sum, d->files[i]);
    return add_real(sum, set->mixed_share);
}

uint64_t mix_fingerprint(const mix *m, uint64_t before)
{
    uint64_t sum = random_at(before, m->options.batch_size);
    sum = random_at(random_at(sum, m->options.cross_dataset), m->options.seed);
    for (size_t i = 0; i < m->count; i++)
        sum = add_real(add_set(sum, &m->sets[i]), m->shares[i]);
    return sum;
}
