/* The way of XLM-RoBERTa from text to tokens: SentencePiece's character map,
 * words marked by U+2581 in front, and the unigram model. */
#ifndef SEM_MODEL_UNIGRAM_TEXT_H
#define SEM_MODEL_UNIGRAM_TEXT_H

#include "base/status.h"
#include "model/token_model.h"

#include <jansson.h>

/* root is all of tokenizer.json; where names the file. */
sem_status unigram_text_create(token_model *out, const json_t *root, const char *where, sem_error *err);

#endif
