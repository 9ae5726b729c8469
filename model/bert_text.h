/* BERT's way from text to tokens: BertNormalizer, BertPreTokenizer and WordPiece
 * in one pass over the text, without a copy of it. */
#ifndef SEM_MODEL_BERT_TEXT_H
#define SEM_MODEL_BERT_TEXT_H

#include "base/buffer.h"
#include "base/status.h"
#include "model/bert_chars.h"
#include "model/token_model.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>

/* True if a WordPiece tokenizer is of that kind; root is all of tokenizer.json. */
bool bert_text_fits(const json_t *root);

/* where names the file. */
sem_status bert_text_create(token_model *out, const json_t *root, const char *where, sem_error *err);

/* The options of a BertNormalizer. */
sem_status bert_rules_read(bert_rules *out, const json_t *normalizer, const char *where, sem_error *err);

/* Appends the text as a BertNormalizer leaves it; linear in length. False when memory is out. */
bool bert_normalize(const bert_chars *chars, const char *text, size_t length, text_scratch *scratch, buffer *out);

#endif
