/* The demonstration: a search engine learns from clicks. tools/demo/run.sh says
 * how it is started.
 *
 *   semd-demo texts ENGLISH ITALIAN PACKAGES OUT
 *   semd-demo export FOLDER
 *   semd-demo run SEMD MODEL FOLDER [keep]                                     */
#include "base/clock.h"
#include "base/files.h"
#include "base/process.h"
#include "tools/demo/corpus.h"
#include "tools/demo/demo_daemon.h"
#include "tools/demo/job.h"
#include "tools/demo/screen.h"
#include "tools/demo/steps.h"
#include "tools/demo/texts.h"
#include "tools/demo/traffic.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    SIDE_SECONDS = 10, /* of searches before and after the job: 200 for each p99 */
    TRAFFIC_PER_SECOND = 20,
    TRAFFIC_SEARCHES_MAX = 20 * 60 * TRAFFIC_PER_SECOND /* twenty minutes: the demonstration ends sooner */
};

/* What the demonstration has to show: at least this much better in Italian. */
static const double GAIN_MIN = 0.10;

enum { TRAFFIC_BEFORE, TRAFFIC_DURING, TRAFFIC_AFTER, TRAFFIC_PHASES };

typedef struct demo {
    const char *semd, *model, *folder;
    bool keep;
    char data[FILES_PATH_MAX], log[FILES_PATH_MAX], texts_path[FILES_PATH_MAX];
    sigset_t mask; /* as it was at the start: for the daemon */
    process daemon;
    client *client;
    corpus *texts;
    click_report clicks;
    quality italian[2], english[2]; /* before, after */
    job_report job;
    traffic_report traffic;
} demo;

/* Waits for Ctrl-C and the like, and ends the daemon with the program. */
static void *wait_for_signal(void *context)
{
    demo *d = context;
    sigset_t wanted;
    int number;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    sigwait(&wanted, &number);
    fprintf(stderr, "\nstopped: ending the daemon\n");
    process_stop(&d->daemon);
    _exit(128 + number);
}

static void catch_signals(demo *d)
{
    sigset_t wanted;
    pthread_t thread;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &wanted, &d->mask);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, wait_for_signal, d) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_SETMASK, &d->mask, NULL); /* then the kernel ends both */
}

static sem_status start_daemon(demo *d, sem_error *err)
{
    /* The learning itself runs with the daemon's own settings, except that texts
     * are cut to 64 tokens in training and fewer queries are kept for the gate:
     * 2,560 clicks are few. */
    static const char *const options[] = {"finetune.heldout_share=0.06",
                                          "finetune.min_heldout=64",
                                          "train.max_tokens=64",
                                          "train.batch_size=64",
                                          "train.learning_rate=1e-4",
                                          "train.epochs=1",
                                          NULL};
    const demo_daemon_setup setup = {.semd = d->semd,
                                     .model = d->model,
                                     .data = d->data,
                                     .log = d->log,
                                     .options = options,
                                     .keep = d->keep,
                                     .mask = &d->mask};
    sem_status status = files_remove_folder(d->data, err);
    return status == SEM_OK ? demo_daemon_start(&d->daemon, &d->client, &setup, err) : status;
}

static sem_status measure(demo *d, int when, sem_error *err)
{
    sem_status status = steps_measure(d->client, d->texts, true, &d->italian[when], err);
    if (status == SEM_OK)
        status = steps_measure(d->client, d->texts, false, &d->english[when], err);
    return status;
}

static void let_search(void)
{
    struct timespec time = {SIDE_SECONDS, 0};
    nanosleep(&time, NULL);
}

/* The queries of packages that nobody clicks and nothing is measured on. */
static void traffic_query(const void *context, size_t number, char out[TRAFFIC_QUERY_MAX])
{
    const corpus *texts = context;
    size_t first = CORPUS_HELDOUT + CORPUS_CLICKED, filler = CORPUS_DOCUMENTS - first;
    const corpus_package *p = &texts->packages[first + number / 2 % filler];
    snprintf(out, TRAFFIC_QUERY_MAX, "%s", number % 2 == 0 ? p->english : p->italian);
}

static sem_status learn(demo *d, sem_error *err)
{
    traffic *second;
    const traffic_options options = {.address = d->daemon.address,
                                     .per_second = TRAFFIC_PER_SECOND,
                                     .most = TRAFFIC_SEARCHES_MAX,
                                     .phases = TRAFFIC_PHASES,
                                     .query = traffic_query,
                                     .context = d->texts};
    printf("\n4. Learning, while a second client searches %d times a second (first %d s of that\n"
           "   alone, to compare with)\n\n",
           TRAFFIC_PER_SECOND, SIDE_SECONDS);
    sem_status status = traffic_start(&second, &options, err);
    if (status != SEM_OK)
        return status;
    let_search();
    traffic_set_phase(second, TRAFFIC_DURING);
    status = job_run(d->client, "full", NULL, &d->job, err);
    traffic_set_phase(second, TRAFFIC_AFTER);
    if (status == SEM_OK)
        let_search();
    traffic_stop(second, &d->traffic);
    return status;
}

static sem_status run_steps(demo *d, sem_error *err)
{
    printf("\n1. Loading long package descriptions (the model: %s)\n\n", d->model);
    sem_status status = start_daemon(d, err);
    if (status == SEM_OK)
        status = steps_load(d->client, d->texts, err);
    if (status != SEM_OK)
        return status;
    printf("\n2. Three searches in English\n\n");
    status = steps_show_searches(d->client, err);
    printf("\n  Measuring with the queries of 500 packages that nobody will click, in both languages.\n");
    if (status == SEM_OK)
        status = measure(d, 0, err);
    if (status != SEM_OK)
        return status;
    printf("\n3. Italian speakers search and click (simulated: the Italian one-line description\n"
           "   of a package is the query, the click goes to that package)\n\n");
    status = steps_click(d->client, d->texts, &d->clicks, err);
    if (status != SEM_OK)
        return status;
    printf("  %s of them found their package among the ten hits and clicked it; for the other\n"
           "  %s the pair of query and package was sent as feedback.\n",
           screen_count(d->clicks.clicked), screen_count(d->clicks.feedback));
    fflush(stdout);
    status = learn(d, err);
    if (status == SEM_OK)
        status = measure(d, 1, err);
    return status;
}

static void print_quality(const char *name, const quality *before, const quality *after)
{
    printf("  %-22s %8.3f %8.3f  %+.3f    %5.1f%% %6.1f%%\n", name, before->mrr, after->mrr, after->mrr - before->mrr,
           100.0 * before->top1, 100.0 * after->top1);
}

static void print_results(const demo *d)
{
    const traffic_report *t = &d->traffic;
    static const char *const names[TRAFFIC_PHASES] = {"before", "during", "after"};
    printf("\n5. What came of it\n\n");
    printf("  500 held-out packages,   MRR@10                     top-1\n");
    printf("  queries nobody clicked   before    after  change    before   after\n");
    print_quality("Italian", &d->italian[0], &d->italian[1]);
    print_quality("English", &d->english[0], &d->english[1]);
    printf("\n  searches meanwhile         sent  failed  p50 ms  p99 ms\n");
    for (int i = 0; i < TRAFFIC_PHASES; i++)
        printf("  %-22s %8s %7zu %7.1f %7.1f\n", names[i], screen_count(t->phases[i].sent), t->phases[i].failed,
               t->phases[i].p50_ms, t->phases[i].p99_ms);
    printf("  answered by the old model: %s, by the new one: %s\n", screen_count(t->old_answers),
           screen_count(t->new_answers));
    printf("\n  seconds: training %.1f, comparing %.1f, re-embedding %.1f, the flip itself %.3f\n", d->job.training_s,
           d->job.evaluating_s, d->job.embedding_s, d->job.flip_s);
    if (d->job.reason[0] != '\0')
        printf("  the job: %s (%s pairs)\n", d->job.reason, screen_count(d->job.pairs));
}

/* What the demonstration promises; says each promise that was not kept. */
static bool all_kept(const demo *d)
{
    const size_t failed = d->traffic.all.failed;
    bool good = true;
    if (!d->job.promoted) {
        printf("\nNOT KEPT: the candidate was discarded: %s\n", d->job.reason);
        good = false;
    }
    if (d->italian[1].mrr - d->italian[0].mrr < GAIN_MIN) {
        printf("\nNOT KEPT: held-out Italian MRR@10 rose by %.3f, not by %.2f\n", d->italian[1].mrr - d->italian[0].mrr,
               GAIN_MIN);
        good = false;
    }
    if (d->english[1].mrr < d->english[0].mrr) {
        printf("\nNOT KEPT: held-out English MRR@10 fell from %.3f to %.3f\n", d->english[0].mrr, d->english[1].mrr);
        good = false;
    }
    if (failed > 0) {
        printf("\nNOT KEPT: %zu searches failed: %s\n", failed, d->traffic.first_failure);
        good = false;
    }
    return good;
}

static void print_goodbye(const demo *d, double seconds)
{
    printf("\n  %.0f s in all.", seconds);
    if (d->keep) {
        printf(" The daemon is still running (process %d). Search on by hand:\n\n", (int)d->daemon.pid);
        printf("    build/semctl -s %s search \"disegnare un grafico\"\n", d->daemon.address);
        printf("    build/semctl -s %s generations\n    build/semctl -s %s rollback\n", d->daemon.address,
               d->daemon.address);
        printf("    kill %d\n", (int)d->daemon.pid);
        return;
    }
    printf(" Nothing is left running. Search on by hand, with all that it learned:\n\n");
    printf("    %s -o storage.path=%s -o model.path=%s &\n", d->semd, d->data, d->model);
    printf(
        "    build/semctl search \"disegnare un grafico\"\n    build/semctl generations\n    build/semctl rollback\n");
    printf("    kill %%1\n");
}

/* So that the next run can end the daemon that this one leaves. */
static sem_status note_left(const demo *d, sem_error *err)
{
    char path[FILES_PATH_MAX], text[32];
    sem_status status = files_join(path, err, "%s/semd.pid", d->folder);
    int n = snprintf(text, sizeof text, "%d\n", (int)d->daemon.pid);
    return status != SEM_OK ? status : files_write(path, text, (size_t)n, err);
}

static sem_status run(demo *d, bool *good, sem_error *err)
{
    uint64_t start = clock_monotonic_ns();
    sem_status status = files_join(d->data, err, "%s/data", d->folder);
    if (status == SEM_OK)
        status = files_join(d->log, err, "%s/semd.log", d->folder);
    if (status == SEM_OK)
        status = files_join(d->texts_path, err, "%s/packages.jsonl", d->folder);
    d->texts = calloc(1, sizeof *d->texts);
    if (status == SEM_OK && d->texts == NULL)
        status = sem_fail_memory(err, "the texts");
    if (status == SEM_OK)
        status = corpus_load(d->texts, d->texts_path, err);
    if (status == SEM_OK)
        status = run_steps(d, err);
    client_close(d->client);
    *good = false;
    if (status == SEM_OK) {
        print_results(d);
        *good = all_kept(d);
    }
    bool leave = d->keep && status == SEM_OK;
    if (!leave && d->daemon.pid > 0 && !process_stop(&d->daemon) && status == SEM_OK)
        status = sem_fail(err, SEM_INTERNAL, "the daemon did not end in order; see %s", d->log);
    if (leave)
        status = note_left(d, err);
    if (status == SEM_OK)
        print_goodbye(d, (double)(clock_monotonic_ns() - start) / 1e9);
    if (d->texts != NULL)
        corpus_free(d->texts);
    free(d->texts);
    return status;
}

static int run_main(int argc, char **argv)
{
    demo d = {.semd = argv[2], .model = argv[3], .folder = argv[4], .keep = argc == 6};
    sem_error error = {0};
    bool good;
    setvbuf(stdout, NULL, _IOLBF, 0); /* also where it goes through a pipe */
    catch_signals(&d);
    if (run(&d, &good, &error) != SEM_OK) {
        fflush(stdout);
        fprintf(stderr, "\nmake demo: %s\n", error.message);
        return EXIT_FAILURE;
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int texts_main(char **argv)
{
    sem_error error = {0};
    texts_report report;
    if (texts_join(argv[2], argv[3], argv[4], argv[5], &report, &error) != SEM_OK) {
        fprintf(stderr, "make demo: %s\n", error.message);
        return EXIT_FAILURE;
    }
    printf("  TEXTS %s descriptions in English, %s in Italian; %s packages (twins count once), %s in both\n",
           screen_count(report.english), screen_count(report.italian), screen_count(report.packages),
           screen_count(report.both));
    return EXIT_SUCCESS;
}

static int export_main(const char *folder)
{
    sem_error error = {0};
    char path[FILES_PATH_MAX];
    corpus *texts = calloc(1, sizeof *texts);
    sem_status status = texts == NULL ? sem_fail_memory(&error, "the texts")
                                      : files_join(path, &error, "%s/packages.jsonl", folder);
    if (status == SEM_OK)
        status = corpus_load(texts, path, &error);
    if (status == SEM_OK)
        status = corpus_export(texts, folder, &error);
    if (status != SEM_OK)
        fprintf(stderr, "make bench-demo: %s\n", error.message);
    if (texts != NULL)
        corpus_free(texts);
    free(texts);
    return status == SEM_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "texts") == 0)
        return texts_main(argv);
    if (argc == 3 && strcmp(argv[1], "export") == 0)
        return export_main(argv[2]);
    if ((argc == 5 || (argc == 6 && strcmp(argv[5], "keep") == 0)) && strcmp(argv[1], "run") == 0)
        return run_main(argc, argv);
    fprintf(stderr, "usage: semd-demo texts ENGLISH ITALIAN PACKAGES OUT\n"
                    "       semd-demo export FOLDER\n"
                    "       semd-demo run SEMD MODEL FOLDER [keep]\n");
    return EXIT_FAILURE;
}
