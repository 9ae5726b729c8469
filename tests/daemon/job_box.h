/* A store with a second generation and lessons to learn, copied for each test that has a job
 * cut short; and what must be true of such a store afterwards. */
#ifndef SEM_TESTS_DAEMON_JOB_BOX_H
#define SEM_TESTS_DAEMON_JOB_BOX_H

#include "tests/daemon/lessons.h"

#include <dirent.h>

enum { JOB_BOX_DOCUMENTS = 300 /* more than are embedded together */, JOB_BOX_PATIENCE_MS = 100000 };

/* The options that all daemons of such a test have; returns how many. */
static inline size_t job_box_options(box *b)
{
    size_t n = lesson_options(b, true);
    b->options[n++] = "finetune.checkpoint_every=5";
    b->options[n++] = "finetune.interval=0";
    b->options[n++] = "finetune.threads=1";
    b->options[n++] = "finetune.nice=0"; /* other tests run beside this one */
    return n;
}

/* A daemon that is about to work below `folder`; false (with a line) without the model. */
static inline bool job_box_at(box *b, const char *folder)
{
    if (!box_create(b, "golden/tiny-bert"))
        return false;
    sem_error error;
    char whole[FILES_PATH_MAX]; /* model.load takes no path that depends on where semd runs */
    ck_assert_ptr_nonnull(realpath(b->model + strlen("model.path="), whole));
    snprintf(b->model, sizeof b->model, "model.path=%s", whole);
    snprintf(b->storage, sizeof b->storage, "storage.path=%s/data", folder);
    ck_ok(files_join(b->log, &error, "%s/log", folder));
    job_box_options(b);
    return true;
}

static inline const char *job_box_data(const box *b)
{
    return b->storage + strlen("storage.path=");
}

__attribute__((format(printf, 1, 2))) static inline void job_box_shell(const char *format, ...)
{
    char line[3 * FILES_PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ck_assert_msg(system(line) == 0, "%s", line);
}

static inline void job_box_copy(const char *prepared, const char *folder)
{
    job_box_shell("mkdir -p '%s' && cp -r --sparse=always '%s/data' '%s/data'", folder, prepared, folder);
}

static inline void job_box_fill(box *b)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, NULL, JOB_BOX_DOCUMENTS);
    for (unsigned i = 0; i < JOB_BOX_DOCUMENTS; i++) {
        char text[LESSON_TEXT_MAX];
        lesson_document(i, text);
        box_pack_text(&p, i, text, strlen(text));
    }
    box_call_packed(b, "upsert", &params);
    lesson_feedback(b, JOB_BOX_DOCUMENTS / 2);
    box_call(b, "model.load", "{'path': '%s', 'gate': false}", b->model + strlen("model.path="));
    box_wait_for_job(b, "done");
}

/* Makes `folder`/data, whose next finetune job is promoted: that depends on which queries the
 * store's secret holds out, so one is made until it is so. False without the model. */
static inline bool job_box_prepare(const char *folder)
{
    enum { STORES_MAX = 9 };
    sem_error error;
    char trial[FILES_PATH_MAX];
    ck_ok(files_join(trial, &error, "%s/trial", folder));
    for (int i = 0; i < STORES_MAX; i++) {
        box b;
        job_box_shell("rm -rf '%s/data' '%s' && mkdir -p '%s'", folder, trial, folder);
        if (!job_box_at(&b, folder))
            return false;
        box_start(&b);
        job_box_fill(&b);
        box_stop(&b);
        job_box_copy(folder, trial);
        ck_assert(job_box_at(&b, trial));
        box_start(&b);
        const msgpack_object *job = box_call(&b, "finetune", "{'wait': true}");
        const bool promoted = object_is(object_get(job, "decision"), "promoted");
        box_stop(&b);
        if (promoted)
            return true;
    }
    ck_abort_msg("no store was made whose job is promoted");
}

/* Entries of a folder below the store whose names begin so; 0 where it is missing. */
static inline size_t job_box_entries(const box *b, const char *name, const char *prefix)
{
    char path[2 * FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", job_box_data(b), name);
    DIR *folder = opendir(path);
    size_t count = 0;
    for (struct dirent *e; folder != NULL && (e = readdir(folder)) != NULL;)
        count += e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    if (folder != NULL)
        closedir(folder);
    return count;
}

/* What is served is one generation, whole: every document is found, by the vector that the model
 * makes of its text now. Returns the generation. */
static inline unsigned job_box_check_search(box *b)
{
    unsigned generation = 0;
    for (unsigned i = 0; i < JOB_BOX_DOCUMENTS; i += 37) {
        char text[LESSON_TEXT_MAX];
        lesson_document(i, text);
        const msgpack_object *r =
            box_call(b, "search", "{'query': '%s', 'k': 1000, 'exact': true, 'log': false}", text);
        const msgpack_object *hits = object_get(r, "hits");
        ck_assert_uint_eq(box_count(hits), JOB_BOX_DOCUMENTS);
        ck_assert_uint_eq(object_uint(object_get(box_at(hits, 0), "id"), UINT64_MAX), i);
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, 0), "score"), 0), 1, 1e-3);
        generation = (unsigned)object_uint(object_get(r, "generation"), 0);
    }
    return generation;
}

/* With no job under way the store holds what its generations need, and nothing else. */
static inline void job_box_check_files(box *b)
{
    const msgpack_object *all = box_call(b, "generations", NULL);
    size_t kept = 0, current = 0;
    for (size_t i = 0; i < box_count(all); i++) {
        const msgpack_object *state = object_get(box_at(all, i), "state");
        kept += !object_is(state, "retired");
        current += object_is(state, "current");
    }
    ck_assert_uint_eq(current, 1);
    ck_assert_uint_eq(job_box_entries(b, "models", ""), kept);
    ck_assert_uint_eq(job_box_entries(b, "", "space-"), kept);
    ck_assert_uint_eq(job_box_entries(b, "finetune", ""), 0);
}

/* Stops the daemon and has semctl look at every record. */
static inline void job_box_verify(box *b)
{
    box_stop(b);
    const int status = box_semctl("verify '%s'", job_box_data(b));
    ck_assert_msg(status == 0, "semctl verify: status %d; see %s/semctl.log", status, testing_folder());
}

/* Waits until the daemon has killed itself, or fails. */
static inline void job_box_wait_killed(box *b, const char *where)
{
    int status = 0;
    pid_t ended = 0;
    for (int waited = 0; (ended = waitpid(b->daemon.pid, &status, WNOHANG)) == 0; waited += 5) {
        ck_assert_msg(waited < JOB_BOX_PATIENCE_MS, "%s was never reached; see %s", where, b->log);
        usleep(5000);
    }
    ck_assert_int_eq(ended, b->daemon.pid);
    ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "not killed at %s, but ended with %d; see %s",
                  where, status, b->log);
    box_disconnect(b);
}

/* Starts the daemon so that it kills itself at a point, asks for something and waits for that. */
static inline void job_box_crash(box *b, const char *where, const char *method, const char *params)
{
    setenv("SEMD_CRASH_AT", where, 1);
    box_start(b);
    unsetenv("SEMD_CRASH_AT");
    box_send(b->client, method, "%s", params);
    job_box_wait_killed(b, where);
}

#endif
