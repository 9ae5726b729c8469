#include "base/niceness.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NICEST = 19,
    LONG_SLICE_NS = 100 * 1000 * 1000 /* the longest that there is */
};

/* The first version of what the system call takes; C libraries before 2024 have none. */
typedef struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} scheduling;

/* A thread that wakes takes the processor at once from one that asks for longer turns: "EEVDF", Stoica and Abdel-Wahab
 * 1995, has them wait for later deadlines. Its share stays what the nice value says. Other threads ask for 3 ms. */
static void ask_for_long_turns(int nice)
{
    scheduling s = {.size = sizeof s, .policy = SCHED_OTHER, .nice = nice, .runtime = LONG_SLICE_NS};
    (void)syscall(SYS_sched_setattr, 0, &s, 0); /* older systems know no turns, and give way sooner */
}

static sem_status be_idle(void)
{
    const struct sched_param none = {0};
    return sched_setscheduler(0, SCHED_IDLE, &none) == 0 ? SEM_OK : SEM_INTERNAL;
}

sem_status niceness_add(int added, sem_error *err)
{
    if (added == 0 || sched_getscheduler(0) == SCHED_IDLE)
        return SEM_OK;
    if (added >= NICENESS_IDLE && be_idle() == SEM_OK)
        return SEM_OK; /* else as nice as can be */
    const id_t thread = (id_t)gettid();
    errno = 0;
    const int now = getpriority(PRIO_PROCESS, thread);
    if (now == -1 && errno != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot read the priority of a thread: %s", strerror(errno));
    const int wanted = now + added < NICEST ? now + added : NICEST;
    if (wanted != now && setpriority(PRIO_PROCESS, thread, wanted) != 0)
        return sem_fail(err, SEM_INTERNAL,
                        "cannot set the nice value of a thread to %d: %s (a system call filter such as "
                        "SystemCallFilter=~@resources forbids it)",
                        wanted, strerror(errno));
    ask_for_long_turns(wanted);
    return SEM_OK;
}
