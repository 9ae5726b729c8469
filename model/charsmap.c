#include "model/charsmap.h"

#include "base/utf8.h"

#include <utf8proc.h>

#include <stdlib.h>
#include <string.h>

enum { CLUSTER_BYTES = 6 }; /* from this length on a cluster is replaced character by character */

/* --- the double array of darts-clone: one 32-bit unit a node */

static uint32_t unit_at(const charsmap *map, size_t i)
{
    uint32_t unit;
    memcpy(&unit, map->blob + 4 + 4 * i, sizeof unit);
    return unit;
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1U << 9)) >> 6);
}

/* The offset in texts of the replacement of the shortest key that text begins with, or -1. */
static int32_t shortest(const charsmap *map, const char *text, size_t length)
{
    size_t node = unit_offset(unit_at(map, 0));
    for (size_t i = 0; i < length && text[i] != '\0'; i++) {
        unsigned char byte = (unsigned char)text[i];
        node ^= byte;
        if (node >= map->units)
            return -1;
        uint32_t unit = unit_at(map, node);
        if ((unit & (1U << 31 | 0xFF)) != byte)
            return -1;
        node ^= unit_offset(unit);
        if ((unit >> 8 & 1) == 0)
            continue;
        uint32_t value = node < map->units ? unit_at(map, node) & 0x7FFFFFFF : UINT32_MAX;
        if (value >= map->texts_size || ((unsigned char)map->texts[value] & 0xC0) == 0x80)
            return -1; /* no replacement is there, or half of a character */
        return (int32_t)value;
    }
    return -1;
}

static int32_t single(const charsmap *map, const char *text, size_t length, uint32_t code)
{
    return code < 0x10000 ? map->single[code] : shortest(map, text, length);
}

/* --- reading */

static int base64_value(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes into out (3/4 of length bytes); false if it is no base64. */
static bool base64_decode(const char *text, size_t length, unsigned char *out, size_t *size)
{
    while (length > 0 && text[length - 1] == '=')
        length--;
    uint32_t bits = 0;
    unsigned have = 0;
    *size = 0;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value((unsigned char)text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*size)++] = (unsigned char)(bits >> have);
        }
    }
    return true;
}

static sem_status read_blob(charsmap *map, const char *base64, const char *where, sem_error *err)
{
    size_t length = strlen(base64), size = 0;
    map->blob = malloc(length + 1);
    if (map->blob == NULL)
        return sem_fail_memory(err, "the character map");
    if (!base64_decode(base64, length, map->blob, &size))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: precompiled_charsmap is not base64", where);
    uint32_t trie_bytes = 0;
    if (size >= 4)
        memcpy(&trie_bytes, map->blob, 4);
    if (size < 8 || trie_bytes > size - 4 || trie_bytes % 4 != 0 || trie_bytes == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: precompiled_charsmap has %zu bytes, of which its trie claims %u; expected a multiple of 4 "
                        "that fits",
                        where, size, trie_bytes);
    map->blob[size] = '\0';
    map->units = trie_bytes / 4;
    map->texts = (const char *)map->blob + 4 + trie_bytes;
    map->texts_size = size - 4 - trie_bytes;
    if (!utf8_valid(map->texts, map->texts_size))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: precompiled_charsmap holds texts that are not UTF-8", where);
    return SEM_OK;
}

sem_status charsmap_create(charsmap *out, const char *base64, const char *where, sem_error *err)
{
    charsmap map = {.blob = NULL};
    sem_status status = read_blob(&map, base64, where, err);
    if (status == SEM_OK && (map.single = malloc(0x10000 * sizeof *map.single)) == NULL)
        status = sem_fail_memory(err, "the character map");
    for (uint32_t code = 0; status == SEM_OK && code < 0x10000; code++) {
        char bytes[4];
        bool surrogate = code >= 0xD800 && code < 0xE000;
        map.single[code] = surrogate ? -1 : shortest(&map, bytes, utf8_encode(code, bytes));
    }
    if (status != SEM_OK) {
        charsmap_free(&map);
        return status;
    }
    *out = map;
    return SEM_OK;
}

void charsmap_free(charsmap *map)
{
    free(map->blob);
    free(map->single);
    *map = (charsmap){.blob = NULL};
}

/* --- replacing */

/* False when memory is out. */
static bool replace(const charsmap *map, int32_t at, buffer *out)
{
    const char *text = map->texts + at;
    return buffer_append(out, text, strlen(text));
}

static bool apply_chars(const charsmap *map, const char *text, size_t length, buffer *out)
{
    bool ok = true;
    for (size_t i = 0; ok && i < length;) {
        uint32_t code;
        size_t n = utf8_decode(text + i, length - i, &code);
        int32_t at = single(map, text + i, n, code);
        ok = at >= 0 ? replace(map, at, out) : buffer_append(out, text + i, n);
        i += n;
    }
    return ok;
}

static bool apply_cluster(const charsmap *map, const char *text, size_t length, buffer *out)
{
    int32_t at = length < CLUSTER_BYTES ? shortest(map, text, length) : -1;
    return at >= 0 ? replace(map, at, out) : apply_chars(map, text, length, out);
}

/* Printable ASCII between printable ASCII is a cluster by itself. */
static bool is_plain(const char *text, size_t length, size_t i)
{
    return text[i] >= ' ' && text[i] <= '~' && (i + 1 == length || (unsigned char)text[i + 1] < 0x80);
}

/* Extending marks of Unicode 16 and 17, which utf8proc 2.8 takes for unassigned.
 * (Those above U+FFFF make a cluster too long to matter.) */
static bool is_new_mark(uint32_t code)
{
    return code == 0x897 || (code >= 0x1ACF && code <= 0x1ADD) || (code >= 0x1AE0 && code <= 0x1AEB);
}

/* Controls and line ends: nothing joins them. */
static bool ends_cluster(uint32_t code)
{
    int class = utf8proc_get_property((utf8proc_int32_t)code)->boundclass;
    return class == UTF8PROC_BOUNDCLASS_CONTROL || class == UTF8PROC_BOUNDCLASS_CR || class == UTF8PROC_BOUNDCLASS_LF;
}

/* Where the grapheme cluster (Unicode TR 29) that begins at i ends. */
static size_t cluster_end(const char *text, size_t length, size_t i)
{
    uint32_t code, next;
    utf8proc_int32_t state = 0;
    size_t end = i + utf8_decode(text + i, length - i, &code);
    while (end < length) {
        size_t n = utf8_decode(text + end, length - end, &next);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code, (utf8proc_int32_t)next, &state) &&
            !(is_new_mark(next) && !ends_cluster(code)))
            break;
        code = next;
        end += n;
    }
    return end;
}

bool charsmap_apply(const charsmap *map, const char *text, size_t length, buffer *out)
{
    bool ok = buffer_reserve(out, length + length / 2);
    for (size_t i = 0; ok && i < length;) {
        size_t end = i;
        while (end < length && is_plain(text, length, end) && map->single[(unsigned char)text[end]] < 0)
            end++;
        if (end > i) {
            ok = buffer_append(out, text + i, end - i);
        } else {
            end = cluster_end(text, length, i);
            ok = apply_cluster(map, text + i, end - i, out);
        }
        i = end;
    }
    return ok;
}
