/* The queue between threads. */
#include "tests/common/testing.h"

#include "base/queue.h"

#include <pthread.h>
#include <sched.h>

typedef struct wish {
    size_t wanted; /* items that are a multiple of it */
    size_t seen, idle;
} wish;

static sem_error error;
static int numbers[2 * QUEUE_WINDOW];

static void choose_multiples(void *context, void *const *items, size_t count, size_t idle, bool *take)
{
    wish *w = context;
    w->seen = count;
    w->idle = idle;
    for (size_t i = 0; i < count; i++)
        take[i] = (size_t) * (const int *)items[i] % w->wanted == 0;
}

static queue *filled(size_t count)
{
    queue *q;
    ck_ok(queue_create(&q, 0, &error));
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (int)i;
        ck_ok(queue_push(q, QUEUE_FAST, &numbers[i]));
    }
    return q;
}

START_TEST(what_is_chosen_is_taken_and_the_rest_keeps_its_order)
{
    queue *q = filled(10);
    void *items[QUEUE_WINDOW];
    wish w = {.wanted = 3};
    ck_assert_uint_eq(queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items), 4);
    ck_assert_uint_eq(w.seen, 10);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(*(int *)items[i], 3 * i);
    static const int rest[] = {1, 2, 4, 5, 7, 8};
    ck_assert_uint_eq(queue_length(q, QUEUE_FAST), 6);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(*(int *)queue_pop(q, 0), rest[i]);
    ck_assert_ptr_null(queue_pop(q, 0));
    /* The end of the list is right when its last item was taken. */
    ck_ok(queue_push(q, QUEUE_FAST, &numbers[1]));
    ck_ok(queue_push(q, QUEUE_FAST, &numbers[3]));
    ck_assert_uint_eq(queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items), 1);
    ck_ok(queue_push(q, QUEUE_FAST, &numbers[2]));
    ck_assert_int_eq(*(int *)queue_pop(q, 0), 1);
    ck_assert_int_eq(*(int *)queue_pop(q, 0), 2);
    ck_assert_ptr_null(queue_pop(q, 0));
    queue_destroy(q);
}
END_TEST

START_TEST(a_choice_is_made_among_the_oldest_only)
{
    queue *q = filled(QUEUE_WINDOW + 5);
    void *items[QUEUE_WINDOW];
    wish w = {.wanted = 1};
    ck_assert_uint_eq(queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items), QUEUE_WINDOW);
    ck_assert_int_eq(*(int *)items[0], 0);
    ck_assert_int_eq(*(int *)queue_pop(q, 0), QUEUE_WINDOW);
    ck_assert_uint_eq(queue_length(q, QUEUE_FAST), 4);
    ck_assert_uint_eq(queue_take_chosen(q, QUEUE_SLOW, choose_multiples, &w, items), 0);
    ck_assert_uint_eq(w.seen, 0);
    while (queue_pop(q, 0) != NULL)
        ;
    queue_destroy(q);
}
END_TEST

static void *wait_for_one(void *q)
{
    return queue_pop(q, -1);
}

START_TEST(a_choice_is_told_how_many_threads_are_idle)
{
    queue *q;
    pthread_t threads[2];
    void *items[QUEUE_WINDOW];
    wish w = {.wanted = 1, .idle = 99};
    ck_ok(queue_create(&q, 0, &error));
    queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items);
    ck_assert_uint_eq(w.idle, 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_one, q), 0);
    while (w.idle < 2) { /* until both have come so far; a test that hangs is ended */
        sched_yield();
        queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items);
    }
    ck_assert_uint_eq(w.idle, 2);
    queue_close(q);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items);
    ck_assert_uint_eq(w.idle, 0);
    queue_destroy(q);
}
END_TEST

typedef struct popper {
    queue *q;
    void *item;
    bool called;
} popper;

static void *pop_called(void *argument)
{
    popper *p = argument;
    p->item = queue_pop_called(p->q, NULL, &p->called);
    return NULL;
}

static void wait_until_idle(queue *q, size_t threads)
{
    void *items[QUEUE_WINDOW];
    wish w = {.wanted = 1, .idle = 99};
    do {
        sched_yield();
        queue_take_chosen(q, QUEUE_FAST, choose_multiples, &w, items);
    } while (w.idle != threads);
}

START_TEST(a_call_wakes_one_thread_that_waits_and_none_that_an_item_is_for)
{
    queue *q;
    pthread_t threads[2];
    popper poppers[2] = {{0}};
    int item = 1;
    ck_ok(queue_create(&q, 0, &error));
    ck_assert(!queue_call(q)); /* nobody waits */
    for (int i = 0; i < 2; i++) {
        poppers[i].q = q;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, pop_called, &poppers[i]), 0);
    }
    wait_until_idle(q, 2);

    ck_ok(queue_push(q, QUEUE_SLOW, &item));
    bool first = queue_call(q), second = queue_call(q);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);

    ck_assert(first);
    ck_assert(!second);
    ck_assert(poppers[0].called != poppers[1].called);
    for (int i = 0; i < 2; i++)
        ck_assert_ptr_eq(poppers[i].item, poppers[i].called ? NULL : &item);
    queue_destroy(q);
}
END_TEST

enum { LOOK_NS = 200000, HANDED = 3000 };

/* Takes until the queue is closed, never sleeping long: *count gets how many. */
static void *take_all(void *argument)
{
    popper *p = argument;
    size_t *count = p->item;
    attention a = {.look_ns = LOOK_NS};
    for (bool called = true; called;) {
        attention_begin(&a);
        while (queue_pop_called(p->q, &a, &called) != NULL) {
            ++*count;
            attention_begin(&a);
        }
    }
    return NULL;
}

START_TEST(threads_that_attend_miss_nothing)
{
    queue *q;
    pthread_t threads[3];
    popper poppers[3];
    size_t counts[3] = {0};
    unsigned calls = 0;
    ck_ok(queue_create(&q, 0, &error));
    for (int i = 0; i < 3; i++) {
        poppers[i] = (popper){.q = q, .item = &counts[i]};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, take_all, &poppers[i]), 0);
    }

    /* Sometimes one, sometimes several at once, with and without pauses between them. */
    for (int i = 0; i < HANDED; i++) {
        ck_ok(queue_push(q, i % 3 == 0 ? QUEUE_SLOW : QUEUE_FAST, &counts));
        calls += i % 7 == 0 && queue_call(q);
        if (i % 5 != 0)
            continue;
        while (queue_length(q, QUEUE_FAST) + queue_length(q, QUEUE_SLOW) > 0)
            sched_yield();
        wait_until_idle(q, 3); /* takes what lies there, so not before it is empty */
    }
    queue_close(q);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);

    ck_assert_uint_eq(counts[0] + counts[1] + counts[2], HANDED);
    ck_assert_uint_gt(calls, 0);
    queue_destroy(q);
}
END_TEST

START_TEST(a_thread_that_attends_leaves_the_second_item_to_one_that_sleeps)
{
    queue *q;
    pthread_t sleeper, attender;
    popper asleep = {0}, awake = {0};
    int items[2];
    size_t count = 0;
    ck_ok(queue_create(&q, 0, &error));
    asleep.q = q;
    awake = (popper){.q = q, .item = &count};
    ck_assert_int_eq(pthread_create(&sleeper, NULL, pop_called, &asleep), 0);
    wait_until_idle(q, 1);
    ck_assert_int_eq(pthread_create(&attender, NULL, take_all, &awake), 0);
    wait_until_idle(q, 2);

    ck_ok(queue_push(q, QUEUE_FAST, &items[0]));
    ck_ok(queue_push(q, QUEUE_FAST, &items[1]));
    while (queue_length(q, QUEUE_FAST) > 0)
        sched_yield();
    queue_close(q);
    pthread_join(sleeper, NULL);
    pthread_join(attender, NULL);

    ck_assert_uint_eq(count + (asleep.item != NULL), 2);
    queue_destroy(q);
}
END_TEST

START_TEST(a_closed_queue_calls_nobody)
{
    queue *q;
    bool called = true;
    ck_ok(queue_create(&q, 0, &error));
    queue_close(q);
    ck_assert(!queue_call(q));
    ck_assert_ptr_null(queue_pop_called(q, NULL, &called));
    ck_assert(!called);
    queue_destroy(q);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("queue");
    TCase *tests = tcase_create("queue");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_is_chosen_is_taken_and_the_rest_keeps_its_order);
    tcase_add_test(tests, a_choice_is_made_among_the_oldest_only);
    tcase_add_test(tests, a_choice_is_told_how_many_threads_are_idle);
    tcase_add_test(tests, a_call_wakes_one_thread_that_waits_and_none_that_an_item_is_for);
    tcase_add_test(tests, threads_that_attend_miss_nothing);
    tcase_add_test(tests, a_thread_that_attends_leaves_the_second_item_to_one_that_sleeps);
    tcase_add_test(tests, a_closed_queue_calls_nobody);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
