/* Filters of every selectivity on the real daemon, against a plain reference:
 * 20,000 documents in memory, gone through one by one. */
#include "tests/daemon/blackbox.h"

#include "base/random.h"

#include <math.h>

enum { DOCUMENTS = 20000, DIM = 16, TOPICS = 20, BATCH = 1000, K = 10, QUERIES = 12, PAGE = 700 };

typedef struct document {
    bool exists;
    uint32_t n, topic;
    bool tagged[3]; /* "x", "y", "z" */
    float vector[DIM];
} document;

static box b;
static document *all;
static random_state random_now;

static void random_vector(float *out, const float *centre)
{
    double norm = 0;
    for (size_t i = 0; i < DIM; i++) {
        out[i] = (float)(random_unit(&random_now) - 0.5) + (centre != NULL ? centre[i] : 0.0F);
        norm += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < DIM; i++)
        out[i] = (float)(out[i] / sqrt(norm));
}

static void make_documents(void)
{
    float centres[TOPICS][DIM];
    all = calloc(DOCUMENTS, sizeof *all);
    random_seed(&random_now, testing_seed());
    for (size_t t = 0; t < TOPICS; t++)
        random_vector(centres[t], NULL);
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        document *d = &all[i];
        /* Coprime to the count: n is each number once, in no order of ids. */
        *d = (document){.exists = true, .n = (uint32_t)((i * UINT64_C(7919)) % DOCUMENTS)};
        d->topic = (uint32_t)random_below(&random_now, TOPICS);
        for (int k = 0; k < 3; k++)
            d->tagged[k] = random_below(&random_now, 4) == 0;
        random_vector(d->vector, centres[d->topic]);
    }
}

static void pack_one(packer *p, uint32_t id, const document *d)
{
    char topic[16];
    size_t tags = (size_t)d->tagged[0] + d->tagged[1] + d->tagged[2];
    snprintf(topic, sizeof topic, "topic %u", d->topic);
    pack_map(p, 4);
    pack_str(p, "id");
    pack_uint(p, id);
    pack_str(p, "text");
    pack_str(p, "");
    pack_str(p, "meta");
    pack_map(p, 3);
    pack_str(p, "n");
    pack_uint(p, d->n);
    pack_str(p, "topic");
    pack_str(p, topic);
    pack_str(p, "tags");
    pack_array(p, tags);
    for (int k = 0; k < 3; k++)
        if (d->tagged[k])
            pack_strn(p, &"xyz"[k], 1);
    pack_str(p, "vector");
    pack_bin(p, d->vector, sizeof d->vector);
}

static void put_range(uint32_t from, uint32_t to)
{
    for (uint32_t at = from; at < to; at += BATCH) {
        uint32_t end = at + BATCH < to ? at + BATCH : to;
        buffer params = {0};
        packer p = box_begin_upsert(&params, "many", end - at);
        for (uint32_t i = at; i < end; i++)
            pack_one(&p, i, &all[i]);
        box_call_packed(&b, "upsert", &params);
    }
}

/* --- filters: as JSON, and what they mean */

typedef struct condition {
    char json[256];
    uint32_t below; /* n, at most */
    int topic;      /* or -1: any */
    bool tagged;    /* "x" or "z" */
} condition;

static bool passes(const document *d, const condition *c)
{
    return d->exists && d->n < c->below && (c->topic < 0 || d->topic == (uint32_t)c->topic) &&
           (!c->tagged || d->tagged[0] || d->tagged[2]);
}

static condition make_condition(uint32_t below, int topic, bool tagged)
{
    condition c = {.below = below, .topic = topic, .tagged = tagged};
    int at = snprintf(c.json, sizeof c.json, "{'all': [{'field': 'n', 'lt': %u}", below);
    if (topic >= 0)
        at += snprintf(c.json + at, sizeof c.json - (size_t)at, ", {'field': 'topic', 'eq': 'topic %d'}", topic);
    if (tagged)
        at += snprintf(c.json + at, sizeof c.json - (size_t)at, ", {'field': 'tags', 'in': ['x', 'z', 'never']}");
    snprintf(c.json + at, sizeof c.json - (size_t)at, "]}");
    return c;
}

static size_t count_passing(const condition *c)
{
    size_t count = 0;
    for (size_t i = 0; i < DOCUMENTS; i++)
        count += passes(&all[i], c);
    return count;
}

static void check_count_and_scroll(const condition *c)
{
    char after[128] = "";
    size_t seen = 0, expected = count_passing(c);
    uint32_t i = 0;
    const msgpack_object *r = box_call(&b, "count", "{'collection': 'many', 'filter': %s}", c->json);
    ck_assert_uint_eq(object_uint(object_get(r, "count"), 0), expected);
    for (bool more = true; more;) {
        r = box_call(&b, "scroll", "{'collection': 'many', 'limit': %d, 'with': []%s, 'filter': %s}", PAGE, after,
                     c->json);
        const msgpack_object *docs = object_get(r, "docs"), *next = object_get(r, "next");
        for (size_t k = 0; k < box_count(docs); k++, i++, seen++) {
            while (i < DOCUMENTS && !passes(&all[i], c))
                i++;
            ck_assert_uint_eq(object_uint(object_get(box_at(docs, k), "id"), 0), i);
        }
        more = next->type == MSGPACK_OBJECT_STR;
        if (more)
            snprintf(after, sizeof after, ", 'after': '%.*s'", (int)next->via.str.size, next->via.str.ptr);
    }
    ck_assert_uint_eq(seen, expected);
}

static void search_many(const float *query, const condition *c, bool exact)
{
    buffer params = {0}, filter_params = {0};
    char text[256];
    packer p, f;
    json_t *j;
    snprintf(text, sizeof text, "%s", c->json);
    for (char *at = text; *at != '\0'; at++)
        if (*at == '\'')
            *at = '"';
    j = json_loads(text, 0, NULL);
    pack_init(&f, &filter_params);
    json_pack_value(&f, j);
    json_decref(j);
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 4 + exact);
    pack_str(&p, "collection");
    pack_str(&p, "many");
    pack_str(&p, "vector");
    pack_bin(&p, query, DIM * sizeof *query);
    pack_str(&p, "k");
    pack_uint(&p, K);
    pack_str(&p, "filter");
    pack_raw(&p, filter_params.data, filter_params.size);
    if (exact) {
        pack_str(&p, "exact");
        pack_bool(&p, true);
    }
    buffer_free(&filter_params);
    box_call_packed(&b, "search", &params);
}

static float score_of(const float *query, const document *d)
{
    float sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += query[i] * d->vector[i];
    return sum;
}

/* Hits that are among the K best documents that pass; *wanted gets how many there are of these. */
static size_t count_right(const float *query, const condition *c, size_t *wanted)
{
    const msgpack_object *hits = object_get(&b.reply.value, "hits");
    size_t right = 0, passing = count_passing(c);
    *wanted = passing < K ? passing : K;
    ck_assert_uint_eq(box_count(hits), *wanted);
    for (size_t h = 0; h < box_count(hits); h++) {
        uint64_t id = object_uint(object_get(box_at(hits, h), "id"), DOCUMENTS);
        size_t better = 0;
        ck_assert_uint_lt(id, DOCUMENTS);
        ck_assert_msg(passes(&all[id], c), "hit %llu does not pass %s", (unsigned long long)id, c->json);
        float score = score_of(query, &all[id]);
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, h), "score"), 9), score, 1e-4);
        for (size_t i = 0; i < DOCUMENTS; i++)
            better += passes(&all[i], c) && score_of(query, &all[i]) > score + 1e-6F;
        right += better < K;
    }
    return right;
}

static void check_searches(const condition *c, size_t *right, size_t *wanted)
{
    for (int q = 0; q < QUERIES; q++) {
        float query[DIM];
        size_t expected;
        random_vector(query, all[random_below(&random_now, DOCUMENTS)].vector);
        search_many(query, c, true);
        ck_assert_uint_eq(count_right(query, c, &expected), expected);
        search_many(query, c, false);
        *right += count_right(query, c, &expected);
        *wanted += expected;
    }
}

static void check_all(void)
{
    static const uint32_t below[] = {
        DOCUMENTS, DOCUMENTS / 2, DOCUMENTS / 10, DOCUMENTS / 100, DOCUMENTS / 1000, DOCUMENTS / 10000, 0};
    size_t right = 0, wanted = 0;
    for (size_t i = 0; i < sizeof below / sizeof *below; i++)
        for (int kind = 0; kind < 3; kind++) {
            condition c = make_condition(below[i], kind == 1 ? (int)random_below(&random_now, TOPICS) : -1, kind == 2);
            check_count_and_scroll(&c);
            check_searches(&c, &right, &wanted);
        }
    printf("recall at 10 behind filters: %.4f of %zu\n", (double)right / (double)wanted, wanted);
    ck_assert_double_ge((double)right, 0.94 * (double)wanted); /* 0.95 asked, minus 0.01 */
}

static void change_some(void)
{
    for (uint32_t i = 4000; i < 9000; i++) {
        all[i].n = (uint32_t)random_below(&random_now, DOCUMENTS);
        all[i].topic = (uint32_t)random_below(&random_now, TOPICS);
        all[i].tagged[1] = !all[i].tagged[1];
    }
    put_range(4000, 9000);
    condition gone = make_condition(DOCUMENTS / 2, 7, false);
    size_t expected = count_passing(&gone);
    const msgpack_object *r = box_call(&b, "delete", "{'collection': 'many', 'filter': %s}", gone.json);
    ck_assert_uint_eq(object_uint(object_get(r, "deleted"), 0), expected);
    for (size_t i = 0; i < DOCUMENTS; i++)
        all[i].exists &= !passes(&all[i], &gone);
}

START_TEST(filter_never_lowers_recall)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "index.exact_below=2000";
    box_start(&b);
    make_documents();
    box_call(&b, "collection.create", "{'name': 'many', 'options': {'vectors': 'external', 'dim': %d}}", DIM);
    put_range(0, DOCUMENTS);
    check_all();
    change_some();
    check_all();
    /* From the stored documents while the columns are filled, then from columns. */
    box_stop(&b);
    box_start(&b);
    check_all();
    check_all();
    box_stop(&b);
    free(all);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("filters");
    TCase *t = tcase_create("daemon");
    tcase_set_timeout(t, 280);
    tcase_add_test(t, filter_never_lowers_recall);
    suite_add_tcase(suite, t);
    return testing_run(suite);
}
