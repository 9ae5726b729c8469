#include "base/queue.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { SPARE_NODES = 256 /* kept for the next items */ };

typedef struct node {
    struct node *next;
    void *item;
} node;

typedef struct lane {
    node *head, **tail;
    atomic_size_t length; /* changed under the lock, read without */
} lane;

struct queue {
    pthread_mutex_t lock; /* guards all below; a leaf: no lock is taken under it */
    /* Signalled without the lock: a thread that wakes while it is held goes to sleep
     * once more, on the lock, and needs a second wake-up. So whoever destroys the queue
     * must have waited for those who push, not only for what they pushed. */
    pthread_cond_t filled;
    lane lanes[2];
    node *spare; /* nodes without an item */
    size_t spare_count;
    size_t capacity;
    size_t idle;         /* threads in queue_pop that have nothing yet */
    atomic_size_t calls; /* of queue_call that no thread has answered; as length */
    bool attended;       /* one of the idle threads looks again and again: it needs no signal */
    atomic_bool closed;  /* as length */
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

static void free_node(queue *q, node *n)
{
    if (q->spare_count == SPARE_NODES) {
        free(n);
        return;
    }
    n->next = q->spare;
    q->spare = n;
    q->spare_count++;
}

/* Under the lock; the allocator is asked without it. */
static node *new_node(queue *q)
{
    node *n = q->spare;
    if (n != NULL) {
        q->spare = n->next;
        q->spare_count--;
        return n;
    }
    pthread_mutex_unlock(&q->lock);
    n = malloc(sizeof *n);
    pthread_mutex_lock(&q->lock);
    return n;
}

static void *take(queue *q, queue_lane which)
{
    lane *l = &q->lanes[which];
    node *n = l->head;
    if (n == NULL)
        return NULL;
    l->head = n->next;
    if (l->head == NULL)
        l->tail = &l->head;
    l->length--;
    void *item = n->item;
    free_node(q, n);
    return item;
}

static void *take_any(queue *q)
{
    void *item = take(q, QUEUE_FAST);
    return item != NULL ? item : take(q, QUEUE_SLOW);
}

void queue_destroy(queue *q)
{
    if (q == NULL)
        return;
    while (take_any(q) != NULL)
        ;
    for (node *n = q->spare, *next; n != NULL; n = next) {
        next = n->next;
        free(n);
    }
    pthread_cond_destroy(&q->filled);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

/* Under the lock: whether there is more to do than the thread that attends will see. */
static bool needs_signal(const queue *q)
{
    return q->lanes[QUEUE_FAST].length + q->lanes[QUEUE_SLOW].length + q->calls > q->attended;
}

sem_status queue_push(queue *q, queue_lane which, void *item)
{
    pthread_mutex_lock(&q->lock);
    node *n = new_node(q);
    lane *l = &q->lanes[which];
    sem_status status = q->closed                                                     ? SEM_UNAVAILABLE
                        : n == NULL || (q->capacity != 0 && l->length >= q->capacity) ? SEM_RESOURCE_EXHAUSTED
                                                                                      : SEM_OK;
    if (status == SEM_OK) {
        *n = (node){.item = item};
        *l->tail = n;
        l->tail = &n->next;
        l->length++;
    }
    if (status != SEM_OK && n != NULL)
        free_node(q, n);
    bool signals = status == SEM_OK && needs_signal(q);
    pthread_mutex_unlock(&q->lock);
    if (signals)
        pthread_cond_signal(&q->filled);
    return status;
}

static bool anything(const queue *q)
{
    return q->lanes[QUEUE_FAST].length > 0 || q->lanes[QUEUE_SLOW].length > 0 || q->calls > 0 || q->closed;
}

/* Under the lock, which it gives up meanwhile. */
static void attend(queue *q, attention *a)
{
    q->attended = true;
    pthread_mutex_unlock(&q->lock);
    while (!anything(q) && attention_lasts(a))
        ;
    pthread_mutex_lock(&q->lock);
    q->attended = false;
}

void *queue_pop_called(queue *q, attention *a, bool *called)
{
    pthread_mutex_lock(&q->lock);
    void *item;
    q->idle++;
    for (bool attends = a != NULL; (item = take_any(q)) == NULL && !q->closed && q->calls == 0; attends = false) {
        if (attends && !q->attended)
            attend(q, a);
        else
            pthread_cond_wait(&q->filled, &q->lock);
    }
    q->idle--;
    *called = item == NULL && q->calls > 0;
    if (*called)
        q->calls--;
    pthread_mutex_unlock(&q->lock);
    return item;
}

bool queue_call(queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool spare = q->idle > q->calls + q->lanes[QUEUE_FAST].length + q->lanes[QUEUE_SLOW].length;
    if (spare)
        q->calls++;
    bool signals = spare && needs_signal(q);
    pthread_mutex_unlock(&q->lock);
    if (signals)
        pthread_cond_signal(&q->filled);
    return spare;
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
    q->idle++;
    while ((item = take_any(q)) == NULL && !q->closed) {
        if (timeout_ms < 0)
            pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT) {
            item = take_any(q);
            break;
        }
    }
    q->idle--;
    pthread_mutex_unlock(&q->lock);
    return item;
}

void *queue_try_pop(queue *q, bool any_lane)
{
    pthread_mutex_lock(&q->lock);
    void *item = any_lane ? take_any(q) : take(q, QUEUE_FAST);
    pthread_mutex_unlock(&q->lock);
    return item;
}

/* Takes *link out of the lane. */
static void *unlink_node(queue *q, lane *l, node **link)
{
    node *n = *link;
    void *item = n->item;
    *link = n->next;
    if (l->tail == &n->next)
        l->tail = link;
    l->length--;
    free_node(q, n);
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
        if (wanted((*link)->item, context))
            items[taken++] = unlink_node(q, l, link);
        else
            link = &(*link)->next;
    }
    pthread_mutex_unlock(&q->lock);
    return taken;
}

size_t queue_take_chosen(queue *q, queue_lane which, queue_choose *choose, void *context, void **items)
{
    bool take[QUEUE_WINDOW] = {false};
    size_t count = 0, taken = 0;
    pthread_mutex_lock(&q->lock);
    lane *l = &q->lanes[which];
    for (const node *n = l->head; n != NULL && count < QUEUE_WINDOW; n = n->next)
        items[count++] = n->item;
    choose(context, items, count, q->idle, take);
    node **link = &l->head;
    for (size_t i = 0; i < count; i++) {
        if (take[i])
            items[taken++] = unlink_node(q, l, link);
        else
            link = &(*link)->next;
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

size_t queue_length(const queue *q, queue_lane which)
{
    return q->lanes[which].length;
}
