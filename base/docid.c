#include "base/docid.h"

#include <string.h>

enum { KIND_INTEGER = 1, KIND_STRING = 2 };

size_t docid_to_key(const docid *id, unsigned char key[DOCID_KEY_MAX])
{
    if (id->is_integer) {
        key[0] = KIND_INTEGER;
        for (int i = 0; i < 8; i++)
            key[1 + i] = (unsigned char)(id->integer >> (56 - 8 * i));
        return 9;
    }
    size_t length = id->length <= DOCID_STRING_MAX ? id->length : DOCID_STRING_MAX;
    key[0] = KIND_STRING;
    memcpy(key + 1, id->string, length);
    return 1 + length;
}

bool docid_from_key(const void *key, size_t length, docid *out)
{
    const unsigned char *p = key;
    *out = (docid){0};
    if (length == 9 && p[0] == KIND_INTEGER) {
        out->is_integer = true;
        for (int i = 0; i < 8; i++)
            out->integer = out->integer << 8 | p[1 + i];
        return true;
    }
    if (length >= 2 && length <= DOCID_KEY_MAX && p[0] == KIND_STRING) {
        out->string = (const char *)p + 1;
        out->length = length - 1;
        return true;
    }
    return false;
}

int docid_key_compare(const void *a, size_t a_length, const void *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}
