/* The store alone: documents with given vectors put in groups, as a bulk load
 * does, then opened again and its index filled, as a start does.
 *
 *   bench_store [folder=build/bench-store] [vectors=200000] [dim=384] [request=64] [group=8]
 *
 * request: documents in one put; group: puts that share one commit. The folder is
 * removed first and left behind. Prints documents a second, bytes on disk a
 * vector, and how long opening and filling take with what the page cache has. */
#include "base/clock.h"
#include "base/files.h"
#include "base/random.h"
#include "index/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct setup {
    char folder[FILES_PATH_MAX];
    size_t vectors, dim, request, group;
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
               .group = option(argc, argv, "group", 8)};
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

static void load(const setup *s, store *st, uint32_t collection)
{
    sem_error err;
    random_state random;
    random_seed(&random, 1);
    float *pool = malloc(1024 * s->dim * sizeof *pool);
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
                                          .vector = pool + done % 1024 * s->dim};
            check(store_documents_put(w, collection, STORE_SPACE_EXTERNAL, s->dim, 0, 0, puts, count, &seq, &err),
                  &err);
        }
        check(store_write_commit(w, &err), &err);
    }
    double seconds = (double)(clock_monotonic_ns() - began) / 1e9;
    printf("load      %zu vectors in %.2f s: %.0f a second, %.1f MB/s\n", s->vectors, seconds,
           (double)s->vectors / seconds, (double)(s->vectors * s->dim * 4) / seconds / 1e6);
    free(pool);
    free(puts);
}

static void show_bytes(const setup *s, store *st)
{
    double bytes = (double)store_space_bytes(st, STORE_SPACE_EXTERNAL);
    printf("disk      %.0f bytes a vector of %zu\n", bytes / (double)s->vectors, s->dim * sizeof(float));
}

static bool touch(void *context, uint32_t docno, uint64_t version, const void *vector)
{
    (void)docno, (void)version;
    float first;
    memcpy(&first, vector, sizeof first);
    *(double *)context += (double)first;
    return true;
}

int main(int argc, char **argv)
{
    sem_error err;
    setup s = parse(argc, argv);
    check(files_remove_folder(s.folder, &err), &err);
    store *st = open_store(&s);
    uint32_t c = make_collection(st, s.dim);
    load(&s, st, c);
    show_bytes(&s, st);
    store_close(st);
    uint64_t began = clock_monotonic_ns();
    st = open_store(&s);
    uint64_t opened = clock_monotonic_ns();
    store_read *r;
    double sum = 0;
    check(store_read_begin(st, &r, &err), &err);
    check(store_vector_walk(r, STORE_SPACE_EXTERNAL, c, touch, &sum, &err), &err);
    store_read_end(r);
    printf("open      %.1f ms\nwalk      %.1f ms (%g)\n", (double)(opened - began) / 1e6,
           (double)(clock_monotonic_ns() - opened) / 1e6, sum);
    store_close(st);
    return 0;
}
