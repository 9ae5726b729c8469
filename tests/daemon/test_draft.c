/* Two rankings become one list by a draft, and the clicks on such lists votes. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "daemon/draft.h"
#include "daemon/trial.h"

enum { DOCUMENTS = 60, MOST = 40, ROUNDS = 2000 };

static bool is_among(const vector_hit *hits, size_t count, uint32_t docno)
{
    for (size_t i = 0; i < count; i++)
        if (hits[i].docno == docno)
            return true;
    return false;
}

static size_t random_list(random_state *r, vector_hit out[DOCUMENTS], size_t most)
{
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        out[i] = (vector_hit){.docno = i, .score = (float)random_unit(r)};
    random_shuffle(r, out, DOCUMENTS, sizeof *out);
    return random_below(r, most + 1);
}

/* Every pick is its list's best that was not picked, as it is in the list; the two take turns. */
static void check(const draft_list lists[2], size_t k, const vector_hit *out, const bool *of_second, size_t picked)
{
    size_t picks[2] = {0, 0}, different = 0;
    for (size_t i = 0; i < picked; i++) {
        const draft_list *list = &lists[of_second[i]], *other = &lists[!of_second[i]];
        size_t at = 0, left = 0;
        while (at < list->count && is_among(out, i, list->hits[at].docno))
            at++;
        ck_assert_uint_lt(at, list->count);
        ck_assert_uint_eq(out[i].docno, list->hits[at].docno);
        ck_assert(out[i].score == list->hits[at].score);
        ck_assert(!is_among(out, i, out[i].docno));
        for (size_t o = 0; o < other->count; o++)
            left += !is_among(out, i, other->hits[o].docno);
        picks[of_second[i]]++;
        const long ahead = (long)picks[of_second[i]] - (long)picks[!of_second[i]];
        ck_assert(ahead <= 1 || left == 0); /* alone only where the other has nothing left */
    }
    for (size_t l = 0; l < 2; l++)
        for (size_t i = 0; i < lists[l].count; i++)
            different += l == 0 || !is_among(lists[0].hits, lists[0].count, lists[1].hits[i].docno);
    ck_assert_uint_eq(picked, k < different ? k : different);
}

START_TEST(a_draft_is_fair_whole_and_without_repeats)
{
    random_state r;
    random_seed(&r, 7);
    for (int round = 0; round < ROUNDS; round++) {
        vector_hit hits[2][DOCUMENTS], out[2 * DOCUMENTS];
        bool of_second[2 * DOCUMENTS];
        size_t picked;
        const draft_list lists[2] = {{hits[0], random_list(&r, hits[0], MOST)},
                                     {hits[1], random_list(&r, hits[1], MOST)}};
        const size_t k = random_below(&r, MOST + 1);
        ck_assert(draft_pick(lists, k, random_next(&r), out, of_second, &picked));
        check(lists, k, out, of_second, picked);
    }
}
END_TEST

START_TEST(each_begins_as_often_and_one_toss_is_one_list)
{
    vector_hit hits[2][DOCUMENTS], out[MOST], again[MOST];
    bool of_second[MOST], of_second_again[MOST];
    size_t picked, first = 0;
    random_state r;
    random_seed(&r, 8);
    random_list(&r, hits[0], MOST);
    random_list(&r, hits[1], MOST);
    const draft_list lists[2] = {{hits[0], MOST}, {hits[1], MOST}};
    for (uint64_t toss = 0; toss < ROUNDS; toss++) {
        ck_assert(draft_pick(lists, MOST, toss, out, of_second, &picked));
        first += of_second[0];
        ck_assert(draft_pick(lists, MOST, toss, again, of_second_again, &picked));
        ck_assert_mem_eq(of_second, of_second_again, sizeof of_second);
    }
    ck_assert_uint_gt(first, ROUNDS / 2 - 112); /* five standard deviations */
    ck_assert_uint_lt(first, ROUNDS / 2 + 112);
}
END_TEST

/* --- votes */

START_TEST(a_voter_has_one_vote_for_a_query)
{
    trial_tally t;
    trial_click clicks[] = {
        {.search = 1, .seq = 10, .voter = 7, .rank = 1, .of_candidate = true},
        {.search = 1, .seq = 11, .voter = 7, .rank = 2, .of_candidate = true},
        {.search = 2, .seq = 12, .voter = 7, .rank = 1}, /* 2 : 1 for the candidate */
        {.search = 3, .seq = 13, .voter = 8, .rank = 4},
        {.search = 4, .seq = 14, .voter = 9, .rank = 1},
        {.search = 4, .seq = 15, .voter = 9, .rank = 2, .of_candidate = true}, /* even */
        {.search = 5, .seq = 16, .voter = 10, .rank = 3, .of_candidate = true},
    };
    ck_assert_uint_eq(trial_count(clicks, 7, &t), 7);
    ck_assert_uint_eq(t.clicks, 7);
    ck_assert_uint_eq(t.won, 2);
    ck_assert_uint_eq(t.lost, 1);
    ck_assert_uint_eq(t.even, 1);
    ck_assert_double_eq_tol(t.p_value, 0.5, 1e-9); /* 4 of the 8 ways in which three coins fall */
}
END_TEST

START_TEST(a_later_click_replaces_and_may_take_back)
{
    trial_tally t;
    trial_click clicks[] = {
        {.search = 2, .seq = 30, .voter = 2, .rank = 1, .of_candidate = true, .taken_back = true},
        {.search = 1, .seq = 20, .voter = 1, .rank = 1, .of_candidate = true},
        {.search = 2, .seq = 10, .voter = 2, .rank = 1, .of_candidate = true},
        {.search = 1, .seq = 25, .voter = 1, .rank = 1, .of_candidate = true},
    };
    ck_assert_uint_eq(trial_count(clicks, 4, &t), 2);
    ck_assert_uint_eq(t.clicks, 1);
    ck_assert_uint_eq(t.won, 1);
    ck_assert_uint_eq(t.lost + t.even, 0);
    ck_assert_uint_eq(trial_count(clicks, 2, &t), 2); /* and again, with what is left */
    ck_assert_uint_eq(t.clicks, 1);
    ck_assert_uint_eq(trial_count(NULL, 0, &t), 0);
    ck_assert_double_eq(t.p_value, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("draft");
    TCase *tests = tcase_create("draft");
    tcase_add_test(tests, a_draft_is_fair_whole_and_without_repeats);
    tcase_add_test(tests, each_begins_as_often_and_one_toss_is_one_list);
    tcase_add_test(tests, a_voter_has_one_vote_for_a_query);
    tcase_add_test(tests, a_later_click_replaces_and_may_take_back);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
