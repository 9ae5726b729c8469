#include "base/checked.h"
#include "base/pages.h"
#include "finetune/train_step_internal.h"

#include <math.h>
#include <string.h>

enum { BLOCK_FLOATS = 1 << 14, PIECE_FLOATS = 1 << 10 };

static void add_blocks(train_step *s, const param *p)
{
    for (size_t done = 0, size = p->rows * p->cols; done < size; done += BLOCK_FLOATS) {
        size_t count = size - done < BLOCK_FLOATS ? size - done : BLOCK_FLOATS;
        s->blocks[s->block_count++] = (param_block){p, p->offset + done, count};
    }
}

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
        if (!(s->factors[i] > 0))
            continue;
        if (p->rows_sparse)
            s->tables[s->table_count++] = p;
        else
            add_blocks(s, p);
    }
    return SEM_OK;
}

static sem_status create_learned(train_step *s, sem_error *err)
{
    const loss_learned *learned = s->options.loss->learned;
    if (learned == NULL)
        return SEM_OK;
    adamw_options options = s->options.optimiser;
    options.factors = NULL;
    options.average = 0;
    s->learned_item = (param){.rows = 1, .cols = 1};
    s->learned_layout = (param_layout){.items = &s->learned_item, .count = 1, .total = 1};
    return adamw_create(&s->learned_optimiser, &s->learned_layout, &options, &learned->value, s->options.max_steps,
                        err);
}

sem_status train_update_create(train_step *s, sem_error *err)
{
    const train_step_options *o = &s->options;
    s->factors = checked_realloc(NULL, o->layout->count, sizeof *s->factors);
    if (s->factors == NULL)
        return sem_fail_memory(err, "the learning rates of parameters");
    sem_status status = kernels_choose(&s->kernels, err);
    if (status == SEM_OK)
        status = param_group_factors(&o->groups, o->layout, o->config->layers, s->factors, err);
    if (status == SEM_OK)
        status = create_blocks(s, err);
    if (status == SEM_OK)
        status = create_learned(s, err);
    if (status != SEM_OK)
        return status;
    adamw_options options = o->optimiser;
    options.factors = s->factors;
    return adamw_create(&s->optimiser, o->layout, &options, s->params, o->max_steps, err);
}

void train_update_free(train_step *s)
{
    adamw_destroy(s->optimiser);
    adamw_destroy(s->learned_optimiser);
    free(s->factors);
    free(s->blocks);
    free(s->block_norm);
    free(s->tables);
}

sem_status train_part_catch_up(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t i = s->first_row + helper; i < s->row_count; i += s->helper_count) {
        for (size_t t = 0; t < s->table_count; t++)
            adamw_catch_up(s->optimiser, s->tables[t], s->rows[i], s->params);
    }
    return SEM_OK;
}

sem_status train_part_finish(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t row = helper; row < s->options.config->vocab; row += s->helper_count) {
        for (size_t t = 0; t < s->table_count; t++)
            adamw_catch_up(s->optimiser, s->tables[t], row, s->params);
    }
    return SEM_OK;
}

/* Moves what the other helpers found for count floats into helper 0's sum, those alone that touched *row (NULL: all),
 * and returns the sum of the squares. A piece is still in the first-level cache when these are taken. */
static double move_gradients(const train_step *s, size_t start, size_t count, const uint32_t *row)
{
    double squares = 0;
    for (const size_t end = start + count; start < end; start += PIECE_FLOATS) {
        const size_t some = end - start < PIECE_FLOATS ? end - start : PIECE_FLOATS;
        float *sum = s->helpers[0].grads + start;
        for (unsigned from = 1; from < s->helper_count; from++) {
            const step_helper *h = &s->helpers[from];
            if (row != NULL && h->touched[*row] != s->step)
                continue;
            s->kernels->axpy(1, h->grads + start, sum, some);
            memset(h->grads + start, 0, some * sizeof *h->grads);
        }
        squares += s->kernels->dot(sum, sum, some);
    }
    return squares;
}

static double sum_row(const train_step *s, uint32_t row)
{
    double squares = 0;
    for (size_t t = 0; t < s->table_count; t++) {
        const size_t cols = s->tables[t]->cols;
        squares += move_gradients(s, s->tables[t]->offset + row * cols, cols, &row);
    }
    return squares;
}

/* Helpers' gradients are added in the order of their numbers. */
sem_status train_part_sum(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t b = helper; b < s->block_count; b += s->helper_count)
        s->block_norm[b] = move_gradients(s, s->blocks[b].start, s->blocks[b].count, NULL);
    for (size_t i = helper; i < s->row_count; i += s->helper_count)
        s->row_norm[i] = sum_row(s, s->rows[i]);
    return SEM_OK;
}

sem_status train_part_update(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    float *grads = s->helpers[0].grads;
    (void)err;
    for (size_t b = helper; b < s->block_count; b += s->helper_count) {
        const param_block *k = &s->blocks[b];
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

sem_status train_part_release(void *context, unsigned helper, sem_error *err)
{
    train_step *s = context;
    (void)err;
    for (size_t t = 0; t < s->table_count; t++) {
        const param *p = s->tables[t];
        pages_clear(s->helpers[helper].grads, p->offset * sizeof(float),
                    (p->offset + p->rows * p->cols) * sizeof(float));
    }
    return SEM_OK;
}

double train_gradient_norm(const train_step *s)
{
    double sum = (double)s->learned_gradient * s->learned_gradient;
    for (size_t b = 0; b < s->block_count; b++)
        sum += s->block_norm[b];
    for (size_t i = 0; i < s->row_count; i++)
        sum += s->row_norm[i];
    return sqrt(sum);
}

void train_update_learned(train_step *s, double learning_rate)
{
    loss_learned *learned = s->options.loss->learned;
    if (learned == NULL)
        return;
    adamw_begin(s->learned_optimiser, learning_rate);
    adamw_update(s->learned_optimiser, &s->learned_item, 0, 1, &learned->value, &s->learned_gradient, s->grad_scale);
    if (learned->value > learned->most)
        learned->value = learned->most;
}
