#include "finetune/holdout.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/mine_set.h"

#include <stdlib.h>

uint64_t holdout_key(const unsigned char key[16], const char *query, size_t length)
{
    const uint64_t form = mine_form((data_text){query, length});
    return hash_keyed(key, &form, sizeof form);
}

bool holdout_takes(uint64_t query, double share)
{
    return random_unit_of(query) < share;
}

typedef struct asked {
    uint64_t query;
    size_t at; /* number of the judgement */
} asked;

static int compare_by_query(const void *a, const void *b)
{
    const asked *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static int compare_sizes(const void *a, const void *b)
{
    const size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

/* all [count] is in order of query, and of time within one: marks the judgements of queries
 * that were judged first at `since` or later. */
static void mark_from(const asked *all, size_t count, size_t since, bool *newest)
{
    for (size_t i = 0, first = 0; i < count; i++) {
        if (i == 0 || all[i].query != all[i - 1].query)
            first = all[i].at;
        newest[all[i].at] = first >= since;
    }
}

sem_status holdout_newest(const uint64_t *queries, size_t count, size_t since, double share, bool *newest,
                          sem_error *err)
{
    asked *all = checked_realloc(NULL, count + 1, sizeof *all);
    size_t *firsts = checked_realloc(NULL, count + 1, sizeof *firsts), distinct = 0;
    sem_status status = all == NULL || firsts == NULL ? sem_fail_memory(err, "the newest queries") : SEM_OK;
    if (status == SEM_OK) {
        for (size_t i = 0; i < count; i++)
            all[i] = (asked){queries[i], i};
        qsort(all, count, sizeof *all, compare_by_query);
        for (size_t i = 0; i < count; i++)
            if ((i == 0 || all[i].query != all[i - 1].query) && all[i].at >= since)
                firsts[distinct++] = all[i].at;
        qsort(firsts, distinct, sizeof *firsts, compare_sizes);
        const size_t kept = (size_t)(share * (double)distinct);
        mark_from(all, count, kept > 0 ? firsts[distinct - kept] : count, newest);
    }
    free(all);
    free(firsts);
    return status;
}
