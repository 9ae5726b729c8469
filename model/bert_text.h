/* BERT's way from text to tokens: BertNormalizer, BertPreTokenizer and WordPiece
 * in one pass over the text, without a copy of it. */
#ifndef SEM_MODEL_BERT_TEXT_H
#define SEM_MODEL_BERT_TEXT_H

#include "base/status.h"
#include "model/token_model.h"

#include <jansson.h>

/* root is all of tokenizer.json; where names the file. */
sem_status bert_text_create(token_model *out, const json_t *root, const char *where, sem_error *err);

#endif
