#include "model/model.h"

#include "base/checked.h"
#include "model/calibration_texts.h"
#include "model/precision.h"
#include "model/precision_store.h"
#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

struct model {
    char *dir;
    model_config config;
    tokenizer *tokens;
    encoder *encoder;
    const gemm *g;
    precision_choice precision;
};

static sem_status open_encoder(model *m, weights_place place, sem_log *log, sem_error *err)
{
    model_weights *w;
    sem_status status = weights_open(&w, &m->config, m->dir, place, err);
    if (status != SEM_OK)
        return status;
    if (m->g == NULL)
        m->g = gemm_choose(m->config.hidden, m->config.intermediate, m->config.hidden / m->config.heads, log);
    status = encoder_open(&m->encoder, &m->config, w, m->g, err);
    if (status != SEM_OK)
        weights_close(w);
    return status;
}

/* All but the weights. */
static sem_status open_frame(model **out, const char *dir, const gemm *g, sem_error *err)
{
    *out = NULL;
    model *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "a model");
    m->g = g;
    m->precision = (precision_choice){.precision = PACKED_FLOAT32, .cosine = 1, .reason = "no other was asked for"};
    m->dir = strdup(dir);
    sem_status status = m->dir == NULL ? sem_fail_memory(err, "a model's path")
                                       : model_config_read(&m->config, dir, err);
    if (status == SEM_OK)
        status = tokenizer_open(&m->tokens, dir, m->config.vocab, err);
    if (status == SEM_OK)
        *out = m;
    else
        model_close(m);
    return status;
}

static sem_status open_placed(model **out, const char *dir, weights_place place, const gemm *g, sem_log *log,
                              sem_error *err)
{
    model *m;
    sem_status status = open_frame(&m, dir, g, err);
    if (status == SEM_OK)
        status = open_encoder(m, place, log, err);
    if (status != SEM_OK) {
        model_close(m);
        return status;
    }
    *out = m;
    return SEM_OK;
}

sem_status model_open_over(model **out, const model *base, float *params, sem_error *err)
{
    model *m;
    *out = NULL;
    sem_status status = open_frame(&m, base->dir, base->g, err);
    if (status == SEM_OK)
        status = encoder_create(&m->encoder, &m->config, params, m->g, err);
    if (status != SEM_OK) {
        free(params); /* no encoder holds them */
        model_close(m);
        return status;
    }
    *out = m;
    return SEM_OK;
}

sem_status model_open(model **out, const char *dir, const gemm *g, sem_log *log, sem_error *err)
{
    return open_placed(out, dir, WEIGHTS_COPIED, g, log, err);
}

sem_status model_open_mapped(model **out, const char *dir, sem_log *log, sem_error *err)
{
    return open_placed(out, dir, WEIGHTS_MAPPED, NULL, log, err);
}

sem_status model_check(const char *dir, size_t *dim, sem_error *err)
{
    model_config config;
    tokenizer *tokens = NULL;
    sem_status status = model_config_read(&config, dir, err);
    if (status != SEM_OK)
        return status;
    status = tokenizer_open(&tokens, dir, config.vocab, err);
    tokenizer_close(tokens);
    if (status == SEM_OK)
        status = weights_check(&config, dir, err);
    if (status == SEM_OK)
        status = encoder_check(&config, err);
    if (status == SEM_OK && dim != NULL)
        *dim = config.dim;
    model_config_free(&config);
    return status;
}

/* Calibration texts are short: what is longer than the model takes is cut. */
static sem_status tokenize_calibration(const model *m, token_batch *batch, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < calibration_text_count && status == SEM_OK; i++)
        status = model_tokenize(m, NULL, calibration_texts[i], strlen(calibration_texts[i]), batch, NULL, err);
    return status == SEM_OK ? calibration_add_drawn(batch, m->config.vocab, m->config.max_tokens, err) : status;
}

static sem_status set_precision(model *m, const precision_request *request, precision_measured *measured,
                                const token_batch *batch, sem_error *err)
{
    precision_choice choice;
    sem_status status = precision_choose(m->encoder, batch, request, measured, &choice, err);
    if (status != SEM_OK)
        return status;
    encoder_settle(m->encoder);
    m->precision = choice;
    return SEM_OK;
}

sem_status model_set_precision(model *m, const char *wanted, double min_cosine, sem_log *log, sem_error *err)
{
    const precision_request request = {
        .wanted = wanted, .min_cosine = min_cosine, .name = model_get_name(m), .log = log};
    token_batch batch = {0};
    precision_measured measured = {.fresh = false};
    sem_status status = tokenize_calibration(m, &batch, err);
    if (status == SEM_OK)
        status = set_precision(m, &request, &measured, &batch, err);
    token_batch_free(&batch);
    return status;
}

/* Keeps what was measured. Failing costs the next start its time, and nothing else. */
static void keep_measured(const model *m, const precision_key *key, const precision_measured *measured, sem_log *log)
{
    char text[SEM_ERROR_MESSAGE_MAX];
    sem_error err;
    if (precision_store_write(m->dir, key, measured, &err) != SEM_OK)
        log_event(log, LOG_LEVEL_WARNING, "precision_not_kept", "reason=%s", log_value(text, sizeof text, err.message));
}

sem_status model_set_precision_kept(model *m, const char *wanted, double min_cosine, const atomic_bool *cancel,
                                    sem_log *log, sem_error *err)
{
    const precision_request request = {
        .wanted = wanted, .min_cosine = min_cosine, .name = model_get_name(m), .log = log, .cancel = cancel};
    token_batch batch = {0};
    precision_key key;
    precision_measured measured = {.fresh = false};
    sem_status status = tokenize_calibration(m, &batch, err);
    if (status == SEM_OK)
        status = precision_key_create(&key, m->dir, m->encoder, &batch, err);
    if (status == SEM_OK) {
        measured = precision_store_read(m->dir, &key, m->encoder, log);
        status = set_precision(m, &request, &measured, &batch, err);
        if (status == SEM_OK && measured.fresh)
            keep_measured(m, &key, &measured, log);
    }
    token_batch_free(&batch);
    return status;
}

sem_status model_try(const model *m, sem_error *err)
{
    static const char text[] = "A text.";
    token_batch batch = {0};
    encoder_scratch *s = NULL;
    float *vector = checked_realloc(NULL, m->config.dim, sizeof *vector);
    sem_status status = vector != NULL ? model_tokenize(m, NULL, text, strlen(text), &batch, NULL, err)
                                       : sem_fail_memory(err, "an embedding");
    if (status == SEM_OK)
        status = encoder_scratch_create(&s, m->encoder, batch.tokens, err);
    if (status == SEM_OK)
        status = encoder_forward(m->encoder, s, batch.ids, batch.lengths, batch.texts, vector, err);
    encoder_scratch_destroy(s);
    token_batch_free(&batch);
    free(vector);
    return status;
}

const char *model_precision(const model *m)
{
    return packed_precision_name(m->precision.precision);
}

const char *model_precision_reason(const model *m, double *cosine)
{
    *cosine = m->precision.cosine;
    return m->precision.reason;
}

void model_close(model *m)
{
    if (m == NULL)
        return;
    encoder_destroy(m->encoder);
    tokenizer_close(m->tokens);
    model_config_free(&m->config);
    free(m->dir);
    free(m);
}

const model_config *model_get_config(const model *m)
{
    return &m->config;
}

const tokenizer *model_get_tokenizer(const model *m)
{
    return m->tokens;
}

const encoder *model_get_encoder(const model *m)
{
    return m->encoder;
}

const gemm *model_get_gemm(const model *m)
{
    return m->g;
}

const char *model_get_dir(const model *m)
{
    return m->dir;
}

const char *model_get_name(const model *m)
{
    const char *slash = strrchr(m->dir, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : m->dir;
}

size_t model_parameters(const model *m)
{
    const param_layout *layout = encoder_layout(m->encoder);
    return layout->total - layout->zeros_count;
}

size_t model_max_tokens(const model *m, size_t wanted)
{
    return wanted > 0 && wanted < m->config.max_tokens ? wanted : m->config.max_tokens;
}

sem_status model_tokenize(const model *m, const char *prompt, const char *text, size_t length, token_batch *batch,
                          bool *truncated, sem_error *err)
{
    return model_tokenize_within(m, prompt, text, length, 0, batch, truncated, err);
}

sem_status model_tokenize_within(const model *m, const char *prompt, const char *text, size_t length, size_t max_tokens,
                                 token_batch *batch, bool *truncated, sem_error *err)
{
    size_t before = prompt == NULL ? 0 : strlen(prompt), both;
    max_tokens = model_max_tokens(m, max_tokens);
    if (before == 0)
        return tokenizer_encode(m->tokens, text, length, max_tokens, batch, truncated, err);
    /* A token may span the seam, so the two are read as one text. */
    char *joined = checked_add(before, length, &both) ? token_batch_room(batch, both) : NULL;
    if (joined == NULL)
        return sem_fail_memory(err, "a text with its prompt");
    memcpy(joined, prompt, before);
    memcpy(joined + before, text, length);
    return tokenizer_encode(m->tokens, joined, both, max_tokens, batch, truncated, err);
}
