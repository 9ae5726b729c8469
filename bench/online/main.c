/* What searching is like while the daemon learns. USAGE says how it is called; mk/loop.mk has the
 * paths. */
#include "base/clock.h"
#include "base/files.h"
#include "base/names.h"
#include "base/process.h"
#include "tools/demo/demo_daemon.h"
#include "tools/demo/job.h"
#include "tools/demo/loading.h"
#include "tools/demo/rpc.h"
#include "tools/demo/screen.h"
#include "bench/numbers.h"
#include "bench/online/memory.h"
#include "bench/online/texts.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char USAGE[] =
    "usage: bench_online [option=value]... SEMD MODEL PACKAGES.jsonl OUT\n"
    "\n"
    "Loads documents, measures how many searches a second there can be, then searches at a constant share\n"
    "of that, each sent when it is due: alone, while a job learns, re-embeds and flips, and afterwards.\n"
    "The typical p99 is the middle one of those of each 1,000 searches that follow each other.\n"
    "Ends with status 1 when a search failed, when the typical p99 while learning is more than 1.5 times that\n"
    "alone and afterwards, when the daemon's anonymous memory grew by more than 600 MB, or when there was no\n"
    "flip to measure: the gate is open, finetune.max_p and finetune.max_probe_loss are 1.\n"
    "\n"
    "  documents=100000   searches=100000 at least   load=0.5 of the capacity\n"
    "  seconds=30  of searching alone, and of measuring the capacity a third of that\n"
    "  pairs=2560  of query and document to learn from, at most that many; there are 500 documents more than that\n"
    "              at least\n"
    "  mode=full   or query, auto\n"
    "  set=section.key=value   for the daemon; may come several times\n"
    "\n"
    "The defaults take three quarters of an hour on two cores; documents=5000 searches=5000 five minutes.\n";

enum { OPTIONS_MAX = 24, UNDER_WAY = 16, FEEDBACK_BATCH = 100 };
enum { REST_S_MOST = 600, REST_PERCENT = 2 };
enum { ALONE, PAIRS, TRAINING, EVALUATING, EMBEDDING, FLIPPING, AFTER, PHASES };

static const double P99_RATIO_MOST = 1.5;
static const double MEMORY_MOST = 600e6;

typedef struct online {
    size_t documents, searches, seconds, pairs;
    double load;
    const char *mode, *semd, *model, *packages, *out;
    const char *options[OPTIONS_MAX + 2]; /* ended by NULL */
    online_texts texts;
    process daemon;
    client *client;
    traffic *traffic;
    memory_watch *memory;
    double capacity; /* searches a second */
    uint64_t serving_bytes, learning_bytes;
    job_report job;
    traffic_report report;
} online;

/* --- before */

static sem_status start(online *o, sem_error *err)
{
    char data[FILES_PATH_MAX], log[FILES_PATH_MAX];
    sem_status status = files_make_folder(o->out, err);
    if (status == SEM_OK)
        status = files_join(data, err, "%s/data", o->out);
    if (status == SEM_OK)
        status = files_join(log, err, "%s/semd.log", o->out);
    if (status == SEM_OK)
        status = files_remove_folder(data, err);
    const demo_daemon_setup setup = {
        .semd = o->semd, .model = o->model, .data = data, .log = log, .options = o->options};
    return status == SEM_OK ? demo_daemon_start(&o->daemon, &o->client, &setup, err) : status;
}

static sem_status teach(online *o, size_t from, size_t to, sem_error *err)
{
    buffer params = {0};
    packer p;
    client_reply reply = {0};
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "pairs");
    pack_array(&p, to - from);
    for (size_t i = from; i < to; i++) {
        pack_map(&p, 3);
        pack_str(&p, "query");
        pack_str(&p, o->texts.packages->packages[CORPUS_HELDOUT + i].italian);
        pack_str(&p, "id");
        pack_uint(&p, CORPUS_HELDOUT + i);
        pack_str(&p, "label");
        pack_int(&p, 1);
    }
    sem_status status = p.failed ? sem_fail_memory(err, "feedback")
                                 : rpc_call(o->client, "feedback", &params, &reply, err);
    if (status == SEM_OK)
        client_reply_free(&reply);
    buffer_free(&params);
    return status;
}

static sem_status search_once(online *o, size_t number, buffer *params, sem_error *err)
{
    char query[TRAFFIC_QUERY_MAX];
    uint32_t msgid;
    online_texts_query(&o->texts, number, query);
    sem_status status = rpc_pack_search(params, query, false, false, false, err);
    return status == SEM_OK ? client_send(o->client, "search", params->data, params->size, &msgid, err) : status;
}

/* How many searches a second are answered while there are always some under way. */
static sem_status measure_capacity(online *o, sem_error *err)
{
    buffer params = {0};
    sem_status status = SEM_OK;
    size_t sent = 0, answered = 0;
    uint64_t began = clock_monotonic_ms(), lasting = o->seconds * 1000 / 3, took = 0;
    while (status == SEM_OK && (took < lasting || answered < UNDER_WAY)) {
        client_reply reply;
        for (; sent < answered + UNDER_WAY && status == SEM_OK; sent++)
            status = search_once(o, sent, &params, err);
        if (status == SEM_OK)
            status = rpc_receive(o->client, &reply, err);
        if (status != SEM_OK)
            break;
        client_reply_free(&reply);
        answered++;
        took = clock_monotonic_ms() - began;
    }
    o->capacity = took > 0 ? (double)answered * 1000 / (double)took : 0;
    for (; answered < sent && status == SEM_OK; answered++) {
        client_reply reply;
        status = rpc_receive(o->client, &reply, err);
        if (status == SEM_OK)
            client_reply_free(&reply);
    }
    buffer_free(&params);
    return status;
}

static void wait_seconds(size_t seconds)
{
    const struct timespec time = {.tv_sec = (time_t)seconds};
    nanosleep(&time, NULL);
}

/* What the daemon had of the processors until now; 0 where it cannot be told. */
static uint64_t daemon_cpu_ms(const online *o)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(o->daemon.pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* Lists are trained when documents have come, and what they gave way to is removed: until nothing of the kind is
 * under way. */
static sem_status wait_for_rest(const online *o, sem_error *err)
{
    for (size_t waited = 0; waited < REST_S_MOST; waited++) {
        const uint64_t before = daemon_cpu_ms(o);
        wait_seconds(1);
        if (before > 0 && daemon_cpu_ms(o) < before + 1000 * REST_PERCENT / 100)
            return SEM_OK;
    }
    return sem_fail(err, SEM_DEADLINE_EXCEEDED, "the daemon has not come to rest in %d s; see %s/semd.log", REST_S_MOST,
                    o->out);
}

/* --- learning, while others search */

static void note_phase(void *context, const char *name)
{
    static const char *const names[] = {"pairs",     "mining",      "training", "evaluating",
                                        "embedding", "catching_up", "flip"};
    static const size_t phases[] = {PAIRS, PAIRS, TRAINING, EVALUATING, EMBEDDING, EMBEDDING, FLIPPING};
    size_t place;
    if (names_find(names, sizeof names / sizeof *names, name, &place))
        traffic_set_phase(((online *)context)->traffic, phases[place]);
}

static sem_status learn(online *o, sem_error *err)
{
    const traffic_options options = {.address = o->daemon.address,
                                     .per_second = o->load * o->capacity,
                                     .most = 10000000,
                                     .phases = PHASES,
                                     .resting = 1u << ALONE | 1u << AFTER,
                                     .query = online_texts_query,
                                     .context = &o->texts};
    const job_watcher watcher = {note_phase, o};
    sem_status status = traffic_start(&o->traffic, &options, err);
    if (status != SEM_OK)
        return status;
    wait_seconds(o->seconds);
    o->serving_bytes = memory_watch_peak(o->memory);
    traffic_set_phase(o->traffic, PAIRS);
    status = job_run(o->client, o->mode, &watcher, &o->job, err);
    traffic_set_phase(o->traffic, AFTER);
    o->learning_bytes = memory_watch_peak(o->memory);
    if (status == SEM_OK)
        wait_seconds(o->seconds);
    while (status == SEM_OK && traffic_sent(o->traffic) < o->searches && !traffic_is_over(o->traffic))
        wait_seconds(1);
    const size_t sent = traffic_sent(o->traffic);
    traffic_stop(o->traffic, &o->report);
    if (status == SEM_OK && sent < o->searches)
        return sem_fail(err, SEM_UNAVAILABLE, "%zu of %zu searches were sent: %s", sent, o->searches,
                        o->report.first_failure);
    return status;
}

static sem_status run(online *o, sem_error *err)
{
    const loading all = {o->documents, online_texts_document, &o->texts};
    sem_status status = online_texts_load(&o->texts, o->packages, err);
    if (status == SEM_OK)
        status = start(o, err);
    if (status == SEM_OK)
        status = loading_run(o->client, &all, err);
    for (size_t from = 0; from < o->pairs && status == SEM_OK; from += FEEDBACK_BATCH)
        status = teach(o, from, o->pairs - from < FEEDBACK_BATCH ? o->pairs : from + FEEDBACK_BATCH, err);
    if (status == SEM_OK)
        status = wait_for_rest(o, err);
    if (status == SEM_OK)
        status = measure_capacity(o, err);
    if (status == SEM_OK) {
        printf("  capacity           %.0f searches a second; now %.0f\n", o->capacity, o->load * o->capacity);
        status = memory_watch_start(&o->memory, o->daemon.pid, err);
    }
    if (status == SEM_OK)
        status = learn(o, err);
    memory_watch_stop(o->memory);
    client_close(o->client);
    if (o->daemon.pid > 0 && !process_stop(&o->daemon) && status == SEM_OK)
        status = sem_fail(err, SEM_INTERNAL, "the daemon did not end in order; see %s/semd.log", o->out);
    online_texts_free(&o->texts);
    return status;
}

/* --- what came of it */

static void print_figures(const char *name, const traffic_figures *f, const traffic_figures *resting)
{
    if (f->sent == 0)
        return;
    printf("  %-22s %9s %7zu %8.1f %8.1f %9.1f %9.1f", name, screen_count(f->sent), f->failed, f->p50_ms, f->p99_ms,
           f->most_ms, f->typical_p99_ms);
    printf(resting->typical_p99_ms > 0 ? " %9.2f\n" : "\n", f->typical_p99_ms / resting->typical_p99_ms);
}

static void print_results(const online *o)
{
    static const char *const names[PHASES] = {"alone",        "reading clicks", "training", "comparing",
                                              "re-embedding", "flipping",       "after"};
    const traffic_report *r = &o->report;
    printf("\n  searches                    sent  failed   p50 ms   p99 ms   most ms   typ. p99    to it\n");
    for (size_t i = 0; i < PHASES; i++)
        print_figures(names[i], &r->phases[i], &r->resting);
    print_figures("alone and after", &r->resting, &r->resting);
    print_figures("0.5 s around the flip", &r->flip, &r->resting);
    print_figures("all", &r->all, &r->resting);
    printf("  answered by the old model: %s, by the new one: %s\n", screen_count(r->old_answers),
           screen_count(r->new_answers));
    printf("\n  seconds: training %.1f, comparing %.1f, re-embedding %.1f, the flip %.3f; %.1f in all\n",
           o->job.training_s, o->job.evaluating_s, o->job.embedding_s, o->job.flip_s, o->job.total_s);
    printf("  anonymous memory at most: %.0f MB serving, %.0f MB learning: %.0f MB more\n",
           (double)o->serving_bytes / 1e6, (double)o->learning_bytes / 1e6,
           ((double)o->learning_bytes - (double)o->serving_bytes) / 1e6);
    printf("  the job: %s\n", o->job.reason);
}

static bool all_kept(const online *o)
{
    const traffic_figures *f = o->report.phases;
    const struct {
        const char *name;
        size_t phase;
    } slow[] = {{"training", TRAINING}, {"re-embedding", EMBEDDING}};
    bool good = true;
    for (size_t i = 0; i < sizeof slow / sizeof *slow; i++) {
        const double resting = o->report.resting.typical_p99_ms;
        const double ratio = resting > 0 ? f[slow[i].phase].typical_p99_ms / resting : 0;
        if (ratio <= P99_RATIO_MOST)
            continue;
        printf("\nNOT KEPT: the typical p99 while %s is %.2f times that without, not %.1f\n", slow[i].name, ratio,
               P99_RATIO_MOST);
        good = false;
    }
    if (o->report.all.failed > 0) {
        printf("\nNOT KEPT: %zu searches failed: %s\n", o->report.all.failed, o->report.first_failure);
        good = false;
    }
    if (o->report.new_answers == 0) {
        printf("\nNOT KEPT: no search was answered by a new model: there was no flip\n");
        good = false;
    }
    if ((double)o->learning_bytes > (double)o->serving_bytes + MEMORY_MOST) {
        printf("\nNOT KEPT: learning takes more than %.0f MB beside serving\n", MEMORY_MOST / 1e6);
        good = false;
    }
    return good;
}

/* --- the command line */

static bool set_option(online *o, const char *argument)
{
    static const char *const modes[] = {"full", "query", "auto"};
    const number_option numbers[] = {{"documents=", &o->documents, 1, 100000000},
                                     {"searches=", &o->searches, 1, 10000000},
                                     {"seconds=", &o->seconds, 1, 3600},
                                     {"pairs=", &o->pairs, 1, CORPUS_CLICKED}};
    const number_found found = numbers_set(numbers, sizeof numbers / sizeof *numbers, argument);
    if (found != NUMBER_NONE)
        return found == NUMBER_SET;
    if (strncmp(argument, "load=", 5) == 0)
        return (o->load = strtod(argument + 5, NULL)) > 0 && o->load <= 1;
    size_t place = 0;
    if (strncmp(argument, "mode=", 5) == 0 && names_find(modes, 3, argument + 5, &place)) {
        o->mode = modes[place];
        return true;
    }
    while (o->options[place] != NULL)
        place++;
    if (strncmp(argument, "set=", 4) != 0 || strchr(argument + 4, '=') == NULL || place >= OPTIONS_MAX)
        return false;
    o->options[place] = argument + 4;
    return true;
}

static bool parse(online *o, int argc, char **argv)
{
    const char **paths[] = {&o->semd, &o->model, &o->packages, &o->out};
    size_t found = 0, wanted = sizeof paths / sizeof *paths;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], '=') != NULL) {
            if (!set_option(o, argv[i]))
                return false;
        } else if (found == wanted) {
            return false;
        } else {
            *paths[found++] = argv[i];
        }
    }
    /* What is asked for must be there. */
    return found == wanted && o->documents >= CORPUS_HELDOUT + o->pairs;
}

int main(int argc, char **argv)
{
    /* No query comes twice, and the capacity is that of encoding. Whatever the candidate is worth, it is re-embedded. */
    online o = {.documents = 100000,
                .searches = 100000,
                .seconds = 30,
                .pairs = CORPUS_CLICKED,
                .load = 0.5,
                .mode = "full",
                .options = {"encode.cache_bytes=0", "finetune.max_p=1", "finetune.max_probe_loss=1"}};
    sem_error err = {0};
    setvbuf(stdout, NULL, _IOLBF, 0); /* also where it goes through a pipe */
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return EXIT_SUCCESS;
    }
    if (!parse(&o, argc, argv)) {
        fputs(USAGE, stderr);
        return 2;
    }
    if (run(&o, &err) != SEM_OK) {
        fflush(stdout);
        fprintf(stderr, "bench_online: %s\n", err.message);
        return EXIT_FAILURE;
    }
    print_results(&o);
    return all_kept(&o) ? EXIT_SUCCESS : EXIT_FAILURE;
}
