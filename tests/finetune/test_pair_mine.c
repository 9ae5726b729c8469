/* Hard negatives out of a collection's indices. */
#include "tests/finetune/pairs_case.h"

#include "base/random.h"
#include "index/lexical_index.h"
#include "finetune/mine_set.h"
#include "finetune/pair_mine.h"
#include "finetune/pair_vectors.h"
#include "finetune/text_vectors.h"

#include <stdlib.h>

enum { WIDTH = 48, NOTES = 40, TOP = 20 };

/* A collection with lexical on, its documents' vectors by the tiny model, and both indices. */
typedef struct mine_case {
    pairs_case t;
    model *m;
    char texts[NOTES][96];
    float *vectors; /* [NOTES, WIDTH] */
    vector_index *index;
    lexical_index *lexical;
    lexical_reader *words;
    bool by_model, by_words; /* what there is to search */
    size_t opened;
} mine_case;

static void put_notes(mine_case *c)
{
    data_text texts[NOTES];
    store_write *w = NULL;
    uint64_t seq = 0;
    bool created = false;
    store_collection notes = {.name = "learned", .metric = METRIC_COSINE, .lexical = true};
    for (size_t i = 0; i < NOTES; i++) {
        snprintf(c->texts[i], sizeof c->texts[i], "note %zu: the %s of my %s", i, i % 2 == 0 ? "price" : "colour",
                 i % 3 == 0 ? "card" : "ship");
        texts[i] = (data_text){c->texts[i], strlen(c->texts[i])};
    }
    ck_ok(text_vectors(c->m, texts, NOTES, false, 1, (niceness){0}, &c->vectors, &error));
    ck_ok(store_space_open(c->t.store, SPACE + 1, WIDTH, &error));
    ck_ok(store_write_begin(c->t.store, &w, &error));
    ck_ok(store_collection_create(w, &notes, &created, &error));
    for (size_t i = 0; i < NOTES; i++) {
        store_put put = {.id = id_of(i + 1),
                         .text = c->texts[i],
                         .text_length = strlen(c->texts[i]),
                         .vector = c->vectors + i * WIDTH};
        ck_ok(store_documents_put(w, notes.number, SPACE + 1, WIDTH, 0, 0, &put, 1, &seq, &error));
        ck_ok(vector_index_put(c->index, put.docno, put.vector, &error));
    }
    ck_ok(store_write_commit(w, &error));
    c->t.collection = notes.number;
}

static void open_words(mine_case *c)
{
    store_read *r = NULL;
    bool more = true, bad = false;
    ck_ok(lexical_index_open(&c->lexical, c->t.store, &c->t.log, &error));
    while (more) {
        ck_ok(store_read_begin(c->t.store, &r, &error));
        ck_ok(lexical_index_step(c->lexical, r, &more, &error));
        store_read_end(r);
    }
    ck_ok(lexical_reader_open(&c->words, c->t.store, &bad, &error));
}

/* False where the model is missing. */
static bool make(mine_case *c)
{
    const char *dir = testing_shared("golden/tiny-bert");
    const vector_index_options options = {.dim = WIDTH, .metric = METRIC_COSINE, .exact_below = 1000, .threads = 1};
    *c = (mine_case){.by_model = true, .by_words = true};
    if (dir == NULL)
        return false;
    arrange(&c->t, NULL, 0);
    ck_ok(model_open(&c->m, dir, NULL, NULL, &error));
    ck_ok(vector_index_create(&c->index, &options, &error));
    put_notes(c);
    open_words(c);
    return true;
}

static void end(mine_case *c)
{
    lexical_reader_close(c->words);
    lexical_index_close(c->lexical);
    vector_index_destroy(c->index);
    free(c->vectors);
    model_close(c->m);
    store_close(c->t.store);
}

static sem_status open_indices(void *context, uint32_t collection, vector_index **vectors, lexical_reader **words,
                               sem_error *err)
{
    mine_case *c = context;
    (void)err;
    ck_assert_uint_eq(collection, c->t.collection);
    c->opened++;
    *vectors = c->by_model ? c->index : NULL;
    *words = c->by_words ? c->words : NULL;
    return SEM_OK;
}

static pair_mine_options options_of(mine_case *c)
{
    return (pair_mine_options){.store = c->t.store,
                               .space = SPACE + 1,
                               .queries = c->m,
                               .negatives = 3,
                               .top = TOP,
                               .ratio = 0.95,
                               .seed = 5,
                               .threads = 1,
                               .open = open_indices,
                               .context = c};
}

/* The pairs of the log with their documents' vectors, and mined negatives. */
static pair_mine_report mine(mine_case *c, const pair_mine_options *options, pair_set *set, pair_vectors *v)
{
    const pair_options pairs = {.key = pairs_key};
    const pair_vectors_options vectors = {.store = c->t.store, .space = SPACE + 1, .model = c->m, .threads = 1};
    pair_mine_report report;
    collect_with(&c->t, &pairs, set);
    ck_ok(pair_vectors_give(v, set, &vectors, &error));
    ck_ok(pair_mine(set, options, &report, &error));
    return report;
}

/* The note that a text is; NOTES: none. */
static size_t note_of(const mine_case *c, const char *text, size_t length)
{
    for (size_t i = 0; i < NOTES; i++)
        if (strlen(c->texts[i]) == length && memcmp(c->texts[i], text, length) == 0)
            return i;
    return NOTES;
}

static double cosine(const mine_case *c, const train_pair *p, size_t note)
{
    const data_text query = {p->query, p->query_length};
    float *vector = NULL;
    ck_ok(text_vectors(c->m, &query, 1, true, 1, (niceness){0}, &vector, &error));
    const double found = text_vectors_cosine(vector, c->vectors + note * WIDTH, WIDTH);
    free(vector);
    return found;
}

static void ask(mine_case *c)
{
    feedback(&c->t, "what is the price of my card", 1, NULL, 1);
    feedback(&c->t, "what is the price of my card", 7, NULL, 1);
    feedback(&c->t, "What is the PRICE of my card", 13, NULL, 1); /* the same question */
    feedback(&c->t, "which colour has the ship", 2, NULL, 1);
}

START_TEST(negatives_are_documents_that_only_look_right)
{
    mine_case c;
    pair_set set;
    pair_vectors v;
    if (!make(&c))
        return;
    c.by_model = _i != 1;
    c.by_words = _i != 2;
    ask(&c);
    pair_mine_options o = options_of(&c);
    o.ratio = 0.999; /* all are much alike to the tiny model */
    const pair_mine_report report = mine(&c, &o, &set, &v);
    ck_assert_uint_eq(report.pairs, 4);
    ck_assert_uint_eq(report.drawn, set.negative_count);
    ck_assert_uint_gt(report.drawn, 0);
    ck_assert_uint_eq(c.opened, 1);
    for (size_t i = 0; i < set.count; i++) {
        const train_pair *p = &set.pairs[i];
        const size_t own = note_of(&c, p->document, p->document_length);
        ck_assert_uint_le(p->negative_count, 3);
        for (size_t k = 0; k < p->negative_count; k++) {
            const train_negative *n = &p->negatives[k];
            const size_t note = note_of(&c, n->text, n->length);
            ck_assert(n == &set.negatives[n - set.negatives] && note < NOTES);
            ck_assert_uint_eq(n->key, hash_text(n->text, n->length));
            const pair_document *d = &set.documents[set.negative_documents[n - set.negatives]];
            ck_assert(d->text == n->text && d->collection == c.t.collection && d->docno != PAIR_NO_DOCUMENT);
            if (i < 3) /* right for the question, however it is written */
                ck_assert(note != 0 && note != 6 && note != 12);
            ck_assert_double_le(cosine(&c, p, note), 0.999 * cosine(&c, p, own) + 1e-6);
            for (size_t other = 0; other < k; other++)
                ck_assert_uint_ne(n->key, p->negatives[other].key);
        }
    }
    pair_vectors_free(&v);
    pair_set_free(&set);
    end(&c);
}
END_TEST

START_TEST(what_the_model_takes_for_right_is_left_out)
{
    mine_case c;
    pair_set set;
    pair_vectors v;
    if (!make(&c))
        return;
    ask(&c);
    pair_mine_options o = options_of(&c);
    o.ratio = 0.01;
    const pair_mine_report report = mine(&c, &o, &set, &v);
    ck_assert(report.drawn == 0 && set.negative_count == 0 && report.without == 4);
    ck_assert_uint_eq(report.candidates, report.known + report.same_text + report.by_score);
    ck_assert_uint_gt(report.known, 0);
    pair_vectors_free(&v);
    pair_set_free(&set);
    end(&c);
}
END_TEST

START_TEST(pairs_keep_the_negatives_that_they_have)
{
    mine_case c;
    pair_set set;
    pair_vectors v = {0};
    pair_mine_report report;
    if (!make(&c))
        return;
    const docid shown[] = {id_of(4), id_of(9)};
    search(&c.t, "00000000000000000000000000000001", "the price of what", shown, 2);
    click(&c.t, "00000000000000000000000000000001", 9, 1);
    ask(&c);
    const pair_options pairs = {.key = pairs_key, .negatives = 1};
    const pair_vectors_options vectors = {.store = c.t.store, .space = SPACE + 1, .model = c.m, .threads = 1};
    pair_mine_options o = options_of(&c);
    o.ratio = 0.999;
    collect_with(&c.t, &pairs, &set);
    ck_assert(set.count == 5 && set.negative_count == 1 && set.pairs[0].negative_count == 1);
    ck_ok(pair_vectors_give(&v, &set, &vectors, &error));
    ck_ok(pair_mine(&set, &o, &report, &error));
    ck_assert_uint_eq(report.pairs, 4);
    ck_assert_uint_eq(set.negative_count, 1 + report.drawn);
    ck_assert_uint_eq(set.pairs[0].negative_count, 1);
    for (size_t i = 0; i < set.negative_count; i++)
        ck_assert_ptr_null(set.negatives[i].vector); /* which are about to be freed */
    ck_assert_uint_eq(note_of(&c, set.pairs[0].negatives[0].text, set.pairs[0].negatives[0].length), 3);
    ck_fails(pair_mine(&set, &o, &report, &error), SEM_FAILED_PRECONDITION);
    pair_vectors_free(&v);
    /* Mined ones have vectors in the store as well. */
    ck_ok(pair_vectors_give(&v, &set, &vectors, &error));
    ck_assert(v.stored == set.document_count && v.encoded == 0);
    for (size_t i = 0; i < set.negative_count; i++) {
        const size_t note = note_of(&c, set.negatives[i].text, set.negatives[i].length);
        for (size_t k = 0; k < WIDTH; k++)
            ck_assert_float_eq_tol(set.negatives[i].vector[k], c.vectors[note * WIDTH + k], 1e-6);
    }
    pair_vectors_free(&v);
    pair_set_free(&set);
    end(&c);
}
END_TEST

START_TEST(the_same_indices_and_seed_give_the_same_negatives)
{
    mine_case c;
    pair_set set[3];
    pair_vectors v[3];
    size_t same = 0;
    if (!make(&c))
        return;
    ask(&c);
    pair_mine_options o = options_of(&c);
    o.ratio = 0.999;
    for (size_t i = 0; i < 3; i++) {
        o.seed = i < 2 ? 1 : 2;
        (void)mine(&c, &o, &set[i], &v[i]);
    }
    ck_assert_uint_eq(set[0].negative_count, set[1].negative_count);
    for (size_t i = 0; i < set[0].negative_count; i++) {
        ck_assert_uint_eq(set[0].negatives[i].key, set[1].negatives[i].key);
        same += i < set[2].negative_count && set[0].negatives[i].key == set[2].negatives[i].key;
    }
    ck_assert_uint_lt(same, set[0].negative_count);
    for (size_t i = 0; i < 3; i++) {
        pair_vectors_free(&v[i]);
        pair_set_free(&set[i]);
    }
    end(&c);
}
END_TEST

START_TEST(without_indices_nothing_is_mined_and_a_cancel_ends_it)
{
    mine_case c;
    pair_set set;
    pair_vectors v;
    pair_mine_report report;
    if (!make(&c))
        return;
    ask(&c);
    c.by_model = c.by_words = false;
    pair_mine_options o = options_of(&c);
    report = mine(&c, &o, &set, &v);
    ck_assert(report.drawn == 0 && report.unsearched == 3 && report.without == 4);
    pair_vectors_free(&v);
    pair_set_free(&set);

    atomic_bool cancel = true;
    const pair_options pairs = {.key = pairs_key};
    const pair_vectors_options vectors = {.store = c.t.store, .space = SPACE + 1, .model = c.m, .threads = 1};
    collect_with(&c.t, &pairs, &set);
    ck_ok(pair_vectors_give(&v, &set, &vectors, &error));
    o.cancel = &cancel;
    ck_fails(pair_mine(&set, &o, &report, &error), SEM_CANCELLED);
    o.cancel = NULL;
    o.negatives = 0;
    ck_fails(pair_mine(&set, &o, &report, &error), SEM_INVALID_ARGUMENT);
    pair_vectors_free(&v);
    pair_set_free(&set);
    end(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pair_mine");
    TCase *tests = tcase_create("pair_mine");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, negatives_are_documents_that_only_look_right, 0, 3);
    tcase_add_test(tests, what_the_model_takes_for_right_is_left_out);
    tcase_add_test(tests, pairs_keep_the_negatives_that_they_have);
    tcase_add_test(tests, the_same_indices_and_seed_give_the_same_negatives);
    tcase_add_test(tests, without_indices_nothing_is_mined_and_a_cancel_ends_it);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
