#include "index/parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { THREADS_MAX = 64 };

typedef struct parallel_work {
    void (*f)(void *context, size_t chunk);
    void *context;
    size_t chunks;
    atomic_size_t next;
} parallel_work;

static void *take_chunks(void *argument)
{
    parallel_work *w = argument;
    for (;;) {
        size_t chunk = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
        if (chunk >= w->chunks)
            return NULL;
        w->f(w->context, chunk);
    }
}

void parallel_run(unsigned threads, size_t chunks, void (*f)(void *context, size_t chunk), void *context)
{
    parallel_work w = {.f = f, .context = context, .chunks = chunks};
    pthread_t others[THREADS_MAX];
    size_t started = 0;
    atomic_init(&w.next, 0);
    while (started + 1 < threads && started + 1 < chunks && started < THREADS_MAX &&
           pthread_create(&others[started], NULL, take_chunks, &w) == 0)
        started++;
    take_chunks(&w);
    for (size_t i = 0; i < started; i++)
        pthread_join(others[i], NULL);
}
