#include "finetune/train_shapes.h"

#include "base/checked.h"
#include "base/names.h"
#include "finetune/train_step_internal.h"

#include <string.h>

const size_t train_bucket_widths[TRAIN_BUCKETS] = {64, 128, 196, 256};

enum { PADDING_TEXT = 64 /* tokens of a text that pads, at most */ };

/* Texts of one width, to be computed at once. */
typedef struct shape_pass {
    uint32_t first, count; /* in the order of its bucket */
    uint8_t bucket;
} shape_pass;

typedef struct shape_plan {
    size_t rows;          /* of a pass */
    encoder_tape **tapes; /* [helpers]; NULL before the first use */
    uint32_t *order;      /* [max_texts] the batch's texts of this width */
    size_t count;
} shape_plan;

/* What one helper has of a batch. */
typedef struct shape_share {
    shape_pass *passes; /* [max_texts] widest first */
    size_t count;
    size_t load;                   /* tokens */
    size_t on_tape[TRAIN_BUCKETS]; /* the pass whose activations the plan's tape has, from 1; 0: none */
    float *out;                    /* embeddings of all texts of a pass, paddings too, or their gradients */
} shape_share;

struct train_shapes {
    const train_step *s;
    shape_plan plans[TRAIN_BUCKETS];
    shape_share *shares; /* [helpers] */
    size_t pass_texts;   /* of a pass, paddings too, at most */
    train_shape_report report;
};

bool train_shape_of(const char *name, train_shape *out)
{
    static const char *const names[] = {"packed", "buckets"};
    size_t place;
    if (!names_find(names, sizeof names / sizeof *names, name, &place))
        return false;
    *out = (train_shape)place;
    return true;
}

const train_shape_report *train_shapes_report(const train_shapes *f)
{
    return &f->report;
}

void train_shapes_destroy(train_shapes *f)
{
    if (f == NULL)
        return;
    const unsigned helpers = f->s->options.threads;
    for (size_t b = 0; b < TRAIN_BUCKETS; b++) {
        for (unsigned h = 0; f->plans[b].tapes != NULL && h < helpers; h++)
            encoder_tape_destroy(f->plans[b].tapes[h]);
        free(f->plans[b].tapes);
        free(f->plans[b].order);
    }
    for (unsigned h = 0; f->shares != NULL && h < helpers; h++) {
        free(f->shares[h].passes);
        free(f->shares[h].out);
    }
    free(f->shares);
    free(f);
}

/* Texts that one row is made of, at most: the real one, and as many as padding takes. */
static size_t row_texts(const train_step *s, size_t width)
{
    const size_t longest = s->options.config->max_tokens, most = longest < PADDING_TEXT ? longest : PADDING_TEXT;
    return 1 + (width + most - 1) / most;
}

sem_status train_shapes_create(train_shapes **out, const train_step *s, sem_error *err)
{
    *out = NULL;
    const train_step_options *o = &s->options;
    const size_t texts = o->loss->max_texts, widest = train_bucket_widths[TRAIN_BUCKETS - 1];
    if (o->max_tokens > widest)
        return sem_fail(
            err, SEM_INVALID_ARGUMENT,
            "training in shape buckets takes texts of up to %zu tokens, and max_tokens is %zu here (0 stands "
            "for the model's own limit): make it %zu or less, or the shape packed",
            widest, o->max_tokens, widest);
    train_shapes *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sem_fail_memory(err, "the shapes of training");
    f->s = s;
    f->shares = calloc(o->threads, sizeof *f->shares);
    bool enough = f->shares != NULL;
    for (size_t b = 0; b < TRAIN_BUCKETS && enough; b++) {
        /* All four may be in use: each takes a quarter of the memory for activations. */
        const size_t width = train_bucket_widths[b], rows = s->run_tokens / TRAIN_BUCKETS / width;
        f->plans[b].rows = rows < 1 ? 1 : rows < texts ? rows : texts;
        f->plans[b].order = checked_realloc(NULL, texts, sizeof *f->plans[b].order);
        const size_t of_pass = f->plans[b].rows * row_texts(s, width);
        f->pass_texts = of_pass > f->pass_texts ? of_pass : f->pass_texts;
        enough = f->plans[b].order != NULL;
    }
    for (unsigned h = 0; h < o->threads && enough; h++) {
        f->shares[h].passes = checked_realloc(NULL, texts, sizeof *f->shares[h].passes);
        f->shares[h].out = checked_realloc(NULL, f->pass_texts * o->config->dim, sizeof *f->shares[h].out);
        enough = f->shares[h].passes != NULL && f->shares[h].out != NULL;
    }
    if (!enough) {
        train_shapes_destroy(f);
        return sem_fail_memory(err, "the shapes of training");
    }
    *out = f;
    return SEM_OK;
}

/* --- dividing a batch */

static size_t bucket_of(uint32_t length)
{
    size_t b = 0;
    while (b + 1 < TRAIN_BUCKETS && length > train_bucket_widths[b])
        b++;
    return b;
}

/* The plan's tapes; what else it is was known from the start. */
static sem_status use_plan(train_shapes *f, size_t bucket, sem_error *err)
{
    shape_plan *p = &f->plans[bucket];
    const unsigned helpers = f->s->options.threads;
    f->report.steps[bucket]++;
    if (p->tapes != NULL) {
        f->report.plans_reused++;
        return SEM_OK;
    }
    p->tapes = calloc(helpers, sizeof(encoder_tape *));
    sem_status status = p->tapes != NULL ? SEM_OK : sem_fail_memory(err, "the plan of a shape");
    for (unsigned h = 0; h < helpers && status == SEM_OK; h++)
        status = train_tape_create(f->s, &p->tapes[h], err);
    f->report.plans_built += status == SEM_OK;
    return status;
}

/* To the helper with the fewest tokens so far. */
static void give_pass(train_shapes *f, shape_pass pass)
{
    unsigned least = 0;
    for (unsigned h = 1; h < f->s->options.threads; h++)
        least = f->shares[h].load < f->shares[least].load ? h : least;
    shape_share *share = &f->shares[least];
    share->passes[share->count++] = pass;
    share->load += f->plans[pass.bucket].rows * train_bucket_widths[pass.bucket];
}

sem_status train_shapes_divide(train_shapes *f, sem_error *err)
{
    const train_step *s = f->s;
    sem_status status = SEM_OK;
    for (unsigned h = 0; h < s->options.threads; h++) {
        f->shares[h].count = f->shares[h].load = 0;
        memset(f->shares[h].on_tape, 0, sizeof f->shares[h].on_tape);
    }
    for (size_t b = 0; b < TRAIN_BUCKETS; b++)
        f->plans[b].count = 0;
    for (size_t i = 0; i < train_batch_computed(s->batch); i++) {
        shape_plan *p = &f->plans[bucket_of(s->lengths[i])];
        p->order[p->count++] = (uint32_t)i;
        f->report.padding -= s->lengths[i]; /* what is computed for it is added below */
    }
    for (size_t b = TRAIN_BUCKETS; b-- > 0 && status == SEM_OK;) {
        const shape_plan *p = &f->plans[b];
        const size_t passes = (p->count + p->rows - 1) / p->rows;
        const uint64_t tokens = (uint64_t)passes * p->rows * train_bucket_widths[b];
        if (passes == 0)
            continue;
        status = use_plan(f, b, err);
        f->report.passes[b] += passes;
        f->report.tokens += tokens;
        f->report.padding += tokens;
        for (size_t i = 0; i < passes; i++) {
            const size_t left = p->count - i * p->rows;
            give_pass(f,
                      (shape_pass){(uint32_t)(i * p->rows), (uint32_t)(left < p->rows ? left : p->rows), (uint8_t)b});
        }
    }
    return status;
}

/* --- a pass */

/* So many tokens of no meaning, as texts that are no longer than the model takes. */
static bool append_padding(token_batch *run, size_t tokens, int32_t id, size_t longest)
{
    int32_t ids[PADDING_TEXT];
    const size_t most = longest < PADDING_TEXT ? longest : PADDING_TEXT;
    for (size_t i = 0; i < most; i++)
        ids[i] = id;
    for (size_t some; tokens > 0; tokens -= some) {
        some = tokens < most ? tokens : most;
        if (!token_batch_append(run, ids, some))
            return false;
    }
    return true;
}

/* Row after row: the text, then what fills it up. */
static sem_status fill_pass(const train_step *s, step_helper *h, const shape_plan *p, const shape_pass *pass,
                            sem_error *err)
{
    const size_t width = train_bucket_widths[pass->bucket], longest = s->options.config->max_tokens;
    bool enough = true;
    token_batch_clear(&h->run);
    for (size_t r = 0; r < p->rows && enough; r++) {
        const train_text *text = &s->batch->texts[p->order[pass->first + (r < pass->count ? r : 0)]];
        const size_t length = r < pass->count ? text->length : 0;
        /* A token of the batch pads, so that no other row of the token table is touched. */
        enough = (length == 0 || token_batch_append(&h->run, text->ids, length)) &&
                 append_padding(&h->run, width - length, text->ids[0], longest);
    }
    return enough ? SEM_OK : sem_fail_memory(err, "the tokens of a training batch");
}

/* The place among the pass's texts at which the next row begins. */
static size_t next_real(const token_batch *run, size_t width, size_t place)
{
    size_t tokens = 0;
    while (tokens < width)
        tokens += run->lengths[place++];
    return place;
}

static sem_status forward_pass(const train_step *s, unsigned number, size_t k, sem_error *err)
{
    train_shapes *f = s->shapes;
    shape_share *share = &f->shares[number];
    step_helper *h = &s->helpers[number];
    const shape_pass *pass = &share->passes[k];
    const shape_plan *p = &f->plans[pass->bucket];
    sem_status status = fill_pass(s, h, p, pass, err);
    if (status != SEM_OK || share->on_tape[pass->bucket] == k + 1)
        return status;
    share->on_tape[pass->bucket] = k + 1;
    const dropout drop = {s->options.hidden_dropout, s->options.attention_dropout, train_dropout_seed(s, number, k)};
    return encoder_train_forward(p->tapes[number], s->params, h->run.ids, h->run.lengths, h->run.texts, &drop,
                                 share->out, err);
}

sem_status train_shapes_forward(void *context, unsigned number, sem_error *err)
{
    const train_step *s = context;
    const train_shapes *f = s->shapes;
    const shape_share *share = &f->shares[number];
    const size_t dim = s->options.config->dim;
    for (size_t k = share->count; k-- > 0;) {
        const shape_pass *pass = &share->passes[k];
        sem_status status = forward_pass(s, number, k, err);
        if (status != SEM_OK)
            return status;
        size_t place = 0;
        for (size_t r = 0; r < pass->count; r++) {
            memcpy(s->embeddings + f->plans[pass->bucket].order[pass->first + r] * dim, share->out + place * dim,
                   dim * sizeof(float));
            place = next_real(&s->helpers[number].run, train_bucket_widths[pass->bucket], place);
        }
    }
    return SEM_OK;
}

/* Of each plan the pass that came last in the forward pass is still on the tape. */
sem_status train_shapes_backward(void *context, unsigned number, sem_error *err)
{
    const train_step *s = context;
    const train_shapes *f = s->shapes;
    shape_share *share = &f->shares[number];
    step_helper *h = &s->helpers[number];
    const size_t dim = s->options.config->dim;
    for (size_t k = 0; k < share->count; k++) {
        const shape_pass *pass = &share->passes[k];
        const shape_plan *p = &f->plans[pass->bucket];
        sem_status status = forward_pass(s, number, k, err);
        if (status != SEM_OK)
            return status;
        size_t place = 0;
        memset(share->out, 0, h->run.texts * dim * sizeof(float));
        for (size_t r = 0; r < pass->count; r++) {
            memcpy(share->out + place * dim, s->d_embeddings + p->order[pass->first + r] * dim, dim * sizeof(float));
            place = next_real(&h->run, train_bucket_widths[pass->bucket], place);
        }
        for (size_t i = 0; i < h->run.tokens; i++)
            h->touched[h->run.ids[i]] = s->step;
        status = encoder_train_backward(p->tapes[number], s->params, share->out, h->grads, err);
        share->on_tape[pass->bucket] = 0;
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}
