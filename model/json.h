/* JSON files. Reading those that nobody vouches for: every accessor checks the type
 * and the range, and every error names file, key, found and expected. */
#ifndef SEM_MODEL_JSON_H
#define SEM_MODEL_JSON_H

#include "base/status.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses a file of at most limit bytes; the caller owns *out (json_decref).
 * Duplicate keys are refused, depth is bounded by Jansson's own limit. */
sem_status json_load_path(json_t **out, const char *path, size_t limit, sem_error *err);

/* The same with every number read as a real: for files in which integers may
 * exceed 64 bits (model_max_length is often 10^30). */
sem_status json_load_path_reals(json_t **out, const char *path, size_t limit, sem_error *err);

/* Writes value, indented, in the place of the file (files_write). SEM_RESOURCE_EXHAUSTED where
 * value is NULL: it could not be made. */
sem_status json_write_path(const char *path, const json_t *value, sem_error *err);

/* "an integer", "null", ... for messages; "nothing" for NULL. */
const char *json_type_name(const json_t *value);

/* object[key] of the wanted type. A missing or null key leaves *out unchanged
 * (set it to the default first) unless required. `where` is the file's name. */
sem_status json_get_size(const json_t *object, const char *where, const char *key, bool required, size_t min,
                         size_t max, size_t *out, sem_error *err);
sem_status json_get_double(const json_t *object, const char *where, const char *key, bool required, double *out,
                           sem_error *err);
sem_status json_get_bool(const json_t *object, const char *where, const char *key, bool required, bool *out,
                         sem_error *err);
/* Borrowed from object. */
sem_status json_get_string(const json_t *object, const char *where, const char *key, bool required, const char **out,
                           sem_error *err);

#endif
