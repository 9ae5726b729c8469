/* A job is cut short by kill -9 at every labelled point of the code, each in a store of its own:
 * after a restart the old or the new generation is there, whole, the job has gone on to its end
 * or is gone, and nothing is left over. So is an erasure from the event log: either its old or its new
 * file is there. The labels are found in the sources: one that no job
 * reaches fails. Points are tried by this program anew, several at a time. */
#include "tests/common/source_tree.h"
#include "tests/daemon/job_box.h"

#include <sys/wait.h>

enum { LABELS_MAX = 256, LABEL_MAX = 64, LABELS_AT_LEAST = 40, AT_ONCE = 6, LOOKED_AT = 10 };

typedef struct labels {
    char names[LABELS_MAX][LABEL_MAX];
    size_t count;
} labels;

static const char *self; /* this program */

/* --- one label */

typedef struct scenario {
    const char *prefix; /* of the labels that it is for */
    const char *method, *params;
    unsigned current; /* the generation that serves before: one less is the store's number of jobs */
    unsigned result;  /* and at the end */
    bool also;        /* beside the first that fits */
    bool keeps;       /* vectors of documents, bit for bit */
    const char *option;
} scenario;

static const char QUERY[] = "{'mode': 'query'}", MINES[] = "finetune.mined_negatives=1",
                  TRIAL[] = "finetune.rollout=interleave";

/* The store has generations 1 (previous) and 2 (current); or where 3 is, that is one of mode query
 * with the space of 2, which is the previous one. */
static const scenario scenarios[] = {
    {"load.", "model.load", NULL, 2, 3, false, false, NULL},
    {"rollback.", "rollback", "{'generation': 1}", 2, 1, false, false, NULL},
    {"rollback.", "rollback", "{'generation': 2}", 3, 2, true, true, NULL},
    {"mining.", "finetune", "{}", 2, 3, false, false, MINES},
    {"auto.", "finetune", "{'mode': 'auto'}", 2, 3, false, false, NULL},
    {"trial.", "finetune", "{}", 2, 2, false, false, TRIAL}, /* nobody clicks: it is lost */
    {"trial.", "finetune", QUERY, 2, 2, true, false, TRIAL},
    {"towers.", "finetune", QUERY, 2, 3, false, true, NULL},
    {"shared.", "finetune", QUERY, 2, 3, false, true, NULL},
    {"shared.", "rollback", "{'generation': 2}", 3, 2, true, true, NULL},
    {"erase.", "events.erase", "{'user': 'eve'}", 2, 2, false, false, NULL},
    {"training.lesson_written", "finetune", QUERY, 2, 3, true, true, NULL},
    {"model.named", "finetune", QUERY, 2, 3, true, true, NULL},
    {"gate.decided", "finetune", QUERY, 2, 3, true, true, NULL},
    {"candidate.mov", "finetune", QUERY, 2, 3, true, true, NULL},
    {"job.e", "finetune", QUERY, 2, 3, true, true, NULL},
    {"retire.", "finetune", QUERY, 2, 3, true, true, NULL},
    {"", "finetune", "{}", 2, 3, false, false, NULL},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static bool is_of(const char *label, const char *prefix)
{
    return strncmp(label, prefix, strlen(prefix)) == 0;
}

/* The next one for a label, from number `from` on; SCENARIOS: none. */
static size_t scenario_of(const char *label, size_t from)
{
    bool had = false;
    for (size_t i = 0; i < SCENARIOS; i++) {
        if (!is_of(label, scenarios[i].prefix) || (had && !scenarios[i].also))
            continue;
        if (i >= from)
            return i;
        had = had || !scenarios[i].also;
    }
    return SCENARIOS;
}

/* A resumed job is killed once more. */
static void crash_again(box *b, const char *label)
{
    sem_error error;
    char *argv[2 * BOX_OPTIONS_MAX + 18];
    box_argv(b, argv);
    setenv("SEMD_CRASH_AT", label, 1);
    /* It may be killed before it listens. */
    if (process_start(&b->daemon, argv, b->log, false, NULL, &error) == SEM_OK)
        job_box_wait_killed(b, label);
    else
        ck_assert_msg(strstr(error.message, "ended before it listened") != NULL, "%s", error.message);
    unsetenv("SEMD_CRASH_AT");
}

/* Where a job is killed to try a label: at it, unless what comes there first is no job, or too early
 * to show something. The start opens three spaces; a job's first record goes with the events; what is
 * trained on is written as checkpoints are. */
static const char *first_crash(const char *label)
{
    static const char *const others[][2] = {
        {"resume.embedding", "embed.committed"},      {"resume.", "training.step:8"},
        {"erase.settling", "erase.left_synced"},      {"training.step", "training.step:8"},
        {"space.environment", "space.environment:4"}, {"commit.before_main", "commit.before_main:2"},
        {"commit.after_main", "commit.after_main:2"}};
    static char second[LABEL_MAX + 2];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (is_of(label, others[i][0]))
            return others[i][1];
    snprintf(second, sizeof second, "%s:2", label);
    return is_of(label, "checkpoint.") ? second : label;
}

static void crash(box *b, const scenario *s, const char *label)
{
    char load[2 * FILES_PATH_MAX];
    const char *first = first_crash(label);
    snprintf(load, sizeof load, "{'path': '%s', 'gate': false}", b->model + strlen("model.path="));
    job_box_crash(b, first, s->method, s->params != NULL ? s->params : load);
    if (is_of(label, "resume.") || strcmp(label, "erase.settling") == 0)
        crash_again(b, label);
}

/* Or the store's last one is from before. */
static bool job_is_known(box *b, const scenario *s)
{
    return object_uint(object_get(box_call(b, "job", "{}"), "job"), 0) >= s->current;
}

static void all_vectors(box *b, float out[LOOKED_AT][JOB_BOX_DIM])
{
    for (unsigned i = 0; i < LOOKED_AT; i++)
        job_box_stored(b, i * 29, out[i]);
}

/* The scenario's store, which is not running; and its vectors. */
static void take_copy(box *b, const scenario *s, const char *prepared, float vectors[LOOKED_AT][JOB_BOX_DIM])
{
    char from[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(from, &error, "%s%s", prepared, s->current == 3 ? "/query" : ""));
    job_box_copy(from, testing_folder());
    ck_assert(job_box_at(b, testing_folder()));
    job_box_option(b, s->option);
    if (s->option == TRIAL)
        job_box_option(b, "finetune.rollout_time=1ms"); /* over as soon as it is looked at */
    if (!s->keeps)
        return;
    box_start(b);
    all_vectors(b, vectors);
    box_stop(b);
}

static void ck_survives(const char *label, const scenario *s, const char *prepared)
{
    box b;
    float vectors[LOOKED_AT][JOB_BOX_DIM], after[LOOKED_AT][JOB_BOX_DIM];
    take_copy(&b, s, prepared, vectors);
    crash(&b, s, label);
    ck_assert_int_eq(box_semctl("verify '%s'", job_box_data(&b)), 0);
    box_start(&b);
    const unsigned before = job_box_check_search(&b);
    ck_assert(before == s->current || before == s->result);
    if (strcmp(label, "job.recording") == 0) { /* before the commit: nothing has happened */
        ck_assert(!job_is_known(&b, s));
        ck_assert_uint_eq(before, s->current);
    } else {
        box_wait_for_job(&b, "done");
        ck_assert(job_is_known(&b, s));
        ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "decision"),
                            s->option == TRIAL ? "discarded" : "promoted"));
        ck_assert_uint_eq(job_box_check_search(&b), s->result);
    }
    if (s->keeps) {
        all_vectors(&b, after);
        ck_assert_mem_eq(vectors, after, sizeof vectors);
        ck_assert_uint_eq(job_box_entries(&b, "", "space-"), 1);
    }
    job_box_check_files(&b);
    job_box_verify(&b);
}

/* --- an erasure */

enum { ASKED = 20 /* searches of each user */ };
static const char ANNS[] = "annsprivatewords", EVES[] = "evesprivatewords", BOBS[] = "bobsprivatewords";

static void ask(box *b, const char *words, const char *user)
{
    char query_id[80];
    for (unsigned i = 0; i < ASKED; i++) {
        const msgpack_object *r = box_call(b, "search", "{'query': '%s %u', 'user': '%s'}", words, i, user);
        const msgpack_object *id = object_get(r, "query_id");
        const unsigned first = (unsigned)object_uint(object_get(box_at(object_get(r, "hits"), 0), "id"), 0);
        snprintf(query_id, sizeof query_id, "%.*s", (int)id->via.str.size, id->via.str.ptr);
        box_call(b, "click", "{'query_id': '%s', 'id': %u}", query_id, first); /* commits both */
    }
}

static size_t logged(box *b, const char *kind, const char *words)
{
    const msgpack_object *page = box_call(b, "events", "{'kinds': ['%s'], 'limit': 1000}", kind);
    const msgpack_object *all = object_get(page, "events");
    size_t found = 0;
    ck_assert_int_eq(object_get(page, "next")->type, MSGPACK_OBJECT_NIL);
    for (size_t i = 0; i < box_count(all); i++) {
        const msgpack_object *query = object_get(box_at(all, i), "query");
        found += words == NULL ||
                 (query->via.str.size > strlen(words) && memcmp(query->via.str.ptr, words, strlen(words)) == 0);
    }
    return found;
}

/* In any file below the storage path, or one that went while it was looked for. */
static bool is_anywhere(const box *b, const char *words)
{
    char line[2 * FILES_PATH_MAX];
    snprintf(line, sizeof line, "grep -rqa %s '%s' 2>/dev/null", words, job_box_data(b));
    const int status = system(line);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status) != 1;
}

/* What the daemon makes up for by itself. */
static void wait_erased(box *b, const char *words)
{
    for (int waited = 0; is_anywhere(b, words) || job_box_entries(b, "", "events.") > 0; waited += 50) {
        ck_assert_msg(waited < JOB_BOX_PATIENCE_MS, "%s is still there; see %s", words, b->log);
        usleep(50000);
    }
}

static void check_bobs(box *b, size_t eves)
{
    ck_assert_uint_eq(logged(b, "search", EVES), eves);
    ck_assert_uint_eq(logged(b, "search", BOBS), ASKED);
    ck_assert_uint_eq(logged(b, "search", NULL), ASKED + eves);
    ck_assert_uint_eq(logged(b, "click", NULL), ASKED + eves);
}

/* Ann's events are erased, and that was answered; Eve's are being erased at the kill. */
static void ck_erasure_survives(const char *label, const scenario *s, const char *prepared)
{
    box b;
    const size_t eves = strcmp(label, "erase.noted") == 0 ? ASKED
                                                          : 0; /* nothing was removed yet, and nothing answered */
    take_copy(&b, s, prepared, NULL);
    box_start(&b);
    ask(&b, ANNS, "ann");
    ask(&b, BOBS, "bob");
    ask(&b, EVES, "eve");
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "events.erase", "{'user': 'ann'}"), "erased"), 0), 2 * ASKED);
    box_kill(&b);
    ck_assert(!is_anywhere(&b, ANNS));
    crash(&b, s, label);
    ck_assert_int_eq(box_semctl("verify '%s'", job_box_data(&b)), 0);
    ck_assert(!is_anywhere(&b, ANNS) && is_anywhere(&b, BOBS));
    box_start(&b);
    check_bobs(&b, eves);
    if (eves == 0) /* the rest is made up for by itself */
        wait_erased(&b, EVES);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "events.erase", "{'user': 'eve'}"), "erased"), 99), 2 * eves);
    ck_assert(!is_anywhere(&b, EVES) && job_box_entries(&b, "", "events.") == 0);
    check_bobs(&b, 0);
    ck_assert(!is_anywhere(&b, ANNS) && is_anywhere(&b, BOBS));
    job_box_check_files(&b);
    job_box_verify(&b);
}

static const char *label_to_try, *store_to_copy;
static size_t scenario_to_try;

START_TEST(the_point_is_survived)
{
    const scenario *s = &scenarios[scenario_to_try];
    if (is_of(label_to_try, "erase."))
        ck_erasure_survives(label_to_try, s, store_to_copy);
    else
        ck_survives(label_to_try, s, store_to_copy);
}
END_TEST

/* --- all of them */

static void add_label(labels *all, const char *name, size_t length)
{
    char label[LABEL_MAX];
    ck_assert_uint_lt(length, LABEL_MAX);
    snprintf(label, sizeof label, "%.*s", (int)length, name);
    for (size_t i = 0; i < all->count; i++)
        ck_assert_msg(strcmp(all->names[i], label) != 0, "two points are called %s", label);
    ck_assert_uint_lt(all->count, LABELS_MAX);
    memcpy(all->names[all->count++], label, sizeof label);
}

static void find_labels(void *context, const char *path, char *content)
{
    static const char CALL[] = "crash_point(\"";
    if (text_begins(path, "tests/"))
        return;
    for (char *at = content; (at = strstr(at, CALL)) != NULL;) {
        at += strlen(CALL);
        add_label(context, at, strcspn(at, "\""));
    }
}

typedef struct attempt {
    pid_t pid;
    const char *label;
    char log[FILES_PATH_MAX];
} attempt;

static void begin_attempt(attempt *a, const char *label, size_t number, const char *prepared)
{
    a->label = label;
    sem_error error;
    char which[32];
    snprintf(which, sizeof which, "%zu", number);
    ck_ok(files_join(a->log, &error, "%s/%s-%s.txt", testing_folder(), label, which));
    fflush(NULL); /* or the child prints it, too */
    a->pid = fork();
    ck_assert_int_ge(a->pid, 0);
    if (a->pid != 0)
        return;
    if (freopen(a->log, "w", stdout) == NULL || freopen(a->log, "a", stderr) == NULL)
        _exit(127);
    execl(self, self, "--label", label, which, prepared, (char *)NULL);
    _exit(127);
}

/* Waits for one of them; returns its place. */
static size_t end_attempt(attempt *all, size_t *failed)
{
    int status;
    const pid_t ended = waitpid(-1, &status, 0);
    ck_assert_int_gt(ended, 0);
    size_t i = 0;
    while (i < AT_ONCE && all[i].pid != ended)
        i++;
    ck_assert_uint_lt(i, AT_ONCE);
    all[i].pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return i;
    (*failed)++;
    char *said = NULL;
    size_t size = 0;
    files_read(all[i].log, 1 << 20, &said, &size, NULL);
    printf("%s:\n%s\n", all[i].label, said != NULL ? said : "");
    free(said);
    return i;
}

START_TEST(a_kill_at_every_point_leaves_a_whole_generation)
{
    static const char *const suffixes[] = {".c", NULL};
    static labels all;
    static const job_box_trial trials[] = {{"full", "full", NULL},
                                           {"query", "query", NULL},
                                           {"auto", "auto", NULL},
                                           {"mined", "full", MINES},
                                           {NULL, NULL, NULL}};
    attempt attempts[AT_ONCE] = {{0}};
    size_t failed = 0, running = 0, tried = 0;
    char prepared[FILES_PATH_MAX];
    source_tree_visit(suffixes, find_labels, &all);
    ck_assert_uint_ge(all.count, LABELS_AT_LEAST);
    sem_error error;
    ck_ok(files_join(prepared, &error, "%s/prepared", testing_folder()));
    if (!job_box_prepare(prepared, trials))
        return;
    for (size_t i = 0; i < all.count; i++)
        for (size_t s = 0; (s = scenario_of(all.names[i], s)) < SCENARIOS; s++, tried++) {
            size_t place = running < AT_ONCE ? running++ : end_attempt(attempts, &failed);
            begin_attempt(&attempts[place], all.names[i], s, prepared);
        }
    for (; running > 0; running--)
        end_attempt(attempts, &failed);
    printf("%zu points, tried %zu times, %zu failed\n", all.count, tried, failed);
    fflush(stdout); /* or what failed is lost where it goes to a file */
    ck_assert_uint_eq(failed, 0);
}
END_TEST

int main(int argc, char **argv)
{
    const bool one = argc == 5 && strcmp(argv[1], "--label") == 0;
    Suite *s = suite_create("crash points");
    TCase *t = tcase_create("crash points");
    self = argv[0];
    label_to_try = one ? argv[2] : NULL;
    scenario_to_try = one ? strtoul(argv[3], NULL, 10) : 0;
    store_to_copy = one ? argv[4] : NULL;
    tcase_set_timeout(t, 290);
    if (one)
        tcase_add_test(t, the_point_is_survived);
    else
        tcase_add_test(t, a_kill_at_every_point_leaves_a_whole_generation);
    suite_add_tcase(s, t);
    return testing_run(s);
}
