/* What a data set's JSON lines are asked for. All errors are SEM_INVALID_ARGUMENT, but
 * for memory. Texts live as long as the data_json that they came from. */
#ifndef SEM_FINETUNE_DATA_JSON_H
#define SEM_FINETUNE_DATA_JSON_H

#include "base/status.h"
#include "finetune/data_example.h"

#include <stdbool.h>
#include <stddef.h>

enum { DATA_JSON_NUMBER_MAX = 64 };

typedef struct data_json data_json;

/* An array or an object. */
sem_status data_json_parse(data_json **out, data_text line, sem_error *err);
void data_json_free(data_json *json);
bool data_json_is_array(const data_json *json);
/* A member that is there and not null. */
bool data_json_has(const data_json *json, const char *name);

typedef struct data_texts {
    data_text *items; /* owned */
    size_t count;
} data_texts;

void data_texts_free(data_texts *texts);

/* The member's text, or its array of texts; name NULL: of the line itself. To be freed
 * also after a failure. */
sem_status data_json_texts(const data_json *json, const char *name, data_texts *out, sem_error *err);
/* A member that is a non-empty str or an integer, as text; number is where an integer
 * is written to. */
sem_status data_json_word(const data_json *json, const char *name, char number[DATA_JSON_NUMBER_MAX], data_text *out,
                          sem_error *err);
sem_status data_json_number(const data_json *json, const char *name, double *out, sem_error *err);

#endif
