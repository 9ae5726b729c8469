#include "base/attention.h"

#include "base/clock.h"

#include <sched.h>

enum {
    LOST_NS = 100000,    /* between two looks: another thread had the processor, and not for a moment only */
    PAUSE_NS = 20000000, /* until it is tried again */
    /* The same where it was lost: whoever took it is likely to go on for a while, and each look
     * that gives way to it costs a time slice. */
    BUSY_NS = 1000000000
};

void attention_begin(attention *a)
{
    a->before_ns = clock_monotonic_ns();
    a->until_ns = a->before_ns + a->look_ns;
}

void attention_pause(attention *a)
{
    a->again_ns = clock_monotonic_ns() + PAUSE_NS;
}

bool attention_lasts(attention *a)
{
    if (a->look_ns == 0)
        return false;
    const uint64_t now = clock_monotonic_ns();
    if (now < a->again_ns || now >= a->until_ns)
        return false;
    if (now - a->before_ns > LOST_NS)
        a->again_ns = now + BUSY_NS;
    a->before_ns = now;
    /* Whoever is woken on this processor meanwhile would otherwise wait for this thread to sleep. */
    (void)sched_yield();
    return now >= a->again_ns;
}
