/* What is learned from clicks on documents that are cut into passages. */
#include "tests/daemon/lessons.h"
#include "tests/daemon/passages_box.h"

enum { DOCUMENTS = 200 };

static box b;

/* Its beginning is its own; what follows has other documents' words. */
static void document_text(unsigned i, buffer *out)
{
    char first[LESSON_TEXT_MAX];
    buffer rest = {0};
    lesson_document(i, first);
    passages_text(&rest, i, 2 + i % 5);
    out->size = 0;
    ck_assert(buffer_append(out, first, strlen(first)) && buffer_append(out, ". ", 2) &&
              buffer_append(out, rest.data, rest.size + 1));
    out->size--;
    buffer_free(&rest);
}

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    const size_t options = lesson_options(&b, true);
    b.options[options] =
        "train.epochs=12"; /* what is learnt must show in every rank, whichever queries were held out */
    box_start(&b);
    box_call(&b, "collection.create", "{'name': 'long', 'options': {'passage_tokens': %d, 'passage_overlap': %d}}",
             TOKENS, OVERLAP);
    buffer text = {0};
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        document_text(i, &text);
        passages_upsert(&b, "long", i, (const char *)text.data, text.size);
    }
    buffer_free(&text);
    return true;
}

/* 1 / rank of the document among all, by its best passage. */
static double reciprocal_rank(unsigned i, char query_id[65])
{
    char query[LESSON_TEXT_MAX];
    lesson_query(i, query);
    const msgpack_object *r =
        box_call(&b, "search", "{'collection': 'long', 'query': '%s', 'k': %d, 'exact': true}", query, DOCUMENTS);
    const msgpack_object *hits = object_get(r, "hits"), *id = object_get(r, "query_id");
    ck_assert_uint_eq(box_count(hits), DOCUMENTS);
    snprintf(query_id, 65, "%.*s", (int)id->via.str.size, id->via.str.ptr);
    for (size_t rank = 0; rank < DOCUMENTS; rank++) {
        const msgpack_object *hit = box_at(hits, rank);
        ck_assert_uint_eq(box_count(object_get(hit, "passage")), 2);
        if (object_uint(object_get(hit, "id"), UINT64_MAX) == i)
            return 1.0 / (double)(rank + 1);
    }
    ck_abort_msg("document %u is no hit", i);
}

static double mean_reciprocal_rank(bool click)
{
    char query_id[65];
    double sum = 0;
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        sum += reciprocal_rank(i, query_id);
        if (click)
            box_call(&b, "click", "{'query_id': '%s', 'id': %u}", query_id, i);
    }
    return sum / DOCUMENTS;
}

static size_t expect_all_right(void)
{
    size_t passages = 0;
    buffer text = {0};
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        document_text(i, &text);
        passages += passages_expect_right(&b, "long", i, (const char *)text.data, TOKENS + SPECIAL);
    }
    buffer_free(&text);
    ck_assert_uint_eq(passages_count(&b, "long"), passages);
    return passages;
}

START_TEST(clicks_on_long_documents_teach_a_model_that_embeds_all_their_passages)
{
    if (!start())
        return;
    size_t passages = expect_all_right();
    ck_assert_uint_gt(passages, 2 * DOCUMENTS);
    double before = mean_reciprocal_rank(true);
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    ck_assert_uint_eq(expect_all_right(), passages); /* the tokenizer is the same, the vectors are the new model's */
    double after = mean_reciprocal_rank(false);
    ck_assert_msg(after > 1.5 * before, "the mean reciprocal rank was %f and is %f", before, after);
    box_call(&b, "rollback", "{}");
    ck_assert_uint_eq(expect_all_right(), passages);
    ck_assert_double_eq_tol(mean_reciprocal_rank(false), before, 0.01);
    box_stop(&b);
    ck_assert_int_eq(box_semctl("verify %s/data", testing_folder()), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_passages_learn");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, clicks_on_long_documents_teach_a_model_that_embeds_all_their_passages);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
