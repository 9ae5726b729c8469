#include "tools/semtrain_watch.h"

#include "base/checked.h"
#include "finetune/curve_svg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void show_step(void *context, const train_progress *now)
{
    run_watch *w = context;
    char left[TEXT_MAX];
    progress_show(&w->t->bar, "training", (double)now->step / (double)now->steps,
                  "%zu/%zu  loss %.4f  rate %.2e  %.0f pairs/s  ETA %s", now->step, now->steps, now->loss,
                  now->learning_rate, now->pairs_per_s, text_duration(left, now->eta_s));
}

static sem_status open_curve(run_watch *w, uint64_t first_step, sem_error *err)
{
    const char *names[RECIPE_SETS_MAX];
    const recipe_set *set;
    size_t count = 0;
    for (; (set = recipe_set_at(w->r, true, count)) != NULL; count++) {
        snprintf(w->names[count], FIGURE_NAME_MAX, "%s.%s", set->name, semtrain_first_figure(set));
        names[count] = w->names[count];
    }
    return curve_open(&w->curve, w->path, first_step, names, count, err);
}

static sem_status measure(run_watch *w, const float *params, sem_error *err)
{
    const size_t total = encoder_layout(model_get_encoder(w->base))->total;
    model *now = NULL;
    float *copy = checked_alloc_aligned(total, sizeof *copy);
    if (copy == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for evaluating %zu parameters", total);
    memcpy(copy, params, total * sizeof *copy);
    sem_status status = model_open_over(&now, w->base, copy, err);
    if (status == SEM_OK)
        status = semtrain_evaluate_all(w->t, w->r, now, &w->last, err);
    model_close(now);
    if (status != SEM_OK)
        return status;
    w->row.evaluated = true;
    w->row.evaluation = w->last.mean;
    for (size_t i = 0; i < w->last.count; i++)
        w->row.figures[i] = w->last.results[i].values[0];
    return SEM_OK;
}

static sem_status record_step(void *context, const train_progress *now, const float *params, sem_error *err)
{
    run_watch *w = context;
    sem_status status = w->curve == NULL ? open_curve(w, now->step, err) : SEM_OK;
    w->row.evaluated = false;
    if (status == SEM_OK && params != NULL)
        status = measure(w, params, err);
    if (status != SEM_OK)
        return status;
    w->row.step = now->step;
    w->row.examples = now->pairs;
    w->row.loss = now->loss;
    w->row.scale = now->scale;
    w->row.learning_rate = now->learning_rate;
    w->row.gradient_norm = now->gradient_norm;
    w->row.seconds = now->seconds;
    status = curve_add(w->curve, &w->row, err);
    /* A checkpoint that outlives a power cut must find the rows before it. */
    if (status == SEM_OK && w->r->train.checkpoint[0] != '\0' && now->step % w->r->train.checkpoint_every == 0)
        status = curve_sync(w->curve, err);
    return status;
}

sem_status watch_begin(run_watch *w, semtrain *t, recipe *r, const model *base, const char *loss_label, sem_error *err)
{
    w->t = t;
    w->r = r;
    w->base = base;
    w->loss_label = loss_label;
    const bool measured = recipe_set_at(r, true, 0) != NULL;
    w->control = (train_control){.cancel = t->cancel,
                                 .progress = show_step,
                                 .record = record_step,
                                 .evaluate_every = measured ? r->train.evaluate_every : 0,
                                 .context = w};
    return files_join(w->path, err, "%s.curve.csv", r->train.output);
}

sem_status watch_save(run_watch *w, const char *folder, sem_error *err)
{
    char numbers[FILES_PATH_MAX], picture[FILES_PATH_MAX];
    const char *slash = strrchr(w->r->train.output, '/');
    const curve_labels labels = {.title = slash != NULL ? slash + 1 : w->r->train.output,
                                 .loss = w->loss_label,
                                 .evaluation = "evaluation (mean of the sets)"};
    /* Of a run that had only to be saved when it went on, somebody may have removed it. */
    if (access(w->path, F_OK) != 0)
        return SEM_OK;
    sem_status status = files_join(numbers, err, "%s/%s", folder, CURVE_FILE);
    if (status == SEM_OK)
        status = files_join(picture, err, "%s/%s", folder, PICTURE_FILE);
    if (status == SEM_OK)
        status = files_copy_file(w->path, numbers, err);
    if (status == SEM_OK)
        status = curve_draw(numbers, picture, &labels, err);
    return status == SEM_OK ? files_sync_folder(folder, err) : status;
}

sem_status watch_forget(run_watch *w, sem_error *err)
{
    return unlink(w->path) == 0 || errno == ENOENT ? SEM_OK : files_fail(err, "remove", w->path);
}

void watch_end(run_watch *w)
{
    curve_close(w->curve);
    w->curve = NULL;
}
