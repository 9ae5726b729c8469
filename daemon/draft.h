/* Team-draft interleaving of two rankings (Radlinski, Kurup and Joachims 2008): as two captains
 * pick players, each ranking in turn picks its best document that is not yet picked, and a coin
 * says who begins each turn. So both have as many documents in the list, at ranks as good, and
 * more clicks on the one's documents say that it is the better ranking. */
#ifndef SEM_DAEMON_DRAFT_H
#define SEM_DAEMON_DRAFT_H

#include "index/vector_index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct draft_list {
    const vector_hit *hits; /* [count] best first, no document twice */
    size_t count;
} draft_list;

/* Picks k documents, or as many as there are, into out[k]; of_second[k]: whose pick each is. Once a
 * list has nothing left to pick, the other goes on alone. toss: random bits, from which all coins are
 * tossed. *picked: how many there are. False when memory is out. */
bool draft_pick(const draft_list lists[2], size_t k, uint64_t toss, vector_hit *out, bool *of_second, size_t *picked);

#endif
