#include "finetune/agreement.h"

#include "base/checked.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    RANKS = PROPENSITY_RANKS,
    ROUNDS = 200 /* of the maximisation, at most; a log of some thousand repeats takes some dozens */
};

static const double CONVERGED = 1e-6; /* change of a rate in a round */
/* Where it begins. What the log does not tell apart stays near to it: mistakes are rare. */
static const double FIRST_RIGHT = 0.8, FIRST_WRONG = 0.05, FIRST_SHARE = 0.2;
/* Wrong documents that were looked at, and clicks on them, beside those of the log; and the same of what
 * is right among the documents of a rank. */
static const double LOOKS_BEFORE = 100, CLICKS_BEFORE = 1, SHOWN_BEFORE = 2, RIGHT_BEFORE = 0.5;
static const double LEAST = 1e-4, MOST = 0.999; /* of a rate or share */
static const double MOST_WRONG = 0.9;           /* of the rate of right ones */
/* Searches without a click can't make a clicked document less likely right by more: whoever repeats a
 * query and never clicks would have nothing learnt of it. */
static const double LEAST_UNCLICKED = 0.1;

/* What the impressions of one document for one query say. */
typedef struct shown_pair {
    double clicks;
    uint32_t best; /* rank from 0 */
} shown_pair;

typedef struct fit {
    agreement *a;
    double looks[RANKS];     /* propensities, 1 where people look most */
    double prior[RANKS];     /* log odds of a share */
    double clicked;          /* log ratio that a click adds, */
    double unclicked[RANKS]; /* and its absence at a rank */
    /* sums of an expectation; of each [0] of all, [1] of what is right */
    double clicks[2], passes[2][RANKS], shown[2][RANKS];
} fit;

/* --- the impressions */

static int compare_impressions(const void *left, const void *right)
{
    const impression *a = left, *b = right;
    if (a->query != b->query)
        return a->query < b->query ? -1 : 1;
    if (a->document != b->document)
        return a->document < b->document ? -1 : 1;
    if (a->user != b->user)
        return a->user < b->user ? -1 : 1;
    if (a->clicked != b->clicked)
        return a->clicked ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static bool same_pair(const impression *a, const impression *b)
{
    return a->query == b->query && a->document == b->document;
}

/* In order, one of each user; returns how many are left. */
static size_t tidy(impression *all, size_t count)
{
    size_t kept = 0;
    if (count > 0)
        qsort(all, count, sizeof *all, compare_impressions);
    for (size_t i = 0; i < count; i++) {
        const impression *last = kept > 0 ? &all[kept - 1] : NULL;
        if (all[i].rank < 1 || all[i].rank > RANKS)
            continue;
        if (last == NULL || all[i].user == 0 || last->user != all[i].user || !same_pair(last, &all[i]))
            all[kept++] = all[i];
    }
    return kept;
}

static size_t end_of_pair(const impression *all, size_t count, size_t first, shown_pair *out)
{
    size_t end = first;
    *out = (shown_pair){.best = RANKS - 1};
    for (; end < count && same_pair(&all[first], &all[end]); end++) {
        out->clicks += all[end].clicked;
        if (all[end].rank - 1 < out->best)
            out->best = all[end].rank - 1;
    }
    return end;
}

/* --- the maximisation */

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static double within(double x, double least, double most)
{
    return x < least ? least : x > most ? most : x;
}

static void prepare(fit *f)
{
    const agreement *a = f->a;
    f->clicked = log(a->right / a->wrong);
    for (size_t k = 0; k < RANKS; k++) {
        f->unclicked[k] = log1p(-f->looks[k] * a->right) - log1p(-f->looks[k] * a->wrong);
        f->prior[k] = log(a->shares[k] / (1 - a->shares[k]));
    }
    for (int right = 0; right < 2; right++) {
        f->clicks[right] = 0;
        for (size_t k = 0; k < RANKS; k++)
            f->passes[right][k] = f->shown[right][k] = 0;
    }
}

/* The log ratio that impressions [count] of a pair without a click add. */
static double unclicked(const fit *f, const impression *list, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        if (!list[i].clicked)
            sum += f->unclicked[list[i].rank - 1];
    return sum;
}

static void expect(fit *f, const impression *all, size_t count)
{
    shown_pair p;
    prepare(f);
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_pair(all, count, first, &p);
        const double chance =
            logistic(f->prior[p.best] + p.clicks * f->clicked + unclicked(f, all + first, end - first));
        f->shown[0][p.best] += 1;
        f->shown[1][p.best] += chance;
        f->clicks[0] += p.clicks;
        f->clicks[1] += p.clicks * chance;
        for (size_t i = first; i < end; i++) {
            f->passes[0][all[i].rank - 1] += !all[i].clicked;
            f->passes[1][all[i].rank - 1] += all[i].clicked ? 0 : chance;
        }
    }
}

/* How often the impressions without a click were looked at, of documents clicked at `rate`. */
static double looked_at(const fit *f, size_t k, double passes, double rate)
{
    return passes * f->looks[k] * (1 - rate) / (1 - f->looks[k] * rate);
}

/* Returns the largest change of a rate. */
static double maximise(fit *f)
{
    agreement *a = f->a;
    double right = f->clicks[1], wrong = f->clicks[0] - f->clicks[1] + LOOKS_BEFORE;
    for (size_t k = 0; k < RANKS; k++) {
        right += looked_at(f, k, f->passes[1][k], a->right);
        wrong += looked_at(f, k, f->passes[0][k] - f->passes[1][k], a->wrong);
        a->shares[k] = within((f->shown[1][k] + RIGHT_BEFORE) / (f->shown[0][k] + SHOWN_BEFORE), LEAST, MOST);
    }
    right = right > 0 ? within(f->clicks[1] / right, LEAST, MOST) : a->right;
    wrong = within((f->clicks[0] - f->clicks[1] + CLICKS_BEFORE) / wrong, LEAST, MOST_WRONG * right);
    const double change = fmax(fabs(right - a->right), fabs(wrong - a->wrong));
    a->right = right;
    a->wrong = wrong;
    return change;
}

/* --- all of it */

static void begin(fit *f, agreement *a, const propensities *bias)
{
    double most = 0;
    *f = (fit){.a = a};
    *a = (agreement){.right = FIRST_RIGHT, .wrong = FIRST_WRONG};
    for (size_t k = 0; k < RANKS; k++)
        most = fmax(most, bias->at[k]);
    for (size_t k = 0; k < RANKS; k++) {
        f->looks[k] = bias->at[k] / most;
        a->shares[k] = FIRST_SHARE;
    }
}

static sem_status keep_pairs(fit *f, const impression *all, size_t count, sem_error *err)
{
    agreement *a = f->a;
    shown_pair p;
    size_t clicked = 0;
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_pair(all, count, first, &p);
        clicked += p.clicks > 0;
    }
    a->pairs = checked_realloc(NULL, clicked + 1, sizeof *a->pairs);
    if (a->pairs == NULL)
        return sem_fail_memory(err, "what was clicked");
    prepare(f);
    for (size_t first = 0, end; first < count; first = end) {
        end = end_of_pair(all, count, first, &p);
        if (!(p.clicks > 0))
            continue;
        const double passed = fmax(unclicked(f, all + first, end - first), log(LEAST_UNCLICKED));
        a->pairs[a->count++] = (agreed_pair){all[first].query, all[first].document,
                                             logistic(f->prior[p.best] + p.clicks * f->clicked + passed)};
    }
    return SEM_OK;
}

sem_status agreement_estimate(agreement *out, impression *impressions, size_t count, const propensities *bias,
                              sem_error *err)
{
    fit *f = calloc(1, sizeof *f);
    *out = (agreement){0};
    if (f == NULL)
        return sem_fail_memory(err, "what was clicked");
    begin(f, out, bias);
    count = tidy(impressions, count);
    for (int i = 0; i < ROUNDS; i++) {
        expect(f, impressions, count);
        if (maximise(f) < CONVERGED)
            break;
    }
    sem_status status = keep_pairs(f, impressions, count, err);
    free(f);
    return status;
}

static int compare_agreed(const void *left, const void *right)
{
    const agreed_pair *a = left, *b = right;
    if (a->query != b->query)
        return a->query < b->query ? -1 : 1;
    return (a->document > b->document) - (a->document < b->document);
}

double agreement_of(const agreement *a, uint64_t query, uint64_t document, uint32_t rank)
{
    const agreed_pair wanted = {.query = query, .document = document};
    const agreed_pair *found = a->count > 0 ? bsearch(&wanted, a->pairs, a->count, sizeof wanted, compare_agreed)
                                            : NULL;
    if (found != NULL)
        return found->chance;
    const double share = a->shares[rank >= 1 && rank <= RANKS ? rank - 1 : RANKS - 1];
    return logistic(log(share / (1 - share)) + log(a->right / a->wrong));
}

void agreement_free(agreement *a)
{
    free(a->pairs);
    *a = (agreement){0};
}
