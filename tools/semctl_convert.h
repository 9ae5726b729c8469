/* Between JSON, which people and files speak, and MessagePack, which semd speaks. */
#ifndef SEM_TOOLS_SEMCTL_CONVERT_H
#define SEM_TOOLS_SEMCTL_CONVERT_H

#include "base/status.h"
#include "proto/pack.h"

#include <jansson.h>
#include <msgpack.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Parses text whole; the caller frees *out with json_decref. Keys given twice are refused. */
sem_status convert_parse(json_t **out, const char *text, size_t length, sem_error *err);

/* A JSON object, parsed and packed. */
sem_status convert_object(packer *p, const char *text, sem_error *err);

/* An array of numbers as a bin of float32. */
sem_status convert_vector(packer *p, json_t *array, sem_error *err);

/* An id: a JSON string, or an integer that is not negative. */
sem_status convert_id(packer *p, json_t *value, sem_error *err);

/* One line of a bulk file, {"id", "text", "meta"?, "vector"?}, as a document of
 * an upsert. *text_bytes is the length of its text. */
sem_status convert_document(packer *p, const char *line, size_t length, size_t *text_bytes, sem_error *err);

/* One line of a feedback file, {"query", "id" or "text", "label"}. */
sem_status convert_feedback(packer *p, const char *line, size_t length, sem_error *err);

/* One line of a file of judged queries, {"query", "relevant"}. */
sem_status convert_judged(packer *p, const char *line, size_t length, sem_error *err);

typedef enum bin_elements { BIN_FLOAT32, BIN_INT8, BIN_UINT8 } bin_elements;

/* Writes a result as JSON on one line, without a line end. A bin becomes an
 * array of numbers; NaN and infinity, which JSON has not, become null. */
void convert_write(FILE *out, const msgpack_object *value, bin_elements bins);

#endif
