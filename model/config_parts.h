/* What the readers of config.json share (model/model_config.c and, for the
 * families with rotary positions, model/config_rotary.c). Only they include it. */
#ifndef SEM_MODEL_CONFIG_PARTS_H
#define SEM_MODEL_CONFIG_PARTS_H

#include "model/json.h"
#include "model/model_config.h"

enum { CONFIG_VOCAB_MAX = 1 << 24, CONFIG_WIDTH_MAX = 1 << 16, CONFIG_POSITIONS_MAX = 1 << 20 };

/* A number of config.json that must be there and at least 1. */
typedef struct config_size {
    const char *key;
    size_t max;
    size_t *out;
} config_size;

sem_status config_read_sizes(const config_size *sizes, size_t count, const json_t *c, const char *where,
                             sem_error *err);
/* c[key] is an activation's name; where it is missing, `standard`, or refused where that is NULL. */
sem_status config_read_activation(model_activation *out, const char *key, const char *standard, const json_t *c,
                                  const char *where, sem_error *err);
/* A number in [0, 1) that has a default. */
sem_status config_read_fraction(const json_t *c, const char *where, const char *key, double standard, float *out,
                                sem_error *err);

/* All of config.json that is the family's own; family and family_name are set. */
sem_status config_read_modernbert(model_config *out, const json_t *c, const char *where, sem_error *err);
sem_status config_read_nomic(model_config *out, const json_t *c, const char *where, sem_error *err);
/* auto_map names the code that a nomic_bert checkpoint comes with: what that
 * computes is known, other code is refused. */
sem_status config_check_nomic_code(const json_t *auto_map, const char *where, sem_error *err);

#endif
