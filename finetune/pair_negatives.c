#include "finetune/pair_negatives.h"

#include "base/checked.h"

#include <stdlib.h>

sem_status pair_negatives_list(pair_negatives *out, const train_pair *pairs, size_t count, sem_error *err)
{
    size_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += pairs[i].negative_count;
    *out = (pair_negatives){.pairs = count};
    out->items = checked_realloc(NULL, all + 1, sizeof *out->items);
    out->from = checked_realloc(NULL, count + 1, sizeof *out->from);
    if (out->items == NULL || out->from == NULL)
        return sem_fail_memory(err, "the negatives of training pairs");
    for (size_t i = 0; i < count; i++) {
        out->from[i] = out->count;
        for (size_t k = 0; k < pairs[i].negative_count; k++)
            out->items[out->count++] = &pairs[i].negatives[k];
    }
    out->from[count] = out->count;
    return SEM_OK;
}

void pair_negatives_free(pair_negatives *n)
{
    free(n->items);
    free(n->from);
    *n = (pair_negatives){0};
}

size_t pair_negatives_most(const pair_negatives *n)
{
    size_t most = 0;
    for (size_t i = 0; i < n->pairs; i++)
        most = n->from[i + 1] - n->from[i] > most ? n->from[i + 1] - n->from[i] : most;
    return most;
}

void pair_negatives_keep(pair_negatives *n, const bool *keep)
{
    size_t kept = 0;
    for (size_t i = 0, at = 0; i < n->pairs; i++) {
        n->from[i] = kept;
        /* What is read lies at or behind what was written; at goes on where the pair before ended. */
        for (const size_t end = n->from[i + 1]; at < end; at++)
            if (keep[at])
                n->items[kept++] = n->items[at];
    }
    n->from[n->pairs] = n->count = kept;
}
