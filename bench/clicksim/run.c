#include "bench/clicksim/run.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/names.h"
#include "base/process.h"
#include "proto/client.h"
#include "tools/demo/demo_daemon.h"
#include "tools/demo/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the ways of learning set beside the daemon's defaults. */
static const char *const NAIVE[] = {"finetune.click_weight=1",    "finetune.harvest=false",
                                    "finetune.agreement=false",   "finetune.skipped_negatives=0",
                                    "finetune.mined_negatives=0", NULL};
static const char *const DEBIASED[] = {"finetune.skipped_negatives=0", "finetune.mined_negatives=0", NULL};
static const char *const NEGATIVES[] = {"finetune.skipped_negatives=1", "finetune.mined_negatives=1", NULL};
static const char *const *const VARIANT_OPTIONS[] = {NULL, NAIVE, DEBIASED, NEGATIVES};

typedef struct run {
    const run_options *o;
    char results[FILES_PATH_MAX], picture[FILES_PATH_MAX], log[FILES_PATH_MAX];
    char loaded[FILES_PATH_MAX], data[FILES_PATH_MAX]; /* stores: after loading, and of one way of learning */
    world world;
    results_row row;  /* of the present round */
    size_t done, all; /* rounds with learning */
    uint64_t began_ms;
    process daemon;
    client *client;
} run;

/* --- the daemon */

static sem_status start(run *r, const char *data, const char *const *own, sem_error *err)
{
    const char *options[DEMO_DAEMON_OPTIONS_MAX + 1];
    size_t count = 0;
    for (; own != NULL && own[count] != NULL; count++)
        options[count] = own[count];
    for (size_t i = 0; r->o->options[i] != NULL; i++)
        options[count++] = r->o->options[i];
    options[count] = NULL;
    const demo_daemon_setup setup = {
        .semd = r->o->semd, .model = r->o->model_path, .data = data, .log = r->log, .options = options};
    return demo_daemon_start(&r->daemon, &r->client, &setup, err);
}

static sem_status stop(run *r, sem_status status, sem_error *err)
{
    client_close(r->client);
    r->client = NULL;
    if (r->daemon.pid > 0 && !process_stop(&r->daemon) && status == SEM_OK)
        return sem_fail(err, SEM_INTERNAL, "the daemon did not end in order; see %s", r->log);
    return status;
}

/* Every way of learning begins with a copy of this. */
static sem_status load(run *r, sem_error *err)
{
    sem_status status = files_remove_folder(r->loaded, err);
    if (status == SEM_OK)
        status = start(r, r->loaded, NULL, err);
    if (status == SEM_OK)
        status = people_load(&r->world, r->client, err);
    return stop(r, status, err);
}

/* --- a round */

static void print_row(const results_row *row)
{
    printf("  round %u: held out %.3f (+-%.3f)", row->round, row->heldout.mrr, row->heldout.error);
    if (row->kept_is[0] != '\0')
        printf(", kept %.3f (+-%.3f)", row->kept.mrr, row->kept.error);
    if (row->decision[0] != '\0')
        printf("; %s: %s", row->decision, row->reason);
    printf("\n");
}

static void print_time_left(const run *r)
{
    double seconds = (double)(clock_monotonic_ms() - r->began_ms) / 1000;
    if (r->done > 0 && r->done < r->all)
        printf("  %zu of %zu rounds done, about %.0f min left\n", r->done, r->all,
               seconds / (double)r->done * (double)(r->all - r->done) / 60);
}

static sem_status measure(run *r, sem_error *err)
{
    sem_status status = people_measure(&r->world.heldout, r->client, &r->row.heldout, err);
    if (status == SEM_OK)
        status = people_measure(&r->world.kept, r->client, &r->row.kept, err);
    if (status == SEM_OK)
        status = results_append(r->results, &r->row, err);
    if (status == SEM_OK)
        print_row(&r->row);
    return status;
}

static sem_status learn(run *r, sem_error *err)
{
    job_report report;
    results_row *row = &r->row;
    sem_status status = job_run(r->client, r->o->mode, NULL, &report, err);
    if (status != SEM_OK && status != SEM_FAILED_PRECONDITION)
        return status;
    bool ran = status == SEM_OK;
    snprintf(row->decision, sizeof row->decision, "%s", !ran ? "refused" : report.promoted ? "promoted" : "discarded");
    snprintf(row->reason, sizeof row->reason, "%s", ran ? report.reason : err->message);
    row->pairs = ran ? report.pairs : 0;
    row->training_s = ran ? report.training_s : 0;
    row->evaluating_s = ran ? report.evaluating_s : 0;
    row->embedding_s = ran ? report.embedding_s : 0;
    row->flip_s = ran ? report.flip_s : 0;
    return SEM_OK;
}

static sem_status rounds(run *r, bool learns, sem_error *err)
{
    people crowd = {.world = &r->world, .model = r->o->model, .users = r->o->users, .seed = r->o->seed};
    sem_status status = measure(r, err);
    for (unsigned i = 1; learns && i <= r->o->rounds && status == SEM_OK; i++) {
        r->row.round = i;
        status = people_click(&crowd, r->client, r->o->clicks, &r->row.people, err);
        if (status == SEM_OK)
            status = learn(r, err);
        if (status == SEM_OK)
            status = measure(r, err);
        r->done++;
        if (status == SEM_OK)
            print_time_left(r);
    }
    return status;
}

/* --- all of it */

static size_t variant_number(const char *name)
{
    size_t number = 0;
    (void)names_find(results_variants, RUN_VARIANTS_MAX, name, &number);
    return number;
}

static sem_status run_variant(run *r, const char *set, const char *variant, sem_error *err)
{
    const click_model *m = &r->o->model;
    size_t number = variant_number(variant);
    r->row = (results_row){0};
    snprintf(r->row.world, sizeof r->row.world, "%s (%s, strength %g, mode %s)", set,
             m->kind == CLICK_PBM ? "position-based" : "cascade", m->strength, r->o->mode);
    snprintf(r->row.variant, sizeof r->row.variant, "%s", variant);
    snprintf(r->row.heldout_is, sizeof r->row.heldout_is, "%s", r->world.heldout_is);
    snprintf(r->row.kept_is, sizeof r->row.kept_is, "%s", r->world.kept_is != NULL ? r->world.kept_is : "");
    printf("\n%s, %s\n", r->row.world, variant);
    sem_status status = files_remove_folder(r->data, err);
    if (status == SEM_OK)
        status = files_copy_folder(r->loaded, r->data, err);
    if (status == SEM_OK)
        status = start(r, r->data, VARIANT_OPTIONS[number], err);
    if (status == SEM_OK)
        status = rounds(r, number > 0, err);
    return stop(r, status, err);
}

static sem_status draw(const run *r, sem_error *err)
{
    results_row *rows;
    size_t count;
    const char *path = r->results;
    sem_status status = results_read(&rows, &count, &path, 1, err);
    if (status == SEM_OK)
        status = results_draw(rows, count, r->picture, err);
    free(rows);
    return status;
}

static sem_status run_set(run *r, const char *set, sem_error *err)
{
    sem_status status = sets_load(&r->world, set, &r->o->places, err);
    if (status == SEM_OK)
        printf("\n%s: %zu documents, %zu queries are asked, %zu held out, %zu kept\n", set, r->world.document_count,
               r->world.asked.count, r->world.heldout.count, r->world.kept.count);
    if (status == SEM_OK && (r->world.asked.count == 0 || r->world.heldout.count == 0))
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "the set %s has no queries to ask or to measure with", set);
    if (status == SEM_OK)
        status = load(r, err);
    for (size_t i = 0; r->o->variants[i] != NULL && status == SEM_OK; i++) {
        status = run_variant(r, set, r->o->variants[i], err);
        if (status == SEM_OK)
            status = draw(r, err);
    }
    world_free(&r->world);
    return status;
}

static sem_status name_files(run *r, sem_error *err)
{
    const struct {
        char *path;
        const char *name;
    } files[] = {{r->results, "results.jsonl"},
                 {r->picture, "clicksim.svg"},
                 {r->log, "semd.log"},
                 {r->loaded, "loaded"},
                 {r->data, "data"}};
    sem_status status = files_make_folder(r->o->out, err);
    for (size_t i = 0; i < sizeof files / sizeof *files && status == SEM_OK; i++)
        status = files_join(files[i].path, err, "%s/%s", r->o->out, files[i].name);
    if (status == SEM_OK)
        remove(r->results);
    return status;
}

sem_status run_all(const run_options *o, sem_error *err)
{
    run *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, "the simulation");
    r->o = o;
    r->began_ms = clock_monotonic_ms();
    sem_status status = name_files(r, err);
    for (size_t i = 0; o->sets[i] != NULL; i++)
        for (size_t v = 0; o->variants[v] != NULL; v++)
            r->all += variant_number(o->variants[v]) > 0 ? o->rounds : 0;
    for (size_t i = 0; o->sets[i] != NULL && status == SEM_OK; i++)
        status = run_set(r, o->sets[i], err);
    if (status == SEM_OK)
        printf("\n%s\n%s\n", r->results, r->picture);
    free(r);
    return status;
}
