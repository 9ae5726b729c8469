/* Pairs from documents' own text, and where pairs' documents are. */
#include "tests/finetune/pairs_case.h"

#include "base/random.h"
#include "finetune/own_pairs.h"
#include "finetune/pair_vectors.h"
#include "finetune/text_vectors.h"

#include <stdlib.h>

enum { DOCUMENTS = 400, WIDTH = 48 };

/* DOCUMENTS texts of a title and a sentence each; every tenth has no more than its title. */
static const char *const *many_texts(void)
{
    static char texts[DOCUMENTS][96];
    static const char *list[DOCUMENTS];
    for (size_t i = 0; i < DOCUMENTS; i++) {
        snprintf(texts[i], sizeof texts[i],
                 i % 10 == 0 ? "The title of %zu" : "The title of %zu\nWhat is said of it: %zu.", i, i * i);
        list[i] = texts[i];
    }
    return list;
}

static own_pairs_options options_of(const pairs_case *t)
{
    return (own_pairs_options){
        .collection = t->collection, .most = 10 * DOCUMENTS, .weight = 2, .seed = 1, .key = pairs_key};
}

START_TEST(a_pair_is_a_documents_first_sentence_and_its_rest)
{
    static const char *const texts[] = {
        "Bread and butter\nSpread it thinly on both sides.", "How to sail. Hoist the sail first! Then steer with care.",
        "only one sentence that has no rest", "x\nToo short a title for a question here"};
    pairs_case t;
    pair_set whole, rest;
    arrange(&t, texts, 4);
    own_pairs_options o = options_of(&t);
    /* Half of all documents are the gate's: take a key under which these are not. */
    unsigned char key[16] = {0};
    o.key = key;
    while (own_text_is_probe(key, texts[0], strlen(texts[0])) || own_text_is_probe(key, texts[1], strlen(texts[1])))
        key[0]++;
    ck_ok(own_pairs_collect(&rest, t.store, &o, &error));
    ck_assert_uint_eq(rest.count, 2);
    ck_assert(is_pair(&rest.pairs[0], "Bread and butter", "Spread it thinly on both sides."));
    ck_assert(is_pair(&rest.pairs[1], "How to sail.", "Hoist the sail first! Then steer with care."));
    o.whole = true;
    ck_ok(own_pairs_collect(&whole, t.store, &o, &error));
    ck_assert_uint_eq(whole.count, 2);
    ck_assert(is_pair(&whole.pairs[1], "How to sail.", texts[1]));
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(rest.pairs[i].origin, TRAIN_OWN_TEXT);
        ck_assert_uint_eq(rest.pairs[i].domain, t.collection);
        ck_assert_float_eq(rest.pairs[i].weight, 2);
        /* As in pairs that people made of the document. */
        ck_assert_uint_eq(rest.pairs[i].document_key, hash_text(texts[i], strlen(texts[i])));
        ck_assert_uint_eq(whole.pairs[i].document_key, rest.pairs[i].document_key);
        ck_assert_uint_eq(whole.documents[whole.pair_documents[i]].docno, rest.documents[i].docno);
    }
    pair_set_free(&rest);
    pair_set_free(&whole);
    store_close(t.store);
}
END_TEST

START_TEST(what_the_gate_measures_with_is_never_trained_on)
{
    pairs_case t;
    pair_set set;
    const char *const *texts = many_texts();
    size_t probes = 0;
    arrange(&t, texts, DOCUMENTS);
    own_pairs_options o = options_of(&t);
    o.whole = true;
    for (size_t i = 0; i < DOCUMENTS; i++)
        probes += own_text_is_probe(pairs_key, texts[i], strlen(texts[i]));
    ck_assert_msg(probes > DOCUMENTS * 2 / 5 && probes < DOCUMENTS * 3 / 5, "%zu probes", probes);
    for (int held_out = 0; held_out < 2; held_out++) {
        size_t expected = 0;
        o.heldout_share = held_out == 0 ? 0 : 0.3;
        for (size_t i = 0; i < DOCUMENTS; i++) {
            const size_t title = strcspn(texts[i], "\n");
            expected += texts[i][title] != '\0' && !own_text_is_probe(pairs_key, texts[i], strlen(texts[i])) &&
                        !pair_is_held_out(pairs_key, o.heldout_share, texts[i], title);
        }
        ck_ok(own_pairs_collect(&set, t.store, &o, &error));
        ck_assert_uint_eq(set.count, expected);
        for (size_t i = 0; i < set.count; i++) {
            const train_pair *p = &set.pairs[i];
            ck_assert(!own_text_is_probe(pairs_key, p->document, p->document_length));
            ck_assert(!pair_is_held_out(pairs_key, o.heldout_share, p->query, p->query_length));
        }
        pair_set_free(&set);
    }
    store_close(t.store);
}
END_TEST

START_TEST(so_many_as_are_wanted_are_drawn_the_same_ones_by_a_seed)
{
    pairs_case t;
    pair_set all, some[3];
    arrange(&t, many_texts(), DOCUMENTS);
    own_pairs_options o = options_of(&t);
    ck_ok(own_pairs_collect(&all, t.store, &o, &error));
    o.most = 50;
    for (size_t i = 0; i < 3; i++) {
        o.seed = i < 2 ? 7 : 8;
        ck_ok(own_pairs_collect(&some[i], t.store, &o, &error));
        ck_assert_msg(some[i].count > 25 && some[i].count <= 50, "%zu of 50", some[i].count);
    }
    ck_assert_uint_eq(some[0].count, some[1].count);
    size_t same = 0;
    for (size_t i = 0; i < some[0].count; i++) {
        ck_assert_uint_eq(some[0].pairs[i].document_key, some[1].pairs[i].document_key);
        same += i < some[2].count && some[0].pairs[i].document_key == some[2].pairs[i].document_key;
    }
    ck_assert_uint_lt(same, some[0].count);
    o.most = 0;
    pair_set none;
    ck_ok(own_pairs_collect(&none, t.store, &o, &error));
    ck_assert_uint_eq(none.count, 0);
    pair_set_free(&none);
    for (size_t i = 0; i < 3; i++)
        pair_set_free(&some[i]);
    pair_set_free(&all);
    atomic_bool cancel = true;
    o.most = 50;
    o.cancel = &cancel;
    ck_fails(own_pairs_collect(&none, t.store, &o, &error), SEM_CANCELLED);
    store_close(t.store);
}
END_TEST

START_TEST(pairs_trained_on_before_are_replayed)
{
    static const char *const texts[] = {"one", "two", "three"};
    pairs_case t;
    pair_set set;
    arrange(&t, texts, 3);
    feedback(&t, "first question", 1, NULL, 1);
    feedback(&t, "second question", 2, NULL, 1);
    pair_options o = {.key = pairs_key};
    collect_with(&t, &o, &set);
    const uint64_t upto = set.last;
    ck_assert_uint_gt(upto, 0);
    ck_assert(set.count == 2 && set.pairs[0].origin == TRAIN_NEW && set.pairs[1].origin == TRAIN_NEW);
    pair_set_free(&set);

    feedback(&t, "third question", 3, NULL, 1);
    feedback(&t, "first question", 1, NULL, 1); /* the vote is newer, the pair is not */
    o.trained = upto;
    collect_with(&t, &o, &set);
    ck_assert_uint_eq(set.count, 3);
    ck_assert_uint_gt(set.last, upto);
    for (size_t i = 0; i < 3; i++) {
        const bool third = is_pair(&set.pairs[i], "third question", "three");
        ck_assert_int_eq(set.pairs[i].origin, third ? TRAIN_NEW : TRAIN_REPLAYED);
        ck_assert_uint_eq(set.pairs[i].domain, t.collection);
    }
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

/* --- vectors */

static void put_vector(pairs_case *t, uint64_t id, const char *text, const float *vector)
{
    store_write *w = NULL;
    uint64_t seq = 0;
    store_put put = {.id = id_of(id), .text = text, .text_length = strlen(text), .vector = vector};
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(store_documents_put(w, t->collection, SPACE + 1, WIDTH, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_write_commit(w, &error));
}

START_TEST(stored_vectors_are_taken_where_they_are_of_the_very_text)
{
    static const char long_text[] = "four words and then some more of them behind the limit";
    pairs_case t;
    model *m;
    pair_set set;
    pair_vectors v;
    float stored[WIDTH] = {0}, *made = NULL;
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    arrange(&t, NULL, 0);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_ok(store_space_open(t.store, SPACE + 1, WIDTH, &error));
    stored[3] = 2; /* is made unit length */
    put_vector(&t, 1, "as it was", stored);
    put_vector(&t, 2, long_text, stored);
    put_vector(&t, 3, "soon another", stored);
    for (uint64_t id = 1; id <= 3; id++)
        feedback(&t, "some question", id, NULL, 1);
    feedback(&t, "some question", 0, "of no document", 1);
    const pair_options o = {.key = pairs_key};
    collect_with(&t, &o, &set);
    ck_assert_uint_eq(set.document_count, 4);
    put_vector(&t, 3, "another by now", stored);

    pair_vectors_options how = {.store = t.store, .space = SPACE + 1, .model = m, .threads = 1};
    ck_ok(pair_vectors_give(&v, &set, &how, &error));
    ck_assert(v.stored == 2 && v.encoded == 2);
    const data_text texts[] = {{"soon another", 12}, {"of no document", 14}};
    ck_ok(text_vectors(m, texts, 2, false, 1, (niceness){0}, &made, &error));
    for (size_t k = 0; k < WIDTH; k++) {
        ck_assert_float_eq(set.pairs[0].document_vector[k], k == 3);
        ck_assert_float_eq(set.pairs[1].document_vector[k], k == 3);
        ck_assert_float_eq_tol(set.pairs[2].document_vector[k], made[k], 1e-6);
        ck_assert_float_eq_tol(set.pairs[3].document_vector[k], made[WIDTH + k], 1e-6);
    }
    pair_vectors_free(&v);

    how.max_tokens = 8; /* the longer one's is of more than that */
    ck_ok(pair_vectors_give(&v, &set, &how, &error));
    ck_assert(v.stored == 1 && v.encoded == 3);
    ck_assert_float_ne(set.pairs[1].document_vector[3], 1);
    pair_vectors_free(&v);
    atomic_bool cancel = true;
    how.cancel = &cancel;
    ck_fails(pair_vectors_give(&v, &set, &how, &error), SEM_CANCELLED);
    free(made);
    pair_set_free(&set);
    model_close(m);
    store_close(t.store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("own_pairs");
    TCase *tests = tcase_create("own_pairs");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_pair_is_a_documents_first_sentence_and_its_rest);
    tcase_add_test(tests, what_the_gate_measures_with_is_never_trained_on);
    tcase_add_test(tests, so_many_as_are_wanted_are_drawn_the_same_ones_by_a_seed);
    tcase_add_test(tests, pairs_trained_on_before_are_replayed);
    tcase_add_test(tests, stored_vectors_are_taken_where_they_are_of_the_very_text);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
