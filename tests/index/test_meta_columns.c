#include "tests/common/testing.h"
#include "tests/index/random_meta.h"

#include "index/meta_columns.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What there should be: the bytes of every document, matched one by one. */
typedef struct model {
    meta_columns *columns;
    random_state random;
    size_t size; /* document numbers */
    struct {
        bool exists;
        size_t length;
        unsigned char *meta;
    } * documents;
} model;

static void model_open(model *m, size_t size, bool ready)
{
    sem_error error;
    *m = (model){.size = size};
    random_seed(&m->random, testing_seed());
    m->documents = calloc(size, sizeof *m->documents);
    ck_ok(meta_columns_create(&m->columns, ready, &error));
}

static void model_close(model *m)
{
    for (size_t d = 0; d < m->size; d++)
        free(m->documents[d].meta);
    free(m->documents);
    meta_columns_release(m->columns);
}

static void model_set(model *m, uint32_t docno, const unsigned char *meta, size_t length)
{
    free(m->documents[docno].meta);
    m->documents[docno].meta = malloc(length + 1);
    if (length > 0)
        memcpy(m->documents[docno].meta, meta, length);
    m->documents[docno].length = length;
    m->documents[docno].exists = true;
}

/* A request: some documents, some of them twice, or deletes. */
static void change_some(model *m, size_t count, bool remove)
{
    sem_error error;
    msgpack_sbuffer *metas = calloc(count, sizeof *metas);
    meta_change *changes = calloc(count, sizeof *changes);
    uint32_t first = (uint32_t)random_below(&m->random, m->size);
    bool together = random_below(&m->random, 2) == 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t docno = together ? (uint32_t)((first + i) % m->size) : (uint32_t)random_below(&m->random, m->size);
        changes[i] = (meta_change){.docno = docno, .removed = remove};
        if (remove) {
            m->documents[docno].exists = false;
            continue;
        }
        msgpack_sbuffer_init(&metas[i]);
        random_meta(&m->random, &metas[i]);
        changes[i].meta = (const unsigned char *)metas[i].data;
        changes[i].length = metas[i].size;
        model_set(m, docno, changes[i].meta, changes[i].length);
    }
    ck_ok(meta_columns_apply(m->columns, changes, count, &error));
    for (size_t i = 0; i < count; i++)
        msgpack_sbuffer_destroy(&metas[i]);
    free(metas);
    free(changes);
}

static size_t check_filter(model *m, const filter *f)
{
    sem_error error;
    docset *set;
    size_t expected = 0;
    ck_ok(meta_columns_match(m->columns, f, NULL, NULL, &set, &error));
    ck_assert_ptr_nonnull(set);
    for (size_t d = 0; d < m->size; d++) {
        bool matches = m->documents[d].exists && filter_match(f, m->documents[d].meta, m->documents[d].length);
        ck_assert_msg(matches == roaring_bitmap_contains(set, (uint32_t)d), "document %zu: %d", d, matches);
        expected += matches;
    }
    ck_assert_uint_eq(roaring_bitmap_get_cardinality(set), expected);
    docset_free(set);
    return expected;
}

static size_t check_filters(model *m, size_t count)
{
    size_t matched = 0;
    for (size_t i = 0; i < count; i++) {
        filter *f = random_filter(&m->random);
        ck_assert_ptr_nonnull(f);
        matched += check_filter(m, f) > 0;
        filter_free(f);
    }
    return matched;
}

START_TEST(columns_match_what_the_filter_matches)
{
    sem_error error;
    model m;
    size_t matched = 0;
    model_open(&m, 3000, true);
    for (int round = 0; round < 60; round++) {
        change_some(&m, 1 + random_below(&m.random, 300), round % 4 == 3);
        if (random_below(&m.random, 3) == 0)
            ck_ok(meta_columns_merge(m.columns, &error));
        matched += check_filters(&m, 25);
    }
    ck_assert_uint_gt(matched, 300);
    model_close(&m);
}
END_TEST

START_TEST(columns_of_many_blocks_match_too)
{
    sem_error error;
    model m;
    model_open(&m, 200000, true);
    for (int round = 0; round < 5; round++) {
        for (int k = 0; k < 30; k++)
            change_some(&m, 1000, round > 2 && k % 4 == 3);
        if (round % 2 == 0)
            ck_ok(meta_columns_merge(m.columns, &error));
        check_filters(&m, 12);
    }
    model_close(&m);
}
END_TEST

static void fill_from(model *m, meta_fill *fill)
{
    sem_error error;
    for (size_t d = 0; d < m->size; d++)
        if (m->documents[d].exists)
            ck_ok(meta_fill_add(fill, (uint32_t)d, m->documents[d].meta, m->documents[d].length, &error));
}

START_TEST(what_is_changed_during_a_fill_wins)
{
    sem_error error;
    model m;
    meta_fill *fill;
    docset *set;
    model_open(&m, 90000, false);
    for (size_t d = 0; d < m.size; d++) {
        msgpack_sbuffer b;
        msgpack_sbuffer_init(&b);
        random_meta(&m.random, &b);
        if (d % 7 != 0)
            model_set(&m, (uint32_t)d, (const unsigned char *)b.data, b.size);
        msgpack_sbuffer_destroy(&b);
    }
    filter *f = random_filter(&m.random);
    ck_assert(!meta_columns_ready(m.columns));
    ck_ok(meta_columns_match(m.columns, f, NULL, NULL, &set, &error));
    ck_assert_ptr_null(set);
    ck_ok(meta_fill_begin(&fill, m.columns, &error));
    fill_from(&m, fill);
    change_some(&m, 500, false);
    change_some(&m, 300, true);
    change_some(&m, 500, false);
    ck_ok(meta_columns_match(m.columns, f, NULL, NULL, &set, &error));
    ck_assert_ptr_null(set);
    ck_ok(meta_fill_finish(fill, &error));
    meta_fill_free(fill);
    ck_assert(meta_columns_ready(m.columns));
    check_filters(&m, 12);
    ck_ok(meta_columns_merge(m.columns, &error));
    change_some(&m, 400, false);
    check_filters(&m, 12);
    filter_free(f);
    model_close(&m);
}
END_TEST

typedef struct patience {
    size_t asked, end; /* from so many questions on the answer is no */
} patience;

static bool is_patient(void *context)
{
    patience *p = context;
    return ++p->asked < p->end;
}

/* Wherever it is in the tree, and among documents that no segment has. */
START_TEST(a_filter_is_given_up_between_its_parts)
{
    enum { LEAVES = 200, NEWER = 50 };
    static const char leaf[] = "\x82\xa5"
                               "field\xa1"
                               "n\xa3"
                               "gte\x00";
    sem_error error;
    model m;
    docset *set;
    patience p = {.end = SIZE_MAX};
    unsigned char bytes[5 + 3 + LEAVES * (sizeof leaf - 1)];
    size_t size = 0;
    model_open(&m, 1000, true);
    change_some(&m, 500, false);
    ck_ok(meta_columns_merge(m.columns, &error));
    change_some(&m, NEWER, false);
    memcpy(bytes,
           "\x81\xa3"
           "any\xdc\x00\xc8",
           8);
    size = 8;
    for (size_t i = 0; i < LEAVES; i++, size += sizeof leaf - 1)
        memcpy(bytes + size, leaf, sizeof leaf - 1);
    filter *f;
    ck_ok(filter_parse(&f, bytes, size, &error));
    ck_ok(meta_columns_match(m.columns, f, is_patient, &p, &set, &error));
    ck_assert_ptr_nonnull(set);
    docset_free(set);
    const size_t questions = p.asked;
    ck_assert_uint_gt(questions, LEAVES + NEWER / 16);
    for (size_t end = 1; end <= questions; end += end < 5 || end > questions - 5 ? 1 : 7) {
        p = (patience){.end = end};
        ck_fails(meta_columns_match(m.columns, f, is_patient, &p, &set, &error), SEM_CANCELLED);
        ck_assert_ptr_null(set);
        ck_assert_uint_eq(p.asked, end); /* and is not asked again */
    }
    filter_free(f);
    model_close(&m);
}
END_TEST

START_TEST(sets_survive_the_way_into_plain_bitmaps_and_back)
{
    sem_error error;
    random_state random;
    random_seed(&random, testing_seed());
    for (int round = 0; round < 60; round++) {
        docset *s = roaring_bitmap_create();
        size_t count = random_below(&random, 3) == 0 ? random_below(&random, 40) : random_below(&random, 60000);
        uint32_t below = random_below(&random, 2) == 0 ? 70000 : 700000;
        for (size_t i = 0; i < count; i++)
            roaring_bitmap_add(s, (uint32_t)random_below(&random, below));
        if (random_below(&random, 3) == 0)
            roaring_bitmap_add_range(s, 1000, 1000 + random_below(&random, 150000));
        if (random_below(&random, 2) == 0)
            roaring_bitmap_run_optimize(s);
        uint64_t *words;
        uint32_t *array;
        size_t bits, listed;
        ck_ok(docset_to_bits(s, &words, &bits, &error));
        ck_ok(docset_to_array(s, &array, &listed, &error));
        size_t set = 0;
        for (size_t d = 0; d < bits; d++)
            if ((words[d / 64] >> d % 64 & 1) != 0)
                ck_assert_uint_eq(array[set++], d);
        ck_assert_uint_eq(set, listed);
        ck_assert_uint_eq(roaring_bitmap_get_cardinality(s), listed);
        docset_builder b = {0};
        for (size_t block = 0; block * DOCSET_BLOCK < bits; block++) {
            size_t in_block = 0;
            for (size_t w = 0; w < DOCSET_WORDS; w++)
                in_block += (size_t)__builtin_popcountll(words[block * DOCSET_WORDS + w]);
            docset_add_bits(&b, (uint32_t)block, words + block * DOCSET_WORDS, in_block);
        }
        docset *again = docset_finish(&b);
        ck_assert(roaring_bitmap_equals(s, again));
        docset_free(again);
        docset_free(s);
        free(words);
        free(array);
    }
}
END_TEST

/* --- threads: a document has the same number in two fields, always */

enum { TWINS = 70000, TWIN_REQUESTS = 600, TWIN_BATCH = 50 };

typedef struct twins {
    meta_columns *columns;
    filter *same, *some; /* all documents by two fields; those of an interval */
    atomic_bool finished;
    atomic_size_t looked, wrong, failed;
} twins;

static filter *filter_from(const msgpack_sbuffer *b)
{
    sem_error error;
    filter *f;
    ck_ok(filter_parse(&f, (const unsigned char *)b->data, b->size, &error));
    return f;
}

/* "x" is at least 500 where "y" is below it, which no document ever is. */
static filter *never_filter(void)
{
    msgpack_sbuffer b;
    msgpack_packer p;
    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 1);
    pack_text_value(&p, "all");
    msgpack_pack_array(&p, 2);
    for (int i = 0; i < 2; i++) {
        msgpack_pack_map(&p, 2);
        pack_text_value(&p, "field");
        pack_text_value(&p, i == 0 ? "x" : "y");
        pack_text_value(&p, i == 0 ? "gte" : "lt");
        msgpack_pack_uint64(&p, 500);
    }
    filter *f = filter_from(&b);
    msgpack_sbuffer_destroy(&b);
    return f;
}

static void pack_twin(msgpack_sbuffer *b, uint64_t number)
{
    msgpack_packer p;
    msgpack_packer_init(&p, b, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 2);
    pack_text_value(&p, "x");
    msgpack_pack_uint64(&p, number);
    pack_text_value(&p, "y");
    msgpack_pack_uint64(&p, number);
}

static void *twin_reader(void *context)
{
    twins *t = context;
    sem_error error;
    while (!atomic_load(&t->finished)) {
        docset *never, *live;
        if (meta_columns_match(t->columns, t->same, NULL, NULL, &never, &error) != SEM_OK ||
            meta_columns_match(t->columns, t->some, NULL, NULL, &live, &error) != SEM_OK || never == NULL ||
            live == NULL) {
            atomic_fetch_add(&t->failed, 1);
            break;
        }
        /* A request's documents come and go together. */
        if (!roaring_bitmap_is_empty(never) || roaring_bitmap_get_cardinality(live) % TWIN_BATCH != 0)
            atomic_fetch_add(&t->wrong, 1);
        atomic_fetch_add(&t->looked, 1);
        docset_free(never);
        docset_free(live);
    }
    return NULL;
}

static void *twin_merger(void *context)
{
    twins *t = context;
    sem_error error;
    while (!atomic_load(&t->finished))
        if (meta_columns_merge(t->columns, &error) != SEM_OK)
            atomic_fetch_add(&t->failed, 1);
    return NULL;
}

static void write_twins(twins *t, random_state *r)
{
    sem_error error;
    msgpack_sbuffer b[TWIN_BATCH];
    meta_change changes[TWIN_BATCH];
    uint32_t batch = (uint32_t)random_below(r, TWINS / TWIN_BATCH);
    bool removed = random_below(r, 4) == 0;
    for (uint32_t i = 0; i < TWIN_BATCH; i++) {
        msgpack_sbuffer_init(&b[i]);
        pack_twin(&b[i], random_below(r, 1000));
        /* Spread over both blocks. */
        changes[i] = (meta_change){.docno = batch + i * (TWINS / TWIN_BATCH),
                                   .removed = removed,
                                   .meta = (const unsigned char *)b[i].data,
                                   .length = b[i].size};
    }
    ck_ok(meta_columns_apply(t->columns, changes, TWIN_BATCH, &error));
    for (uint32_t i = 0; i < TWIN_BATCH; i++)
        msgpack_sbuffer_destroy(&b[i]);
}

START_TEST(a_filter_sees_one_moment_of_all)
{
    sem_error error;
    msgpack_sbuffer b;
    msgpack_packer p;
    random_state random;
    pthread_t threads[3];
    twins t = {.same = never_filter()};
    random_seed(&random, testing_seed());
    msgpack_sbuffer_init(&b);
    msgpack_packer_init(&p, &b, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 1);
    pack_text_value(&p, "all");
    msgpack_pack_array(&p, 0);
    t.some = filter_from(&b);
    msgpack_sbuffer_destroy(&b);
    ck_ok(meta_columns_create(&t.columns, true, &error));
    ck_assert_int_eq(pthread_create(&threads[0], NULL, twin_reader, &t), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, twin_reader, &t), 0);
    ck_assert_int_eq(pthread_create(&threads[2], NULL, twin_merger, &t), 0);
    for (int i = 0; i < TWIN_REQUESTS || atomic_load(&t.looked) < 100; i++) {
        write_twins(&t, &random);
        if (atomic_load(&t.failed) > 0)
            break;
    }
    atomic_store(&t.finished, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(atomic_load(&t.failed), 0);
    ck_assert_uint_eq(atomic_load(&t.wrong), 0);
    filter_free(t.same);
    filter_free(t.some);
    meta_columns_release(t.columns);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("meta_columns");
    TCase *tests = tcase_create("columns");
    tcase_set_timeout(tests, 280);
    tcase_add_test(tests, columns_match_what_the_filter_matches);
    tcase_add_test(tests, columns_of_many_blocks_match_too);
    tcase_add_test(tests, what_is_changed_during_a_fill_wins);
    tcase_add_test(tests, a_filter_is_given_up_between_its_parts);
    tcase_add_test(tests, sets_survive_the_way_into_plain_bitmaps_and_back);
    suite_add_tcase(suite, tests);
    TCase *threads = tcase_create("threads");
    tcase_set_timeout(threads, 280);
    tcase_add_test(threads, a_filter_sees_one_moment_of_all);
    suite_add_tcase(suite, threads);
    return testing_run(suite);
}
