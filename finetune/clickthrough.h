/* Debiased click-through of two generations, and whether it fell.
 *
 * What a search is worth is estimated from its clicks: one at rank k counts 1 / p_k, p_k the
 * propensity of the rank (Joachims, Swaminathan and Schnabel 2017), clipped, times
 * 1 / log2(1 + k). With the first factor alone it would be the number of relevant documents
 * shown, however badly ranked; with both it is the DCG of the list (Jarvelin and Kekalainen
 * 2002), which falls too where the right documents are still shown but further below.
 *
 * Who searched counts as in trust.h: clicks in bursts, voters who click everything and
 * voters with more than a share of all count for less. The unit is the voter and not the
 * search, since one person's searches depend on each other; a search without a user is a
 * voter of its own. */
#ifndef SEM_FINETUNE_CLICKTHROUGH_H
#define SEM_FINETUNE_CLICKTHROUGH_H

#include "base/status.h"
#include "finetune/propensity.h"
#include "finetune/text_pool.h"
#include "finetune/trust.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct clickthrough_search {
    uint64_t user;   /* 0: not given */
    uint64_t number; /* of the search, not 0: another one, another number */
    int64_t time_ms;
    size_t shown;          /* documents */
    const uint32_t *ranks; /* [clicks] of the clicked ones, from 1 */
    size_t clicks;
} clickthrough_search;

typedef struct clickthrough_voter {
    uint64_t name;
    double credit; /* of all searches */
    int64_t burst_began_ms;
    uint32_t searches, shown, clicks; /* the last two of searches that showed two documents or more */
    uint32_t burst_clicks;
} clickthrough_voter;

/* The searches of one generation. Zeroed: none. */
typedef struct clickthrough_side {
    clickthrough_voter *voters; /* [count] */
    size_t count, capacity;
    item_table table;
    size_t searches;
} clickthrough_side;

/* most: of a click's 1 / p_k. False when memory is out. Searches come in any order; bursts are
 * found as far as one voter's come in order of time. */
bool clickthrough_add(clickthrough_side *side, const clickthrough_search *search, const propensities *bias, double most,
                      const trust_options *trust);
void clickthrough_free(clickthrough_side *side);

typedef struct clickthrough_rate {
    size_t searches, voters;
    double rate;     /* credit of a search */
    double variance; /* of that estimate */
} clickthrough_rate;

sem_status clickthrough_measure(const clickthrough_side *side, const trust_options *trust, clickthrough_rate *out,
                                sem_error *err);

enum { CLICKTHROUGH_VOTERS_MIN = 30 /* on each side, below which the test's normal approximation is none */ };

/* How likely so large a fall from before to after is where nothing changed: one-sided, from
 * the difference over its standard error. 1 with fewer than CLICKTHROUGH_VOTERS_MIN voters. */
double clickthrough_fall(const clickthrough_rate *before, const clickthrough_rate *after);

/* Looking again and again finds a fall by chance sooner or later. So looks are few: one at
 * `least` searches, and one at each doubling; and look number i, from 0, has the level
 * p / 2^(i + 1), which is no more than p for all looks together (Bonferroni). */
size_t clickthrough_look_at(size_t least, unsigned look);
double clickthrough_look_level(double p, unsigned look);

#endif
