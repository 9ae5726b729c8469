#include "daemon/model_name.h"

#include <stdbool.h>
#include <string.h>

void model_name_plain(const char *text, size_t size, char out[MODEL_NAME_MAX + 1])
{
    size_t end = size, length = 0;
    while (end > 0 && text[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && text[start - 1] != '/')
        start--;
    for (size_t i = start; i < end && length < MODEL_NAME_MAX; i++) {
        char c = text[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                     c == '_' || (c == '.' && length > 0);
        out[length++] = plain ? c : '_';
    }
    out[length] = '\0';
    if (length == 0)
        memcpy(out, "model", sizeof "model");
}
