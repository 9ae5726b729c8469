#include "finetune/split.h"

#include "base/checked.h"

#include <string.h>

void split_free(split *s)
{
    free(s->order);
    free(s->first);
    free(s->load);
    free(s->owner);
    free(s->sorted);
    *s = (split){0};
}

sem_status split_create(split *out, size_t max_texts, unsigned helpers, sem_error *err)
{
    *out = (split){
        .helpers = helpers,
        .order = checked_realloc(NULL, max_texts, sizeof *out->order),
        .first = checked_realloc(NULL, (size_t)helpers + 1, sizeof *out->first),
        .load = checked_realloc(NULL, helpers, sizeof *out->load),
        .owner = checked_realloc(NULL, max_texts, sizeof *out->owner),
        .sorted = checked_realloc(NULL, max_texts, sizeof *out->sorted),
    };
    if (out->order != NULL && out->first != NULL && out->load != NULL && out->owner != NULL && out->sorted != NULL)
        return SEM_OK;
    split_free(out);
    return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for dividing %zu texts over %u threads", max_texts,
                    helpers);
}

static int compare_sorted(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void split_texts(split *s, const uint32_t *lengths, size_t texts)
{
    /* Longest first, then by number, in one integer. */
    for (size_t i = 0; i < texts; i++)
        s->sorted[i] = (uint64_t)(UINT32_MAX - lengths[i]) << 32 | i;
    qsort(s->sorted, texts, sizeof *s->sorted, compare_sorted);

    memset(s->load, 0, s->helpers * sizeof *s->load);
    for (size_t i = 0; i < texts; i++) {
        uint32_t text = (uint32_t)s->sorted[i];
        unsigned least = 0;
        for (unsigned h = 1; h < s->helpers; h++)
            least = s->load[h] < s->load[least] ? h : least;
        s->owner[i] = least;
        s->load[least] += lengths[text];
    }
    size_t placed = 0;
    for (unsigned h = 0; h < s->helpers; h++) {
        s->first[h] = placed;
        for (size_t i = 0; i < texts; i++) {
            if (s->owner[i] == h)
                s->order[placed++] = (uint32_t)s->sorted[i];
        }
    }
    s->first[s->helpers] = placed;
}
