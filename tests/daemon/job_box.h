/* A store with a second generation and lessons to learn, copied for each test that has a job
 * cut short; and what must be true of such a store afterwards. */
#ifndef SEM_TESTS_DAEMON_JOB_BOX_H
#define SEM_TESTS_DAEMON_JOB_BOX_H

#include "tests/daemon/lessons.h"

#include <dirent.h>

enum { JOB_BOX_DOCUMENTS = 300 /* more than are embedded together */, JOB_BOX_PATIENCE_MS = 100000, JOB_BOX_DIM = 48 };

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

/* Another option behind those that there are; NULL adds none. */
static inline void job_box_option(box *b, const char *option)
{
    size_t n = 0;
    while (b->options[n] != NULL)
        n++;
    ck_assert_uint_lt(n + 1, BOX_OPTIONS_MAX);
    b->options[n] = option;
    b->options[n + 1] = NULL;
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

static inline void job_box_documents(box *b)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, NULL, JOB_BOX_DOCUMENTS);
    for (unsigned i = 0; i < JOB_BOX_DOCUMENTS; i++) {
        char text[LESSON_TEXT_MAX];
        lesson_document(i, text);
        box_pack_text(&p, i, text, strlen(text));
    }
    box_call_packed(b, "upsert", &params);
}

static inline void job_box_fill(box *b)
{
    job_box_documents(b);
    lesson_feedback(b, JOB_BOX_DOCUMENTS / 2);
    box_call(b, "model.load", "{'path': '%s', 'gate': false}", b->model + strlen("model.path="));
    box_wait_for_job(b, "done");
}

/* A job that a test asks for, on a store of its own. */
typedef struct job_box_trial {
    const char *name;   /* of the folder that has the store after it */
    const char *mode;   /* of finetune; NULL ends an array of them */
    const char *option; /* NULL: none */
} job_box_trial;

/* Whether the job is promoted on a copy of `folder`/data, which is in `folder`/name then. */
static inline bool job_box_try(const char *folder, const job_box_trial *t)
{
    box b;
    sem_error error;
    char trial[FILES_PATH_MAX];
    ck_ok(files_join(trial, &error, "%s/%s", folder, t->name));
    job_box_copy(folder, trial);
    ck_assert(job_box_at(&b, trial));
    job_box_option(&b, t->option);
    box_start(&b);
    const msgpack_object *job = box_call(&b, "finetune", "{'wait': true, 'mode': '%s'}", t->mode);
    const bool promoted = object_is(object_get(job, "decision"), "promoted");
    box_stop(&b);
    return promoted;
}

/* Makes `folder`/data, of which each of the jobs is promoted, were it the next: that depends on which
 * queries the store's secret holds out, so one is made until it is so. False without the model. */
static inline bool job_box_prepare(const char *folder, const job_box_trial *trials)
{
    enum { STORES_MAX = 9 };
    for (int i = 0; i < STORES_MAX; i++) {
        box b;
        job_box_shell("rm -rf '%s' && mkdir -p '%s'", folder, folder);
        if (!job_box_at(&b, folder))
            return false;
        box_start(&b);
        job_box_fill(&b);
        box_stop(&b);
        const job_box_trial *t = trials;
        while (t->mode != NULL && job_box_try(folder, t))
            t++;
        if (t->mode == NULL)
            return true;
    }
    ck_abort_msg("no store was made whose jobs are promoted");
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

static inline void job_box_vector(const msgpack_object *bytes, float out[JOB_BOX_DIM])
{
    ck_assert(bytes != NULL && bytes->type == MSGPACK_OBJECT_BIN);
    ck_assert_uint_eq(bytes->via.bin.size, JOB_BOX_DIM * sizeof(float));
    memcpy(out, bytes->via.bin.ptr, JOB_BOX_DIM * sizeof(float));
}

static inline void job_box_stored(box *b, unsigned id, float out[JOB_BOX_DIM])
{
    const msgpack_object *r = box_call(b, "get", "{'ids': [%u], 'with': ['vector']}", id);
    job_box_vector(object_get(box_at(r, 0), "vector"), out);
}

/* Returns the generation. */
static inline unsigned job_box_encode(box *b, const char *text, const char *prompt, float out[JOB_BOX_DIM])
{
    const msgpack_object *r = box_call(b, "encode", "{'texts': ['%s'], 'prompt': '%s'}", text, prompt);
    job_box_vector(box_at(object_get(r, "embeddings"), 0), out);
    return (unsigned)object_uint(object_get(r, "generation"), 0);
}

/* The generation that is current in the store: at a flip some moments earlier than the one that is served. */
static inline unsigned job_box_committed(box *b)
{
    const msgpack_object *all = box_call(b, "generations", NULL);
    for (size_t i = 0; i < box_count(all); i++)
        if (object_is(object_get(box_at(all, i), "state"), "current"))
            return (unsigned)object_uint(object_get(box_at(all, i), "generation"), 0);
    return 0;
}

static inline double job_box_cosine(const float x[JOB_BOX_DIM], const float y[JOB_BOX_DIM])
{
    double sum = 0;
    for (int i = 0; i < JOB_BOX_DIM; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* Looks for a document by its text. It must be found, by the vector that its model makes of its text
 * now and the one that the model of queries makes of it: the first where that is the same. Returns the generation; 0
 * where that changed meanwhile. */
static inline unsigned job_box_check_document(box *b, unsigned id)
{
    char text[LESSON_TEXT_MAX];
    float stored[JOB_BOX_DIM], document[JOB_BOX_DIM], query[JOB_BOX_DIM];
    lesson_document(id, text);
    const msgpack_object *r = box_call(b, "search", "{'query': '%s', 'k': 1000, 'exact': true, 'log': false}", text);
    const msgpack_object *hits = object_get(r, "hits");
    const unsigned generation = (unsigned)object_uint(object_get(r, "generation"), 0);
    size_t place = 0;
    ck_assert_uint_eq(box_count(hits), JOB_BOX_DOCUMENTS);
    while (object_uint(object_get(box_at(hits, place), "id"), UINT64_MAX) != id)
        ck_assert_uint_lt(++place, JOB_BOX_DOCUMENTS);
    const double score = object_double(object_get(box_at(hits, place), "score"), 0);
    job_box_stored(b, id, stored);
    job_box_encode(b, text, "document", document);
    /* get answers with the vector of the generation that is committed. */
    if (job_box_encode(b, text, "query", query) != generation || job_box_committed(b) != generation)
        return 0;
    ck_assert_double_eq_tol(job_box_cosine(document, stored), 1, 1e-3);
    ck_assert_double_eq_tol(score, job_box_cosine(query, stored), 1e-3);
    ck_assert_msg(place == 0 || job_box_cosine(query, document) < 0.9999, "document %u is number %zu", id, place);
    return generation;
}

/* What is served is one generation, whole. Returns it. */
static inline unsigned job_box_check_search(box *b)
{
    unsigned generation = 0;
    for (unsigned i = 0; i < JOB_BOX_DOCUMENTS; i += 37)
        while ((generation = job_box_check_document(b, i)) == 0)
            continue;
    return generation;
}

static inline bool job_box_is_kept(const msgpack_object *all, unsigned number)
{
    for (size_t i = 0; i < box_count(all); i++)
        if (object_uint(object_get(box_at(all, i), "generation"), 0) == number)
            return !object_is(object_get(box_at(all, i), "state"), "retired");
    return false;
}

/* With no job under way the store holds what its generations need, and nothing else. One of mode query
 * has its parent's space and documents' model: there once, for as long as one of the two is. */
static inline void job_box_check_files(box *b)
{
    const msgpack_object *all = box_call(b, "generations", NULL);
    size_t models = 0, spaces = 0, current = 0;
    for (size_t i = 0; i < box_count(all); i++) {
        const msgpack_object *g = box_at(all, i), *state = object_get(g, "state");
        const bool query = object_is(object_get(g, "mode"), "query");
        const bool parent = job_box_is_kept(all, (unsigned)object_uint(object_get(g, "parent"), 0));
        current += object_is(state, "current");
        if (object_is(state, "retired"))
            continue;
        models += query && !parent ? 2 : 1;
        spaces += query && parent ? 0 : 1;
    }
    ck_assert_uint_eq(current, 1);
    ck_assert_uint_eq(job_box_entries(b, "models", ""), models);
    ck_assert_uint_eq(job_box_entries(b, "", "space-"), spaces);
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
