#include "finetune/mix_source.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/mix_others.h"

#include <inttypes.h>

enum { DRAW_NEGATIVES = 21 };

static const char SECTION[] = "mix"; /* of a checkpoint */

struct mix_source {
    const model *base;
    mix *mix;
    mix_source_options options;
    /* one batch: the anchors, the positives, then negatives */
    size_t max_texts;
    token_batch tokens;
    train_text *texts; /* [max_texts], as the next six */
    uint64_t *id;
    uint64_t *text;
    uint64_t *label;
    size_t *starts;   /* where each text begins in tokens */
    data_text *words; /* what each text was */
    float *frequency;
    float *weight; /* [batch_size], as score */
    float *score;
    mix_others *others;
};

void mix_source_destroy(mix_source *s)
{
    if (s == NULL)
        return;
    token_batch_free(&s->tokens);
    free(s->texts);
    free(s->id);
    free(s->text);
    free(s->label);
    free(s->starts);
    free(s->words);
    free(s->frequency);
    free(s->weight);
    free(s->score);
    mix_others_destroy(s->others);
    free(s);
}

static bool take_memory(mix_source *s)
{
    s->texts = checked_realloc(NULL, s->max_texts, sizeof *s->texts);
    s->id = checked_realloc(NULL, s->max_texts, sizeof *s->id);
    s->text = checked_realloc(NULL, s->max_texts, sizeof *s->text);
    s->label = checked_realloc(NULL, s->max_texts, sizeof *s->label);
    s->starts = checked_realloc(NULL, s->max_texts, sizeof *s->starts);
    s->words = checked_realloc(NULL, s->max_texts, sizeof *s->words);
    s->frequency = checked_realloc(NULL, s->max_texts, sizeof *s->frequency);
    s->weight = checked_realloc(NULL, s->options.batch_size, sizeof *s->weight);
    s->score = checked_realloc(NULL, s->options.batch_size, sizeof *s->score);
    return s->texts != NULL && s->id != NULL && s->text != NULL && s->label != NULL && s->starts != NULL &&
           s->words != NULL && s->frequency != NULL && s->weight != NULL && s->score != NULL;
}

sem_status mix_source_create(mix_source **out, const model *base, mix *m, const mix_source_options *options,
                             sem_error *err)
{
    size_t max_texts;
    *out = NULL;
    if (options->negatives > MIX_NEGATIVES_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training with %zu hard negatives of each pair (allowed: 0 to %d)",
                        options->negatives, MIX_NEGATIVES_MAX);
    if (options->batch_size == 0 || !checked_mul(options->batch_size, 2 + options->negatives, &max_texts))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training in batches of %zu pairs", options->batch_size);
    mix_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a batch");
    s->base = base;
    s->mix = m;
    s->options = *options;
    s->max_texts = max_texts;
    const mix_others_options others = {.teacher = options->teacher,
                                       .guide = options->guide,
                                       .g = model_get_gemm(base),
                                       .max_pairs = options->batch_size,
                                       .max_texts = max_texts};
    sem_status status = take_memory(s) ? SEM_OK : sem_fail_memory(err, "a batch");
    if (status == SEM_OK)
        status = mix_others_create(&s->others, &others, err);
    if (status == SEM_OK)
        *out = s;
    else
        mix_source_destroy(s);
    return status;
}

size_t mix_source_max_texts(const mix_source *s)
{
    return s->max_texts;
}

static sem_status put_text(mix_source *s, const char *prompt, data_text text, uint64_t id, uint64_t label,
                           sem_error *err)
{
    const size_t place = s->tokens.texts;
    s->starts[place] = s->tokens.tokens;
    s->words[place] = text;
    s->id[place] = id;
    s->text[place] = hash_text(text.bytes, text.length);
    s->label[place] = label != 0 ? label : LOSS_NO_KEY;
    return model_tokenize_within(s->base, prompt, text.bytes, text.length, s->options.max_tokens, &s->tokens, NULL,
                                 err);
}

static sem_status put_negatives(mix_source *s, const char *prompt, const example *e, uint64_t draw, sem_error *err)
{
    const size_t wanted = e->negative_count < s->options.negatives ? e->negative_count : s->options.negatives;
    const size_t first = wanted < e->negative_count ? (size_t)(draw % e->negative_count) : 0;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < wanted && status == SEM_OK; i++) {
        const data_text text = e->negatives[(first + i) % e->negative_count];
        status = put_text(s, prompt, text, hash_text(text.bytes, text.length), 0, err);
    }
    return status;
}

static sem_status put_batch(mix_source *s, const mix_batch *from, loss_name name, sem_error *err)
{
    const char *query_prompt = model_config_query_prompt(model_get_config(s->base));
    const char *document_prompt = model_config_document_prompt(model_get_config(s->base));
    const uint64_t draw = random_at(random_at(s->options.seed, DRAW_NEGATIVES), from->step);
    sem_status status = SEM_OK;
    token_batch_clear(&s->tokens);
    for (size_t i = 0; i < from->count && status == SEM_OK; i++) {
        const example *e = from->items[i];
        if (name == LOSS_COSENT && !e->has_score)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "the loss cosent goes by scores, and a pair on line %" PRIu64 " has none", e->line);
        s->weight[i] = e->weight;
        s->score[i] = (float)e->score;
        status = put_text(s, query_prompt, e->anchor, e->anchor_key, e->label_key, err);
    }
    for (size_t i = 0; i < from->count && status == SEM_OK; i++) {
        const example *e = from->items[i];
        status = put_text(s, document_prompt, e->positive, e->positive_key, e->label_key, err);
    }
    for (size_t i = 0; i < from->count && status == SEM_OK && name == LOSS_MNRL; i++)
        status = put_negatives(s, document_prompt, from->items[i], random_at(draw, i), err);
    return status;
}

/* The set whose lesson and frequencies a batch has; of one of all sets any, as they are alike. */
static size_t set_of(const mix_batch *batch)
{
    return batch->set == MIX_ALL_SETS ? 0 : (size_t)batch->set;
}

/* NULL where nothing was counted. */
static const float *find_frequencies(const mix_source *s, size_t set, size_t pairs)
{
    const mix_frequency *f = s->options.frequency;
    for (size_t i = 0; i < s->tokens.texts && f != NULL; i++)
        s->frequency[i] = i < pairs ? mix_frequency_anchor(f, set, s->id[i])
                                    : mix_frequency_candidate(f, set, s->text[i]);
    return f != NULL ? s->frequency : NULL;
}

/* What only one loss or another looks at. */
static sem_status add_to_lesson(const mix_source *s, const mix_batch *from, const mix_lesson *lesson, loss_batch *about,
                                sem_error *err)
{
    if (lesson->loss == LOSS_MSE)
        return mix_others_teach(s->others, from, lesson->each, &about->teacher, err);
    about->score = s->score;
    if (lesson->loss != LOSS_MNRL)
        return SEM_OK;
    about->frequency = find_frequencies(s, set_of(from), from->count);
    return mix_others_guide(s->others, s->words, from->count, s->tokens.texts, &about->guide, err);
}

sem_status mix_source_next(void *context, train_batch *batch, sem_error *err)
{
    mix_source *s = context;
    mix_batch from;
    sem_status status = mix_next(s->mix, &from, err);
    if (status != SEM_OK)
        return status;
    const mix_lesson *lesson = &s->options.lessons[set_of(&from)];
    status = put_batch(s, &from, lesson->loss, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < s->tokens.texts; i++)
        s->texts[i] = (train_text){.ids = s->tokens.ids + s->starts[i], .length = s->tokens.lengths[i]};
    *batch = (train_batch){.texts = s->texts,
                           .about = {.pairs = from.count,
                                     .texts = s->tokens.texts,
                                     .which = lesson->loss,
                                     .weight = s->weight,
                                     .id = s->id,
                                     .text = s->text,
                                     .label = s->label}};
    return add_to_lesson(s, &from, lesson, &batch->about, err);
}

sem_status mix_source_save(void *context, checkpoint_writer *w, sem_error *err)
{
    const mix_source *s = context;
    buffer place = {0};
    sem_status status = mix_save(s->mix, &place, err);
    if (status == SEM_OK)
        status = checkpoint_put(w, SECTION, place.data, place.size, err);
    buffer_free(&place);
    return status;
}

sem_status mix_source_load(void *context, const checkpoint_reader *c, sem_error *err)
{
    mix_source *s = context;
    const void *place;
    size_t size;
    sem_status status = checkpoint_view(c, SECTION, &place, &size, err);
    return status == SEM_OK ? mix_restore(s->mix, place, size, err) : status;
}
