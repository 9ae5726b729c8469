/* The way from text to tokens in the steps that tokenizer.json names: a
 * normalizer, a pre-tokenizer and a model of words. */
#ifndef SEM_MODEL_TEXT_PIPELINE_H
#define SEM_MODEL_TEXT_PIPELINE_H

#include "base/status.h"
#include "model/token_model.h"

#include <jansson.h>

/* root is all of tokenizer.json, whose vocabulary has been checked; type is
 * "WordPiece", "BPE" or "Unigram"; where names the file. */
sem_status text_pipeline_create(token_model *out, const json_t *root, const char *type, const char *where,
                                sem_error *err);

#endif
