#include "base/checked.h"
#include "base/pages.h"
#include "base/random.h"
#include "finetune/train_step_internal.h"

#include <string.h>

static size_t gradient_bytes(const train_step *s)
{
    return s->options.layout->total * sizeof(float);
}

void train_helper_free(const train_step *s, step_helper *h)
{
    encoder_tape_destroy(h->tape);
    pages_free(h->grads, gradient_bytes(s));
    free(h->touched);
    token_batch_free(&h->run);
    for (size_t i = 0; i < h->outlines_made; i++)
        encoder_outline_destroy(h->outlines[i]);
    free(h->outlines);
    free(h->out);
    free(h->run_end);
}

/* What every step writes takes its memory now: a page that is read first, as sums are, would be
 * given twice. */
static void touch_dense(const param_layout *layout, float *grads)
{
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        if (!p->rows_sparse)
            memset(grads + p->offset, 0, p->rows * p->cols * sizeof *grads);
    }
}

sem_status train_tape_create(const train_step *s, encoder_tape **out, sem_error *err)
{
    const train_step_options *o = &s->options;
    sem_status status = encoder_tape_create(out, o->config, o->layout, o->g, err);
    if (status == SEM_OK && s->weights != NULL)
        status = encoder_tape_use(*out, s->weights, err);
    if (status == SEM_OK)
        encoder_tape_freeze(*out, o->groups.freeze_embeddings, o->groups.freeze_layers);
    return status;
}

sem_status train_helper_create(const train_step *s, step_helper *h, sem_error *err)
{
    const train_step_options *o = &s->options;
    size_t texts = o->loss->max_texts;
    sem_status status = train_tape_create(s, &h->tape, err);
    if (status != SEM_OK)
        return status;
    h->grads = pages_alloc(gradient_bytes(s));
    h->touched = calloc(o->config->vocab, sizeof *h->touched);
    h->out = checked_realloc(NULL, texts * o->config->dim, sizeof *h->out);
    h->run_end = checked_realloc(NULL, texts, sizeof *h->run_end);
    h->outlines = checked_realloc(NULL, texts, sizeof(encoder_outline *));
    if (h->grads == NULL || h->touched == NULL || h->out == NULL || h->run_end == NULL || h->outlines == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for the gradients of %zu parameters",
                        o->layout->total);
    touch_dense(o->layout, h->grads);
    return SEM_OK;
}

sem_status train_part_pack(void *context, unsigned number, sem_error *err)
{
    train_step *s = context;
    (void)err;
    if (s->weights != NULL)
        encoder_tape_pack(s->helpers[number].tape, s->weights, s->params, number, s->helper_count);
    return SEM_OK;
}

/* The most tokens of a run, and of how many tokens there is room for outlines. What does not fit on
 * the tape costs less to compute again from an outline, so all shall have one: the tape gets what
 * they leave, but no less than this part of the memory, since small runs are slow. */
enum { LEAST_TAPE = 4 };

static size_t choose_run_tokens(const train_step *s, const step_helper *h, size_t tokens, size_t *outlined)
{
    const size_t whole = encoder_tape_token_bytes(h->tape), outline = encoder_outline_token_bytes(h->tape);
    size_t run = s->run_tokens;
    *outlined = 0;
    if (tokens <= run)
        return run;
    run /= LEAST_TAPE;
    if (s->tape_share / outline > tokens && (s->tape_share - tokens * outline) / (whole - outline) > run)
        run = (s->tape_share - tokens * outline) / (whole - outline);
    *outlined = (s->tape_share - run * whole) / outline;
    return run;
}

static size_t run_begin(const train_step *s, const step_helper *h, unsigned number, size_t run)
{
    return run > 0 ? h->run_end[run - 1] : s->split.first[number];
}

static size_t count_tokens(const train_step *s, const step_helper *h, unsigned number, size_t run)
{
    size_t tokens = 0;
    for (size_t i = run_begin(s, h, number, run); i < h->run_end[run]; i++)
        tokens += s->lengths[s->split.order[i]];
    return tokens;
}

/* Cuts a helper's texts into runs of so many tokens at most, or of one text. */
static void plan_runs(const train_step *s, step_helper *h, unsigned number)
{
    size_t end = s->split.first[number + 1], tokens = 0, room;
    const size_t most = choose_run_tokens(s, h, s->split.load[number], &room);
    h->runs = 0;
    for (size_t i = s->split.first[number]; i < end; i++) {
        size_t length = s->lengths[s->split.order[i]];
        if (tokens > 0 && tokens + length > most) {
            h->run_end[h->runs++] = (uint32_t)i;
            tokens = 0;
        }
        tokens += length;
    }
    if (tokens > 0)
        h->run_end[h->runs++] = (uint32_t)end;
    for (h->outlined = 0; h->outlined + 1 < h->runs; h->outlined++) {
        tokens = count_tokens(s, h, number, h->outlined + 1);
        if (tokens > room)
            break;
        room -= tokens;
    }
}

uint64_t train_dropout_seed(const train_step *s, unsigned number, size_t run)
{
    uint64_t seed = random_at(s->options.seed, s->step);
    if (s->batches > 0)
        seed = random_at(seed ^ 0x6261746368ULL, s->batches);
    return random_at(seed, (uint64_t)number << 32 | run);
}

static sem_status gather_run(const train_step *s, step_helper *h, unsigned number, size_t run, sem_error *err)
{
    token_batch_clear(&h->run);
    for (size_t i = run_begin(s, h, number, run); i < h->run_end[run]; i++) {
        const train_text *text = &s->batch->texts[s->split.order[i]];
        if (!token_batch_append(&h->run, text->ids, text->length))
            return sem_fail_memory(err, "the tokens of a training batch");
    }
    return SEM_OK;
}

static dropout run_dropout(const train_step *s, unsigned number, size_t run)
{
    return (dropout){s->options.hidden_dropout, s->options.attention_dropout, train_dropout_seed(s, number, run)};
}

static bool is_outlined(const step_helper *h, size_t run)
{
    return run > 0 && run <= h->outlined;
}

/* Leaves the run's embeddings in h->out and its activations on the tape. */
static sem_status forward_run(const train_step *s, step_helper *h, unsigned number, size_t run, sem_error *err)
{
    const dropout drop = run_dropout(s, number, run);
    sem_status status = gather_run(s, h, number, run, err);
    if (status != SEM_OK)
        return status;
    return encoder_train_forward(h->tape, s->params, h->run.ids, h->run.lengths, h->run.texts, &drop, h->out, err);
}

/* Of the run that is on the tape; the next one takes its place there. */
static sem_status note_run(step_helper *h, size_t run, sem_error *err)
{
    for (; h->outlines_made < run; h->outlines_made++) {
        sem_status status = encoder_outline_create(&h->outlines[h->outlines_made], err);
        if (status != SEM_OK)
            return status;
    }
    return encoder_train_note(h->tape, h->outlines[run - 1], err);
}

/* Brings the run's activations back. */
static sem_status again_run(const train_step *s, step_helper *h, unsigned number, size_t run, sem_error *err)
{
    if (!is_outlined(h, run))
        return forward_run(s, h, number, run, err);
    const dropout drop = run_dropout(s, number, run);
    sem_status status = gather_run(s, h, number, run, err);
    if (status != SEM_OK)
        return status;
    return encoder_train_resume(h->tape, s->params, h->run.ids, h->run.lengths, h->run.texts, &drop,
                                h->outlines[run - 1], err);
}

sem_status train_part_forward(void *context, unsigned number, sem_error *err)
{
    train_step *s = context;
    step_helper *h = &s->helpers[number];
    size_t dim = s->options.config->dim;
    plan_runs(s, h, number);
    for (size_t run = h->runs; run-- > 0;) {
        sem_status status = forward_run(s, h, number, run, err);
        if (status == SEM_OK && is_outlined(h, run))
            status = note_run(h, run, err);
        if (status != SEM_OK)
            return status;
        size_t begin = run_begin(s, h, number, run);
        for (size_t i = begin; i < h->run_end[run]; i++)
            memcpy(s->embeddings + s->split.order[i] * dim, h->out + (i - begin) * dim, dim * sizeof(float));
    }
    return SEM_OK;
}

/* The first run is a full one and came last in the forward pass: its activations
 * are still on the tape. Only the others are computed again, from outlines or from the texts. */
sem_status train_part_backward(void *context, unsigned number, sem_error *err)
{
    train_step *s = context;
    step_helper *h = &s->helpers[number];
    size_t dim = s->options.config->dim;
    for (size_t run = 0; run < h->runs; run++) {
        sem_status status = run > 0 ? again_run(s, h, number, run, err) : SEM_OK;
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
