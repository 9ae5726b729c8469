/* The data sets of the simulation. */
#ifndef SEM_BENCH_CLICKSIM_SETS_H
#define SEM_BENCH_CLICKSIM_SETS_H

#include "bench/clicksim/world.h"

typedef struct sets_places {
    const char *packages; /* the demonstration's packages.jsonl */
    const char *data;     /* folder of medquad/ and cranfield/ */
    size_t documents;     /* at most so many, those that nobody asks for left out first; 0: all */
} sets_places;

/* Names of the sets, ended by NULL:
 *   italian    5,000 long English package descriptions; people ask with the Italian one-line ones
 *              of 2,560; 500 others are held out in Italian, and kept in English
 *   medquad    answers on diseases of four sites; people ask GARD's questions on four fifths of the
 *              diseases; 500 on the others are held out, 500 of the other sites' are kept
 *   cranfield  1,400 abstracts; half of the 225 judged queries is asked, half held out
 *   words      512 short texts of three words each, of which every query calls the first by another
 *              name: needs no files, and a model of two layers learns it in seconds */
extern const char *const sets_names[];

/* Reads the set `name` into w, which is all zero. Freed by world_free() on errors too. */
sem_status sets_load(world *w, const char *name, const sets_places *places, sem_error *err);

#endif
