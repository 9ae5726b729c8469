/* evaluate: a file of judged queries, in requests of a size that the server takes. */
#include "proto/number.h"
#include "tools/semctl_batches.h"
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
static sem_status add_answer(void *context, const client_reply *reply, sem_error *err)
{
    totals *t = context;
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
    totals t = {0};
    const batches b = {.ctl = ctl,
                       .command = c,
                       .arguments = a,
                       .key = "queries",
                       .empty_too = true,
                       .take = add_answer,
                       .context = &t};
    sem_status status = batches_send_lines(&b, file, BATCH_QUERIES, convert_judged, err);
    if (status == SEM_OK)
        print_totals(ctl, &t);
    return status;
}
