#include "base/niceness.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NICEST = 19 };

sem_status niceness_add(int added, sem_error *err)
{
    if (added == 0)
        return SEM_OK;
    const id_t thread = (id_t)gettid();
    errno = 0;
    const int now = getpriority(PRIO_PROCESS, thread);
    if (now == -1 && errno != 0)
        return sem_fail(err, SEM_INTERNAL, "cannot read the priority of a thread: %s", strerror(errno));
    const int wanted = now + added < NICEST ? now + added : NICEST;
    if (wanted == now || setpriority(PRIO_PROCESS, thread, wanted) == 0)
        return SEM_OK;
    return sem_fail(err, SEM_INTERNAL,
                    "cannot set the nice value of a thread to %d: %s (a system call filter such as "
                    "SystemCallFilter=~@resources forbids it)",
                    wanted, strerror(errno));
}
