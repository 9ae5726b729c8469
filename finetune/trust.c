#include "finetune/trust.h"

#include "base/checked.h"
#include "base/random.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* Documents that every voter is taken to have been shown, without a click, beyond those of
 * the log: a click on one of two says little of somebody's habits. */
enum { SHOWN_BEFORE = 5 };

static bool bounds(double share)
{
    return share > 0 && share < 1;
}

static int compare_falling(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

double trust_cap(double *sums, size_t count, double share)
{
    double rest = 0;
    if (count == 0)
        return INFINITY;
    qsort(sums, count, sizeof *sums, compare_falling);
    for (size_t i = count; i-- > 0;)
        rest += sums[i];
    share = fmax(share, 2 / (double)count);
    if (share >= 1 || sums[0] <= share * rest)
        return INFINITY;
    /* The first m are cut to C = share (m C + what the others have), the next one is not. */
    for (size_t m = 1; m < count && (double)m * share < 1; m++) {
        rest -= sums[m - 1];
        double cap = share * rest / (1 - (double)m * share);
        if (cap >= sums[m])
            return cap;
    }
    return sums[count - 1];
}

/* --- voters */

static uint64_t voter_of(const ballot *b)
{
    if (b->user != 0)
        return random_at(1, b->user);
    return b->search != 0 ? random_at(2, b->search) : random_at(3, b->serial);
}

static int compare_ballots(const void *a, const void *b)
{
    const ballot *x = a, *y = b;
    const uint64_t u = voter_of(x), v = voter_of(y);
    if (u != v)
        return u < v ? -1 : 1;
    if (x->search != y->search)
        return x->search < y->search ? -1 : 1;
    return (x->serial > y->serial) - (x->serial < y->serial);
}

static int compare_times(const void *a, const void *b)
{
    const ballot *x = a, *y = b;
    if (x->time_ms != y->time_ms)
        return x->time_ms < y->time_ms ? -1 : 1;
    return (x->serial > y->serial) - (x->serial < y->serial);
}

static void scale(ballot *b, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++)
        b[i].weight = (float)(b[i].weight * factor);
}

/* b [count]: one voter's, search by search. Where there was one document there was no choice. */
static void discount_habit(ballot *b, size_t count, double limit)
{
    double shown = SHOWN_BEFORE, clicked = 0;
    for (size_t i = 0; i < count; i++) {
        const bool chosen = b[i].search != 0 && b[i].shown > 1;
        clicked += chosen;
        if (chosen && (i == 0 || b[i].search != b[i - 1].search))
            shown += b[i].shown;
    }
    double share = clicked / shown;
    if (share > limit)
        scale(b, count, share < 1 ? (1 - share) / (1 - limit) : 0);
}

/* b [count]: one voter's, in order of time. */
static void discount_bursts(ballot *b, size_t count, const trust_options *o)
{
    const int64_t window = (int64_t)o->burst_ms;
    for (size_t first = 0, end = 0; first < count; first = end) {
        while (end < count && b[end].time_ms - b[first].time_ms < window)
            end++;
        if (end - first > o->burst_clicks)
            scale(b + first, end - first, (double)o->burst_clicks / (double)(end - first));
    }
}

static size_t end_of_voter(const ballot *b, size_t count, size_t first)
{
    const uint64_t voter = voter_of(&b[first]);
    while (first < count && voter_of(&b[first]) == voter)
        first++;
    return first;
}

static double weight_of(const ballot *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)b[i].weight;
    return sum;
}

/* sums: room for one number a voter. */
static void cap_voters(ballot *b, size_t count, double *sums, double share)
{
    size_t voters = 0;
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_voter(b, count, first);
        sums[voters++] = weight_of(b + first, end - first);
    }
    double cap = trust_cap(sums, voters, share);
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_voter(b, count, first);
        double sum = weight_of(b + first, end - first);
        if (sum > cap)
            scale(b + first, end - first, cap / sum);
    }
}

sem_status trust_ballots(ballot *ballots, size_t count, const trust_options *o, sem_error *err)
{
    double *sums = checked_realloc(NULL, count + 1, sizeof *sums);
    if (sums == NULL)
        return sem_fail_memory(err, "what voters have");
    if (count > 0)
        qsort(ballots, count, sizeof *ballots, compare_ballots);
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_voter(ballots, count, first);
        if (bounds(o->click_share))
            discount_habit(ballots + first, end - first, o->click_share);
        if (o->burst_clicks == 0 || o->burst_ms == 0 || ballots[first].search == 0)
            continue;
        qsort(ballots + first, end - first, sizeof *ballots, compare_times);
        discount_bursts(ballots + first, end - first, o);
    }
    if (bounds(o->user_share))
        cap_voters(ballots, count, sums, o->user_share);
    free(sums);
    return SEM_OK;
}

/* --- queries and documents */

static void cap_queries(trust_pair *pairs, size_t count, double *sums, double most)
{
    for (size_t i = 0; i < count; i++)
        sums[pairs[i].query] += (double)pairs[i].weight;
    for (size_t i = 0; i < count; i++)
        if (sums[pairs[i].query] > most)
            pairs[i].weight = (float)(pairs[i].weight * most / sums[pairs[i].query]);
}

/* held: room for one number a text. */
static void cap_documents(trust_pair *pairs, size_t count, double *sums, double *held, size_t texts, double share)
{
    size_t documents = 0;
    for (size_t i = 0; i < count; i++)
        sums[pairs[i].document] += (double)pairs[i].weight;
    for (size_t t = 0; t < texts; t++)
        if (sums[t] > 0)
            held[documents++] = sums[t];
    double cap = trust_cap(held, documents, share);
    for (size_t i = 0; i < count; i++)
        if (sums[pairs[i].document] > cap)
            pairs[i].weight = (float)(pairs[i].weight * cap / sums[pairs[i].document]);
}

sem_status trust_pairs(trust_pair *pairs, size_t count, size_t texts, const trust_options *o, sem_error *err)
{
    double *queries = calloc(texts + 1, sizeof *queries), *documents = calloc(texts + 1, sizeof *documents);
    double *held = calloc(texts + 1, sizeof *held);
    bool enough = queries != NULL && documents != NULL && held != NULL;
    if (enough && o->query_weight > 0)
        cap_queries(pairs, count, queries, o->query_weight);
    if (enough && bounds(o->document_share))
        cap_documents(pairs, count, documents, held, texts, o->document_share);
    free(queries);
    free(documents);
    free(held);
    return enough ? SEM_OK : sem_fail_memory(err, "what queries and documents have");
}
