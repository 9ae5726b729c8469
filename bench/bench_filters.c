/* Filtered searches beside exact search over the documents that match, on made-up
 * vectors in clusters, and what the columns of meta cost:
 *
 *   bench_filters [documents=200000] [dim=384] [queries=50] [rounds=5]
 *
 * A document has five fields: n, an integer of its own; price, a float of its own;
 * name, a string of its own (16 bytes); lang, one of ten; tags, up to three of a
 * thousand. For each kind of filter and each selectivity a line of JSON: the
 * microseconds (processor time, the least of the rounds, the mean of the queries)
 * of the filter alone, of the whole search (k = 10, recall 0.95; filter, conversion
 * and scan), of exact search over the matching documents, whose numbers are known
 * beforehand, and two ratios: of the search to exact search with the same filter, and
 * to the exact search alone. Everything runs on one thread. */
#include "base/random.h"
#include "index/meta_columns.h"
#include "index/vector_index.h"
#include "bench/numbers.h"

#include <msgpack.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLUSTERS = 500, K = 10, LANGUAGES = 10, TAGS = 1000 };

typedef struct bench {
    size_t documents, dim, queries, rounds;
    random_state random;
    float *centres; /* [CLUSTERS, dim] */
    float *query;   /* [queries, dim] */
    vector_index *index;
    meta_columns *columns;
} bench;

static double thread_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

static int failed(const char *what)
{
    fprintf(stderr, "bench_filters: %s\n", what);
    return 1;
}

/* --- documents */

static void unit_vector(bench *b, float *out, const float *centre, double spread)
{
    double norm = 0;
    for (size_t i = 0; i < b->dim; i++) {
        double sum = 0; /* near enough to normal */
        for (int k = 0; k < 4; k++)
            sum += random_unit(&b->random) - 0.5;
        out[i] = (float)(spread * sum / sqrt((double)b->dim / 3.0)) + (centre != NULL ? centre[i] : 0.0F);
        norm += (double)out[i] * out[i];
    }
    for (size_t i = 0; i < b->dim; i++)
        out[i] = (float)(out[i] / sqrt(norm));
}

/* n is each number below the count once, in no order of documents: the prime is
 * above any count of interest, so it is coprime to it. */
static uint64_t number_of(const bench *b, size_t docno)
{
    return docno * UINT64_C(2147483647) % b->documents;
}

static void pack_text(msgpack_packer *p, const char *text)
{
    msgpack_pack_str_with_body(p, text, strlen(text));
}

static void pack_meta(bench *b, size_t docno, msgpack_sbuffer *out)
{
    char text[32];
    msgpack_packer p;
    msgpack_packer_init(&p, out, msgpack_sbuffer_write);
    msgpack_pack_map(&p, 5);
    pack_text(&p, "n");
    msgpack_pack_uint64(&p, number_of(b, docno));
    pack_text(&p, "price");
    msgpack_pack_double(&p, (double)number_of(b, docno) + random_unit(&b->random));
    pack_text(&p, "name");
    snprintf(text, sizeof text, "name%012llu", (unsigned long long)number_of(b, docno));
    pack_text(&p, text);
    pack_text(&p, "lang");
    snprintf(text, sizeof text, "lang%u", (unsigned)random_below(&b->random, LANGUAGES));
    pack_text(&p, text);
    pack_text(&p, "tags");
    size_t tags = random_below(&b->random, 4);
    msgpack_pack_array(&p, tags);
    for (size_t i = 0; i < tags; i++) {
        snprintf(text, sizeof text, "tag%u", (unsigned)random_below(&b->random, TAGS));
        pack_text(&p, text);
    }
}

/* Columns from all documents; says what they cost, and what one walk over the
 * same bytes with the filter's reference does. */
static bool make_columns(bench *b, sem_error *err)
{
    msgpack_sbuffer meta;
    meta_fill *fill;
    meta_columns_stats stats;
    double took = 0;
    size_t bytes = 0;
    msgpack_sbuffer_init(&meta);
    bool fine = meta_columns_create(&b->columns, false, err) == SEM_OK &&
                meta_fill_begin(&fill, b->columns, err) == SEM_OK;
    if (!fine)
        return false;
    for (size_t d = 0; d < b->documents && fine; d++) {
        msgpack_sbuffer_clear(&meta);
        pack_meta(b, d, &meta);
        bytes += meta.size;
        double from = thread_us();
        fine = meta_fill_add(fill, (uint32_t)d, (const unsigned char *)meta.data, meta.size, err) == SEM_OK;
        took += thread_us() - from;
    }
    double from = thread_us();
    fine = fine && meta_fill_finish(fill, err) == SEM_OK;
    took += thread_us() - from;
    meta_fill_free(fill);
    msgpack_sbuffer_destroy(&meta);
    meta_columns_describe(b->columns, &stats);
    printf("{\"documents\": %zu, \"fields\": %zu, \"fill_ms\": %.0f, \"meta_bytes_per_document\": %.1f, "
           "\"column_bytes_per_document\": %.1f, \"column_bytes_per_document_and_field\": %.1f}\n",
           b->documents, stats.fields, took / 1000, (double)bytes / (double)b->documents,
           (double)stats.bytes / (double)b->documents, (double)stats.bytes / (double)b->documents / 5.0);
    return fine;
}

static bool make_vectors(bench *b, sem_error *err)
{
    vector_index_options options = {.dim = b->dim, .metric = METRIC_COSINE, .exact_below = 1000, .threads = 2};
    atomic_bool cancel = false;
    bool fine = vector_index_create(&b->index, &options, err) == SEM_OK;
    float *v = malloc(b->dim * sizeof *v);
    for (size_t i = 0; i < CLUSTERS; i++)
        unit_vector(b, b->centres + i * b->dim, NULL, 1);
    for (size_t d = 0; d < b->documents && fine && v != NULL; d++) {
        unit_vector(b, v, b->centres + random_below(&b->random, CLUSTERS) * b->dim, 0.9);
        fine = vector_index_put(b->index, (uint32_t)d, v, err) == SEM_OK;
    }
    for (size_t q = 0; q < b->queries; q++)
        unit_vector(b, b->query + q * b->dim, b->centres + random_below(&b->random, CLUSTERS) * b->dim, 0.9);
    while (fine && v != NULL && vector_index_wants_training(b->index))
        fine = vector_index_train(b->index, &(vector_training){.cancel = &cancel}, err) == SEM_OK;
    free(v);
    return fine && v != NULL;
}

/* --- filters */

enum { KINDS = 3 };
static const char *const kind_names[KINDS] = {"number", "string", "number and string"};

static void pack_leaf(msgpack_packer *p, const bench *b, bool string, double share)
{
    char text[32];
    uint64_t below = (uint64_t)llround(share * (double)b->documents);
    snprintf(text, sizeof text, "name%012llu", (unsigned long long)below);
    msgpack_pack_map(p, 2);
    pack_text(p, "field");
    pack_text(p, string ? "name" : "price");
    pack_text(p, "lt");
    if (string)
        pack_text(p, text);
    else
        msgpack_pack_double(p, (double)below);
}

static filter *make_filter(const bench *b, int kind, double share, sem_error *err)
{
    msgpack_sbuffer out;
    msgpack_packer p;
    filter *f = NULL;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&p, &out, msgpack_sbuffer_write);
    if (kind == 2) {
        msgpack_pack_map(&p, 1);
        pack_text(&p, "all");
        msgpack_pack_array(&p, 2);
        pack_leaf(&p, b, false, share);
    }
    pack_leaf(&p, b, kind != 0, share);
    if (filter_parse(&f, (const unsigned char *)out.data, out.size, err) != SEM_OK)
        f = NULL;
    msgpack_sbuffer_destroy(&out);
    return f;
}

/* --- measuring */

typedef struct times {
    double filter, search, exact;
} times;

static int by_number(void *context, uint32_t x, uint32_t y)
{
    (void)context;
    return (x > y) - (x < y);
}

/* As op_search does it. */
static bool search_filtered(bench *b, const filter *f, vector_query query, times *t, vector_plan *plan, sem_error *err)
{
    docset *set;
    uint64_t *words = NULL;
    uint32_t *listed = NULL;
    vector_hit hits[K];
    size_t count;
    double from = thread_us();
    if (meta_columns_match(b->columns, f, NULL, NULL, &set, err) != SEM_OK)
        return false;
    t->filter = thread_us() - from;
    query.allowed_count = roaring_bitmap_get_cardinality(set);
    bool few = query.allowed_count <= VECTOR_LISTED_MAX;
    bool fine = (few ? docset_to_array(set, &listed, &query.listed_count, err)
                     : docset_to_bits(set, &words, &query.allowed_bits, err)) == SEM_OK;
    query.listed = listed;
    query.allowed = words;
    fine = fine && vector_index_search(b->index, &query, hits, &count, plan, err) == SEM_OK;
    docset_free(set);
    free(words);
    free(listed);
    t->search = thread_us() - from;
    return fine;
}

/* Over the listed documents; where these are all, without naming them. */
static bool search_exactly(bench *b, vector_query query, const uint32_t *listed, size_t count, times *t, sem_error *err)
{
    vector_hit hits[K];
    size_t found;
    query.exact = true;
    if (count < b->documents) {
        query.listed = listed;
        query.listed_count = count;
    }
    double from = thread_us();
    bool fine = vector_index_search(b->index, &query, hits, &found, NULL, err) == SEM_OK;
    t->exact = thread_us() - from;
    return fine;
}

static bool measure(bench *b, int kind, double share, sem_error *err)
{
    times sum = {0};
    uint32_t *listed = NULL;
    size_t count = 0;
    docset *set = NULL;
    vector_plan plan = {0};
    filter *f = make_filter(b, kind, share, err);
    bool fine = f != NULL && meta_columns_match(b->columns, f, NULL, NULL, &set, err) == SEM_OK &&
                docset_to_array(set, &listed, &count, err) == SEM_OK;
    for (size_t q = 0; q < b->queries && fine; q++) {
        times least = {INFINITY, INFINITY, INFINITY}, t = {0};
        vector_query query = {.vector = b->query + q * b->dim, .k = K, .recall = 0.95, .tie = by_number};
        for (size_t r = 0; r < b->rounds && fine; r++) {
            fine = search_filtered(b, f, query, &t, &plan, err) && search_exactly(b, query, listed, count, &t, err);
            least.filter = fmin(least.filter, t.filter);
            least.search = fmin(least.search, t.search);
            least.exact = fmin(least.exact, t.exact);
        }
        sum.filter += least.filter;
        sum.search += least.search;
        sum.exact += least.exact;
    }
    double n = (double)b->queries;
    if (fine)
        printf("{\"filter\": \"%s\", \"selectivity\": %g, \"matching\": %zu, \"plan\": \"%s\", \"filter_us\": %.1f, "
               "\"search_us\": %.1f, \"exact_us\": %.1f, \"ratio\": %.2f, \"ratio_numbers_known\": %.2f}\n",
               kind_names[kind], share, count, plan.kind, sum.filter / n, sum.search / n, sum.exact / n,
               sum.search / (sum.filter + sum.exact), sum.search / sum.exact);
    docset_free(set);
    filter_free(f);
    free(listed);
    return fine;
}

static bool set_option(bench *b, const char *argument)
{
    const number_option numbers[] = {{"documents=", &b->documents, 1, SIZE_MAX},
                                     {"dim=", &b->dim, 1, SIZE_MAX},
                                     {"queries=", &b->queries, 1, SIZE_MAX},
                                     {"rounds=", &b->rounds, 1, SIZE_MAX}};
    return numbers_set(numbers, sizeof numbers / sizeof *numbers, argument) == NUMBER_SET;
}

int main(int argc, char **argv)
{
    static const double shares[] = {1, 0.1, 0.01, 0.001, 0.0001};
    bench b = {.documents = 200000, .dim = 384, .queries = 50, .rounds = 5};
    sem_error err = {.message = "out of memory"};
    for (int i = 1; i < argc; i++)
        if (!set_option(&b, argv[i]))
            return failed("usage: bench_filters [documents=N] [dim=N] [queries=N] [rounds=N]") + 1;
    random_seed(&b.random, 1);
    b.centres = malloc(CLUSTERS * b.dim * sizeof *b.centres);
    b.query = malloc(b.queries * b.dim * sizeof *b.query);
    bool fine = b.centres != NULL && b.query != NULL && make_columns(&b, &err) && make_vectors(&b, &err);
    for (int kind = 0; kind < KINDS && fine; kind++)
        for (size_t i = 0; i < sizeof shares / sizeof *shares && fine; i++)
            fine = measure(&b, kind, shares[i], &err);
    meta_columns_release(b.columns);
    vector_index_destroy(b.index);
    free(b.centres);
    free(b.query);
    return fine ? 0 : failed(err.message);
}
