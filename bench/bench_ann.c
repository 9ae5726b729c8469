/* The vector index alone, without store, daemon and socket: how long it takes to
 * build, what memory it needs, and how many queries a second it answers at which
 * recall@10:
 *
 *   bench_ann [option=value]... VECTORS.f32 QUERIES.f32 TRUTH.i32
 *
 * The first two are raw little-endian float32 [rows, dim] of unit length, the third
 * holds the rows of each query's ten nearest vectors, raw int32 [queries, 10], as
 * bench/ann/driver.py makes them. Options:
 *
 *   dim=384, rows=1000000, queries=2000 (at most)
 *   threads=2       of training; queries are asked on one thread and on as many
 *   exact_below=5000
 *   seconds=1       to time each point
 *   turns=1         nothing of its own: see below
 *   log=1           what the index writes into the log, on standard error: what each step took
 *
 * Prints JSON lines: first what building took, then a line for each point.
 *
 * With turns=1, for benchmarks that take turns, each line on standard input gets a
 * line of JSON: "build"; "points", the recall of every setting that there is to
 * sweep; "time single THREADS SECONDS POINT", the queries a second at one of them. */
#include "base/log.h"
#include "index/vector_index.h"
#include "bench/numbers.h"

#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    K = 10,
    THREADS_MAX = 64,
    TRAINING_CALLS_MAX = 16,
    WARM_QUERIES = 50,
    LEAST_QUERIES = 100,
    EXACT_PART = 40,
    LEAST_EXACT = 20
};

static const double RECALLS[] = {0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999};
static const size_t PROBES[] = {4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
static const double FULL = 0.9985; /* recall beyond which nobody is compared */
enum { RECALLS_COUNT = sizeof RECALLS / sizeof *RECALLS, PROBES_COUNT = sizeof PROBES / sizeof *PROBES };

typedef struct bench {
    const float *vectors, *queries; /* [rows, dim], [asked, dim] mapped */
    const int32_t *truth;           /* [asked, K] mapped */
    size_t dim, rows, asked, threads, exact_below;
    double seconds;
    bool turns, logging;
    vector_index *index;
    double build_seconds, train_seconds, grown_bytes, peak_bytes;
} bench;

/* A setting of the search that is swept over. */
typedef struct point {
    bool exact;
    double recall; /* the target, unless nprobe is given */
    size_t nprobe;
} point;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double status_bytes(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kb = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            kb = strtol(line + strlen(name), NULL, 10);
    if (file != NULL)
        fclose(file);
    return 1024.0 * (double)kb;
}

/* What this process holds of memory of its own: mapped files are not counted. */
static double own_bytes(void)
{
    malloc_trim(0); /* what training has freed is not the index's */
    return status_bytes("RssAnon:");
}

/* The most that it ever held; the mapped files were in memory before. */
static double most_bytes(void)
{
    return status_bytes("VmHWM:") - status_bytes("RssFile:");
}

/* --- building */

static bool build(bench *b, sem_error *err)
{
    const vector_index_options options = {
        .dim = b->dim, .metric = METRIC_COSINE, .exact_below = b->exact_below, .threads = (unsigned)b->threads};
    const double memory = own_bytes(), start = now();
    sem_log log;
    log_init(&log, STDERR_FILENO, LOG_LEVEL_INFO);
    if (vector_index_create(&b->index, &options, err) != SEM_OK)
        return false;
    for (size_t i = 0; i < b->rows; i++)
        if (vector_index_put(b->index, (uint32_t)i, b->vectors + i * b->dim, err) != SEM_OK)
            return false;
    const double filled = now();
    for (int i = 0; i < TRAINING_CALLS_MAX && vector_index_wants_training(b->index); i++)
        if (vector_index_train(b->index, &(vector_training){.log = b->logging ? &log : NULL}, err) != SEM_OK)
            return false;
    b->build_seconds = now() - start;
    b->train_seconds = now() - filled;
    b->peak_bytes = most_bytes() - memory;
    b->grown_bytes = own_bytes() - memory;
    return true;
}

/* The float32 rows that the index copied are not its lists' memory: the store keeps
 * them anyway. */
static void print_build(const bench *b)
{
    vector_index_stats stats;
    vector_index_describe(b->index, &stats);
    const double besides = b->grown_bytes / (double)b->rows - (double)(b->dim * sizeof(float));
    printf("{\"seconds\": %.3f, \"train_seconds\": %.3f, \"memory_mb\": %.1f, \"peak_mb\": %.1f, "
           "\"bytes_besides_float32\": %.1f, "
           "\"rows\": %zu, \"kind\": \"%s\", \"codes\": \"%s\", \"nlist\": %zu}\n",
           b->build_seconds, b->train_seconds, b->grown_bytes / 1e6, b->peak_bytes / 1e6, besides, b->rows, stats.kind,
           stats.codes, stats.nlist);
}

/* --- asking */

static bool ask(const bench *b, const point *p, size_t query, vector_hit hits[K], size_t *count, vector_plan *plan,
                sem_error *err)
{
    const vector_query q = {
        .vector = b->queries + query * b->dim, .k = K, .exact = p->exact, .nprobe = p->nprobe, .recall = p->recall};
    return vector_index_search(b->index, &q, hits, count, plan, err) == SEM_OK;
}

static size_t agreeing(const int32_t *truth, const vector_hit *hits, size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < K; j++)
            found += (int64_t)hits[i].docno == truth[j];
    return found;
}

typedef struct outcome {
    double recall, least; /* recall@10: the mean, and that of the worst query */
    double probed;        /* cells, a query */
} outcome;

static bool measure_recall(const bench *b, const point *p, outcome *out, sem_error *err)
{
    const size_t step = p->exact ? EXACT_PART : 1; /* a scan of everything takes long */
    size_t asked = 0, found = 0, probed = 0, least = K;
    for (size_t i = 0; i < b->asked; i += step, asked++) {
        vector_hit hits[K];
        vector_plan plan;
        size_t count;
        if (!ask(b, p, i, hits, &count, &plan, err))
            return false;
        const size_t right = agreeing(b->truth + i * K, hits, count);
        found += right;
        probed += plan.probed;
        least = right < least ? right : least;
    }
    *out = (outcome){.recall = (double)found / (double)(asked * K),
                     .least = (double)least / K,
                     .probed = (double)probed / (double)asked};
    return true;
}

/* --- timing */

typedef struct asker {
    const bench *b;
    const point *p;
    pthread_t thread;
    pthread_barrier_t *start;
    size_t first;
    double seconds, rate; /* at least this long; queries a second */
    sem_error err;
    bool failed;
} asker;

static void *keep_asking(void *argument)
{
    asker *a = argument;
    vector_hit hits[K];
    size_t count;
    for (size_t i = 0; i < WARM_QUERIES && !a->failed && !a->p->exact; i++)
        a->failed = !ask(a->b, a->p, (a->first + i) % a->b->asked, hits, &count, NULL, &a->err);
    pthread_barrier_wait(a->start);
    const size_t least = a->p->exact ? LEAST_EXACT : LEAST_QUERIES;
    const double start = now();
    double took = 0;
    size_t asked = 0;
    for (; !a->failed && (took < a->seconds || asked < least); asked++) {
        a->failed = !ask(a->b, a->p, (a->first + asked) % a->b->asked, hits, &count, NULL, &a->err);
        took = now() - start;
    }
    a->rate = (double)asked / took;
    return NULL;
}

/* Each thread asks one query after the other, all of them at once. */
static bool measure_rate(const bench *b, const point *p, size_t threads, double seconds, double *rate, sem_error *err)
{
    asker askers[THREADS_MAX] = {0};
    pthread_barrier_t start;
    if (pthread_barrier_init(&start, NULL, (unsigned)threads) != 0)
        return false;
    for (size_t i = 0; i < threads; i++)
        askers[i] = (asker){.b = b, .p = p, .start = &start, .first = i * b->asked / threads, .seconds = seconds};
    for (size_t i = 1; i < threads; i++)
        if (pthread_create(&askers[i].thread, NULL, keep_asking, &askers[i]) != 0)
            abort(); /* the others wait at the barrier: there is no way on */
    keep_asking(&askers[0]);
    bool fine = true;
    *rate = 0;
    for (size_t i = 0; i < threads; i++) {
        if (i > 0)
            pthread_join(askers[i].thread, NULL);
        if (askers[i].failed)
            *err = askers[i].err;
        fine = fine && !askers[i].failed;
        *rate += askers[i].rate;
    }
    pthread_barrier_destroy(&start);
    return fine;
}

/* --- points */

/* "recall=0.95", "nprobe=32" or "exact". */
static bool read_point(point *p, const char *text)
{
    char *end = NULL;
    *p = (point){.exact = strcmp(text, "exact") == 0};
    if (p->exact)
        return true;
    if (strncmp(text, "recall=", 7) == 0)
        p->recall = strtod(text + 7, &end);
    else if (strncmp(text, "nprobe=", 7) == 0)
        p->nprobe = strtoul(text + 7, &end, 10);
    return end != NULL && *end == '\0' && (p->nprobe > 0 || (p->recall > 0 && p->recall < 1));
}

static size_t points_count(void)
{
    return 1 + RECALLS_COUNT + PROBES_COUNT;
}

static void name_point(char *name, size_t size, size_t which)
{
    if (which == 0)
        snprintf(name, size, "exact");
    else if (which <= RECALLS_COUNT)
        snprintf(name, size, "recall=%g", RECALLS[which - 1]);
    else
        snprintf(name, size, "nprobe=%zu", PROBES[which - 1 - RECALLS_COUNT]);
}

static bool answer_point(const bench *b, const char *name, const char *before, double *recall, sem_error *err)
{
    point p;
    outcome found;
    const double start = now();
    if (!read_point(&p, name) || !measure_recall(b, &p, &found, err))
        return false;
    const double asked = (double)(p.exact ? (b->asked + EXACT_PART - 1) / EXACT_PART : b->asked);
    printf("%s{\"point\": \"%s\", \"recall\": %.5f, \"least\": %.1f, \"probed\": %.1f, \"rate\": %.1f}", before, name,
           found.recall, found.least, found.probed, asked / (now() - start));
    *recall = found.recall;
    return true;
}

/* More probes than those that find everything are left out: they take longest. */
static bool answer_points(const bench *b, sem_error *err)
{
    double recall = 0;
    printf("{\"points\": [");
    for (size_t i = 0; i < points_count(); i++) {
        char name[32];
        name_point(name, sizeof name, i);
        if (i > RECALLS_COUNT + 1 && recall > FULL)
            break;
        if (!answer_point(b, name, i == 0 ? "" : ", ", &recall, err))
            return false;
    }
    printf("]}\n");
    return true;
}

static bool answer_time(const bench *b, const char *argument, sem_error *err)
{
    size_t threads;
    double took, rate;
    char name[32];
    point p;
    if (sscanf(argument, "single %zu %lf %31s", &threads, &took, name) != 3 || threads < 1 || threads > THREADS_MAX ||
        !read_point(&p, name))
        return false;
    if (!measure_rate(b, &p, threads, took, &rate, err))
        return false;
    printf("{\"rate\": %.2f}\n", rate);
    return true;
}

static bool take_turns(bench *b, sem_error *err)
{
    char *line = NULL;
    size_t size = 0;
    bool fine = true;
    printf("{\"ready\": true}\n");
    fflush(stdout);
    while (fine && getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (b->index == NULL) {
            fine = strcmp(line, "build") == 0 && build(b, err);
            if (fine)
                print_build(b);
        } else if (strcmp(line, "points") == 0) {
            fine = answer_points(b, err);
        } else {
            fine = strncmp(line, "time ", 5) == 0 && answer_time(b, line + 5, err);
        }
        fflush(stdout);
    }
    free(line);
    return fine;
}

/* Without turns: every point on one thread and on all. */
static bool take_all(bench *b, sem_error *err)
{
    if (!build(b, err))
        return false;
    print_build(b);
    for (size_t i = 0; i < points_count(); i++) {
        char name[32];
        point p;
        outcome found;
        double one, all;
        name_point(name, sizeof name, i);
        if (!read_point(&p, name) || !measure_recall(b, &p, &found, err) ||
            !measure_rate(b, &p, 1, b->seconds, &one, err) || !measure_rate(b, &p, b->threads, b->seconds, &all, err))
            return false;
        printf("{\"point\": \"%s\", \"recall\": %.5f, \"least\": %.1f, \"probed\": %.1f, \"rate\": %.1f, "
               "\"threads\": %zu, \"rate_threads\": %.1f}\n",
               name, found.recall, found.least, found.probed, one, b->threads, all);
        fflush(stdout);
    }
    return true;
}

/* --- options and files */

/* Maps a file of rows of row_bytes each; *rows gets how many, at most *rows. */
static const void *map_rows(const char *path, size_t row_bytes, size_t *rows)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0) {
        if (file >= 0)
            close(file);
        return NULL;
    }
    const size_t found = (size_t)status.st_size / row_bytes;
    *rows = found < *rows ? found : *rows;
    void *mapped = *rows > 0 ? mmap(NULL, *rows * row_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0)
                             : MAP_FAILED;
    close(file);
    return mapped == MAP_FAILED ? NULL : mapped;
}

static bool open_files(bench *b, const char *const paths[3], const char **step)
{
    size_t truths = b->asked;
    *step = paths[0];
    b->vectors = map_rows(paths[0], b->dim * sizeof(float), &b->rows);
    if (b->vectors == NULL)
        return false;
    *step = paths[1];
    b->queries = map_rows(paths[1], b->dim * sizeof(float), &b->asked);
    if (b->queries == NULL)
        return false;
    *step = paths[2];
    b->truth = map_rows(paths[2], K * sizeof(int32_t), &truths);
    return b->truth != NULL && truths >= b->asked;
}

static bool set_option(bench *b, const char *argument)
{
    const number_option numbers[] = {{"dim=", &b->dim, 1, 65536},
                                     {"rows=", &b->rows, 1, 100000000},
                                     {"queries=", &b->asked, 1, 10000000},
                                     {"threads=", &b->threads, 1, THREADS_MAX},
                                     {"exact_below=", &b->exact_below, 1, 100000000}};
    char *end = NULL;
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strcmp(argument, "turns=1") == 0)
        return b->turns = true;
    if (strcmp(argument, "log=1") == 0)
        return b->logging = true;
    if (strncmp(argument, "seconds=", 8) != 0)
        return false;
    b->seconds = strtod(argument + 8, &end);
    return *end == '\0' && b->seconds > 0;
}

int main(int argc, char **argv)
{
    bench b = {.dim = 384, .rows = 1000000, .asked = 2000, .threads = 2, .exact_below = 5000, .seconds = 1};
    const char *paths[3];
    size_t found = 0;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') == NULL && found < 3)
            paths[found++] = argv[i];
        else if (!set_option(&b, argv[i]))
            found = 4;
    }
    if (found != 3) {
        fprintf(stderr,
                "usage: bench_ann [option=value]... VECTORS.f32 QUERIES.f32 TRUTH.i32 (options in the file's head)\n");
        return 2;
    }
    sem_error err = {0};
    const char *step = "";
    bool fine = open_files(&b, paths, &step);
    if (!fine)
        snprintf(err.message, sizeof err.message, "%s cannot be read, or has too few rows", step);
    fine = fine && (b.turns ? take_turns(&b, &err) : take_all(&b, &err));
    if (!fine)
        fprintf(stderr, "bench_ann: %s\n", err.message[0] != '\0' ? err.message : "a request that it does not know");
    vector_index_destroy(b.index);
    return fine ? 0 : 1;
}
