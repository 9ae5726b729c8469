#include "base/patience.h"

#include "base/niceness.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

/* Percent of the time in which they could have run. Between the two lies what PATIENCE_NICE gets beside threads that
 * never rest, so that it is kept as long as they don't. */
enum { STARVING_PERCENT = 3, WELL_PERCENT = 30 };
static const uint64_t WINDOW_NS =
    5000000000; /* of all threads together: a shorter burst of others is to be waited for */

static atomic_bool starving;
static atomic_uint_least64_t ran, waited; /* since the last decision */

int patience_nice(int wanted)
{
    return wanted >= NICENESS_IDLE && atomic_load(&starving) ? PATIENCE_NICE : wanted;
}

patience_times patience_now(void)
{
    unsigned long long run = 0, wait = 0;
    FILE *in = fopen("/proc/thread-self/schedstat", "re");
    const bool read = in != NULL && fscanf(in, "%llu %llu", &run, &wait) == 2;
    if (in != NULL)
        fclose(in);
    return read ? (patience_times){run, wait} : (patience_times){0};
}

void patience_note(uint64_t ran_ns, uint64_t waited_ns)
{
    const uint64_t some = atomic_fetch_add(&ran, ran_ns) + ran_ns;
    const uint64_t all = some + atomic_fetch_add(&waited, waited_ns) + waited_ns;
    if (all < WINDOW_NS)
        return;
    atomic_store(&ran, 0);
    atomic_store(&waited, 0);
    if (some < all / 100 * STARVING_PERCENT)
        atomic_store(&starving, true);
    else if (some > all / 100 * WELL_PERCENT)
        atomic_store(&starving, false);
}

void patience_note_since(patience_times began)
{
    const patience_times now = patience_now();
    if (now.ran_ns >= began.ran_ns && now.waited_ns >= began.waited_ns)
        patience_note(now.ran_ns - began.ran_ns, now.waited_ns - began.waited_ns);
}
