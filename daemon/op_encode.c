/* encode: its answer, and an encode of many texts. */
#include "base/checked.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

#include <math.h>
#include <string.h>

/* --- answers */

static void pack_int8(packer *p, const float *vector, size_t dim, unsigned char *bytes)
{
    for (size_t i = 0; i < dim; i++)
        bytes[i] = (unsigned char)(int8_t)lrintf(127.0f * fmaxf(-1.0f, fminf(1.0f, vector[i])));
    pack_bin(p, bytes, dim);
}

static void pack_binary(packer *p, const float *vector, size_t dim, unsigned char *bytes)
{
    size_t size = (dim + 7) / 8;
    memset(bytes, 0, size);
    for (size_t i = 0; i < dim; i++)
        if (vector[i] > 0.0f)
            bytes[i / 8] |= (unsigned char)(0x80u >> (i % 8));
    pack_bin(p, bytes, size);
}

/* An array instead of a bin holds what the bin would: numbers, -128 to 127 for
 * int8 and 0 to 255 for binary. */
static void pack_numbers(packer *p, const float *vector, size_t dim, encode_precision precision)
{
    if (precision == PRECISION_BINARY) {
        pack_array(p, (dim + 7) / 8);
        for (size_t i = 0; i < dim; i += 8) {
            unsigned byte = 0;
            for (size_t k = i; k < i + 8; k++)
                byte = byte << 1 | (k < dim && vector[k] > 0.0f);
            pack_uint(p, byte);
        }
        return;
    }
    pack_array(p, dim);
    for (size_t i = 0; i < dim; i++)
        if (precision == PRECISION_INT8)
            pack_int(p, lrintf(127.0f * fmaxf(-1.0f, fminf(1.0f, vector[i]))));
        else
            pack_float(p, vector[i]);
}

static void pack_embedding(packer *p, const request *q, const float *vector, size_t dim, unsigned char *bytes)
{
    if (q->u.encode.as_array)
        pack_numbers(p, vector, dim, q->u.encode.precision);
    else if (q->u.encode.precision == PRECISION_INT8)
        pack_int8(p, vector, dim, bytes);
    else if (q->u.encode.precision == PRECISION_BINARY)
        pack_binary(p, vector, dim, bytes);
    else
        pack_bin(p, vector, dim * sizeof(float));
}

void op_encode_answer(worker *w, task *t, serving *s, const float *vectors, const uint32_t *tokens,
                      const bool *truncated)
{
    const request *q = t->request;
    size_t dim = space_dim(s->space), count = q->u.encode.count;
    answer a;
    answer_begin(&a, t);
    unsigned char *bytes = pool_take(w->core->hooks.memory, dim);
    if (bytes == NULL) {
        answer_discard(&a);
        sem_error err;
        sem_fail_memory(&err, "an answer");
        task_fail(w->core, t, &err);
        return;
    }
    pack_map(&a.pack, 5);
    pack_str(&a.pack, "generation");
    pack_uint(&a.pack, s->generation);
    pack_str(&a.pack, "dim");
    pack_uint(&a.pack, dim);
    pack_str(&a.pack, "embeddings");
    pack_array(&a.pack, count);
    for (size_t i = 0; i < count && !a.pack.failed; i++)
        pack_embedding(&a.pack, q, vectors + i * dim, dim, bytes);
    pack_str(&a.pack, "tokens");
    pack_array(&a.pack, count);
    for (size_t i = 0; i < count; i++)
        pack_uint(&a.pack, tokens[i]);
    pack_str(&a.pack, "truncated");
    pack_array(&a.pack, count);
    for (size_t i = 0; i < count; i++)
        pack_bool(&a.pack, truncated[i]);
    pool_give(bytes);
    answer_send(w->core, t, &a);
}

/* --- one encode */

static bool is_text(const span *s, const char *text)
{
    return s->data != NULL && s->size == strlen(text) && memcmp(s->data, text, s->size) == 0;
}

sem_status op_encode_prompt(const task *t, const serving *s, model_tower *tower, const char **out, sem_error *err)
{
    const span *name = &t->request->u.encode.prompt;
    *tower = is_text(name, "query") ? TOWER_QUERY : TOWER_DOCUMENT;
    const model_config *settings = model_get_config(serving_tower(s, *tower));
    if (name->data == NULL) {
        const char *text = settings->default_prompt != NULL ? model_config_prompt(settings, settings->default_prompt)
                                                            : NULL;
        *out = text != NULL ? text : "";
        return SEM_OK;
    }
    for (size_t i = 0; i < settings->prompt_count; i++)
        if (is_text(name, settings->prompts[i].name)) {
            *out = settings->prompts[i].text;
            return SEM_OK;
        }
    if (*tower == TOWER_QUERY || is_text(name, "document")) {
        *out = *tower == TOWER_QUERY ? model_config_query_prompt(settings) : model_config_document_prompt(settings);
        return SEM_OK;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "prompt: the model has no prompt named \"%.*s\" (it has %zu prompts)",
                    (int)(name->size < 64 ? name->size : 64), name->data, settings->prompt_count);
}

typedef struct encoded {
    float *vectors;
    uint32_t *tokens;
    bool *truncated;
} encoded;

static void encoded_free(encoded *e)
{
    pool_give(e->vectors);
    pool_give(e->tokens);
    pool_give(e->truncated);
    *e = (encoded){0};
}

static sem_status encoded_create(encoded *e, pool *memory, size_t texts, size_t dim, sem_error *err)
{
    size_t floats;
    *e = (encoded){0};
    if (checked_mul(texts, dim, &floats)) {
        e->vectors = pool_take_array(memory, floats, sizeof *e->vectors);
        e->tokens = pool_take_array(memory, texts, sizeof *e->tokens);
        e->truncated = pool_take_array(memory, texts, sizeof *e->truncated);
    }
    if (e->vectors != NULL && e->tokens != NULL && e->truncated != NULL)
        return SEM_OK;
    encoded_free(e);
    return sem_fail_memory(err, "embeddings");
}

void op_encode(worker *w, task *t)
{
    sem_error err;
    encoded e = {0};
    worker_long l = {w, t};
    serving *s = serving_slot_acquire(&w->core->current);
    encoding_job job = {.serving = s,
                        .texts = t->request->u.encode.texts,
                        .count = t->request->u.encode.count,
                        .refuse_long = !t->request->u.encode.truncate,
                        .field = "texts",
                        .slice_tokens = w->core->settings.encode.token_budget,
                        .between = worker_between,
                        .context = &l};
    sem_status status = op_encode_prompt(t, s, &job.tower, &job.prompt, &err);
    if (status == SEM_OK)
        status = encoded_create(&e, w->core->hooks.memory, job.count, space_dim(s->space), &err);
    if (status == SEM_OK) {
        job.out = e.vectors;
        job.tokens = e.tokens;
        job.truncated = e.truncated;
        status = encoding_run(w->encoding, &job, &err);
    }
    if (status == SEM_CANCELLED)
        status = task_check_deadline(t, &err);
    if (status == SEM_OK)
        op_encode_answer(w, t, s, e.vectors, e.tokens, e.truncated);
    else
        task_fail(w->core, t, &err);
    encoded_free(&e);
    serving_release(s);
}
