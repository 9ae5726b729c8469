#include "daemon/json_pack.h"

void json_pack_value(packer *p, const json_t *value)
{
    size_t i;
    json_t *element;
    const char *key;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        pack_map(p, json_object_size(value));
        json_object_foreach((json_t *)value, key, element)
        {
            pack_str(p, key);
            json_pack_value(p, element);
        }
        return;
    case JSON_ARRAY:
        pack_array(p, json_array_size(value));
        json_array_foreach(value, i, element) json_pack_value(p, element);
        return;
    case JSON_STRING: pack_strn(p, json_string_value(value), json_string_length(value)); return;
    case JSON_INTEGER: pack_int(p, json_integer_value(value)); return;
    case JSON_REAL: pack_double(p, json_real_value(value)); return;
    case JSON_TRUE: pack_bool(p, true); return;
    case JSON_FALSE: pack_bool(p, false); return;
    case JSON_NULL: break;
    }
    pack_nil(p);
}

void json_pack_text(packer *p, const char *text)
{
    json_t *value = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    if (value == NULL) {
        pack_nil(p);
        return;
    }
    json_pack_value(p, value);
    json_decref(value);
}
