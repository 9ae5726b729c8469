/* The training part of a fine-tune job. */
#include "base/crash.h"
#include "model/model.h"
#include "finetune/lesson_file.h"
#include "finetune/trainer.h"
#include "daemon/job.h"
#include "daemon/job_folder.h"
#include "daemon/job_lesson.h"
#include "daemon/job_trained.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void show_progress(void *context, const train_progress *now)
{
    job *j = context;
    job_status *s = j->status;
    pthread_mutex_lock(&s->lock);
    s->step = now->step;
    s->steps = now->steps;
    s->loss = now->loss;
    s->eta_s = now->eta_s;
    pthread_mutex_unlock(&s->lock);
}

/* What semd_generation.json says: where the weights came from. */
static char *provenance(const job *j, uint32_t parent, const train_report *report)
{
    char mark[JOB_STORE_MARK];
    job_store_mark(j->core->store, mark);
    json_t *o = json_pack("{s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:I, s:s}", "job", (int)j->number, "parent", (int)parent,
                          "pairs", (json_int_t)report->pairs, "steps", (json_int_t)report->steps, "first_loss",
                          report->first_loss, "last_loss", report->last_loss, "seconds", report->seconds,
                          "trained_upto", (json_int_t)j->trained_upto, "store", mark);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return text;
}

static sem_status save(job *j, const serving *base, const char *folder, const float *params, const train_report *report,
                       sem_error *err)
{
    char dir[FILES_PATH_MAX];
    sem_status status = job_folder_begin(j->core->store, j->number, folder, dir, err);
    if (status != SEM_OK)
        return status;
    char *text = provenance(j, base->generation, report);
    if (text == NULL)
        return sem_fail_memory(err, "the model's description");
    crash_point("training.saving");
    status =
        model_save(model_get_dir(base->query), dir, encoder_layout(model_get_encoder(base->query)), params, text, err);
    free(text);
    return status == SEM_OK ? job_folder_keep(j->core->store, j->number, folder, err) : status;
}

/* Where a model's training keeps something in the job's folder. */
static sem_status path_for(const job *j, const char *folder, const char *ending, char path[FILES_PATH_MAX],
                           sem_error *err)
{
    char name[FILES_PATH_MAX];
    sem_status status = files_join(name, err, "%s.%s", folder, ending);
    return status == SEM_OK ? job_folder_path(j->core->store, j->number, name, path, err) : status;
}

/* What was made of clicks, documents and indices when training began: they may have changed. */
static sem_status take_lesson(job *j, const serving *base, const train_config *how, pair_set *pairs, const char *folder,
                              lesson_file *out, sem_error *err)
{
    char path[FILES_PATH_MAX];
    job_lesson made;
    const size_t dim = space_dim(base->space);
    sem_status status = path_for(j, folder, "lesson", path, err);
    if (status == SEM_OK)
        status = lesson_file_read(out, path, dim, err);
    if (status != SEM_NOT_FOUND && status != SEM_FAILED_PRECONDITION)
        return status;
    status = job_lesson_make(&made, j, base, how, pairs, err);
    if (status == SEM_OK)
        status = lesson_file_write(path, made.pairs, made.count, dim, err);
    crash_point("training.lesson_written");
    job_lesson_free(&made);
    return status == SEM_OK ? lesson_file_read(out, path, dim, err) : status;
}

/* A checkpoint that is damaged, or of a run that another machine computes otherwise, is no reason to
 * fail: training begins anew. */
static sem_status train(job *j, const serving *base, const lesson_file *l, const char *folder, train_config *settings,
                        float **params, train_report *report, sem_error *err)
{
    char path[FILES_PATH_MAX], text[SEM_ERROR_MESSAGE_MAX];
    const train_control control = {.cancel = j->cancel, .progress = show_progress, .context = j};
    sem_status status = path_for(j, folder, "checkpoint", path, err);
    if (status != SEM_OK)
        return status;
    settings->checkpoint = path;
    settings->checkpoint_every = j->settings.finetune.checkpoint_every;
    const bool resumes = access(path, F_OK) == 0;
    status = train_mnrl(base->query, l->pairs, l->count, settings, &control, params, report, err);
    if (status != SEM_FAILED_PRECONDITION || !resumes)
        return status;
    log_event(j->core->log, LOG_LEVEL_WARNING, "checkpoint_left", "job=%u message=%s", j->number,
              log_value(text, sizeof text, err->message));
    if (unlink(path) != 0)
        return files_fail(err, "remove", path);
    return train_mnrl(base->query, l->pairs, l->count, settings, &control, params, report, err);
}

/* What became of the plans of fixed shapes. */
static void tell_shapes(const job *j, const train_shape_report *s)
{
    char steps[TRAIN_BUCKETS * 32] = "";
    for (size_t i = 0, used = 0; i < TRAIN_BUCKETS; i++)
        used +=
            (size_t)snprintf(steps + used, sizeof steps - used, " steps%zu=%zu", train_bucket_widths[i], s->steps[i]);
    log_event(j->core->log, LOG_LEVEL_INFO, "trained_in_shapes",
              "job=%u plans_built=%zu plans_reused=%zu%s padding=%.3f", j->number, s->plans_built, s->plans_reused,
              steps, (double)s->padding / (double)s->tokens);
}

static void tell(const job *j, const train_report *report)
{
    log_event(
        j->core->log, LOG_LEVEL_INFO, "trained",
        "job=%u pairs=%zu steps=%zu resumed_at=%zu first_loss=%.4f last_loss=%.4f seconds=%.1f new=%zu replayed=%zu "
        "own=%zu",
        j->number, report->pairs, report->steps, report->resumed_at, report->first_loss, report->last_loss,
        report->seconds, report->drawn[TRAIN_NEW], report->drawn[TRAIN_REPLAYED], report->drawn[TRAIN_OWN_TEXT]);
    if (report->shapes.tokens > 0)
        tell_shapes(j, &report->shapes);
}

static const double ANCHOR_AFTER_QUERY_MODE = 0.1;

/* How much documents are held where they are. After jobs of mode query the model that is trained
 * further is not the one that made their vectors, and has learnt nothing of documents: unless it is said
 * otherwise they are held then. */
static double anchor_weight_of(const job *j, const serving *base)
{
    const double given = j->settings.finetune.anchor_weight;
    if (given >= 0)
        return given;
    return serving_has_two(base) ? ANCHOR_AFTER_QUERY_MODE : 0;
}

sem_status job_train(job *j, pair_set *pairs, job_towers towers, const char *folder, sem_error *err)
{
    train_config settings = j->settings.train;
    settings.threads = j->threads;
    settings.fixed_documents = towers == TOWERS_QUERIES;
    train_report report;
    lesson_file lesson = {0};
    float *params = NULL;
    if (job_folder_has(j->core->store, j->number, folder)) /* an earlier process came so far */
        return SEM_OK;
    serving *base = serving_slot_acquire(&j->core->current);
    settings.anchor_weight = towers == TOWERS_QUERIES ? 0 : anchor_weight_of(j, base);
    sem_status status = take_lesson(j, base, &settings, pairs, folder, &lesson, err);
    job_enter(j, PHASE_TRAINING, 0);
    crash_point("training.begin");
    if (status == SEM_OK)
        status = train(j, base, &lesson, folder, &settings, &params, &report, err);
    crash_point("training.trained");
    if (status == SEM_OK)
        status = save(j, base, folder, params, &report, err);
    if (status == SEM_OK)
        tell(j, &report);
    free(params);
    lesson_file_free(&lesson);
    serving_release(base);
    return status;
}
