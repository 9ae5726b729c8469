#include "bench/texts.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_line(char *line, bool json, texts_take *take, void *context)
{
    if (!json) {
        size_t length = strcspn(line, "\r\n");
        line[length] = '\0';
        return take(context, line, length);
    }
    json_t *value = json_loads(line, JSON_ALLOW_NUL, NULL), *text = json_object_get(value, "text");
    bool fine = json_is_string(text) && take(context, json_string_value(text), json_string_length(text));
    json_decref(value);
    return fine;
}

bool texts_read(const char *path, size_t most, texts_take *take, void *context)
{
    FILE *file = fopen(path, "re");
    const char *name = strrchr(path, '.');
    bool json = name != NULL && strcmp(name, ".jsonl") == 0, fine = file != NULL;
    char *line = NULL;
    size_t size = 0, count = 0;
    for (; fine && count < most && getline(&line, &size, file) > 0; count++)
        fine = take_line(line, json, take, context);
    fine = fine && ferror(file) == 0;
    free(line);
    if (file != NULL)
        fclose(file);
    return fine && count > 0;
}
