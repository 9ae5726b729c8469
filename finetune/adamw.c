#include "finetune/adamw.h"

#include "base/checked.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifdef __SSE2__
enum { DENORMALS_ARE_ZERO = 0x0040, FLUSH_TO_ZERO = 0x8000 }; /* bits of the control register MXCSR */
#endif

typedef struct adamw_step {
    double rate;
    double size;      /* rate / (1 - beta1^t) */
    float root_scale; /* 1 / sqrt(1 - beta2^t) */
    float fresh;      /* the part of the new value in the average */
} adamw_step;

/* What one step multiplies a parameter's floats with, rounded once so that every
 * float of the step, and every row that catches up later, sees the same numbers. */
typedef struct param_step {
    float keep; /* 1 - rate * weight_decay, or 1 */
    float size;
    float root_scale;
    float fresh;
} param_step;

typedef struct adamw_rows {
    const param *table; /* borrowed from the layout */
    uint32_t *done;     /* [rows] steps that each row has seen */
    bool *touched;      /* [rows] by any step: until then its moments are 0 */
} adamw_rows;

struct adamw {
    const param_layout *layout;
    adamw_options options;
    float beta1, beta2, epsilon;
    float *mean;       /* [total] first moments */
    float *square;     /* [total] second moments */
    float *average;    /* [total] or NULL */
    adamw_step *steps; /* [max_steps] */
    size_t step;       /* begun so far */
    size_t max_steps;
    adamw_rows *tables; /* one for each token table */
    size_t table_count;
};

adamw_options adamw_defaults(void)
{
    return (adamw_options){.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};
}

void adamw_destroy(adamw *a)
{
    if (a == NULL)
        return;
    for (size_t i = 0; i < a->table_count; i++) {
        free(a->tables[i].done);
        free(a->tables[i].touched);
    }
    free(a->tables);
    free(a->steps);
    free(a->mean);
    free(a->square);
    free(a->average);
    free(a);
}

static bool create_tables(adamw *a)
{
    size_t sparse = 0;
    for (size_t i = 0; i < a->layout->count; i++)
        sparse += a->layout->items[i].rows_sparse ? 1 : 0;
    a->tables = calloc(sparse + 1, sizeof *a->tables);
    if (a->tables == NULL)
        return false;
    for (size_t i = 0; i < a->layout->count; i++) {
        const param *p = &a->layout->items[i];
        if (!p->rows_sparse)
            continue;
        adamw_rows *rows = &a->tables[a->table_count++];
        rows->table = p;
        rows->done = calloc(p->rows + 1, sizeof *rows->done);
        rows->touched = calloc(p->rows + 1, sizeof *rows->touched);
        if (rows->done == NULL || rows->touched == NULL)
            return false;
    }
    return true;
}

static bool create_moments(adamw *a, const float *params)
{
    size_t total = a->layout->total;
    /* calloc maps zero pages: rows of a token table that no text uses never take memory. */
    a->mean = calloc(total + 1, sizeof *a->mean);
    a->square = calloc(total + 1, sizeof *a->square);
    if (a->mean == NULL || a->square == NULL)
        return false;
    if (!(a->options.average > 0))
        return true;
    a->average = checked_alloc_aligned(total, sizeof *a->average);
    if (a->average == NULL)
        return false;
    memcpy(a->average, params, total * sizeof *a->average);
    return true;
}

sem_status adamw_create(adamw **out, const param_layout *layout, const adamw_options *options, const float *params,
                        size_t max_steps, sem_error *err)
{
    *out = NULL;
    if (max_steps > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu steps of training: at most %u are possible", max_steps,
                        UINT32_MAX);
    adamw *a = calloc(1, sizeof *a);
    if (a == NULL)
        return sem_fail_memory(err, "the optimiser");
    a->layout = layout;
    a->options = *options;
    a->beta1 = (float)options->beta1;
    a->beta2 = (float)options->beta2;
    a->epsilon = (float)options->epsilon;
    a->max_steps = max_steps;
    a->steps = calloc(max_steps + 1, sizeof *a->steps);
    if (a->steps == NULL || !create_moments(a, params) || !create_tables(a)) {
        adamw_destroy(a);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the optimiser's state of %zu parameters",
                        layout->total);
    }
    *out = a;
    return SEM_OK;
}

void adamw_begin(adamw *a, double learning_rate)
{
    double t = (double)(a->step + 1);
    a->steps[a->step++] = (adamw_step){
        .rate = learning_rate,
        .size = learning_rate / (1 - pow(a->options.beta1, t)),
        .root_scale = (float)(1 / sqrt(1 - pow(a->options.beta2, t))),
        .fresh = (float)(1 - fmin(a->options.average, t / (9 + t))),
    };
}

const float *adamw_average(const adamw *a)
{
    return a->average;
}

static double factor_of(const adamw *a, const param *p)
{
    return a->options.factors != NULL ? a->options.factors[p - a->layout->items] : 1;
}

static param_step step_for(const adamw *a, size_t step, const param *p)
{
    const adamw_step *s = &a->steps[step];
    double factor = factor_of(a, p);
    return (param_step){.keep = p->decay ? (float)(1 - s->rate * factor * a->options.weight_decay) : 1,
                        .size = (float)(s->size * factor),
                        .root_scale = s->root_scale,
                        .fresh = s->fresh};
}

/* A mean that fades without a gradient would end in denormal numbers, which
 * some processors multiply a hundred times slower: they count as 0 while the
 * optimiser computes. */
static unsigned flush_denormals(void)
{
#ifdef __SSE2__
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | DENORMALS_ARE_ZERO | FLUSH_TO_ZERO);
    return before;
#else
    return 0;
#endif
}

static void restore_denormals(unsigned before)
{
#ifdef __SSE2__
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

/* One float. Every path below computes exactly this. */
static void step_one(const adamw *a, const param_step *s, float gradient, float *value, float *mean, float *square)
{
    *mean += (gradient - *mean) * (1 - a->beta1);
    *square = *square * a->beta2 + gradient * gradient * (1 - a->beta2);
    *value = *value * s->keep - s->size * *mean / (sqrtf(*square) * s->root_scale + a->epsilon);
}

/* Four floats at a time where the processor is sure to have them. */
static size_t step_fours(const adamw *a, const param_step *s, float grad_scale, size_t count, const float *grads,
                         float *params, float *mean, float *square)
{
    size_t done = 0;
#ifdef __SSE2__
    const __m128 fresh1 = _mm_set1_ps(1 - a->beta1), fresh2 = _mm_set1_ps(1 - a->beta2);
    const __m128 beta2 = _mm_set1_ps(a->beta2), epsilon = _mm_set1_ps(a->epsilon), scale = _mm_set1_ps(grad_scale);
    const __m128 keep4 = _mm_set1_ps(s->keep), size = _mm_set1_ps(s->size), root = _mm_set1_ps(s->root_scale);
    for (; done + 4 <= count; done += 4) {
        __m128 g = grads != NULL ? _mm_mul_ps(_mm_loadu_ps(grads + done), scale) : _mm_setzero_ps();
        __m128 m = _mm_loadu_ps(mean + done), v = _mm_loadu_ps(square + done), p = _mm_loadu_ps(params + done);
        m = _mm_add_ps(m, _mm_mul_ps(_mm_sub_ps(g, m), fresh1));
        v = _mm_add_ps(_mm_mul_ps(v, beta2), _mm_mul_ps(_mm_mul_ps(g, g), fresh2));
        __m128 below = _mm_add_ps(_mm_mul_ps(_mm_sqrt_ps(v), root), epsilon);
        p = _mm_sub_ps(_mm_mul_ps(p, keep4), _mm_div_ps(_mm_mul_ps(size, m), below));
        _mm_storeu_ps(mean + done, m);
        _mm_storeu_ps(square + done, v);
        _mm_storeu_ps(params + done, p);
    }
#else
    (void)a, (void)s, (void)grad_scale, (void)count, (void)grads, (void)params, (void)mean, (void)square;
#endif
    return done;
}

/* grads NULL: a step in which nothing touched these floats. Never inlined, so
 * that none of it is moved out of the callers' floating-point mode. */
__attribute__((noinline)) static void step_range(const adamw *a, const param_step *s, float grad_scale, size_t count,
                                                 const float *grads, float *params, float *mean, float *square)
{
    for (size_t i = step_fours(a, s, grad_scale, count, grads, params, mean, square); i < count; i++)
        step_one(a, s, grads != NULL ? grads[i] * grad_scale : 0, &params[i], &mean[i], &square[i]);
}

/* The same for floats that no step has touched: their mean is 0. */
__attribute__((noinline)) static void decay_range(const param_step *s, size_t count, float *params)
{
    for (size_t i = 0; i < count; i++)
        params[i] *= s->keep;
}

__attribute__((noinline)) static void average_range(const param_step *s, size_t count, const float *params,
                                                    float *average)
{
    for (size_t i = 0; i < count; i++)
        average[i] += (params[i] - average[i]) * s->fresh;
}

void adamw_update(adamw *a, const param *p, size_t start, size_t count, float *params, const float *grads,
                  float grad_scale)
{
    const param_step s = step_for(a, a->step - 1, p);
    unsigned mode = flush_denormals();
    step_range(a, &s, grad_scale, count, grads + start, params + start, a->mean + start, a->square + start);
    if (a->average != NULL)
        average_range(&s, count, params + start, a->average + start);
    restore_denormals(mode);
}

static adamw_rows *rows_of(const adamw *a, const param *p)
{
    size_t i = 0;
    while (a->tables[i].table != p)
        i++;
    return &a->tables[i];
}

void adamw_update_row(adamw *a, const param *p, size_t row, float *params, const float *grads, float grad_scale)
{
    adamw_rows *rows = rows_of(a, p);
    adamw_update(a, p, p->offset + row * p->cols, p->cols, params, grads, grad_scale);
    rows->done[row] = (uint32_t)a->step;
    rows->touched[row] = true;
}

void adamw_catch_up(adamw *a, const param *p, size_t row, float *params)
{
    adamw_rows *rows = rows_of(a, p);
    size_t start = p->offset + row * p->cols;
    unsigned mode = flush_denormals();
    for (size_t t = rows->done[row]; t < a->step; t++) {
        const param_step s = step_for(a, t, p);
        if (rows->touched[row])
            step_range(a, &s, 0, p->cols, NULL, params + start, a->mean + start, a->square + start);
        else if (p->decay)
            decay_range(&s, p->cols, params + start);
        if (a->average != NULL)
            average_range(&s, p->cols, params + start, a->average + start);
    }
    restore_denormals(mode);
    rows->done[row] = (uint32_t)a->step;
}

/* --- checkpoints: moments of what is frozen, and of rows that no step touched, are 0 and left out */

enum { PIECE_ROWS = 2048 /* of a token table that are copied at a time: a few megabytes */ };

/* What one section has of a kind of moments: those of a dense parameter, or of some rows of a token table. */
typedef struct adamw_piece {
    size_t item;     /* of the layout */
    size_t from, to; /* rows */
} adamw_piece;

/* The first of them where *at is all 0, else the next; false behind the last. */
static bool next_piece(const adamw *a, adamw_piece *at)
{
    const param_layout *l = a->layout;
    for (; at->item < l->count; *at = (adamw_piece){.item = at->item + 1}) {
        const param *p = &l->items[at->item];
        if (at->to == p->rows || !(factor_of(a, p) > 0))
            continue;
        at->from = at->to;
        at->to = p->rows_sparse && p->rows - at->from > PIECE_ROWS ? at->from + PIECE_ROWS : p->rows;
        return true;
    }
    return false;
}

/* Copies the moments that are kept from their places to a row without gaps (pack), or
 * back; returns how many they are. Only counts where to is NULL. */
static size_t move_piece(const adamw *a, const adamw_piece *at, bool pack, const float *from, float *to)
{
    const param *p = &a->layout->items[at->item];
    const adamw_rows *rows = p->rows_sparse ? rows_of(a, p) : NULL;
    size_t kept = 0;
    for (size_t row = at->from; row < at->to; row++) {
        const size_t place = p->offset + row * p->cols;
        if (rows != NULL && !rows->touched[row])
            continue;
        if (to != NULL)
            memcpy(to + (pack ? kept : place), from + (pack ? place : kept), p->cols * sizeof *to);
        kept += p->cols;
    }
    return kept;
}

static const char *section_of(char name[CHECKPOINT_NAME_MAX], const char *prefix, const char *what, size_t number)
{
    snprintf(name, CHECKPOINT_NAME_MAX, "%s.%s%zu", prefix, what, number);
    return name;
}

static sem_status check_caught_up(const adamw *a, const adamw_rows *rows, sem_error *err)
{
    for (size_t row = 0; row < rows->table->rows; row++) {
        if (rows->done[row] != a->step && factor_of(a, rows->table) > 0)
            return sem_fail(err, SEM_INTERNAL, "row %zu of %s is at step %u of %zu: catch up before saving", row,
                            rows->table->name, rows->done[row], a->step);
    }
    return SEM_OK;
}

static sem_status save_touched(const adamw *a, const char *prefix, checkpoint_writer *w, sem_error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    sem_status status = SEM_OK;
    for (size_t i = 0; i < a->table_count && status == SEM_OK; i++) {
        const adamw_rows *rows = &a->tables[i];
        status = check_caught_up(a, rows, err);
        if (status == SEM_OK)
            status = checkpoint_put(w, section_of(name, prefix, "touched", i), rows->touched,
                                    rows->table->rows * sizeof *rows->touched, err);
    }
    return status;
}

static sem_status save_piece(const adamw *a, const adamw_piece *at, const float *moments, checkpoint_writer *w,
                             const char *name, sem_error *err)
{
    const param *p = &a->layout->items[at->item];
    const size_t count = move_piece(a, at, true, moments, NULL);
    if (!p->rows_sparse)
        return checkpoint_put(w, name, moments + p->offset, count * sizeof *moments, err);
    float *kept = checked_alloc_floats(count + 1, 1);
    if (kept == NULL)
        return sem_fail_memory(err, "a checkpoint of the optimiser");
    move_piece(a, at, true, moments, kept);
    sem_status status = checkpoint_put(w, name, kept, count * sizeof *kept, err);
    free(kept);
    return status;
}

sem_status adamw_save(const adamw *a, const char *prefix, checkpoint_writer *w, sem_error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    const uint64_t step = a->step;
    adamw_piece at = {0};
    sem_status status = checkpoint_put(w, section_of(name, prefix, "step", 0), &step, sizeof step, err);
    if (status == SEM_OK)
        status = save_touched(a, prefix, w, err);
    for (size_t i = 0; status == SEM_OK && next_piece(a, &at); i++) {
        status = save_piece(a, &at, a->mean, w, section_of(name, prefix, "mean", i), err);
        if (status == SEM_OK)
            status = save_piece(a, &at, a->square, w, section_of(name, prefix, "square", i), err);
    }
    if (status == SEM_OK && a->average != NULL)
        status = checkpoint_put(w, section_of(name, prefix, "average", 0), a->average,
                                a->layout->total * sizeof *a->average, err);
    return status;
}

static sem_status load_piece(const adamw *a, const adamw_piece *at, float *moments, const checkpoint_reader *c,
                             const char *name, sem_error *err)
{
    const void *kept = NULL;
    size_t size = 0;
    const size_t wanted = move_piece(a, at, false, moments, NULL) * sizeof *moments;
    sem_status status = checkpoint_view(c, name, &kept, &size, err);
    if (status == SEM_OK && size != wanted)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "a checkpoint with %zu bytes in %s, expected %zu", size, name,
                        wanted);
    if (status == SEM_OK)
        move_piece(a, at, false, kept, moments);
    return status;
}

static sem_status load_moments(adamw *a, const char *prefix, const checkpoint_reader *c, sem_error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    adamw_piece at = {0};
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && next_piece(a, &at); i++) {
        status = load_piece(a, &at, a->mean, c, section_of(name, prefix, "mean", i), err);
        if (status == SEM_OK)
            status = load_piece(a, &at, a->square, c, section_of(name, prefix, "square", i), err);
    }
    return status;
}

sem_status adamw_load(adamw *a, const char *prefix, const checkpoint_reader *c, sem_error *err)
{
    char name[CHECKPOINT_NAME_MAX];
    uint64_t step = 0;
    sem_status status = checkpoint_get(c, section_of(name, prefix, "step", 0), &step, sizeof step, err);
    if (status == SEM_OK && step > a->max_steps)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "a checkpoint of step %llu in a run of %zu steps",
                          (unsigned long long)step, a->max_steps);
    for (size_t i = 0; i < a->table_count && status == SEM_OK; i++) {
        adamw_rows *rows = &a->tables[i];
        status = checkpoint_get(c, section_of(name, prefix, "touched", i), rows->touched,
                                rows->table->rows * sizeof *rows->touched, err);
        for (size_t row = 0; row < rows->table->rows; row++)
            rows->done[row] = (uint32_t)step;
    }
    if (status == SEM_OK)
        status = load_moments(a, prefix, c, err);
    if (status == SEM_OK && a->average != NULL)
        status = checkpoint_get(c, section_of(name, prefix, "average", 0), a->average,
                                a->layout->total * sizeof *a->average, err);
    if (status == SEM_OK)
        a->step = (size_t)step;
    return status;
}
