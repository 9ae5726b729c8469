/* The way of GPT-2 and RoBERTa from text to tokens: words are split off by a
 * pattern of letters, numbers and the rest, and their bytes are merged by BPE. */
#ifndef SEM_MODEL_BYTE_LEVEL_H
#define SEM_MODEL_BYTE_LEVEL_H

#include "base/status.h"
#include "model/token_model.h"

#include <jansson.h>

/* root is all of tokenizer.json; where names the file. */
sem_status byte_level_create(token_model *out, const json_t *root, const char *where, sem_error *err);

#endif
