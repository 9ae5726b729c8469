/* What the methods do, in a worker thread. Each operation takes t, answers it (now,
 * or later through the writer or a job) and frees it. */
#ifndef SEM_DAEMON_OPS_H
#define SEM_DAEMON_OPS_H

#include "daemon/explanation.h"
#include "daemon/serving.h"
#include "daemon/task.h"
#include "daemon/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An encode of many texts, with pauses for queries. */
void op_encode(worker *w, task *t);
/* Searches by text and small encodes in one forward pass (daemon/op_batch.c). */
void op_batch(worker *w, task **tasks, size_t count);
/* A search that tells how it was done, alone and without the cache. */
void op_explain(worker *w, task *t);
/* Many searches, of which only the quality of their rankings is answered. */
void op_evaluate(worker *w, task *t);
/* A search whose vector needs no encoding. */
void op_search(worker *w, task *t);
void op_upsert(worker *w, task *t);
void op_delete(worker *w, task *t);
void op_feedback(worker *w, task *t);
void op_events(worker *w, task *t);
void op_get(worker *w, task *t);
void op_count(worker *w, task *t);
void op_scroll(worker *w, task *t);
void op_info(worker *w, task *t);
void op_collection_list(worker *w, task *t);
/* What the model has to allow, before the writer makes it. */
void op_collection_create(worker *w, task *t);
void op_generations(worker *w, task *t);
void op_finetune(worker *w, task *t);
void op_model_load(worker *w, task *t);
void op_rollback(worker *w, task *t);
void op_job(worker *w, task *t);

/* The search itself, with an encoded query (NULL: by vector or like, or in mode
 * lexical). s is the pinned generation. */
void op_search_with(worker *w, task *t, serving *s, const float *query);
/* The same, answered as explain is. x: what is known so far; it is filled in. */
void op_search_explained(worker *w, task *t, serving *s, const float *query, explanation *x);
/* The prompt that an encode asks for, and whose it is: "query" means the model for queries,
 * anything else that for documents. INVALID_ARGUMENT when the model has none of the name;
 * "query" and "document" are always there, as searches and upserts use them. */
sem_status op_encode_prompt(const task *t, const serving *s, model_tower *tower, const char **out, sem_error *err);
/* The answer of encode. */
void op_encode_answer(worker *w, task *t, serving *s, const float *vectors, const uint32_t *tokens,
                      const bool *truncated);

#endif
