#include "base/crew.h"

#include "base/checked.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum {
    CACHE_LINE = 64,
    SPINS = 4000,  /* looks at the ticket before a thread yields: tens of microseconds */
    PATIENCE = 100 /* times that a helper yields before it leaves */
};

/* A ticket: the phase's number in the upper half, then the end and the beginning of the
 * chunks that nobody has claimed. The leader takes the first of them, helpers the last. A
 * claim is one compare-and-swap, which fails when the phase has passed meanwhile. */
#define TICKET(phase, chunks) ((uint64_t)(phase) << 32 | (uint64_t)(chunks) << 16)

struct crew {
    _Alignas(CACHE_LINE) atomic_uint_least64_t ticket;
    /* Written by the leader before the ticket that lets others claim. A thread reads
     * them only while it holds a chunk that is not done, so they are not written
     * again meanwhile. */
    crew_function *function;
    void *context;
    uint32_t phase; /* the leader's */
    /* Chunks of this phase that helpers have done. */
    _Alignas(CACHE_LINE) atomic_size_t done;
    _Alignas(CACHE_LINE) atomic_bool led;
    atomic_uint inside; /* a bit for each member that is a helper's */
    size_t members;
};

sem_status crew_create(crew **out, size_t members, sem_error *err)
{
    if (members < 1 || members > CREW_MEMBERS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a crew of %zu threads, expected 1 to %d", members,
                        CREW_MEMBERS_MAX);
    crew *c = checked_alloc_aligned(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "a crew");
    memset(c, 0, sizeof *c);
    c->members = members;
    *out = c;
    return SEM_OK;
}

void crew_destroy(crew *c)
{
    free(c);
}

size_t crew_members(const crew *c)
{
    return c->members;
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* --- chunks */

static bool claim(crew *c, bool leads, size_t *chunk)
{
    uint64_t ticket = atomic_load_explicit(&c->ticket, memory_order_relaxed);
    for (;;) {
        size_t first = ticket & 0xFFFF, end = ticket >> 16 & 0xFFFF;
        if (first >= end)
            return false;
        const uint64_t left = leads ? ticket + 1 : ticket - ((uint64_t)1 << 16);
        if (atomic_compare_exchange_weak_explicit(&c->ticket, &ticket, left, memory_order_acquire,
                                                  memory_order_relaxed)) {
            *chunk = leads ? first : end - 1;
            return true;
        }
        pause_briefly();
    }
}

bool crew_lead(crew *c)
{
    return c->members > 1 && !atomic_load_explicit(&c->led, memory_order_relaxed) &&
           !atomic_exchange_explicit(&c->led, true, memory_order_acquire);
}

void crew_dismiss(crew *c)
{
    atomic_store_explicit(&c->led, false, memory_order_release);
}

void crew_run(crew *c, crew_function *f, void *context, size_t chunks)
{
    size_t own = 0;
    c->function = f;
    c->context = context;
    c->phase++;
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    atomic_store_explicit(&c->ticket, TICKET(c->phase, chunks), memory_order_release);
    for (size_t chunk; claim(c, true, &chunk); own++)
        f(context, chunk, 0);
    for (unsigned looks = 0; own + atomic_load_explicit(&c->done, memory_order_acquire) < chunks; looks++) {
        if (looks < SPINS)
            pause_briefly();
        else
            sched_yield();
    }
}

/* --- helpers */

/* The lowest free member's number, 0 where there is none. */
static size_t enter(crew *c)
{
    unsigned inside = atomic_load_explicit(&c->inside, memory_order_relaxed);
    for (size_t member = 1; member < c->members;) {
        if ((inside & 1u << member) != 0)
            member++;
        else if (atomic_compare_exchange_weak_explicit(&c->inside, &inside, inside | 1u << member, memory_order_acquire,
                                                       memory_order_relaxed))
            return member;
        else
            member = 1;
    }
    return 0;
}

void crew_help(crew *c, bool (*leave)(void *context), void *context)
{
    size_t member = enter(c);
    if (member == 0)
        return;
    unsigned looks = 0;
    while (atomic_load_explicit(&c->led, memory_order_relaxed) && !leave(context) && looks < SPINS + PATIENCE) {
        size_t chunk;
        if (claim(c, false, &chunk)) {
            c->function(c->context, chunk, member);
            atomic_fetch_add_explicit(&c->done, 1, memory_order_release);
            looks = 0;
        } else if (++looks < SPINS) {
            pause_briefly();
        } else {
            sched_yield();
        }
    }
    atomic_fetch_and_explicit(&c->inside, ~(1u << member), memory_order_release);
}
