/* How long a thread that waits for work looks for it before it sleeps. Waking a thread
 * takes longer than most searches do where the processor has nothing else to do and
 * sleeps as well; but where others need the processor, looking only takes it from them.
 * Who looks again and again gives way to whoever can run, notices when it was kept from the
 * processor, and then stops for a while. */
#ifndef SEM_BASE_ATTENTION_H
#define SEM_BASE_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

/* Of one thread. Zero but for look_ns: nothing has happened yet. */
typedef struct attention {
    uint64_t look_ns;   /* after which it sleeps; 0: always at once */
    uint64_t until_ns;  /* all by the monotonic clock */
    uint64_t before_ns; /* the last look */
    uint64_t again_ns;  /* not before then */
} attention;

/* Something has come: more may. */
void attention_begin(attention *a);

/* Nothing is looked for in the next while: there is more to do than to wait. */
void attention_pause(attention *a);

/* Before each look: false when it is time to sleep. */
bool attention_lasts(attention *a);

#endif
