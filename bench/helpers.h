/* Threads that help with one text, as idle workers of the daemon do: they sleep until
 * one comes. */
#ifndef SEM_BENCH_HELPERS_H
#define SEM_BENCH_HELPERS_H

#include "base/crew.h"
#include "base/status.h"
#include "model/encoder.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: nobody helps. */
typedef struct helpers {
    crew *crew;   /* owned */
    sem_t wanted; /* posted once for each helper and text */
    atomic_bool over;
    pthread_t threads[CREW_MEMBERS_MAX];
    size_t started;
} helpers;

/* threads: those at one text, the caller's included; more than CREW_MEMBERS_MAX are that
 * many, and with one nobody helps. h: all zero before. */
sem_status helpers_start(helpers *h, size_t threads, sem_error *err);

/* Waits for their end; *h is all zero then. Accepts what was not started. */
void helpers_stop(helpers *h);

/* encoder_forward(), with their help where the texts are as few as the daemon's workers help
 * with. One thread at a time. */
sem_status helpers_forward(helpers *h, const encoder *e, encoder_scratch *s, const int32_t *ids,
                           const uint32_t *lengths, size_t count, float *out, sem_error *err);

#endif
