#include "finetune/train_step.h"

#include "base/checked.h"
#include "finetune/train_step_internal.h"

#include <math.h>
#include <string.h>

void train_step_destroy(train_step *s)
{
    if (s == NULL)
        return;
    team_destroy(s->team);
    for (unsigned i = 0; i < s->helper_count; i++)
        train_helper_free(s, &s->helpers[i]);
    train_shapes_destroy(s->shapes);
    train_update_free(s);
    train_weights_destroy(s->weights);
    products_destroy(s->products);
    split_free(&s->split);
    free(s->helpers);
    free(s->seen);
    free(s->rows);
    free(s->row_norm);
    free(s->lengths);
    free(s->embeddings);
    free(s->d_embeddings);
    free(s);
}

static sem_status create_buffers(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    size_t texts = o->loss->max_texts, tokens = 0, vocab = o->config->vocab;
    if (!checked_mul(texts, o->max_tokens, &tokens) || tokens > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "batches of %zu texts of up to %zu tokens are too large", texts,
                        o->max_tokens);
    s->seen = calloc(vocab, sizeof *s->seen);
    s->rows = checked_realloc(NULL, vocab, sizeof *s->rows);
    s->row_norm = checked_realloc(NULL, vocab, sizeof *s->row_norm);
    s->lengths = checked_realloc(NULL, texts, sizeof *s->lengths);
    s->embeddings = checked_realloc(NULL, texts * o->config->dim, sizeof *s->embeddings);
    s->d_embeddings = checked_realloc(NULL, texts * o->config->dim, sizeof *s->d_embeddings);
    s->helpers = calloc(o->threads, sizeof *s->helpers);
    if (s->seen == NULL || s->rows == NULL || s->row_norm == NULL || s->lengths == NULL || s->embeddings == NULL ||
        s->d_embeddings == NULL || s->helpers == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for batches of %zu texts", texts);
    return SEM_OK;
}

/* Where the machine has no kernels for products of ours a library's are the quicker ones. */
static sem_status create_products(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    sem_status status = products_create(&s->products, o->precision, err);
    if (status != SEM_OK)
        return status;
    if (o->precision == PACKED_FLOAT32 && !products_are_fast(s->products))
        return SEM_OK;
    return train_weights_create(&s->weights, o->config, o->layout, o->g, s->products, err);
}

static sem_status create_all(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    sem_status status = create_buffers(s, err);
    if (status == SEM_OK)
        status = train_update_create(s, err);
    if (status == SEM_OK)
        status = create_products(s, err);
    for (; status == SEM_OK && s->helper_count < o->threads; s->helper_count++)
        status = train_helper_create(s, &s->helpers[s->helper_count], err);
    if (status == SEM_OK) {
        s->tape_share = o->tape_bytes / o->threads;
        s->run_tokens = s->tape_share / encoder_tape_token_bytes(s->helpers[0].tape);
    }
    if (status == SEM_OK && o->shape == TRAIN_SHAPE_BUCKETS)
        status = train_shapes_create(&s->shapes, s, err);
    if (status == SEM_OK)
        status = split_create(&s->split, o->loss->max_texts, o->threads, err);
    if (status == SEM_OK)
        status = team_create(&s->team, o->threads, o->nice, err);
    return status;
}

sem_status train_step_create(train_step **out, const train_step_options *options, float *params, sem_error *err)
{
    *out = NULL;
    train_step *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a training step");
    s->options = *options;
    s->params = params;
    sem_status status = create_all(s, err);
    if (status == SEM_OK)
        *out = s;
    else
        train_step_destroy(s);
    return status;
}

static sem_status survey_text(train_step *s, const train_text *text, sem_error *err)
{
    if (text->length == 0 || text->length > s->options.max_tokens)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a training text of %u tokens: 1 to %zu are possible", text->length,
                        s->options.max_tokens);
    for (uint32_t k = 0; k < text->length; k++) {
        int32_t id = text->ids[k];
        if (id < 0 || (size_t)id >= s->options.config->vocab)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "token id %d: the model knows 0 to %zu", id,
                            s->options.config->vocab - 1);
        if (s->seen[id] != s->step)
            s->rows[s->row_count++] = (uint32_t)id;
        s->seen[id] = s->step;
    }
    return SEM_OK;
}

/* Checks the batch, notes the lengths and lists the rows that it touches. */
static sem_status survey_batch(train_step *s, const train_batch *batch, sem_error *err)
{
    sem_status status = loss_check(s->options.loss, &batch->about, err);
    s->first_row = s->row_count;
    for (size_t i = 0; i < train_batch_computed(batch) && status == SEM_OK; i++) {
        status = survey_text(s, &batch->texts[i], err);
        s->lengths[i] = batch->texts[i].length;
    }
    if (status != SEM_OK)
        return status;
    s->batch = batch;
    if (s->shapes != NULL)
        return train_shapes_divide(s->shapes, err);
    split_texts(&s->split, s->lengths, train_batch_computed(batch));
    return SEM_OK;
}

static sem_status begin_step(train_step *s, sem_error *err)
{
    if (s->step >= s->options.max_steps)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "step %u of a run of %zu steps", s->step + 1, s->options.max_steps);
    loss_begin(s->options.loss, s->step, s->options.max_steps);
    s->step++;
    s->row_count = 0;
    s->loss_sum = 0;
    s->learned_gradient = 0;
    return SEM_OK;
}

static void loss_and_gradient(train_step *s)
{
    loss *l = s->options.loss;
    const float *fixed = s->batch->fixed;
    loss_batch about = s->batch->about;
    about.dim = s->options.config->dim;
    if (fixed != NULL)
        memcpy(s->embeddings + about.pairs * about.dim, fixed, (about.texts - about.pairs) * about.dim * sizeof *fixed);
    about.embeddings = s->embeddings;
    s->loss_sum += loss_run(l, &about, s->d_embeddings);
    s->learned_gradient += l->learned != NULL ? l->learned->gradient : 0;
}

sem_status train_step_add(train_step *s, const train_batch *batch, sem_error *err)
{
    const bool first = s->batches == 0;
    sem_status status = first ? begin_step(s, err) : SEM_OK;
    if (status == SEM_OK && first)
        status = team_run(s->team, train_part_pack, s, err);
    if (status == SEM_OK)
        status = survey_batch(s, batch, err);
    if (status == SEM_OK)
        status = team_run(s->team, train_part_catch_up, s, err);
    if (status == SEM_OK)
        status = team_run(s->team, s->shapes != NULL ? train_shapes_forward : train_part_forward, s, err);
    if (status != SEM_OK)
        return status;
    loss_and_gradient(s);
    status = team_run(s->team, s->shapes != NULL ? train_shapes_backward : train_part_backward, s, err);
    s->batches++;
    return status;
}

/* What the sum of the gradients is multiplied with: it makes a mean of them, and cuts that. */
static float gradient_scale(const train_step *s, double norm)
{
    /* The small term is that of the usual implementation; it only matters for a norm near 0. */
    double clip = s->options.clip_norm / (norm + 1e-6);
    return (float)((s->options.clip_norm > 0 && clip < 1 ? clip : 1) / s->batches);
}

/* Most rows of a token table are rare: a run of many steps touches nearly all, and each step few. */
enum { ROWS_HELD_SHARE = 8 /* of the vocabulary, this part */ };

static sem_status release_rows(train_step *s, sem_error *err)
{
    s->rows_held += s->row_count;
    if (s->rows_held < s->options.config->vocab / ROWS_HELD_SHARE)
        return SEM_OK;
    s->rows_held = 0;
    return team_run(s->team, train_part_release, s, err);
}

sem_status train_step_update(train_step *s, double learning_rate, train_step_result *result, sem_error *err)
{
    if (s->batches == 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "a step of no batch: add one before the update");
    sem_status status = team_run(s->team, train_part_sum, s, err);
    if (status != SEM_OK)
        return status;
    result->loss = s->loss_sum / s->batches;
    result->scale = loss_scale(s->options.loss);
    result->gradient_norm = train_gradient_norm(s) / s->batches;
    if (!isfinite(result->loss) || !isfinite(result->gradient_norm))
        return sem_fail(err, SEM_INTERNAL,
                        "training diverged at step %u: loss %g, gradient norm %g; lower the learning rate", s->step,
                        result->loss, result->gradient_norm);
    s->grad_scale = gradient_scale(s, result->gradient_norm);
    s->batches = 0;
    adamw_begin(s->optimiser, learning_rate);
    train_update_learned(s, learning_rate);
    status = team_run(s->team, train_part_update, s, err);
    return status == SEM_OK ? release_rows(s, err) : status;
}

sem_status train_step_run(train_step *s, const train_batch *batch, double learning_rate, train_step_result *result,
                          sem_error *err)
{
    sem_status status = train_step_add(s, batch, err);
    return status == SEM_OK ? train_step_update(s, learning_rate, result, err) : status;
}

sem_status train_step_finish(train_step *s, sem_error *err)
{
    return team_run(s->team, train_part_finish, s, err);
}

const train_shape_report *train_step_shapes(const train_step *s)
{
    static const train_shape_report none;
    return s->shapes != NULL ? train_shapes_report(s->shapes) : &none;
}

const float *train_step_average(const train_step *s)
{
    return adamw_average(s->optimiser);
}

const float *train_step_trained(const train_step *s)
{
    const float *average = train_step_average(s);
    return average != NULL ? average : s->params;
}

sem_status train_step_save(train_step *s, checkpoint_writer *w, sem_error *err)
{
    const loss_learned *learned = s->options.loss->learned;
    if (s->batches > 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "a checkpoint in the midst of step %u: update first", s->step);
    sem_status status = train_step_finish(s, err);
    if (status == SEM_OK)
        status = checkpoint_put(w, "step", &s->step, sizeof s->step, err);
    if (status == SEM_OK)
        status = checkpoint_put(w, "params", s->params, s->options.layout->total * sizeof *s->params, err);
    if (status == SEM_OK)
        status = adamw_save(s->optimiser, "adamw", w, err);
    if (status == SEM_OK && learned != NULL)
        status = checkpoint_put(w, learned->name, &learned->value, sizeof learned->value, err);
    if (status == SEM_OK && learned != NULL)
        status = adamw_save(s->learned_optimiser, "learned", w, err);
    return status;
}

sem_status train_step_load(train_step *s, const checkpoint_reader *c, sem_error *err)
{
    loss_learned *learned = s->options.loss->learned;
    sem_status status = checkpoint_get(c, "step", &s->step, sizeof s->step, err);
    if (status == SEM_OK)
        status = checkpoint_get(c, "params", s->params, s->options.layout->total * sizeof *s->params, err);
    if (status == SEM_OK)
        status = adamw_load(s->optimiser, "adamw", c, err);
    if (status == SEM_OK && learned != NULL)
        status = checkpoint_get(c, learned->name, &learned->value, sizeof learned->value, err);
    if (status == SEM_OK && learned != NULL)
        status = adamw_load(s->learned_optimiser, "learned", c, err);
    return status;
}
