#include "daemon/job_record.h"

#include "base/crash.h"
#include "daemon/config_keys.h"
#include "daemon/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_TEXT_MAX = FILES_PATH_MAX + 64 };

/* --- writing */

static bool is_of_job(const config_key *key)
{
    return strcmp(key->section, "finetune") == 0 || strcmp(key->section, "train") == 0;
}

/* A job is what it was begun as, whatever the file says later: as texts, so that a key which
 * a later version has beside these keeps its default. */
static json_t *settings_json(const config *c)
{
    json_t *out = json_object();
    char name[128], text[KEY_TEXT_MAX];
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (!is_of_job(key))
            continue;
        snprintf(name, sizeof name, "%s.%s", key->section, key->name);
        if (!config_key_text(key, c, text, sizeof text) || json_object_set_new(out, name, json_string(text)) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static json_t *resume_json(const job *j, bool stopped)
{
    return json_pack("{s:I, s:s, s:b, s:I, s:s, s:s, s:s, s:I, s:I, s:b, s:b, s:I, s:s, s:o}", "collection",
                     (json_int_t)j->collection, "path", j->path, "gate", (int)j->gate, "target", (json_int_t)j->target,
                     "why", j->why, "model", j->model, "mode", j->mode, "candidate", (json_int_t)j->candidate,
                     "threads", (json_int_t)j->threads, "stopped", (int)stopped, "cancelled",
                     (int)atomic_load(j->cancelled), "crashes", (json_int_t)j->crashes, "crashed_in",
                     job_phase_name(j->crashed_in), "settings", settings_json(&j->settings));
}

char *job_record_text(const job *j, bool stopped)
{
    json_t *record = job_status_open_json(j->status);
    char *text = NULL;
    if (record != NULL && json_object_set_new(record, "resume", resume_json(j, stopped)) == 0)
        text = json_dumps(record, JSON_COMPACT);
    json_decref(record);
    return text;
}

typedef struct record_write {
    uint32_t number;
    const char *text;
} record_write;

static sem_status put_record(void *context, store_write *w, sem_error *err)
{
    const record_write *r = context;
    return store_job_put(w, r->number, r->text, err);
}

sem_status job_record_save(const job *j, bool stopped, sem_error *err)
{
    char *text = job_record_text(j, stopped);
    if (text == NULL)
        return sem_fail_memory(err, "a job");
    record_write r = {.number = j->number, .text = text};
    const write_call call = {.apply = put_record, .context = &r};
    sem_status status = writer_run(j->core->writer, &call, err);
    free(text);
    return status;
}

static sem_status put_cancelled(void *context, store_write *w, sem_error *err)
{
    const uint32_t *wanted = context;
    uint32_t number;
    char *text = NULL;
    bool found = false;
    sem_status status = store_job_get(store_write_view(w), *wanted, &number, &text, &found, err);
    if (status != SEM_OK || !found)
        return status;
    json_t *record = json_loads(text, 0, NULL), *resume = json_object_get(record, "resume");
    free(text);
    text = NULL;
    if (job_record_is_open(record) && json_object_set_new(resume, "cancelled", json_true()) == 0)
        text = json_dumps(record, JSON_COMPACT);
    json_decref(record);
    if (text != NULL)
        status = store_job_put(w, number, text, err);
    free(text);
    return status;
}

sem_status job_record_cancel(core *c, uint32_t number, sem_error *err)
{
    const write_call call = {.apply = put_cancelled, .context = &number};
    return writer_run(c->writer, &call, err);
}

/* --- reading */

bool job_record_is_cancelled(const json_t *record)
{
    return json_is_true(json_object_get(json_object_get(record, "resume"), "cancelled"));
}

bool job_record_is_open(const json_t *record)
{
    const char *state = json_string_value(json_object_get(record, "state"));
    return state != NULL && (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0);
}

bool job_record_kind(const json_t *record, job_kind *out)
{
    const char *name = json_string_value(json_object_get(record, "kind"));
    for (job_kind kind = JOB_FINETUNE; name != NULL && kind <= JOB_ROLLBACK; kind++)
        if (strcmp(name, job_kind_name(kind)) == 0) {
            *out = kind;
            return true;
        }
    return false;
}

static bool restore_settings(config *c, const json_t *settings)
{
    for (size_t i = 0; i < config_key_count; i++) {
        char name[128];
        const config_key *key = &config_keys[i];
        snprintf(name, sizeof name, "%s.%s", key->section, key->name);
        const char *text = is_of_job(key) ? json_string_value(json_object_get(settings, name)) : NULL;
        if (text != NULL && config_key_set(key, c, text, NULL) != SEM_OK)
            return false;
    }
    return config_resolve_train(c, NULL) == SEM_OK;
}

static uint32_t number_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 && value <= UINT32_MAX ? (uint32_t)value : 0;
}

/* False where it does not fit. */
static bool copy_text(const json_t *object, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text == NULL || strlen(text) >= size)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

bool job_record_restore(job *j, json_t *record)
{
    const json_t *resume = json_object_get(record, "resume");
    (void)copy_text(resume, "why", j->why, sizeof j->why);
    if (!copy_text(resume, "path", j->path, sizeof j->path) || !copy_text(resume, "model", j->model, sizeof j->model) ||
        !copy_text(resume, "mode", j->mode, sizeof j->mode) ||
        !restore_settings(&j->settings, json_object_get(resume, "settings")))
        return false;
    j->number = number_of(record, "job");
    j->collection = number_of(resume, "collection");
    j->gate = json_is_true(json_object_get(resume, "gate"));
    j->target = number_of(resume, "target");
    j->candidate = number_of(resume, "candidate");
    j->threads = number_of(resume, "threads");
    j->crashes = number_of(resume, "crashes");
    j->crashed_in = job_phase_of(json_string_value(json_object_get(resume, "crashed_in")));
    if (!json_is_true(json_object_get(resume, "stopped"))) {
        const job_phase phase = job_phase_of(json_string_value(json_object_get(record, "phase")));
        j->crashes = phase == j->crashed_in ? j->crashes + 1 : 1;
        j->crashed_in = phase;
    }
    if (j->number == 0 || j->threads == 0)
        return false;
    job_status_restore(j->status, record, j->kind);
    j->pairs = j->status->pairs;
    return true;
}

/* --- with a generation's record */

typedef struct recording {
    job *job;
    store_generation *record;
    bool shares_space;
} recording;

static sem_status write_record(void *context, store_write *w, sem_error *err)
{
    const recording *o = context;
    job *j = o->job;
    sem_status status = store_generation_next(w, &o->record->number, o->shares_space ? NULL : &o->record->space, err);
    if (status == SEM_OK)
        status = store_generation_put(w, o->record, err);
    if (status != SEM_OK)
        return status;
    j->candidate = o->record->number;
    char *text = job_record_text(j, false);
    status = text != NULL ? store_job_put(w, j->number, text, err) : sem_fail_memory(err, "a job");
    free(text);
    crash_point("candidate.recording");
    return status;
}

sem_status job_record_candidate(job *j, store_generation *record, bool shares_space, sem_error *err)
{
    recording o = {j, record, shares_space};
    const write_call call = {.apply = write_record, .context = &o};
    sem_status status = writer_run(j->core->writer, &call, err);
    crash_point("candidate.recorded");
    if (status != SEM_OK)
        j->candidate = 0;
    return status;
}
