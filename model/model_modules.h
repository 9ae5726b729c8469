/* modules.json and the modules' own files: which modules a sentence-transformers
 * model consists of, and how it pools. */
#ifndef SEM_MODEL_MODEL_MODULES_H
#define SEM_MODEL_MODEL_MODULES_H

#include "base/status.h"
#include "model/model_config.h"

#include <stdbool.h>

/* Fills pooling, dense, normalize and dim of a config whose sizes are known. Without a
 * modules.json the directory is a plain Hugging Face model, which
 * sentence-transformers opens as Transformer and mean Pooling: so does this. */
sem_status model_modules_read(model_config *config, const char *dir, bool *include_prompt, sem_error *err);

#endif
