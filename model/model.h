/* A model as the daemon uses it: configuration, tokenizer and encoder of one
 * directory. Immutable after opening; any thread may use it. */
#ifndef SEM_MODEL_MODEL_H
#define SEM_MODEL_MODEL_H

#include "base/status.h"
#include "model/encoder.h"
#include "model/gemm.h"
#include "model/model_config.h"
#include "model/tokenizer.h"

#include <stdatomic.h>

typedef struct model model;

/* Reads and checks the whole directory. g must outlive the model; NULL chooses
 * one by gemm_choose and logs to log. */
sem_status model_open(model **out, const char *dir, const gemm *g, sem_log *log, sem_error *err);
/* The same for a directory to whose files nobody writes while the model is open, as
 * those below the daemon's own models/: its token table is used where it lies in the
 * mapped file (model/weights.h says what that saves). */
sem_status model_open_mapped(model **out, const char *dir, sem_log *log, sem_error *err);
/* base's configuration and tokenizer over other weights: params (malloc'd, layout of base's
 * encoder) are the new model's, in every case. In float32, with base's gemm. */
sem_status model_open_over(model **out, const model *base, float *params, sem_error *err);
void model_close(model *m); /* accepts NULL */

/* Reads and checks all that model_open does and keeps nothing, in little memory.
 * *dim (may be NULL) is the width of its embeddings. */
sem_status model_check(const char *dir, size_t *dim, sem_error *err);

/* A model opens in float32. This sets the precision in which it serves: "float32",
 * "bfloat16", "int8", or "auto" for the fastest whose embeddings of some built-in
 * texts all have a cosine of at least min_cosine with float32's. Measures, logs
 * what was taken and why (log may be NULL). Before any other thread uses m. */
sem_status model_set_precision(model *m, const char *wanted, double min_cosine, sem_log *log, sem_error *err);
/* The same for a directory that is the caller's to write: what is measured is kept in
 * its semd_precision.json, and read instead of measured while model, machine and
 * kernels are the same (model/precision_store.h). cancel: NULL, or ends the measuring when it becomes true, with
 * SEM_CANCELLED, after which m can only be closed. */
sem_status model_set_precision_kept(model *m, const char *wanted, double min_cosine, const atomic_bool *cancel,
                                    sem_log *log, sem_error *err);
/* Embeds one built-in text: an error where finite weights together give no embedding. */
sem_status model_try(const model *m, sem_error *err);
const char *model_precision(const model *m);
/* Why, and the smallest cosine with float32 that was measured (1 for float32). */
const char *model_precision_reason(const model *m, double *cosine);

const model_config *model_get_config(const model *m);
const tokenizer *model_get_tokenizer(const model *m);
const encoder *model_get_encoder(const model *m);
const gemm *model_get_gemm(const model *m);
const char *model_get_dir(const model *m);
/* The last part of the directory's path. */
const char *model_get_name(const model *m);
/* Number of parameters. */
size_t model_parameters(const model *m);

/* Tokens that a text may have where `wanted` are asked for: at most the model's limit, which 0 stands for. */
size_t model_max_tokens(const model *m, size_t wanted);

/* Tokens of prompt + text appended to batch; prompt is text, not a name. The second cuts at
 * model_max_tokens of max_tokens. */
sem_status model_tokenize(const model *m, const char *prompt, const char *text, size_t length, token_batch *batch,
                          bool *truncated, sem_error *err);
sem_status model_tokenize_within(const model *m, const char *prompt, const char *text, size_t length, size_t max_tokens,
                                 token_batch *batch, bool *truncated, sem_error *err);

/* Writes a copy of the directory `from` to the new directory `to` in which the
 * weights are params (layout of from's config), as float32 safetensors that
 * sentence-transformers opens, with a README.md model card. generation_json
 * (may be NULL) becomes semd_generation.json. Everything is fsynced. */
sem_status model_save(const char *from, const char *to, const param_layout *layout, const float *params,
                      const char *generation_json, sem_error *err);

#endif
