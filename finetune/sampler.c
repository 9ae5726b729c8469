#include "finetune/sampler.h"

#include "base/checked.h"
#include "base/random.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE_TRIES = 256 /* batches looked at for one pair: bounds the time where a key fills them all */ };

struct sampler {
    sampler_keys *keys; /* [count] */
    size_t count;
    size_t batches;
    uint64_t seed;
    uint32_t *by_crowd; /* [count] pairs, those whose key is most frequent first */
    size_t *crowd_end;  /* ends of the runs of equal frequency in by_crowd */
    size_t crowds;
    uint32_t *shuffled; /* [count] by_crowd with each run shuffled */
    uint32_t *places;   /* [count] pairs, batch after batch */
    size_t *starts;     /* [batches + 1] where each batch begins in places */
    size_t *filled;     /* [batches] */
    uint32_t *order;    /* [batches] which planned batch comes when */
};

void sampler_destroy(sampler *s)
{
    if (s == NULL)
        return;
    free(s->keys);
    free(s->by_crowd);
    free(s->crowd_end);
    free(s->shuffled);
    free(s->places);
    free(s->starts);
    free(s->filled);
    free(s->order);
    free(s);
}

/* A pair's key beside its number, to be sorted. */
typedef struct keyed {
    uint64_t key;
    uint32_t pair;
} keyed;

static int compare_keyed(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->pair < y->pair ? -1 : x->pair > y->pair;
}

/* crowd[pair] = max(itself, pairs that share the pair's key). */
static void count_crowd(keyed *sorted, size_t count, uint32_t *crowd)
{
    qsort(sorted, count, sizeof *sorted, compare_keyed);
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && sorted[to].key == sorted[from].key; to++)
            ;
        for (size_t i = from; i < to; i++) {
            uint32_t *c = &crowd[sorted[i].pair];
            *c = (uint32_t)(to - from) > *c ? (uint32_t)(to - from) : *c;
        }
    }
}

/* Fills by_crowd and crowd_end. sorted and crowd are working memory. */
static void rank_by_crowd(sampler *s, keyed *sorted, uint32_t *crowd)
{
    memset(crowd, 0, s->count * sizeof *crowd);
    for (size_t i = 0; i < s->count; i++)
        sorted[i] = (keyed){s->keys[i].document, (uint32_t)i};
    count_crowd(sorted, s->count, crowd);
    for (size_t i = 0; i < s->count; i++)
        sorted[i] = (keyed){s->keys[i].query, (uint32_t)i};
    count_crowd(sorted, s->count, crowd);

    for (size_t i = 0; i < s->count; i++)
        sorted[i] = (keyed){UINT64_MAX - crowd[i], (uint32_t)i};
    qsort(sorted, s->count, sizeof *sorted, compare_keyed);
    for (size_t i = 0; i < s->count; i++) {
        s->by_crowd[i] = sorted[i].pair;
        if (i + 1 == s->count || sorted[i + 1].key != sorted[i].key)
            s->crowd_end[s->crowds++] = i + 1;
    }
}

static bool allocate(sampler *s)
{
    s->keys = checked_realloc(NULL, s->count, sizeof *s->keys);
    s->by_crowd = checked_realloc(NULL, s->count, sizeof *s->by_crowd);
    s->crowd_end = checked_realloc(NULL, s->count, sizeof *s->crowd_end);
    s->shuffled = checked_realloc(NULL, s->count, sizeof *s->shuffled);
    s->places = checked_realloc(NULL, s->count, sizeof *s->places);
    s->starts = checked_realloc(NULL, s->batches + 1, sizeof *s->starts);
    s->filled = checked_realloc(NULL, s->batches, sizeof *s->filled);
    s->order = checked_realloc(NULL, s->batches, sizeof *s->order);
    return s->keys != NULL && s->by_crowd != NULL && s->crowd_end != NULL && s->shuffled != NULL && s->places != NULL &&
           s->starts != NULL && s->filled != NULL && s->order != NULL;
}

sem_status sampler_create(sampler **out, const sampler_keys *keys, size_t count, size_t batch_size, uint64_t seed,
                          sem_error *err)
{
    *out = NULL;
    if (count == 0 || count > UINT32_MAX || batch_size == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%zu pairs in batches of %zu: 1 to %u pairs and batches of 1 or more", count, batch_size,
                        UINT32_MAX);
    sampler *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "the batch sampler");
    s->count = count;
    s->batches = (count - 1) / batch_size + 1;
    s->seed = seed;
    keyed *sorted = checked_realloc(NULL, count, sizeof *sorted);
    bool enough = allocate(s) && sorted != NULL;
    if (enough) {
        memcpy(s->keys, keys, count * sizeof *keys);
        for (size_t b = 0; b <= s->batches; b++)
            s->starts[b] = count / s->batches * b + (b < count % s->batches ? b : count % s->batches);
        rank_by_crowd(s, sorted, s->shuffled);
        *out = s;
    } else {
        sampler_destroy(s);
    }
    free(sorted);
    return enough ? SEM_OK
                  : sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the order of %zu training pairs", count);
}

size_t sampler_batches(const sampler *s)
{
    return s->batches;
}

static bool has_room(const sampler *s, size_t batch)
{
    return s->filled[batch] < s->starts[batch + 1] - s->starts[batch];
}

static bool conflicts(const sampler *s, size_t batch, uint32_t pair)
{
    const sampler_keys *mine = &s->keys[pair];
    const uint32_t *members = s->places + s->starts[batch];
    for (size_t i = 0; i < s->filled[batch]; i++) {
        const sampler_keys *other = &s->keys[members[i]];
        if (other->document == mine->document || other->query == mine->query)
            return true;
    }
    return false;
}

/* The batch for a pair: the first from `from` on with room and without
 * conflict; else the first with room. */
static size_t choose_batch(const sampler *s, size_t from, uint32_t pair)
{
    size_t fallback = s->batches;
    for (size_t n = 0, tries = 0; n < s->batches; n++) {
        size_t batch = (from + n) % s->batches;
        if (!has_room(s, batch))
            continue;
        if (!conflicts(s, batch, pair))
            return batch;
        if (fallback == s->batches)
            fallback = batch;
        if (++tries == PLACE_TRIES)
            break;
    }
    return fallback;
}

void sampler_begin_epoch(sampler *s, size_t epoch)
{
    random_state r;
    random_seed(&r, random_at(s->seed, epoch));
    memcpy(s->shuffled, s->by_crowd, s->count * sizeof *s->shuffled);
    for (size_t c = 0, from = 0; c < s->crowds; from = s->crowd_end[c++])
        random_shuffle(&r, s->shuffled + from, s->crowd_end[c] - from, sizeof *s->shuffled);

    /* Crowded keys are placed first, while every batch has room, going round
     * all batches so that they fill evenly. */
    memset(s->filled, 0, s->batches * sizeof *s->filled);
    size_t turn = 0;
    for (size_t i = 0; i < s->count; i++) {
        size_t batch = choose_batch(s, turn, s->shuffled[i]);
        s->places[s->starts[batch] + s->filled[batch]++] = s->shuffled[i];
        turn = (turn + 1) % s->batches;
    }
    for (size_t b = 0; b < s->batches; b++)
        s->order[b] = (uint32_t)b;
    random_shuffle(&r, s->order, s->batches, sizeof *s->order);
}

const uint32_t *sampler_batch(const sampler *s, size_t batch, size_t *count)
{
    size_t planned = s->order[batch];
    *count = s->starts[planned + 1] - s->starts[planned];
    return s->places + s->starts[planned];
}
