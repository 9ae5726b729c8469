#include "finetune/skipped.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/mine_set.h"

#include <stdlib.h>

/* A document skipped for a pair, with how often. */
typedef struct tally {
    skip skip;
    uint32_t times;
} tally;

typedef struct choosing {
    const trust_pair *pairs;
    const text_pool *texts;
    uint64_t *right; /* [right_count] sorted: query << 32 | document of positives */
    size_t right_count;
    tally *tallies;
    size_t count;
    skipped_report *report;
} choosing;

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int compare_skips(const void *a, const void *b)
{
    const skip *x = a, *y = b;
    if (x->pair != y->pair)
        return x->pair < y->pair ? -1 : 1;
    return (x->document > y->document) - (x->document < y->document);
}

/* Equal times: an order of no meaning, which is the same every time. */
static int compare_tallies(const void *a, const void *b)
{
    const tally *x = a, *y = b;
    if (x->skip.pair != y->skip.pair)
        return x->skip.pair < y->skip.pair ? -1 : 1;
    if (x->times != y->times)
        return x->times > y->times ? -1 : 1;
    const uint64_t i = random_at(x->skip.pair, x->skip.document), j = random_at(y->skip.pair, y->skip.document);
    return (i > j) - (i < j);
}

static uint64_t fact(uint32_t query, uint32_t document)
{
    return (uint64_t)query << 32 | document;
}

static sem_status list_right(choosing *c, size_t pair_count, sem_error *err)
{
    c->right = checked_realloc(NULL, pair_count + 1, sizeof *c->right);
    if (c->right == NULL)
        return sem_fail_memory(err, "the right documents of queries");
    for (size_t i = 0; i < pair_count; i++)
        if (c->pairs[i].weight > 0)
            c->right[c->right_count++] = fact(c->pairs[i].query, c->pairs[i].document);
    qsort(c->right, c->right_count, sizeof *c->right, compare_numbers);
    return SEM_OK;
}

static uint64_t form_of(const choosing *c, uint32_t text)
{
    const pooled_text *t = &c->texts->texts[text];
    const data_text form = {(const char *)c->texts->strings.data + t->offset, t->length};
    return t->length > 0 ? mine_form(form) : 0;
}

static bool passes(choosing *c, const skip *s)
{
    const trust_pair *p = &c->pairs[s->pair];
    const uint64_t known = fact(p->query, s->document);
    c->report->candidates++;
    if (bsearch(&known, c->right, c->right_count, sizeof known, compare_numbers) != NULL) {
        c->report->known++;
        return false;
    }
    const uint64_t form = form_of(c, s->document);
    if (form == form_of(c, p->document) || form == form_of(c, p->query)) {
        c->report->same_text++;
        return false;
    }
    return true;
}

/* One tally for each run of equal skips that passes. */
static void count_skips(choosing *c, const skip *skips, size_t count)
{
    for (size_t first = 0, end = 0; first < count; first = end) {
        while (end < count && compare_skips(&skips[end], &skips[first]) == 0)
            end++;
        if (passes(c, &skips[first]))
            c->tallies[c->count++] = (tally){skips[first], (uint32_t)(end - first)};
    }
}

static size_t keep_best(const choosing *c, skip *skips, size_t most)
{
    size_t kept = 0, of_pair = 0;
    for (size_t i = 0; i < c->count; i++) {
        of_pair = i > 0 && c->tallies[i].skip.pair == c->tallies[i - 1].skip.pair ? of_pair + 1 : 0;
        if (of_pair < most)
            skips[kept++] = c->tallies[i].skip;
    }
    return kept;
}

sem_status skipped_choose(skip *skips, size_t *count, const trust_pair *pairs, size_t pair_count,
                          const text_pool *texts, size_t most, skipped_report *report, sem_error *err)
{
    choosing c = {.pairs = pairs, .texts = texts, .report = report};
    *report = (skipped_report){0};
    if (*count == 0)
        return SEM_OK;
    sem_status status = list_right(&c, pair_count, err);
    c.tallies = checked_realloc(NULL, *count, sizeof *c.tallies);
    if (status == SEM_OK && c.tallies == NULL)
        status = sem_fail_memory(err, "skipped documents");
    if (status == SEM_OK) {
        qsort(skips, *count, sizeof *skips, compare_skips);
        count_skips(&c, skips, *count);
        qsort(c.tallies, c.count, sizeof *c.tallies, compare_tallies);
        *count = keep_best(&c, skips, most);
    }
    free(c.tallies);
    free(c.right);
    return status;
}
