/* evaluate: a file of judged queries, in requests of a size that the server takes. */
#include "proto/number.h"
#include "tools/semctl.h"
#include "tools/semctl_lines.h"
#include "tools/semctl_text.h"

#include <inttypes.h>

enum { BATCH_QUERIES = 200 /* an answer comes within seconds, whatever the machine */, METRICS = 4 };

static const char *const NAMES[METRICS] = {"ndcg", "mrr", "recall", "map"};

/* Sums over the queries that counted. */
typedef struct totals {
    uint64_t queries, generation;
    double sums[METRICS];
} totals;

/* Every answer holds means over its own queries. */
static sem_status add_answer(totals *t, const client_reply *reply, sem_error *err)
{
    uint64_t queries = object_uint(object_get(&reply->value, "queries"), 0);
    uint64_t generation = object_uint(object_get(&reply->value, "generation"), 0);
    if (t->generation != 0 && t->generation != generation)
        return sem_fail(err, SEM_UNAVAILABLE,
                        "generation %" PRIu64 " became %" PRIu64 " between two parts of the file; evaluate again",
                        t->generation, generation);
    t->generation = generation;
    t->queries += queries;
    for (size_t i = 0; i < METRICS; i++)
        t->sums[i] += (double)queries * object_double(object_get(&reply->value, NAMES[i]), 0);
    return SEM_OK;
}

/* Sends count packed queries. */
static sem_status send_queries(semctl *ctl, const command *c, const arguments *a, const buffer *queries, size_t count,
                               totals *t, sem_error *err)
{
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    packer *p = params_key(&m, "queries");
    pack_array(p, count);
    pack_raw(p, queries->data, queries->size);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    status = add_answer(t, &reply, err);
    client_reply_free(&reply);
    return status;
}

static sem_status send_lines(semctl *ctl, const command *c, const arguments *a, const char *path, const buffer *content,
                             totals *t, sem_error *err)
{
    buffer queries = {0};
    packer p;
    size_t length, count = 0, number = 0;
    sem_status status = SEM_OK;
    pack_init(&p, &queries);
    const char *at = (const char *)content->data, *end = at + content->size, *line;
    while (status == SEM_OK && lines_next(&at, end, &line, &length)) {
        number++;
        if (length > 0 && convert_judged(&p, line, length, err) != SEM_OK)
            status = sem_error_prefix(err, "%s:%zu", path, number);
        count += length > 0;
        if (status == SEM_OK && count == BATCH_QUERIES) {
            status = send_queries(ctl, c, a, &queries, count, t, err);
            queries.size = 0;
            count = 0;
        }
    }
    if (status == SEM_OK && p.failed)
        status = sem_fail_memory(err, "queries");
    /* A file without queries is sent as well: what is wrong with the options is told. */
    if (status == SEM_OK && (count > 0 || t->generation == 0))
        status = send_queries(ctl, c, a, &queries, count, t, err);
    buffer_free(&queries);
    return status;
}

static void print_totals(const semctl *ctl, const totals *t)
{
    char number[NUMBER_TEXT_MAX];
    double count = t->queries > 0 ? (double)t->queries : 1;
    if (ctl->json) {
        printf("{\"generation\":%" PRIu64 ",\"queries\":%" PRIu64, t->generation, t->queries);
        for (size_t i = 0; i < METRICS; i++)
            printf(",\"%s\":%.9g", NAMES[i], t->sums[i] / count);
        puts("}");
        return;
    }
    for (size_t i = 0; i < METRICS; i++)
        printf("%-8s%.4f\n", NAMES[i], t->sums[i] / count);
    printf("%s %s, generation %" PRIu64 "\n", number_text(number, t->queries), t->queries == 1 ? "query" : "queries",
           t->generation);
}

sem_status run_evaluate(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    const char *file = argument_of(c, a, "file");
    if (file == NULL)
        return ctl_usage(ctl, err, "give --file; try semctl evaluate --help");
    buffer content = {0};
    totals t = {0};
    sem_status status = lines_read(file, &content, err);
    if (status == SEM_OK)
        status = send_lines(ctl, c, a, file, &content, &t, err);
    buffer_free(&content);
    if (status == SEM_OK)
        print_totals(ctl, &t);
    return status;
}
