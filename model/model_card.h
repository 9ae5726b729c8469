/* The files of a saved model that say what it is: the configuration in the
 * newest form that old readers open too, and README.md, the model card. */
#ifndef SEM_MODEL_MODEL_CARD_H
#define SEM_MODEL_MODEL_CARD_H

#include "base/status.h"
#include "model/model_config.h"

#include <stdbool.h>

/* Rewrites in dir, a copy of the parent's directory: config.json (float32),
 * modules.json, the pooling's config.json, sentence_bert_config.json and
 * tokenizer_config.json's class. The old names and keys are written wherever
 * they can say the same, since new readers know them and old ones know no others. */
sem_status model_card_write_configs(const char *dir, const model_config *config, sem_error *err);

/* README.md; the licence and languages that parent's card states are kept. */
sem_status model_card_write_readme(const char *parent, const char *dir, const model_config *config, bool has_generation,
                                   sem_error *err);

#endif
