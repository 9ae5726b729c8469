/* The one way in which threads hand over work: a bounded first-in first-out
 * queue with two lanes. What lies in the fast lane is taken first. */
#ifndef SEM_BASE_QUEUE_H
#define SEM_BASE_QUEUE_H

#include "base/attention.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct queue queue;

typedef enum queue_lane { QUEUE_FAST, QUEUE_SLOW } queue_lane;

/* A queue for at most capacity items in each lane (0: no limit). */
sem_status queue_create(queue **out, size_t capacity, sem_error *err);

/* Accepts NULL. Items still inside are not freed: drain it first. */
void queue_destroy(queue *q);

/* Hands over item (not NULL). SEM_RESOURCE_EXHAUSTED when the lane is full,
 * SEM_UNAVAILABLE when the queue is closed; then the item stays the caller's. */
sem_status queue_push(queue *q, queue_lane lane, void *item);

/* Takes the next item, waiting up to timeout_ms (-1: for ever). NULL on
 * time-out, or when the queue is closed and empty. */
void *queue_pop(queue *q, int timeout_ms);

/* Like queue_pop for ever, but also returns, with NULL and *called, when queue_call
 * wants this thread; items come first. For queues of which every thread that waits
 * does so by this function. One thread at a time looks again and again, as long as *a
 * lasts (NULL: not at all), before it sleeps. */
void *queue_pop_called(queue *q, attention *a, bool *called);

/* Calls one of the threads that wait with nothing to take; false where there is
 * none. What a thread does that is called is for the two to agree on. */
bool queue_call(queue *q);

/* Like queue_pop, but takes only an item of the fast lane, or of either when
 * any_lane; never waits. */
void *queue_try_pop(queue *q, bool any_lane);

/* Takes every item that lies in the lane and for which wanted(item, context)
 * holds, up to max, into items[]; the others keep their order. Returns how many. */
size_t queue_take_matching(queue *q, queue_lane lane, bool (*wanted)(const void *item, void *context), void *context,
                           void **items, size_t max);

enum { QUEUE_WINDOW = 256 /* oldest items of a lane that a choice is made among */ };

/* Marks in take[count], which is all false, the items to be taken. idle: threads
 * that wait in queue_pop now, each of which will take something of what is left.
 * Runs under the queue's lock: short, and without another lock. */
typedef void queue_choose(void *context, void *const *items, size_t count, size_t idle, bool *take);

/* Takes what choose marks among the oldest items of a lane into
 * items[QUEUE_WINDOW]; the others keep their order. Returns how many. */
size_t queue_take_chosen(queue *q, queue_lane lane, queue_choose *choose, void *context, void **items);

/* No more pushes; poppers drain what is left and then get NULL. */
void queue_close(queue *q);

/* As it was a moment ago; takes no lock. */
size_t queue_length(const queue *q, queue_lane lane);

#endif
