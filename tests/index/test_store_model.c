/* 10,000 random operations, compared with a plain reference in memory: groups
 * that are committed or aborted, the store closed and opened again. */
#include "tests/index/store_fixture.h"

#include "base/random.h"

enum { COLLECTIONS = 3, IDS = 40, OPERATIONS = 10000, GROUP_MAX = 60, TEXTS = 5 };

typedef struct ref_vector {
    bool present;
    uint64_t version;
    float first; /* component; the others follow from it */
} ref_vector;

typedef struct ref_document {
    bool exists;
    uint32_t docno;
    uint64_t seq, text_version;
    unsigned text, meta;   /* which of TEXTS */
    ref_vector vectors[3]; /* by space */
} ref_document;

typedef struct ref_collection {
    bool exists;
    uint32_t number;
    ref_document docs[IDS];
} ref_collection;

typedef struct reference {
    ref_collection collections[COLLECTIONS];
    uint64_t seq;
    uint64_t log_sum; /* of all changes since the last trim, order included */
} reference;

static const char *const names[COLLECTIONS] = {"a", "bb", "ccc"};
static const char *const texts[TEXTS] = {"", "one", "two of them", "three", "a longer text than the others have"};

typedef struct model {
    store *s;
    store_write *w;        /* NULL between groups */
    reference now, before; /* before: at the start of the group */
    random_state random;
    float next;
} model;

/* Integers, then strings: in the order in which the store must walk them. */
static docid id_at(size_t i)
{
    static char names_of_ids[IDS][24];
    if (i < IDS / 2)
        return number_id(i * 1000);
    snprintf(names_of_ids[i], sizeof names_of_ids[i], "id%03zu", i);
    return string_id(names_of_ids[i]);
}

static void fill_vector(float v[DIM], float first)
{
    for (int d = 0; d < DIM; d++)
        v[d] = first + (float)d;
}

static uint64_t mix(uint64_t sum, uint64_t seq, uint32_t collection, uint32_t docno, bool removed)
{
    return (sum * 31 + seq) * 31 + ((uint64_t)collection * 31 + docno) * 2 + removed;
}

static bool sum_log(void *context, uint64_t seq, uint32_t collection, uint32_t docno, bool removed)
{
    uint64_t *sum = context;
    *sum = mix(*sum, seq, collection, docno, removed);
    return true;
}

/* --- operations on both */

/* A document as it will be put; vector and second: [DIM] of it. */
static store_put make_put(model *m, const ref_document *old, size_t at, float *vector, float *second)
{
    static const unsigned char meta[2] = {0x81, 0xa0};
    unsigned text = (unsigned)random_below(&m->random, TEXTS);
    /* Often the same text and vector again. */
    bool same = old->exists && old->vectors[SPACE].present && random_below(&m->random, 3) == 0;
    text = same ? old->text : text;
    fill_vector(vector, same ? old->vectors[SPACE].first : m->next++);
    fill_vector(second, m->next++);
    return (store_put){.id = id_at(at),
                       .text = texts[text],
                       .text_length = strlen(texts[text]),
                       .meta = meta,
                       .meta_length = random_below(&m->random, 3),
                       .vector = vector,
                       .second = random_below(&m->random, 2) == 0 ? second : NULL};
}

/* What the store said of a put, and what that makes of the reference's document. */
static void note_put(model *m, const ref_collection *c, ref_document *d, const store_put *put, uint64_t seq)
{
    unsigned text = 0;
    while (strcmp(texts[text], put->text) != 0)
        text++;
    ck_assert_int_eq(d->exists, put->existed);
    if (d->exists)
        ck_assert_uint_eq(d->docno, put->docno);
    ck_assert_int_eq(put->repeated, d->exists && d->seq == seq);
    if (!put->repeated)
        m->now.log_sum = mix(m->now.log_sum, seq, c->number, put->docno, false);
    const ref_vector *v = &d->vectors[SPACE];
    bool kept = d->exists && d->text == text && v->present && v->version == d->text_version &&
                v->first == put->vector[0];
    ck_assert_int_eq(put->kept, kept);
    if (!kept)
        d->text_version = seq;
    d->exists = true;
    d->docno = put->docno;
    d->seq = seq;
    d->text = text;
    d->meta = (unsigned)put->meta_length;
    d->vectors[SPACE] = (ref_vector){true, d->text_version, put->vector[0]};
    if (put->second != NULL)
        d->vectors[OTHER_SPACE] = (ref_vector){true, d->text_version, put->second[0]};
}

static void put(model *m, ref_collection *c)
{
    enum { MAX = 6 };
    sem_error error;
    float vectors[MAX][DIM], seconds[MAX][DIM];
    size_t at[MAX];
    store_put puts[MAX];
    size_t count = 1 + random_below(&m->random, MAX);
    uint64_t seq;
    for (size_t i = 0; i < count; i++) {
        at[i] = random_below(&m->random, IDS);
        puts[i] = make_put(m, &c->docs[at[i]], at[i], vectors[i], seconds[i]);
    }
    ck_ok(store_documents_put(m->w, c->number, SPACE, DIM, OTHER_SPACE, DIM, puts, count, &seq, &error));
    ck_assert_uint_eq(seq, ++m->now.seq);
    for (size_t i = 0; i < count; i++)
        note_put(m, c, &c->docs[at[i]], &puts[i], seq);
}

static void erase(model *m, ref_collection *c)
{
    enum { MAX = 8 };
    sem_error error;
    docid ids[MAX];
    uint32_t docnos[MAX];
    size_t at[MAX], count = 1 + random_below(&m->random, MAX), deleted, expected = 0;
    uint64_t seq;
    for (size_t i = 0; i < count; i++) {
        at[i] = random_below(&m->random, IDS);
        ids[i] = id_at(at[i]);
    }
    ck_ok(store_documents_delete(m->w, c->number, ids, count, docnos, &deleted, &seq, &error));
    ck_assert_uint_eq(seq, ++m->now.seq);
    for (size_t i = 0; i < count; i++) {
        ref_document *d = &c->docs[at[i]];
        if (!d->exists)
            continue;
        ck_assert_uint_lt(expected, deleted);
        ck_assert_uint_eq(docnos[expected++], d->docno);
        m->now.log_sum = mix(m->now.log_sum, seq, c->number, d->docno, true);
        *d = (ref_document){.exists = false};
    }
    ck_assert_uint_eq(deleted, expected);
}

static void embed_again(model *m, ref_collection *c)
{
    sem_error error;
    float v[DIM];
    bool stored;
    uint32_t slot;
    ref_document *d = &c->docs[random_below(&m->random, IDS)];
    uint64_t version = random_below(&m->random, 3) == 0 ? d->text_version + 1 : d->text_version;
    fill_vector(v, m->next++);
    ck_ok(store_vector_put(m->w, OTHER_SPACE, c->number, d->exists ? d->docno : UINT32_MAX, version, v, DIM, &stored,
                           &slot, &error));
    ck_assert_int_eq(stored, d->exists && version == d->text_version);
    if (stored)
        d->vectors[OTHER_SPACE] = (ref_vector){true, version, v[0]};
}

static void create_or_drop(model *m, ref_collection *c, const char *name)
{
    sem_error error;
    if (!c->exists) {
        c->number = make_collection(m->w, name);
        c->exists = true;
    } else if (random_below(&m->random, 8) == 0) {
        ck_ok(store_collection_drop(m->w, c->number, &error));
        *c = (ref_collection){.exists = false};
    }
}

/* One that fails must change nothing. */
static void put_wrong(model *m, ref_collection *c)
{
    sem_error error;
    uint64_t seq;
    float v[DIM] = {0};
    docid wrong = string_id("");
    store_put puts[2] = {{.id = id_at(random_below(&m->random, IDS)), .text = "lost", .text_length = 4, .vector = v},
                         {.id = wrong, .text = "lost", .text_length = 4, .vector = v}};
    ck_fails(store_documents_put(m->w, c->number, SPACE, DIM, 0, 0, puts, 2, &seq, &error), SEM_INVALID_ARGUMENT);
}

/* --- comparison */

static void compare_document(store_read *r, const ref_collection *c, const ref_document *d, const docid *id)
{
    sem_error error;
    store_document doc;
    bool found;
    ck_ok(store_document_get(r, c->number, id, &doc, &found, &error));
    ck_assert_int_eq(found, d->exists);
    if (!found)
        return;
    ck_assert(doc.docno == d->docno && doc.seq == d->seq && doc.text_version == d->text_version);
    ck_assert(doc.text_length == strlen(texts[d->text]) && memcmp(doc.text, texts[d->text], doc.text_length) == 0);
    ck_assert_uint_eq(doc.meta_length, d->meta);
    for (uint32_t space = SPACE; space <= OTHER_SPACE; space++) {
        const ref_vector *wanted = &d->vectors[space];
        uint64_t version;
        float v[DIM], w[DIM];
        ck_ok(store_vector_get(r, space, c->number, d->docno, v, DIM, &version, &found, &error));
        ck_assert_int_eq(found, wanted->present);
        if (!found)
            continue;
        fill_vector(w, wanted->first);
        ck_assert_mem_eq(v, w, sizeof v);
        ck_assert_uint_eq(version, wanted->version);
    }
}

typedef struct walking {
    const ref_collection *c;
    size_t at, count;
} walking;

static bool walk_one(void *context, const store_document *doc)
{
    walking *walk = context;
    while (walk->at < IDS && !walk->c->docs[walk->at].exists)
        walk->at++;
    ck_assert_uint_lt(walk->at, IDS);
    ck_assert_uint_eq(doc->docno, walk->c->docs[walk->at++].docno);
    walk->count++;
    return true;
}

static void compare_collection(store_read *r, const ref_collection *c, const char *name)
{
    sem_error error;
    store_collection found;
    size_t documents = 0, vectors[3] = {0}, seen;
    uint64_t bytes = 0;
    sem_status status = store_collection_find(r, name, strlen(name), &found, &error);
    ck_assert_int_eq(status, c->exists ? SEM_OK : SEM_NOT_FOUND);
    if (!c->exists)
        return;
    ck_assert_uint_eq(found.number, c->number);
    for (size_t i = 0; i < IDS; i++) {
        docid id = id_at(i);
        const ref_document *d = &c->docs[i];
        compare_document(r, c, d, &id);
        documents += d->exists;
        bytes += d->exists ? strlen(texts[d->text]) + d->meta : 0;
        for (uint32_t space = SPACE; space <= OTHER_SPACE; space++)
            vectors[space] += d->vectors[space].present;
    }
    ck_assert(found.documents == documents && found.placed == documents && found.bytes == bytes);
    walking walk = {.c = c};
    ck_ok(store_document_walk(r, c->number, NULL, 0, walk_one, &walk, &error));
    ck_assert_uint_eq(walk.count, documents);
    for (uint32_t space = SPACE; space <= OTHER_SPACE; space++) {
        seen = 0;
        ck_ok(store_vector_walk(r, space, c->number, count_vector, &seen, &error));
        ck_assert_uint_eq(seen, vectors[space]);
    }
}

static void compare(store_read *r, const reference *wanted)
{
    sem_error error;
    uint64_t sum = 0;
    for (size_t i = 0; i < COLLECTIONS; i++)
        compare_collection(r, &wanted->collections[i], names[i]);
    ck_assert_uint_eq(store_last_seq(r), wanted->seq);
    ck_ok(store_log_walk(r, 0, sum_log, &sum, &error));
    ck_assert_uint_eq(sum, wanted->log_sum);
}

/* --- the loop */

static void end_group(model *m)
{
    sem_error error;
    store_read *r, *old;
    if (random_below(&m->random, 2) == 0)
        compare(store_write_view(m->w), &m->now);
    ck_ok(store_read_begin(m->s, &old, &error));
    if (random_below(&m->random, 4) == 0) {
        store_write_abort(m->w);
        m->now = m->before;
    } else {
        ck_ok(store_write_commit(m->w, &error));
    }
    m->w = NULL;
    ck_ok(store_read_begin(m->s, &r, &error));
    compare(r, &m->now);
    /* A read from before sees what was before, vectors included. */
    compare(old, &m->before);
    store_read_end(old);
    store_read_end(r);
    if (random_below(&m->random, 10) == 0) {
        store_close(m->s);
        m->s = open_with(MAP, 0);
    }
}

static void step(model *m)
{
    sem_error error;
    if (m->w == NULL) {
        m->before = m->now;
        ck_ok(store_write_begin(m->s, &m->w, &error));
    }
    size_t which = random_below(&m->random, COLLECTIONS);
    ref_collection *c = &m->now.collections[which];
    uint64_t what = random_below(&m->random, 100);
    if (!c->exists || what < 4)
        create_or_drop(m, c, names[which]);
    else if (what < 60)
        put(m, c);
    else if (what < 80)
        erase(m, c);
    else if (what < 92)
        embed_again(m, c);
    else if (what < 97)
        put_wrong(m, c);
    else if (what < 98) {
        ck_ok(store_log_trim(m->w, m->now.seq, &error));
        m->now.log_sum = 0;
    }
    if (random_below(&m->random, GROUP_MAX) == 0)
        end_group(m);
}

START_TEST(store_agrees_with_a_plain_reference)
{
    static model m;
    random_seed(&m.random, testing_seed());
    m.s = new_store(MAP);
    for (int i = 0; i < OPERATIONS; i++)
        step(&m);
    if (m.w != NULL)
        end_group(&m);
    for (int i = 0; i < 3; i++)
        empty_group(m.s);
    size_t wanted[3] = {0};
    for (size_t c = 0; c < COLLECTIONS; c++)
        for (size_t i = 0; i < IDS; i++)
            for (uint32_t space = SPACE; space <= OTHER_SPACE; space++)
                wanted[space] += m.now.collections[c].docs[i].vectors[space].present;
    store_close(m.s);
    /* Nothing is left over either. */
    ck_assert_uint_eq(vectors_on_disk("space-1"), wanted[SPACE]);
    ck_assert_uint_eq(vectors_on_disk("space-2"), wanted[OTHER_SPACE]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store model");
    TCase *tests = tcase_create("store model");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, store_agrees_with_a_plain_reference);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
