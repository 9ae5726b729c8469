#include "base/queue.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

typedef struct node {
    struct node *next;
    void *item;
} node;

typedef struct lane {
    node *head, **tail;
    size_t length;
} lane;

struct queue {
    pthread_mutex_t lock; /* guards all below; a leaf: no lock is taken under it */
    pthread_cond_t filled;
    lane lanes[2];
    size_t capacity;
    bool closed;
};

sem_status queue_create(queue **out, size_t capacity, sem_error *err)
{
    queue *q = calloc(1, sizeof *q);
    if (q == NULL)
        return sem_fail_memory(err, "a queue");
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, &attributes);
    pthread_condattr_destroy(&attributes);
    q->capacity = capacity;
    for (int i = 0; i < 2; i++)
        q->lanes[i].tail = &q->lanes[i].head;
    *out = q;
    return SEM_OK;
}

static void *take(lane *l)
{
    node *n = l->head;
    if (n == NULL)
        return NULL;
    l->head = n->next;
    if (l->head == NULL)
        l->tail = &l->head;
    l->length--;
    void *item = n->item;
    free(n);
    return item;
}

void queue_destroy(queue *q)
{
    if (q == NULL)
        return;
    for (int i = 0; i < 2; i++)
        while (take(&q->lanes[i]) != NULL)
            ;
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

sem_status queue_push(queue *q, queue_lane which, void *item)
{
    node *n = malloc(sizeof *n);
    if (n == NULL)
        return SEM_RESOURCE_EXHAUSTED;
    *n = (node){.item = item};
    pthread_mutex_lock(&q->lock);
    lane *l = &q->lanes[which];
    sem_status status = q->closed                                      ? SEM_UNAVAILABLE
                        : q->capacity != 0 && l->length >= q->capacity ? SEM_RESOURCE_EXHAUSTED
                                                                       : SEM_OK;
    if (status == SEM_OK) {
        *l->tail = n;
        l->tail = &n->next;
        l->length++;
        pthread_cond_signal(&q->filled);
    }
    pthread_mutex_unlock(&q->lock);
    if (status != SEM_OK)
        free(n);
    return status;
}

static void *take_any(queue *q)
{
    void *item = take(&q->lanes[QUEUE_FAST]);
    return item != NULL ? item : take(&q->lanes[QUEUE_SLOW]);
}

void *queue_pop(queue *q, int timeout_ms)
{
    struct timespec until;
    if (timeout_ms >= 0) {
        uint64_t end = clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000u;
        until = (struct timespec){.tv_sec = (time_t)(end / 1000000000u), .tv_nsec = (long)(end % 1000000000u)};
    }
    pthread_mutex_lock(&q->lock);
    void *item;
    while ((item = take_any(q)) == NULL && !q->closed) {
        if (timeout_ms < 0)
            pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT) {
            item = take_any(q);
            break;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void *queue_try_pop(queue *q, bool any_lane)
{
    pthread_mutex_lock(&q->lock);
    void *item = any_lane ? take_any(q) : take(&q->lanes[QUEUE_FAST]);
    pthread_mutex_unlock(&q->lock);
    return item;
}

size_t queue_take_matching(queue *q, queue_lane which, bool (*wanted)(const void *item, void *context), void *context,
                           void **items, size_t max)
{
    size_t taken = 0;
    pthread_mutex_lock(&q->lock);
    lane *l = &q->lanes[which];
    node **link = &l->head;
    while (*link != NULL && taken < max) {
        node *n = *link;
        if (!wanted(n->item, context)) {
            link = &n->next;
            continue;
        }
        *link = n->next;
        if (l->tail == &n->next)
            l->tail = link;
        items[taken++] = n->item;
        l->length--;
        free(n);
    }
    pthread_mutex_unlock(&q->lock);
    return taken;
}

void queue_close(queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

size_t queue_length(queue *q, queue_lane which)
{
    pthread_mutex_lock(&q->lock);
    size_t length = q->lanes[which].length;
    pthread_mutex_unlock(&q->lock);
    return length;
}
