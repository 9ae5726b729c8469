#include "base/patience.h"

#include "base/niceness.h"

#include <stdio.h>

/* Percent of the time in which they could have run. Between the two lies what PATIENCE_NICE gets beside threads that
 * never rest, so that it is kept as long as they don't. */
enum { STARVING_PERCENT = 3, WELL_PERCENT = 30 };
static const uint64_t WINDOW_NS =
    5000000000; /* of all threads together: a shorter burst of others is to be waited for */

static bool is_patient(niceness n)
{
    return n.added >= NICENESS_IDLE && n.patience != NULL;
}

int patience_nice(niceness n)
{
    return is_patient(n) && atomic_load(&n.patience->starving) ? PATIENCE_NICE : n.added;
}

static patience_times now(void)
{
    unsigned long long run = 0, wait = 0;
    FILE *in = fopen("/proc/thread-self/schedstat", "re");
    const bool read = in != NULL && fscanf(in, "%llu %llu", &run, &wait) == 2;
    if (in != NULL)
        fclose(in);
    return read ? (patience_times){run, wait} : (patience_times){0};
}

patience_times patience_begin(niceness n)
{
    return is_patient(n) ? now() : (patience_times){0};
}

void patience_note(thread_patience *p, uint64_t ran_ns, uint64_t waited_ns)
{
    const uint64_t some = atomic_fetch_add(&p->ran, ran_ns) + ran_ns;
    const uint64_t all = some + atomic_fetch_add(&p->waited, waited_ns) + waited_ns;
    if (all < WINDOW_NS)
        return;
    atomic_store(&p->ran, 0);
    atomic_store(&p->waited, 0);
    if (some < all / 100 * STARVING_PERCENT)
        atomic_store(&p->starving, true);
    else if (some > all / 100 * WELL_PERCENT)
        atomic_store(&p->starving, false);
}

void patience_end(niceness n, patience_times began)
{
    if (!is_patient(n))
        return;
    const patience_times ended = now();
    if (ended.ran_ns >= began.ran_ns && ended.waited_ns >= began.waited_ns)
        patience_note(n.patience, ended.ran_ns - began.ran_ns, ended.waited_ns - began.waited_ns);
}
