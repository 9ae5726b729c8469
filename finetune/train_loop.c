#include "finetune/train_loop.h"

#include "base/clock.h"
#include "base/crash.h"

/* What a checkpoint has beside the step's and the source's own. */
typedef struct loop_position {
    uint64_t fingerprint;
    uint64_t steps, pairs;
    double first_loss, last_loss;
} loop_position;

static sem_status save_all(const train_loop *loop, const train_report *report, checkpoint_writer *w, sem_error *err)
{
    const loop_position position = {.fingerprint = loop->fingerprint,
                                    .steps = report->steps,
                                    .pairs = report->pairs,
                                    .first_loss = report->first_loss,
                                    .last_loss = report->last_loss};
    sem_status status = checkpoint_put(w, "position", &position, sizeof position, err);
    if (status == SEM_OK)
        status = train_step_save(loop->step, w, err);
    if (status == SEM_OK && loop->source.save != NULL)
        status = loop->source.save(loop->source.context, w, err);
    return status;
}

static sem_status write_checkpoint(const train_loop *loop, const train_report *report, sem_error *err)
{
    checkpoint_writer *w = NULL;
    sem_status status = checkpoint_create(&w, loop->checkpoint, err);
    if (status != SEM_OK)
        return status;
    status = save_all(loop, report, w, err);
    if (status == SEM_OK)
        return checkpoint_commit(w, err);
    checkpoint_abandon(w);
    return status;
}

static sem_status load_all(const train_loop *loop, const checkpoint_reader *c, train_report *report, sem_error *err)
{
    loop_position position;
    sem_status status = checkpoint_get(c, "position", &position, sizeof position, err);
    if (status != SEM_OK)
        return status;
    if (position.fingerprint != loop->fingerprint || position.steps > loop->steps)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "the checkpoint %s is of a run with other data, model or settings: remove it to begin anew",
                        loop->checkpoint);
    status = train_step_load(loop->step, c, err);
    if (status == SEM_OK && loop->source.load != NULL)
        status = loop->source.load(loop->source.context, c, err);
    if (status != SEM_OK)
        return status;
    if (loop->source.load == NULL && loop->source.skip != NULL)
        status = loop->source.skip(loop->source.context, (size_t)position.steps * loop->accumulate, err);
    if (status != SEM_OK)
        return status;
    report->steps = report->resumed_at = (size_t)position.steps;
    report->pairs = (size_t)position.pairs;
    report->first_loss = position.first_loss;
    report->last_loss = position.last_loss;
    crash_point("resume.training");
    return SEM_OK;
}

/* Goes on where a checkpoint is. */
static sem_status resume(const train_loop *loop, train_report *report, sem_error *err)
{
    checkpoint_reader *c = NULL;
    if (loop->checkpoint == NULL)
        return SEM_OK;
    sem_status status = checkpoint_open(&c, loop->checkpoint, err);
    if (status == SEM_NOT_FOUND)
        return SEM_OK;
    if (status == SEM_OK)
        status = load_all(loop, c, report, err);
    checkpoint_close(c);
    return status;
}

/* Where a run stands in time. */
typedef struct loop_clock {
    uint64_t began_ns; /* moved on by what is none of the training's */
    size_t first_pairs;
} loop_clock;

static train_progress progress_of(const train_loop *loop, const train_report *report, const loop_clock *clock,
                                  const train_step_result *result, double rate)
{
    const double seconds = (double)(clock_monotonic_ns() - clock->began_ns) / 1e9;
    const size_t done = report->steps - report->resumed_at;
    return (train_progress){
        .step = report->steps,
        .steps = loop->steps,
        .loss = result->loss,
        .learning_rate = rate,
        .pairs_per_s = seconds > 0 ? (double)(report->pairs - clock->first_pairs) / seconds : 0,
        .eta_s = seconds / (double)done * (double)(loop->steps - report->steps),
        .gradient_norm = result->gradient_norm,
        .scale = result->scale,
        .pairs = report->pairs,
        .seconds = seconds,
    };
}

static bool evaluation_is_due(const train_loop *loop, size_t step)
{
    const size_t every = loop->control->evaluate_every;
    return every > 0 && (step % every == 0 || step == loop->steps);
}

static sem_status tell(const train_loop *loop, const train_progress *now, loop_clock *clock, sem_error *err)
{
    const train_control *control = loop->control;
    const float *params = NULL;
    if (control != NULL && control->progress != NULL)
        control->progress(control->context, now);
    if (control == NULL || control->record == NULL)
        return SEM_OK;
    const uint64_t from_ns = clock_monotonic_ns();
    if (evaluation_is_due(loop, now->step)) {
        sem_status status = train_step_finish(loop->step, err);
        if (status != SEM_OK)
            return status;
        params = train_step_trained(loop->step);
    }
    sem_status status = control->record(control->context, now, params, err);
    clock->began_ns += clock_monotonic_ns() - from_ns;
    return status;
}

static sem_status one_step(const train_loop *loop, double rate, train_report *report, train_step_result *result,
                           sem_error *err)
{
    for (size_t k = 0; k < loop->accumulate; k++) {
        train_batch batch;
        sem_status status = loop->source.next(loop->source.context, &batch, err);
        if (status == SEM_OK)
            status = train_step_add(loop->step, &batch, err);
        if (status != SEM_OK)
            return status;
        report->pairs += batch.about.pairs;
    }
    sem_status status = train_step_update(loop->step, rate, result, err);
    if (status != SEM_OK)
        return status;
    const size_t tenth = loop->steps >= 10 ? loop->steps / 10 : 1, step = report->steps++;
    report->first_loss += step < tenth ? result->loss / (double)tenth : 0;
    report->last_loss += step >= loop->steps - tenth ? result->loss / (double)tenth : 0;
    return SEM_OK;
}

/* It may be asked to go on later. Without room for a checkpoint it can do so from the one before. */
static sem_status cancelled(const train_loop *loop, const train_report *report, sem_error *err)
{
    if (loop->checkpoint != NULL && report->steps > report->resumed_at && report->steps % loop->checkpoint_every != 0)
        (void)write_checkpoint(loop, report, NULL);
    return sem_fail(err, SEM_CANCELLED, "training was cancelled at step %zu of %zu", report->steps, loop->steps);
}

sem_status train_loop_run(const train_loop *loop, train_report *report, sem_error *err)
{
    const atomic_bool *cancel = loop->control != NULL ? loop->control->cancel : NULL;
    *report = (train_report){0};
    sem_status status = resume(loop, report, err);
    if (status != SEM_OK)
        return status;
    loop_clock clock = {.began_ns = clock_monotonic_ns(), .first_pairs = report->pairs};
    while (report->steps < loop->steps) {
        train_step_result result;
        const double rate = schedule_rate(loop->shape, loop->peak, report->steps, loop->warmup, loop->steps);
        if (cancel != NULL && atomic_load(cancel))
            return cancelled(loop, report, err);
        status = one_step(loop, rate, report, &result, err);
        if (status != SEM_OK)
            return status;
        const train_progress now = progress_of(loop, report, &clock, &result, rate);
        status = tell(loop, &now, &clock, err);
        if (status == SEM_OK && loop->checkpoint != NULL && report->steps % loop->checkpoint_every == 0)
            status = write_checkpoint(loop, report, err);
        if (status != SEM_OK)
            return status;
        crash_point("training.step");
    }
    report->shapes = *train_step_shapes(loop->step);
    return train_step_finish(loop->step, err);
}
