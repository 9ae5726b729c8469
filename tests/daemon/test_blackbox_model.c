/* Random requests of every kind that reads or writes documents, one after the other,
 * compared with a plain reference in memory that searches by brute force, while the
 * daemon trains, compacts, is restarted and is killed. test_blackbox_random has the same
 * with several clients and changing generations, and looks at less.
 *
 * SEMD_TEST_OPERATIONS=100000 runs longer (make torture); SEMD_TEST_SEED repeats a run. */
#include "tests/daemon/blackbox.h"
#include "tests/daemon/model_reference.h"

enum { OPERATIONS = 20000, RESTART_EVERY = 2500 };

static box b;
static reference ref;
static uint64_t operation; /* under way, for messages */

/* --- requests */

static buffer params;
static packer p;

static void begin(uint32_t keys)
{
    params.size = 0;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, keys);
}

static void key_str(const char *key, const char *value)
{
    pack_str(&p, key);
    pack_str(&p, value);
}

static const msgpack_object *call(const char *method)
{
    sem_error error;
    box_forget_reply(&b);
    ck_assert(!p.failed);
    ck_ok(client_call(b.client, method, params.data, params.size, BOX_TIMEOUT_MS, &b.reply, &error));
    b.has_reply = true;
    ck_assert_msg(client_reply_status(&b.reply, &error) == SEM_OK, "operation %llu, %s: %s",
                  (unsigned long long)operation, method, error.message);
    return &b.reply.value;
}

#define expect(condition, ...)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("operation %llu: ", (unsigned long long)operation);                                                 \
            printf(__VA_ARGS__);                                                                                       \
            printf("\n");                                                                                              \
            fflush(stdout);                                                                                            \
            ck_abort_msg("operation %llu: %s", (unsigned long long)operation, #condition);                             \
        }                                                                                                              \
    } while (0)

/* Half of the ids are integers, half strings. */
static void pack_doc_id(unsigned i)
{
    char text[16];
    snprintf(text, sizeof text, "s%u", i);
    if (i % 2 == 0)
        pack_uint(&p, i);
    else
        pack_str(&p, text);
}

static unsigned id_of(const msgpack_object *id)
{
    ck_assert_ptr_nonnull(id);
    unsigned i = id->type == MSGPACK_OBJECT_STR ? (unsigned)strtoul(id->via.str.ptr + 1, NULL, 10)
                                                : (unsigned)id->via.u64;
    ck_assert_uint_lt(i, IDS);
    ck_assert(i % 2 == (id->type == MSGPACK_OBJECT_STR));
    return i;
}

static void pack_filter(const condition *f)
{
    pack_str(&p, "filter");
    pack_map(&p, 1);
    pack_str(&p, "all");
    pack_array(&p, 2);
    pack_map(&p, 2);
    key_str("field", "group");
    pack_str(&p, "eq");
    pack_int(&p, f->group);
    pack_map(&p, 3);
    key_str("field", "number");
    pack_str(&p, "gte");
    pack_int(&p, f->from);
    pack_str(&p, "lt");
    pack_int(&p, f->to);
}

/* --- writing */

static void pack_one(const collection *c, unsigned i, const document *d)
{
    char text[TEXT_SIZE];
    text_of(d->text, text);
    pack_map(&p, 3u + c->external);
    pack_str(&p, "id");
    pack_doc_id(i);
    key_str("text", text);
    if (c->external) {
        pack_str(&p, "vector");
        pack_bin(&p, d->vector, EXTERNAL_DIM * sizeof(float));
    }
    pack_str(&p, "meta");
    pack_map(&p, 2);
    pack_str(&p, "group");
    pack_int(&p, d->group);
    pack_str(&p, "number");
    pack_int(&p, d->number);
}

static void do_upsert(collection *c)
{
    enum { MAX = 8 };
    static uint64_t written[IDS]; /* the last operation that wrote each */
    uint32_t count = below(&ref, 4) == 0 ? MAX : 1, different = 0;
    begin(2);
    key_str("collection", c->name);
    pack_str(&p, "docs");
    pack_array(&p, count);
    for (uint32_t n = 0; n < count; n++) {
        unsigned i = (unsigned)below(&ref, IDS);
        document *d = &c->docs[i];
        /* A third changes the meta alone. */
        reference_change(&ref, c, i, d->exists && below(&ref, 3) == 0);
        pack_one(c, i, d);
        different += written[i] != operation;
        written[i] = operation;
    }
    uint64_t upserted = object_uint(object_get(call("upsert"), "upserted"), UINT64_MAX);
    expect(upserted == different, "%llu of %u upserted", (unsigned long long)upserted, different);
}

static void do_delete(collection *c)
{
    uint32_t count = 1 + (uint32_t)below(&ref, 6);
    unsigned expected = 0;
    begin(2);
    key_str("collection", c->name);
    pack_str(&p, "ids");
    pack_array(&p, count);
    for (uint32_t n = 0; n < count; n++) {
        unsigned i = (unsigned)below(&ref, IDS);
        pack_doc_id(i);
        expected += c->docs[i].exists;
        reference_delete(c, i);
    }
    expect(object_uint(object_get(call("delete"), "deleted"), UINT64_MAX) == expected, "%u were there", expected);
}

static void do_delete_filtered(collection *c)
{
    condition f = random_condition(&ref, 100);
    unsigned expected = 0;
    begin(2);
    key_str("collection", c->name);
    pack_filter(&f);
    for (unsigned i = 0; i < IDS; i++)
        if (c->docs[i].exists && passes(&c->docs[i], &f)) {
            expected++;
            reference_delete(c, i);
        }
    uint64_t deleted = object_uint(object_get(call("delete"), "deleted"), UINT64_MAX);
    expect(deleted == expected, "%llu of %u deleted", (unsigned long long)deleted, expected);
}

static void create(collection *c)
{
    begin(2);
    key_str("name", c->name);
    pack_str(&p, "options");
    pack_map(&p, c->external ? 3 : 0);
    if (c->external) {
        key_str("vectors", "external");
        key_str("metric", "dot");
        pack_str(&p, "dim");
        pack_uint(&p, EXTERNAL_DIM);
    }
    ck_assert(object_get(call("collection.create"), "created")->via.boolean);
    c->exists = true;
}

static void drop(collection *c)
{
    begin(1);
    key_str("name", c->name);
    ck_assert(object_get(call("collection.drop"), "dropped")->via.boolean);
    reference_drop(c);
}

/* --- reading */

static void expect_document(const collection *c, const msgpack_object *found, const document *d, unsigned i)
{
    char text[TEXT_SIZE];
    if (!d->exists) {
        expect(found->type == MSGPACK_OBJECT_NIL, "%s: document %u was deleted", c->name, i);
        return;
    }
    expect(found->type == MSGPACK_OBJECT_MAP, "%s: document %u is missing", c->name, i);
    const msgpack_object *meta = object_get(found, "meta"), *vector = object_get(found, "vector");
    text_of(d->text, text);
    expect(object_is(object_get(found, "text"), text), "%s: document %u has another text", c->name, i);
    expect(object_uint(object_get(meta, "group"), 99) == (uint64_t)d->group &&
               object_uint(object_get(meta, "number"), UINT64_MAX) == (uint64_t)d->number,
           "%s: document %u has another meta", c->name, i);
    if (vector != NULL)
        expect(same_vector(&ref, c, d, vector->via.bin.ptr, vector->via.bin.size), "%s: document %u has another vector",
               c->name, i);
}

static void do_get(const collection *c)
{
    enum { MAX = 10 };
    unsigned ids[MAX];
    bool vectors = below(&ref, 2) == 0;
    begin(3);
    key_str("collection", c->name);
    pack_str(&p, "with");
    pack_array(&p, 2u + vectors);
    pack_str(&p, "text");
    pack_str(&p, "meta");
    if (vectors)
        pack_str(&p, "vector");
    pack_str(&p, "ids");
    pack_array(&p, MAX);
    for (int n = 0; n < MAX; n++)
        pack_doc_id(ids[n] = (unsigned)below(&ref, IDS));
    const msgpack_object *docs = call("get");
    for (int n = 0; n < MAX; n++)
        expect_document(c, box_at(docs, (size_t)n), &c->docs[ids[n]], ids[n]);
}

static void do_count(const collection *c)
{
    condition f = random_condition(&ref, 1000);
    bool filtered = below(&ref, 2) == 0;
    unsigned expected = 0;
    begin(1u + filtered);
    key_str("collection", c->name);
    if (filtered)
        pack_filter(&f);
    for (unsigned i = 0; i < IDS; i++)
        expected += c->docs[i].exists && (!filtered || passes(&c->docs[i], &f));
    uint64_t count = object_uint(object_get(call("count"), "count"), UINT64_MAX);
    expect(count == expected, "%s: %llu instead of %u are counted", c->name, (unsigned long long)count, expected);
}

/* All of it, in order: integers before strings, and these by their bytes. */
static void do_scroll(const collection *c)
{
    static bool seen[IDS];
    char after[2048] = "";
    unsigned count = 0, last = 0;
    memset(seen, 0, sizeof seen);
    for (;;) {
        begin(after[0] != '\0' ? 3 : 2);
        key_str("collection", c->name);
        pack_str(&p, "limit");
        pack_uint(&p, 300);
        if (after[0] != '\0')
            key_str("after", after);
        const msgpack_object *r = call("scroll"), *docs = object_get(r, "docs"), *next = object_get(r, "next");
        for (size_t n = 0; n < box_count(docs); n++) {
            unsigned i = id_of(object_get(box_at(docs, n), "id"));
            expect(!seen[i], "%s: document %u comes twice", c->name, i);
            expect(count == 0 || i % 2 > last % 2 || (i % 2 == 1 && last % 2 == 1) || i > last, "%u after %u", i, last);
            expect_document(c, box_at(docs, n), &c->docs[i], i);
            seen[i] = true;
            last = i;
            count++;
        }
        if (next->type == MSGPACK_OBJECT_NIL)
            break;
        snprintf(after, sizeof after, "%.*s", (int)next->via.str.size, next->via.str.ptr);
    }
    for (unsigned i = 0; i < IDS; i++)
        expect(seen[i] == c->docs[i].exists, "%s: document %u is %s", c->name, i, seen[i] ? "new" : "missing");
}

/* What holds for every answer of a dense search, and its recall. */
static double check_hits(const collection *c, const msgpack_object *hits, const float *query, const condition *f,
                         size_t k)
{
    static bool seen[IDS];
    static double best[IDS];
    size_t passing = brute_force(&ref, c, query, f, best), expected = passing < k ? passing : k, found = 0;
    double last = 1e9;
    memset(seen, 0, sizeof seen);
    expect(box_count(hits) == expected, "%s: %zu hits instead of %zu", c->name, box_count(hits), expected);
    for (size_t n = 0; n < expected; n++) {
        const msgpack_object *hit = box_at(hits, n);
        unsigned i = id_of(object_get(hit, "id"));
        const document *d = &c->docs[i];
        double score = object_double(object_get(hit, "score"), -1e9);
        expect(d->exists, "%s: document %u was deleted", c->name, i);
        expect(f == NULL || passes(d, f), "%s: document %u does not pass the filter", c->name, i);
        expect(!seen[i], "%s: document %u comes twice", c->name, i);
        double right = similarity(&ref, c, d, query);
        expect(fabs(score - right) < TOLERANCE, "%s: document %u scores %.7f instead of %.7f", c->name, i, score,
               right);
        expect(score <= last + 1e-9, "%s: hit %zu is better than the one before", c->name, n);
        seen[i] = true;
        last = score;
        found += score >= best[expected - 1] - TOLERANCE;
    }
    return expected == 0 ? 1.0 : (double)found / (double)expected;
}

static void do_search(const collection *c)
{
    static const double asked[] = {0.8, 0.9, 0.95, 0.99};
    float query[DIM_MAX];
    condition f = random_condition(&ref, 1000);
    bool filtered = below(&ref, 3) == 0;
    size_t k = below(&ref, 8) == 0 ? 200 : 10, way = below(&ref, 4), target = below(&ref, 4);
    unsigned like = (unsigned)below(&ref, TEXTS);
    begin(5u + filtered);
    key_str("collection", c->name);
    random_query(&ref, c, like, query);
    if (c->external) {
        pack_str(&p, "vector");
        pack_bin(&p, query, EXTERNAL_DIM * sizeof *query);
    } else {
        char text[TEXT_SIZE];
        text_of(like, text);
        key_str("query", text);
    }
    pack_str(&p, "k");
    pack_uint(&p, k);
    pack_str(&p, "log");
    pack_bool(&p, below(&ref, 2) == 0);
    pack_str(&p, way == 0 ? "exact" : "recall");
    if (way == 0)
        pack_bool(&p, true);
    else
        pack_double(&p, asked[target]);
    if (filtered)
        pack_filter(&f);
    double recall = check_hits(c, object_get(call("search"), "hits"), query, filtered ? &f : NULL, k);
    if (way == 0)
        expect(recall == 1.0, "%s: an exact search has recall %g", c->name, recall);
    else
        reference_add_recall(&ref, c, target, recall);
}

static void do_lexical(const collection *c)
{
    static bool seen[IDS];
    unsigned word = (unsigned)below(&ref, WORDS), expected = 0;
    condition f = random_condition(&ref, 1000);
    bool filtered = below(&ref, 3) == 0;
    begin(4u + filtered);
    key_str("collection", c->name);
    key_str("mode", "lexical");
    key_str("query", words[word]);
    pack_str(&p, "k");
    pack_uint(&p, IDS);
    if (filtered)
        pack_filter(&f);
    for (unsigned i = 0; i < IDS; i++)
        expected += c->docs[i].exists && has_word(c->docs[i].text, word) && (!filtered || passes(&c->docs[i], &f));
    const msgpack_object *hits = object_get(call("search"), "hits");
    memset(seen, 0, sizeof seen);
    expect(box_count(hits) == expected, "%s: %zu of %u documents are found by %s", c->name, box_count(hits), expected,
           words[word]);
    for (size_t n = 0; n < expected; n++) {
        unsigned i = id_of(object_get(box_at(hits, n), "id"));
        expect(c->docs[i].exists && has_word(c->docs[i].text, word) && (!filtered || passes(&c->docs[i], &f)),
               "%s: document %u is found by %s", c->name, i, words[word]);
        expect(!seen[i], "%s: document %u comes twice", c->name, i);
        seen[i] = true;
    }
}

/* --- the daemon's lives */

/* Kills it in the middle of a write, which then happened or did not. */
static void kill_while_writing(void)
{
    sem_error error;
    uint32_t msgid;
    collection *c = &ref.collections[0];
    unsigned i = (unsigned)below(&ref, IDS);
    const document before = c->docs[i];
    reference_change(&ref, c, i, false);
    const document after = c->docs[i];
    begin(2);
    key_str("collection", c->name);
    pack_str(&p, "docs");
    pack_array(&p, 1);
    pack_one(c, i, &after);
    ck_ok(client_send(b.client, "upsert", params.data, params.size, &msgid, &error));
    usleep((useconds_t)below(&ref, 3000));
    box_kill(&b);
    box_start(&b);
    begin(2);
    key_str("collection", c->name);
    pack_str(&p, "ids");
    pack_array(&p, 1);
    pack_doc_id(i);
    const msgpack_object *doc = box_at(call("get"), 0);
    char text[TEXT_SIZE];
    text_of(after.text, text);
    bool happened = doc->type == MSGPACK_OBJECT_MAP && object_is(object_get(doc, "text"), text) &&
                    object_uint(object_get(object_get(doc, "meta"), "number"), UINT64_MAX) == (uint64_t)after.number;
    c->docs[i] = happened ? after : before;
    expect_document(c, doc, &c->docs[i], i);
}

static void begin_another_life(void)
{
    if (below(&ref, 2) == 0) {
        kill_while_writing();
    } else {
        box_stop(&b);
        box_start(&b);
    }
    for (int i = 0; i < COLLECTIONS; i++)
        if (ref.collections[i].exists)
            do_scroll(&ref.collections[i]);
}

/* --- all of it */

static void step(void)
{
    collection *c = &ref.collections[below(&ref, COLLECTIONS)];
    uint64_t what = below(&ref, 1000);
    if (!c->exists)
        create(c);
    else if (what < 330)
        do_upsert(c);
    else if (what < 430)
        do_delete(c);
    else if (what < 440)
        do_delete_filtered(c);
    else if (what < 443 && c != &ref.collections[0])
        drop(c);
    else if (what < 600)
        do_get(c);
    else if (what < 680)
        do_count(c);
    else if (what < 685)
        do_scroll(c);
    else if (what < 760)
        do_lexical(c);
    else
        do_search(c);
}

/* What the model makes of each text. */
static void learn_vectors(void)
{
    begin(1);
    pack_str(&p, "texts");
    pack_array(&p, TEXTS);
    for (unsigned i = 0; i < TEXTS; i++) {
        char text[TEXT_SIZE];
        text_of(i, text);
        pack_str(&p, text);
    }
    const msgpack_object *r = call("encode"), *all = object_get(r, "embeddings");
    ref.dim = (size_t)object_uint(object_get(r, "dim"), 0);
    ck_assert(ref.dim > 0 && ref.dim <= DIM_MAX);
    for (unsigned i = 0; i < TEXTS; i++) {
        const msgpack_object *vector = box_at(all, i);
        ck_assert_uint_eq(vector->via.bin.size, ref.dim * sizeof(float));
        memcpy(ref.texts[i], vector->via.bin.ptr, vector->via.bin.size);
    }
}

/* Lists come early, and everybody has some. */
static const char *const options[] = {"index.exact_below=300", "model.precision=float32", "server.idle_timeout=1h"};

START_TEST(random_operations_agree_with_a_plain_reference)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    const char *wanted = getenv("SEMD_TEST_OPERATIONS");
    const uint64_t operations = wanted != NULL ? strtoull(wanted, NULL, 10) : OPERATIONS;
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        b.options[i] = options[i];
    box_start(&b);
    reference_begin(&ref, testing_seed());
    learn_vectors();
    create(&ref.collections[1]);
    create(&ref.collections[2]);
    for (operation = 1; operation <= operations; operation++) {
        step();
        if (operation % RESTART_EVERY == 0)
            begin_another_life();
    }
    for (int i = 0; i < COLLECTIONS; i++)
        if (ref.collections[i].exists)
            do_scroll(&ref.collections[i]);
    reference_expect_recall(&ref);
    box_stop(&b);
    buffer_free(&params);
}
END_TEST

int main(void)
{
    /* Where a commit need not wait for a disk; a killed process loses nothing there either. */
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_set_timeout(t, 3000);
    tcase_add_test(t, random_operations_agree_with_a_plain_reference);
    suite_add_tcase(s, t);
    return testing_run(s);
}
