/* A job is cut short by kill -9 at every labelled point of the code, each in a store of its own:
 * after a restart the old or the new generation is there, whole, the job has gone on to its end
 * or is gone, and nothing is left over. The labels are found in the sources: one that no job
 * reaches fails. Points are tried by this program anew, several at a time. */
#include "tests/common/source_tree.h"
#include "tests/daemon/job_box.h"

#include <sys/wait.h>

enum { LABELS_MAX = 256, LABEL_MAX = 64, LABELS_AT_LEAST = 40, AT_ONCE = 6 };

typedef struct labels {
    char names[LABELS_MAX][LABEL_MAX];
    size_t count;
} labels;

static const char *self; /* this program */

/* --- one label */

typedef struct scenario {
    const char *prefix; /* of the labels that it is for */
    const char *method, *params;
    unsigned result; /* the generation that serves at the end */
} scenario;

/* The store has generations 1 (previous) and 2 (current). */
static const scenario scenarios[] = {
    {"load.", "model.load", NULL, 3},
    {"rollback.", "rollback", "{'generation': 1}", 1},
    {"", "finetune", "{}", 3},
};

static bool is_of(const char *label, const char *prefix)
{
    return strncmp(label, prefix, strlen(prefix)) == 0;
}

static const scenario *scenario_of(const char *label)
{
    const scenario *s = scenarios;
    while (!is_of(label, s->prefix))
        s++;
    return s;
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
        {"resume.embedding", "embed.committed"},        {"resume.", "training.step:8"},
        {"training.step", "training.step:8"},           {"space.environment", "space.environment:4"},
        {"commit.before_main", "commit.before_main:2"}, {"commit.after_main", "commit.after_main:2"}};
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
    if (is_of(label, "resume."))
        crash_again(b, label);
}

/* The store was copied after one job: the next is the second. */
static bool job_is_known(box *b)
{
    return object_uint(object_get(box_call(b, "job", "{}"), "job"), 0) > 1;
}

static void try_label(const char *label, const char *prepared)
{
    box b;
    const scenario *s = scenario_of(label);
    job_box_copy(prepared, testing_folder());
    ck_assert(job_box_at(&b, testing_folder()));
    crash(&b, s, label);
    ck_assert_int_eq(box_semctl("verify '%s'", job_box_data(&b)), 0);
    box_start(&b);
    const unsigned before = job_box_check_search(&b);
    ck_assert(before == 2 || before == s->result);
    if (strcmp(label, "job.recording") == 0) { /* before the commit: nothing has happened */
        ck_assert(!job_is_known(&b));
        ck_assert_uint_eq(before, 2);
    } else {
        box_wait_for_job(&b, "done");
        ck_assert(job_is_known(&b));
        ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "decision"), "promoted"));
        ck_assert_uint_eq(job_box_check_search(&b), s->result);
    }
    job_box_check_files(&b);
    job_box_verify(&b);
}

static const char *label_to_try, *store_to_copy;

START_TEST(the_point_is_survived)
{
    try_label(label_to_try, store_to_copy);
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

static void begin_attempt(attempt *a, const char *label, const char *prepared)
{
    a->label = label;
    sem_error error;
    ck_ok(files_join(a->log, &error, "%s/%s.txt", testing_folder(), label));
    fflush(NULL); /* or the child prints it, too */
    a->pid = fork();
    ck_assert_int_ge(a->pid, 0);
    if (a->pid != 0)
        return;
    if (freopen(a->log, "w", stdout) == NULL || freopen(a->log, "a", stderr) == NULL)
        _exit(127);
    execl(self, self, "--label", label, prepared, (char *)NULL);
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
    attempt attempts[AT_ONCE] = {{0}};
    size_t failed = 0, running = 0;
    char prepared[FILES_PATH_MAX];
    source_tree_visit(suffixes, find_labels, &all);
    ck_assert_uint_ge(all.count, LABELS_AT_LEAST);
    sem_error error;
    ck_ok(files_join(prepared, &error, "%s/prepared", testing_folder()));
    if (!job_box_prepare(prepared))
        return;
    for (size_t i = 0; i < all.count; i++) {
        size_t place = running < AT_ONCE ? running++ : end_attempt(attempts, &failed);
        begin_attempt(&attempts[place], all.names[i], prepared);
    }
    for (; running > 0; running--)
        end_attempt(attempts, &failed);
    printf("%zu points, %zu failed\n", all.count, failed);
    ck_assert_uint_eq(failed, 0);
}
END_TEST

int main(int argc, char **argv)
{
    const bool one = argc == 4 && strcmp(argv[1], "--label") == 0;
    Suite *s = suite_create("crash points");
    TCase *t = tcase_create("crash points");
    self = argv[0];
    label_to_try = one ? argv[2] : NULL;
    store_to_copy = one ? argv[3] : NULL;
    tcase_set_timeout(t, 290);
    if (one)
        tcase_add_test(t, the_point_is_survived);
    else
        tcase_add_test(t, a_kill_at_every_point_leaves_a_whole_generation);
    suite_add_tcase(s, t);
    return testing_run(s);
}
