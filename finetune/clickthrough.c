#include "finetune/clickthrough.h"

#include "base/checked.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* Documents that a voter is taken to have been shown beyond those of the log, as in trust.c. */
enum { SHOWN_BEFORE = 5 };

static uint64_t name_of(const clickthrough_search *s)
{
    return s->user != 0 ? random_at(1, s->user) : random_at(2, s->number);
}

static uint64_t voter_hash(const void *context, size_t item)
{
    const clickthrough_side *side = context;
    return side->voters[item].name;
}

static clickthrough_voter *voter_of(clickthrough_side *side, uint64_t name)
{
    uint32_t item;
    clickthrough_voter *list = items_with_room(side->voters, side->count, &side->capacity, sizeof *list);
    if (list == NULL)
        return NULL;
    side->voters = list;
    if (!item_table_reserve(&side->table, side, side->count, voter_hash))
        return NULL;
    for (size_t cell = (size_t)name; item_table_next(&side->table, &cell, &item);)
        if (list[item].name == name)
            return &list[item];
    list[side->count] = (clickthrough_voter){.name = name};
    item_table_put(&side->table, name, side->count);
    return &list[side->count++];
}

/* Clicks that count of those of one search: no more than a burst may have. */
static size_t clicks_that_count(clickthrough_voter *v, const clickthrough_search *s, const trust_options *trust)
{
    if (trust->burst_clicks == 0)
        return s->clicks;
    if (v->searches == 0 || s->time_ms - v->burst_began_ms >= (int64_t)trust->burst_ms ||
        s->time_ms < v->burst_began_ms) {
        v->burst_began_ms = s->time_ms;
        v->burst_clicks = 0;
    }
    const size_t left = trust->burst_clicks > v->burst_clicks ? trust->burst_clicks - v->burst_clicks : 0;
    v->burst_clicks += (uint32_t)s->clicks;
    return s->clicks < left ? s->clicks : left;
}

bool clickthrough_add(clickthrough_side *side, const clickthrough_search *s, const propensities *bias, double most,
                      const trust_options *trust)
{
    clickthrough_voter *v = voter_of(side, name_of(s));
    if (v == NULL)
        return false;
    const size_t counted = clicks_that_count(v, s, trust);
    for (size_t i = 0; i < counted; i++)
        v->credit += propensity_weight(bias, s->ranks[i], most) / log2(1 + (double)s->ranks[i]);
    if (s->shown > 1) { /* where there was one document there was no choice */
        v->shown += (uint32_t)s->shown;
        v->clicks += (uint32_t)s->clicks;
    }
    v->searches++;
    side->searches++;
    return true;
}

void clickthrough_free(clickthrough_side *side)
{
    free(side->voters);
    item_table_free(&side->table);
    *side = (clickthrough_side){0};
}

/* What a voter's searches weigh before anybody is held to a share. */
static double weight_of(const clickthrough_voter *v, double limit)
{
    const double share = (double)v->clicks / (double)(v->shown + SHOWN_BEFORE);
    if (!(limit > 0 && limit < 1) || share <= limit)
        return v->searches;
    return share < 1 ? v->searches * (1 - share) / (1 - limit) : 0;
}

/* The weighted mean of the voters' rates, and the variance of such a ratio (Cochran 1977, section 6.4). */
static void estimate(const clickthrough_side *side, const double *weights, clickthrough_rate *out)
{
    double sum = 0, credit = 0, squares = 0;
    for (size_t i = 0; i < side->count; i++) {
        const clickthrough_voter *v = &side->voters[i];
        sum += weights[i];
        credit += weights[i] * v->credit / v->searches;
        out->voters += weights[i] > 0;
    }
    if (!(sum > 0))
        return;
    out->rate = credit / sum;
    for (size_t i = 0; i < side->count; i++) {
        const clickthrough_voter *v = &side->voters[i];
        const double off = weights[i] * (v->credit / v->searches - out->rate);
        squares += off * off;
    }
    const double n = (double)out->voters;
    out->variance = n > 1 ? squares / (sum * sum) * n / (n - 1) : INFINITY;
}

sem_status clickthrough_measure(const clickthrough_side *side, const trust_options *trust, clickthrough_rate *out,
                                sem_error *err)
{
    *out = (clickthrough_rate){.searches = side->searches};
    double *weights = checked_realloc(NULL, side->count + 1, 2 * sizeof *weights);
    if (weights == NULL)
        return sem_fail_memory(err, "the click-through of voters");
    double *sums = weights + side->count;
    for (size_t i = 0; i < side->count; i++)
        sums[i] = weights[i] = weight_of(&side->voters[i], trust->click_share);
    if (trust->user_share > 0 && trust->user_share < 1) {
        const double cap = trust_cap(sums, side->count, trust->user_share);
        for (size_t i = 0; i < side->count; i++)
            weights[i] = fmin(weights[i], cap);
    }
    estimate(side, weights, out);
    free(weights);
    return SEM_OK;
}

double clickthrough_fall(const clickthrough_rate *before, const clickthrough_rate *after)
{
    if (before->voters < CLICKTHROUGH_VOTERS_MIN || after->voters < CLICKTHROUGH_VOTERS_MIN)
        return 1;
    const double fall = before->rate - after->rate, error = sqrt(before->variance + after->variance);
    if (!(fall > 0))
        return 1;
    return error > 0 ? erfc(fall / error / sqrt(2)) / 2 : 0;
}

size_t clickthrough_look_at(size_t least, unsigned look)
{
    return look < 40 ? least << look : SIZE_MAX;
}

double clickthrough_look_level(double p, unsigned look)
{
    return ldexp(p, -(int)look - 1);
}
