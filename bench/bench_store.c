/* The store, and exact search over its vectors in place, without a daemon:
 * documents with given vectors are put in groups, as a bulk load does; the store is
 * opened again and an index filled, as a start does; then it is searched.
 *
 *   bench_store [folder=build/bench-store] [vectors=200000] [dim=384] [request=64] [group=8] [queries=20] [keep=0]
 *               [lists=0] [clusters=0] [threads=2]
 *
 * request: documents in one put; group: puts that share one commit; keep=1: the
 * store that is there is used; clusters: vectors lie around so many points, at random
 * without; lists=1: an index starts with its saved lists and is asked ten queries, as
 * a daemon's is, and then trains what there is to train and saves it: a second run with
 * keep=1 finds lists. Prints documents a second, bytes on disk and in memory a vector,
 * how long opening and filling take with what the page cache has, and exact queries a
 * second over the map and over a copy in memory, by turns. */
#include "base/clock.h"
#include "base/files.h"
#include "base/log.h"
#include "base/random.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct setup {
    char folder[FILES_PATH_MAX];
    size_t vectors, dim, request, group, queries, keep, lists, clusters, threads;
} setup;

static void check(sem_status status, const sem_error *err)
{
    if (status == SEM_OK)
        return;
    fprintf(stderr, "%s: %s\n", sem_status_name(status), err->message);
    exit(1);
}

static size_t option(int argc, char **argv, const char *name, size_t otherwise)
{
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=')
            return strtoull(argv[i] + length + 1, NULL, 10);
    return otherwise;
}

static setup parse(int argc, char **argv)
{
    setup s = {.folder = "build/bench-store",
               .vectors = option(argc, argv, "vectors", 200000),
               .dim = option(argc, argv, "dim", 384),
               .request = option(argc, argv, "request", 64),
               .group = option(argc, argv, "group", 8),
               .queries = option(argc, argv, "queries", 20),
               .keep = option(argc, argv, "keep", 0),
               .lists = option(argc, argv, "lists", 0),
               .clusters = option(argc, argv, "clusters", 0),
               .threads = option(argc, argv, "threads", 2)};
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "folder=", 7) == 0)
            snprintf(s.folder, sizeof s.folder, "%s", argv[i] + 7);
    return s;
}

static store *open_store(const setup *s)
{
    sem_error err;
    store *st;
    store_options options = {.path = s->folder, .map_size = UINT64_C(1) << 36};
    check(store_open(&st, &options, NULL, &err), &err);
    return st;
}

static uint32_t make_collection(store *st, size_t dim)
{
    sem_error err;
    store_write *w;
    bool created;
    store_collection c = {.name = "bench", .external = true, .dim = (uint32_t)dim};
    check(store_write_begin(st, &w, &err), &err);
    check(store_collection_create(w, &c, &created, &err), &err);
    check(store_write_commit(w, &err), &err);
    return c.number;
}

static void unit_vector(random_state *random, float *out, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++) {
        out[i] = (float)random_unit(random) - 0.5f;
        sum += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)((double)out[i] / sqrt(sum));
}

/* Vector number n: from a pool of 1,024, or between one of them and one of its own. */
static const float *vector_at(const setup *s, const float *pool, size_t n, float *own)
{
    if (s->clusters == 0)
        return pool + n % 1024 * s->dim;
    random_state random;
    random_seed(&random, n + 2);
    const float *centre = pool + n % s->clusters % 1024 * s->dim;
    unit_vector(&random, own, s->dim);
    for (size_t i = 0; i < s->dim; i++)
        own[i] = 0.8f * centre[i] + 0.6f * own[i]; /* of unit length, nearly */
    return own;
}

static void load(const setup *s, store *st, uint32_t collection)
{
    sem_error err;
    random_state random;
    random_seed(&random, 1);
    float *pool = malloc(1024 * s->dim * sizeof *pool);
    float *own = malloc(s->request * s->dim * sizeof *own);
    store_put *puts = calloc(s->request, sizeof *puts);
    for (size_t i = 0; i < 1024; i++)
        unit_vector(&random, pool + i * s->dim, s->dim);
    uint64_t began = clock_monotonic_ns(), seq;
    for (size_t done = 0; done < s->vectors;) {
        store_write *w;
        check(store_write_begin(st, &w, &err), &err);
        for (size_t g = 0; g < s->group && done < s->vectors; g++) {
            size_t count = 0;
            for (; count < s->request && done < s->vectors; count++, done++)
                puts[count] = (store_put){.id = {.is_integer = true, .integer = done},
                                          .text = "a text of some forty bytes, as titles are",
                                          .text_length = 41,
                                          .vector = vector_at(s, pool, done, own + count * s->dim)};
            check(store_documents_put(w, collection, STORE_SPACE_EXTERNAL, s->dim, 0, 0, puts, count, &seq, &err),
                  &err);
        }
        check(store_write_commit(w, &err), &err);
    }
    double seconds = (double)(clock_monotonic_ns() - began) / 1e9;
    printf("load      %zu vectors in %.2f s: %.0f a second, %.1f MB/s\n", s->vectors, seconds,
           (double)s->vectors / seconds, (double)(s->vectors * s->dim * 4) / seconds / 1e6);
    free(pool);
    free(own);
    free(puts);
}

static void show_bytes(const setup *s, store *st)
{
    double bytes = (double)store_space_bytes(st, STORE_SPACE_EXTERNAL);
    printf("disk      %.0f bytes a vector of %zu\n", bytes / (double)s->vectors, s->dim * sizeof(float));
}

/* Bytes of the process that no file is behind, and that are in memory. */
static double anonymous_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long size, resident = 0, shared = 0;
    if (f == NULL)
        return 0;
    if (fscanf(f, "%ld %ld %ld", &size, &resident, &shared) != 3)
        resident = shared = 0;
    fclose(f);
    return (double)(resident - shared) * (double)sysconf(_SC_PAGESIZE);
}

typedef struct filling {
    vector_index *index;
    sem_status status;
    sem_error err;
} filling;

static bool fill_in_place(void *context, uint32_t docno, uint64_t version, size_t ordinal, uint32_t slot,
                          const void *vector)
{
    filling *f = context;
    (void)version;
    (void)ordinal;
    f->status = vector_index_put_slot(f->index, docno, slot, vector, &f->err);
    return f->status == SEM_OK;
}

static bool fill_memory(void *context, uint32_t docno, uint64_t version, const void *vector)
{
    filling *f = context;
    (void)version;
    f->status = vector_index_put(f->index, docno, vector, &f->err);
    return f->status == SEM_OK;
}

static vector_index_options in_place_options(const setup *s, store *st, uint32_t c)
{
    return (vector_index_options){.dim = s->dim,
                                  .exact_below = SIZE_MAX,
                                  .threads = 1,
                                  .store = st,
                                  .space = STORE_SPACE_EXTERNAL,
                                  .collection = c};
}

static vector_index *make_index(const setup *s, const vector_index_options *options, store_read *r, uint32_t c)
{
    filling f = {.status = SEM_OK};
    sem_error err;
    bool in_place = options->store != NULL;
    double before = anonymous_bytes();
    uint64_t began = clock_monotonic_ns();
    check(vector_index_create(&f.index, options, &err), &err);
    if (in_place)
        check(store_slot_walk(r, STORE_SPACE_EXTERNAL, c, fill_in_place, &f, &err), &err);
    else
        check(store_vector_walk(r, STORE_SPACE_EXTERNAL, c, fill_memory, &f, &err), &err);
    check(f.status, &f.err);
    printf("fill      %s: %.1f ms, %.1f bytes of memory a vector\n", in_place ? "in place" : "memory",
           (double)(clock_monotonic_ns() - began) / 1e6, (anonymous_bytes() - before) / (double)s->vectors);
    return f.index;
}

static double search_seconds(const setup *s, vector_index *index, store_read *r, bool exact)
{
    random_state random;
    sem_error err;
    vector_hit hits[10];
    size_t count;
    float *query = malloc(s->dim * sizeof *query);
    random_seed(&random, 2);
    uint64_t began = clock_monotonic_ns();
    for (size_t i = 0; i < s->queries; i++) {
        unit_vector(&random, query, s->dim);
        vector_query q = {.vector = query, .k = 10, .exact = exact, .recall = 0.95, .read = r};
        check(vector_index_search(index, &q, hits, &count, NULL, &err), &err);
    }
    free(query);
    return (double)(clock_monotonic_ns() - began) / 1e9;
}

static void compare(const setup *s, store *st, uint32_t c)
{
    enum { TURNS = 7 };
    sem_error err;
    store_read *r;
    double best[2] = {1e9, 1e9};
    const vector_index_options in_place = in_place_options(s, st, c);
    const vector_index_options memory = {.dim = s->dim, .exact_below = SIZE_MAX, .threads = 1};
    check(store_read_begin(st, &r, &err), &err);
    vector_index *index[2] = {make_index(s, &in_place, r, c), make_index(s, &memory, r, c)};
    for (int turn = 0; turn < TURNS; turn++)
        for (int i = 0; i < 2; i++) {
            double seconds = search_seconds(s, index[i], r, true);
            best[i] = seconds < best[i] ? seconds : best[i];
        }
    printf("exact     in place %.1f a second, memory %.1f: ratio %.3f\n", (double)s->queries / best[0],
           (double)s->queries / best[1], best[1] / best[0]);
    vector_index_destroy(index[0]);
    vector_index_destroy(index[1]);
    store_read_end(r);
}

/* An index as a daemon has it, with its lists' file; what the first queries take. */
static void start_with_lists(const setup *s, store *st, uint32_t c)
{
    enum { FIRST = 10, TRAININGS = 8 };
    sem_error err;
    store_read *r;
    sem_log log;
    char cache[FILES_PATH_MAX + 16];
    log_init(&log, STDOUT_FILENO, LOG_LEVEL_INFO);
    snprintf(cache, sizeof cache, "%s/bench.lists", s->folder);
    vector_index_options options = in_place_options(s, st, c);
    options.exact_below = 2000;
    options.threads = (unsigned)s->threads;
    options.cache = cache;
    check(store_read_begin(st, &r, &err), &err);
    vector_index *index = make_index(s, &options, r, c);
    uint64_t filled = clock_monotonic_ns();
    check(vector_index_train(index, &(vector_training){.log = &log}, &err),
          &err); /* maps the file, where there is one */
    uint64_t ready = clock_monotonic_ns();
    setup few = *s;
    few.queries = FIRST;
    double first = search_seconds(&few, index, r, false), again = search_seconds(&few, index, r, false);
    printf("start     lists in %.1f ms; the first %d queries took %.2f ms, once more %.2f ms; "
           "%.1f bytes of memory a vector\n",
           (double)(ready - filled) / 1e6, FIRST, first * 1e3, again * 1e3, anonymous_bytes() / (double)s->vectors);
    for (int i = 0; i < TRAININGS && vector_index_wants_training(index); i++)
        check(vector_index_train(index, &(vector_training){.log = &log}, &err), &err);
    vector_index_destroy(index);
    store_read_end(r);
}

int main(int argc, char **argv)
{
    sem_error err;
    setup s = parse(argc, argv);
    uint32_t c = 1;
    store *st;
    if (s.keep == 0) {
        check(files_remove_folder(s.folder, &err), &err);
        st = open_store(&s);
        c = make_collection(st, s.dim);
        load(&s, st, c);
        store_close(st);
    }
    uint64_t began = clock_monotonic_ns();
    st = open_store(&s);
    printf("open      %.1f ms\n", (double)(clock_monotonic_ns() - began) / 1e6);
    show_bytes(&s, st);
    if (s.lists > 0)
        start_with_lists(&s, st, c);
    if (s.queries > 0)
        compare(&s, st, c);
    store_close(st);
    return 0;
}
