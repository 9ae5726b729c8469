#include "tests/common/testing.h"

#include "model/calibration_texts.h"

enum { VOCAB = 1000, LONGEST = 20 };

static sem_error error;

static token_batch make_batch(int32_t different)
{
    token_batch batch = {0};
    for (int32_t id = 0; id < different; id++)
        ck_assert(token_batch_append(&batch, &id, 1));
    ck_ok(calibration_add_drawn(&batch, VOCAB, LONGEST, &error));
    return batch;
}

START_TEST(texts_of_few_tokens_are_joined_by_the_same_drawn_ones_each_time)
{
    token_batch a = make_batch(2), b = make_batch(2);
    ck_assert_uint_gt(a.texts, 10);
    ck_assert_uint_eq(a.tokens, b.tokens);
    ck_assert_mem_eq(a.ids, b.ids, a.tokens * sizeof *a.ids);
    bool seen[VOCAB] = {false};
    size_t different = 0;
    for (size_t i = 0; i < a.tokens; i++) {
        ck_assert(a.ids[i] >= 0 && a.ids[i] < VOCAB);
        different += !seen[a.ids[i]];
        seen[a.ids[i]] = true;
    }
    ck_assert_uint_gt(different, 100);
    for (size_t i = 0; i < a.texts; i++)
        ck_assert(a.lengths[i] >= 1 && a.lengths[i] <= LONGEST);
    token_batch_free(&a);
    token_batch_free(&b);
}
END_TEST

START_TEST(texts_of_many_tokens_stay_as_they_are)
{
    token_batch batch = make_batch(300);
    ck_assert_uint_eq(batch.texts, 300);
    token_batch_free(&batch);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/calibration_texts");
    TCase *c = tcase_create("drawn");
    tcase_add_test(c, texts_of_few_tokens_are_joined_by_the_same_drawn_ones_each_time);
    tcase_add_test(c, texts_of_many_tokens_stay_as_they_are);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
