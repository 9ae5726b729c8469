/* Which queries share a forward pass. */
#include "tests/common/testing.h"

#include "daemon/batch.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };

static task tasks[MOST];
static request requests[MOST];
static span texts[MOST][16];
static size_t count;

/* One more that waits: a search, or an encode of `number` texts, of so many bytes each. */
static task *add(rpc_method method, size_t number, size_t bytes, uint64_t arrived)
{
    static const char letters[4096];
    request *r = &requests[count];
    task *t = &tasks[count];
    *r = (request){.method = method};
    *t = (task){.request = r, .arrived_ns = arrived};
    ck_assert_uint_le(number, 16);
    for (size_t i = 0; i < number; i++)
        texts[count][i] = (span){letters, bytes};
    if (method == METHOD_SEARCH) {
        r->u.search.query = texts[count][0];
    } else {
        r->u.encode.texts = texts[count];
        r->u.encode.count = number;
    }
    batch_measure(t);
    count++;
    return t;
}

static void start(void)
{
    count = 0;
}

/* Chooses for tasks[0] among the others; taken[i] says whether tasks[i] goes along. */
static size_t choose(size_t budget, size_t idle, uint64_t overdue, bool *taken)
{
    void *items[QUEUE_WINDOW];
    bool take[QUEUE_WINDOW] = {false};
    size_t tokens = tasks[0].batch_tokens;
    batch_choice c = {.first = &tasks[0], .budget = budget, .overdue = overdue};
    for (size_t i = 1; i < count; i++)
        items[i - 1] = &tasks[i];
    batch_choose(&c, items, count - 1, idle, take);
    taken[0] = true;
    for (size_t i = 1; i < count; i++) {
        taken[i] = take[i - 1];
        tokens += taken[i] ? tasks[i].batch_tokens : 0;
    }
    return tokens;
}

static size_t number_of(const bool *taken)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += taken[i];
    return n;
}

START_TEST(what_waits_is_shared_out_among_the_idle)
{
    bool taken[MOST];
    start();
    for (int i = 0; i < 32; i++)
        add(METHOD_SEARCH, 1, 40, 1);
    choose(100000, 0, 0, taken);
    ck_assert_uint_eq(number_of(taken), 32);
    choose(100000, 1, 0, taken);
    ck_assert_uint_eq(number_of(taken), 16);
    choose(100000, 3, 0, taken);
    ck_assert_uint_eq(number_of(taken), 8);
    choose(100000, 31, 0, taken);
    ck_assert_uint_eq(number_of(taken), 1);
}
END_TEST

START_TEST(a_batch_keeps_to_its_budget)
{
    bool taken[MOST];
    start();
    for (int i = 0; i < 60; i++)
        add(METHOD_SEARCH, 1, 20 + 10 * (size_t)i, 1);
    for (size_t budget = 16; budget < 2000; budget += 50) {
        size_t tokens = choose(budget, 0, 0, taken);
        ck_assert(tokens <= budget || number_of(taken) == 1);
    }
    /* A text that is too long for every batch goes alone. */
    start();
    add(METHOD_SEARCH, 1, 4000, 1);
    add(METHOD_SEARCH, 1, 10, 1);
    choose(64, 0, 0, taken);
    ck_assert_uint_eq(number_of(taken), 1);
}
END_TEST

START_TEST(like_lengths_go_together)
{
    bool taken[MOST];
    start();
    for (int i = 0; i < 40; i++)
        add(METHOD_SEARCH, 1, i % 2 == 0 ? 40 : 800, 1);
    choose(20 * 12, 0, 0, taken); /* as many as all short ones need */
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(taken[i], i % 2 == 0);
}
END_TEST

START_TEST(who_waited_beyond_the_deadline_comes_first)
{
    bool taken[MOST];
    start();
    add(METHOD_SEARCH, 1, 40, 100);
    for (int i = 0; i < 10; i++)
        add(METHOD_SEARCH, 1, 40, 200);
    add(METHOD_SEARCH, 1, 800, 50);
    add(METHOD_SEARCH, 1, 800, 150);
    size_t tokens = choose(12 + 202 + 2 * 12, 0, 60, taken);
    ck_assert(taken[11]);
    ck_assert(!taken[12]);
    ck_assert_uint_eq(tokens, 12 + 202 + 2 * 12); /* and the rest of the budget is filled */
    choose(12 + 202 + 2 * 12, 0, 0, taken);
    ck_assert(!taken[11]);
}
END_TEST

START_TEST(encodes_join_searches_and_long_ones_do_not)
{
    bool taken[MOST];
    start();
    add(METHOD_SEARCH, 1, 40, 1);
    add(METHOD_ENCODE, 1, 40, 1);
    add(METHOD_ENCODE, 8, 40, 1);
    add(METHOD_ENCODE, 9, 40, 1);   /* too many texts */
    add(METHOD_ENCODE, 8, 2000, 1); /* too long together */
    requests[count] = (request){.method = METHOD_GET};
    tasks[count] = (task){.request = &requests[count]};
    batch_measure(&tasks[count++]);
    requests[count] = (request){.method = METHOD_SEARCH, .u.search.has_like = true};
    tasks[count] = (task){.request = &requests[count]};
    batch_measure(&tasks[count++]);
    choose(100000, 0, 0, taken);
    static const bool expected[] = {true, true, true, false, false, false, false};
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(taken[i], expected[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *tests = tcase_create("batch");
    tcase_add_test(tests, what_waits_is_shared_out_among_the_idle);
    tcase_add_test(tests, a_batch_keeps_to_its_budget);
    tcase_add_test(tests, like_lengths_go_together);
    tcase_add_test(tests, who_waited_beyond_the_deadline_comes_first);
    tcase_add_test(tests, encodes_join_searches_and_long_ones_do_not);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
