#include "finetune/train_step.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/split.h"
#include "finetune/team.h"

#include <math.h>
#include <string.h>

enum { BLOCK_FLOATS = 1 << 14 /* of a dense parameter: one unit of work in summing and updating */ };

/* A piece of a dense parameter. */
typedef struct block {
    const param *param;
    size_t start; /* from the start of the parameters */
    size_t count;
} block;

/* What one helper owns. */
typedef struct step_helper {
    encoder_tape *tape;
    float *grads;      /* [total], all 0 between steps; rows that were never touched take no memory */
    uint32_t *touched; /* [vocab] the last step in which this helper touched the row */
    token_batch run;   /* the texts of one run, end to end */
    float *out;        /* [2 max_pairs, E] embeddings of one run, or their gradient */
    uint32_t *run_end; /* [2 max_pairs] ends of the runs in the split's order */
    size_t runs;
} step_helper;

struct train_step {
    train_step_options options;
    float *params; /* the caller's */
    adamw *optimiser;
    team *team;
    split split;
    mnrl_scratch scratch;
    size_t run_tokens; /* the most tokens of a run */
    uint32_t step;     /* begun so far */

    step_helper *helpers;
    unsigned helper_count;
    block *blocks;
    size_t block_count;
    double *block_norm;   /* [block_count] sums of squares */
    const param **tables; /* the layout's token tables */
    size_t table_count;
    uint32_t *seen; /* [vocab] the last step in which the row was touched */
    uint32_t *rows; /* [row_count] rows that the batch touches */
    size_t row_count;
    double *row_norm;  /* [row_count] */
    uint32_t *lengths; /* [2 max_pairs] */
    float *embeddings; /* [2 max_pairs, E] the queries, then the documents */
    float *d_embeddings;

    const train_batch *batch; /* of the step under way */
    float grad_scale;
};

/* Bytes of the tape for a token, about: what it keeps of each layer (the inputs
 * of products and normalisations), what it works in, and an eighth more that it
 * takes when it grows. */
static size_t tape_token_bytes(const model_config *c)
{
    size_t up = c->gated ? 2 * c->intermediate : c->intermediate, layer = 6 * c->hidden + up + 2;
    size_t floats = c->layers * layer + 9 * c->hidden + up;
    return sizeof(float) * (floats + floats / 8);
}

static void free_helper(step_helper *h)
{
    encoder_tape_destroy(h->tape);
    free(h->grads);
    free(h->touched);
    token_batch_free(&h->run);
    free(h->out);
    free(h->run_end);
}

void train_step_destroy(train_step *s)
{
    if (s == NULL)
        return;
    team_destroy(s->team);
    for (unsigned i = 0; i < s->helper_count; i++)
        free_helper(&s->helpers[i]);
    adamw_destroy(s->optimiser);
    split_free(&s->split);
    mnrl_scratch_free(&s->scratch);
    free(s->helpers);
    free(s->blocks);
    free(s->block_norm);
    free(s->tables);
    free(s->seen);
    free(s->rows);
    free(s->row_norm);
    free(s->lengths);
    free(s->embeddings);
    free(s->d_embeddings);
    free(s);
}

static sem_status create_helper(const train_step *s, step_helper *h, sem_error *err)
{
    const train_step_options *o = &s->options;
    size_t texts = 2 * o->max_pairs;
    sem_status status = encoder_tape_create(&h->tape, o->config, o->layout, o->g, err);
    if (status != SEM_OK)
        return status;
    h->grads = calloc(o->layout->total + 1, sizeof *h->grads);
    h->touched = calloc(o->config->vocab, sizeof *h->touched);
    h->out = checked_realloc(NULL, texts * o->config->dim, sizeof *h->out);
    h->run_end = checked_realloc(NULL, texts, sizeof *h->run_end);
    if (h->grads == NULL || h->touched == NULL || h->out == NULL || h->run_end == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the gradients of %zu parameters",
                        o->layout->total);
    return SEM_OK;
}

/* Cuts the dense parameters into blocks and lists the token tables. */
static sem_status create_blocks(train_step *s, sem_error *err)
{
    const param_layout *layout = s->options.layout;
    size_t most = layout->count + layout->total / BLOCK_FLOATS;
    s->blocks = checked_realloc(NULL, most, sizeof *s->blocks);
    s->block_norm = checked_realloc(NULL, most, sizeof *s->block_norm);
    s->tables = checked_realloc(NULL, layout->count, sizeof(const param *));
    if (s->blocks == NULL || s->block_norm == NULL || s->tables == NULL)
        return sem_fail_memory(err, "the list of parameters");
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        if (p->rows_sparse && p->rows != s->options.config->vocab)
            return sem_fail(err, SEM_INTERNAL, "%s has %zu rows: a token table has one for each of %zu tokens", p->name,
                            p->rows, s->options.config->vocab);
        if (p->rows_sparse) {
            s->tables[s->table_count++] = p;
            continue;
        }
        for (size_t done = 0, size = p->rows * p->cols; done < size; done += BLOCK_FLOATS) {
            size_t count = size - done < BLOCK_FLOATS ? size - done : BLOCK_FLOATS;
            s->blocks[s->block_count++] = (block){p, p->offset + done, count};
        }
    }
    return SEM_OK;
}

static sem_status create_buffers(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    size_t texts = 2 * o->max_pairs, tokens = 0, vocab = o->config->vocab;
    if (!checked_mul(texts, o->max_tokens, &tokens) || tokens > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "batches of %zu pairs of up to %zu tokens a text are too large",
                        o->max_pairs, o->max_tokens);
    size_t row_limit = tokens < vocab ? tokens : vocab;
    s->seen = calloc(vocab, sizeof *s->seen);
    s->rows = checked_realloc(NULL, row_limit, sizeof *s->rows);
    s->row_norm = checked_realloc(NULL, row_limit, sizeof *s->row_norm);
    s->lengths = checked_realloc(NULL, texts, sizeof *s->lengths);
    s->embeddings = checked_realloc(NULL, texts * o->config->dim, sizeof *s->embeddings);
    s->d_embeddings = checked_realloc(NULL, texts * o->config->dim, sizeof *s->d_embeddings);
    s->helpers = calloc(o->threads, sizeof *s->helpers);
    if (s->seen == NULL || s->rows == NULL || s->row_norm == NULL || s->lengths == NULL || s->embeddings == NULL ||
        s->d_embeddings == NULL || s->helpers == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for batches of %zu pairs", o->max_pairs);
    s->run_tokens = o->tape_bytes / o->threads / tape_token_bytes(o->config);
    return SEM_OK;
}

static sem_status create_all(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    sem_status status = create_buffers(s, err);
    if (status == SEM_OK)
        status = create_blocks(s, err);
    for (; status == SEM_OK && s->helper_count < o->threads; s->helper_count++)
        status = create_helper(s, &s->helpers[s->helper_count], err);
    if (status == SEM_OK)
        status = split_create(&s->split, 2 * o->max_pairs, o->threads, err);
    if (status == SEM_OK)
        status = mnrl_scratch_create(&s->scratch, o->max_pairs, o->max_pairs, err);
    if (status == SEM_OK)
        status = adamw_create(&s->optimiser, o->layout, &o->optimiser, o->max_steps, err);
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

/* --- the parts of a step, each run by all helpers */

/* Rows that the batch needs, in turns. */
static sem_status part_catch_up(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t i = helper; i < s->row_count; i += s->helper_count) {
        for (size_t t = 0; t < s->table_count; t++)
            adamw_catch_up(s->optimiser, s->tables[t], s->rows[i], s->params);
    }
    return SEM_OK;
}

/* Cuts a helper's texts into runs of at most run_tokens, or of one text. */
static void plan_runs(const train_step *s, step_helper *h, unsigned number)
{
    size_t end = s->split.first[number + 1], tokens = 0;
    h->runs = 0;
    for (size_t i = s->split.first[number]; i < end; i++) {
        size_t length = s->lengths[s->split.order[i]];
        if (tokens > 0 && tokens + length > s->run_tokens) {
            h->run_end[h->runs++] = (uint32_t)i;
            tokens = 0;
        }
        tokens += length;
    }
    if (tokens > 0)
        h->run_end[h->runs++] = (uint32_t)end;
}

static size_t run_begin(const train_step *s, const step_helper *h, unsigned number, size_t run)
{
    return run > 0 ? h->run_end[run - 1] : s->split.first[number];
}

/* Leaves the run's embeddings in h->out and its activations on the tape. */
static sem_status forward_run(const train_step *s, step_helper *h, unsigned number, size_t run, sem_error *err)
{
    token_batch_clear(&h->run);
    for (size_t i = run_begin(s, h, number, run); i < h->run_end[run]; i++) {
        const train_text *text = &s->batch->texts[s->split.order[i]];
        if (!token_batch_append(&h->run, text->ids, text->length))
            return sem_fail_memory(err, "the tokens of a training batch");
    }
    dropout drop = {s->options.hidden_dropout, s->options.attention_dropout,
                    random_at(random_at(s->options.seed, s->step), (uint64_t)number << 32 | run)};
    return encoder_train_forward(h->tape, s->params, h->run.ids, h->run.lengths, h->run.texts, &drop, h->out, err);
}

static sem_status part_forward(void *context, unsigned number, sem_error *err)
{
    train_step *s = context;
    step_helper *h = &s->helpers[number];
    size_t dim = s->options.config->dim;
    plan_runs(s, h, number);
    for (size_t run = h->runs; run-- > 0;) {
        sem_status status = forward_run(s, h, number, run, err);
        if (status != SEM_OK)
            return status;
        size_t begin = run_begin(s, h, number, run);
        for (size_t i = begin; i < h->run_end[run]; i++)
            memcpy(s->embeddings + s->split.order[i] * dim, h->out + (i - begin) * dim, dim * sizeof(float));
    }
    return SEM_OK;
}

/* The first run is a full one and came last in the forward pass: its activations
 * are still on the tape. Only the others are computed again. */
static sem_status part_backward(void *context, unsigned number, sem_error *err)
{
    train_step *s = context;
    step_helper *h = &s->helpers[number];
    size_t dim = s->options.config->dim;
    for (size_t run = 0; run < h->runs; run++) {
        sem_status status = run > 0 ? forward_run(s, h, number, run, err) : SEM_OK;
        if (status != SEM_OK)
            return status;
        size_t begin = run_begin(s, h, number, run);
        for (size_t i = begin; i < h->run_end[run]; i++)
            memcpy(h->out + (i - begin) * dim, s->d_embeddings + s->split.order[i] * dim, dim * sizeof(float));
        for (size_t i = 0; i < h->run.tokens; i++)
            h->touched[h->run.ids[i]] = s->step;
        status = encoder_train_backward(h->tape, s->params, h->out, h->grads, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* Moves what helper `from` found for count floats into helper 0's sum. */
static void move_gradient(const train_step *s, unsigned from, size_t start, size_t count)
{
    float *sum = s->helpers[0].grads + start, *part = s->helpers[from].grads + start;
    for (size_t i = 0; i < count; i++)
        sum[i] += part[i];
    memset(part, 0, count * sizeof *part);
}

static double sum_of_squares(const float *values, size_t count)
{
    double sum[4] = {0};
    for (size_t i = 0; i < count; i++)
        sum[i % 4] += (double)values[i] * values[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Adds up the helpers' gradients in the order of their numbers. */
static sem_status part_sum(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t b = helper; b < s->block_count; b += s->helper_count) {
        for (unsigned from = 1; from < s->helper_count; from++)
            move_gradient(s, from, s->blocks[b].start, s->blocks[b].count);
        s->block_norm[b] = sum_of_squares(s->helpers[0].grads + s->blocks[b].start, s->blocks[b].count);
    }
    for (size_t i = helper; i < s->row_count; i += s->helper_count) {
        uint32_t row = s->rows[i];
        s->row_norm[i] = 0;
        for (size_t t = 0; t < s->table_count; t++) {
            size_t cols = s->tables[t]->cols, start = s->tables[t]->offset + row * cols;
            for (unsigned from = 1; from < s->helper_count; from++) {
                if (s->helpers[from].touched[row] == s->step)
                    move_gradient(s, from, start, cols);
            }
            s->row_norm[i] += sum_of_squares(s->helpers[0].grads + start, cols);
        }
    }
    return SEM_OK;
}

/* Updates the parameters and clears the gradients behind itself. */
static sem_status part_update(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    float *grads = s->helpers[0].grads;
    (void)err;
    for (size_t b = helper; b < s->block_count; b += s->helper_count) {
        const block *k = &s->blocks[b];
        adamw_update(s->optimiser, k->param, k->start, k->count, s->params, grads, s->grad_scale);
        memset(grads + k->start, 0, k->count * sizeof *grads);
    }
    for (size_t i = helper; i < s->row_count; i += s->helper_count) {
        for (size_t t = 0; t < s->table_count; t++) {
            const param *p = s->tables[t];
            adamw_update_row(s->optimiser, p, s->rows[i], s->params, grads, s->grad_scale);
            memset(grads + p->offset + s->rows[i] * p->cols, 0, p->cols * sizeof *grads);
        }
    }
    return SEM_OK;
}

static sem_status part_finish(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t row = helper; row < s->options.config->vocab; row += s->helper_count) {
        for (size_t t = 0; t < s->table_count; t++)
            adamw_catch_up(s->optimiser, s->tables[t], row, s->params);
    }
    return SEM_OK;
}

/* --- the step, by the leader */

/* Checks the batch, notes the lengths and lists the rows that it touches. */
static sem_status survey_batch(train_step *s, const train_batch *batch, sem_error *err)
{
    if (batch->pairs == 0 || batch->pairs > s->options.max_pairs)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu pairs: 1 to %zu are possible", batch->pairs,
                        s->options.max_pairs);
    s->row_count = 0;
    for (size_t i = 0; i < 2 * batch->pairs; i++) {
        const train_text *text = &batch->texts[i];
        if (text->length == 0 || text->length > s->options.max_tokens)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "a training text of %u tokens: 1 to %zu are possible",
                            text->length, s->options.max_tokens);
        s->lengths[i] = text->length;
        for (uint32_t k = 0; k < text->length; k++) {
            int32_t id = text->ids[k];
            if (id < 0 || (size_t)id >= s->options.config->vocab)
                return sem_fail(err, SEM_INVALID_ARGUMENT, "token id %d: the model knows 0 to %zu", id,
                                s->options.config->vocab - 1);
            if (s->seen[id] != s->step)
                s->rows[s->row_count++] = (uint32_t)id;
            s->seen[id] = s->step;
        }
    }
    s->batch = batch;
    split_texts(&s->split, s->lengths, 2 * batch->pairs);
    return SEM_OK;
}

static double loss_and_gradient(train_step *s)
{
    const train_batch *batch = s->batch;
    size_t half = batch->pairs * s->options.config->dim;
    mnrl_batch b = {
        .anchors = batch->pairs,
        .candidates = batch->pairs,
        .dim = s->options.config->dim,
        .anchor = s->embeddings,
        .candidate = s->embeddings + half,
        .candidate_key = batch->document_key,
        .anchor_key = batch->query_key,
        .weight = batch->weight,
    };
    return mnrl_loss(s->options.g, &s->options.loss, &b, &s->scratch, s->d_embeddings, s->d_embeddings + half);
}

static double gradient_norm(const train_step *s)
{
    double sum = 0;
    for (size_t b = 0; b < s->block_count; b++)
        sum += s->block_norm[b];
    for (size_t i = 0; i < s->row_count; i++)
        sum += s->row_norm[i];
    return sqrt(sum);
}

sem_status train_step_run(train_step *s, const train_batch *batch, double learning_rate, train_step_result *result,
                          sem_error *err)
{
    if (s->step >= s->options.max_steps)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "step %u of a run of %zu steps", s->step + 1, s->options.max_steps);
    s->step++;
    sem_status status = survey_batch(s, batch, err);
    if (status == SEM_OK)
        status = team_run(s->team, part_catch_up, s, err);
    if (status == SEM_OK)
        status = team_run(s->team, part_forward, s, err);
    if (status != SEM_OK)
        return status;
    result->loss = loss_and_gradient(s);
    status = team_run(s->team, part_backward, s, err);
    if (status == SEM_OK)
        status = team_run(s->team, part_sum, s, err);
    if (status != SEM_OK)
        return status;
    result->gradient_norm = gradient_norm(s);
    if (!isfinite(result->loss) || !isfinite(result->gradient_norm))
        return sem_fail(err, SEM_INTERNAL,
                        "training diverged at step %u: loss %g, gradient norm %g; lower the learning rate", s->step,
                        result->loss, result->gradient_norm);
    /* The small term is that of the usual implementation; it only matters for a norm near 0. */
    double clip = s->options.clip_norm / (result->gradient_norm + 1e-6);
    s->grad_scale = s->options.clip_norm > 0 && clip < 1 ? (float)clip : 1;
    adamw_begin(s->optimiser, learning_rate);
    return team_run(s->team, part_update, s, err);
}

sem_status train_step_finish(train_step *s, sem_error *err)
{
    return team_run(s->team, part_finish, s, err);
}
