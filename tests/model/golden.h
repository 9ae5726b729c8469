/* The models of shared/golden, and reading its files: JSON Lines of objects. */
#ifndef SEM_TESTS_MODEL_GOLDEN_H
#define SEM_TESTS_MODEL_GOLDEN_H

#include <check.h>
#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>

static const char *const GOLDEN_MODELS[] = {
    "tiny-bert",
    "tiny-bert-cls",
    "tiny-bert-max",
    "tiny-distilbert",
    "tiny-mpnet",
    "tiny-roberta",
    "tiny-xlmr",
    "family-bert-cased-sqrt-f16-prompts",
    "family-bert-layernorm-eps-nogelu",
    "family-distilbert-max-nonorm",
    "family-mpnet-weighted",
    "family-roberta-cls-mean-bf16",
    "family-roberta-lasttoken",
    "family-xlmr-dense-tanh",
};
enum { GOLDEN_MODEL_COUNT = sizeof GOLDEN_MODELS / sizeof GOLDEN_MODELS[0] };

typedef struct golden_lines {
    json_t **items;
    size_t count;
} golden_lines;

static inline golden_lines golden_read(const char *path)
{
    golden_lines lines = {0};
    size_t capacity = 0, room = 0;
    char *line = NULL;
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    while (getline(&line, &room, file) > 0) {
        if (lines.count == capacity) {
            capacity = capacity * 2 + 16;
            lines.items = realloc(lines.items, capacity * sizeof(json_t *));
            ck_assert_ptr_nonnull(lines.items);
        }
        lines.items[lines.count] = json_loads(line, JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(lines.items[lines.count]);
        lines.count++;
    }
    free(line);
    fclose(file);
    return lines;
}

static inline void golden_free(golden_lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        json_decref(lines->items[i]);
    free(lines->items);
}

static inline const char *golden_text(const json_t *line, const char *key, size_t *length)
{
    const json_t *value = json_object_get(line, key);
    ck_assert(json_is_string(value));
    *length = json_string_length(value);
    return json_string_value(value);
}

#endif
