/* The training part of a fine-tune job. */
#include "model/model.h"
#include "finetune/trainer.h"
#include "daemon/job.h"
#include "daemon/job_lesson.h"
#include "daemon/job_trained.h"

#include <jansson.h>

#include <stdlib.h>

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
    sem_status status = files_join(dir, err, "%s/models/%s", store_path(j->core->store), folder);
    if (status != SEM_OK)
        return status;
    char *text = provenance(j, base->generation, report);
    if (text == NULL)
        return sem_fail_memory(err, "the model's description");
    status =
        model_save(model_get_dir(base->query), dir, encoder_layout(model_get_encoder(base->query)), params, text, err);
    free(text);
    return status;
}

static void tell(const job *j, const train_report *report)
{
    log_event(j->core->log, LOG_LEVEL_INFO, "trained",
              "job=%u pairs=%zu steps=%zu first_loss=%.4f last_loss=%.4f seconds=%.1f new=%zu replayed=%zu own=%zu",
              j->number, report->pairs, report->steps, report->first_loss, report->last_loss, report->seconds,
              report->drawn[TRAIN_NEW], report->drawn[TRAIN_REPLAYED], report->drawn[TRAIN_OWN_TEXT]);
    if (report->shapes.tokens > 0)
        log_event(j->core->log, LOG_LEVEL_INFO, "trained_in_shapes",
                  "job=%u plans_built=%zu plans_reused=%zu padding=%.3f", j->number, report->shapes.plans_built,
                  report->shapes.plans_reused, (double)report->shapes.padding / (double)report->shapes.tokens);
}

sem_status job_train(job *j, pair_set *pairs, job_towers towers, const char *folder, sem_error *err)
{
    train_config settings = j->settings.train;
    settings.threads = j->threads;
    settings.fixed_documents = towers == TOWERS_QUERIES;
    settings.anchor_weight = towers == TOWERS_QUERIES ? 0 : settings.anchor_weight;
    const train_control control = {.cancel = j->cancel, .progress = show_progress, .context = j};
    train_report report;
    job_lesson lesson;
    float *params = NULL;
    serving *base = serving_slot_acquire(&j->core->current);
    sem_status status = job_lesson_make(&lesson, j, base, &settings, pairs, err);
    if (status == SEM_OK)
        status = train_mnrl(base->query, lesson.pairs, lesson.count, &settings, &control, &params, &report, err);
    if (status == SEM_OK)
        status = save(j, base, folder, params, &report, err);
    if (status == SEM_OK)
        tell(j, &report);
    free(params);
    job_lesson_free(&lesson);
    serving_release(base);
    return status;
}
