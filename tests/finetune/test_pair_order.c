/* Which pairs come together, and how often. */
#include "tests/common/testing.h"

#include "finetune/pair_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

enum { NEW = 100, REPLAYED = 1000, OWN = 3000, ALL = NEW + REPLAYED + OWN };

static train_origin origin_of(size_t i)
{
    return i % ALL < NEW ? TRAIN_NEW : i % ALL < NEW + REPLAYED ? TRAIN_REPLAYED : TRAIN_OWN_TEXT;
}

/* Pairs of all origins in `domains` domains; none shares a document or a query with another. */
static train_pair *make(size_t count, uint32_t domains)
{
    train_pair *pairs = calloc(count, sizeof *pairs);
    ck_assert_ptr_nonnull(pairs);
    for (size_t i = 0; i < count; i++)
        pairs[i] = (train_pair){.document_key = 2 * i,
                                .query_key = 2 * i + 1,
                                .weight = 1,
                                .domain = (uint32_t)(i % domains),
                                .origin = origin_of(i)};
    return pairs;
}

static pair_order *open_order(const train_pair *pairs, size_t count, size_t batch, double temperature, double mixed)
{
    pair_order *o = NULL;
    const pair_order_options options = {
        .batch_size = batch, .temperature = temperature, .mixed_share = mixed, .seed = testing_seed()};
    ck_ok(pair_order_create(&o, pairs, count, &options, &error));
    return o;
}

/* Reads the order's next epoch: how often each pair came. */
static size_t read_epoch(pair_order *o, size_t pairs, size_t *times)
{
    size_t count = 0;
    const uint32_t *members;
    for (size_t n; count < pairs; count += n) {
        ck_ok(pair_order_next(o, &members, &n, &error));
        ck_assert_uint_gt(n, 0);
        for (size_t i = 0; i < n; i++)
            times[members[i]]++;
    }
    return count;
}

START_TEST(an_epoch_has_new_pairs_once_and_of_the_others_what_the_temperature_says)
{
    static const double temperatures[] = {1, 2, 5, 1e6};
    const double t = temperatures[_i];
    const double masses[] = {pow(NEW, 1 / t), pow(REPLAYED, 1 / t), pow(OWN, 1 / t)};
    train_pair *pairs = make(ALL, 1);
    pair_order *o = open_order(pairs, ALL, 32, t, 0);
    const size_t *drawn = pair_order_drawn(o), epoch = drawn[0] + drawn[1] + drawn[2];
    ck_assert_uint_eq(drawn[TRAIN_NEW], NEW);
    for (size_t i = 1; i < TRAIN_ORIGINS; i++)
        ck_assert_double_eq_tol((double)drawn[i], NEW * masses[i] / masses[0], 0.51);
    for (size_t e = 0; e < 2; e++) {
        size_t times[ALL] = {0}, found[TRAIN_ORIGINS] = {0};
        ck_assert_uint_eq(read_epoch(o, epoch, times), epoch);
        for (size_t i = 0; i < ALL; i++) {
            ck_assert_uint_le(times[i], 1);
            found[pairs[i].origin] += times[i];
        }
        ck_assert_mem_eq(found, drawn, sizeof found);
    }
    pair_order_destroy(o);
    free(pairs);
}
END_TEST

START_TEST(every_epoch_draws_others)
{
    size_t times[ALL] = {0}, never = 0, more = 0;
    train_pair *pairs = make(ALL, 1);
    pair_order *o = open_order(pairs, ALL, 32, 5, 0);
    const size_t *drawn = pair_order_drawn(o), epoch = drawn[0] + drawn[1] + drawn[2];
    for (size_t e = 0; e < 10; e++)
        (void)read_epoch(o, epoch, times);
    for (size_t i = 0; i < ALL; i++) {
        never += pairs[i].origin == TRAIN_REPLAYED && times[i] == 0;
        more += pairs[i].origin == TRAIN_REPLAYED && times[i] > 1;
        ck_assert(pairs[i].origin != TRAIN_NEW || times[i] == 10);
    }
    /* 158 of 1,000 each time: 0.842^10 of them never, 0.49 more than once. */
    ck_assert_msg(never > 120 && never < 240, "%zu never", never);
    ck_assert_msg(more > 400 && more < 580, "%zu more than once", more);
    pair_order_destroy(o);
    free(pairs);
}
END_TEST

/* With nothing new old pairs take its place, and none come more than once. */
START_TEST(without_new_pairs_old_ones_take_their_place_and_few_are_not_repeated)
{
    train_pair *pairs = make(ALL, 1);
    pair_order *o = open_order(pairs + NEW, ALL - NEW, 32, 5, 0);
    ck_assert_uint_eq(pair_order_drawn(o)[TRAIN_NEW], 0);
    ck_assert_uint_eq(pair_order_drawn(o)[TRAIN_REPLAYED], REPLAYED);
    pair_order_destroy(o);
    for (size_t i = 0; i < ALL; i++)
        pairs[i].origin = i < 50 ? TRAIN_REPLAYED : TRAIN_NEW;
    o = open_order(pairs, ALL, 32, 5, 0);
    ck_assert_uint_eq(pair_order_drawn(o)[TRAIN_NEW], ALL - 50);
    ck_assert_uint_eq(pair_order_drawn(o)[TRAIN_REPLAYED], 50);
    pair_order_destroy(o);
    free(pairs);
}
END_TEST

START_TEST(batches_are_of_one_domain_but_for_their_share)
{
    enum { DOMAINS = 3, BATCH = 20 };
    train_pair *pairs = make(ALL, DOMAINS);
    const double share = _i == 0 ? 0 : 0.25;
    pair_order *o = open_order(pairs, ALL, BATCH, 1, share);
    size_t mixed = 0, of_domain[DOMAINS] = {0};
    const uint32_t *members;
    for (size_t count = 0, n; count < ALL; count += n) {
        size_t found[DOMAINS] = {0}, most = 0;
        ck_ok(pair_order_next(o, &members, &n, &error));
        ck_assert_uint_le(n, BATCH);
        for (size_t i = 0; i < n; i++)
            found[pairs[members[i]].domain]++;
        for (size_t d = 0; d < DOMAINS; d++)
            most = found[d] > most ? found[d] : most;
        for (size_t d = 0; d < DOMAINS && most < n; d++)
            of_domain[d] += found[d];
        mixed += most < n ? n : 0;
    }
    ck_assert_double_eq_tol((double)mixed, share * ALL, 0.01 * ALL);
    for (size_t d = 0; d < DOMAINS; d++) /* in proportion */
        ck_assert_double_eq_tol((double)of_domain[d], share * ALL / DOMAINS, 0.01 * ALL);
    pair_order_destroy(o);
    free(pairs);
}
END_TEST

START_TEST(the_order_follows_from_seed_and_number_alone)
{
    enum { READ = 250 };
    train_pair *pairs = make(ALL, 4);
    pair_order *whole = open_order(pairs, ALL, 16, 5, 0.1);
    size_t counted, epochs = 0, first_epoch;
    ck_ok(pair_order_count(whole, 1, 0, &first_epoch, &error));
    ck_ok(pair_order_count(whole, 7, 0, &counted, &error));
    ck_assert_uint_gt(counted, 6 * first_epoch);
    ck_ok(pair_order_count(whole, 7, 40, &epochs, &error));
    ck_assert_uint_eq(epochs, 40);
    uint32_t kept[READ][16];
    size_t sizes[READ];
    const uint32_t *members;
    for (size_t i = 0; i < READ; i++) {
        ck_ok(pair_order_next(whole, &members, &sizes[i], &error));
        memcpy(kept[i], members, sizes[i] * sizeof *members);
    }
    ck_assert_uint_gt(READ, 3 * first_epoch);
    for (size_t from = 0; from < READ; from += 17) {
        pair_order *o = open_order(pairs, ALL, 16, 5, 0.1);
        ck_ok(pair_order_skip(o, from, &error));
        for (size_t i = from, n; i < READ; i++) {
            ck_ok(pair_order_next(o, &members, &n, &error));
            ck_assert_uint_eq(n, sizes[i]);
            ck_assert_mem_eq(members, kept[i], n * sizeof *members);
        }
        pair_order_destroy(o);
    }
    pair_order_destroy(whole);
    free(pairs);
}
END_TEST

START_TEST(impossible_options_are_refused)
{
    train_pair *pairs = make(4, 1);
    pair_order *o = NULL;
    pair_order_options options = {.batch_size = 0, .temperature = 1};
    ck_fails(pair_order_create(&o, pairs, 4, &options, &error), SEM_INVALID_ARGUMENT);
    options.batch_size = 2;
    ck_fails(pair_order_create(&o, pairs, 0, &options, &error), SEM_INVALID_ARGUMENT);
    options.temperature = 0.5;
    ck_fails(pair_order_create(&o, pairs, 4, &options, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(o);
    free(pairs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pair_order");
    TCase *tests = tcase_create("pair_order");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, an_epoch_has_new_pairs_once_and_of_the_others_what_the_temperature_says, 0, 4);
    tcase_add_test(tests, every_epoch_draws_others);
    tcase_add_test(tests, without_new_pairs_old_ones_take_their_place_and_few_are_not_repeated);
    tcase_add_loop_test(tests, batches_are_of_one_domain_but_for_their_share, 0, 2);
    tcase_add_test(tests, the_order_follows_from_seed_and_number_alone);
    tcase_add_test(tests, impossible_options_are_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
