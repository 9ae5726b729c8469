/* What tells one model from another, wherever its directory lies. */
#ifndef SEM_MODEL_MODEL_PRINT_H
#define SEM_MODEL_MODEL_PRINT_H

#include "base/status.h"

#include <stdint.h>

/* *out = a number made of all that the directory's weights, configurations and tokenizer hold
 * (files .safetensors, .json, .txt and .model, those of its modules too, but for semd's own):
 * the same for a copy. Reads them all. */
sem_status model_print(const char *dir, uint64_t *out, sem_error *err);

#endif
