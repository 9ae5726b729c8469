/* The vector index alone: time to build, memory, recall and queries a second.
 *
 *   bench_index [option=value]... VECTORS
 *
 * VECTORS: raw float32 rows. The last `queries` of them are the queries, the first
 * `rows` the documents. Options:
 *
 *   dim=384 rows=0 (all others) queries=1000 k=10
 *   threads=1        searching threads; build=1 training threads
 *   rounds=3         the best counts
 *   recall=0.8,0.9,0.95,0.99 or nprobe=16,32
 *   metric=cosine    or dot
 *   exact=1          exact search as well
 *   append=0         rows that are put after the training
 *   crossover=1      instead: exact search against lists at growing numbers of rows,
 *                    which is where index.exact_below comes from
 *
 * Standard output gets a line for each recall. SEMD_SIMD forces a level. */
#include "base/clock.h"
#include "index/vector_index.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { GOALS_MAX = 16, THREADS_MAX = 64 };

typedef struct bench {
    size_t dim, rows, queries, k, threads, build, rounds, append;
    bool dot, exact, crossover, by_nprobe;
    double goals[GOALS_MAX];
    size_t goal_count;
    float *vectors;     /* [rows, dim] */
    const float *asked; /* [queries, dim] */
    vector_hit *truth;  /* [queries, k] */
    vector_index *index;
} bench;

static double cpu_seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double resident_mb(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    if (f != NULL) {
        if (fscanf(f, "%lu %lu", &size, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return (double)resident * 4096.0 / 1e6;
}

static void read_goals(bench *b, const char *list, bool by_nprobe)
{
    b->by_nprobe = by_nprobe;
    b->goal_count = 0;
    while (b->goal_count < GOALS_MAX && *list != '\0') {
        char *end;
        b->goals[b->goal_count++] = strtod(list, &end);
        list = *end == ',' ? end + 1 : end;
        if (end == list && *end != '\0')
            break;
    }
}

static bool read_option(bench *b, const char *text)
{
    const char *value = strchr(text, '=');
    if (value == NULL)
        return false;
    size_t length = (size_t)(value++ - text), number = strtoul(value, NULL, 10);
    struct {
        const char *name;
        size_t *to;
    } numbers[] = {{"dim", &b->dim},         {"rows", &b->rows},   {"queries", &b->queries}, {"k", &b->k},
                   {"threads", &b->threads}, {"build", &b->build}, {"rounds", &b->rounds},   {"append", &b->append}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strlen(numbers[i].name) == length && strncmp(text, numbers[i].name, length) == 0) {
            *numbers[i].to = number;
            return true;
        }
    if (strncmp(text, "recall=", 7) == 0)
        read_goals(b, value, false);
    else if (strncmp(text, "nprobe=", 7) == 0)
        read_goals(b, value, true);
    else if (strncmp(text, "metric=", 7) == 0)
        b->dot = strcmp(value, "dot") == 0;
    else if (strncmp(text, "exact=", 6) == 0)
        b->exact = number != 0;
    else if (strncmp(text, "crossover=", 10) == 0)
        b->crossover = number != 0;
    else
        return false;
    return true;
}

static bool read_vectors(bench *b, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0)
        return false;
    size_t all = (size_t)ftell(f) / (b->dim * sizeof(float));
    rewind(f);
    b->vectors = malloc(all * b->dim * sizeof(float));
    bool whole = b->vectors != NULL && fread(b->vectors, b->dim * sizeof(float), all, f) == all;
    fclose(f);
    if (!whole || all <= b->queries)
        return false;
    if (b->rows == 0 || b->rows > all - b->queries)
        b->rows = all - b->queries;
    b->asked = b->vectors + (all - b->queries) * b->dim;
    return true;
}

static bool say(sem_status status, const sem_error *err)
{
    if (status != SEM_OK)
        fprintf(stderr, "bench_index: %s\n", err->message);
    return status == SEM_OK;
}

static bool put_rows(bench *b, size_t from, size_t to)
{
    sem_error err;
    for (size_t i = from; i < to; i++)
        if (!say(vector_index_put(b->index, (uint32_t)i, b->vectors + i * b->dim, &err), &err))
            return false;
    return true;
}

static bool build_index(bench *b, size_t rows, double *seconds)
{
    sem_error err;
    vector_index_options options = {
        .dim = b->dim, .metric = b->dot ? METRIC_DOT : METRIC_COSINE, .threads = (unsigned)b->build};
    sem_log *log = NULL;
    if (!say(vector_index_create(&b->index, &options, &err), &err) || !put_rows(b, 0, rows))
        return false;
    double began = cpu_seconds(CLOCK_MONOTONIC), cpu = cpu_seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (!say(vector_index_train(b->index, &(vector_training){.log = log}, &err), &err))
        return false;
    *seconds = cpu_seconds(CLOCK_MONOTONIC) - began;
    fprintf(stderr, "trained in %.2f s (%.2f s of processor time)\n", *seconds,
            cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return true;
}

typedef struct asking {
    const bench *b;
    vector_query query;
    vector_hit *hits; /* [queries, k] */
    size_t first, step;
    double cpu;
    vector_plan sum;
    bool failed;
} asking;

static void *ask(void *argument)
{
    asking *a = argument;
    const bench *b = a->b;
    sem_error err;
    double began = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    a->sum = (vector_plan){0};
    for (size_t q = a->first; q < b->queries; q += a->step) {
        vector_query query = a->query;
        vector_plan plan;
        size_t count;
        query.vector = b->asked + q * b->dim;
        a->failed |= vector_index_search(b->index, &query, a->hits + q * b->k, &count, &plan, &err) != SEM_OK;
        a->sum.probed += plan.probed;
        a->sum.by_bits += plan.by_bits;
        a->sum.by_codes += plan.by_codes;
        a->sum.by_floats += plan.by_floats;
        a->sum.coarse_ns += plan.coarse_ns;
        a->sum.scan_ns += plan.scan_ns;
        a->sum.nibbles_ns += plan.nibbles_ns;
        a->sum.floats_ns += plan.floats_ns;
    }
    a->cpu = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - began;
    return NULL;
}

/* Returns the processor's seconds of one thread; the best of all rounds. */
static double run(const bench *b, vector_query query, vector_hit *hits, size_t threads, asking *first)
{
    double best = INFINITY;
    for (size_t round = 0; round < b->rounds; round++) {
        pthread_t ids[THREADS_MAX];
        asking asks[THREADS_MAX];
        for (size_t t = 0; t < threads; t++) {
            asks[t] = (asking){.b = b, .query = query, .hits = hits, .first = t, .step = threads};
            if (t > 0 && pthread_create(&ids[t], NULL, ask, &asks[t]) != 0)
                return INFINITY;
        }
        ask(&asks[0]);
        double most = asks[0].cpu;
        for (size_t t = 1; t < threads; t++) {
            pthread_join(ids[t], NULL);
            most = fmax(most, asks[t].cpu);
        }
        best = fmin(best, most);
        *first = asks[0];
    }
    return best;
}

static double recall_of(const bench *b, const vector_hit *hits)
{
    size_t found = 0;
    for (size_t q = 0; q < b->queries; q++)
        for (size_t i = 0; i < b->k; i++)
            found += hits[q * b->k + i].score >= b->truth[q * b->k + b->k - 1].score;
    return (double)found / (double)(b->queries * b->k);
}

static void report(const bench *b, double goal, double seconds, const vector_hit *hits, const asking *a)
{
    double n = (double)b->queries / (double)a->step;
    const vector_plan *p = &a->sum;
    printf("%s %-6g recall %.4f  %8.0f/s  probed %6.1f  bits %8.1f  bytes %6.1f  floats %6.1f  us: %5.1f + %5.1f + "
           "%5.1f + "
           "%5.1f\n",
           b->by_nprobe ? "nprobe" : "asked", goal, recall_of(b, hits), (double)b->queries / seconds,
           (double)p->probed / n, (double)p->by_bits / n, (double)p->by_codes / n, (double)p->by_floats / n,
           (double)p->coarse_ns / n / 1e3, (double)p->scan_ns / n / 1e3, (double)p->nibbles_ns / n / 1e3,
           (double)p->floats_ns / n / 1e3);
    fflush(stdout);
}

static int compare(bench *b)
{
    vector_hit *hits = calloc(b->queries * b->k, sizeof *hits);
    double seconds;
    asking first;
    double before = resident_mb();
    if (hits == NULL || !build_index(b, b->rows - b->append, &seconds) || !put_rows(b, b->rows - b->append, b->rows)) {
        free(hits);
        return 1;
    }
    vector_index_stats stats;
    vector_index_describe(b->index, &stats);
    printf("%zu rows, %zu lists, built in %.2f s, %.0f bytes a vector\n", b->rows, stats.nlist, seconds,
           (resident_mb() - before) * 1e6 / (double)b->rows);
    size_t rounds = b->rounds;
    b->rounds = 1;
    double exact = run(b, (vector_query){.k = b->k, .exact = true}, b->truth, 1, &first);
    b->rounds = rounds;
    if (b->exact)
        printf("exact %.0f/s\n", (double)b->queries / exact);
    for (size_t g = 0; g < b->goal_count; g++) {
        vector_query query = {.k = b->k};
        if (b->by_nprobe)
            query.nprobe = (size_t)b->goals[g];
        else
            query.recall = b->goals[g];
        double best = run(b, query, hits, b->threads, &first);
        report(b, b->goals[g], best, hits, &first);
    }
    free(hits);
    return 0;
}

/* Lists against exact search, at sizes around which they meet. */
static int cross(bench *b)
{
    static const size_t sizes[] = {500, 1000, 2000, 3000, 5000, 8000, 12000, 20000};
    vector_hit *hits = calloc(b->queries * b->k, sizeof *hits);
    for (size_t i = 0; hits != NULL && i < sizeof sizes / sizeof sizes[0] && sizes[i] <= b->rows; i++) {
        double seconds;
        asking first;
        if (!build_index(b, sizes[i], &seconds)) {
            free(hits);
            return 1;
        }
        double exact = run(b, (vector_query){.k = b->k, .exact = true}, b->truth, 1, &first);
        printf("%zu rows: exact %.0f/s", sizes[i], (double)b->queries / exact);
        for (size_t g = 0; g < b->goal_count; g++) {
            double lists = run(b, (vector_query){.k = b->k, .recall = b->goals[g]}, hits, 1, &first);
            printf("  %g: %.0f/s (%.2f times, recall %.4f)", b->goals[g], (double)b->queries / lists, exact / lists,
                   recall_of(b, hits));
        }
        printf("\n");
        vector_index_destroy(b->index);
        b->index = NULL;
    }
    free(hits);
    return hits == NULL;
}

int main(int argc, char **argv)
{
    bench b = {.dim = 384, .queries = 1000, .k = 10, .threads = 1, .build = 1, .rounds = 3};
    read_goals(&b, "0.8,0.9,0.95,0.99", false);
    int at = 1;
    while (at < argc && strchr(argv[at], '=') != NULL)
        if (!read_option(&b, argv[at++])) {
            fprintf(stderr, "bench_index: what is %s?\n", argv[at - 1]);
            return 2;
        }
    if (at + 1 != argc || b.dim == 0 || b.k == 0 || b.threads == 0 || b.threads > THREADS_MAX || b.rounds == 0 ||
        !read_vectors(&b, argv[at])) {
        fprintf(stderr, "usage: bench_index [option=value]... VECTORS (raw float32, more rows than queries)\n");
        return 2;
    }
    b.truth = calloc(b.queries * b.k, sizeof *b.truth);
    int failed = b.truth == NULL || (b.crossover ? cross(&b) : compare(&b));
    vector_index_destroy(b.index);
    free(b.truth);
    free(b.vectors);
    return failed;
}
