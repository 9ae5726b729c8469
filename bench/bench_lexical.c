/* How long searches for words take in a large collection, and how fast its index is
 * built: texts of words whose frequencies follow Zipf's law.
 *
 *   build/bench_lexical FOLDER [documents=200000] [words=60] [vocabulary=200000] [queries=50]
 *
 * FOLDER must not exist; it is left there. */
#include "base/clock.h"
#include "base/random.h"
#include "index/lexical_index.h"
#include "index/lexical_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST = 1000, TEXT_MAX = 1 << 14, K = 10, QUERIES_MAX = 1000 };

typedef struct bench {
    unsigned documents, words, vocabulary, queries;
    store *store;
    uint32_t collection;
    random_state random;
    sem_error error;
} bench;

static void check(const bench *b, sem_status status)
{
    if (status == SEM_OK)
        return;
    fprintf(stderr, "bench_lexical: %s\n", b->error.message);
    exit(1);
}

/* A rank with a probability of about 1 / rank: the inverse of its distribution. */
static unsigned zipf(bench *b)
{
    return (unsigned)exp(random_unit(&b->random) * log(b->vocabulary));
}

static size_t make_text(bench *b, unsigned words, char *out)
{
    size_t used = 0;
    for (unsigned i = 0; i < words && used < TEXT_MAX - 16; i++)
        used += (size_t)sprintf(out + used, "w%x ", zipf(b));
    return used;
}

static void fill(bench *b)
{
    store_collection c = {.name = "bench", .lexical = true, .external = true, .dim = 1};
    static char texts[REQUEST][TEXT_MAX];
    static store_put puts[REQUEST];
    const float vector = 1;
    bool created;
    store_write *w;
    check(b, store_write_begin(b->store, &w, &b->error));
    check(b, store_collection_create(w, &c, &created, &b->error));
    check(b, store_write_commit(w, &b->error));
    b->collection = c.number;
    for (unsigned at = 0; at < b->documents; at += REQUEST) {
        uint64_t seq;
        for (unsigned i = 0; i < REQUEST; i++)
            puts[i] = (store_put){
                .id = {.is_integer = true, .integer = at + i},
                .text = texts[i],
                .text_length = make_text(b, b->words / 2 + (unsigned)random_below(&b->random, b->words + 1), texts[i]),
                .vector = &vector};
        check(b, store_write_begin(b->store, &w, &b->error));
        check(b, store_documents_put(w, c.number, STORE_SPACE_EXTERNAL, 1, 0, 0, puts, REQUEST, &seq, &b->error));
        check(b, store_write_commit(w, &b->error));
    }
}

static void build(bench *b, lexical_index *x)
{
    bool more = true;
    uint64_t began = clock_monotonic_ns();
    while (more) {
        store_read *r;
        check(b, store_read_begin(b->store, &r, &b->error));
        check(b, lexical_index_step(x, r, &more, &b->error));
        store_read_end(r);
    }
    double s = (double)(clock_monotonic_ns() - began) / 1e9;
    printf("indexed %u documents in %.1f s, %.0f documents/s\n", b->documents, s, b->documents / s);
}

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static double search(bench *b, lexical_reader *reader, const char *text, size_t length, lexical_plan *plan)
{
    vector_hit hits[K];
    size_t count;
    store_read *r;
    lexical_candidates *found;
    lexical_query q = {
        .collection = b->collection, .text = text, .length = length, .k = K, .text_bytes = b->words * 5.0};
    uint64_t began = clock_monotonic_ns();
    check(b, lexical_gather(reader, &q, &found, &b->error));
    check(b, store_read_begin(b->store, &r, &b->error));
    check(b, lexical_rank(found, r, NULL, hits, &count, &b->error));
    store_read_end(r);
    *plan = *lexical_candidates_plan(found);
    lexical_candidates_free(found);
    return (double)(clock_monotonic_ns() - began) / 1e6;
}

static void ask(bench *b, lexical_reader *reader, unsigned words)
{
    static char text[TEXT_MAX];
    double times[QUERIES_MAX], postings = 0, scored = 0;
    for (unsigned i = 0; i < b->queries; i++) {
        lexical_plan plan;
        size_t length = make_text(b, words, text);
        double first = search(b, reader, text, length, &plan), second = search(b, reader, text, length, &plan);
        times[i] = first < second ? first : second;
        postings += (double)plan.postings / b->queries;
        scored += (double)plan.scored / b->queries;
    }
    qsort(times, b->queries, sizeof *times, ascending);
    printf("%4u words: median %7.2f ms, worst %7.2f ms; %8.0f postings, %5.0f scored\n", words, times[b->queries / 2],
           times[b->queries - 1], postings, scored);
}

int main(int argc, char **argv)
{
    bench b = {.documents = 200000, .words = 60, .vocabulary = 200000, .queries = 50};
    if (argc < 2) {
        fprintf(stderr, "usage: bench_lexical FOLDER [documents=N] [words=N] [vocabulary=N] [queries=N]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (sscanf(argv[i], "documents=%u", &b.documents) + sscanf(argv[i], "words=%u", &b.words) +
                sscanf(argv[i], "vocabulary=%u", &b.vocabulary) + sscanf(argv[i], "queries=%u", &b.queries) !=
            1) {
            fprintf(stderr, "bench_lexical: what is %s?\n", argv[i]);
            return 2;
        }
    if (b.queries == 0 || b.queries > QUERIES_MAX || b.vocabulary < 2) {
        fprintf(stderr, "bench_lexical: queries is 1 to %d, vocabulary 2 at least\n", QUERIES_MAX);
        return 2;
    }
    store_options options = {.path = argv[1], .map_size = UINT64_C(16) << 30};
    lexical_index *x;
    lexical_reader *reader;
    bool bad;
    random_seed(&b.random, 1);
    check(&b, store_open(&b.store, &options, NULL, &b.error));
    check(&b, lexical_index_open(&x, b.store, NULL, &b.error));
    fill(&b);
    build(&b, x);
    check(&b, lexical_reader_open(&reader, b.store, &bad, &b.error));
    for (unsigned words = 1; words <= 100; words = words == 1    ? 3
                                                   : words == 3  ? 10
                                                   : words == 10 ? 30
                                                   : words == 30 ? 100
                                                                 : 101)
        ask(&b, reader, words);
    lexical_reader_close(reader);
    lexical_index_close(x);
    store_close(b.store);
    return 0;
}
