#include "finetune/data_stream.h"

#include "base/random.h"

#include <stdlib.h>

enum { DRAW_WINDOW = 3, FIRST_CELLS = 256 };

struct data_stream {
    const data_options *options;
    data_reader *reader;
    size_t window;
    data_place place; /* of the window in hand */
    example_list items;
    size_t bytes; /* of the items */
    data_counts counts;
};

sem_status data_stream_open(data_stream **out, const data_options *options, size_t window, sem_error *err)
{
    *out = NULL;
    data_stream *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, options->name);
    s->options = options;
    s->window = window > 0 ? window : options->window;
    sem_status status = data_reader_open(&s->reader, options, err);
    if (status == SEM_OK)
        *out = s;
    else
        data_stream_close(s);
    return status;
}

static void forget(data_stream *s)
{
    example_list_clear(&s->items);
    s->bytes = 0;
}

void data_stream_close(data_stream *s)
{
    if (s == NULL)
        return;
    example_list_free(&s->items);
    data_reader_close(s->reader);
    free(s);
}

void data_stream_begin(data_stream *s, uint64_t epoch)
{
    forget(s);
    data_reader_begin(s->reader, epoch);
    s->place = data_reader_tell(s->reader);
    s->counts = (data_counts){0};
}

/* A data_sink. */
static sem_status keep(void *context, const example *e, sem_error *err)
{
    data_stream *s = context;
    sem_status status = example_list_add(&s->items, e, err);
    if (status == SEM_OK)
        s->bytes += s->items.items[s->items.count - 1]->bytes;
    return status;
}

static void shuffle(data_stream *s)
{
    random_state r;
    const data_place *p = &s->place;
    uint64_t draw = random_at(random_at(s->options->seed, DRAW_WINDOW), p->epoch);
    random_seed(&r, random_at(random_at(draw, p->file), p->line));
    random_shuffle(&r, s->items.items, s->items.count, sizeof *s->items.items);
}

/* --- two texts of one label are a pair */

typedef struct waiting {
    uint64_t key;
    size_t place; /* 1 + where the text of that label is; 0: free */
} waiting;

/* The text of e's label that waits for another, or a free cell. */
static waiting *find_waiting(waiting *cells, size_t size, const example *const *items, const example *e)
{
    size_t cell = (size_t)e->label_key & (size - 1);
    while (cells[cell].key != 0 &&
           (cells[cell].key != e->label_key ||
            (cells[cell].place != 0 && !data_text_equal(items[cells[cell].place - 1]->label, e->label))))
        cell = (cell + 1) & (size - 1);
    return &cells[cell];
}

static sem_status join(example **first, example *second, sem_error *err)
{
    example pair = **first;
    pair.positive = second->anchor;
    pair.positive_key = second->anchor_key;
    example *joined = example_copy(&pair);
    if (joined == NULL)
        return sem_fail_memory(err, "a pair of one label");
    free(*first);
    *first = joined;
    return SEM_OK;
}

/* Joins the window's texts, in their shuffled order. */
static sem_status pair_by_label(data_stream *s, sem_error *err)
{
    example_list *l = &s->items;
    size_t size = FIRST_CELLS, made = 0;
    while (size < 2 * l->count)
        size *= 2;
    waiting *cells = calloc(size, sizeof *cells);
    if (cells == NULL)
        return sem_fail_memory(err, "the labels of a window");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < l->count && status == SEM_OK; i++) {
        example *e = l->items[i];
        waiting *w = find_waiting(cells, size, (const example *const *)l->items, e);
        w->key = e->label_key;
        if (w->place == 0) {
            w->place = i + 1;
            continue;
        }
        status = join(&l->items[w->place - 1], e, err);
        w->place = 0;
    }
    free(cells);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < l->count; i++) {
        if (l->items[i]->positive.length > 0)
            l->items[made++] = l->items[i];
        else
            free(l->items[i]);
    }
    s->counts.unpaired += l->count - 2 * made;
    l->count = made;
    return SEM_OK;
}

/* One window, perhaps an empty one where no labels were paired. */
static sem_status fill(data_stream *s, bool *more, sem_error *err)
{
    forget(s);
    s->place = data_reader_tell(s->reader);
    *more = true;
    while (*more && s->items.count < s->window && s->bytes < s->options->window_bytes) {
        sem_status status = data_reader_next(s->reader, keep, s, more, err);
        if (status != SEM_OK)
            return status;
    }
    s->counts.malformed = data_reader_tell(s->reader).malformed;
    shuffle(s);
    return s->options->form == DATA_LABELLED ? pair_by_label(s, err) : SEM_OK;
}

sem_status data_stream_window(data_stream *s, const example *const **items, size_t *count, sem_error *err)
{
    bool more = true;
    do {
        sem_status status = fill(s, &more, err);
        if (status != SEM_OK) {
            forget(s);
            return status;
        }
    } while (more && s->items.count == 0);
    s->counts.examples += s->items.count;
    *items = (const example *const *)s->items.items;
    *count = s->items.count;
    return SEM_OK;
}

data_place data_stream_tell(const data_stream *s)
{
    return s->place;
}

sem_status data_stream_seek(data_stream *s, const data_place *place, sem_error *err)
{
    sem_status status = data_reader_seek(s->reader, place, err);
    if (status != SEM_OK)
        return status;
    forget(s);
    s->place = *place;
    s->counts = (data_counts){.malformed = place->malformed};
    return SEM_OK;
}

sem_status data_count(const data_options *options, uint64_t most, data_counts *out, sem_error *err)
{
    data_stream *s;
    data_options quiet = *options;
    quiet.report = NULL; /* who reads the set for good says it once */
    sem_status status = data_stream_open(&s, &quiet, 0, err);
    if (status != SEM_OK)
        return status;
    const example *const *items;
    size_t count = 1;
    while (status == SEM_OK && count > 0 && s->counts.examples < most)
        status = data_stream_window(s, &items, &count, err);
    *out = data_stream_counts(s);
    data_stream_close(s);
    return status;
}

data_counts data_stream_counts(const data_stream *s)
{
    return s->counts;
}
